//! Rules that we write, and the kernel's expressions that they become.
//!
//! The kernel's expressions are instructions of a small register machine: load a piece of the
//! packet into a register, mask it, compare it, look it up. One [`Expr`] is what a person would
//! write, and becomes one to three of those.

use std::net::IpAddr;

use ipnetwork::IpNetwork;
use netlink_packet_netfilter::NetfilterProtoFamily;
use netlink_packet_netfilter::nftables::{
    Bitwise, Cmp, DataAttribute, Expressions, Immediate, Lookup, Operator, Register,
    Verdict as Code, VerdictAttribute,
};

use super::field::{self, FIRST, number};
use super::{AddressField, Field, TableFamily, abi, checked};
use crate::net::{Error, Result};

/// A part of a rule. The parts apply from left to right, until one does not match.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expr<'a> {
    /// `ip daddr 10.1.0.0/24`: goes on only if the address is in the network. The table has to be
    /// of the network's family.
    Within(AddressField, IpNetwork),
    /// `ip daddr != 10.1.0.0/24`: goes on only if the address is not in the network.
    Outside(AddressField, IpNetwork),
    /// `meta l4proto 6`: goes on only if the field has this value, in network byte order.
    Is(Field, &'a [u8]),
    /// `iifname != "lo"`: goes on only if the field has another value.
    IsNot(Field, &'a [u8]),
    /// `iifname . ether saddr @set`: goes on only if the set has the fields' values.
    In(&'a [Field], &'a str),
    /// `iifname . ether saddr != @set`: goes on only if the set does not have them.
    NotIn(&'a [Field], &'a str),
    /// `fib daddr type local`: goes on only if the packet is for an address of this host.
    ForThisHost,
    /// `ct status dnat`: goes on only if the connection's destination has been translated.
    Redirected,
    /// `ct state established,related`: goes on only if the packet belongs to a connection that has
    /// been answered, or is about one.
    Answered,
    /// `meta mark set meta mark | 0x1000`: adds these bits to the packet's mark, which every other
    /// table sees, too. Goes on.
    Mark(u32),
    /// `ip saddr vmap @map`: what the map says of the fields; goes on if it says nothing.
    Vmap(&'a [Field], &'a str),
    /// `dnat to ip daddr . th dport map @map`: the destination becomes what the map says of the
    /// fields; goes on if it says nothing.
    Dnat(&'a [Field], &'a str, DnatTarget),
    /// What becomes of the packet.
    Verdict(Verdict),
    /// `masquerade`: the source becomes the address of the interface that the packet leaves by.
    Masquerade,
}

/// What the values of a map are that a destination is translated to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DnatTarget {
    /// An address; the port stays as it is.
    Address,
    /// An address and a port, concatenated.
    AddressAndPort,
}

/// What becomes of a packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It leaves this hook's chain. Later chains still see it.
    Accept,
    /// It is gone.
    Drop,
    /// Back to the chain that jumped here; to the policy, if none did.
    Return,
    /// On to a chain of the same table, and back here if that does not decide.
    Jump(String),
    /// On to a chain of the same table, never back.
    Goto(String),
}

impl Expr<'_> {
    pub(super) fn compile(&self, family: TableFamily) -> Result<Vec<Expressions>> {
        match self {
            Self::Within(address, network) => within(*address, *network, Operator::Equal, family),
            Self::Outside(address, network) => {
                within(*address, *network, Operator::NotEqual, family)
            }
            Self::Is(field, value) => compare(*field, value, Operator::Equal, family),
            Self::IsNot(field, value) => compare(*field, value, Operator::NotEqual, family),
            Self::In(fields, set) => member(fields, set, None, family),
            Self::NotIn(fields, set) => {
                const NFT_LOOKUP_F_INV: u32 = 1;
                member(fields, set, Some(Lookup::Flags(NFT_LOOKUP_F_INV)), family)
            }
            Self::ForThisHost => Ok(for_this_host()),
            Self::Redirected => Ok(redirected()),
            Self::Answered => Ok(answered()),
            Self::Mark(bits) => Ok(mark(*bits)),
            Self::Vmap(fields, map) => {
                let verdict = Lookup::DestinationRegister(Register::Verdict);
                member(fields, map, Some(verdict), family)
            }
            Self::Dnat(fields, map, target) => dnat(fields, map, *target, family),
            Self::Verdict(verdict) => Ok(vec![Expressions::Immediate(vec![
                Immediate::DestinationRegister(Register::Verdict),
                Immediate::Data(verdict.encode()?),
            ])]),
            Self::Masquerade => Ok(vec![Expressions::Other {
                expression_type: "masq".to_owned(),
                attributes: Vec::new(),
            }]),
        }
    }
}

