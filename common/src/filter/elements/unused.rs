//! Chains that elements lead to, when there are none any more.

use super::{Elements, TABLES};
use crate::cni::Result;
use crate::net::nft::Batch;

impl Elements {
    /// Removes chains of ours that nothing leads to, of those whose name is `meant`. Who makes an
    /// element that leads to one in this moment either is seen, or makes the chain anew.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn delete_unused_chains(&mut self, meant: impl Fn(&str) -> bool) -> Result<()> {
        for table in TABLES {
            for chain in self.nft.list_chains(table.family)? {
                if chain.table != table.name || !meant(&chain.name) {
                    continue;
                }
                let rules = self.nft.list_rules(table, &chain.name)?.len();
                // A refusal takes its time, and would not be the exception.
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
