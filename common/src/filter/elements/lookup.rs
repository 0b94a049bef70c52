//! Elements that are there: those that a key means, and those that conflict with others.

use super::{Elements, FEW, OwnedElement, Shared, SharedRuleset};
use crate::attach::{Owner, host_end};
use crate::cni::{Code, Error, Result};
use crate::net::Netlink;
use crate::net::nft::{Element, Key};
use std::collections::BTreeSet;

impl Elements {
    /// What is there of [`SharedRuleset::overlapping_keys`], each with the element that it overlaps.
    pub(super) fn find_overlapping<'a>(
        &mut self,
        elements: &'a [OwnedElement],
        ruleset: &impl SharedRuleset,
    ) -> Result<Vec<(&'a OwnedElement, Element)>> {
        let (mut found, mut lists) = (Vec::new(), Vec::new());
        for (wanted, (set, key)) in elements
            .iter()
            .flat_map(|one| ruleset.overlapping_keys(one).into_iter().map(move |key| (one, key)))
        {
            if key.first() == key.last() {
                found.extend(self.find(set, &key)?.map(|other| (wanted, other)));
                continue;
            }
            if !lists.iter().any(|(of, _)| *of == set) {
                lists.push((set, self.nft.list_elements(set.table, set.name)?));
            }
            let others = lists.iter().filter(|(of, _)| *of == set).flat_map(|(_, list)| list);
            let overlapping = others.filter(|other| other.key.overlaps(&key)).cloned();
            found.extend(overlapping.map(|other| (wanted, other)));
        }
        Ok(found)
    }

    /// What is there of [`SharedRuleset::conflicting_keys`], all of which may be replaced.
    ///
    /// # Errors
    /// When the kernel cannot be asked, or something may not be replaced.
    pub(super) fn find_conflicting(
        &mut self,
        elements: &[OwnedElement],
        owner: &Owner,
        ruleset: &impl SharedRuleset,
    ) -> Result<Vec<(Shared, Element)>> {
        let (mut found, mut seen, mut netlink) = (Vec::new(), BTreeSet::new(), None);
        for wanted in elements {
            for (set, key) in ruleset.conflicting_keys(wanted) {
                for other in self.list_within(set, &key)? {
                    if seen.insert((set, other.key.clone())) {
                        ruleset.may_replace(wanted, &other)?;
                        refuse_living(&other, owner, &mut netlink)?;
                        found.push((set, other));
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
        // The kernel finds by a key only the interval that the key's first value lies in.
        let mut elements = self.nft.list_elements(set.table, set.name)?;
        elements.retain(|element| element.key.overlaps(key));
        Ok(elements)
    }

    /// Those of these elements that are there.
    pub(super) fn find_all(&mut self, keys: &[(Shared, Key)]) -> Result<Vec<(Shared, Element)>> {
        let ends = |key: &Key| (key.first().to_vec(), key.last().to_vec());
        let mut there = Vec::new();
        if keys.len() <= FEW {
            for (set, key) in keys {
                let found = self.find(*set, key)?.filter(|found| ends(&found.key) == ends(key));
                there.extend(found.map(|element| (*set, element)));
            }
            return Ok(there);
        }
        let wanted: BTreeSet<_> = keys.iter().map(|(set, key)| (*set, ends(key))).collect();
        let sets: BTreeSet<_> = keys.iter().map(|(set, _)| *set).collect();
        for set in sets {
            let elements = self.nft.list_elements(set.table, set.name)?;
            let is_wanted = |found: &Element| wanted.contains(&(set, ends(&found.key)));
            there.extend(elements.into_iter().filter(is_wanted).map(|element| (set, element)));
        }
        Ok(there)
    }
}

/// Refuses to take what belongs to an address from another attachment that lives: its link is there.
///
/// # Errors
/// Code 11 that names the other one.
fn refuse_living(found: &Element, owner: &Owner, netlink: &mut Option<Netlink>) -> Result<()> {
    let comment = found.comment.as_deref().unwrap_or_default();
    if owner.is_same_interface(comment) {
        return Ok(());
    }
    let Some(other) = Owner::read(comment) else { return Ok(()) };
    // Most ADDs find nothing, and need no socket.
    let netlink = match netlink {
        Some(open) => open,
        None => netlink.insert(Netlink::open()?),
    };
    let Some(link) = host_end::find(netlink, &other)? else { return Ok(()) };
    let (key, other) = (&found.key, other.as_str());
    let msg = format!("{key} is in use already, by {other:?} behind link {}", link.name);
    Err(Error::new(Code::TryAgain, msg)
        .details("subnets that this host routes must not overlap, whatever their bridge or VLAN"))
}
