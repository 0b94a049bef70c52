//! Netfilter's subsystems, spoken natively over nfnetlink.

pub mod conntrack;
mod nfnetlink;
pub mod nft;

use netlink_packet_netfilter::NetfilterProtoFamily;

use super::Family;

impl From<Family> for NetfilterProtoFamily {
    fn from(family: Family) -> Self {
        match family {
            Family::V4 => Self::IPv4,
            Family::V6 => Self::IPv6,
        }
    }
}
