//! Sets, maps and what is in them.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};

use netlink_packet_core::{DefaultNla, Nla as _};
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

/// What an element is found by: one value, or everything from one value to another. In network
/// byte order; [`concat()`] makes that of a concatenation.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    first: Vec<u8>,
    last: Option<Vec<u8>>,
}

impl From<Vec<u8>> for Key {
    fn from(value: Vec<u8>) -> Self {
        Self { first: value, last: None }
    }
}

impl Key {
    /// Whether there is a value that lies in both. Takes each register for itself, which is right
    /// for single values, for prefixes and for ranges of what fits into one register.
    pub(crate) fn overlaps(&self, other: &Self) -> bool {
        const REGISTER: usize = 4;
        let bounds = |key: &Self| -> Vec<(Vec<u8>, Vec<u8>)> {
            let words =
                |bytes: &[u8]| bytes.chunks(REGISTER).map(<[u8]>::to_vec).collect::<Vec<_>>();
            words(key.first()).into_iter().zip(words(key.last())).collect()
        };
        let (own, others) = (bounds(self), bounds(other));
        own.len() == others.len()
            && own.iter().zip(&others).all(|(own, other)| own.0 <= other.1 && other.0 <= own.1)
    }

    /// From `first` to `last`, both included; of a concatenation, field by field. The set must be
    /// one of [`Set::intervals`].
    pub fn interval(first: Vec<u8>, last: Vec<u8>) -> Self {
        Self { first, last: Some(last) }
    }

    /// The value, or the first one of the interval.
    pub fn first(&self) -> &[u8] {
        &self.first
    }

    /// The value, or the last one of the interval.
    pub fn last(&self) -> &[u8] {
        self.last.as_ref().unwrap_or(&self.first)
    }
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

/// The full name of a set or a map.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct SetName<'a> {
    /// Its table.
    pub table: Table<'a>,
    /// Up to 255 bytes.
    pub name: &'a str,
}

