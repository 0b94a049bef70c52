//! A sorted table of what a lease file says: as it was written down last, and the changes since.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

/// So many changes are kept apart from the sorted entries at most: enough that merging them, which
/// goes over all entries, is rare, and few enough to need little memory.
const CHANGES: usize = 8192;

/// How long an entry is: the key and both values, little-endian.
const WIDTH: usize = 32;

/// Two numbers that are known under a key.
pub type Values = [u64; 2];

/// Keys in order, each with its values.
#[derive(Clone, Debug, Default)]
pub struct Table {
    /// Entries of [`WIDTH`] bytes by ascending key, as they are on the disk: a call that asks for
    /// one of sixty thousand must not decode the others.
    sorted: Vec<u8>,
    /// What has been set since, or removed.
    changes: BTreeMap<u128, Option<Values>>,
}

fn decode(entry: &[u8]) -> (u128, Values) {
    let (key, values) = entry.split_at_checked(16).unwrap_or_default();
    let (one, two) = values.split_at_checked(8).unwrap_or_default();
    let value = |bytes: &[u8]| u64::from_le_bytes(bytes.try_into().unwrap_or_default());
    (u128::from_le_bytes(key.try_into().unwrap_or_default()), [value(one), value(two)])
}

impl Table {
    /// From the bytes that [`Table::sorted`] gave.
    pub fn new(sorted: Vec<u8>) -> Self {
        Self { sorted, changes: BTreeMap::new() }
    }

    fn entry(&self, index: usize) -> Option<(u128, Values)> {
        self.sorted.get(index * WIDTH..(index + 1) * WIDTH).map(decode)
    }

    /// How many of the sorted keys are less than this one.
    fn place(&self, key: u128) -> usize {
        let (mut low, mut high) = (0, self.sorted.len() / WIDTH);
        while low < high {
            let middle = low.midpoint(high);
            match self.entry(middle) {
                Some((found, _)) if found < key => low = middle + 1,
                _ => high = middle,
            }
        }
        low
    }

    /// What is known under a key.
    pub fn get(&self, key: u128) -> Option<Values> {
        if let Some(changed) = self.changes.get(&key) {
            return *changed;
        }
        self.entry(self.place(key)).filter(|(found, _)| *found == key).map(|(_, values)| values)
    }

    /// From now on these are known under a key, or nothing is.
    pub fn set(&mut self, key: u128, values: Option<Values>) {
        self.changes.insert(key, values);
        if self.changes.len() > CHANGES {
            self.merge(|_, _| true);
        }
    }

    /// The keys from the first to the last of these, in order.
    pub fn range(&self, keys: RangeInclusive<u128>) -> impl Iterator<Item = (u128, Values)> + '_ {
        let last = *keys.end();
        let sorted = self.sorted.get(self.place(*keys.start()) * WIDTH..).unwrap_or_default();
        let mut sorted = sorted
            .chunks_exact(WIDTH)
            .map(decode)
            .take_while(move |(key, _)| *key <= last)
            .peekable();
        let mut changes = self.changes.range(keys).map(|(key, values)| (*key, *values)).peekable();
        std::iter::from_fn(move || {
            loop {
                let Some((changed, _)) = changes.peek() else { return sorted.next() };
                if let Some(entry) = sorted.next_if(|(key, _)| key < changed) {
                    return Some(entry);
                }
                sorted.next_if(|(key, _)| key == changed);
                let (key, values) = changes.next()?;
                if let Some(values) = values {
                    return Some((key, values));
                }
            }
        })
    }

    /// All of it, in order.
    pub fn iter(&self) -> impl Iterator<Item = (u128, Values)> + '_ {
        self.range(0..=u128::MAX)
    }

    /// The entries that have this as their second value.
    pub fn find(&self, second: u64) -> Vec<(u128, Values)> {
        let bytes = second.to_le_bytes();
        let sorted = self.sorted.chunks_exact(WIDTH).filter(|entry| entry.ends_with(&bytes));
        let unchanged = sorted.map(decode).filter(|(key, _)| !self.changes.contains_key(key));
        let changed = self.changes.iter().filter_map(|(key, values)| Some((*key, (*values)?)));
        unchanged.chain(changed.filter(|(_, [_, value])| *value == second)).collect()
    }

    /// Takes the changes over into the sorted entries, of which those remain that are wanted.
    pub fn merge(&mut self, is_wanted: impl Fn(u128, Values) -> bool) {
        let mut merged = Vec::with_capacity(self.sorted.len() + self.changes.len() * WIDTH);
        for (key, values) in self.iter().filter(|(key, values)| is_wanted(*key, *values)) {
            merged.extend(key.to_le_bytes());
            values.iter().for_each(|value| merged.extend(value.to_le_bytes()));
        }
        self.sorted = merged;
        self.changes.clear();
    }

    /// How many sorted entries there are.
    pub fn sorted_len(&self) -> u64 {
        u64::try_from(self.sorted.len() / WIDTH).unwrap_or(u64::MAX)
    }

    /// The sorted entries: all of them after [`Table::merge`].
    pub fn sorted(&self) -> &[u8] {
        &self.sorted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_says_what_a_plain_map_says() {
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let mut random = move |below: u64| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state % below
        };
        let (mut table, mut model) = (Table::default(), BTreeMap::new());
        for round in 0..4000_u64 {
            let key = u128::from(random(300)) << 90;
            if random(3) == 0 {
                table.set(key, None);
                model.remove(&key);
            } else {
                let values = [round, random(20)];
                table.set(key, Some(values));
                model.insert(key, values);
            }
            if random(50) == 0 {
                table.merge(|_, _| true);
                table = Table::new(table.sorted().to_vec());
            }
            assert_eq!(table.get(key), model.get(&key).copied());
            if round % 16 == 0 {
                let (from, to) = (u128::from(random(300)) << 90, u128::from(random(300)) << 90);
                let range: Vec<_> = table.range(from..=to.max(from)).collect();
                let expected = model.range(from..=to.max(from));
                assert_eq!(
                    range,
                    expected.map(|(key, values)| (*key, *values)).collect::<Vec<_>>()
                );
                let mut found = table.find(7);
                found.sort_unstable();
                let expected = model.iter().filter(|(_, values)| values[1] == 7);
                assert_eq!(
                    found,
                    expected.map(|(key, values)| (*key, *values)).collect::<Vec<_>>()
                );
            }
        }
        table.merge(|_, [_, second]| second == 7);
        assert!(table.iter().all(|(_, [_, second])| second == 7) && table.iter().count() > 0);
    }

    #[test]
    fn many_changes_are_merged() {
        let mut table = Table::default();
        for key in 0..3 * CHANGES {
            table.set(u128::try_from(key).unwrap(), Some([1, 2]));
        }
        assert!(table.changes.len() <= CHANGES && table.iter().count() == 3 * CHANGES);
    }
}
