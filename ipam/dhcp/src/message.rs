//! What the packets say (RFC 2131, RFC 2132, RFC 3442).

use crate::options::{
    CLASSLESS_ROUTES, CLIENT_IDENTIFIER, LEASE_TIME, MESSAGE_TYPE, OVERLOAD, Options,
    REBINDING_TIME, RENEWAL_TIME, ROUTERS, SERVER, STATIC_ROUTES, SUBNET_MASK,
};
use common::cni::Cidr;
use common::net::Mac;
use common::{Error, Result};
use dhcproto::Encodable as _;
use dhcproto::v4::borrowed::{self, DhcpOptionIterator};
use dhcproto::v4::{DhcpOption, Message, MessageType, Opcode, OptionCode, UnknownOption};
use ipnetwork::IpNetwork;
use std::collections::BTreeMap;
use std::net::Ipv4Addr;

/// The largest message that the client takes, in bytes (option 57).
const LARGEST: u16 = 1500;
/// Some relays drop what is shorter than a message of BOOTP, in bytes.
const SHORTEST: usize = 300;

/// Who asks.
#[derive(Debug)]
pub(crate) struct Client<'a> {
    /// Option 61.
    pub(crate) identifier: Vec<u8>,
    pub(crate) options: &'a Options,
    /// Of the link that is asked by.
    pub(crate) mac: Mac,
    /// Whether answers are to be sent to all, because those to an address that the link does not have
    /// yet would not reach it.
    pub(crate) is_broadcast: bool,
}

/// What is asked for, or told.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Ask {
    /// Any address.
    Discover,
    /// The address that this server has offered.
    Request { address: Ipv4Addr, server: Ipv4Addr },
    /// More time for an address that is in use.
    Extend { address: Ipv4Addr },
    /// That the address is not needed any more.
    Release { address: Ipv4Addr, server: Ipv4Addr },
}

/// A random number.
pub(crate) fn random() -> u32 {
    Message::default().xid()
}

impl Client<'_> {
    /// # Errors
    /// When an option does not fit into a message.
    pub(crate) fn encode(&self, number: u32, ask: Ask) -> Result<Vec<u8>> {
        let mut message = Message::default();
        message.set_xid(number).set_chaddr(&self.mac.0);
        let (kind, in_use, details) = match ask {
            Ask::Discover => (MessageType::Discover, None, vec![]),
            Ask::Request { address, server } => {
                let wanted = DhcpOption::RequestedIpAddress(address);
                (MessageType::Request, None, vec![wanted, DhcpOption::ServerIdentifier(server)])
            }
            // RFC 2131, 4.3.2: with either option it would be taken for another kind of request.
            Ask::Extend { address } => (MessageType::Request, Some(address), vec![]),
            Ask::Release { address, server } => {
                let details = vec![DhcpOption::ServerIdentifier(server)];
                (MessageType::Release, Some(address), details)
            }
        };
        if let Some(address) = in_use {
            message.set_ciaddr(address);
        } else if self.is_broadcast {
            let flags = message.flags().set_broadcast();
            message.set_flags(flags);
        }
        let raw = |code: u8, value: &[u8]| {
            let code = OptionCode::from(code);
            DhcpOption::Unknown(UnknownOption::new(code, value.to_vec()))
        };
        let options = message.opts_mut();
        options.insert(raw(CLIENT_IDENTIFIER, &self.identifier));
        let is_release = matches!(ask, Ask::Release { .. });
        for (code, value) in &self.options.provide {
            // The server frees the lease of the client that it knows by this.
            if !is_release || *code == CLIENT_IDENTIFIER {
                options.insert(raw(*code, value));
            }
        }
        if !is_release {
            options.insert(DhcpOption::MaxMessageSize(LARGEST));
            let codes = self.options.request.iter().map(|code| OptionCode::from(*code));
            options.insert(DhcpOption::ParameterRequestList(codes.collect()));
        }
        options.insert(DhcpOption::MessageType(kind));
        for detail in details {
            options.insert(detail);
        }
        let encoded = message.to_vec();
        let mut bytes =
            encoded.map_err(|error| Error::internal(format!("a DHCP message: {error}")))?;
        bytes.resize(bytes.len().max(SHORTEST), 0);
        Ok(bytes)
    }
}

/// What a server says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) kind: u8,
    pub(crate) address: Option<Ipv4Addr>,
    pub(crate) server: Option<Ipv4Addr>,
    pub(crate) subnet_mask: Option<Ipv4Addr>,
    pub(crate) routers: Vec<Ipv4Addr>,
    pub(crate) static_routes: Vec<(Cidr, Ipv4Addr)>,
    pub(crate) classless_routes: Option<Vec<(Cidr, Ipv4Addr)>>,
    /// These times are in seconds from now.
    pub(crate) lease_time: Option<u32>,
    pub(crate) renewal_time: Option<u32>,
    pub(crate) rebinding_time: Option<u32>,
}

