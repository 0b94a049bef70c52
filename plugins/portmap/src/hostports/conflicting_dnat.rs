//! What leads elsewhere before our elements are asked: rules of iptables, and of the plugins that
//! were on this node before.

use super::port_range::PortRange;
use super::{HostPorts, PortMappings, range_text};
use common::attach::Owner;
use common::attach::in_use::Containers;
use common::attach::kept::Kept;
use common::cni::{Error, Errors, Result};
use common::filter::legacy::{Legacy, Redirected};
use common::net::Family;

impl HostPorts {
    /// Removes what leads from these ports to containers that are gone, or to this one.
    ///
    /// # Errors
    /// When a container that may be alive has one of them.
    pub(super) fn clear_conflicting_dnat(&self, ports: &PortMappings, owner: &Owner) -> Result<()> {
        let mut legacy = Legacy::open()?;
        let mut containers = Containers::new(&self.host.netlink);
        for (pod, ranges) in ports.ranges().filter(|(_, ranges)| !ranges.is_empty()) {
            let holds =
                |port| ranges.iter().any(|range| (range.first..=range.last).contains(&port));
            for conflict in legacy.list_redirects(Family::of(pod.ip()), holds)? {
                let Some(range) = ranges.iter().find(|range| range.meets(&conflict)) else {
                    continue;
                };
                if !conflict.holder.is(owner)
                    && !ports.addresses.iter().any(|own| own.ip() == conflict.pod)
                    && !containers.is_free(conflict.pod)?
                {
                    return Err(taken(&range_text(range), &conflict.holder));
                }
                Errors::collect(|errors| legacy.delete_redirects(&conflict.holder, errors))?;
            }
        }
        Ok(())
    }

    /// Removes what leads to containers that are gone, of rules that do not tell their network.
    ///
    /// # Errors
    /// When the kernel cannot be asked, or refuses.
    pub(crate) fn sweep_conflicting_dnat(&self, kept: &Kept<'_>) -> Result<()> {
        let (mut legacy, mut errors) = (Legacy::open()?, Errors::default());
        let mut containers = Containers::new(&self.host.netlink);
        let valid = kept.list()?;
        for family in Family::ALL {
            for Redirected { holder, pod, .. } in legacy.list_redirects_of_nft(family)? {
                let is_valid = valid.iter().any(|other| holder.is_named(other.container.as_str()));
                if !is_valid && containers.is_free(pod)? {
                    legacy.delete_redirects(&holder, &mut errors);
                }
            }
        }
        errors.into_result()
    }
}

/// A port has an owner who may be alive.
pub(super) fn taken(port: &str, holder: &dyn std::fmt::Display) -> Error {
    Error::internal(format!("host port {port} is taken by {holder}"))
        .details("choose another host port, or DEL that attachment if its container is gone")
}

impl PortRange {
    fn meets(&self, other: &Redirected) -> bool {
        (self.first..=self.last).contains(&other.port)
            && other.protocol.is_none_or(|protocol| protocol == self.protocol)
            && (self.address.is_none() || other.at.is_none() || self.address == other.at)
    }
}