fn within(
    address: AddressField,
    network: IpNetwork,
    operator: Operator,
    family: TableFamily,
) -> Result<Vec<Expressions>> {
    let field = Field::Address(address);
    let length = u8::try_from(field.length(family)? * 8).unwrap_or(u8::MAX);
    let (wanted, mask) = (octets(network.network()), octets(network.mask()));
    if wanted.len() * 8 != usize::from(length) {
        return Err(Error::new(
            format!("rule about network {network}"),
            format!("it cannot be in a table of family {family}"),
        ));
    }
    let mut steps = vec![field.load(FIRST, family)?];
    // A single address needs no mask; nft would list it as `& 255.255.255.255 ==`.
    if network.prefix() != length {
        steps.push(masked(mask));
    }
    steps.push(cmp(operator, wanted));
    Ok(steps)
}

fn compare(
    field: Field,
    value: &[u8],
    operator: Operator,
    family: TableFamily,
) -> Result<Vec<Expressions>> {
    Ok(vec![field.load(FIRST, family)?, cmp(operator, value.to_vec())])
}

/// Keeps of the first register what the mask has.
fn masked(mask: Vec<u8>) -> Expressions {
    let none = vec![0; mask.len()];
    bitwise(mask, none)
}

/// Keeps of the first register what the mask has, and flips what `xor` has.
fn bitwise(mask: Vec<u8>, xor: Vec<u8>) -> Expressions {
    let length = u32::try_from(mask.len()).unwrap_or(u32::MAX);
    Expressions::Bitwise(vec![
        Bitwise::SourceRegister(FIRST),
        Bitwise::DestinationRegister(FIRST),
        Bitwise::Length(length),
        Bitwise::Xor(DataAttribute::Value(xor)),
        Bitwise::Mask(DataAttribute::Value(mask)),
    ])
}

fn cmp(operator: Operator, value: Vec<u8>) -> Expressions {
    Expressions::Cmp(vec![
        Cmp::SourceRegister(FIRST),
        Cmp::Op(operator),
        Cmp::Data(DataAttribute::Value(value)),
    ])
}

/// Looks the fields up; `more` says what for.
fn member(
    fields: &[Field],
    set: &str,
    more: Option<Lookup>,
    family: TableFamily,
) -> Result<Vec<Expressions>> {
    let mut steps = field::load_all(fields, family)?;
    let mut lookup = vec![Lookup::Set(checked("set", set)?), Lookup::SourceRegister(FIRST)];
    lookup.extend(more);
    steps.push(Expressions::Lookup(lookup));
    Ok(steps)
}

/// Numbers of the kernel's own, as of the next two, are in host byte order.
fn for_this_host() -> Vec<Expressions> {
    const NFTA_FIB_DREG: u16 = 1;
    const NFTA_FIB_RESULT: u16 = 2;
    const NFTA_FIB_FLAGS: u16 = 3;
    const NFT_FIB_RESULT_ADDRTYPE: u32 = 3;
    const NFTA_FIB_F_DADDR: u32 = 2;
    const RTN_LOCAL: u32 = 2;
    let attributes = vec![
        number(NFTA_FIB_DREG, FIRST.into()),
        number(NFTA_FIB_RESULT, NFT_FIB_RESULT_ADDRTYPE),
        number(NFTA_FIB_FLAGS, NFTA_FIB_F_DADDR),
    ];
    let fib = Expressions::Other { expression_type: "fib".to_owned(), attributes };
    vec![fib, cmp(Operator::Equal, RTN_LOCAL.to_ne_bytes().to_vec())]
}

fn redirected() -> Vec<Expressions> {
    any_of(abi::NFT_CT_STATUS, abi::IPS_DST_NAT)
}

fn answered() -> Vec<Expressions> {
    any_of(abi::NFT_CT_STATE, abi::STATE_ESTABLISHED | abi::STATE_RELATED)
}

/// What connection tracking knows has at least one of these bits.
fn any_of(key: u32, bits: u32) -> Vec<Expressions> {
    let bits = bits.to_ne_bytes().to_vec();
    let none = vec![0; bits.len()];
    vec![field::conntrack(FIRST, key), masked(bits), cmp(Operator::NotEqual, none)]
}

fn mark(bits: u32) -> Vec<Expressions> {
    const NFTA_META_KEY: u16 = 2;
    const NFTA_META_SREG: u16 = 3;
    let others = (!bits).to_ne_bytes().to_vec();
    let attributes =
        vec![number(NFTA_META_KEY, abi::NFT_META_MARK), number(NFTA_META_SREG, FIRST.into())];
    vec![
        field::meta(FIRST, abi::NFT_META_MARK),
        bitwise(others, bits.to_ne_bytes().to_vec()),
        Expressions::Other { expression_type: "meta".to_owned(), attributes },
    ]
}

