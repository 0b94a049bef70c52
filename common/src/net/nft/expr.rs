//! What rules are made of, and what the kernel is told instead.
//!
//! The kernel's expressions are instructions of a small register machine: load a piece of the
//! packet into a register, mask it, compare it, look it up. One [`Expr`] is what a person would
//! write, and becomes one to three of those.

use std::net::IpAddr;

use ipnetwork::IpNetwork;
use netlink_packet_netfilter::nftables::{
    Bitwise, Cmp, DataAttribute, Expressions, Immediate, Lookup, Operator, Payload, Register,
    Verdict as Code, VerdictAttribute,
};

use super::{Family, checked};
use crate::net::{Error, Result};

/// A part of a rule. The parts apply from left to right, until one does not match.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expr<'a> {
    /// `ip daddr 10.1.0.0/24`: goes on only if the address is in the network. The table has to be
    /// of the network's family.
    Within(Address, IpNetwork),
    /// `ip saddr vmap @map`: what the map says of the address; goes on if it says nothing.
    Vmap(Address, &'a str),
    /// What becomes of the packet.
    Verdict(Verdict),
    /// `masquerade`: the source becomes the address of the interface that the packet leaves by.
    Masquerade,
}

/// One of a packet's two addresses. Their place is known in tables of family ip and ip6 only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Address {
    /// Where it comes from.
    Source,
    /// Where it goes to.
    Destination,
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
    pub(super) fn compile(&self, family: Family) -> Result<Vec<Expressions>> {
        match self {
            Self::Within(address, network) => within(*address, *network, family),
            Self::Vmap(address, map) => {
                Ok(vec![load(*address, family)?, look_up(checked("map", map)?)])
            }
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

fn within(address: Address, network: IpNetwork, family: Family) -> Result<Vec<Expressions>> {
    let length = u8::try_from(place(address, family)?.1 * 8).unwrap_or(u8::MAX);
    let (wanted, mask) = (octets(network.network()), octets(network.mask()));
    if wanted.len() * 8 != usize::from(length) {
        return Err(Error::new(
            format!("rule about network {network}"),
            format!("it cannot be in a table of family {family}"),
        ));
    }
    let mut steps = vec![load(address, family)?];
    // A single address needs no mask; nft would list it as `& 255.255.255.255 ==`.
    if network.prefix() != length {
        steps.push(Expressions::Bitwise(vec![
            Bitwise::SourceRegister(Register::Reg1),
            Bitwise::DestinationRegister(Register::Reg1),
            Bitwise::Length(u32::from(length / 8)),
            Bitwise::Xor(DataAttribute::Value(vec![0; mask.len()])),
            Bitwise::Mask(DataAttribute::Value(mask)),
        ]));
    }
    steps.push(Expressions::Cmp(vec![
        Cmp::SourceRegister(Register::Reg1),
        Cmp::Op(Operator::Equal),
        Cmp::Data(DataAttribute::Value(wanted)),
    ]));
    Ok(steps)
}

/// Offset and length of an address in the header of the network layer, in bytes.
fn place(address: Address, family: Family) -> Result<(u32, u32)> {
    match (family, address) {
        (Family::Ip, Address::Source) => Ok((12, 4)),
        (Family::Ip, Address::Destination) => Ok((16, 4)),
        (Family::Ip6, Address::Source) => Ok((8, 16)),
        (Family::Ip6, Address::Destination) => Ok((24, 16)),
        (Family::Bridge | Family::Inet, _) => Err(Error::new(
            "rule about an address",
            format!("a table of family {family} sees more than one kind of address"),
        )),
    }
}

fn load(address: Address, family: Family) -> Result<Expressions> {
    const NFT_PAYLOAD_NETWORK_HEADER: u32 = 1;
    let (offset, length) = place(address, family)?;
    Ok(Expressions::Payload(vec![
        Payload::DestinationRegister(Register::Reg1),
        Payload::Base(NFT_PAYLOAD_NETWORK_HEADER),
        Payload::Offset(offset),
        Payload::Len(length),
    ]))
}

fn look_up(map: String) -> Expressions {
    Expressions::Lookup(vec![
        Lookup::Set(map),
        Lookup::SourceRegister(Register::Reg1),
        Lookup::DestinationRegister(Register::Verdict),
    ])
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

/// `NF_DROP` and `NF_ACCEPT`, which the kernel has in common with all of netfilter.
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

    fn mask_and_value(network: &str, family: Family) -> (Option<Vec<u8>>, Vec<u8>) {
        let expr = Expr::Within(Address::Destination, network.parse().unwrap());
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
        let masked = mask_and_value("10.1.0.77/20", Family::Ip);
        assert_eq!(masked, (Some(vec![255, 255, 240, 0]), vec![10, 1, 0, 0]));
        let (mask, value) = mask_and_value("ff00::/8", Family::Ip6);
        assert_eq!(mask.unwrap()[..2], [255, 0]);
        assert_eq!(value[..2], [255, 0]);
        assert_eq!(mask_and_value("10.1.0.7/32", Family::Ip), (None, vec![10, 1, 0, 7]));
        assert_eq!(mask_and_value("::1/128", Family::Ip6).0, None);
    }

    #[test]
    fn an_address_has_no_place_in_a_table_of_another_family() {
        let expr = Expr::Within(Address::Source, "10.0.0.0/8".parse().unwrap());
        for family in [Family::Ip6, Family::Inet, Family::Bridge] {
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
