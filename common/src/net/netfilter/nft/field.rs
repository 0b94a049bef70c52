//! What of a packet a rule may look at, and how that gets into the kernel's registers.

use netlink_packet_core::DefaultNla;
use netlink_packet_netfilter::nftables::{Expressions, Payload, Register};

use super::{TableFamily, abi};
use crate::net::{Error, Result};

/// One of a packet's two addresses. Their place is known in tables of family ip and ip6 only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AddressField {
    /// Where it comes from.
    Source,
    /// Where it goes to.
    Destination,
}

/// A piece of a packet, or of what the kernel knows of it. Several of them, one behind the other,
/// are the key of a concatenation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Field {
    /// `ip saddr` or `ip daddr`.
    Address(AddressField),
    /// `meta l4proto`: 6 is TCP.
    Protocol,
    /// `th dport`: of TCP, UDP and SCTP alike.
    DestinationPort,
    /// `ct original ip daddr`: where the connection's first packet was sent to, before anybody
    /// translated it.
    OriginalDestination,
    /// `ct original proto-dst`.
    OriginalPort,
    /// `iifname`: the interface that it came in by.
    Input,
    /// `oifname`: the interface that it leaves by.
    Output,
    /// `ether saddr`.
    SourceMac,
}

/// The size of a register, which is the smallest step between two fields.
const WORD: u32 = 4;

/// The first of sixteen registers of four bytes each.
pub(super) const FIRST: Register = Register::Reg32_00;

/// The register `words` behind the first one.
pub(super) fn register(words: u32) -> Register {
    Register::from(u32::from(FIRST) + words)
}

/// A numeric attribute of an expression that the wire crate has no type for.
pub(super) fn number(kind: u16, value: u32) -> DefaultNla {
    DefaultNla::new(kind, value.to_be_bytes().to_vec())
}

/// Loads the fields one behind the other, as the key of a concatenation.
pub(super) fn load_all(fields: &[Field], family: TableFamily) -> Result<Vec<Expressions>> {
    let mut words = 0;
    let mut steps = Vec::new();
    for field in fields {
        steps.push(field.load(register(words), family)?);
        words += field.length(family)?.div_ceil(WORD);
    }
    Ok(steps)
}

/// How many registers an address takes in tables of this family.
pub(super) fn address_words(family: TableFamily) -> Result<u32> {
    Ok(place(AddressField::Destination, family)?.1 / WORD)
}

impl Field {
    /// In bytes.
    pub(super) fn length(self, family: TableFamily) -> Result<u32> {
        match self {
            Self::Address(address) => Ok(place(address, family)?.1),
            Self::OriginalDestination => Ok(place(AddressField::Destination, family)?.1),
            Self::Protocol => Ok(1),
            Self::DestinationPort | Self::OriginalPort => Ok(2),
            Self::Input | Self::Output => Ok(16),
            Self::SourceMac => Ok(6),
        }
    }

    pub(super) fn load(self, into: Register, family: TableFamily) -> Result<Expressions> {
        match self {
            Self::Address(address) => {
                let (offset, length) = place(address, family)?;
                Ok(payload(into, abi::NFT_PAYLOAD_NETWORK_HEADER, offset, length))
            }
            Self::DestinationPort => Ok(payload(into, abi::NFT_PAYLOAD_TRANSPORT_HEADER, 2, 2)),
            Self::SourceMac => Ok(payload(into, abi::NFT_PAYLOAD_LL_HEADER, 6, 6)),
            Self::Protocol => Ok(meta(into, abi::NFT_META_L4PROTO)),
            Self::Input => Ok(meta(into, abi::NFT_META_IIFNAME)),
            Self::Output => Ok(meta(into, abi::NFT_META_OIFNAME)),
            Self::OriginalPort => Ok(original(into, abi::NFT_CT_PROTO_DST)),
            Self::OriginalDestination => {
                // Older kernels have one key for both families, NFT_CT_DST, which nft cannot list.
                let is_ipv4 = place(AddressField::Destination, family)?.1 == 4;
                let key = if is_ipv4 { abi::NFT_CT_DST_IP } else { abi::NFT_CT_DST_IP6 };
                Ok(original(into, key))
            }
        }
    }
}

fn payload(into: Register, base: u32, offset: u32, length: u32) -> Expressions {
    Expressions::Payload(vec![
        Payload::DestinationRegister(into),
        Payload::Base(base),
        Payload::Offset(offset),
        Payload::Len(length),
    ])
}

/// `enum nft_meta_keys`.
pub(super) fn meta(into: Register, key: u32) -> Expressions {
    const NFTA_META_DREG: u16 = 1;
    const NFTA_META_KEY: u16 = 2;
    let attributes = vec![number(NFTA_META_DREG, into.into()), number(NFTA_META_KEY, key)];
    Expressions::Other { expression_type: "meta".to_owned(), attributes }
}

/// `enum nft_ct_keys`, of the direction in which the connection was begun.
fn original(into: Register, key: u32) -> Expressions {
    const NFTA_CT_DIRECTION: u16 = 3;
    const IP_CT_DIR_ORIGINAL: u8 = 0;
    let Expressions::Other { expression_type, mut attributes } = conntrack(into, key) else {
        return Expressions::Unknown(Vec::new());
    };
    attributes.push(DefaultNla::new(NFTA_CT_DIRECTION, vec![IP_CT_DIR_ORIGINAL]));
    Expressions::Other { expression_type, attributes }
}

/// What connection tracking knows of the packet's connection.
pub(super) fn conntrack(into: Register, key: u32) -> Expressions {
    const NFTA_CT_DREG: u16 = 1;
    const NFTA_CT_KEY: u16 = 2;
    let attributes = vec![number(NFTA_CT_DREG, into.into()), number(NFTA_CT_KEY, key)];
    Expressions::Other { expression_type: "ct".to_owned(), attributes }
}

/// Offset and length of an address in the header of the network layer, in bytes.
fn place(address: AddressField, family: TableFamily) -> Result<(u32, u32)> {
    match (family, address) {
        (TableFamily::Ip, AddressField::Source) => Ok((12, 4)),
        (TableFamily::Ip, AddressField::Destination) => Ok((16, 4)),
        (TableFamily::Ip6, AddressField::Source) => Ok((8, 16)),
        (TableFamily::Ip6, AddressField::Destination) => Ok((24, 16)),
        (TableFamily::Bridge | TableFamily::Inet, _) => Err(Error::new(
            "rule about an address",
            format!("a table of family {family} sees more than one kind of address"),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_loaded_one_behind_the_other() {
        let registers = |fields: &[Field], family| -> Vec<u32> {
            let steps = load_all(fields, family).unwrap();
            let into = |step: &Expressions| match step {
                Expressions::Payload(attributes) => attributes.iter().find_map(|one| match one {
                    Payload::DestinationRegister(register) => Some(u32::from(*register)),
                    _ => None,
                }),
                _ => None,
            };
            steps.iter().filter_map(into).collect()
        };
        let port =
            [Field::Address(AddressField::Destination), Field::Protocol, Field::DestinationPort];
        assert_eq!(registers(&port, TableFamily::Ip), [8, 10]);
        assert_eq!(registers(&port, TableFamily::Ip6), [8, 13]);
        assert_eq!(registers(&[Field::Input, Field::SourceMac], TableFamily::Bridge), [12]);
        assert!(load_all(&port, TableFamily::Bridge).is_err());
    }
}
