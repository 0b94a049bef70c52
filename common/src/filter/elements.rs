//! Elements that attachments own in sets and maps of the packet filter that they share.
//!
//! The comment of an element names its owner, and perhaps has notes after it. So what one attachment
//! has is found by its keys, if they are known, and otherwise by a look at all elements.
//!
//! The names of tables, sets, maps and chains are an interface: pods outlive an upgrade of the
//! plugins, whose next version has to find and delete what this one has made. So a name stays.

mod change;
mod comment;
mod deletion;
mod lookup;
mod unused;

pub use comment::{Comment, VETH, has_veth_note, notes};

use crate::attach::{Kept, Owner};
use crate::cni::{Result, Undo};
use crate::net::Family;
use crate::net::nft::{Batch, Data, Element, Key, Make, Nft, SetName, Table, TableFamily};
use change::Change;
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::rc::Rc;

/// The name of our tables.
const NAME: &str = "girder";

/// Where everything about the addresses of a family is.
pub const fn table(family: Family) -> Table<'static> {
    match family {
        Family::V4 => Table { family: TableFamily::Ip, name: NAME },
        Family::V6 => Table { family: TableFamily::Ip6, name: NAME },
    }
}

/// Where everything about frames is.
pub const BRIDGE: Table<'static> = Table { family: TableFamily::Bridge, name: NAME };

/// The comment of these tables.
pub const ABOUT: Option<&str> = Some("Girder, CNI plugins");

/// A shared set or map.
pub type Shared = SetName<'static>;

/// An element that an attachment is to have.
#[derive(Clone, Debug)]
pub struct OwnedElement {
    /// The set or map that it is in.
    pub set: Shared,
    /// Which packets match it.
    pub key: Key,
    /// What becomes of them, in a map.
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

/// Rules that look elements up, with their tables, sets and chains: shared by all attachments, and
/// never undone.
pub trait SharedRuleset {
    /// Makes what is shared: tables, sets, chains, rules. Committing it again changes nothing.
    ///
    /// # Errors
    /// When it cannot be expressed.
    fn declare(&self) -> Result<Batch>;

    /// Where there may be an element that has to be deleted before this one can be made.
    fn conflicting_keys(&self, element: &OwnedElement) -> Vec<(Shared, Key)> {
        vec![(element.set, element.key.clone())]
    }

    /// Where there may be no element that overlaps this one. The kernel refuses an interval only if
    /// another one of the same set has one of its ends.
    fn overlapping_keys(&self, _element: &OwnedElement) -> Vec<(Shared, Key)> {
        Vec::new()
    }

    /// Whether an element of [`conflicting_keys`](Self::conflicting_keys) may be deleted.
    ///
    /// # Errors
    /// If not: who has it.
    fn may_replace(&self, element: &OwnedElement, found: &Element) -> Result<()>;
}

/// Up to so many elements are looked up one by one. Of more, listing the whole set is faster.
pub const FEW: usize = 64;

/// How often an ADD tries again when others change the same elements at the same time.
const ATTEMPTS: usize = 10;

/// The packet filter, for elements that have owners. Drop it late: see [`Nft`].
pub struct Elements {
    nft: Nft,
}

impl Elements {
    /// # Errors
    /// When there is no room for a socket.
    pub fn open() -> Result<Self> {
        Ok(Self::new(Nft::open()?))
    }

    /// By this socket.
    pub fn new(nft: Nft) -> Self {
        Self { nft }
    }

    /// Its socket, for what has no owner.
    pub fn nft(&self) -> Nft {
        self.nft.clone()
    }

