//! What a single expression of a rule says of a packet that begins a connection.

use common::filter::elements::port_key;
use common::net::nft::abi::{
    NFT_CMP_EQ, NFT_CMP_GT, NFT_CMP_GTE, NFT_CMP_LT, NFT_CMP_LTE, NFT_CMP_NEQ, NFT_CT_DIRECTION,
    NFT_CT_STATE, NFT_CT_STATUS, NFT_META_IIF, NFT_META_IIFNAME, NFT_META_L4PROTO, NFT_META_MARK,
    NFT_META_NFPROTO, NFT_META_OIFNAME, NFT_META_PROTOCOL, NFT_PAYLOAD_NETWORK_HEADER, STATE_NEW,
};
use common::net::nft::{Expression, Extension, octets};
use common::net::{Family, index_of};
use std::net::IpAddr;

/// A packet that begins a connection which nobody has translated, as far as it is known.
#[derive(Debug, Clone)]
pub(super) struct Packet {
    pub(super) family: Family,
    /// Where it comes from.
    pub(super) source: Option<IpAddr>,
    /// The link of the host by which it comes in.
    pub(super) input: Option<String>,
    /// Its mark, as set by chains before this one.
    pub(super) mark: Option<u32>,
}

/// Whether something is so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Match {
    No,
    Maybe,
    Yes,
}

impl Match {
    fn known(is_so: bool) -> Self {
        if is_so { Self::Yes } else { Self::No }
    }

    pub(super) fn not(self) -> Self {
        match self {
            Self::No => Self::Yes,
            Self::Maybe => Self::Maybe,
            Self::Yes => Self::No,
        }
    }
}

/// The registers that the expressions of a rule load and compare. A byte that is not known is None.
#[derive(Debug, Default)]
pub(super) struct Registers {
    bytes: Vec<Option<u8>>,
    /// Place and length of what was loaded last.
    loaded: Vec<(usize, usize)>,
}

impl Registers {
    /// What was loaded there, if all of it is known.
    pub(super) fn known(&self, at: usize) -> Option<Vec<u8>> {
        let (_, length) = self.loaded.iter().find(|(other, _)| *other == at)?;
        self.read(at, *length)
    }

    /// Whether the rule goes on after an expression that does not decide on the packet.
    pub(super) fn apply(&mut self, expression: &Expression<'_>, packet: &Packet) -> Match {
        match expression {
            Expression::LoadPayload { register, base, offset, length } => {
                let source =
                    (*base == NFT_PAYLOAD_NETWORK_HEADER).then(|| packet.header(*offset, *length));
                self.load(*register, *length, source.flatten().as_deref())
            }
            Expression::LoadMeta { register, key } => {
                let (length, value) = packet.meta(*key);
                self.load(*register, length, value.as_deref())
            }
            Expression::LoadConntrack { register, key } => {
                let (length, value) = conntrack(*key);
                self.load(*register, length, value.as_deref())
            }
            Expression::LoadValue { register, value } => {
                self.load(*register, value.len(), Some(value))
            }
            Expression::Bitwise { from, into, mask, xor } => {
                let value: Option<Vec<_>> = self.read(*from, mask.len()).map(|value| {
                    let bytes = value.iter().zip(mask.iter().zip(*xor));
                    bytes.map(|(byte, (mask, xor))| byte & mask ^ xor).collect()
                });
                self.load(*into, mask.len(), value.as_deref())
            }
            Expression::Compare { register, operator, value } => {
                let found = self.read(*register, value.len());
                found.map_or(Match::Maybe, |found| compare(&found, *operator, value))
            }
            Expression::Match(extension) => self.matches(extension, packet),
            Expression::SetMeta { .. }
            | Expression::Continue
            | Expression::Other("counter" | "log" | "last" | "notrack") => Match::Yes,
            Expression::Target(Extension {
                name: "LOG" | "NFLOG" | "TCPMSS" | "CHECKSUM" | "AUDIT",
                ..
            }) => Match::Yes,
            _ => self.forget(),
        }
    }

