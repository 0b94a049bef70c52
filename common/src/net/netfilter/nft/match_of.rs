//! What a single expression of a rule says of a packet that begins a connection.

use std::net::IpAddr;

use super::known::{KnownRule, find};
use super::redirect::{extension, number, value};
use super::{Verdict, octets};
use crate::net::{Family, index_of};

/// A packet that begins a connection which nobody has translated, as far as it is known.
#[derive(Debug, Clone)]
pub struct Packet {
    /// Which kind of packet it is.
    pub family: Family,
    /// Where it comes from.
    pub source: Option<IpAddr>,
    /// The link of the host by which it comes in.
    pub input: Option<String>,
    /// Its mark, as set by chains before this one.
    pub mark: Option<u32>,
}

impl Packet {
    fn is_ipv6(&self) -> bool {
        self.family == Family::V6
    }

    /// As the packet has them.
    fn source_bytes(&self) -> Option<Vec<u8>> {
        self.source.filter(|ip| ip.is_ipv6() == self.is_ipv6()).map(octets)
    }
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

/// An expression, as far as it matters here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    Load {
        into: usize,
        what: Load,
    },
    Mask {
        from: usize,
        into: usize,
        mask: Vec<u8>,
        xor: Vec<u8>,
    },
    Compare {
        register: usize,
        operator: u32,
        value: Vec<u8>,
    },
    Lookup {
        set: String,
        register: usize,
        is_map: bool,
        is_inverted: bool,
    },
    /// None: one that is not known here, as `queue`.
    Verdict(Option<Verdict>),
    /// iptables' match `conntrack` or `state`: which states, and whether the others are meant.
    States(u32, bool),
    /// iptables' match `mark`: value, mask, and whether the others are meant.
    Mark(u32, u32, bool),
    /// Nobody knows the packet's mark after that.
    ChangesMark,
    /// Counts, logs, and lets everything through.
    Nothing,
    /// Whatever it is, it may match or not, and may have changed every register.
    Unknown,
}

/// What is loaded into a register.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Load {
    Value(Vec<u8>),
    /// Offset and length in the header of the network layer.
    Header(usize, usize),
    Meta(u32),
    State,
    Status,
    Direction,
    Else,
}

/// `NF_CT_STATE_BIT(IP_CT_NEW)`, which iptables has in common.
const NEW: u32 = 1 << 3;

/// Sixteen registers of four bytes. What is not known is None.
#[derive(Debug, Default)]
pub(super) struct Registers {
    bytes: Vec<Option<u8>>,
    /// How many bytes were loaded at which place last.
    lengths: Vec<(usize, usize)>,
}

impl Registers {
    fn load(&mut self, at: usize, length: usize, value: Option<&[u8]>) {
        let end = at + length;
        self.bytes.resize(self.bytes.len().max(end), None);
        for (index, byte) in self.bytes[at..end].iter_mut().enumerate() {
            *byte = value.and_then(|value| value.get(index).copied());
        }
        self.lengths.retain(|(other, _)| *other != at);
        self.lengths.push((at, length));
    }

    fn read(&self, at: usize, length: usize) -> Option<Vec<u8>> {
        self.bytes.get(at..at + length)?.iter().copied().collect()
    }

    /// What was loaded there, if all of it is known.
    pub(super) fn known(&self, at: usize) -> Option<Vec<u8>> {
        let (_, length) = self.lengths.iter().find(|(other, _)| *other == at)?;
        self.read(at, *length)
    }

    fn forget(&mut self) {
        self.bytes.clear();
        self.lengths.clear();
    }
}

impl Step {
    /// Whether the rule goes on.
    pub(super) fn apply(&self, packet: &Packet, registers: &mut Registers) -> Match {
        match self {
            Self::Load { into, what } => {
                let (length, value) = what.of(packet);
                registers.load(*into, length, value.as_deref());
                Match::Yes
            }
            Self::Mask { from, into, mask, xor } => {
                let value: Option<Vec<_>> = registers.read(*from, mask.len()).map(|value| {
                    let bytes = value.iter().zip(mask.iter().zip(xor));
                    bytes.map(|(byte, (mask, xor))| byte & mask ^ xor).collect()
                });
                registers.load(*into, mask.len(), value.as_deref());
                Match::Yes
            }
            Self::Compare { register, operator, value } => {
                let Some(found) = registers.read(*register, value.len()) else {
                    return Match::Maybe;
                };
                // `enum nft_cmp_ops`; bytes are compared as `memcmp` does.
                match operator {
                    0 => Match::known(found == *value),
                    1 => Match::known(found != *value),
                    2 => Match::known(found < *value),
                    3 => Match::known(found <= *value),
                    4 => Match::known(found > *value),
                    5 => Match::known(found >= *value),
                    _ => Match::Maybe,
                }
            }
            Self::States(states, is_inverted) => Match::known((states & NEW != 0) != *is_inverted),
            Self::Mark(value, mask, is_inverted) => packet
                .mark
                .map_or(Match::Maybe, |mark| Match::known((mark & mask == *value) != *is_inverted)),
            Self::Nothing => Match::Yes,
            Self::Lookup { .. } | Self::Verdict(_) | Self::ChangesMark | Self::Unknown => {
                registers.forget();
                Match::Maybe
            }
        }
    }
}

