//! Connections that the kernel remembers, and makes it forget (`ctnetlink`).
//!
//! A table may hold half a million of them: the kernel picks (`CTA_FILTER`, Linux 5.8), and each
//! one is deleted by exactly what it is. A question that would let everything through cannot be
//! asked.
//!
//! The kernel is not asked to pick by an IPv6 address: it hands out all but those that have it
//! (`ctnetlink_filter_match_tuple` takes the 0 of `ipv6_addr_cmp` for a difference, in 5.8 to 6.18
//! at least). We pick by them, as we do for a kernel that cannot filter at all.

use std::net::IpAddr;

use netlink_packet_core::{
    DefaultNla, Emitable as _, NLA_F_NESTED, NLM_F_ACK, NLM_F_DUMP, Nla, NlasIterator,
    Parseable as _,
};
use netlink_packet_netfilter::NetfilterSubsystem;
use netlink_packet_netfilter::conntrack::{
    ConntrackAttribute, ConntrackMessage, ConntrackMessageType, IPTuple, ProtoTuple, Tuple,
};

use super::nfnetlink::{Nfnetlink, encode, request};
use crate::net::{Error, Family, Result};

/// Which connections. What is none matches any; one of the three must be there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FlowFilter {
    /// Of IPv4 or of IPv6.
    pub family: Family,
    /// 6 is TCP, 17 is UDP.
    pub protocol: u8,
    /// Where the first packet was sent to, before anybody translated it.
    pub destination: Option<IpAddr>,
    /// The ports that the first packet was sent to: from the first to the last. The kernel picks
    /// single ones; for more, it hands out what fits the rest of the filter.
    pub ports: Option<(u16, u16)>,
    /// Who answers: where the first packet has really gone to.
    pub answered_by: Option<IpAddr>,
}

/// A connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Flow {
    /// Where the first packet was sent to.
    pub destination: IpAddr,
    /// The port that it was sent to.
    pub port: u16,
    /// Who answers.
    pub answered_by: IpAddr,
    protocol: u8,
    /// By what the kernel finds this connection and no other.
    identity: Vec<ConntrackAttribute>,
}

/// An open line to the connection tracking of the network namespace it was opened in.
#[derive(Debug)]
pub struct Conntrack {
    nfnetlink: Nfnetlink,
}

// Of `enum ctattr_type` in linux/netfilter/nfnetlink_conntrack.h; the crate has types for others.
const CTA_TUPLE_ORIG: u16 = 1;
const CTA_TUPLE_REPLY: u16 = 2;
const CTA_ID: u16 = 12;
const CTA_ZONE: u16 = 18;
const CTA_FILTER: u16 = 25;

impl Conntrack {
    /// Opens it in the current network namespace.
    ///
    /// # Errors
    /// If the kernel has no nfnetlink.
    pub fn open() -> Result<Self> {
        Ok(Self { nfnetlink: Nfnetlink::open(&|| "open connection tracking".to_owned())? })
    }

    /// The connections that the filter lets through.
    ///
    /// # Errors
    /// If the filter would let everything through; what the kernel refused.
    pub fn list(&mut self, filter: &FlowFilter) -> Result<Vec<Flow>> {
        let (message_type, attributes) = (ConntrackMessageType::Get.into(), filter.attributes()?);
        let message = ConntrackMessage::Other { message_type, attributes };
        let question = encode(request(filter.family.into(), 0, NLM_F_DUMP, message));
        let kind = u16::from(u8::from(NetfilterSubsystem::Conntrack)) << 8
            | u16::from(u8::from(ConntrackMessageType::New));
        self.nfnetlink.list(&question, kind, &|| "list connections".to_owned(), |bytes, flows| {
            // A kernel before 5.8 has not filtered.
            flows.extend(Flow::parse(bytes).filter(|flow| filter.admits(flow)));
            Ok(())
        })
    }

    /// Forgets a connection: its next packet is looked at as its first. One that is gone is fine.
    ///
    /// # Errors
    /// What the kernel refused.
    pub fn delete(&mut self, flow: &Flow) -> Result<()> {
        let family = Family::of(flow.destination).into();
        let message = ConntrackMessage::Delete(flow.identity.clone());
        let question = encode(request(family, 0, NLM_F_ACK, message));
        let what = || format!("forget a connection to {}", flow.destination);
        self.nfnetlink.delete(&question, &what)
    }
}

