//! Ports that another interface of the same container has already.
//!
//! podman and nerdctl tell the plugins of each of a container's networks about all of its ports. One
//! network has them, until its DEL: they lead to one of the container's addresses.

use super::port_range::{Mapping, PortRange};
use super::{At, HostPorts, PortMappings};
use common::attach::Owner;
use common::cni::Result;
use common::net::Family;

impl HostPorts {
    /// What is left of these ports without those of the container's other interfaces, if it has any.
    ///
    /// # Errors
    /// When the kernel cannot be asked.
    pub(super) fn left_by_siblings(
        &mut self,
        ports: &PortMappings,
        owner: &Owner,
    ) -> Result<Option<PortMappings>> {
        let (mut held, mut found) = (Vec::new(), Vec::new());
        for (pod, ranges_of_pod) in ports.ranges() {
            let family = Family::of(pod.ip());
            for range in ranges_of_pod {
                for (set, key) in range.keys(family) {
                    let count = found.len();
                    self.find_own(set, &key, &|one| owner.is_sibling(one), &mut found)?;
                    if found.len() > count {
                        held.push(range.clone());
                    }
                }
            }
        }
        let is_held = |mapping: &Mapping| held.iter().any(|range| range.covers(mapping));
        let mappings = ports.mappings.iter().filter(|one| !is_held(one)).copied().collect();
        Ok((!held.is_empty()).then(|| PortMappings { mappings, ..ports.clone() }))
    }
}

impl PortRange {
    fn covers(&self, mapping: &Mapping) -> bool {
        let address = match mapping.at {
            At::Address(address) => Some(address),
            _ => None,
        };
        self.protocol == mapping.protocol
            && (self.first..=self.last).contains(&mapping.host_port)
            && self.address == address
    }
}
