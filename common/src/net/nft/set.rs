//! Sets, maps and what is in them.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};

use netlink_packet_core::DefaultNla;
use netlink_packet_netfilter::nftables::{
    DataAttribute, ListAttribute, SetAttribute, SetDescription, SetElementAttribute,
    SetElementList, SetElementMessage, SetFlags, SetMessage,
};

use super::{Table, Verdict, checked, comment};
use crate::net::Result;

/// What a key or a value is. The kernel only cares for its length; the rest tells `nft list` how
/// to print it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Datatype {
    /// `ipv4_addr`: 4 bytes.
    Ipv4Addr,
    /// `ipv6_addr`: 16 bytes.
    Ipv6Addr,
    /// `ether_addr`: 6 bytes.
    EtherAddr,
    /// `inet_proto`: 1 byte, 6 is TCP.
    InetProto,
    /// `inet_service`: a port, 2 bytes, big-endian.
    InetService,
    /// `ifname`: 16 bytes, filled up with NUL.
    IfName,
}

impl Datatype {
    /// `enum datatypes` of nft's `datatype.h`, and the length in bytes.
    fn layout(self) -> (u32, u32) {
        match self {
            Self::Ipv4Addr => (7, 4),
            Self::Ipv6Addr => (8, 16),
            Self::EtherAddr => (9, 6),
            Self::InetProto => (12, 1),
            Self::InetService => (13, 2),
            Self::IfName => (41, 16),
        }
    }
}

/// Type and length of one datatype or of a concatenation: six bits for each type, and each field
/// begins at a multiple of four bytes, for that is the size of a register.
fn layout(fields: &[Datatype]) -> (u32, u32) {
    if let [only] = fields {
        return only.layout();
    }
    fields.iter().map(|field| field.layout()).fold((0, 0), |(types, length), (id, bytes)| {
        (types << 6 | id, length + bytes.next_multiple_of(4))
    })
}

/// The key, or the value, of a concatenation from the bytes of its fields.
pub fn concat(fields: &[&[u8]]) -> Vec<u8> {
    let mut key = Vec::new();
    for field in fields {
        key.extend_from_slice(field);
        key.resize(key.len().next_multiple_of(4), 0);
    }
    key
}

/// A set or a map.
#[derive(Debug, Clone, Copy)]
pub struct Set<'a> {
    /// The table that holds it.
    pub table: Table<'a>,
    /// Up to 255 bytes.
    pub name: &'a str,
    /// More than one is a concatenation.
    pub key: &'a [Datatype],
    /// What a key leads to.
    pub content: Content<'a>,
}

/// What a key leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Content<'a> {
    /// Nothing: it is a set.
    Keys,
    /// A verdict: [`super::Expr::Vmap`] looks it up.
    Verdicts,
    /// A value; more than one datatype is a concatenation.
    Values(&'a [Datatype]),
}

impl fmt::Display for Set<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let noun = if self.content == Content::Keys { "set" } else { "map" };
        write!(f, "{noun} {} in {}", self.name, self.table)
    }
}

impl Set<'_> {
    pub(super) fn message(&self) -> Result<SetMessage> {
        let (key_type, key_length) = layout(self.key);
        let mut flags = SetFlags::empty();
        let mut attributes = vec![
            SetAttribute::Table(checked("table", self.table.name)?),
            SetAttribute::Name(checked("set", self.name)?),
            SetAttribute::KeyType(key_type),
            SetAttribute::KeyLen(key_length),
            // It lets rules of the same batch name the set by number. Ours use the name, but the
            // kernel insists.
            SetAttribute::Id(1),
        ];
        match self.content {
            Content::Keys => {}
            Content::Verdicts => {
                const NFT_DATA_VERDICT: u32 = 0xffff_ff00;
                flags |= SetFlags::Map;
                attributes.push(SetAttribute::DataType(NFT_DATA_VERDICT));
            }
            Content::Values(fields) => {
                let (data_type, data_length) = layout(fields);
                flags |= SetFlags::Map;
                attributes.push(SetAttribute::DataType(data_type));
                attributes.push(SetAttribute::DataLen(data_length));
            }
        }
        if self.key.len() > 1 {
            flags |= SetFlags::Concat;
            let fields = self.key.iter().map(|field| field_description(field.layout().1)).collect();
            attributes.push(SetAttribute::Description(vec![SetDescription::Concat(fields)]));
        }
        if self.key == [Datatype::IfName] {
            attributes.push(SetAttribute::UserData(host_byte_order()));
        }
        attributes.push(SetAttribute::Flags(flags));
        Ok(SetMessage { attributes })
    }
}

/// nft takes a string for a number in host byte order, and lists an empty one unless it is told:
/// `NFTNL_UDATA_SET_KEYBYTEORDER` is `BYTEORDER_HOST_ENDIAN`.
fn host_byte_order() -> Vec<u8> {
    const KEY_BYTE_ORDER: u8 = 0;
    const HOST_ENDIAN: u32 = 1;
    let value = HOST_ENDIAN.to_ne_bytes();
    [&[KEY_BYTE_ORDER, 4], value.as_slice()].concat()
}

