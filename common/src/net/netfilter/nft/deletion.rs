//! Elements deleted: whatever is there, or only as long as the ruleset is the one that was looked at.

use netlink_packet_netfilter::nftables::{GenMessage, NfTablesMessage};
use nix::libc::ERESTART;

use super::{Batch, Key, Nft, Refusal, SetName, TableFamily, decode};
use crate::net::{Error, Result};
use std::collections::BTreeSet;

impl Nft {
    /// Deletes these elements, all at once, and says how many were there. Those that are gone, or
    /// whose whole set or table is, do not stop the rest.
    ///
    /// A refusal is slow (see [`Nft::commit`]): ask for what may well be gone first.
    ///
    /// # Errors
    /// What the kernel refused for any other reason; nothing is deleted then.
    pub fn delete_elements(&mut self, elements: &[(SetName<'_>, Key)]) -> Result<usize> {
        let mut left: Vec<_> = elements.iter().collect();
        loop {
            let mut batch = Batch::new();
            for (set, key) in &left {
                batch.delete_element(set.table, set.name, key);
            }
            let mut gone = BTreeSet::new();
            for Refusal { sequence, error, .. } in self.try_commit(batch, None)? {
                // Only what is about one element can be left out.
                if sequence == 0 || !error.is_gone() {
                    return Err(error);
                }
                gone.insert(sequence);
            }
            if gone.is_empty() {
                return Ok(left.len());
            }
            let mut sequence = 0;
            left.retain(|_| {
                sequence += 1;
                !gone.contains(&sequence)
            });
        }
    }

    /// The number of the ruleset as it is. Every commit, whoever makes it, gives it another one.
    ///
    /// # Errors
    /// When the kernel does not tell.
    pub fn read_generation(&mut self) -> Result<u32> {
        let what = || "read the generation of the packet filter".to_owned();
        let question = NfTablesMessage::GetGen(GenMessage { attributes: Vec::new() });
        let number = self.find(TableFamily::Inet, question, &what, decode::generation)?;
        match number {
            Some(number) => Ok(number),
            None if self.is_absent()? => Ok(0),
            None => Err(Error::new(what(), "the kernel does not tell")),
        }
    }

    /// Deletes these elements, all at once, if the ruleset is still the one of that generation;
    /// whether it was.
    ///
    /// # Errors
    /// What the kernel refused for any other reason; nothing is deleted then.
    pub(crate) fn delete_elements_of(
        &mut self,
        generation: u32,
        elements: &[(SetName<'_>, Key)],
    ) -> Result<bool> {
        let mut batch = Batch::new();
        for (set, key) in elements {
            batch.delete_element(set.table, set.name, key);
        }
        let refused = self.try_commit(batch, Some(generation))?.into_iter().next();
        match refused.map(|one| one.error) {
            None => Ok(true),
            Some(error) if error.errno() == Some(ERESTART) || error.is_gone() => Ok(false),
            Some(error) => Err(error),
        }
    }
}