impl FlowFilter {
    /// The tuples, and which of their parts count (`CTA_FILTER_F_` of the kernel's
    /// `nf_internals.h`).
    fn attributes(&self) -> Result<Vec<DefaultNla>> {
        const IP_SRC: u32 = 1 << 0;
        const IP_DST: u32 = 1 << 1;
        const PROTO_NUM: u32 = 1 << 3;
        const PROTO_DST_PORT: u32 = 1 << 5;
        const CTA_FILTER_ORIG_FLAGS: u16 = 1;
        const CTA_FILTER_REPLY_FLAGS: u16 = 2;
        if self.destination.is_none() && self.ports.is_none() && self.answered_by.is_none() {
            return Err(Error::new("list connections", "the filter would let everything through"));
        }
        let flags_of = |kind, flags: u32| DefaultNla::new(kind, flags.to_ne_bytes().to_vec());
        let protocol = ProtoTuple::Protocol(self.protocol.into());
        let (mut original, mut flags) = (Vec::new(), PROTO_NUM);
        if let Some(destination) = self.destination.filter(IpAddr::is_ipv4) {
            flags |= IP_DST;
            original.push(Tuple::Ip(vec![IPTuple::DestinationAddress(destination)]));
        }
        let mut proto = vec![protocol.clone()];
        if let Some((first, last)) = self.ports
            && first == last
        {
            flags |= PROTO_DST_PORT;
            proto.push(ProtoTuple::DestinationPort(first));
        }
        original.push(Tuple::Proto(proto));
        let mut attributes = vec![plain(&ConntrackAttribute::CtaTupleOrig(original))];
        let mut which = vec![flags_of(CTA_FILTER_ORIG_FLAGS, flags)];
        if let Some(answered_by) = self.answered_by.filter(IpAddr::is_ipv4) {
            let ip = Tuple::Ip(vec![IPTuple::SourceAddress(answered_by)]);
            let reply = vec![ip, Tuple::Proto(vec![protocol])];
            attributes.push(plain(&ConntrackAttribute::CtaTupleReply(reply)));
            which.push(flags_of(CTA_FILTER_REPLY_FLAGS, IP_SRC | PROTO_NUM));
        }
        let mut bytes = vec![0; which.as_slice().buffer_len()];
        which.as_slice().emit(&mut bytes);
        attributes.push(DefaultNla::new(CTA_FILTER | NLA_F_NESTED, bytes));
        Ok(attributes)
    }

    fn admits(&self, flow: &Flow) -> bool {
        self.destination.is_none_or(|destination| destination == flow.destination)
            && self.ports.is_none_or(|(first, last)| (first..=last).contains(&flow.port))
            && self.answered_by.is_none_or(|answered_by| answered_by == flow.answered_by)
            && flow.protocol == self.protocol
    }
}

/// As an attribute that the crate has no type for. `CTA_FILTER` is one, and has to be marked as nested,
/// which the crate forgets of those that stand among the ones that it has types for.
fn plain(attribute: &ConntrackAttribute) -> DefaultNla {
    let mut value = vec![0; attribute.value_len()];
    attribute.emit_value(&mut value);
    let nested = if attribute.is_nested() { NLA_F_NESTED } else { 0 };
    DefaultNla::new(attribute.kind() | nested, value)
}

impl Flow {
    /// None for a protocol without ports.
    fn parse(attributes: &[u8]) -> Option<Self> {
        let (mut identity, mut answered_by) = (Vec::new(), None);
        let (mut destination, mut protocol, mut port) = (None, None, None);
        for attribute in NlasIterator::new(attributes) {
            let attribute = attribute.ok()?;
            // The others, counters and the like, are not worth decoding: there may be many flows.
            if ![CTA_TUPLE_ORIG, CTA_TUPLE_REPLY, CTA_ID, CTA_ZONE].contains(&attribute.kind()) {
                continue;
            }
            let attribute = ConntrackAttribute::parse(&attribute).ok()?;
            if let ConntrackAttribute::CtaTupleReply(tuple) = &attribute {
                answered_by = addresses(tuple).find_map(|address| match address {
                    IPTuple::SourceAddress(source) => Some(*source),
                    _ => None,
                });
                continue;
            }
            if let ConntrackAttribute::CtaTupleOrig(tuple) = &attribute {
                destination = addresses(tuple).find_map(|address| match address {
                    IPTuple::DestinationAddress(destination) => Some(*destination),
                    _ => None,
                });
                for proto in tuple.iter().filter_map(proto_of).flatten() {
                    match proto {
                        ProtoTuple::Protocol(number) => protocol = Some(u8::from(*number)),
                        ProtoTuple::DestinationPort(number) => port = Some(*number),
                        _ => {}
                    }
                }
            }
            identity.push(attribute);
        }
        Some(Self {
            destination: destination?,
            port: port?,
            answered_by: answered_by?,
            protocol: protocol?,
            identity,
        })
    }
}