impl Answer {
    /// What a packet says, if it is an answer to the question of this number by this client.
    pub(crate) fn read(bytes: &[u8], number: u32, own: Mac) -> Option<Self> {
        let message = borrowed::Message::new(bytes).ok()?;
        let is_own = bytes.get(28..34) == Some(&own.0[..]) && message.xid() == number;
        if message.opcode() != Opcode::BootReply || !is_own {
            return None;
        }
        let address = Some(message.yiaddr()).filter(|address| !address.is_unspecified());
        let mut options = BTreeMap::<u8, Vec<u8>>::new();
        // RFC 3396: what is too long for one option goes on in the next one of the same code.
        let mut note = |all: DhcpOptionIterator<'_>| {
            for option in all {
                options.entry(option.code().into()).or_default().extend(option.data());
            }
            options.get(&OVERLOAD).and_then(|value| value.first()).copied().unwrap_or_default()
        };
        let overload = note(message.opts());
        // RFC 2132, 9.3: the fields for file and server name may have options as well.
        for (bit, field) in [(1, 108..236), (2, 44..108)] {
            let field = bytes.get(field).filter(|_| overload & bit != 0).unwrap_or_default();
            note(DhcpOptionIterator::new(field));
        }
        let mut answer = Self { address, ..Self::default() };
        options.iter().for_each(|(code, value)| answer.note(*code, value));
        Some(answer)
    }

    /// Whether it tells a way to other networks.
    pub(crate) fn has_routes(&self) -> bool {
        self.classless_routes.is_some()
            || !self.routers.is_empty()
            || !self.static_routes.is_empty()
    }

    pub(crate) fn is_offer(&self) -> bool {
        self.kind == u8::from(MessageType::Offer) && self.address.is_some()
    }

    pub(crate) fn is_ack(&self) -> bool {
        self.kind == u8::from(MessageType::Ack) && self.address.is_some()
    }

    pub(crate) fn is_nak(&self) -> bool {
        self.kind == u8::from(MessageType::Nak)
    }

    fn note(&mut self, code: u8, data: &[u8]) {
        let number = || Some(u32::from_be_bytes(*data.first_chunk()?));
        match code {
            MESSAGE_TYPE => self.kind = data.first().copied().unwrap_or_default(),
            SERVER => self.server = addresses(data).next(),
            SUBNET_MASK => self.subnet_mask = addresses(data).next(),
            ROUTERS => self.routers = addresses(data).collect(),
            STATIC_ROUTES => self.static_routes = static_routes(data),
            CLASSLESS_ROUTES => self.classless_routes = classless_routes(data),
            LEASE_TIME => self.lease_time = number(),
            RENEWAL_TIME => self.renewal_time = number(),
            REBINDING_TIME => self.rebinding_time = number(),
            _ => {}
        }
    }
}

fn addresses(data: &[u8]) -> impl Iterator<Item = Ipv4Addr> {
    data.chunks_exact(4).filter_map(|four| Some(Ipv4Addr::from(<[u8; 4]>::try_from(four).ok()?)))
}

/// Pairs of a destination, whose class tells its length, and a router. A default route must not be
/// among them (RFC 2132, 5.8).
fn static_routes(data: &[u8]) -> Vec<(Cidr, Ipv4Addr)> {
    let all: Vec<_> = addresses(data).collect();
    let pair = |pair: &[Ipv4Addr]| {
        let [destination, router] = pair else { return None };
        let prefix = match destination.octets() {
            [0 | 224..=255, ..] => return None,
            [..128, ..] => 8,
            [128..192, ..] => 16,
            _ => 24,
        };
        Some((network(*destination, prefix)?, *router))
    };
    all.chunks_exact(2).filter_map(pair).collect()
}

/// A length in bits, as many bytes of a destination as that needs, and a router, again and again.
/// `None` if it is something else.
fn classless_routes(mut data: &[u8]) -> Option<Vec<(Cidr, Ipv4Addr)>> {
    let mut routes = Vec::new();
    while let Some((prefix, rest)) = data.split_first() {
        let (destination, rest) = rest.split_at_checked(usize::from(prefix.div_ceil(8)))?;
        let (router, rest) = rest.split_at_checked(4)?;
        let mut octets = [0; 4];
        octets.get_mut(..destination.len())?.copy_from_slice(destination);
        routes.push((network(octets.into(), *prefix)?, addresses(router).next()?));
        data = rest;
    }
    Some(routes)
}