impl Load {
    /// How many bytes, and which, if that is known.
    fn of(&self, packet: &Packet) -> (usize, Option<Vec<u8>>) {
        // A number of the kernel's own is in host byte order.
        let number = |number: u32| (4, Some(number.to_ne_bytes().to_vec()));
        match self {
            Self::Value(bytes) => (bytes.len(), Some(bytes.clone())),
            Self::Header(offset, length) => {
                let start = if packet.is_ipv6() { 8 } else { 12 };
                let source = packet.source_bytes();
                let within = offset.checked_sub(start).map(|from| from..from + length);
                let bytes = within.and_then(|range| Some(source?.get(range)?.to_vec()));
                (*length, bytes)
            }
            Self::Meta(key) => meta(*key, packet),
            Self::State => number(NEW),
            Self::Status => number(0),
            Self::Direction => (1, Some(vec![0])),
            Self::Else => (16, None),
        }
    }
}

/// `enum nft_meta_keys`.
fn meta(key: u32, packet: &Packet) -> (usize, Option<Vec<u8>>) {
    match key {
        1 => {
            let protocol: u16 = if packet.is_ipv6() { 0x86dd } else { 0x0800 };
            (2, Some(protocol.to_be_bytes().to_vec()))
        }
        3 => (4, packet.mark.map(|mark| mark.to_ne_bytes().to_vec())),
        4 => {
            let index = packet.input.as_deref().and_then(index_of);
            (4, index.map(|index| index.to_ne_bytes().to_vec()))
        }
        6 => {
            let name = packet.input.as_ref().map(|name| {
                let mut bytes = name.clone().into_bytes();
                bytes.resize(16, 0);
                bytes
            });
            (16, name)
        }
        7 => (16, None),
        15 => (1, Some(vec![if packet.is_ipv6() { 10 } else { 2 }])),
        16 => (1, None),
        _ => (4, None),
    }
}

impl KnownRule {
    /// Its expressions, as far as they matter here.
    pub(super) fn steps(&self) -> Vec<Step> {
        self.expressions().map(|(name, data)| step(name, data).unwrap_or(Step::Unknown)).collect()
    }
}

/// None if it is not understood.
fn step(name: &[u8], data: &[u8]) -> Option<Step> {
    match name {
        b"immediate" => immediate(data),
        b"payload" => {
            const NETWORK: u32 = 1;
            let (into, length) = (register(data, 1)?, size(data, 4)?);
            let what = match number(data, 2)? {
                NETWORK => Load::Header(size(data, 3)?, length),
                _ => Load::Else,
            };
            Some(Step::Load { into, what })
        }
        b"meta" if find(data, 1).is_none() => {
            const NFT_META_MARK: u32 = 3;
            Some(if number(data, 2)? == NFT_META_MARK { Step::ChangesMark } else { Step::Nothing })
        }
        b"meta" => {
            Some(Step::Load { into: register(data, 1)?, what: Load::Meta(number(data, 2)?) })
        }
        b"ct" => {
            let what = match number(data, 2)? {
                0 => Load::State,
                1 => Load::Direction,
                2 => Load::Status,
                _ => Load::Else,
            };
            Some(Step::Load { into: register(data, 1)?, what })
        }
        b"bitwise" => {
            let bytes = |kind| find(data, kind).and_then(value).map(<[u8]>::to_vec);
            let (mask, xor) = (bytes(4)?, bytes(5)?);
            Some(Step::Mask { from: register(data, 1)?, into: register(data, 2)?, mask, xor })
        }
        b"cmp" => {
            let value = find(data, 3).and_then(value)?.to_vec();
            Some(Step::Compare { register: register(data, 1)?, operator: number(data, 2)?, value })
        }
        b"lookup" => {
            let set = find(data, 1)?.strip_suffix(&[0])?;
            let set = String::from_utf8(set.to_vec()).ok()?;
            let is_map = number(data, 3).is_some();
            // A map of values loads one of them.
            if is_map && number(data, 3) != Some(0) {
                return None;
            }
            let is_inverted = number(data, 5).is_some_and(|flags| flags & 1 != 0);
            Some(Step::Lookup { set, register: register(data, 2)?, is_map, is_inverted })
        }
        b"match" => matched(data),
        b"target" => match extension(data)?.0 {
            b"REJECT" => Some(Step::Verdict(Some(Verdict::Drop))),
            b"MARK" | b"CONNMARK" => Some(Step::ChangesMark),
            b"LOG" | b"NFLOG" | b"TCPMSS" | b"CHECKSUM" | b"AUDIT" => Some(Step::Nothing),
            _ => None,
        },
        b"reject" => Some(Step::Verdict(Some(Verdict::Drop))),
        b"queue" => Some(Step::Verdict(None)),
        b"counter" | b"log" | b"last" | b"notrack" => Some(Step::Nothing),
        _ => None,
    }
}