fn dnat(
    fields: &[Field],
    map: &str,
    target: DnatTarget,
    family: TableFamily,
) -> Result<Vec<Expressions>> {
    const NFTA_NAT_TYPE: u16 = 1;
    const NFTA_NAT_FAMILY: u16 = 2;
    const NFTA_NAT_REG_ADDR_MIN: u16 = 3;
    const NFTA_NAT_REG_PROTO_MIN: u16 = 5;
    const NFT_NAT_DNAT: u32 = 1;
    let mut steps = member(fields, map, Some(Lookup::DestinationRegister(FIRST)), family)?;
    let mut attributes = vec![
        number(NFTA_NAT_TYPE, NFT_NAT_DNAT),
        number(NFTA_NAT_FAMILY, u8::from(NetfilterProtoFamily::from(family)).into()),
        number(NFTA_NAT_REG_ADDR_MIN, FIRST.into()),
    ];
    if target == DnatTarget::AddressAndPort {
        let port = field::register(field::address_words(family)?);
        attributes.push(number(NFTA_NAT_REG_PROTO_MIN, port.into()));
    }
    steps.push(Expressions::Other { expression_type: "nat".to_owned(), attributes });
    Ok(steps)
}

/// The address that these bytes of a packet are.
pub fn address(octets: &[u8]) -> Option<IpAddr> {
    let v4 = <[u8; 4]>::try_from(octets).map(IpAddr::from);
    v4.or_else(|_| <[u8; 16]>::try_from(octets).map(IpAddr::from)).ok()
}

/// An address as the packet has it.
pub fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

/// `NF_DROP` and `NF_ACCEPT` of linux/netfilter.h, which the wire crate has no names for.
const DROP: Code = Code::Other(0);
const ACCEPT: Code = Code::Other(1);

impl Verdict {
    pub(super) fn encode(&self) -> Result<DataAttribute> {
        let (code, chain) = match self {
            Self::Accept => (ACCEPT, None),
            Self::Drop => (DROP, None),
            Self::Return => (Code::Return, None),
            Self::Jump(chain) => (Code::Jump, Some(chain)),
            Self::Goto(chain) => (Code::Goto, Some(chain)),
        };
        let mut attributes = vec![VerdictAttribute::Code(code)];
        if let Some(chain) = chain {
            attributes.push(VerdictAttribute::Chain(checked("chain", chain)?));
        }
        Ok(DataAttribute::Verdict(attributes))
    }

    /// None for a verdict that this module cannot give.
    pub(super) fn decode(attributes: &[VerdictAttribute]) -> Option<Self> {
        let chain = attributes.iter().find_map(|attribute| match attribute {
            VerdictAttribute::Chain(name) => Some(name.clone()),
            _ => None,
        });
        let code = attributes.iter().find_map(|attribute| match attribute {
            VerdictAttribute::Code(code) => Some(*code),
            _ => None,
        });
        match code? {
            ACCEPT => Some(Self::Accept),
            DROP => Some(Self::Drop),
            Code::Return => Some(Self::Return),
            Code::Jump => chain.map(Self::Jump),
            Code::Goto => chain.map(Self::Goto),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mask_and_value(network: &str, family: TableFamily) -> (Option<Vec<u8>>, Vec<u8>) {
        let expr = Expr::Within(AddressField::Destination, network.parse().unwrap());
        let (mut mask, mut value) = (None, Vec::new());
        for step in expr.compile(family).unwrap() {
            match step {
                Expressions::Bitwise(attributes) => {
                    mask = attributes.into_iter().find_map(|attribute| match attribute {
                        Bitwise::Mask(DataAttribute::Value(mask)) => Some(mask),
                        _ => None,
                    });
                }
                Expressions::Cmp(attributes) => {
                    if let Some(Cmp::Data(DataAttribute::Value(data))) = attributes.last() {
                        value.clone_from(data);
                    }
                }
                _ => {}
            }
        }
        (mask, value)
    }

    #[test]
    fn a_prefix_becomes_a_mask_and_the_network_address() {
        let masked = mask_and_value("10.1.0.77/20", TableFamily::Ip);
        assert_eq!(masked, (Some(vec![255, 255, 240, 0]), vec![10, 1, 0, 0]));
        let (mask, value) = mask_and_value("ff00::/8", TableFamily::Ip6);
        assert_eq!(mask.unwrap()[..2], [255, 0]);
        assert_eq!(value[..2], [255, 0]);
        assert_eq!(mask_and_value("10.1.0.7/32", TableFamily::Ip), (None, vec![10, 1, 0, 7]));
        assert_eq!(mask_and_value("::1/128", TableFamily::Ip6).0, None);
    }

    #[test]
    fn an_address_has_no_place_in_a_table_of_another_family() {
        let expr = Expr::Within(AddressField::Source, "10.0.0.0/8".parse().unwrap());
        for family in [TableFamily::Ip6, TableFamily::Inet, TableFamily::Bridge] {
            assert!(expr.compile(family).is_err(), "{family}");
        }
    }

    #[test]
    fn verdicts_survive_the_way_there_and_back() {
        let chain = || "masq_x".to_owned();
        for verdict in [
            Verdict::Accept,
            Verdict::Drop,
            Verdict::Return,
            Verdict::Jump(chain()),
            Verdict::Goto(chain()),
        ] {
            let DataAttribute::Verdict(attributes) = verdict.encode().unwrap() else {
                panic!("{verdict:?} is no verdict")
            };
            assert_eq!(Verdict::decode(&attributes), Some(verdict));
        }
        assert_eq!(Verdict::decode(&[VerdictAttribute::Code(Code::Continue)]), None);
    }
}