    /// Makes all elements or none. Conflicting ones are replaced atomically, or are an error; what
    /// this owner has already stays, also if the ADD fails.
    ///
    /// # Errors
    /// When the kernel refuses, or [`SharedRuleset::may_replace`] does.
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
        // Should the kernel's answer be lost, the first element tells whether there was a change:
        // so it has to be one that was not there before.
        let is_new = self.find(set, &first.key)?.is_none();
        if !is_new || !self.find_overlapping(elements, ruleset)?.is_empty() {
            change = self.plan(elements, comment, ruleset)?;
        }
        let sent = Rc::new(RefCell::new(Change::default()));
        let known = Rc::clone(&sent);
        undo.push(format!("elements of {}", comment.text()), move || {
            known.take().roll_back(&mut Self::open()?)
        });
        let mut declaration = Batch::new();
        for attempt in 1.. {
            let mut batch = declaration;
            batch.append(change.batch());
            sent.replace(change);
            match self.nft.commit(batch) {
                Ok(()) => break,
                Err(error) if attempt == ATTEMPTS => return Err(error.into()),
                // A GC may have deleted chains that nothing led to. They are made in the transaction
                // of the elements that lead to them, so that the next GC finds them in use.
                Err(error) if error.is_gone() => declaration = ruleset.declare()?,
                Err(error) if error.is_exists() || error.is_overlap() => declaration = Batch::new(),
                Err(error) => return Err(error.into()),
            }
            change = self.plan(elements, comment, ruleset)?;
        }
        // Of two ADDs that run at the same time, at least the one that commits later finds the
        // other's elements here.
        for (element, found) in self.find_overlapping(elements, ruleset)? {
            ruleset.may_replace(element, &found)?;
        }
        Ok(())
    }

    /// The change that makes these elements where others may be there already.
    fn plan(
        &mut self,
        elements: &[OwnedElement],
        comment: &Comment,
        ruleset: &impl SharedRuleset,
    ) -> Result<Change> {
        let mut change = Change::new(elements.iter().map(|one| (one.set, one.with(comment))));
        for (set, element) in self.find_conflicting(elements, &comment.owner, ruleset)? {
            change.replace(set, element);
        }
        Ok(change)
    }

    /// Makes the shared ruleset where a part of it is missing.
    fn ensure(&mut self, ruleset: &impl SharedRuleset) -> Result<()> {
        let declaration = ruleset.declare()?;
        if !self.is_declared(&declaration)? {
            self.commit(declaration)?;
        }
        Ok(())
    }

    /// Whether every rule of a declaration is there.
    ///
    /// # Errors
    /// When the kernel cannot be asked.
    pub(crate) fn is_declared(&mut self, declaration: &Batch) -> Result<bool> {
        Ok(self.nft.is_whole(declaration)?)
    }

    /// # Errors
    /// When the kernel refuses.
    pub fn commit(&mut self, batch: Batch) -> Result<()> {
        Ok(self.nft.commit(batch)?)
    }

    /// Whether the rules that look the elements up are there.
    ///
    /// # Errors
    /// When the kernel cannot be asked.
    pub fn is_whole(&mut self, ruleset: &impl SharedRuleset) -> Result<bool> {
        self.is_declared(&ruleset.declare()?)
    }

    /// Deletes what conflicts with elements that are not made, because iptables does their work.
    ///
    /// # Errors
    /// When the kernel refuses, or [`SharedRuleset::may_replace`] does.
    pub fn delete_conflicting(
        &mut self,
        elements: &[OwnedElement],
        owner: &Owner,
        ruleset: &impl SharedRuleset,
    ) -> Result<()> {
        let generation = self.nft.read_generation()?;
        let conflicting = self.find_conflicting(elements, owner, ruleset)?;
        let comments: BTreeSet<_> =
            conflicting.iter().filter_map(|(_, found)| found.comment.clone()).collect();
        self.delete_found(generation, &conflicting, |comment| comments.contains(comment))
    }

    /// The element in which the first value of `key` lies, if there is one.
    ///
    /// # Errors
    /// When the kernel cannot be asked.
    pub fn find(&mut self, set: Shared, key: &Key) -> Result<Option<Element>> {
        Ok(self.nft.find_element(set.table, set.name, key)?)
    }

    /// Deletes every element of these sets whose comment is `dead`, and says which.
    ///
    /// # Errors
    /// As [`delete`](Self::delete).
    pub fn delete_where(
        &mut self,
        sets: &[Shared],
        dead: impl Fn(&str) -> bool,
    ) -> Result<Vec<(Shared, Element)>> {
        let generation = self.nft.read_generation()?;
        let found = self.list_where(sets, &dead)?;
        self.delete_found(generation, &found, dead)?;
        Ok(found)
    }

    /// Deletes every element of these sets that belongs to nobody who is kept.
    ///
    /// # Errors
    /// As [`delete`](Self::delete).
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

/// A link's name as the kernel compares it: sixteen bytes, filled up with NUL.
pub fn port_key(name: &str) -> Vec<u8> {
    let mut key = name.as_bytes().to_vec();
    key.resize(16, 0);
    key
}