/// A `NFTA_LIST_ELEM` with a `NFTA_SET_FIELD_LEN` in it, which the wire crate has no type for.
fn field_description(bytes: u32) -> DefaultNla {
    const NFTA_LIST_ELEM: u16 = 1 | netlink_packet_core::NLA_F_NESTED;
    const NFTA_SET_FIELD_LEN: u16 = 1;
    const LENGTH: u16 = 8;
    let mut nested = Vec::with_capacity(usize::from(LENGTH));
    nested.extend(LENGTH.to_ne_bytes());
    nested.extend(NFTA_SET_FIELD_LEN.to_ne_bytes());
    nested.extend(bytes.to_be_bytes());
    DefaultNla::new(NFTA_LIST_ELEM, nested)
}

/// An element of a set or a map.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Element {
    /// In network byte order; [`concat()`] makes that of a concatenation.
    pub key: Vec<u8>,
    /// What the key leads to. None in a set, and for a verdict that this module does not know.
    pub data: Option<Data>,
    /// Who it belongs to. `nft list ruleset` shows it, `nft -f` takes back up to 128 bytes of it;
    /// 251 are the most.
    pub comment: Option<String>,
}

/// What a key of a map leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Data {
    /// In a map of [`Content::Verdicts`].
    Verdict(Verdict),
    /// In a map of [`Content::Values`], in network byte order.
    Value(Vec<u8>),
}

impl Element {
    pub(super) fn encode(&self) -> Result<Vec<SetElementAttribute>> {
        let mut attributes = key_attributes(&self.key);
        match &self.data {
            None => {}
            Some(Data::Verdict(verdict)) => {
                attributes.push(SetElementAttribute::Data(verdict.encode()?));
            }
            Some(Data::Value(bytes)) => {
                let value = DataAttribute::Value(bytes.clone());
                attributes.push(SetElementAttribute::Data(value));
            }
        }
        if let Some(comment) = &self.comment {
            attributes.push(SetElementAttribute::UserData(comment::encode(comment)?));
        }
        Ok(attributes)
    }

    pub(super) fn decode(attributes: &[SetElementAttribute]) -> Self {
        let mut element = Self { key: Vec::new(), data: None, comment: None };
        for attribute in attributes {
            match attribute {
                SetElementAttribute::Key(DataAttribute::Value(key)) => element.key.clone_from(key),
                SetElementAttribute::Data(DataAttribute::Value(value)) => {
                    element.data = Some(Data::Value(value.clone()));
                }
                SetElementAttribute::Data(DataAttribute::Verdict(verdict)) => {
                    element.data = Verdict::decode(verdict).map(Data::Verdict);
                }
                SetElementAttribute::UserData(bytes) => element.comment = comment::decode(bytes),
                _ => {}
            }
        }
        element
    }
}

pub(super) fn key_attributes(key: &[u8]) -> Vec<SetElementAttribute> {
    vec![SetElementAttribute::Key(DataAttribute::Value(key.to_vec()))]
}

/// The message about one element, or about the set as a whole if there is none.
pub(super) fn element_message(
    table: Table<'_>,
    set: &str,
    element: Option<Vec<SetElementAttribute>>,
) -> Result<SetElementMessage> {
    let mut attributes = vec![
        SetElementList::Table(checked("table", table.name)?),
        SetElementList::Set(checked("set", set)?),
    ];
    if let Some(element) = element {
        attributes.push(SetElementList::Elements(vec![ListAttribute::Element(element)]));
    }
    Ok(SetElementMessage { attributes })
}

/// A key for people: as an address where it has an address's length, in hexadecimal otherwise.
pub(super) struct Key<'a>(pub(super) &'a [u8]);

impl fmt::Display for Key<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Ok(octets) = <[u8; 4]>::try_from(self.0) {
            return Ipv4Addr::from(octets).fmt(f);
        }
        if let Ok(octets) = <[u8; 16]>::try_from(self.0) {
            return Ipv6Addr::from(octets).fmt(f);
        }
        f.write_str("0x")?;
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_concatenation_fills_registers() {
        assert_eq!(layout(&[Datatype::EtherAddr]), (9, 6));
        let port = [Datatype::InetProto, Datatype::InetService];
        assert_eq!(layout(&port), (12 << 6 | 13, 8));
        assert_eq!(concat(&[&[6], &80_u16.to_be_bytes()]), [6, 0, 0, 0, 0, 80, 0, 0]);
    }

    #[test]
    fn a_key_reads_like_what_it_is() {
        assert_eq!(Key(&[10, 1, 0, 5]).to_string(), "10.1.0.5");
        assert_eq!(Key(&Ipv6Addr::LOCALHOST.octets()).to_string(), "::1");
        assert_eq!(Key(&[6, 0, 0, 0, 0, 80, 0, 0]).to_string(), "0x0600000000500000");
    }

    #[test]
    fn an_element_survives_the_way_there_and_back() {
        let element = Element {
            key: vec![10, 1, 0, 5],
            data: Some(Data::Verdict(Verdict::Goto("masq_x".to_owned()))),
            comment: Some("owner".to_owned()),
        };
        assert_eq!(Element::decode(&element.encode().unwrap()), element);
    }
}
