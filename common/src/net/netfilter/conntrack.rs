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
    DecodeError, DefaultNla, DoneBuffer, Emitable as _, ErrorBuffer, ErrorMessage, NLA_F_NESTED,
    NLM_F_ACK, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST, NLMSG_DONE, NLMSG_ERROR, NetlinkBuffer,
    NlaBuffer, NlasIterator, Parseable as _,
};
use netlink_sys::protocols::NETLINK_NETFILTER;
use netlink_sys::{Socket, SocketAddr};
use nix::libc::{AF_INET, AF_INET6, EAGAIN, ENOBUFS, MSG_DONTWAIT};

use super::nfnetlink::{Ending, whole};
use crate::net::{Context, Error, Family, Result, at_home};

/// Which connections. What is none matches any; one of the three must be there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filter {
    /// Of which internet.
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
    /// As the kernel named it: what a deletion says.
    identity: Vec<u8>,
}

/// An open line to the connection tracking of the network namespace it was opened in.
#[derive(Debug)]
pub struct Conntrack {
    socket: Socket,
    /// An answer was not read to its end.
    has_leftovers: bool,
}

const GET: u16 = 1 << 8 | 1;
const DELETE: u16 = 1 << 8 | 2;

const CTA_TUPLE_ORIG: u16 = 1;
const CTA_TUPLE_REPLY: u16 = 2;
const CTA_ID: u16 = 12;
const CTA_ZONE: u16 = 18;
const CTA_FILTER: u16 = 25;

const CTA_TUPLE_IP: u16 = 1;
const CTA_TUPLE_PROTO: u16 = 2;
const CTA_PROTO_NUM: u16 = 1;
const CTA_PROTO_DST_PORT: u16 = 3;

impl Conntrack {
    /// Opens it in the current network namespace.
    ///
    /// # Errors
    /// If the kernel has no nfnetlink.
    pub fn open() -> Result<Self> {
        let what = || "open connection tracking".to_owned();
        at_home()?;
        let socket = Socket::new(NETLINK_NETFILTER).doing(what)?;
        socket.set_cap_ack(true).doing(what)?;
        Ok(Self { socket, has_leftovers: false })
    }

    /// The connections that the filter lets through.
    ///
    /// # Errors
    /// If the filter would let everything through; what the kernel refused.
    pub fn list(&mut self, filter: &Filter) -> Result<Vec<Flow>> {
        let what = || "list connections".to_owned();
        let question = filter.encode()?;
        let message = message(GET, NLM_F_REQUEST | NLM_F_DUMP, filter.family, &question);
        whole(&what, || {
            let mut flows = Vec::new();
            let ending = self.exchange(&message, &what, |payload| {
                let flow = Flow::parse(payload);
                // A kernel before 5.8 has not filtered.
                flows.extend(flow.filter(|flow| filter.admits(flow)));
            })?;
            ending.judge(&what).map(|()| flows)
        })
    }

    /// Forgets a connection: its next packet is looked at as its first. One that is gone is fine.
    ///
    /// # Errors
    /// What the kernel refused.
    pub fn delete(&mut self, flow: &Flow) -> Result<()> {
        let what = || format!("forget a connection to {}", flow.destination);
        let family = Family::of(flow.destination);
        let message = message(DELETE, NLM_F_REQUEST | NLM_F_ACK, family, &flow.identity);
        // Whoever gets no answer may ask twice: then it is gone.
        whole(&what, || {
            let ending = self.exchange(&message, &what, |_| {})?;
            ending.judge(&what).map(|()| Vec::<()>::new())
        })?;
        Ok(())
    }

