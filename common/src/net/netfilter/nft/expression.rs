//! What a rule says that is there, whosever it is.
//!
//! The kernel lists a rule as the instructions of a small register machine (nft(8) writes them for
//! its own language), and those that iptables has added as its matches and targets, whose contents
//! are structures of the kernel.

use netlink_packet_core::{NlasIterator, Parseable as _};
use netlink_packet_netfilter::nftables::{Verdict as Code, VerdictAttribute};

use super::Verdict;
use crate::net::netfilter::nfnetlink::{attributes, find, number};

/// One instruction of a rule.
///
/// A register is told by its place in bytes: there are sixteen of four bytes each, and wide ones
/// that are made of four of them. Keys and operators are the numbers in [`abi`](super::abi).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expression<'a> {
    /// `payload`: loads a part of one of the packet's headers.
    LoadPayload {
        /// Where to.
        register: usize,
        /// Which header: `NFT_PAYLOAD_`.
        base: u32,
        /// In bytes, from the beginning of that header.
        offset: usize,
        /// In bytes.
        length: usize,
    },
    /// `meta`: loads what the kernel knows of the packet.
    LoadMeta {
        /// Where to.
        register: usize,
        /// What: `NFT_META_`.
        key: u32,
    },
    /// `ct`: loads what the kernel knows of the packet's connection.
    LoadConntrack {
        /// Where to.
        register: usize,
        /// What: `NFT_CT_`.
        key: u32,
    },
    /// `immediate`: loads a value.
    LoadValue {
        /// Where to.
        register: usize,
        /// What.
        value: &'a [u8],
    },
    /// `meta`: sets what the kernel knows of the packet.
    SetMeta {
        /// What: `NFT_META_`.
        key: u32,
    },
    /// `bitwise`: loads the bytes of one register into another, as `bytes & mask ^ xor`.
    Bitwise {
        /// Where from.
        from: usize,
        /// Where to.
        into: usize,
        /// Which bits are kept.
        mask: &'a [u8],
        /// Which bits are flipped then.
        xor: &'a [u8],
    },
    /// `cmp`: the rule goes on only if the comparison holds.
    Compare {
        /// What is compared.
        register: usize,
        /// How: `NFT_CMP_`.
        operator: u32,
        /// What with.
        value: &'a [u8],
    },
    /// `lookup`: the rule goes on only if the set has what is in the register.
    Lookup {
        /// The set.
        set: &'a str,
        /// What is looked for.
        register: usize,
        /// Only if it has not.
        is_inverted: bool,
    },
    /// `lookup`: the verdict that a map leads to; the rule goes on if it leads nowhere.
    LookupVerdict {
        /// The map.
        map: &'a str,
        /// What is looked for.
        register: usize,
    },
    /// `immediate`: what becomes of the packet.
    Verdict(Verdict),
    /// `immediate`: on to the next rule (`NFT_CONTINUE`).
    Continue,
    /// A match of iptables: the rule goes on only if it matches.
    Match(Extension<'a>),
    /// A target of iptables.
    Target(Extension<'a>),
    /// Any other, by its name; also one of the above that this module cannot decode.
    Other(&'a str),
}

/// A match or a target of iptables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extension<'a> {
    /// As iptables calls it.
    pub name: &'a str,
    /// Which of its structures `info` is.
    pub revision: u32,
    /// The structure, in the byte order of this host.
    pub info: &'a [u8],
}

impl Extension<'_> {
    /// The 16 bits at an offset of the structure.
    pub fn half(&self, offset: usize) -> Option<u16> {
        self.info.get(offset..offset + 2)?.try_into().ok().map(u16::from_ne_bytes)
    }

    /// The 32 bits at an offset of the structure.
    pub fn word(&self, offset: usize) -> Option<u32> {
        self.info.get(offset..offset + 4)?.try_into().ok().map(u32::from_ne_bytes)
    }
}

/// The expressions in the attributes of a rule.
pub(super) fn of_rule(rule: &[u8]) -> impl Iterator<Item = Expression<'_>> {
    const NFTA_RULE_EXPRESSIONS: u16 = 4;
    const NFTA_EXPR_NAME: u16 = 1;
    const NFTA_EXPR_DATA: u16 = 2;
    let list = find(rule, NFTA_RULE_EXPRESSIONS).unwrap_or_default();
    attributes(list).filter_map(|(_, expression)| {
        let name = string(find(expression, NFTA_EXPR_NAME)?)?;
        // Some have no attributes, as `notrack`.
        let data = find(expression, NFTA_EXPR_DATA).unwrap_or_default();
        Some(decode(name, data).unwrap_or(Expression::Other(name)))
    })
}

