//! ExpectedElements that attachments own in sets and maps of the packet filter that they share.
//!
//! Whose an element is, is in its comment: the owner, and perhaps notes after it. So what one
//! attachment has is found by its keys, if they are known, and otherwise by a look at all elements.

mod change;
mod comment;
mod lookup;
mod unused;

pub use comment::{Comment, VETH, has_veth_note, notes};

use crate::attach::Owner;
use crate::attach::host_end;
use crate::attach::kept::Kept;
use crate::cni::Undo;
use crate::cni::{Code, Error, Result};
use crate::net::Netlink;
use crate::net::nft::{Batch, Data, Element, Family, Key, Make, Nft, SetName, Table};
use change::Change;
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::rc::Rc;

/// Where everything about addresses is, for each address family.
pub const TABLES: [Table<'static>; 2] =
    [Table { family: Family::Ip, name: "girder" }, Table { family: Family::Ip6, name: "girder" }];

/// Where everything about frames is.
pub const BRIDGE: Table<'static> = Table { family: Family::Bridge, name: "girder" };

/// The comment of these tables.
pub const ABOUT: Option<&str> = Some("Girder, CNI plugins");

/// A shared set or map.
pub type Shared = SetName<'static>;

/// An element that an attachment is to have.
#[derive(Clone, Debug)]
pub struct OwnedElement {
    /// The set or map that it is in.
    pub set: Shared,
    /// Which packets it is about.
    pub key: Key,
    /// Where it leads, in a map.
    pub data: Option<Data>,
}

impl OwnedElement {
    pub(super) fn make(&self, make: Make, comment: &Comment, batch: &mut Batch) {
        batch.element(make, self.set.table, self.set.name, &self.with(comment));
    }

    fn with(&self, comment: &Comment) -> Element {
        let comment = Some(comment.text());
        Element { key: self.key.clone(), data: self.data.clone(), comment }
    }
}

/// The rules that ask for elements, and the sets and chains behind them: shared by all attachments,
/// and never undone.
pub trait SharedRuleset {
    /// Makes what is shared: tables, sets, chains, rules. Committing it again changes nothing.
    ///
    /// # Errors
    /// When it cannot be expressed.
    fn declare(&self) -> Result<Batch>;

    /// Where an element may be that has to go before this one can come.
    fn conflicting_keys(&self, element: &OwnedElement) -> Vec<(Shared, Key)> {
        vec![(element.set, element.key.clone())]
    }

    /// Where nothing may be that overlaps an element, but the kernel does not look: it refuses an
    /// element only if another one has one of its ends, in the same set.
    fn overlapping_keys(&self, _element: &OwnedElement) -> Vec<(Shared, Key)> {
        Vec::new()
    }

    /// Allows an element that is in the way to be replaced.
    ///
    /// # Errors
    /// It may not be.
    fn may_replace(&self, element: &OwnedElement, found: &Element) -> Result<()>;
}

/// As many elements are looked for one by one; where there are more, the whole set is listed.
pub const FEW: usize = 64;

/// How often an ADD tries again when others change the same elements at the same time.
const ATTEMPTS: usize = 10;

/// The packet filter, for elements that have owners. Drop it late: see [`Nft`].
pub struct Elements {
    nft: Nft,
}

impl Elements {
    /// # Errors
    /// When the kernel has no nftables.
    pub fn open() -> Result<Self> {
        Ok(Self { nft: Nft::open()? })
    }

    /// The packet filter itself, for what has no owner.
    pub fn nft(&mut self) -> &mut Nft {
        &mut self.nft
    }

    /// Makes all elements or none. What is in the way is replaced atomically, or is an
    /// error; what this owner has already stays, also if the ADD fails.
    ///
    /// # Errors
    /// When the kernel refuses, or something in the way does not yield.
    pub fn create(
        &mut self,
        elements: &[OwnedElement],
        comment: &Comment,
        ruleset: &impl SharedRuleset,
        undo: &mut Undo,
    ) -> Result<()> {
        self.ensure(ruleset)?;
        let mut change = Change::new(elements.iter().map(|one| (one.set, one.with(comment))));
        let Some((set, first)) = change.first() else { return Ok(()) };
        // So that, should the answer be lost, it can be told whether the kernel has made them.
        let is_new = self.find(set, &first.key)?.is_none();
        if !is_new || !self.find_overlapping(elements, ruleset)?.is_empty() {
            change = self.plan(elements, comment, ruleset)?;
        }
        let sent = Rc::new(RefCell::new(Change::default()));
        let known = Rc::clone(&sent);
        undo.push(format!("elements of {}", comment.text()), move || {
            known.take().take_back(&mut Self::open()?)
        });
        let mut declaration = Batch::new();
        for attempt in 1.. {
            let mut batch = declaration;
            batch.append(change.batch());
            sent.replace(change);
            match self.nft.commit(batch) {
                Ok(()) => break,
                Err(error) if attempt == ATTEMPTS => return Err(error.into()),
                // In one transaction with the elements: a GC in between would remove what nobody
                // uses yet.
                Err(error) if error.is_gone() => declaration = ruleset.declare()?,
                Err(error) if error.is_exists() || error.is_overlap() => declaration = Batch::new(),
                Err(error) => return Err(error.into()),
            }
            change = self.plan(elements, comment, ruleset)?;
        }
        // Of two that come at the same time, the later one at least sees the other.
        for (element, found) in self.find_overlapping(elements, ruleset)? {
            ruleset.may_replace(element, &found)?;
        }
        Ok(())
    }

    /// What is left to do where something may be there already.
    fn plan(
        &mut self,
        elements: &[OwnedElement],
        comment: &Comment,
        ruleset: &impl SharedRuleset,
    ) -> Result<Change> {
        let mut change = Change::new(elements.iter().map(|one| (one.set, one.with(comment))));
        for (set, element) in self.find_in_the_way(elements, &comment.owner, ruleset)? {
            change.replace(set, element);
        }
        Ok(change)
    }

    /// Mends what is shared where it is not whole.
    fn ensure(&mut self, ruleset: &impl SharedRuleset) -> Result<()> {
        let declaration = ruleset.declare()?;
        if !self.is_declared(&declaration)? {
            self.commit(declaration)?;
        }
        Ok(())
    }

    /// Whether what a declaration declares is there.
    ///
    /// # Errors
    /// When the kernel cannot be asked.
    pub fn is_declared(&mut self, declaration: &Batch) -> Result<bool> {
        Ok(self.nft.is_whole(declaration)?)
    }

    /// # Errors
    /// When the kernel refuses.
    pub fn commit(&mut self, batch: Batch) -> Result<()> {
        Ok(self.nft.commit(batch)?)
    }

    /// Whether the rules that ask for the elements are there.
    ///
    /// # Errors
    /// When the kernel cannot be asked.
    pub fn is_whole(&mut self, ruleset: &impl SharedRuleset) -> Result<bool> {
        self.is_declared(&ruleset.declare()?)
    }

    /// Removes what is in the way of elements that are not made here.
    ///
    /// # Errors
    /// When something does not yield; when the kernel refuses.
    pub fn displace(
        &mut self,
        elements: &[OwnedElement],
        owner: &Owner,
        ruleset: &impl SharedRuleset,
    ) -> Result<()> {
        let in_the_way = self.find_in_the_way(elements, owner, ruleset)?;
        let comments: BTreeSet<_> =
            in_the_way.iter().filter_map(|(_, found)| found.comment.clone()).collect();
        self.delete_judged(&in_the_way, |comment| comments.contains(comment)).map(drop)
    }

    /// The element in which the first value of `key` lies, if there is one.
    ///
    /// # Errors
    /// When the kernel cannot be asked.
    pub fn find(&mut self, set: Shared, key: &Key) -> Result<Option<Element>> {
        Ok(self.nft.find_element(set.table, set.name, key)?)
    }

    /// Removes those of these elements whose comment is `ours`: how many there were.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn delete(
        &mut self,
        spots: &[(Shared, Key)],
        ours: impl Fn(&str) -> bool,
    ) -> Result<usize> {
        let is_ours = |element: &Element| element.comment.as_deref().is_some_and(&ours);
        let mut there = self.find_all(spots)?;
        there.retain(|(_, element)| is_ours(element));
        self.delete_judged(&there, &ours)
    }

    /// Removes every element of these sets whose comment is `dead`, and says which.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn delete_where(
        &mut self,
        sets: &[Shared],
        dead: impl Fn(&str) -> bool,
    ) -> Result<Vec<(Shared, Element)>> {
        let found = self.list_where(sets, &dead)?;
        self.delete_judged(&found, dead)?;
        Ok(found)
    }

    /// Removes every element of these sets that belongs to nobody who is kept.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn sweep(&mut self, sets: &[Shared], kept: &Kept<'_>) -> Result<()> {
        self.delete_where(sets, |comment| kept.is_stale(comment)).map(drop)
    }

    /// Every element of these sets whose comment is `wanted`.
    ///
    /// # Errors
    /// When the kernel cannot be asked.
    pub fn list_where(
        &mut self,
        sets: &[Shared],
        wanted: impl Fn(&str) -> bool,
    ) -> Result<Vec<(Shared, Element)>> {
        let mut found = Vec::new();
        for set in sets {
            let elements = self.nft.list_elements(set.table, set.name)?;
            let is_wanted = |element: &Element| element.comment.as_deref().is_some_and(&wanted);
            found.extend(elements.into_iter().filter(is_wanted).map(|element| (*set, element)));
        }
        Ok(found)
    }

    /// The elements that are not there as they should be.
    ///
    /// # Errors
    /// When the kernel cannot be asked.
    pub fn missing<'a>(
        &mut self,
        elements: &'a [OwnedElement],
        owner: &Owner,
    ) -> Result<Vec<&'a OwnedElement>> {
        let mut missing = Vec::new();
        for wanted in elements {
            let is_there = self.find(wanted.set, &wanted.key)?.is_some_and(|found| {
                found.comment.is_some_and(|comment| owner.is_in(&comment))
                    && found.data == wanted.data
                    && (found.key.first(), found.key.last())
                        == (wanted.key.first(), wanted.key.last())
            });
            if !is_there {
                missing.push(wanted);
            }
        }
        Ok(missing)
    }
}

/// Refuses to take what belongs to an address from another attachment that lives: its link is there.
///
/// # Errors
/// Code 11 that names the other one.
fn refuse_living(found: &Element, owner: &Owner) -> Result<()> {
    let comment = found.comment.as_deref().unwrap_or_default();
    if owner.is_same_interface(comment) {
        return Ok(());
    }
    let Some(other) = Owner::read(comment) else { return Ok(()) };
    let Some(link) = host_end::find(&Netlink::open()?, &other)? else { return Ok(()) };
    let (key, other) = (&found.key, other.as_str());
    let msg = format!("{key} is in use already, by {other:?} behind link {}", link.name);
    Err(Error::new(Code::TryAgain, msg)
        .details("subnets that this host routes must not overlap, whatever their bridge or VLAN"))
}

/// A link's name as the kernel compares it: sixteen bytes, filled up with NUL.
pub fn port_key(name: &str) -> Vec<u8> {
    let mut key = name.as_bytes().to_vec();
    key.resize(16, 0);
    key
}
