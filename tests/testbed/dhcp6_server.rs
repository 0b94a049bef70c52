//! A DHCPv6 server that does what it is told, and tells what it hears.

use std::{
    net::{Ipv6Addr, SocketAddr, SocketAddrV6, UdpSocket},
    sync::{Arc, Mutex, PoisonError, mpsc},
    thread,
    time::Duration,
};

use crate::{dhcp::PATIENCE, place::Sandbox};

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
}

/// A server with an address for everybody.
#[derive(Debug)]
pub struct Server6 {
    manners: Arc<Mutex<Manners6>>,
    heard: mpsc::Receiver<Said6>,
}

/// Its DUID.
pub const SERVER6: [u8; 10] = [0, 3, 0, 1, 2, 0, 0, 0, 0, 1];

impl Server6 {
    /// On the machine that [`Testbed::neighbour`](crate::Testbed::neighbour) is.
    ///
    /// # Panics
    /// When the port is taken.
    #[must_use]
    pub fn new(at: &Sandbox) -> Self {
        let (tell, heard) = mpsc::channel();
        let (status, times) = (None, [1800, 2880, 3600]);
        let manners = Manners6 { is_silent: false, status, is_rapid: false, times, next: 0x50 };
        let manners = Arc::new(Mutex::new(manners));
        let socket = at.enter(|| {
            let socket = UdpSocket::bind("[::]:547").expect("the port of DHCPv6");
            let lan = nix::net::if_::if_nametoindex("lan").expect("the LAN");
            let servers = "ff02::1:2".parse().expect("an address");
            socket.join_multicast_v6(&servers, lan).expect("a member");
            socket
        });
        socket.set_read_timeout(Some(Duration::from_millis(50))).expect("a time limit");
        let weak = Arc::downgrade(&manners);
        drop(thread::spawn(move || {
            let mut buffer = [0; 2000];
            loop {
                let received = socket.recv_from(&mut buffer);
                let Some(manners) = weak.upgrade() else { break };
                let Ok((length, SocketAddr::V6(source))) = received else { continue };
                let Some(said) = Said6::read(&buffer[..length], source) else { continue };
                let now = manners.lock().unwrap_or_else(PoisonError::into_inner).clone();
                if !now.is_silent {
                    // The client may be gone by now.
                    socket.send_to(&answer(&said, &now), source).ok();
                }
                if tell.send(said).is_err() {
                    break;
                }
            }
        }));
        Self { manners, heard }
    }

    /// How it answers from now on.
    pub fn set(&self, change: impl FnOnce(&mut Manners6)) {
        change(&mut self.manners.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// The next thing of this kind that a client says.
    ///
    /// # Panics
    /// When none comes.
    #[track_caller]
    pub fn hears(&self, kind: u8) -> Said6 {
        loop {
            let said = self.heard.recv_timeout(PATIENCE).expect("a packet of a client");
            if said.kind == kind {
                return said;
            }
        }
    }

    /// Forgets what was heard.
    pub fn forget(&self) {
        while self.heard.try_recv().is_ok() {}
    }
}

impl Said6 {
    fn read(packet: &[u8], source: SocketAddrV6) -> Option<Self> {
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
            source: *source.ip(),
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
    packet.extend([option(1, &said.client), option(2, &SERVER6), option(3, &ia)].concat());
    if said.kind == SOLICIT && now.is_rapid {
        packet.extend(option(14, &[]));
    }
    packet
}