/// None if it cannot be decoded.
fn decode<'a>(name: &str, data: &'a [u8]) -> Option<Expression<'a>> {
    match name {
        "payload" => payload(data),
        "meta" => meta(data),
        "ct" => {
            const NFTA_CT_DREG: u16 = 1;
            const NFTA_CT_KEY: u16 = 2;
            let (register, key) = (register(data, NFTA_CT_DREG)?, number(data, NFTA_CT_KEY)?);
            Some(Expression::LoadConntrack { register, key })
        }
        "immediate" => immediate(data),
        "bitwise" => bitwise(data),
        "cmp" => {
            const NFTA_CMP_SREG: u16 = 1;
            const NFTA_CMP_OP: u16 = 2;
            const NFTA_CMP_DATA: u16 = 3;
            let (register, operator) = (register(data, NFTA_CMP_SREG)?, number(data, NFTA_CMP_OP)?);
            Some(Expression::Compare { register, operator, value: value(data, NFTA_CMP_DATA)? })
        }
        "lookup" => lookup(data),
        "match" => extension(data).map(Expression::Match),
        "target" => extension(data).map(Expression::Target),
        _ => None,
    }
}

fn payload(data: &[u8]) -> Option<Expression<'_>> {
    // One without a register writes to the packet.
    const NFTA_PAYLOAD_DREG: u16 = 1;
    const NFTA_PAYLOAD_BASE: u16 = 2;
    const NFTA_PAYLOAD_OFFSET: u16 = 3;
    const NFTA_PAYLOAD_LEN: u16 = 4;
    Some(Expression::LoadPayload {
        register: register(data, NFTA_PAYLOAD_DREG)?,
        base: number(data, NFTA_PAYLOAD_BASE)?,
        offset: usize::try_from(number(data, NFTA_PAYLOAD_OFFSET)?).ok()?,
        length: usize::try_from(number(data, NFTA_PAYLOAD_LEN)?).ok().filter(|it| *it <= ALL)?,
    })
}

fn meta(data: &[u8]) -> Option<Expression<'_>> {
    const NFTA_META_DREG: u16 = 1;
    const NFTA_META_KEY: u16 = 2;
    let key = number(data, NFTA_META_KEY)?;
    if find(data, NFTA_META_DREG).is_none() {
        return Some(Expression::SetMeta { key });
    }
    Some(Expression::LoadMeta { register: register(data, NFTA_META_DREG)?, key })
}

fn bitwise(data: &[u8]) -> Option<Expression<'_>> {
    const NFTA_BITWISE_SREG: u16 = 1;
    const NFTA_BITWISE_DREG: u16 = 2;
    const NFTA_BITWISE_MASK: u16 = 4;
    const NFTA_BITWISE_XOR: u16 = 5;
    Some(Expression::Bitwise {
        from: register(data, NFTA_BITWISE_SREG)?,
        into: register(data, NFTA_BITWISE_DREG)?,
        mask: value(data, NFTA_BITWISE_MASK)?,
        xor: value(data, NFTA_BITWISE_XOR)?,
    })
}

fn lookup(data: &[u8]) -> Option<Expression<'_>> {
    const NFTA_LOOKUP_SET: u16 = 1;
    const NFTA_LOOKUP_SREG: u16 = 2;
    const NFTA_LOOKUP_DREG: u16 = 3;
    const NFTA_LOOKUP_FLAGS: u16 = 5;
    const NFT_LOOKUP_F_INV: u32 = 1;
    const NFT_REG_VERDICT: u32 = 0;
    let set = string(find(data, NFTA_LOOKUP_SET)?)?;
    let register = register(data, NFTA_LOOKUP_SREG)?;
    let flags = number(data, NFTA_LOOKUP_FLAGS).unwrap_or_default();
    match number(data, NFTA_LOOKUP_DREG) {
        None => {
            let is_inverted = flags & NFT_LOOKUP_F_INV != 0;
            Some(Expression::Lookup { set, register, is_inverted })
        }
        Some(NFT_REG_VERDICT) => Some(Expression::LookupVerdict { map: set, register }),
        // A map of values, one of which is loaded.
        Some(_) => None,
    }
}

