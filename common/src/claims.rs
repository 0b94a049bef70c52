//! Elements that attachments own in sets and maps of the packet filter that they share.
//!
//! Whose an element is, is in its comment: the owner, and perhaps one word more. So what one
//! attachment has is found by its keys, if they are known, and otherwise by a look at all elements.

mod comment;

pub(crate) use comment::{is_same_attachment, owns, split};

use crate::cni::{Code, Error, Owner, Result};
use crate::kept::Kept;
use crate::net::Netlink;
use crate::net::nft::{Batch, Data, Element, Family, Key, Make, Nft, SetName, Table};
use crate::undo::Undo;
use crate::veth::find_host_end;

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
        let comment = Some(claimant.comment());
        let element = Element { key: self.key.clone(), data: self.data.clone(), comment };
        batch.element(make, self.set.table, self.set.name, &element);
    }
}

/// Who claims.
#[derive(Clone, Debug)]
pub(crate) struct Claimant {
    pub(crate) owner: Owner,
    /// One more word for the comment. With five bytes and a blank, the longest comment is still
    /// one that nft(8) reads back.
    pub(crate) note: Option<&'static str>,
}

impl Claimant {
    fn comment(&self) -> String {
        self.note.map_or_else(
            || self.owner.as_str().to_owned(),
            |note| format!("{} {note}", self.owner.as_str()),
        )
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

    /// Makes all elements or none. What is in the way is replaced in the same breath, or is an
    /// error.
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
        let mut in_the_way = match self.find_elsewhere(claims, ground)?.is_empty() {
            true => Vec::new(),
            false => self.find_in_the_way(claims, ground)?,
        };
        for attempt in 1.. {
            let mut batch = Batch::new();
            for (set, key) in &in_the_way {
                let set: &Shared = set;
                batch.delete_element(set.table, set.name, key);
            }
            for claim in claims {
                claim.make(Make::Create, claimant, &mut batch);
            }
            match self.nft.commit(batch) {
                Ok(()) => break,
                Err(error) if attempt == ATTEMPTS => return Err(error.into()),
                Err(error) if error.is_gone() => self.nft.commit(ground.declare()?)?,
                Err(error) if error.is_exists() || error.is_overlap() => {}
                Err(error) => return Err(error.into()),
            }
            in_the_way = self.find_in_the_way(claims, ground)?;
        }
        let keys: Vec<_> = claims.iter().map(|claim| (claim.set, claim.key.clone())).collect();
        let what = format!("elements of {}", claimant.comment());
        let owner = claimant.owner.clone();
        undo.push(what, move || {
            Self::open()?.delete(&keys, |comment| owns(&owner, comment)).map(drop)
        });
        // Of two that come at the same time, the later one at least sees the other.
        for (claim, element) in self.find_elsewhere(claims, ground)? {
            ground.yields(claim, &element)?;
        }
        Ok(())
    }

    fn find_elsewhere<'a>(
        &mut self,
        claims: &'a [Claim],
        ground: &impl Ground,
    ) -> Result<Vec<(&'a Claim, Element)>> {
        let (mut found, mut lists) = (Vec::new(), Vec::new());
        let spots = |claim| ground.elsewhere(claim).into_iter().map(move |spot| (claim, spot));
        for (claim, (set, key)) in claims.iter().flat_map(spots) {
            if key.first() == key.last() {
                found.extend(self.find(set, &key)?.map(|element| (claim, element)));
                continue;
            }
            if !lists.iter().any(|(of, _)| *of == set) {
                lists.push((set, self.nft.list_elements(set.table, set.name)?));
            }
            let elements = lists.iter().filter(|(of, _)| *of == set).flat_map(|(_, list)| list);
            let overlapping = elements.filter(|element| element.key.overlaps(&key)).cloned();
            found.extend(overlapping.map(|element| (claim, element)));
        }
        Ok(found)
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
    pub(crate) fn displace(&mut self, claims: &[Claim], ground: &impl Ground) -> Result<()> {
        let in_the_way = self.find_in_the_way(claims, ground)?;
        self.nft.delete_elements(&in_the_way)?;
        Ok(())
    }

    fn find_in_the_way(
        &mut self,
        claims: &[Claim],
        ground: &impl Ground,
    ) -> Result<Vec<(Shared, Key)>> {
        let mut found: Vec<(Shared, Key)> = Vec::new();
        for claim in claims {
            for (set, key) in ground.related(claim) {
                for element in self.list_within(set, &key)? {
                    let spot = (set, element.key.clone());
                    if !found.contains(&spot) {
                        ground.yields(claim, &element)?;
                        found.push(spot);
                    }
                }
            }
        }
        Ok(found)
    }

    fn list_within(&mut self, set: Shared, key: &Key) -> Result<Vec<Element>> {
        if key.first() == key.last() {
            return Ok(self.find(set, key)?.into_iter().collect());
        }
        // What lies within, but not at the beginning, is not found by its key.
        let mut elements = self.nft.list_elements(set.table, set.name)?;
        elements.retain(|element| element.key.overlaps(key));
        Ok(elements)
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
        let mut there = Vec::new();
        for (set, key) in spots {
            if let Some(element) = self.find(*set, key)?
                && (element.key.first(), element.key.last()) == (key.first(), key.last())
                && element.comment.as_deref().is_some_and(&ours)
            {
                there.push((*set, element.key));
            }
        }
        Ok(self.nft.delete_elements(&there)?)
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
        let found = self.list_where(sets, dead)?;
        let spots: Vec<_> =
            found.iter().map(|(set, element)| (*set, element.key.clone())).collect();
        self.nft.delete_elements(&spots)?;
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
pub(crate) fn refuse_living(key: &Key, comment: &str, owner: &Owner) -> Result<()> {
    let (other, _) = split(comment);
    if is_same_attachment(owner, comment) {
        return Ok(());
    }
    let Some(link) = find_host_end(&Netlink::open()?, &Owner::written(other))? else {
        return Ok(());
    };
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
