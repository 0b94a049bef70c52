//! Who reaches whom by packets of TCP and UDP, and as whom the server sees the client.

use std::{
    io,
    net::{IpAddr, SocketAddr, UdpSocket},
    time::Duration,
};

use crate::{place::Place, traffic::uninterrupted};

fn parsed(address: &str) -> IpAddr {
    address.parse().unwrap_or_else(|error| panic!("{address}: {error}"))
}

/// Every address of the family of `at`, with any free port: one that was used a moment ago may
/// be held by a process that is being started.
fn any(at: IpAddr) -> &'static str {
    if at.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" }
}

fn at_port_of(address: IpAddr, server: io::Result<SocketAddr>) -> String {
    SocketAddr::new(address, server.expect("a server has a port").port()).to_string()
}

/// As whom a TCP server at the address `at` of `place` sees a client in `from`.
#[track_caller]
pub fn seen_by_tcp(from: &Place, place: &Place, at: &str) -> String {
    let at = parsed(at);
    let server = place.tcp_server(any(at));
    let to = at_port_of(at, server.local_addr());
    let seen = from.tcp(&to, &server).unwrap_or_else(|error| panic!("tcp to {to}: {error}"));
    seen.to_canonical().to_string()
}

/// The same by TCP and by UDP.
#[track_caller]
pub fn seen(from: &Place, place: &Place, at: &str) -> String {
    let seen = seen_by_tcp(from, place, at);
    let server = place.udp_server(&SocketAddr::new(parsed(at), 0).to_string());
    let to = server.local_addr().expect("a server has an address").to_string();
    let by_udp = from.udp(&to, &server).unwrap_or_else(|error| panic!("udp to {to}: {error}"));
    assert_eq!(by_udp.to_canonical().to_string(), seen, "udp to {to}");
    seen
}

/// Whether a TCP server at the address `at` of `place` gets nothing of a client in `from`.
#[must_use]
pub fn is_refused(from: &Place, place: &Place, at: &str) -> bool {
    let at = parsed(at);
    let server = place.tcp_server(any(at));
    from.tcp_refused(&at_port_of(at, server.local_addr()), &server).is_err()
}

/// Asserts that one reaches the other at each of these addresses, by TCP and by UDP, or at none.
#[track_caller]
pub fn assert_reaches(from: &Place, to: &Place, at: &[String], is_open: bool) {
    for address in at {
        let address = parsed(address);
        // Ports of their own: what was sent before, and waited for a link, is for nobody.
        let (tcp, udp) = (to.tcp_server(any(address)), to.udp_server(any(address)));
        let tcp_at = at_port_of(address, tcp.local_addr());
        let udp_at = at_port_of(address, udp.local_addr());
        if is_open {
            from.tcp(&tcp_at, &tcp).unwrap_or_else(|error| panic!("tcp to {tcp_at}: {error}"));
            from.udp(&udp_at, &udp).unwrap_or_else(|error| panic!("udp to {udp_at}: {error}"));
        } else {
            assert!(from.tcp_refused(&tcp_at, &tcp).is_err(), "tcp to {tcp_at}");
            assert!(from.udp_refused(&udp_at, &udp).is_err(), "udp to {udp_at}");
        }
    }
}

/// Asserts that one reaches the other at each of these addresses.
#[track_caller]
pub fn reaches(from: &Place, to: &Place, at: &[String]) {
    assert_reaches(from, to, at, true);
}

/// Asserts that one reaches the other at none of these addresses.
#[track_caller]
pub fn is_cut_off(from: &Place, to: &Place, at: &[String]) {
    assert_reaches(from, to, at, false);
}

/// Sends a packet of each protocol to `at` (`address:port`), which is expected to lead to this port
/// of `to`: whom the server saw. Where nobody is expected to be reached, it gives up early.
pub fn knock(
    from: &Place,
    at: &str,
    to: &Place,
    port: u16,
    is_open: bool,
) -> [io::Result<IpAddr>; 2] {
    let any = format!("{}:{port}", if at.starts_with('[') { "[::]" } else { "0.0.0.0" });
    let (tcp, udp) = (to.tcp_server(&any), to.udp_server(&any));
    if is_open {
        [from.tcp(at, &tcp), from.udp(at, &udp)]
    } else {
        [from.tcp_refused(at, &tcp), from.udp_refused(at, &udp)]
    }
}

/// Sends a datagram that is expected to arrive at `server`, which does not answer.
///
/// # Errors
/// When it does not come within half a second.
pub fn arrives(client: &UdpSocket, server: &UdpSocket) -> io::Result<usize> {
    server.set_read_timeout(Some(Duration::from_millis(500)))?;
    // A refusal of what was sent before is told with the next word.
    client.send(b"ping").or_else(|_| client.send(b"ping"))?;
    uninterrupted(|| server.recv(&mut [0; 4]))
}