    /// nfnetlink answers within `send`, and hands out each further part of a list when the one
    /// before it is read: in an empty queue there is no more to come.
    fn exchange(
        &mut self,
        message: &[u8],
        what: &dyn Fn() -> String,
        mut each: impl FnMut(&[u8]),
    ) -> Result<Ending> {
        let mut buffer = Vec::with_capacity(1 << 16);
        // What is left of an answer that had no end.
        while self.has_leftovers && self.socket.recv_from(&mut buffer, MSG_DONTWAIT).is_ok() {
            buffer.clear();
        }
        self.socket.send_to(message, &SocketAddr::new(0, 0), 0).doing(what)?;
        self.has_leftovers = true;
        let mut ending = Ending::default();
        while ending.done.is_none() {
            buffer.clear();
            match self.socket.recv_from(&mut buffer, MSG_DONTWAIT) {
                Ok((_, sender)) if sender.port_number() == 0 => {
                    read(&buffer, &mut ending, &mut each)
                        .map_err(|reason| Error::new(what(), reason.to_string()))?;
                }
                Ok(_) => {}
                Err(error) if error.raw_os_error() == Some(ENOBUFS) => ending.is_torn = true,
                Err(error) if error.raw_os_error() == Some(EAGAIN) => return Ok(ending),
                Err(error) => return Err(error).doing(what),
            }
        }
        self.has_leftovers = false;
        Ok(ending)
    }
}

/// Goes through the messages of a datagram.
fn read(
    mut bytes: &[u8],
    ending: &mut Ending,
    each: &mut impl FnMut(&[u8]),
) -> std::result::Result<(), DecodeError> {
    while !bytes.is_empty() {
        let message = NetlinkBuffer::new_checked(bytes)?;
        let payload = message.payload();
        ending.is_torn |= message.flags() & NLM_F_DUMP_INTR != 0;
        match message.message_type() {
            NLMSG_DONE => ending.done = Some(DoneBuffer::new_checked(payload)?.code()),
            NLMSG_ERROR => {
                let error = ErrorMessage::parse(&ErrorBuffer::new_checked(&payload)?)?;
                ending.done = Some(error.code.map_or(0, std::num::NonZeroI32::get));
            }
            _ => each(payload),
        }
        let next = usize::try_from(message.length().next_multiple_of(4)).unwrap_or(usize::MAX);
        bytes = bytes.get(next..).unwrap_or_default();
    }
    Ok(())
}

fn message(kind: u16, flags: u16, family: Family, attributes: &[u8]) -> Vec<u8> {
    const HEADERS: usize = 16 + 4;
    let family = if family == Family::V4 { AF_INET } else { AF_INET6 };
    let length = u32::try_from(HEADERS + attributes.len()).unwrap_or(u32::MAX);
    let mut message = Vec::new();
    message.extend(length.to_ne_bytes());
    message.extend(kind.to_ne_bytes());
    message.extend(flags.to_ne_bytes());
    message.extend([0; 4 + 4]); // sequence, from whom
    message.extend([u8::try_from(family).unwrap_or_default(), 0, 0, 0]);
    message.extend(attributes);
    message
}

/// Attributes as the value of one that holds them.
fn nest(kind: u16, attributes: &[DefaultNla]) -> DefaultNla {
    DefaultNla::new(kind | NLA_F_NESTED, bytes_of(attributes))
}

fn bytes_of(attributes: &[DefaultNla]) -> Vec<u8> {
    let mut bytes = vec![0; attributes.buffer_len()];
    attributes.emit(&mut bytes);
    bytes
}