    /// A match of iptables, whose structure is the kernel's own.
    fn matches(&mut self, extension: &Extension<'_>, packet: &Packet) -> Match {
        let begins = |states: u32, inverted| Match::known((states & STATE_NEW != 0) != inverted);
        let answer = match extension.name {
            "comment" => Some(Match::Yes),
            // `struct xt_state_info`.
            "state" => extension.word(0).map(|states| begins(states, false)),
            // `struct xt_mark_mtinfo1`.
            "mark" => mark(extension, packet),
            // `struct xt_conntrack_mtinfo2` and its successor, which look at nothing but the state.
            "conntrack" if extension.revision >= 2 => {
                states(extension).map(|(states, is_inverted)| begins(states.into(), is_inverted))
            }
            _ => None,
        };
        answer.unwrap_or_else(|| self.forget())
    }

    fn load(&mut self, at: usize, length: usize, value: Option<&[u8]>) -> Match {
        let end = at + length;
        self.bytes.resize(self.bytes.len().max(end), None);
        for (index, byte) in self.bytes[at..end].iter_mut().enumerate() {
            *byte = value.and_then(|value| value.get(index).copied());
        }
        self.loaded.retain(|(other, _)| *other != at);
        self.loaded.push((at, length));
        Match::Yes
    }

    fn read(&self, at: usize, length: usize) -> Option<Vec<u8>> {
        self.bytes.get(at..at + length)?.iter().copied().collect()
    }

    /// What an unknown expression loads, and whether it matches, is unknown.
    fn forget(&mut self) -> Match {
        *self = Self::default();
        Match::Maybe
    }
}

/// Bytes are compared as `memcmp` does.
fn compare(found: &[u8], operator: u32, value: &[u8]) -> Match {
    match operator {
        NFT_CMP_EQ => Match::known(found == value),
        NFT_CMP_NEQ => Match::known(found != value),
        NFT_CMP_LT => Match::known(found < value),
        NFT_CMP_LTE => Match::known(found <= value),
        NFT_CMP_GT => Match::known(found > value),
        NFT_CMP_GTE => Match::known(found >= value),
        _ => Match::Maybe,
    }
}

fn mark(extension: &Extension<'_>, packet: &Packet) -> Option<Match> {
    let (value, mask) = (extension.word(0)?, extension.word(4)?);
    let is_inverted = *extension.info.get(8)? != 0;
    let known = packet.mark.map(|mark| Match::known((mark & mask == value) != is_inverted));
    Some(known.unwrap_or(Match::Maybe))
}

/// The states that are asked for, and whether it is the others that are meant.
fn states(extension: &Extension<'_>) -> Option<(u16, bool)> {
    const XT_CONNTRACK_STATE: u16 = 1;
    const MATCH_FLAGS: usize = 146;
    const INVERT_FLAGS: usize = 148;
    const STATE_MASK: usize = 150;
    let is_inverted = extension.half(INVERT_FLAGS)? & XT_CONNTRACK_STATE != 0;
    let states = (extension.half(STATE_MASK)?, is_inverted);
    (extension.half(MATCH_FLAGS)? == XT_CONNTRACK_STATE).then_some(states)
}

/// Length and value of what connection tracking knows: nobody has answered yet, nor translated.
/// Numbers of the kernel's own are in host byte order.
fn conntrack(key: u32) -> (usize, Option<Vec<u8>>) {
    match key {
        NFT_CT_STATE => (4, Some(STATE_NEW.to_ne_bytes().to_vec())),
        NFT_CT_DIRECTION => (1, Some(vec![0])),
        NFT_CT_STATUS => (4, Some(vec![0; 4])),
        _ => (16, None),
    }
}

impl Packet {
    /// These bytes of the header of IP, as far as they are of the source's address.
    fn header(&self, offset: usize, length: usize) -> Option<Vec<u8>> {
        let start = if self.family == Family::V6 { 8 } else { 12 };
        let source = self.source.filter(|ip| Family::of(*ip) == self.family).map(octets)?;
        let from = offset.checked_sub(start)?;
        source.get(from..from + length).map(<[u8]>::to_vec)
    }