/// A verdict, or a value for a register.
fn immediate(data: &[u8]) -> Option<Step> {
    const NFTA_DATA_VERDICT: u16 = 2;
    let content = find(data, 2)?;
    if let Some(bytes) = value(content) {
        let what = Load::Value(bytes.to_vec());
        return Some(Step::Load { into: register(data, 1)?, what });
    }
    let verdict = find(content, NFTA_DATA_VERDICT)?;
    let code = find(verdict, 1)?.try_into().ok().map(i32::from_be_bytes)?;
    let chain = || {
        let name = find(verdict, 2)?.strip_suffix(&[0])?;
        String::from_utf8(name.to_vec()).ok()
    };
    // `enum nft_verdicts`.
    let verdict = match code {
        0 => Some(Verdict::Drop),
        1 => Some(Verdict::Accept),
        -1 => return Some(Step::Nothing),
        -3 => Some(Verdict::Jump(chain()?)),
        -4 => Some(Verdict::Goto(chain()?)),
        -5 => Some(Verdict::Return),
        _ => None,
    };
    Some(Step::Verdict(verdict))
}

/// A match of iptables, whose structure is the kernel's own.
fn matched(data: &[u8]) -> Option<Step> {
    let (name, revision, info) = extension(data)?;
    let word = |at: usize| info.get(at..at + 4)?.try_into().ok().map(u32::from_ne_bytes);
    let half = |at: usize| info.get(at..at + 2)?.try_into().ok().map(u16::from_ne_bytes);
    match name {
        b"comment" => Some(Step::Nothing),
        b"state" => Some(Step::States(word(0)?, false)),
        b"mark" => Some(Step::Mark(word(0)?, word(4)?, *info.get(8)? != 0)),
        // `struct xt_conntrack_mtinfo2` and its successor, which look at nothing but the state.
        b"conntrack" if revision >= 2 => {
            const XT_CONNTRACK_STATE: u16 = 1;
            let (flags, inverted, states) = (half(146)?, half(148)?, half(150)?);
            (flags == XT_CONNTRACK_STATE)
                .then(|| Step::States(states.into(), inverted & XT_CONNTRACK_STATE != 0))
        }
        _ => None,
    }
}

/// The place of a register in bytes: the kernel numbers those of sixteen bytes from 1, and those of
/// four from 8.
fn register(data: &[u8], kind: u16) -> Option<usize> {
    match usize::try_from(number(data, kind)?).ok()? {
        wide @ 1..=4 => Some((wide - 1) * 16),
        narrow @ 8..=23 => Some((narrow - 8) * 4),
        _ => None,
    }
}

fn size(data: &[u8], kind: u16) -> Option<usize> {
    usize::try_from(number(data, kind)?).ok().filter(|size| *size <= 64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet() -> Packet {
        let (source, input) = ("10.1.0.2".parse().ok(), Some("br0".to_owned()));
        Packet { family: Family::V4, source, input, mark: Some(0x1000) }
    }

    fn compared(what: Load, mask: Option<[u8; 4]>, operator: u32, value: &[u8]) -> Match {
        let (packet, mut registers) = (packet(), Registers::default());
        Step::Load { into: 0, what }.apply(&packet, &mut registers);
        if let Some(mask) = mask {
            let step = Step::Mask { from: 0, into: 0, mask: mask.into(), xor: vec![0; 4] };
            step.apply(&packet, &mut registers);
        }
        let step = Step::Compare { register: 0, operator, value: value.to_vec() };
        step.apply(&packet, &mut registers)
    }

    #[test]
    fn what_is_known_decides_and_what_is_not_depends() {
        let (equal, other) = (0, 1);
        // Both `ip saddr 10.1.0.0/16`: nft loads no more than the prefix.
        assert_eq!(compared(Load::Header(12, 2), None, equal, &[10, 1]), Match::Yes);
        let mask = Some([255, 255, 0, 0]);
        assert_eq!(compared(Load::Header(12, 4), mask, equal, &[10, 2, 0, 0]), Match::No);
        assert_eq!(compared(Load::Header(16, 4), None, equal, &[10, 2, 0, 0]), Match::Maybe);
        let states = |bits: u32| compared(Load::State, Some(bits.to_ne_bytes()), other, &[0; 4]);
        assert_eq!((states(2 | 4), states(2 | 8)), (Match::No, Match::Yes));
        let mark = Some(0x1000_u32.to_ne_bytes());
        assert_eq!(compared(Load::Meta(3), mark, equal, &0x1000_u32.to_ne_bytes()), Match::Yes);
        assert_eq!(compared(Load::Meta(6), None, equal, b"br"), Match::Yes, "iifname \"br*\"");
        assert_eq!(compared(Load::Meta(6), None, equal, b"br1"), Match::No);
        assert_eq!(compared(Load::Meta(7), None, equal, b"br1"), Match::Maybe);
    }

    #[test]
    fn states_of_iptables_are_those_of_nft() {
        let mut registers = Registers::default();
        let mut states =
            |bits, inverted| Step::States(bits, inverted).apply(&packet(), &mut registers);
        assert_eq!((states(2 | 4, false), states(2 | 4, true)), (Match::No, Match::Yes));
        assert_eq!(states(8, false), Match::Yes);
    }
}
