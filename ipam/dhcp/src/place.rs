//! The link that a lease is for, in the namespace of its container.

use crate::exchange::CLIENT_PORT;
use crate::v6;
use common::attach::routers::Advertised;
use common::cni::NetnsPath;
use common::net::{Link, LinkLocalSocket, PacketSocket};
use common::{Code, Error, Result, Sandbox, Success};
use serde::{Deserialize, Serialize};
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;

/// Where a link is. The namespace is opened for each use, because one that is kept open does not end.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Place {
    netns: PathBuf,
    /// Device and inode of the namespace: its path may lead to another one by now.
    identity: (u64, u64),
    ifname: String,
}

/// A link, ready for packets.
#[derive(Debug)]
pub(crate) struct Wire {
    pub(crate) socket: PacketSocket,
    /// An ipvlan has the hardware address of its parent, which gives it only what is for an address of
    /// the ipvlan, or for all.
    pub(crate) needs_broadcast: bool,
}

impl Place {
    /// # Errors
    /// Code 4 when there is no such namespace.
    pub(crate) fn new(netns: PathBuf, ifname: &str) -> Result<Self> {
        let found = std::fs::metadata(&netns).map_err(|error| {
            let msg = format!("failed to open netns {netns:?}: {error}");
            Error::new(Code::BadEnvironment, msg).details("the daemon does not see CNI_NETNS")
        })?;
        Ok(Self { netns, identity: (found.dev(), found.ino()), ifname: ifname.to_owned() })
    }

    /// Whether two are the same namespace.
    pub(crate) fn is_same_namespace(&self, other: &Self) -> bool {
        self.identity == other.identity
    }

    /// Whether the namespace is certainly not there any more.
    pub(crate) fn is_gone(&self) -> bool {
        match std::fs::metadata(&self.netns) {
            Ok(found) => (found.dev(), found.ino()) != self.identity,
            Err(error) => error.kind() == ErrorKind::NotFound,
        }
    }

    /// Opens the link for packets.
    ///
    /// # Errors
    /// Code 4 when it is not there any more.
    pub(crate) fn open(&self) -> Result<Wire> {
        let (sandbox, link) = self.find()?;
        let needs_broadcast = link.kind.as_deref() == Some("ipvlan");
        Ok(Wire { socket: sandbox.packet_socket(&link, CLIENT_PORT)?, needs_broadcast })
    }

    /// The same, and raises it.
    ///
    /// # Errors
    /// As [`Place::open`].
    pub(crate) fn raise(&self) -> Result<Wire> {
        let (sandbox, link) = self.find()?;
        if !link.is_up {
            sandbox.netlink.set_up(link.index)?;
        }
        // This makes the kernel notice the carrier, so that the first packet is not lost.
        sandbox.netlink.read_link(link.index)?;
        self.open()
    }

    /// Opens the link for packets of DHCPv6, if it has an address for that by now.
    ///
    /// # Errors
    /// As [`Place::open`].
    pub(crate) fn open_v6(&self) -> Result<Option<LinkLocalSocket>> {
        let (sandbox, link) = self.find()?;
        // This makes the kernel notice the carrier, and begin to probe the address.
        sandbox.netlink.read_link(link.index)?;
        sandbox.link_local_socket(&link, v6::exchange::CLIENT_PORT)
    }

    /// Has the link listen to routers, and raises it.
    ///
    /// # Errors
    /// As [`Place::open`].
    pub(crate) fn listen_to_routers(&self, is_autoconfigured: bool) -> Result<()> {
        let (sandbox, link) = self.find()?;
        sandbox.listen_to_routers(&link, is_autoconfigured)?;
        Ok(sandbox.netlink.set_up(link.index)?)
    }

    /// What routers have told the link by now.
    ///
    /// # Errors
    /// As [`Place::open`].
    pub(crate) fn advertised(&self) -> Result<Advertised> {
        let (sandbox, link) = self.find()?;
        sandbox.netlink.read_link(link.index)?;
        sandbox.advertised(&link)
    }

    /// Takes addresses from the link.
    ///
    /// # Errors
    /// As [`Place::open`].
    pub(crate) fn take(&self, lease: &Success) -> Result<()> {
        let (sandbox, link) = self.find()?;
        for ip in &lease.ips {
            sandbox.netlink.delete_address(link.index, *ip.address)?;
        }
        Ok(())
    }

    /// Switches the link off: without a lease nothing may be sent by its address.
    ///
    /// # Errors
    /// As [`Place::open`].
    pub(crate) fn lower(&self) -> Result<()> {
        let (sandbox, link) = self.find()?;
        Ok(sandbox.netlink.set_down(link.index)?)
    }

    /// Gives the link the addresses and routes of another lease.
    ///
    /// # Errors
    /// As [`Place::open`].
    pub(crate) fn readdress(&self, old: Option<&Success>, new: &Success) -> Result<()> {
        let (sandbox, link) = self.find()?;
        sandbox.readdress(&link, old, new)
    }

    fn find(&self) -> Result<(Sandbox, Link)> {
        let gone = |msg: String| Error::new(Code::BadEnvironment, msg);
        let path = self.netns.display();
        if self.is_gone() {
            return Err(gone(format!("the namespace {path} is gone")));
        }
        let sandbox = Sandbox::open(&NetnsPath::from(self.netns.clone()))?;
        let link = sandbox.netlink.find_link(&self.ifname)?;
        let link =
            link.ok_or_else(|| gone(format!("error looking up {:?} in {path}", self.ifname)))?;
        Ok((sandbox, link))
    }
}
