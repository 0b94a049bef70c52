//! Elements deleted, none of which has become another attachment's since it was looked at.

use super::{Elements, Shared};
use crate::cni::{Code, Error, Result};
use crate::net::nft::{Element, Key};

impl Elements {
    /// Deletes those of these elements whose comment is `meant`, and says how many there were. Each
    /// is looked up in a generation of the packet filter, and deleted only in that one: an attachment
    /// that lives may have come to have its key meanwhile.
    ///
    /// # Errors
    /// Code 11 when no generation lasts for long enough; when the kernel refuses.
    pub fn delete(
        &mut self,
        keys: &[(Shared, Key)],
        meant: impl Fn(&str) -> bool,
    ) -> Result<usize> {
        const ATTEMPTS: usize = 200;
        let (mut left, mut size, mut count) = (keys, keys.len(), 0);
        for _ in 0..ATTEMPTS {
            if left.is_empty() {
                return Ok(count);
            }
            let (part, rest) = left.split_at(size.clamp(1, left.len()));
            let generation = self.nft.read_generation()?;
            let mut found = self.find_all(part)?;
            found.retain(|(_, element)| element.comment.as_deref().is_some_and(&meant));
            if self.nft.delete_elements_of(generation, &keys_of(&found))? {
                (left, count) = (rest, count + found.len());
            } else {
                // The fewer there are, the less time there is for somebody to change something.
                size = (size / 2).max(1);
            }
        }
        let msg = "the packet filter is changed all along, faster than elements can be deleted";
        Err(Error::new(Code::TryAgain, msg))
    }

    /// Deletes elements that were found in this generation, or later, to be `meant`; if that one is
    /// over, those that still are.
    ///
    /// # Errors
    /// As [`delete`](Self::delete).
    pub fn delete_found(
        &mut self,
        generation: u32,
        found: &[(Shared, Element)],
        meant: impl Fn(&str) -> bool,
    ) -> Result<()> {
        let keys = keys_of(found);
        if !self.nft.delete_elements_of(generation, &keys)? {
            self.delete(&keys, meant)?;
        }
        Ok(())
    }
}

fn keys_of(found: &[(Shared, Element)]) -> Vec<(Shared, Key)> {
    found.iter().map(|(set, element)| (*set, element.key.clone())).collect()
}
