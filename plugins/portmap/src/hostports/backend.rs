//! Host ports in our own tables, or by iptables.

use super::conflicts::{self, comment};
use super::ruleset;
use super::{HostPorts, PortMappings};
use common::attach::{Owner, host_end};
use common::cni::{Result, Undo};
use common::filter::Backend;
use common::filter::backend::create_instead;
use common::filter::elements::table;
use common::filter::restore::{Expected, ExpectedElements, External};
use common::net::Family;
use common::net::nft::{Batch, Feature};

impl HostPorts {
    /// Makes the ports lead to the attachment, all of them or none.
    ///
    /// # Errors
    /// When another attachment has one of them, and may be alive; when the kernel refuses, or iptables,
    /// where it is asked for or the kernel has nothing else.
    pub(crate) fn create(
        &mut self,
        ports: &PortMappings,
        owner: &Owner,
        undo: &mut Undo,
    ) -> Result<()> {
        if ports.backend == Backend::Iptables {
            return self.create_by_iptables(ports, owner, undo);
        }
        let Err(refused) = self.create_here(ports, owner, undo) else { return Ok(()) };
        create_instead(refused, find_lack(ports)?, "maps host ports", || {
            self.create_by_iptables(ports, owner, undo)
        })
    }

    /// What [`create`](Self::create) makes in the packet filter, for an attachment that lives. Rules of
    /// iptables that are asked for by name are left to the plugin's own program.
    ///
    /// # Errors
    /// When the kernel cannot be asked.
    pub(crate) fn expected_state(ports: PortMappings, owner: &Owner) -> Result<Vec<Expected>> {
        if ports.elements().is_empty() || ports.backend == Backend::Iptables {
            return Ok(Vec::new());
        }
        if find_lack(&ports)?.is_some() {
            let rules = IptablesRules { ports, owner: owner.clone() };
            return Ok(vec![Expected::External(Box::new(rules))]);
        }
        let (elements, declaration) = (ports.elements(), conflicts::declare(&ports));
        let comment = comment(owner, host_end::may_exist(owner), &elements);
        Ok(vec![Expected::Own(ExpectedElements::new(elements, comment, declaration))])
    }

    /// Every port that does not lead where it should.
    ///
    /// # Errors
    /// When the kernel cannot be asked, or iptables.
    pub(crate) fn verify(&mut self, ports: &PortMappings, owner: &Owner) -> Result<Vec<String>> {
        if ports.backend == Backend::Iptables {
            return self.verify_by_iptables(ports, owner);
        }
        let differences = self.verify_here(ports, owner)?;
        if !differences.is_empty() && find_lack(ports)?.is_some() {
            return self.verify_by_iptables(ports, owner);
        }
        Ok(differences)
    }

    /// Whether ports could be made to lead to containers: what the kernel lacks, where iptables would
    /// do it for a configuration that names no backend.
    ///
    /// # Errors
    /// Code 50 when they could not.
    pub(crate) fn probe(backend: Backend) -> Result<Option<Feature>> {
        let mut declaration = Batch::new();
        ruleset::declare(&mut declaration, table(Family::V4));
        backend.probe(&declaration, "nat")
    }
}

/// What the kernel lacks, so that iptables does it, unless the configuration says who does.
fn find_lack(ports: &PortMappings) -> Result<Option<Feature>> {
    ports.backend.find_lack(&conflicts::declare(ports))
}

/// What an attachment should have in iptables.
struct IptablesRules {
    ports: PortMappings,
    owner: Owner,
}

impl External for IptablesRules {
    fn verify(&self) -> Result<Vec<String>> {
        HostPorts::open()?.verify_by_iptables(&self.ports, &self.owner)
    }

    fn create(&self, undo: &mut Undo) -> Result<()> {
        HostPorts::open()?.create_by_iptables(&self.ports, &self.owner, undo)
    }
}
