//! What the kernel remembers of the router advertisements that a link has received.

use netlink_packet_route::link::{AfSpecInet6, AfSpecUnspec, Inet6IfaceFlags, LinkAttribute};

use super::{Netlink, Result};

impl Netlink {
    /// Whether the last router advertisement that came in by a link says that addresses are those of
    /// DHCPv6 (RFC 4861, 4.2).
    pub fn is_managed(&self, index: u32) -> Result<bool> {
        let message = self.read_link_message(index)?;
        let families = message.attributes.into_iter().filter_map(|attribute| match attribute {
            LinkAttribute::AfSpecUnspec(families) => Some(families),
            _ => None,
        });
        let ipv6 = families.flatten().filter_map(|family| match family {
            AfSpecUnspec::Inet6(details) => Some(details),
            _ => None,
        });
        Ok(ipv6.flatten().any(|detail| match detail {
            AfSpecInet6::Flags(flags) => flags.contains(Inet6IfaceFlags::RaManaged),
            _ => false,
        }))
    }
}
