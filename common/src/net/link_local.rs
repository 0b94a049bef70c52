//! UDP of IPv6 from the link-local address of a link, which needs no other address.

use std::io::ErrorKind;
use std::net::{Ipv6Addr, SocketAddrV6, UdpSocket};

use super::{Context as _, Netns, Result};

/// Room for any datagram.
const DATAGRAM: usize = 65_536;

/// A socket for datagrams to one port of a link-local address. It stays in the namespace that it was
/// opened in, and keeps that alive.
#[derive(Debug)]
pub struct LinkLocalSocket {
    socket: UdpSocket,
    link: u32,
}

impl LinkLocalSocket {
    /// Opens one. `None` as long as the address cannot be used, or another program has its port.
    pub(crate) fn open(
        netns: &Netns,
        link: u32,
        address: Ipv6Addr,
        port: u16,
    ) -> Result<Option<Self>> {
        let what = || format!("open a socket for port {port} of {address}");
        let bound = netns.enter(|| UdpSocket::bind(SocketAddrV6::new(address, port, 0, link)))?;
        match bound {
            Ok(socket) => {
                socket.set_nonblocking(true).doing(what)?;
                Ok(Some(Self { socket, link }))
            }
            Err(error)
                if matches!(error.kind(), ErrorKind::AddrInUse | ErrorKind::AddrNotAvailable) =>
            {
                Ok(None)
            }
            Err(error) => Err(error).doing(what),
        }
    }

    /// Sends a datagram to an address of the link.
    ///
    /// # Errors
    /// When the link is down or gone.
    pub fn send(&self, payload: &[u8], to: Ipv6Addr, port: u16) -> Result<()> {
        let target = SocketAddrV6::new(to, port, 0, self.link);
        match self.socket.send_to(payload, target) {
            // A full queue of the link loses it, as a network may.
            Err(error) if error.kind() != ErrorKind::WouldBlock => {
                Err(error).doing(|| format!("send a datagram to {target}"))
            }
            _ => Ok(()),
        }
    }

    /// Waits for the next datagram. To be called within a runtime of tokio.
    ///
    /// # Errors
    /// When the link is down or gone.
    pub async fn receive(&self) -> Result<Vec<u8>> {
        let what = || "wait for a datagram".to_owned();
        let socket = self.socket.try_clone().and_then(tokio::net::UdpSocket::from_std);
        let (socket, mut buffer) = (socket.doing(what)?, vec![0; DATAGRAM]);
        let length = socket.recv(&mut buffer).await.doing(what)?;
        buffer.truncate(length);
        // Much else may come, and must not keep others from their turn.
        tokio::task::yield_now().await;
        Ok(buffer)
    }
}
