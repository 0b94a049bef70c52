//! Elements that attachments own in sets and maps of the packet filter that they share.
//!
//! Whose an element is, is in its comment: the owner, and perhaps notes after it. So what one
//! attachment has is found by its keys, if they are known, and otherwise by a look at all elements.

mod change;
mod comment;
mod lookup;
mod unused;

pub(crate) use comment::{is_same_attachment, owns, split};

use crate::cni::{Code, Error, Owner, Result};
use crate::kept::Kept;
use crate::net::Netlink;
use crate::net::nft::{Batch, Data, Element, Family, Key, Make, Nft, SetName, Table};
use crate::undo::Undo;
use crate::veth::find_host_end;
use change::Change;
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::rc::Rc;

/// Where everything about addresses is, for each of the two internets.
pub(crate) const TABLES: [Table<'static>; 2] =
    [Table { family: Family::Ip, name: "girder" }, Table { family: Family::Ip6, name: "girder" }];

/// Where everything about frames is.
pub(crate) const BRIDGE: Table<'static> = Table { family: Family::Bridge, name: "girder" };

/// The comment of these tables.
pub(crate) const ABOUT: Option<&str> = Some("Girder, CNI plugins");

/// A shared set or map.
pub(crate) type Shared = SetName<'static>;

/// An element that an attachment is to have.
#[derive(Clone, Debug)]
pub(crate) struct Claim {
    pub(crate) set: Shared,
    pub(crate) key: Key,
    pub(crate) data: Option<Data>,
}

impl Claim {
    pub(crate) fn make(&self, make: Make, claimant: &Claimant, batch: &mut Batch) {
        batch.element(make, self.set.table, self.set.name, &self.element(claimant));
    }

    fn element(&self, claimant: &Claimant) -> Element {
        let comment = Some(claimant.comment());
        Element { key: self.key.clone(), data: self.data.clone(), comment }
    }
}

/// Who claims.
#[derive(Clone, Debug)]
pub(crate) struct Claimant {
    pub(crate) owner: Owner,
    /// More words for the comment, each of which may be left out where there is no room for it.
    pub(crate) notes: Vec<String>,
}

impl Claimant {
    pub(crate) fn new(owner: Owner) -> Self {
        Self { owner, notes: Vec::new() }
    }

    fn comment(&self) -> String {
        // What nft(8) reads back of what it has listed.
        const LONGEST: usize = 128;
        let mut comment = self.owner.as_str().to_owned();
        for note in &self.notes {
            if comment.len() + 1 + note.len() <= LONGEST {
                comment = format!("{comment} {note}");
            }
        }
        comment
    }
}

/// What is behind the elements.
pub(crate) trait Ground {
    /// Makes what is shared: tables, sets, chains, rules. Committing it again changes nothing.
    ///
    /// # Errors
    /// When it cannot be expressed.
    fn declare(&self) -> Result<Batch>;

    /// Where something may be in the way of a claim.
    fn related(&self, claim: &Claim) -> Vec<(Shared, Key)> {
        vec![(claim.set, claim.key.clone())]
    }

    /// Where nothing may be that overlaps a claim, but the kernel does not look: it refuses an
    /// element only if another one has one of its ends, in the same set.
    fn elsewhere(&self, _claim: &Claim) -> Vec<(Shared, Key)> {
        Vec::new()
    }

    /// Whether an element that is in the way of a claim may be replaced.
    ///
    /// # Errors
    /// It may not.
    fn yields(&self, claim: &Claim, found: &Element) -> Result<()>;
}

/// As many elements are looked for one by one; where there are more, the whole set is listed.
pub(crate) const FEW: usize = 64;

/// How often an ADD tries again when others change the same elements at the same time.
const ATTEMPTS: usize = 10;

/// The packet filter, for elements that have owners. Drop it late: see [`Nft`].
pub(crate) struct Claims {
    nft: Nft,
}

impl Claims {
    /// # Errors
    /// When the kernel has no nftables.
    pub(crate) fn open() -> Result<Self> {
        Ok(Self { nft: Nft::open()? })
    }

    /// The packet filter itself, for what has no owner.
    pub(crate) fn nft(&mut self) -> &mut Nft {
        &mut self.nft
    }

    /// Makes all elements or none. What is in the way is replaced atomically, or is an
    /// error; what this owner has already stays, also if the ADD fails.
    ///
    /// # Errors
    /// When the kernel refuses, or something in the way does not yield.
    pub(crate) fn create(
        &mut self,
        claims: &[Claim],
        claimant: &Claimant,
        ground: &impl Ground,
        undo: &mut Undo,
    ) -> Result<()> {
        self.ensure(ground)?;
        let mut change = Change::new(claims.iter().map(|one| (one.set, one.element(claimant))));
        let Some((set, first)) = change.first() else { return Ok(()) };
        // So that, should the answer be lost, it can be told whether the kernel has made them.
        let is_new = self.find(set, &first.key)?.is_none();
        if !is_new || !self.find_elsewhere(claims, ground)?.is_empty() {
            change = self.plan(claims, claimant, ground)?;
        }
        let sent = Rc::new(RefCell::new(Change::default()));
        let known = Rc::clone(&sent);
        undo.push(format!("elements of {}", claimant.comment()), move || {
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
                Err(error) if error.is_gone() => declaration = ground.declare()?,
                Err(error) if error.is_exists() || error.is_overlap() => declaration = Batch::new(),
                Err(error) => return Err(error.into()),
            }
            change = self.plan(claims, claimant, ground)?;
        }
        // Of two that come at the same time, the later one at least sees the other.
        for (claim, element) in self.find_elsewhere(claims, ground)? {
            ground.yields(claim, &element)?;
        }
        Ok(())
    }

    /// What is left to do where something may be there already.
    fn plan(
        &mut self,
        claims: &[Claim],
        claimant: &Claimant,
        ground: &impl Ground,
    ) -> Result<Change> {
        let mut change = Change::new(claims.iter().map(|one| (one.set, one.element(claimant))));
        for (set, element) in self.find_in_the_way(claims, &claimant.owner, ground)? {
            change.replace(set, element);
        }
        Ok(change)
    }

    /// Mends what is shared where it is not whole.
    fn ensure(&mut self, ground: &impl Ground) -> Result<()> {
        let declaration = ground.declare()?;
        if !self.is_declared(&declaration)? {
            self.commit(declaration)?;
        }
        Ok(())
    }

    /// Whether what a declaration declares is there.
    ///
    /// # Errors
    /// When the kernel cannot be asked.
    pub(crate) fn is_declared(&mut self, declaration: &Batch) -> Result<bool> {
        Ok(self.nft.is_whole(declaration)?)
    }

    /// # Errors
    /// When the kernel refuses.
    pub(crate) fn commit(&mut self, batch: Batch) -> Result<()> {
        Ok(self.nft.commit(batch)?)
    }

    /// Whether the rules that ask for the elements are there.
    ///
    /// # Errors
    /// When the kernel cannot be asked.
    pub(crate) fn is_whole(&mut self, ground: &impl Ground) -> Result<bool> {
        self.is_declared(&ground.declare()?)
    }

    /// Removes what is in the way of claims that are not made here.
    ///
    /// # Errors
    /// When something does not yield; when the kernel refuses.
    pub(crate) fn displace(
        &mut self,
        claims: &[Claim],
        owner: &Owner,
        ground: &impl Ground,
    ) -> Result<()> {
        let in_the_way = self.find_in_the_way(claims, owner, ground)?;
        let comments: BTreeSet<_> =
            in_the_way.iter().filter_map(|(_, found)| found.comment.clone()).collect();
        self.delete_judged(&in_the_way, |comment| comments.contains(comment)).map(drop)
    }

    /// The element in which the first value of `key` lies, if there is one.
    ///
    /// # Errors
    /// When the kernel cannot be asked.
    pub(crate) fn find(&mut self, set: Shared, key: &Key) -> Result<Option<Element>> {
        Ok(self.nft.find_element(set.table, set.name, key)?)
    }

    /// Removes those of these elements whose comment is `ours`: how many there were.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub(crate) fn delete(
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
    pub(crate) fn delete_where(
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
    pub(crate) fn sweep(&mut self, sets: &[Shared], kept: &Kept<'_>) -> Result<()> {
        self.delete_where(sets, |comment| kept.is_stale(comment)).map(drop)
    }

    /// Every element of these sets whose comment is `wanted`.
    ///
    /// # Errors
    /// When the kernel cannot be asked.
    pub(crate) fn list_where(
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

    /// The claims that are not there as they should be.
    ///
    /// # Errors
    /// When the kernel cannot be asked.
    pub(crate) fn missing<'a>(
        &mut self,
        claims: &'a [Claim],
        owner: &Owner,
    ) -> Result<Vec<&'a Claim>> {
        let mut missing = Vec::new();
        for claim in claims {
            let is_ours = self.find(claim.set, &claim.key)?.is_some_and(|element| {
                element.comment.is_some_and(|comment| owns(owner, &comment))
                    && element.data == claim.data
                    && (element.key.first(), element.key.last())
                        == (claim.key.first(), claim.key.last())
            });
            if !is_ours {
                missing.push(claim);
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
    if is_same_attachment(owner, comment) {
        return Ok(());
    }
    let Some(other) = Owner::read(comment) else { return Ok(()) };
    let Some(link) = find_host_end(&Netlink::open()?, &other)? else { return Ok(()) };
    let (key, other) = (&found.key, other.as_str());
    let msg = format!("{key} is in use already, by {other:?} behind link {}", link.name);
    Err(Error::new(Code::TryAgain, msg)
        .details("subnets that this host routes must not overlap, whatever their bridge or VLAN"))
}

/// A link's name as the kernel compares it: sixteen bytes, filled up with NUL.
pub(crate) fn port_key(name: &str) -> Vec<u8> {
    let mut key = name.as_bytes().to_vec();
    key.resize(16, 0);
    key
}
