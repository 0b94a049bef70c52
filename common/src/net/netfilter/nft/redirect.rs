//! What a rule of others translates: as nft(8) writes it, or iptables, whose matches and targets are
//! structures of the kernel in an expression.

use std::net::IpAddr;

use super::known::{NFGENMSG, attributes, find};

/// What a rule that translates destinations asks for, and where it leads. None: it does not say.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Redirect {
    /// The packet's protocol: 6 is TCP.
    pub protocol: Option<u8>,
    /// The packet's destination port.
    pub port: Option<u16>,
    /// The packet's destination.
    pub destination: Option<IpAddr>,
    /// The new destination.
    pub to: Option<IpAddr>,
}

/// What a rule has loaded, to compare it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Loaded {
    Protocol,
    Port,
    Destination,
    Else,
}

/// `NFTA_RULE_EXPRESSIONS` of linux/netfilter/nf_tables.h.
const EXPRESSIONS: u16 = 4;

impl Redirect {
    pub(super) fn of_rule(message: &[u8]) -> Self {
        let is_ipv6 = message.first() == Some(&10);
        let (mut redirect, mut loaded) = (Self::default(), Loaded::Else);
        for (name, data) in expressions(message) {
            match name {
                b"payload" => loaded = payload(data, is_ipv6),
                b"meta" => {
                    const NFTA_META_KEY: u16 = 2;
                    const NFT_META_L4PROTO: u32 = 16;
                    let is_protocol = number(data, NFTA_META_KEY) == Some(NFT_META_L4PROTO);
                    loaded = if is_protocol { Loaded::Protocol } else { Loaded::Else };
                }
                b"cmp" => redirect.compare(loaded, data, is_ipv6),
                b"immediate" => {
                    const NFTA_IMMEDIATE_DATA: u16 = 2;
                    let value = find(data, NFTA_IMMEDIATE_DATA).and_then(value);
                    redirect.to = redirect.to.or(value.and_then(|value| address(value, is_ipv6)));
                }
                b"match" => redirect.port = redirect.port.or(matched(data)),
                b"target" => redirect.to = redirect.to.or(target(data, is_ipv6)),
                _ => {}
            }
        }
        redirect
    }

    fn compare(&mut self, loaded: Loaded, data: &[u8], is_ipv6: bool) {
        const NFTA_CMP_OP: u16 = 2;
        const NFTA_CMP_DATA: u16 = 3;
        let is_equal = number(data, NFTA_CMP_OP) == Some(0);
        let Some(value) = find(data, NFTA_CMP_DATA).and_then(value).filter(|_| is_equal) else {
            return;
        };
        match loaded {
            Loaded::Protocol => self.protocol = value.first().copied(),
            Loaded::Port => self.port = value.try_into().ok().map(u16::from_be_bytes),
            Loaded::Destination => self.destination = address(value, is_ipv6),
            Loaded::Else => {}
        }
    }
}

/// The ports of a match `multiport`: `struct xt_multiport_v1`.
pub(super) fn ports(message: &[u8]) -> Vec<u16> {
    let multiport = expressions(message)
        .filter(|(name, _)| *name == b"match")
        .find_map(|(_, data)| extension(data).filter(|(name, ..)| *name == b"multiport"));
    let Some((_, _, [_flags, count, ports @ ..])) = multiport else { return Vec::new() };
    let ports = ports.chunks_exact(2).take(usize::from(*count));
    ports.filter_map(|port| port.try_into().ok().map(u16::from_ne_bytes)).collect()
}

/// Which part of the packet it is (`enum nft_payload_bases`, and the headers of IP).
fn payload(data: &[u8], is_ipv6: bool) -> Loaded {
    const NFTA_PAYLOAD_BASE: u16 = 2;
    const NFTA_PAYLOAD_OFFSET: u16 = 3;
    const NFTA_PAYLOAD_LEN: u16 = 4;
    const NETWORK: u32 = 1;
    const TRANSPORT: u32 = 2;
    let number = |kind| number(data, kind).unwrap_or(u32::MAX);
    let place = (number(NFTA_PAYLOAD_BASE), number(NFTA_PAYLOAD_OFFSET), number(NFTA_PAYLOAD_LEN));
    match (place, is_ipv6) {
        ((NETWORK, 9, 1), false) | ((NETWORK, 6, 1), true) => Loaded::Protocol,
        ((NETWORK, 16, 4), false) | ((NETWORK, 24, 16), true) => Loaded::Destination,
        ((TRANSPORT, 2, 2), _) => Loaded::Port,
        _ => Loaded::Else,
    }
}

/// The one destination port that a match asks for: `struct xt_tcp`, `xt_udp`, `xt_sctp_info`.
fn matched(data: &[u8]) -> Option<u16> {
    let (name, _, info) = extension(data)?;
    let range = match name {
        b"tcp" | b"udp" => info.get(4..8)?,
        b"sctp" => info.get(..4)?,
        _ => return None,
    };
    let (first, last) = (&range[..2], &range[2..]);
    (first == last).then(|| first.try_into().ok().map(u16::from_ne_bytes))?
}

/// Where the target `DNAT` leads: `struct nf_nat_range`, or of old, for IPv4,
/// `nf_nat_ipv4_multi_range_compat`.
fn target(data: &[u8], is_ipv6: bool) -> Option<IpAddr> {
    let (_, revision, info) = extension(data).filter(|(name, ..)| *name == b"DNAT")?;
    let start = if revision == 0 { 8 } else { 4 };
    address(info.get(start..start + if is_ipv6 { 16 } else { 4 })?, is_ipv6)
}

/// Name, revision and structure of a match or target of iptables.
pub(super) fn extension(data: &[u8]) -> Option<(&[u8], u32, &[u8])> {
    const NFTA_MATCH_NAME: u16 = 1;
    const NFTA_MATCH_REV: u16 = 2;
    const NFTA_MATCH_INFO: u16 = 3;
    let name = find(data, NFTA_MATCH_NAME)?.strip_suffix(&[0])?;
    Some((name, number(data, NFTA_MATCH_REV)?, find(data, NFTA_MATCH_INFO)?))
}

fn address(value: &[u8], is_ipv6: bool) -> Option<IpAddr> {
    if is_ipv6 {
        return <[u8; 16]>::try_from(value).ok().map(IpAddr::from);
    }
    <[u8; 4]>::try_from(value).ok().map(IpAddr::from)
}

/// Name and attributes of each expression of a rule.
pub(super) fn expressions(message: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    const NFTA_EXPR_NAME: u16 = 1;
    const NFTA_EXPR_DATA: u16 = 2;
    let list = find(message.get(NFGENMSG..).unwrap_or_default(), EXPRESSIONS);
    attributes(list.unwrap_or_default()).filter_map(|(_, expression)| {
        let name = find(expression, NFTA_EXPR_NAME)?.strip_suffix(&[0])?;
        Some((name, find(expression, NFTA_EXPR_DATA)?))
    })
}

/// What `NFTA_DATA_VALUE` holds.
pub(super) fn value(data: &[u8]) -> Option<&[u8]> {
    find(data, 1)
}

pub(super) fn number(attributes: &[u8], kind: u16) -> Option<u32> {
    find(attributes, kind)?.try_into().ok().map(u32::from_be_bytes)
}