/// A set or a map.
#[derive(Debug, Clone, Copy)]
pub struct Set<'a> {
    /// Its table.
    pub table: Table<'a>,
    /// Up to 255 bytes.
    pub name: &'a str,
    /// More than one is a concatenation.
    pub key: &'a [Datatype],
    /// What a key leads to.
    pub content: Content<'a>,
    /// Whether keys are intervals (kernel 5.6 for concatenations). The kernel refuses one that
    /// overlaps another with EEXIST, or with ENOTEMPTY where it is only in part.
    pub intervals: bool,
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
    /// What a kernel is too old for that refuses a set like this.
    pub(super) fn needs(&self) -> Option<&'static str> {
        const INTERVALS: &str = "this needs Linux 5.6, the first with intervals of concatenations";
        (self.intervals && self.key.len() > 1).then_some(INTERVALS)
    }

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
        if self.intervals {
            flags |= SetFlags::Interval;
        }
        // As nft(8) does it: where no key is an interval, the kernel needs not know where a field
        // ends, and one before 5.6 refuses to be told.
        if self.needs().is_some() {
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
    /// What it is found by.
    pub key: Key,
    /// What the key leads to. None in a set, and for a verdict that this module does not know.
    pub data: Option<Data>,
    /// Who it belongs to: up to 251 bytes, of which nft(8) reads 128.
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
        let mut element = Self { key: Vec::new().into(), data: None, comment: None };
        for attribute in attributes {
            match attribute {
                SetElementAttribute::Key(DataAttribute::Value(key)) => {
                    element.key.first.clone_from(key);
                }
                SetElementAttribute::KeyEnd(values) => {
                    element.key.last = values.first().map(value_of);
                }
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

pub(super) fn key_attributes(key: &Key) -> Vec<SetElementAttribute> {
    const NFTA_DATA_VALUE: u16 = 1;
    let mut attributes = vec![SetElementAttribute::Key(DataAttribute::Value(key.first.clone()))];
    if let Some(last) = &key.last {
        let last = DefaultNla::new(NFTA_DATA_VALUE, last.clone());
        attributes.push(SetElementAttribute::KeyEnd(vec![last]));
    }
    attributes
}

fn value_of(attribute: &DefaultNla) -> Vec<u8> {
    let mut value = vec![0; attribute.value_len()];
    attribute.emit_value(&mut value);
    value
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

/// The message that asks for all sets of a table.
pub(super) fn list_message(table: Table<'_>) -> Result<SetMessage> {
    Ok(SetMessage { attributes: vec![SetAttribute::Table(checked("table", table.name)?)] })
}

/// For people: as an address where it has an address's length, in hexadecimal otherwise.
impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_value(f, &self.first)?;
        match &self.last {
            Some(last) if *last != self.first => {
                f.write_str("-")?;
                write_value(f, last)
            }
            _ => Ok(()),
        }
    }
}

fn write_value(f: &mut fmt::Formatter<'_>, value: &[u8]) -> fmt::Result {
    if let Ok(octets) = <[u8; 4]>::try_from(value) {
        return write!(f, "{}", Ipv4Addr::from(octets));
    }
    if let Ok(octets) = <[u8; 16]>::try_from(value) {
        return write!(f, "{}", Ipv6Addr::from(octets));
    }
    f.write_str("0x")?;
    value.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
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
    fn only_intervals_of_concatenations_need_a_young_kernel() {
        let table = Table { family: super::super::TableFamily::Ip, name: "t" };
        let port = [Datatype::InetProto, Datatype::InetService];
        let flags = |key, intervals| {
            let set = Set { table, name: "s", key, content: Content::Keys, intervals };
            let mut attributes = set.message().unwrap().attributes.into_iter();
            let flags = attributes.find_map(|attribute| match attribute {
                SetAttribute::Flags(flags) => Some(flags),
                _ => None,
            });
            (flags.unwrap(), set.needs().is_some())
        };
        assert_eq!(flags(&port[..], false), (SetFlags::empty(), false));
        assert_eq!(flags(&port[1..], true), (SetFlags::Interval, false));
        assert_eq!(flags(&port[..], true), (SetFlags::Interval | SetFlags::Concat, true));
    }

    #[test]
    fn a_key_reads_like_what_it_is() {
        let text = |value: &[u8]| Key::from(value.to_vec()).to_string();
        assert_eq!(text(&[10, 1, 0, 5]), "10.1.0.5");
        assert_eq!(text(&Ipv6Addr::LOCALHOST.octets()), "::1");
        assert_eq!(text(&[6, 0, 0, 0, 0, 80, 0, 0]), "0x0600000000500000");
        let interval = |last: u8| Key::interval(vec![10, 1, 0, 0], vec![10, 1, 0, last]);
        assert_eq!(interval(9).to_string(), "10.1.0.0-10.1.0.9");
        assert_eq!(interval(0).to_string(), "10.1.0.0");
    }

    #[test]
    fn intervals_overlap_in_every_field_or_not_at_all() {
        let key = |host: [u8; 4], ports: [u16; 2]| {
            let end = |host: &[u8], port: u16| concat(&[host, &[6], &port.to_be_bytes()]);
            let last = if host == [0; 4] { [255; 4] } else { host };
            Key::interval(end(&host, ports[0]), end(&last, ports[1]))
        };
        let one = key([10, 0, 0, 1], [80, 90]);
        for (other, overlaps) in [
            (key([0; 4], [90, 99]), true),
            (key([0; 4], [91, 99]), false),
            (key([10, 0, 0, 1], [85, 85]), true),
            (key([10, 0, 0, 2], [85, 85]), false),
        ] {
            assert_eq!((one.overlaps(&other), other.overlaps(&one)), (overlaps, overlaps));
        }
    }

    #[test]
    fn an_element_survives_the_way_there_and_back() {
        let element = Element {
            key: vec![10, 1, 0, 5].into(),
            data: Some(Data::Verdict(Verdict::Goto("masq_x".to_owned()))),
            comment: Some("owner".to_owned()),
        };
        assert_eq!(Element::decode(&element.encode().unwrap()), element);
        let key = Key::interval(vec![10, 1, 0, 5], vec![10, 1, 0, 9]);
        let element = Element { key, data: Some(Data::Value(vec![1; 4])), comment: None };
        assert_eq!(Element::decode(&element.encode().unwrap()), element);
    }
}
