//! What one transaction does for an attachment, and how it is rolled back.

use super::{Elements, Shared};
use crate::attach::Owner;
use crate::cni::Result;
use crate::net::nft::{Batch, Element, Key, Make};
use std::collections::BTreeMap;

/// What no two elements have alike: set, and both ends of the key.
type Identity = (Shared, Vec<u8>, Vec<u8>);

/// Elements that are made, in place of others that are deleted.
#[derive(Debug, Default)]
pub(super) struct Change {
    made: BTreeMap<Identity, Element>,
    deleted: Vec<(Shared, Element)>,
}

fn identity(set: Shared, key: &Key) -> Identity {
    (set, key.first().to_vec(), key.last().to_vec())
}

impl Change {
    /// Makes these, and deletes nothing.
    pub(super) fn new(made: impl Iterator<Item = (Shared, Element)>) -> Self {
        let made = made.map(|(set, element)| (identity(set, &element.key), element)).collect();
        Self { made, deleted: Vec::new() }
    }

    /// The first element that is made.
    pub(super) fn first(&self) -> Option<(Shared, &Element)> {
        self.made.first_key_value().map(|((set, ..), element)| (*set, element))
    }

    /// Deletes an element that is there; or leaves it, if it is one of those that are to be made.
    pub(super) fn replace(&mut self, set: Shared, found: Element) {
        let identity = identity(set, &found.key);
        if self.made.get(&identity).is_some_and(|own| is_same(own, &found)) {
            self.made.remove(&identity);
        } else {
            self.deleted.push((set, found));
        }
    }

    pub(super) fn batch(&self) -> Batch {
        let mut batch = Batch::new();
        for (set, element) in &self.deleted {
            batch.delete_element(set.table, set.name, &element.key);
        }
        for ((set, ..), element) in &self.made {
            batch.element(Make::Create, set.table, set.name, element);
        }
        batch
    }

    /// Deletes what this change has made, and makes again what the owner had before. Whether the
    /// kernel has made the change is not known: its answer may be lost. It makes all of it or
    /// nothing, and the first element was not there before, so that one tells.
    pub(super) fn roll_back(self, elements: &mut Elements) -> Result<()> {
        let Some((set, first)) = self.first() else { return Ok(()) };
        let found = elements.find(set, &first.key)?;
        if !found.is_some_and(|found| is_same(first, &found)) {
            return Ok(());
        }
        let comment = first.comment.clone().unwrap_or_default();
        let keys: Vec<_> =
            self.made.into_iter().map(|((set, ..), element)| (set, element.key)).collect();
        elements.delete(&keys, |other| other == comment)?;
        let mut batch = Batch::new();
        for (set, element) in &self.deleted {
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
