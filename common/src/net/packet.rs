//! UDP of IPv4 by frames (packet(7)): it needs no address on the link, reaches a machine whose hardware
//! address is known without ARP, and passes by the packet filter.

use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::os::fd::AsRawFd as _;
use std::thread;

use nix::errno::Errno;
use nix::ifaddrs::getifaddrs;
use nix::sys::socket::{
    AddressFamily, LinkAddr, MsgFlags, SockFlag, SockProtocol, SockType, recvfrom, sendto, socket,
};
use tokio::io::Interest;

use super::{Context as _, Error, Mac, Netns, Result};

const ETHERTYPE: [u8; 2] = [0x08, 0x00];
const UDP: u8 = 17;
const ETHERNET_HEADER: usize = 14;
const IP_HEADER: usize = 20;
const UDP_HEADER: usize = 8;

/// Room for any frame of an Ethernet link: larger ones are cut off, and no datagram of ours is.
const FRAME: usize = 9216;

/// A datagram, and the hardware address of the other machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Datagram {
    /// Whom it goes to, or came from, on the link.
    pub mac: Mac,
    /// Who sends it.
    pub source: SocketAddrV4,
    /// Whom it is for.
    pub target: SocketAddrV4,
    /// What it says.
    pub payload: Vec<u8>,
}

/// A socket for datagrams to one port, on one link. It stays in the namespace that it was opened in, and keeps that
/// alive.
#[derive(Debug)]
pub struct PacketSocket {
    /// Of another family than its type says. None when it is about to be closed.
    socket: Option<UdpSocket>,
    /// The link: what is sent is to leave by it, and what comes by another one is for others.
    link: LinkAddr,
    mac: Mac,
    port: u16,
    /// The kernel answers with an error of ICMP what comes to its address and to a port without a socket.
    _silence: Option<UdpSocket>,
}

impl PacketSocket {
    /// Opens one on a link of a namespace, for what comes to `port`.
    ///
    /// # Errors
    /// When there is no such link, or none with a hardware address.
    pub fn open(netns: &Netns, link: u32, port: u16) -> Result<Self> {
        let what = || format!("open a packet socket on link {link}");
        netns.enter(|| {
            // Among the addresses of a link is its own in the shape that bind(2) wants.
            let mut all = getifaddrs().doing(what)?;
            let own = all.find_map(|found| {
                let own = *found.address?.as_link_addr()?;
                (u32::try_from(own.ifindex()) == Ok(link)).then_some(own)
            });
            let own =
                own.ok_or_else(|| Error::with_errno(what(), Errno::ENODEV as i32, "no such link"))?;
            let mac = own.addr().filter(|_| own.halen() == 6).map(Mac);
            let mac = mac.ok_or_else(|| Error::new(what(), "it has no hardware address"))?;
            let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
            let socket = socket(AddressFamily::Packet, SockType::Raw, flags, SockProtocol::EthIp);
            // Not bound to the link: that would wait for the kernel as closing it does.
            let socket = socket.doing(what)?;
            // Somebody in the container may have the port, and then there is a socket.
            let silence = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port)).ok();
            Ok(Self { socket: Some(socket.into()), link: own, mac, port, _silence: silence })
        })?
    }

    /// The link's own hardware address.
    pub fn mac(&self) -> Mac {
        self.mac
    }

    /// Sends a datagram. A full queue of the link loses it, as a network may.
    ///
    /// # Errors
    /// When the link is down or gone.
    pub fn send(&self, datagram: &Datagram) -> Result<()> {
        let what = || format!("send a datagram to {}", datagram.target);
        let send = |socket: &UdpSocket| {
            let frame = frame(datagram, self.mac);
            Ok(sendto(socket.as_raw_fd(), &frame, &self.link, MsgFlags::empty())?)
        };
        match self.socket().and_then(send) {
            Err(error) if !is_full(&error) => Err(error).doing(what),
            _ => Ok(()),
        }
    }

    fn socket(&self) -> io::Result<&UdpSocket> {
        self.socket.as_ref().ok_or_else(|| ErrorKind::NotConnected.into())
    }

    /// Waits for the next datagram to the port. To be called within a runtime of tokio.
    ///
    /// # Errors
    /// When the link is down or gone.
    pub async fn receive(&self) -> Result<Datagram> {
        let what = || format!("wait for a datagram to port {}", self.port);
        let socket = self.socket().and_then(UdpSocket::try_clone);
        let socket = socket.and_then(tokio::net::UdpSocket::from_std);
        let (socket, mut buffer) = (socket.doing(what)?, vec![0; FRAME]);
        loop {
            let receive = || Ok(recvfrom::<LinkAddr>(socket.as_raw_fd(), &mut buffer)?);
            let (length, from) = socket.async_io(Interest::READABLE, receive).await.doing(what)?;
            let is_own = from.is_some_and(|from| from.ifindex() == self.link.ifindex());
            let datagram = buffer.get(..length).filter(|_| is_own).and_then(parse);
            if let Some(found) = datagram.filter(|found| found.target.port() == self.port) {
                return Ok(found);
            }
            // Much else may come, and must not keep others from their turn.
            tokio::task::yield_now().await;
        }
    }
}

