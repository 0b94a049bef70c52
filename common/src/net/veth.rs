//! Pairs of links: what goes into one end comes out of the other.

use std::os::fd::{AsFd, AsRawFd};

use netlink_packet_route::link::{
    InfoData, InfoKind, InfoVeth, LinkAttribute, LinkInfo, LinkMessage,
};

use super::link::{mac_attribute, name_attribute};
use super::{Link, Mac, Netlink, Netns, Result};

/// One end of a veth pair that is to be made.
#[derive(Debug, Clone, Copy)]
pub struct VethEnd<'a> {
    /// Its name, at most 15 bytes.
    pub name: &'a str,
    /// Its address. One that is given is never changed by udev or by the kernel.
    pub mac: Mac,
}

/// A veth pair that is to be made.
#[derive(Debug, Clone, Copy)]
pub struct VethPair<'a> {
    /// The end in the namespace of the socket.
    pub host: VethEnd<'a>,
    /// The end in `peer_netns`.
    pub peer: VethEnd<'a>,
    /// Where `peer` goes.
    pub peer_netns: &'a Netns,
    /// Of both ends, in bytes; `None` for the kernel's default.
    pub mtu: Option<u32>,
    /// The index of the bridge that `host` becomes a port of.
    pub master: Option<u32>,
    /// The group of `host`: unlike an alias, it can be given when the link is made.
    pub group: u32,
}

impl Netlink {
    /// Makes both ends, in their namespaces, with one message (drivers/net/veth.c); returns the
    /// host's. Both are down: raise the other end through a socket in its namespace, because the
    /// kernel refuses to create it raised (ENOTCONN). If anything is refused nothing is left behind.
    ///
    /// # Errors
    /// [`Error::is_exists`](super::Error::is_exists) if either name is taken in its namespace.
    pub fn create_veth(&self, pair: &VethPair<'_>) -> Result<Link> {
        let VethPair { host, peer, peer_netns, mtu, master, group } = *pair;
        let end = |end: VethEnd<'_>| {
            let mut message = LinkMessage::default();
            message.attributes.push(name_attribute(end.name));
            message.attributes.push(mac_attribute(end.mac));
            message.attributes.extend(mtu.map(LinkAttribute::Mtu));
            message
        };
        let mut other = end(peer);
        other.attributes.push(LinkAttribute::NetNsFd(peer_netns.as_fd().as_raw_fd()));
        let mut message = end(host);
        message.attributes.extend(master.map(LinkAttribute::Controller));
        message.attributes.push(LinkAttribute::Group(group));
        message.attributes.push(LinkAttribute::LinkInfo(vec![
            LinkInfo::Kind(InfoKind::Veth),
            LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(other))),
        ]));
        let link = self.create_link(message, || {
            let (host, peer, netns) = (host.name, peer.name, peer_netns.path());
            format!("create veth pair of {host:?} and {peer:?} in {netns:?}")
        })?;
        // The kernel sends the echo before it attaches the link to its master.
        Ok(Link { master, ..link })
    }
}
