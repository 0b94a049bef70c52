//! How fast packets get through. Each transfer is of few bytes, and the kernel's time stamps of their
//! arrival are what counts: a machine that is busy with something else measures the same.

use std::{
    io::{self, IoSliceMut, Read as _, Write as _},
    net::{SocketAddr, TcpStream, UdpSocket},
    os::fd::AsRawFd as _,
    thread,
    time::{Duration, Instant},
};

use nix::{
    cmsg_space,
    sys::{
        socket::{
            ControlMessageOwned, MsgFlags, recvmsg, setsockopt,
            sockopt::{RcvBufForce, ReceiveTimestampns},
        },
        time::TimeSpec,
    },
};

use crate::{place::Place, traffic::uninterrupted};

/// What a datagram carries, in bytes.
const PAYLOAD: usize = 1400;

/// Whoever waits so long for a packet waits for one that is lost.
const PATIENCE: Duration = Duration::from_secs(5);

/// A burst in bits that goes well with a rate in bits a second: what is sent in a twentieth of a
/// second, but a few packets at least.
#[must_use]
pub fn burst(rate: u64) -> u64 {
    (rate / 20).max(100_000)
}

/// A way that packets take.
#[derive(Debug, Clone, Copy)]
pub struct Way<'a> {
    /// Who sends.
    pub from: &'a Place,
    /// Who receives.
    pub to: &'a Place,
    /// An address of the receiver's.
    pub at: &'a str,
}

impl Way<'_> {
    /// Asserts that a link on the way limits it to this many bits a second, within a tenth: what was
    /// measured. The link's burst is as [`burst`] says. A machine that is very busy may be too slow
    /// itself, so it has three attempts.
    #[track_caller]
    pub fn assert_limited(self, asked: u64) -> u64 {
        self.assert_close(asked, Self::by_udp)
    }

    /// The same by a connection of TCP, whose packets the kernel joins to large ones.
    #[track_caller]
    pub fn assert_tcp_limited(self, asked: u64) -> u64 {
        self.assert_close(asked, Self::by_tcp)
    }

    #[track_caller]
    fn assert_close(self, asked: u64, measure: impl Fn(Self, u64) -> io::Result<u64>) -> u64 {
        let mut measured = Vec::new();
        for _ in 0..3 {
            match measure(self, asked) {
                Ok(rate) if rate.abs_diff(asked) <= asked / 10 => return rate,
                other => measured.push(other),
            }
        }
        panic!("asked for {asked} bits a second, measured {measured:?}")
    }

    /// Asserts that nothing limits it to anything like this many bits a second.
    #[track_caller]
    pub fn assert_faster(self, than: u64) {
        let measured = self.by_udp(than).unwrap_or_else(|error| panic!("{self:?}: {error}"));
        assert!(measured > than * 2, "{self:?}: {measured} bits a second");
    }

    fn is_ipv6(self) -> bool {
        self.at.contains(':')
    }

    /// Bytes of a frame beside the payload: Ethernet, IP, and what is above it.
    fn headers(self, above: usize) -> usize {
        14 + above + if self.is_ipv6() { 40 } else { 20 }
    }

    /// Bits a second, in frames, once the burst is used up. As many frames are on their way as
    /// the burst has, so none is lost, and the link always has one to send.
    fn by_udp(self, asked: u64) -> io::Result<u64> {
        let frame = PAYLOAD + self.headers(8);
        let window = bytes(burst(asked));
        let any = if self.is_ipv6() { "[::]:0" } else { "0.0.0.0:0" };
        let server = self.to.udp_server(any);
        server.set_read_timeout(Some(PATIENCE))?;
        setsockopt(&server, RcvBufForce, &(window * 8 + (1 << 20)))?;
        setsockopt(&server, ReceiveTimestampns, &true)?;
        let client = self.from.enter(|| UdpSocket::bind(any))?;
        client.connect(SocketAddr::new(parsed(self.at), server.local_addr()?.port()))?;
        let (skipped, total) = (2 * window, 2 * window + bytes(asked).max(frame * 100));
        let (mut sent, mut received, mut start) = (0, 0, None);
        loop {
            while sent + frame <= received + window {
                uninterrupted(|| client.send(&[0; PAYLOAD]))?;
                sent += frame;
            }
            let now = uninterrupted(|| receive(&server))?;
            received += frame;
            match start {
                None if received >= skipped => start = Some((now, received)),
                Some((then, before)) if received >= total => {
                    return Ok(rate(received - before, now - then));
                }
                _ => {}
            }
        }
    }

    fn by_tcp(self, asked: u64) -> io::Result<u64> {
        let any = if self.is_ipv6() { "[::]:0" } else { "0.0.0.0:0" };
        let server = self.to.tcp_server(any);
        let to = SocketAddr::new(parsed(self.at), server.local_addr()?.port());
        let mut client = self.from.enter(|| TcpStream::connect_timeout(&to, PATIENCE))?;
        let (mut answering, _) = server.accept()?;
        client.set_write_timeout(Some(PATIENCE))?;
        answering.set_read_timeout(Some(PATIENCE))?;
        let (skipped, total) = (4 * bytes(burst(asked)), 4 * bytes(burst(asked)) + bytes(asked));
        thread::scope(|scope| {
            scope.spawn(move || client.write_all(&vec![0; total]));
            let (mut received, mut start) = (0, None);
            let mut buffer = [0; 4096];
            while received < total {
                received += match uninterrupted(|| answering.read(&mut buffer))? {
                    0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                    length => length,
                };
                if start.is_none() && received >= skipped {
                    start = Some((Instant::now(), received));
                }
            }
            let (then, before) = start.ok_or(io::ErrorKind::InvalidData)?;
            // A segment carries this much, and time stamps of its own.
            let payload = 1500 - self.headers(20 + 12) + 14;
            let frames = (received - before).div_ceil(payload);
            Ok(rate(received - before + frames * self.headers(32), then.elapsed()))
        })
    }
}

/// Bits a second.
fn rate(bytes: usize, time: Duration) -> u64 {
    let bits = u128::try_from(bytes).expect("a number of bytes") * 8;
    let rate = bits * 1_000_000_000 / time.as_nanos().max(1);
    u64::try_from(rate).unwrap_or(u64::MAX)
}

fn bytes(bits: u64) -> usize {
    usize::try_from(bits / 8).expect("a number of bytes")
}

fn parsed(address: &str) -> std::net::IpAddr {
    address.parse().unwrap_or_else(|error| panic!("{address}: {error}"))
}

/// When the kernel got the next datagram.
fn receive(server: &UdpSocket) -> io::Result<Duration> {
    let mut payload = [0; PAYLOAD];
    let mut parts = [IoSliceMut::new(&mut payload)];
    let mut space = cmsg_space!(TimeSpec);
    let flags = MsgFlags::empty();
    let message = recvmsg::<()>(server.as_raw_fd(), &mut parts, Some(&mut space), flags)?;
    let mut notes = message.cmsgs()?;
    notes
        .find_map(|note| match note {
            ControlMessageOwned::ScmTimestampns(time) => Some(time.into()),
            _ => None,
        })
        .ok_or_else(|| io::Error::other("a datagram without a time stamp"))
}