impl Drop for PacketSocket {
    /// The kernel waits until nobody looks at such a socket any more (`packet_release` in
    /// net/packet/af_packet.c), which takes longer than all else that is done with one. A thread of its
    /// own waits too, because one that serves hundreds of links would wait for each of them in turn.
    fn drop(&mut self) {
        let socket = self.socket.take();
        // Without a thread it is closed right here.
        drop(thread::Builder::new().spawn(move || drop(socket)));
    }
}

/// Whether a queue has no room.
fn is_full(error: &io::Error) -> bool {
    error.kind() == ErrorKind::WouldBlock || error.raw_os_error() == Some(Errno::ENOBUFS as i32)
}

fn frame(datagram: &Datagram, own: Mac) -> Vec<u8> {
    let Datagram { mac, source, target, payload } = datagram;
    let length = |bytes: usize| u16::try_from(bytes).unwrap_or(u16::MAX).to_be_bytes();
    let udp_length = length(UDP_HEADER + payload.len());
    let addresses = [source.ip().octets(), target.ip().octets()].concat();

    let mut udp = [source.port().to_be_bytes(), target.port().to_be_bytes(), udp_length].concat();
    // RFC 768: the sum covers addresses and protocol as well; zero would say that there is none.
    let pseudo = [&addresses[..], &[0, UDP], &udp_length, &udp, payload].concat();
    let sum = match checksum(&pseudo) {
        0 => u16::MAX,
        sum => sum,
    };
    udp.extend(sum.to_be_bytes());

    let total = length(IP_HEADER + UDP_HEADER + payload.len());
    let start = [0x45, 0x10, total[0], total[1], 0, 0, 0x40, 0, 64, UDP];
    let sum = checksum(&[&start[..], &addresses].concat()).to_be_bytes();
    [&mac.0[..], &own.0, &ETHERTYPE, &start, &sum, &addresses, &udp, payload].concat()
}

/// The datagram in a frame, if it is one. Its sum is not checked: a machine on the same host leaves that
/// to hardware that its frames never see.
fn parse(frame: &[u8]) -> Option<Datagram> {
    let mac = Mac(frame.get(6..12)?.try_into().ok()?);
    let packet = frame.get(ETHERNET_HEADER..)?;
    let first = *packet.first()?;
    let header = usize::from(first & 0x0f) * 4;
    let fragment = u16::from_be_bytes(packet.get(6..8)?.try_into().ok()?) & 0x3fff;
    if first >> 4 != 4 || header < IP_HEADER || *packet.get(9)? != UDP || fragment != 0 {
        return None;
    }
    let address = |at: usize| {
        let octets: [u8; 4] = packet.get(at..at + 4)?.try_into().ok()?;
        Some(Ipv4Addr::from(octets))
    };
    let udp = packet.get(header..)?;
    let number = |at: usize| Some(u16::from_be_bytes(udp.get(at..at + 2)?.try_into().ok()?));
    let payload = udp.get(UDP_HEADER..usize::from(number(4)?))?.to_vec();
    let source = SocketAddrV4::new(address(12)?, number(0)?);
    let target = SocketAddrV4::new(address(16)?, number(2)?);
    Some(Datagram { mac, source, target, payload })
}

/// The checksum of the Internet Protocol (RFC 1071).
fn checksum(bytes: &[u8]) -> u16 {
    let word = |pair: &[u8]| match pair {
        [high, low] => u32::from(u16::from_be_bytes([*high, *low])),
        [high] => u32::from(*high) << 8,
        _ => 0,
    };
    let mut sum: u32 = bytes.chunks(2).map(word).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).unwrap_or(u16::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn datagram() -> Datagram {
        Datagram {
            mac: Mac([2, 0, 0, 0, 0, 2]),
            source: "10.1.0.2:68".parse().unwrap(),
            target: "10.1.0.1:67".parse().unwrap(),
            payload: b"odd".to_vec(),
        }
    }

    #[test]
    fn what_is_sent_can_be_read() {
        let own = Mac([2, 0, 0, 0, 0, 1]);
        let bytes = frame(&datagram(), own);
        // Both sums, taken over what they cover with themselves in it, are zero.
        assert_eq!(checksum(&bytes[14..34]), 0);
        let pseudo = [&bytes[26..34], &[0, UDP, 0, 11], &bytes[34..]].concat();
        assert_eq!(checksum(&pseudo), 0);
        assert_eq!(parse(&bytes).unwrap(), Datagram { mac: own, ..datagram() });
    }

    #[test]
    fn what_is_no_datagram_is_passed_over() {
        let bytes = frame(&datagram(), Mac([2, 0, 0, 0, 0, 1]));
        for end in 0..bytes.len() {
            assert_eq!(parse(&bytes[..end]), None, "{end} bytes");
        }
        for (at, value) in [(14, 0x65), (14, 0x41), (20, 0x20), (23, 6), (39, 2), (38, 9)] {
            let mut other = bytes.clone();
            other[at] = value;
            assert_eq!(parse(&other), None, "byte {at}");
        }
    }
}