    /// Length and value of what the kernel knows of the packet.
    fn meta(&self, key: u32) -> (usize, Option<Vec<u8>>) {
        const ETH_P_IP: u16 = 0x0800;
        const ETH_P_IPV6: u16 = 0x86dd;
        const NFPROTO_IPV4: u8 = 2;
        const NFPROTO_IPV6: u8 = 10;
        let (protocol, family) = match self.family {
            Family::V4 => (ETH_P_IP, NFPROTO_IPV4),
            Family::V6 => (ETH_P_IPV6, NFPROTO_IPV6),
        };
        match key {
            NFT_META_PROTOCOL => (2, Some(protocol.to_be_bytes().to_vec())),
            NFT_META_MARK => (4, self.mark.map(|mark| mark.to_ne_bytes().to_vec())),
            NFT_META_IIF => {
                let index = self.input.as_deref().and_then(index_of);
                (4, index.map(|index| index.to_ne_bytes().to_vec()))
            }
            NFT_META_IIFNAME => (16, self.input.as_deref().map(port_key)),
            NFT_META_OIFNAME => (16, None),
            NFT_META_NFPROTO => (1, Some(vec![family])),
            NFT_META_L4PROTO => (1, None),
            _ => (4, None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet() -> Packet {
        let (source, input) = ("10.1.0.2".parse().ok(), Some("br0".to_owned()));
        Packet { family: Family::V4, source, input, mark: Some(0x1000) }
    }

    fn compared(
        what: &Expression<'_>,
        mask: Option<[u8; 4]>,
        operator: u32,
        value: &[u8],
    ) -> Match {
        let (packet, mut registers) = (packet(), Registers::default());
        registers.apply(what, &packet);
        if let Some(mask) = mask {
            let masked = Expression::Bitwise { from: 0, into: 0, mask: &mask, xor: &[0; 4] };
            registers.apply(&masked, &packet);
        }
        registers.apply(&Expression::Compare { register: 0, operator, value }, &packet)
    }

    fn header(offset: usize, length: usize) -> Expression<'static> {
        let base = NFT_PAYLOAD_NETWORK_HEADER;
        Expression::LoadPayload { register: 0, base, offset, length }
    }

    fn meta(key: u32) -> Expression<'static> {
        Expression::LoadMeta { register: 0, key }
    }

    #[test]
    fn what_is_known_decides_and_what_is_not_depends() {
        let (equal, other) = (NFT_CMP_EQ, NFT_CMP_NEQ);
        // Both `ip saddr 10.1.0.0/16`: nft loads no more than the prefix.
        assert_eq!(compared(&header(12, 2), None, equal, &[10, 1]), Match::Yes);
        let mask = Some([255, 255, 0, 0]);
        assert_eq!(compared(&header(12, 4), mask, equal, &[10, 2, 0, 0]), Match::No);
        assert_eq!(compared(&header(16, 4), None, equal, &[10, 2, 0, 0]), Match::Maybe);
        let state = Expression::LoadConntrack { register: 0, key: NFT_CT_STATE };
        let states = |bits: u32| compared(&state, Some(bits.to_ne_bytes()), other, &[0; 4]);
        assert_eq!((states(2 | 4), states(2 | 8)), (Match::No, Match::Yes));
        let bit = 0x1000_u32.to_ne_bytes();
        assert_eq!(compared(&meta(NFT_META_MARK), Some(bit), equal, &bit), Match::Yes);
        let input = meta(NFT_META_IIFNAME);
        assert_eq!(compared(&input, None, equal, b"br"), Match::Yes, "iifname \"br*\"");
        assert_eq!(compared(&input, None, equal, b"br1"), Match::No);
        assert_eq!(compared(&meta(NFT_META_OIFNAME), None, equal, b"br1"), Match::Maybe);
    }

    #[test]
    fn states_of_iptables_are_those_of_nft() {
        let states = |bits: u16, is_inverted: u16| {
            let mut info = vec![0; 160];
            for (at, half) in [(146, 1), (148, is_inverted), (150, bits)] {
                info[at..at + 2].copy_from_slice(&half.to_ne_bytes());
            }
            let extension = Extension { name: "conntrack", revision: 3, info: &info };
            Registers::default().apply(&Expression::Match(extension), &packet())
        };
        assert_eq!((states(2 | 4, 0), states(2 | 4, 1)), (Match::No, Match::Yes));
        assert_eq!(states(8, 0), Match::Yes);
    }
}
