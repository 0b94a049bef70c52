//! What leads elsewhere before our elements are asked: rules of iptables, and of the plugins that
//! were on this node before.

use super::span::Span;
use super::{HostPorts, Publication, ports};
use crate::cni::{Attachment, Error, Errors, NetworkName, Result};
use crate::in_use::Residents;
use crate::kept::Kept;
use crate::net::Family;
use crate::reference::{Redirected, Reference};

impl HostPorts {
    /// Removes what leads from these ports to containers that are gone, or to this one.
    ///
    /// # Errors
    /// When a container that may be alive has one of them.
    pub(super) fn clear_shadows(
        &self,
        publication: &Publication,
        network: &NetworkName,
        attachment: &Attachment,
    ) -> Result<()> {
        let mut reference = Reference::open()?;
        let mut residents = Residents::new(&self.host.netlink);
        for (pod, spans) in publication.spans().filter(|(_, spans)| !spans.is_empty()) {
            let holds = |port| spans.iter().any(|span| (span.first..=span.last).contains(&port));
            for shadow in reference.list_redirects(Family::of(pod.ip()), holds)? {
                let Some(span) = spans.iter().find(|span| span.meets(&shadow)) else { continue };
                if !shadow.holder.is(network, attachment.container.as_str())
                    && !publication.addresses.iter().any(|own| own.ip() == shadow.pod)
                    && !residents.lack(shadow.pod)?
                {
                    return Err(taken(&ports(span), &shadow.holder));
                }
                Errors::collect(|errors| reference.delete_redirects(&shadow.holder, errors))?;
            }
        }
        Ok(())
    }

    /// Removes what leads to containers that are gone, of rules that do not tell their network.
    ///
    /// # Errors
    /// When the kernel cannot be asked, or refuses.
    pub fn sweep_shadows(&self, kept: &Kept<'_>) -> Result<()> {
        let (mut reference, mut errors) = (Reference::open()?, Errors::default());
        let mut residents = Residents::new(&self.host.netlink);
        let valid = kept.list()?;
        for family in Family::ALL {
            for Redirected { holder, pod, .. } in reference.list_redirects_of_nft(family)? {
                let is_valid = valid.iter().any(|other| holder.is_named(other.container.as_str()));
                if !is_valid && residents.lack(pod)? {
                    reference.delete_redirects(&holder, &mut errors);
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

impl Span {
    fn meets(&self, other: &Redirected) -> bool {
        (self.first..=self.last).contains(&other.port)
            && other.protocol.is_none_or(|protocol| protocol == self.protocol)
            && (self.address.is_none() || other.at.is_none() || self.address == other.at)
    }
}
