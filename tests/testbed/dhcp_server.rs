//! A DHCP server that does what it is told, and tells what it hears.

use std::{
    net::{Ipv4Addr, SocketAddr, UdpSocket},
    sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc},
    thread,
    time::Duration,
};

use crate::{dhcp::PATIENCE, place::Sandbox};

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
}

impl Default for Manners {
    fn default() -> Self {
        let (is_silent, is_deaf, refuses) = (false, false, false);
        let options = vec![(1, vec![255, 255, 255, 0]), (3, vec![203, 0, 113, 2])];
        Self { is_silent, is_deaf, refuses, times: [3600, 0, 0], next: 50, options }
    }
}

/// A server at 203.0.113.2 that does what it is told, and tells what it hears.
#[derive(Debug)]
pub struct Server {
    manners: Arc<Mutex<Manners>>,
    heard: mpsc::Receiver<Said>,
}

/// Its addresses, by client identifier.
type Given = Arc<Mutex<Vec<(Vec<u8>, Ipv4Addr)>>>;

const OWN: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 2);

impl Server {
    /// On the machine that [`Testbed::neighbour`](crate::Testbed::neighbour) is.
    ///
    /// # Panics
    /// When the machine is another one.
    #[must_use]
    pub fn new(at: &Sandbox) -> Self {
        at.ip("route add 255.255.255.255/32 dev lan");
        let (tell, heard) = mpsc::channel();
        let manners = Arc::new(Mutex::new(Manners::default()));
        let given = Given::default();
        for (own, is_unicast) in [("203.0.113.2:67", true), ("255.255.255.255:67", false)] {
            let socket = at.enter(|| UdpSocket::bind(own)).expect("the port of DHCP");
            socket.set_broadcast(true).expect("a socket that may send to all");
            socket.set_read_timeout(Some(Duration::from_millis(50))).expect("a time limit");
            let (tell, manners) = (tell.clone(), Arc::downgrade(&manners));
            let given = Arc::clone(&given);
            drop(thread::spawn(move || {
                let mut buffer = [0; 2000];
                loop {
                    let received = socket.recv_from(&mut buffer);
                    let Some(manners) = manners.upgrade() else { break };
                    let Ok((length, source)) = received else { continue };
                    let Some(said) = Said::read(&buffer[..length], source, is_unicast) else {
                        continue;
                    };
                    let now = lock(&manners).clone();
                    if let Some(answer) = answer(&said, &now, &manners, &given) {
                        let to = (Ipv4Addr::BROADCAST, 68);
                        socket.send_to(&answer, to).expect("send to all");
                    }
                    if tell.send(said).is_err() {
                        break;
                    }
                }
            }));
        }
        Self { manners, heard }
    }

    /// How it answers from now on.
    pub fn set(&self, change: impl FnOnce(&mut Manners)) {
        change(&mut lock(&self.manners));
    }

    /// The next thing of this kind that a client says.
    ///
    /// # Panics
    /// When none comes.
    #[track_caller]
    pub fn hears(&self, kind: u8) -> Said {
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

    /// What was heard so far.
    #[must_use]
    pub fn heard(&self) -> Vec<Said> {
        self.heard.try_iter().collect()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn answer(said: &Said, now: &Manners, manners: &Mutex<Manners>, given: &Given) -> Option<Vec<u8>> {
    if now.is_silent || said.is_unicast && now.is_deaf || said.kind == RELEASE {
        return None;
    }
    let client = said.option(61)?.to_vec();
    let is_extension = said.kind == REQUEST && said.option(54).is_none();
    let known = lock(given).iter().find(|(own, _)| *own == client).map(|(_, address)| *address);
    let (kind, address) = if is_extension && now.refuses {
        // The address that it gets instead is another one.
        lock(given).retain(|(own, _)| *own != client);
        (6, Ipv4Addr::UNSPECIFIED)
    } else {
        let address = known.unwrap_or_else(|| {
            let mut manners = lock(manners);
            let address = Ipv4Addr::new(203, 0, 113, manners.next);
            manners.next += 1;
            lock(given).push((client, address));
            address
        });
        (if said.kind == DISCOVER { 2 } else { 5 }, address)
    };
    let mut packet = said.packet[..240].to_vec();
    packet[0] = 2;
    packet[16..20].copy_from_slice(&address.octets());
    let mut option = |code: u8, value: &[u8]| {
        packet.extend([code, u8::try_from(value.len()).expect("a short value")]);
        packet.extend(value);
    };
    option(53, &[kind]);
    option(54, &OWN.octets());
    if kind != 6 {
        for (code, seconds) in [51, 58, 59].into_iter().zip(now.times) {
            if seconds > 0 {
                option(code, &seconds.to_be_bytes());
            }
        }
        for (code, value) in &now.options {
            option(*code, value);
        }
    }
    packet.push(255);
    packet.resize(packet.len().max(300), 0);
    Some(packet)
}
