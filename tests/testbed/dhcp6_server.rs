//! A DHCPv6 server that does what it is told.

use std::net::{Ipv6Addr, SocketAddr, SocketAddrV6, UdpSocket};

use crate::{
    place::Sandbox,
    told::{Answering, Saying, Told},
};

/// Solicit.
pub const SOLICIT: u8 = 1;
/// Request.
pub const REQUEST6: u8 = 3;
/// Renew.
pub const RENEW: u8 = 5;
/// Rebind.
pub const REBIND: u8 = 6;
/// Release.
pub const RELEASE6: u8 = 8;

/// What a client has said.
#[derive(Clone, Debug)]
pub struct Said6 {
    /// The type of the message.
    pub kind: u8,
    /// Its DUID.
    pub client: Vec<u8>,
    /// The DUID of the server that it means.
    pub server: Option<Vec<u8>>,
    /// The address that it names.
    pub address: Option<Ipv6Addr>,
    /// Where it comes from.
    pub source: Ipv6Addr,
    from: SocketAddrV6,
    number: [u8; 3],
    iaid: [u8; 4],
}

/// How a server answers.
#[derive(Clone, Debug)]
pub struct Manners6 {
    /// Not at all.
    pub is_silent: bool,
    /// This status, where an address was asked for: 2 is `NoAddrsAvail`, 3 `NoBinding`.
    pub status: Option<(u8, u16)>,
    /// At once.
    pub is_rapid: bool,
    /// In seconds: T1, T2, and how long an address is preferred and valid.
    pub times: [u32; 3],
    /// The last byte of the address that it gives.
    pub next: u16,
    /// What it says that it is.
    pub server: Vec<u8>,
}

/// A server with an address for everybody.
pub type Server6 = Told<Manners6>;

/// Its DUID.
pub const SERVER6: [u8; 10] = [0, 3, 0, 1, 2, 0, 0, 0, 0, 1];

impl Server6 {
    /// On the machine that [`Testbed::neighbour`](crate::Testbed::neighbour) is.
    ///
    /// # Panics
    /// When the port is taken.
    #[must_use]
    pub fn new(at: &Sandbox) -> Self {
        let socket = at.enter(|| {
            let socket = UdpSocket::bind("[::]:547").expect("the port of DHCPv6");
            let lan = nix::net::if_::if_nametoindex("lan").expect("the LAN");
            let servers = "ff02::1:2".parse().expect("an address");
            socket.join_multicast_v6(&servers, lan).expect("a member");
            socket
        });
        let (status, times, server) = (None, [1800, 2880, 3600], SERVER6.to_vec());
        let (is_silent, is_rapid, next) = (false, false, 0x50);
        let manners = Manners6 { is_silent, status, is_rapid, times, next, server };
        Self::at(manners, [(socket, false)])
    }
}

impl Saying for Said6 {
    fn kind(&self) -> u8 {
        self.kind
    }
}

impl Answering for Manners6 {
    type Said = Said6;

    fn read(packet: &[u8], source: SocketAddr, _: bool) -> Option<Said6> {
        Said6::read(packet, source)
    }

    fn answer(&mut self, said: &Said6) -> Option<(Vec<u8>, SocketAddr)> {
        (!self.is_silent).then(|| (answer(said, self), said.from.into()))
    }
}

impl Said6 {
    fn read(packet: &[u8], source: SocketAddr) -> Option<Self> {
        let SocketAddr::V6(from) = source else { return None };
        let (head, options) = packet.split_at_checked(4)?;
        let all = read_options(options);
        let find = |code| all.iter().find(|(own, _)| *own == code).map(|(_, value)| *value);
        let ia = find(3)?;
        let inner = read_options(ia.get(12..)?);
        let address = inner.iter().find(|(code, _)| *code == 5).map(|(_, value)| {
            let octets: [u8; 16] = value[..16].try_into().expect("an address");
            octets.into()
        });
        Some(Self {
            kind: head[0],
            client: find(1)?.to_vec(),
            server: find(2).map(<[u8]>::to_vec),
            address,
            source: *from.ip(),
            from,
            number: head[1..].try_into().ok()?,
            iaid: ia[..4].try_into().ok()?,
        })
    }
}

fn read_options(mut rest: &[u8]) -> Vec<(u16, &[u8])> {
    let mut found = Vec::new();
    while let Some((head, more)) = rest.split_at_checked(4) {
        let [code, length] = [0, 2].map(|at| u16::from_be_bytes([head[at], head[at + 1]]));
        let Some((value, next)) = more.split_at_checked(length.into()) else { break };
        found.push((code, value));
        rest = next;
    }
    found
}

fn option(code: u16, value: &[u8]) -> Vec<u8> {
    let length = u16::try_from(value.len()).expect("a short value");
    [&code.to_be_bytes()[..], &length.to_be_bytes(), value].concat()
}

fn answer(said: &Said6, now: &Manners6) -> Vec<u8> {
    let [t1, t2, lifetime] = now.times.map(u32::to_be_bytes);
    let address = Ipv6Addr::new(0x2001, 0xdb8, 0xffff, 0, 0, 0, 0, now.next).octets();
    let inner = match now.status {
        Some((kind, status)) if kind == said.kind => {
            option(13, &[&status.to_be_bytes()[..], b"sorry"].concat())
        }
        _ => option(5, &[&address[..], &lifetime, &lifetime].concat()),
    };
    let ia = [&said.iaid[..], &t1, &t2, &inner].concat();
    let is_offer = said.kind == SOLICIT && !now.is_rapid;
    let mut packet = vec![if is_offer { 2 } else { 7 }];
    packet.extend(said.number);
    packet.extend([option(1, &said.client), option(2, &now.server), option(3, &ia)].concat());
    if said.kind == SOLICIT && now.is_rapid {
        packet.extend(option(14, &[]));
    }
    packet
}
