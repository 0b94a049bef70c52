//! 256 addresses in a row: which of them are held, and which are kept for a pod.

/// The bits of 256 addresses in a row.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Block {
    /// In use.
    pub held: [u128; 2],
    /// Free, but kept for a pod.
    pub kept: [u128; 2],
}

/// Half of a block and the bit of an address in it.
fn place(number: u128) -> (usize, u128) {
    (usize::from(number & 0x80 != 0), 1 << (number & 0x7f))
}

/// What the bit of an address is to become.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark {
    /// In use.
    Held,
    /// Kept for a pod.
    Kept,
    /// Neither.
    Free,
}

impl Block {
    /// Sets what is known about an address that is in it.
    pub fn set(&mut self, number: u128, mark: Mark) {
        let (half, bit) = place(number);
        let set = |word: &mut u128, on: bool| if on { *word |= bit } else { *word &= !bit };
        if let (Some(held), Some(kept)) = (self.held.get_mut(half), self.kept.get_mut(half)) {
            set(held, mark == Mark::Held);
            set(kept, mark == Mark::Kept);
        }
    }

    /// What is known about an address that is in it.
    pub fn mark_of(&self, number: u128) -> Mark {
        let (half, bit) = place(number);
        let is_in = |words: &[u128; 2]| words.get(half).is_some_and(|word| word & bit != 0);
        match (is_in(&self.held), is_in(&self.kept)) {
            (true, _) => Mark::Held,
            (false, true) => Mark::Kept,
            (false, false) => Mark::Free,
        }
    }

    /// The first address from `from` to `to`, of those in the block, that is neither held nor kept.
    pub fn first_free(&self, from: u8, to: u8) -> Option<u8> {
        let taken = [self.held[0] | self.kept[0], self.held[1] | self.kept[1]];
        if taken == [u128::MAX; 2] {
            return None;
        }
        let is_free = |place: &u8| {
            let (half, bit) = self::place(u128::from(*place));
            taken.get(half).is_some_and(|word| word & bit == 0)
        };
        (from..=to).find(is_free)
    }

    /// As it is in the file.
    pub fn encode(self) -> [u8; 64] {
        let mut bytes = [0; 64];
        let words = self.held.iter().chain(&self.kept);
        for (place, word) in bytes.chunks_exact_mut(16).zip(words) {
            place.copy_from_slice(&word.to_le_bytes());
        }
        bytes
    }

    /// From the file.
    pub fn decode(bytes: &[u8]) -> Self {
        let mut words = bytes
            .chunks_exact(16)
            .map(|word| u128::from_le_bytes(word.try_into().unwrap_or_default()));
        let mut two = || [(); 2].map(|()| words.next().unwrap_or_default());
        Self { held: two(), kept: two() }
    }
}