fn addresses(tuple: &[Tuple]) -> impl Iterator<Item = &IPTuple> {
    let addresses = tuple.iter().filter_map(|part| match part {
        Tuple::Ip(addresses) => Some(addresses),
        _ => None,
    });
    addresses.flatten()
}

fn proto_of(part: &Tuple) -> Option<&Vec<ProtoTuple>> {
    match part {
        Tuple::Proto(parts) => Some(parts),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::nfnetlink::find;
    use super::*;

    fn filter() -> FlowFilter {
        FlowFilter {
            family: Family::V4,
            protocol: 17,
            destination: None,
            ports: None,
            answered_by: None,
        }
    }

    fn bytes_of<T: Nla>(attributes: &[T]) -> Vec<u8> {
        let mut bytes = vec![0; attributes.buffer_len()];
        attributes.emit(&mut bytes);
        bytes
    }

    #[test]
    fn a_filter_that_lets_everything_through_is_refused() {
        let error = filter().attributes().unwrap_err().to_string();
        assert!(error.contains("everything"), "{error}");
        assert!(FlowFilter { ports: Some((53, 53)), ..filter() }.attributes().is_ok());
    }

    #[test]
    fn the_kernel_is_not_asked_to_compare_addresses_of_ipv6() {
        let flags = |address: &str, ports| {
            let address: IpAddr = address.parse().unwrap();
            let family = Family::of(address);
            let filter = FlowFilter {
                family,
                destination: Some(address),
                answered_by: Some(address),
                ports,
                ..filter()
            };
            let bytes = bytes_of(&filter.attributes().unwrap());
            let which = find(&bytes, CTA_FILTER).unwrap().to_vec();
            [1, 2].map(|side| find(&which, side).map(|flags| flags[0]))
        };
        assert_eq!(flags("10.0.0.1", None), [Some(0b1010), Some(0b1001)]);
        assert_eq!(flags("fd00::1", None), [Some(0b1000), None]);
        assert_eq!(flags("fd00::1", Some((53, 53))), [Some(0b10_1000), None]);
    }

    #[test]
    fn a_flow_is_what_the_kernel_said() {
        let tuple = |source: [u8; 4], destination: [u8; 4], port: u16| {
            let ip = vec![
                IPTuple::SourceAddress(source.into()),
                IPTuple::DestinationAddress(destination.into()),
            ];
            let proto = vec![ProtoTuple::Protocol(17.into()), ProtoTuple::DestinationPort(port)];
            vec![Tuple::Ip(ip), Tuple::Proto(proto)]
        };
        let attributes = bytes_of(&[
            ConntrackAttribute::CtaTupleOrig(tuple([1, 1, 1, 1], [2, 2, 2, 2], 8080)),
            ConntrackAttribute::CtaTupleReply(tuple([3, 3, 3, 3], [1, 1, 1, 1], 5000)),
            ConntrackAttribute::CtaTimeout(0),
            ConntrackAttribute::Other(DefaultNla::new(CTA_ID, vec![1, 2, 3, 4])),
        ]);
        let flow = Flow::parse(&attributes).unwrap();
        assert_eq!(flow.destination, IpAddr::from([2, 2, 2, 2]));
        assert_eq!(flow.answered_by, IpAddr::from([3, 3, 3, 3]));
        assert_eq!((flow.port, flow.protocol), (8080, 17));
        let identity = bytes_of(&flow.identity);
        assert!(find(&identity, CTA_ID).is_some() && find(&identity, 7).is_none());
        let admitted = FlowFilter { ports: Some((8000, 9000)), ..filter() };
        assert!(admitted.admits(&flow));
        assert!(!FlowFilter { protocol: 132, ..admitted.clone() }.admits(&flow));
        assert!(!FlowFilter { ports: Some((1, 2)), ..admitted }.admits(&flow));
        assert!(Flow::parse(&attributes[..26]).is_none() && Flow::parse(&[]).is_none());
    }
}