impl Filter {
    /// The tuples, and which of their parts count (`CTA_FILTER_F_` of the kernel's
    /// `nf_internals.h`).
    fn encode(&self) -> Result<Vec<u8>> {
        const IP_SRC: u32 = 1 << 0;
        const IP_DST: u32 = 1 << 1;
        const PROTO_NUM: u32 = 1 << 3;
        const PROTO_DST_PORT: u32 = 1 << 5;
        if self.destination.is_none() && self.ports.is_none() && self.answered_by.is_none() {
            return Err(Error::new("list connections", "the filter would let everything through"));
        }
        let protocol = DefaultNla::new(CTA_PROTO_NUM, vec![self.protocol]);
        let (mut original, mut flags) = (Vec::new(), PROTO_NUM);
        if let Some(destination) = self.destination.filter(IpAddr::is_ipv4) {
            flags |= IP_DST;
            original.push(nest(CTA_TUPLE_IP, &[address(destination, 1)]));
        }
        let mut proto = vec![protocol.clone()];
        if let Some((first, last)) = self.ports
            && first == last
        {
            flags |= PROTO_DST_PORT;
            proto.push(DefaultNla::new(CTA_PROTO_DST_PORT, first.to_be_bytes().to_vec()));
        }
        original.push(nest(CTA_TUPLE_PROTO, &proto));
        let mut attributes = vec![nest(CTA_TUPLE_ORIG, &original)];
        let mut which = vec![DefaultNla::new(1, flags.to_ne_bytes().to_vec())];
        if let Some(answered_by) = self.answered_by.filter(IpAddr::is_ipv4) {
            let ip = nest(CTA_TUPLE_IP, &[address(answered_by, 0)]);
            attributes.push(nest(CTA_TUPLE_REPLY, &[ip, nest(CTA_TUPLE_PROTO, &[protocol])]));
            which.push(DefaultNla::new(2, (IP_SRC | PROTO_NUM).to_ne_bytes().to_vec()));
        }
        attributes.push(nest(CTA_FILTER, &which));
        Ok(bytes_of(&attributes))
    }

    fn admits(&self, flow: &Flow) -> bool {
        self.destination.is_none_or(|destination| destination == flow.destination)
            && self.ports.is_none_or(|(first, last)| (first..=last).contains(&flow.port))
            && self.answered_by.is_none_or(|answered_by| answered_by == flow.answered_by)
            && flow.protocol() == Some(self.protocol)
    }
}

/// `CTA_IP_V4_SRC` is 1, then `V4_DST`, `V6_SRC`, `V6_DST`.
fn address(ip: IpAddr, side: u16) -> DefaultNla {
    match ip {
        IpAddr::V4(ip) => DefaultNla::new(1 + side, ip.octets().to_vec()),
        IpAddr::V6(ip) => DefaultNla::new(3 + side, ip.octets().to_vec()),
    }
}

/// The value of an attribute, wherever it stands in a list.
fn find(bytes: &[u8], kind: u16) -> Option<&[u8]> {
    NlasIterator::new(bytes).flatten().find(|one: &NlaBuffer<&[u8]>| one.kind() == kind).map(
        |one| {
            // `value` borrows from the bytes, not from the iterator's buffer.
            one.into_inner().get(4..usize::from(one.length())).unwrap_or_default()
        },
    )
}

impl Flow {
    fn parse(payload: &[u8]) -> Option<Self> {
        const NFGENMSG: usize = 4;
        let attributes = payload.get(NFGENMSG..)?;
        let (original, reply) =
            (find(attributes, CTA_TUPLE_ORIG)?, find(attributes, CTA_TUPLE_REPLY)?);
        let proto = find(original, CTA_TUPLE_PROTO)?;
        let port = find(proto, CTA_PROTO_DST_PORT)?.try_into().ok().map(u16::from_be_bytes)?;
        let identity = NlasIterator::new(attributes)
            .flatten()
            .filter(|one| [CTA_TUPLE_ORIG, CTA_ZONE, CTA_ID].contains(&one.kind()));
        let nested = |kind: u16| if kind == CTA_TUPLE_ORIG { kind | NLA_F_NESTED } else { kind };
        let identity: Vec<_> =
            identity.map(|one| DefaultNla::new(nested(one.kind()), one.value().to_vec())).collect();
        Some(Self {
            destination: ip(find(original, CTA_TUPLE_IP)?, 1)?,
            port,
            answered_by: ip(find(reply, CTA_TUPLE_IP)?, 0)?,
            identity: bytes_of(&identity),
        })
    }

