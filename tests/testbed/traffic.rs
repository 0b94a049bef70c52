//! Packets: a server here, a client there, and the address by which the server saw the client.
//!
//! No thread answers: a socket belongs to the network it was made in, so one thread plays both
//! sides, in order.

use std::{
    io::{self, Read as _, Write as _},
    net::{IpAddr, SocketAddr, SocketAddrV4, TcpListener, TcpStream, UdpSocket},
    os::fd::{AsRawFd as _, OwnedFd},
    thread,
    time::{Duration, Instant},
};

use nix::sys::{
    socket::{
        self, AddressFamily, Backlog, SockFlag, SockProtocol, SockType, SockaddrIn, connect,
        listen, setsockopt,
        sockopt::{ReceiveTimeout, SendTimeout},
    },
    time::TimeVal,
};

use crate::place::Place;

/// Long enough for a lost SYN to be sent again; on one machine an answer takes microseconds.
const PATIENCE: Duration = Duration::from_secs(5);
/// For packets that must *not* arrive.
const IMPATIENCE: Duration = Duration::from_millis(300);

/// Binds a server, although a port that was just closed may look busy for a moment: a program
/// that another thread is starting holds a copy of every socket until it is executed.
fn bind<T>(try_bind: impl Fn() -> io::Result<T>) -> io::Result<T> {
    let start = Instant::now();
    loop {
        match try_bind() {
            Err(error)
                if error.kind() == io::ErrorKind::AddrInUse && start.elapsed() < IMPATIENCE =>
            {
                thread::yield_now();
            }
            bound => return bound,
        }
    }
}

/// A call that waits no longer than a time limit, again when it was interrupted: with such a limit
/// the kernel does not restart it after the process was stopped for a moment (signal(7)).
pub fn uninterrupted<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            done => return done,
        }
    }
}

/// A word in each direction: the address by which the server sees the client.
fn talk(mut client: TcpStream, server: &TcpListener, patience: Duration) -> io::Result<IpAddr> {
    let (mut answering, peer) = server.accept()?;
    for stream in [&client, &answering] {
        stream.set_read_timeout(Some(patience))?;
    }
    let mut word = [0; 4];
    client.write_all(b"ping")?;
    answering.read_exact(&mut word)?;
    answering.write_all(b"pong")?;
    client.read_exact(&mut word)?;
    if word == *b"pong" { Ok(peer.ip()) } else { Err(io::Error::other("another server answered")) }
}

/// A socket of SCTP in the style of TCP: whoever has it may use it as one of TCP.
pub(crate) fn sctp_socket() -> nix::Result<OwnedFd> {
    let (stream, flags) = (SockType::Stream, SockFlag::SOCK_CLOEXEC);
    let socket = socket::socket(AddressFamily::Inet, stream, flags, SockProtocol::Sctp)?;
    setsockopt(&socket, ReceiveTimeout, &TimeVal::new(5, 0))?;
    // What connecting takes at most.
    setsockopt(&socket, SendTimeout, &TimeVal::new(5, 0))?;
    Ok(socket)
}

impl Place {
    /// A TCP server here. Port 0 is any free one.
    #[must_use]
    pub fn tcp_server(&self, address: &str) -> TcpListener {
        let server = self.enter(|| bind(|| TcpListener::bind(address))).expect("a TCP server");
        setsockopt(&server, ReceiveTimeout, &TimeVal::new(5, 0)).expect("a time limit");
        server
    }

    /// A UDP server here.
    #[must_use]
    pub fn udp_server(&self, address: &str) -> UdpSocket {
        self.enter(|| bind(|| UdpSocket::bind(address))).expect("a UDP server")
    }

    /// Connects from here to `to`, where `server` answers, and sends a word in each direction:
    /// the address by which the server saw us.
    ///
    /// # Errors
    /// When a packet is lost or answered by a refusal.
    pub fn tcp(&self, to: &str, server: &TcpListener) -> io::Result<IpAddr> {
        self.tcp_within(PATIENCE, to, server)
    }

    /// As [`Place::tcp`], but gives up early: for connections that must fail.
    ///
    /// # Errors
    /// When, as expected, there is no connection.
    pub fn tcp_refused(&self, to: &str, server: &TcpListener) -> io::Result<IpAddr> {
        self.tcp_within(IMPATIENCE, to, server)
    }

    fn tcp_within(&self, patience: Duration, to: &str, server: &TcpListener) -> io::Result<IpAddr> {
        let to: SocketAddr = to.parse().map_err(io::Error::other)?;
        let client = self.enter(|| TcpStream::connect_timeout(&to, patience))?;
        talk(client, server, patience)
    }

    /// An SCTP server here.
    #[must_use]
    pub fn sctp_server(&self, address: &str) -> TcpListener {
        let address: SocketAddrV4 = address.parse().expect("an address of IPv4");
        let server = self.enter(sctp_socket).expect("a kernel with SCTP");
        socket::bind(server.as_raw_fd(), &SockaddrIn::from(address)).expect("bind it");
        listen(&server, Backlog::MAXCONN).expect("listen");
        server.into()
    }

    /// As [`Place::tcp`], over SCTP and IPv4.
    ///
    /// # Errors
    /// When a packet is lost or answered by a refusal.
    pub fn sctp(&self, to: &str, server: &TcpListener) -> io::Result<IpAddr> {
        let to: SocketAddrV4 = to.parse().map_err(io::Error::other)?;
        let client = self.enter(sctp_socket)?;
        connect(client.as_raw_fd(), &SockaddrIn::from(to))?;
        talk(client.into(), server, PATIENCE)
    }

    /// Sends a datagram from here to `to`, where `server` answers: the address by which the
    /// server saw us.
    ///
    /// # Errors
    /// When a packet is lost in either direction.
    pub fn udp(&self, to: &str, server: &UdpSocket) -> io::Result<IpAddr> {
        self.udp_within(PATIENCE, to, server)
    }

    /// As [`Place::udp`], but gives up early: for datagrams that must not arrive.
    ///
    /// # Errors
    /// When, as expected, there is no answer.
    pub fn udp_refused(&self, to: &str, server: &UdpSocket) -> io::Result<IpAddr> {
        self.udp_within(IMPATIENCE, to, server)
    }

    fn udp_within(&self, patience: Duration, to: &str, server: &UdpSocket) -> io::Result<IpAddr> {
        let to: SocketAddr = to.parse().map_err(io::Error::other)?;
        let any = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
        let client = self.enter(|| UdpSocket::bind(any))?;
        client.connect(to)?;
        client.set_read_timeout(Some(patience))?;
        server.set_read_timeout(Some(patience))?;
        let mut word = [0; 4];
        client.send(b"ping")?;
        let (_, peer) = uninterrupted(|| server.recv_from(&mut word))?;
        server.send_to(b"pong", peer)?;
        uninterrupted(|| client.recv(&mut word))?;
        Ok(peer.ip())
    }
}
