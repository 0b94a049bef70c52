//! A DHCP server that does what it is told.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket},
};

use crate::{
    place::Sandbox,
    told::{Answering, Saying, Told},
};

/// What a client has said.
#[derive(Clone, Debug)]
pub struct Said {
    /// DISCOVER, REQUEST, RELEASE: option 53.
    pub kind: u8,
    /// The address that it says it has.
    pub ciaddr: Ipv4Addr,
    /// Whether it was sent to the server alone.
    pub is_unicast: bool,
    /// Whether answers are to go to all.
    pub wants_broadcast: bool,
    /// The hardware address that it says it has.
    pub mac: String,
    /// By the address of the packet.
    pub source: Ipv4Addr,
    /// Codes and values.
    pub options: Vec<(u8, Vec<u8>)>,
    packet: Vec<u8>,
}

/// DISCOVER.
pub const DISCOVER: u8 = 1;
/// REQUEST.
pub const REQUEST: u8 = 3;
/// RELEASE.
pub const RELEASE: u8 = 7;

impl Said {
    fn read(packet: &[u8], source: SocketAddr, is_unicast: bool) -> Option<Self> {
        let mut options = Vec::new();
        let mut rest = packet.get(240..)?;
        while let [code, length, more @ ..] = rest {
            if *code == 255 {
                break;
            }
            let (value, next) = more.split_at_checked(usize::from(*length))?;
            options.push((*code, value.to_vec()));
            rest = next;
        }
        let SocketAddr::V4(source) = source else { return None };
        let kind = *options.iter().find(|(code, _)| *code == 53)?.1.first()?;
        Some(Self {
            kind,
            ciaddr: address(packet.get(12..16)?),
            is_unicast,
            wants_broadcast: packet.get(10)? & 0x80 != 0,
            mac: packet.get(28..34)?.iter().map(|byte| format!("{byte:02x}")).collect(),
            source: *source.ip(),
            options,
            packet: packet.to_vec(),
        })
    }

    /// The value of an option.
    #[must_use]
    pub fn option(&self, code: u8) -> Option<&[u8]> {
        self.options.iter().find(|(own, _)| *own == code).map(|(_, value)| &value[..])
    }
}

fn address(bytes: &[u8]) -> Ipv4Addr {
    let octets: [u8; 4] = bytes.try_into().expect("four bytes");
    octets.into()
}

/// How a server answers.
#[derive(Clone, Debug)]
pub struct Manners {
    /// Not at all.
    pub is_silent: bool,
    /// What is sent to it alone is not heard.
    pub is_deaf: bool,
    /// Refuses whoever asks for more time.
    pub refuses: bool,
    /// In seconds: how long a lease is, and options 58 and 59 if they are not 0.
    pub times: [u32; 3],
    /// The last byte of the address that a client gets that is new.
    pub next: u8,
    /// More options of each answer.
    pub options: Vec<(u8, Vec<u8>)>,
    /// What it says that it is.
    pub server: Ipv4Addr,
    /// Its addresses, by client identifier.
    given: BTreeMap<Vec<u8>, Ipv4Addr>,
}

impl Default for Manners {
    fn default() -> Self {
        let (is_silent, is_deaf, refuses) = (false, false, false);
        let options = vec![(1, vec![255, 255, 255, 0]), (3, vec![203, 0, 113, 2])];
        let (times, given) = ([3600, 0, 0], BTreeMap::new());
        Self { is_silent, is_deaf, refuses, times, next: 50, options, server: OWN, given }
    }
}

/// A server at 203.0.113.2.
pub type Server = Told<Manners>;

const OWN: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 2);

impl Server {
    /// On the machine that [`Testbed::neighbour`](crate::Testbed::neighbour) is.
    ///
    /// # Panics
    /// When the machine is another one.
    #[must_use]
    pub fn new(at: &Sandbox) -> Self {
        at.ip("route add 255.255.255.255/32 dev lan");
        let sockets = [("203.0.113.2:67", true), ("255.255.255.255:67", false)];
        let sockets = sockets.map(|(own, is_unicast)| {
            let socket = at.enter(|| UdpSocket::bind(own)).expect("the port of DHCP");
            socket.set_broadcast(true).expect("a socket that may send to all");
            (socket, is_unicast)
        });
        Self::at(Manners::default(), sockets)
    }
}

impl Saying for Said {
    fn kind(&self) -> u8 {
        self.kind
    }
}

impl Answering for Manners {
    type Said = Said;

    fn read(packet: &[u8], source: SocketAddr, is_unicast: bool) -> Option<Said> {
        Said::read(packet, source, is_unicast)
    }

    fn answer(&mut self, said: &Said) -> Option<(Vec<u8>, SocketAddr)> {
        if self.is_silent || said.is_unicast && self.is_deaf || said.kind == RELEASE {
            return None;
        }
        let client = said.option(61)?.to_vec();
        let is_extension = said.kind == REQUEST && said.option(54).is_none();
        if is_extension && self.refuses {
            // The address that it gets instead is another one.
            self.given.remove(&client);
            return Some((self.packet(said, 6, Ipv4Addr::UNSPECIFIED), EVERYBODY));
        }
        let next = &mut self.next;
        let address = *self.given.entry(client).or_insert_with(|| {
            *next += 1;
            Ipv4Addr::new(203, 0, 113, *next - 1)
        });
        let kind = if said.kind == DISCOVER { 2 } else { 5 };
        Some((self.packet(said, kind, address), EVERYBODY))
    }
}

const EVERYBODY: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::BROADCAST), 68);

impl Manners {
    fn packet(&self, said: &Said, kind: u8, address: Ipv4Addr) -> Vec<u8> {
        let mut packet = said.packet[..240].to_vec();
        packet[0] = 2;
        packet[16..20].copy_from_slice(&address.octets());
        let mut option = |code: u8, value: &[u8]| {
            packet.extend([code, u8::try_from(value.len()).expect("a short value")]);
            packet.extend(value);
        };
        option(53, &[kind]);
        option(54, &self.server.octets());
        if kind != 6 {
            for (code, seconds) in [51, 58, 59].into_iter().zip(self.times) {
                if seconds > 0 {
                    option(code, &seconds.to_be_bytes());
                }
            }
            for (code, value) in &self.options {
                option(*code, value);
            }
        }
        packet.push(255);
        packet.resize(packet.len().max(300), 0);
        packet
    }
}