    fn protocol(&self) -> Option<u8> {
        let proto = find(find(&self.identity, CTA_TUPLE_ORIG)?, CTA_TUPLE_PROTO)?;
        find(proto, CTA_PROTO_NUM)?.first().copied()
    }
}

/// The source (0) or the destination (1) of a tuple.
fn ip(tuple: &[u8], side: u16) -> Option<IpAddr> {
    if let Some(octets) = find(tuple, 1 + side) {
        return <[u8; 4]>::try_from(octets).ok().map(IpAddr::from);
    }
    <[u8; 16]>::try_from(find(tuple, 3 + side)?).ok().map(IpAddr::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filter() -> Filter {
        Filter {
            family: Family::V4,
            protocol: 17,
            destination: None,
            ports: None,
            answered_by: None,
        }
    }

    #[test]
    fn a_filter_that_lets_everything_through_is_refused() {
        let error = filter().encode().unwrap_err().to_string();
        assert!(error.contains("everything"), "{error}");
        assert!(Filter { ports: Some((53, 53)), ..filter() }.encode().is_ok());
    }

    #[test]
    fn the_kernel_is_not_asked_to_compare_addresses_of_ipv6() {
        let flags = |address: &str, ports| {
            let address: IpAddr = address.parse().unwrap();
            let family = Family::of(address);
            let filter = Filter {
                family,
                destination: Some(address),
                answered_by: Some(address),
                ports,
                ..filter()
            };
            let bytes = filter.encode().unwrap();
            let which = find(&bytes, CTA_FILTER).unwrap().to_vec();
            [1, 2].map(|side| find(&which, side).map(|flags| flags[0]))
        };
        assert_eq!(flags("10.0.0.1", None), [Some(0b1010), Some(0b1001)]);
        assert_eq!(flags("fd00::1", None), [Some(0b1000), None]);
        assert_eq!(flags("fd00::1", Some((53, 53))), [Some(0b10_1000), None]);
    }

    #[test]
    fn a_flow_is_what_the_kernel_said() {
        let tuple = |kind, source: [u8; 4], destination: [u8; 4], port: u16| {
            let ip =
                [DefaultNla::new(1, source.to_vec()), DefaultNla::new(2, destination.to_vec())];
            let proto = [
                DefaultNla::new(CTA_PROTO_NUM, vec![17]),
                DefaultNla::new(CTA_PROTO_DST_PORT, port.to_be_bytes().to_vec()),
            ];
            nest(kind, &[nest(CTA_TUPLE_IP, &ip), nest(CTA_TUPLE_PROTO, &proto)])
        };
        let payload = [
            vec![2, 0, 0, 0],
            bytes_of(&[
                tuple(CTA_TUPLE_ORIG, [1, 1, 1, 1], [2, 2, 2, 2], 8080),
                tuple(CTA_TUPLE_REPLY, [3, 3, 3, 3], [1, 1, 1, 1], 5000),
                DefaultNla::new(7, vec![0; 4]),
                DefaultNla::new(CTA_ID, vec![1, 2, 3, 4]),
            ]),
        ]
        .concat();
        let flow = Flow::parse(&payload).unwrap();
        assert_eq!(flow.destination, IpAddr::from([2, 2, 2, 2]));
        assert_eq!(flow.answered_by, IpAddr::from([3, 3, 3, 3]));
        assert_eq!((flow.port, flow.protocol()), (8080, Some(17)));
        assert!(find(&flow.identity, CTA_ID).is_some() && find(&flow.identity, 7).is_none());
        let admitted = Filter { ports: Some((8000, 9000)), ..filter() };
        assert!(admitted.admits(&flow));
        assert!(!Filter { protocol: 132, ..admitted.clone() }.admits(&flow));
        assert!(!Filter { ports: Some((1, 2)), ..admitted }.admits(&flow));
        assert!(Flow::parse(&payload[..30]).is_none() && Flow::parse(&[]).is_none());
    }
}
