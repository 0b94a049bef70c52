//! Chains that no element leads to any more.

use super::{Elements, table};
use crate::cni::Result;
use crate::net::Family;
use crate::net::nft::Batch;

impl Elements {
    /// Deletes chains of ours that nothing leads to, of those whose name is `meant`. The kernel keeps
    /// one that an element leads to since it was looked at (EBUSY); an ADD whose chain is deleted
    /// before its element is made has its transaction refused, and makes both.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn delete_unused_chains(&mut self, meant: impl Fn(&str) -> bool) -> Result<()> {
        for table in Family::ALL.map(table) {
            for chain in self.nft.list_chains(table.family)? {
                if chain.table != table.name || !meant(&chain.name) {
                    continue;
                }
                let rules = self.nft.list_rules(table, &chain.name)?.len();
                // The kernel counts the chain's own rules, too. A refusal would take 8 ms, and most
                // chains are in use.
                if usize::try_from(chain.uses).is_ok_and(|uses| uses > rules) {
                    continue;
                }
                let mut batch = Batch::new();
                batch.delete_rules(table, &chain.name).delete_chain(table, &chain.name);
                match self.nft.commit(batch) {
                    Err(error) if error.is_busy() || error.is_gone() => {}
                    outcome => outcome?,
                }
            }
        }
        Ok(())
    }
}