fn network(address: Ipv4Addr, prefix: u8) -> Option<Cidr> {
    let whole = IpNetwork::new(address.into(), prefix).ok()?;
    Some(IpNetwork::new(whole.network(), prefix).ok()?.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAC: Mac = Mac([2, 0, 0, 0, 0, 7]);

    fn options() -> Options {
        Options { request: vec![3, 1], provide: vec![(12, b"web".to_vec())] }
    }

    fn ask(ask: Ask, options: &Options) -> Message {
        let (identifier, is_broadcast) = (b"\0c1/lan/eth0".to_vec(), true);
        let client = Client { identifier, options, mac: MAC, is_broadcast };
        let bytes = client.encode(9, ask).unwrap();
        assert!(bytes.len() >= 300);
        dhcproto::Decodable::from_bytes(&bytes).unwrap()
    }

    #[test]
    fn each_question_has_what_the_rfc_wants_and_nothing_else() {
        let codes = |asked: Ask| -> Vec<u8> {
            ask(asked, &options()).opts().iter().map(|(code, _)| (*code).into()).collect()
        };
        let [address, server] = [Ipv4Addr::new(10, 1, 0, 5), Ipv4Addr::new(10, 1, 0, 1)];
        assert_eq!(codes(Ask::Discover), [12, 53, 55, 57, 61]);
        assert_eq!(codes(Ask::Request { address, server }), [12, 50, 53, 54, 55, 57, 61]);
        assert_eq!(codes(Ask::Extend { address }), [12, 53, 55, 57, 61]);
        assert_eq!(codes(Ask::Release { address, server }), [53, 54, 61]);
        let release = ask(Ask::Release { address, server }, &options());
        assert_eq!((release.ciaddr(), release.flags().broadcast()), (address, false));
        let discover = ask(Ask::Discover, &options());
        assert!(discover.ciaddr().is_unspecified() && discover.flags().broadcast());
    }

    #[test]
    fn a_client_identifier_of_the_configuration_is_that_of_the_release_too() {
        let own = Options { provide: vec![(61, b"mine".to_vec())], ..options() };
        let [address, server] = [Ipv4Addr::new(10, 1, 0, 5), Ipv4Addr::new(10, 1, 0, 1)];
        for asked in [Ask::Discover, Ask::Release { address, server }] {
            let message = ask(asked, &own);
            let found = message.opts().get(OptionCode::ClientIdentifier);
            assert_eq!(found, Some(&DhcpOption::ClientIdentifier(b"mine".to_vec())));
        }
    }

    #[test]
    fn static_routes_have_the_length_of_their_class() {
        let data =
            [10, 0, 0, 0, 10, 1, 2, 3, 192, 168, 1, 0, 192, 168, 2, 3, 0, 0, 0, 0, 1, 1, 1, 1];
        let routes: Vec<_> = static_routes(&data).iter().map(|(dst, _)| dst.to_string()).collect();
        assert_eq!(routes, ["10.0.0.0/8", "192.168.1.0/24"]);
    }

    #[test]
    fn classless_routes_are_as_short_as_they_can_be() {
        let data = [0, 10, 1, 0, 1, 24, 192, 168, 7, 0, 0, 0, 0, 9, 10, 128, 10, 1, 0, 2];
        let routes: Vec<_> = classless_routes(&data)
            .unwrap()
            .iter()
            .map(|(dst, hop)| format!("{dst} {hop}"))
            .collect();
        assert_eq!(
            routes,
            ["0.0.0.0/0 10.1.0.1", "192.168.7.0/24 0.0.0.0", "10.128.0.0/9 10.1.0.2"]
        );
        for end in [1, 4, 6, 12] {
            assert_eq!(classless_routes(&data[..end]), None, "{end}");
        }
        assert_eq!(classless_routes(&[33, 1, 2, 3, 4, 5, 6, 7, 8, 9]), None);
    }

    #[test]
    fn whatever_a_server_sends_is_read_or_passed_over() {
        let mut bytes = Message::default();
        bytes.set_opcode(Opcode::BootReply).set_xid(9).set_chaddr(&MAC.0);
        let mut bytes = bytes.to_vec().unwrap();
        bytes.truncate(240);
        bytes[2] = 255;
        bytes.extend([52, 1, 3, 53, 1, 5, 121, 2, 255, 9, 1, 3, 1, 2, 3, 51, 9, 1]);
        for end in 0..=bytes.len() {
            assert_eq!(Answer::read(&bytes[..end], 9, MAC).is_some(), end >= 240, "{end}");
        }
        let answer = Answer::read(&bytes, 9, MAC).unwrap();
        assert_eq!((answer.kind, answer.classless_routes, answer.subnet_mask), (5, None, None));
        assert_eq!(Answer::read(&bytes, 8, MAC), None);
        assert_eq!(Answer::read(&bytes, 9, Mac([2; 6])), None);
    }
}
