//! What one transaction does for an attachment, and how it is taken back.

use super::{Elements, Shared};
use crate::attach::Owner;
use crate::cni::Result;
use crate::net::nft::{Batch, Element, Key, Make};
use std::collections::BTreeMap;

/// Where an element is: its set, and both ends of its key.
type Spot = (Shared, Vec<u8>, Vec<u8>);

/// ExpectedElements that come, in place of others that go.
#[derive(Debug, Default)]
pub(super) struct Change {
    come: BTreeMap<Spot, Element>,
    go: Vec<(Shared, Element)>,
}

fn spot(set: Shared, key: &Key) -> Spot {
    (set, key.first().to_vec(), key.last().to_vec())
}

impl Change {
    /// These come, and nothing is in their way.
    pub(super) fn new(come: impl Iterator<Item = (Shared, Element)>) -> Self {
        let come = come.map(|(set, element)| (spot(set, &element.key), element)).collect();
        Self { come, go: Vec::new() }
    }

    /// The first element that comes.
    pub(super) fn first(&self) -> Option<(Shared, &Element)> {
        self.come.first_key_value().map(|((set, ..), element)| (*set, element))
    }

    /// An element that is there goes; or stays, if it is one of those that are to come.
    pub(super) fn replace(&mut self, set: Shared, found: Element) {
        let spot = spot(set, &found.key);
        if self.come.get(&spot).is_some_and(|own| is_same(own, &found)) {
            self.come.remove(&spot);
        } else {
            self.go.push((set, found));
        }
    }

    pub(super) fn batch(&self) -> Batch {
        let mut batch = Batch::new();
        for (set, element) in &self.go {
            batch.delete_element(set.table, set.name, &element.key);
        }
        for ((set, ..), element) in &self.come {
            batch.element(Make::Create, set.table, set.name, element);
        }
        batch
    }

    /// Removes what has come by this change, and puts back what the owner had before. Whether the
    /// kernel has made the change is not known: its answer may be lost. It makes all of it or
    /// nothing, and the first element was not there before, so that one tells.
    pub(super) fn take_back(self, elements: &mut Elements) -> Result<()> {
        let Some((set, first)) = self.first() else { return Ok(()) };
        let found = elements.find(set, &first.key)?;
        if !found.is_some_and(|found| is_same(first, &found)) {
            return Ok(());
        }
        let comment = first.comment.clone().unwrap_or_default();
        let spots: Vec<_> =
            self.come.into_iter().map(|((set, ..), element)| (set, element.key)).collect();
        elements.delete(&spots, |other| other == comment)?;
        let mut batch = Batch::new();
        for (set, element) in &self.go {
            let owner = element.comment.as_deref().map(|other| Owner::split(other).0);
            if owner == Some(Owner::split(&comment).0) {
                batch.element(Make::Ensure, set.table, set.name, element);
            }
        }
        elements.commit(batch)
    }
}

fn is_same(own: &Element, found: &Element) -> bool {
    own.data == found.data && own.comment == found.comment && own.key.last() == found.key.last()
}
