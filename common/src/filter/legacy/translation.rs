//! What a rule that translates destinations asks for, and where it leads: as nft(8) writes it, or
//! iptables, whose matches and targets are structures of the kernel.

use crate::net::Family;
use crate::net::nft::abi::{
    NFT_CMP_EQ, NFT_META_L4PROTO, NFT_PAYLOAD_NETWORK_HEADER, NFT_PAYLOAD_TRANSPORT_HEADER,
};
use crate::net::nft::{self, Expression, Extension, KnownRule};
use std::net::IpAddr;

/// What such a rule says. None: nothing about that.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Translation {
    /// The packet's protocol: 6 is TCP.
    pub(super) protocol: Option<u8>,
    /// The packet's destination port.
    pub(super) port: Option<u16>,
    /// The packet's destination.
    pub(super) destination: Option<IpAddr>,
    /// The new destination.
    pub(super) to: Option<IpAddr>,
}

/// What a rule has loaded, to compare it.
#[derive(Clone, Copy)]
enum Loaded {
    Protocol,
    Port,
    Destination,
    Unknown,
}

impl Translation {
    pub(super) fn of(rule: &KnownRule, family: Family) -> Self {
        let (mut translation, mut loaded) = (Self::default(), Loaded::Unknown);
        for expression in rule.expressions() {
            match expression {
                Expression::LoadPayload { base, offset, length, .. } => {
                    loaded = payload(family, (base, offset, length));
                }
                Expression::LoadMeta { key, .. } => {
                    let is_protocol = key == NFT_META_L4PROTO;
                    loaded = if is_protocol { Loaded::Protocol } else { Loaded::Unknown };
                }
                Expression::Compare { operator: NFT_CMP_EQ, value, .. } => {
                    translation.compare(loaded, value, family);
                }
                Expression::LoadValue { value, .. } => {
                    translation.to = translation.to.or(address(value, family));
                }
                Expression::Match(one) => translation.port = translation.port.or(port(&one)),
                Expression::Target(one) => {
                    translation.to = translation.to.or(dnat(&one, family));
                }
                _ => {}
            }
        }
        translation
    }

    fn compare(&mut self, loaded: Loaded, value: &[u8], family: Family) {
        match loaded {
            Loaded::Protocol => self.protocol = value.first().copied(),
            Loaded::Port => self.port = value.try_into().ok().map(u16::from_be_bytes),
            Loaded::Destination => self.destination = address(value, family),
            Loaded::Unknown => {}
        }
    }
}

/// The ports of a match `multiport`: `struct xt_multiport_v1`, which has room for fifteen.
pub(super) fn multiport(rule: &KnownRule) -> Vec<u16> {
    const COUNT: usize = 1;
    const PORTS: usize = 2;
    let ports = |expression| match expression {
        Expression::Match(found) if found.name == "multiport" => {
            let count = usize::from(*found.info.get(COUNT)?);
            (0..count).map(|number| found.half(PORTS + 2 * number)).collect()
        }
        _ => None,
    };
    rule.expressions().find_map(ports).unwrap_or_default()
}

/// Which field of the packet this base, offset and length are.
fn payload(family: Family, place: (u32, usize, usize)) -> Loaded {
    match (place, family) {
        ((NFT_PAYLOAD_NETWORK_HEADER, 9, 1), Family::V4)
        | ((NFT_PAYLOAD_NETWORK_HEADER, 6, 1), Family::V6) => Loaded::Protocol,
        ((NFT_PAYLOAD_NETWORK_HEADER, 16, 4), Family::V4)
        | ((NFT_PAYLOAD_NETWORK_HEADER, 24, 16), Family::V6) => Loaded::Destination,
        ((NFT_PAYLOAD_TRANSPORT_HEADER, 2, 2), _) => Loaded::Port,
        _ => Loaded::Unknown,
    }
}

/// The one destination port that a match asks for: `dpts` of `struct xt_tcp` and `struct xt_udp`,
/// or of `struct xt_sctp_info`.
fn port(found: &Extension<'_>) -> Option<u16> {
    let first = match found.name {
        "tcp" | "udp" => 4,
        "sctp" => 0,
        _ => return None,
    };
    found.half(first).filter(|port| found.half(first + 2) == Some(*port))
}

/// Where the target `DNAT` leads: the first address of `struct nf_nat_range2`; of revision 0, which
/// IPv4 has, that of `struct nf_nat_ipv4_multi_range_compat`, behind a count.
fn dnat(found: &Extension<'_>, family: Family) -> Option<IpAddr> {
    if found.name != "DNAT" {
        return None;
    }
    let start = if found.revision == 0 { 8 } else { 4 };
    let length = if family == Family::V6 { 16 } else { 4 };
    address(found.info.get(start..start + length)?, family)
}

fn address(value: &[u8], family: Family) -> Option<IpAddr> {
    nft::address(value).filter(|address| Family::of(*address) == family)
}
