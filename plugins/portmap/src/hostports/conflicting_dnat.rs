//! Rules that translate the same ports before ours are asked: those of iptables, and of the Go
//! plugins that were on this node before.

use super::port_range::PortRange;
use super::{HostPorts, PortMappings, range_text};
use common::attach::Owner;
use common::attach::in_use::Containers;
use common::attach::kept::Kept;
use common::cni::{Error, Errors, Result};
use common::filter::Backend;
use common::filter::legacy::LegacyHostPort;
use common::net::Family;
use common::net::iptables::LockedTable;

impl HostPorts {
    /// Deletes rules that lead from these ports to containers that are gone, or to this one; but not
    /// the chain `replaced` of the table that iptables has, which the caller replaces: whether that is
    /// one of them.
    ///
    /// # Errors
    /// When a container that may be alive has one of them.
    pub(super) fn clear_conflicting_dnat(
        &self,
        ports: &PortMappings,
        owner: &Owner,
        replaced: Option<&str>,
    ) -> Result<bool> {
        let (mut legacy, mut has_replaced) = (self.legacy(), false);
        let mut containers = Containers::new(&self.host.netlink);
        for (pod, ranges) in ports.ranges().filter(|(_, ranges)| !ranges.is_empty()) {
            let is_ours =
                |port| ranges.iter().any(|range| (range.first..=range.last).contains(&port));
            let family = Family::of(pod.ip());
            let found = legacy.list_host_ports(family, is_ours)?;
            // The chain may be in the tables of the other kind of iptables, where it is not replaced.
            let replaced = match replaced {
                Some(chain) if found.iter().any(|one| one.container.has_chain(chain)) => {
                    match LockedTable::open(family, "nat") {
                        // Without its programs, nothing of iptables is left for later.
                        Err(error) if error.is_gone() && ports.backend != Backend::Iptables => None,
                        table => table?.has_chain(chain).then_some(chain),
                    }
                }
                _ => None,
            };
            for conflict in found {
                let Some(range) = ranges.iter().find(|range| range.overlaps(&conflict)) else {
                    continue;
                };
                if !conflict.container.is(owner)
                    && !ports.addresses.iter().any(|own| own.ip() == conflict.pod)
                    && !containers.is_free(conflict.pod)?
                {
                    return Err(taken(&range_text(range), &conflict.container));
                }
                if replaced.is_some_and(|chain| conflict.container.has_chain(chain)) {
                    has_replaced = true;
                    continue;
                }
                Errors::collect(|errors| legacy.delete_host_ports(&conflict.container, errors))?;
            }
        }
        Ok(has_replaced)
    }

    /// Deletes rules that lead to containers that are gone, of those that do not tell their network.
    ///
    /// # Errors
    /// When the kernel cannot be asked, or refuses.
    pub(crate) fn sweep_conflicting_dnat(&self, kept: &Kept<'_>) -> Result<()> {
        let (mut legacy, mut errors) = (self.legacy(), Errors::default());
        let mut containers = Containers::new(&self.host.netlink);
        let valid = kept.list()?;
        for family in Family::ALL {
            for LegacyHostPort { container, pod, .. } in legacy.list_nft_host_ports(family)? {
                let is_valid = valid.iter().any(|one| container.has_id(one.container.as_str()));
                if !is_valid && containers.is_free(pod)? {
                    legacy.delete_host_ports(&container, &mut errors);
                }
            }
        }
        errors.into_result()
    }
}

/// The error of a port that a container has which may be alive.
pub(super) fn taken(port: &str, container: &dyn std::fmt::Display) -> Error {
    Error::internal(format!("host port {port} is taken by {container}"))
        .details("choose another host port, or DEL that attachment if its container is gone")
}

impl PortRange {
    fn overlaps(&self, other: &LegacyHostPort) -> bool {
        (self.first..=self.last).contains(&other.port)
            && other.protocol.is_none_or(|protocol| protocol == self.protocol)
            && (self.address.is_none() || other.at.is_none() || self.address == other.at)
    }
}
