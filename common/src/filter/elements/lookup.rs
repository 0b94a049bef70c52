//! Looking for elements: of one's own, and in one's way.

use super::{Elements, FEW, OwnedElement, Shared, SharedRuleset, refuse_living};
use crate::attach::Owner;
use crate::cni::{Code, Error, Result};
use crate::net::nft::{Element, Key};
use std::collections::BTreeSet;

impl Elements {
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

    pub(super) fn find_in_the_way(
        &mut self,
        elements: &[OwnedElement],
        owner: &Owner,
        ruleset: &impl SharedRuleset,
    ) -> Result<Vec<(Shared, Element)>> {
        let (mut found, mut seen) = (Vec::new(), BTreeSet::new());
        for wanted in elements {
            for (set, key) in ruleset.conflicting_keys(wanted) {
                for other in self.list_within(set, &key)? {
                    if seen.insert((set, other.key.clone())) {
                        ruleset.may_replace(wanted, &other)?;
                        refuse_living(&other, owner)?;
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
        // What lies within, but not at the beginning, is not found by its key.
        let mut elements = self.nft.list_elements(set.table, set.name)?;
        elements.retain(|element| element.key.overlaps(key));
        Ok(elements)
    }

    /// Those of these elements that are there.
    pub(super) fn find_all(&mut self, spots: &[(Shared, Key)]) -> Result<Vec<(Shared, Element)>> {
        let ends = |key: &Key| (key.first().to_vec(), key.last().to_vec());
        let mut there = Vec::new();
        if spots.len() <= FEW {
            for (set, key) in spots {
                let found = self.find(*set, key)?.filter(|found| ends(&found.key) == ends(key));
                there.extend(found.map(|element| (*set, element)));
            }
            return Ok(there);
        }
        let wanted: BTreeSet<_> = spots.iter().map(|(set, key)| (*set, ends(key))).collect();
        let sets: BTreeSet<_> = spots.iter().map(|(set, _)| *set).collect();
        for set in sets {
            let elements = self.nft.list_elements(set.table, set.name)?;
            let is_wanted = |found: &Element| wanted.contains(&(set, ends(&found.key)));
            there.extend(elements.into_iter().filter(is_wanted).map(|element| (set, element)));
        }
        Ok(there)
    }

    /// Deletes elements that were found, as far as what is there when they go still is `meant` by its
    /// comment: an attachment that lives may have come to have their keys meanwhile. How many went.
    ///
    /// # Errors
    /// Code 11 when the ruleset never stays as it is for long enough; when the kernel refuses.
    pub fn delete_judged(
        &mut self,
        found: &[(Shared, Element)],
        meant: impl Fn(&str) -> bool,
    ) -> Result<usize> {
        const ATTEMPTS: usize = 200;
        let (mut left, mut size, mut count) = (found, found.len(), 0);
        for _ in 0..ATTEMPTS {
            if left.is_empty() {
                return Ok(count);
            }
            let (part, rest) = left.split_at(size.clamp(1, left.len()));
            let generation = self.nft.read_generation()?;
            let spots: Vec<_> =
                part.iter().map(|(set, element)| (*set, element.key.clone())).collect();
            let mut there = self.find_all(&spots)?;
            there.retain(|(_, now)| meant(now.comment.as_deref().unwrap_or_default()));
            let spots: Vec<_> = there.into_iter().map(|(set, now)| (set, now.key)).collect();
            if self.nft.delete_elements_of(generation, &spots)? {
                (left, count) = (rest, count + spots.len());
            } else {
                // The fewer there are, the less time there is for somebody to change something.
                size = (size / 2).max(1);
            }
        }
        let msg = "the packet filter is changed all along, faster than elements can be deleted";
        Err(Error::new(Code::TryAgain, msg))
    }
}