/// A verdict, or a value for a register.
fn immediate(data: &[u8]) -> Option<Expression<'_>> {
    const NFTA_IMMEDIATE_DREG: u16 = 1;
    const NFTA_IMMEDIATE_DATA: u16 = 2;
    const NFTA_DATA_VERDICT: u16 = 2;
    if let Some(value) = value(data, NFTA_IMMEDIATE_DATA) {
        return Some(Expression::LoadValue {
            register: register(data, NFTA_IMMEDIATE_DREG)?,
            value,
        });
    }
    let verdict = NlasIterator::new(find(find(data, NFTA_IMMEDIATE_DATA)?, NFTA_DATA_VERDICT)?);
    let attributes = verdict.map(|attribute| VerdictAttribute::parse(&attribute?));
    let attributes = attributes.collect::<Result<Vec<_>, _>>().ok()?;
    if attributes.contains(&VerdictAttribute::Code(Code::Continue)) {
        return Some(Expression::Continue);
    }
    Verdict::decode(&attributes).map(Expression::Verdict)
}

/// Matches and targets have the same attributes.
fn extension(data: &[u8]) -> Option<Extension<'_>> {
    const NFTA_MATCH_NAME: u16 = 1;
    const NFTA_MATCH_REV: u16 = 2;
    const NFTA_MATCH_INFO: u16 = 3;
    Some(Extension {
        name: string(find(data, NFTA_MATCH_NAME)?)?,
        revision: number(data, NFTA_MATCH_REV)?,
        info: find(data, NFTA_MATCH_INFO)?,
    })
}

/// The bytes of all registers.
const ALL: usize = 64;

/// The place of a register in bytes: the kernel numbers the wide ones from 1, and the others from 8
/// (`enum nft_registers`).
fn register(data: &[u8], kind: u16) -> Option<usize> {
    match usize::try_from(number(data, kind)?).ok()? {
        wide @ 1..=4 => Some((wide - 1) * 16),
        narrow @ 8..=23 => Some((narrow - 8) * 4),
        _ => None,
    }
}

/// The `NFTA_DATA_VALUE` of an attribute.
fn value(data: &[u8], kind: u16) -> Option<&[u8]> {
    const NFTA_DATA_VALUE: u16 = 1;
    find(find(data, kind)?, NFTA_DATA_VALUE)
}

fn string(value: &[u8]) -> Option<&str> {
    std::str::from_utf8(value.strip_suffix(&[0])?).ok()
}

#[cfg(test)]
mod tests {
    use super::super::abi::{NFT_CMP_EQ, NFT_META_IIFNAME};
    use super::super::known::attribute;
    use super::*;

    fn expression(name: &str, data: &[Vec<u8>]) -> Vec<u8> {
        let name = attribute(1, &[name.as_bytes(), &[0]].concat());
        attribute(1, &[name, attribute(2, &data.concat())].concat())
    }

    fn number(kind: u16, number: u32) -> Vec<u8> {
        attribute(kind, &number.to_be_bytes())
    }

    #[test]
    fn a_rule_is_what_it_says() {
        let value = attribute(3, &attribute(1, b"br0\0"));
        let jump =
            attribute(2, &[number(1, (-3_i32).cast_unsigned()), attribute(2, b"x\0")].concat());
        let list = [
            expression("meta", &[number(1, 1), number(2, NFT_META_IIFNAME)]),
            expression("cmp", &[number(1, 9), number(2, NFT_CMP_EQ), value]),
            expression("lookup", &[attribute(1, b"s\0"), number(2, 8), number(5, 1)]),
            expression("lookup", &[attribute(1, b"m\0"), number(2, 8), number(3, 0)]),
            expression("counter", &[]),
            expression("payload", &[number(1, 8)]),
            expression("match", &[attribute(1, b"mark\0"), number(2, 1), attribute(3, &[7; 8])]),
            expression("immediate", &[number(1, 0), attribute(2, &jump)]),
        ];
        let rule = attribute(4, &list.concat());
        let extension = Extension { name: "mark", revision: 1, info: &[7; 8] };
        assert_eq!(
            of_rule(&rule).collect::<Vec<_>>(),
            [
                Expression::LoadMeta { register: 0, key: NFT_META_IIFNAME },
                Expression::Compare { register: 4, operator: NFT_CMP_EQ, value: b"br0\0" },
                Expression::Lookup { set: "s", register: 0, is_inverted: true },
                Expression::LookupVerdict { map: "m", register: 0 },
                Expression::Other("counter"),
                Expression::Other("payload"),
                Expression::Match(extension),
                Expression::Verdict(Verdict::Jump("x".to_owned())),
            ]
        );
        assert_eq!((extension.half(6), extension.word(5)), (Some(0x0707), None));
    }
}
