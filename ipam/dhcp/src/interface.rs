//! The link that a lease is for, in the namespace of its container.

use crate::exchange::CLIENT_PORT;
use crate::v6;
use common::attach::routers::Advertised;
use common::cni::NetnsPath;
use common::net::{Link, LinkLocalSocket, Netns, PacketSocket};
use common::{Code, Error, Result, Sandbox, Success};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// Where a link is. The namespace is opened for each use, because one that is kept open does not end.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct ContainerInterface {
    netns: PathBuf,
    /// What tells the namespace from a later one of that path, to which it may lead by now.
    identity: String,
    /// The number of the link: its name may be another link's by now, and its hardware address is one
    /// that `tuning` may change.
    index: u32,
}

/// A link, ready for packets.
#[derive(Debug)]
pub(crate) struct OpenLink {
    pub(crate) socket: PacketSocket,
    /// An ipvlan has the hardware address of its parent, which gives it only what is for an address of
    /// the ipvlan, or for all.
    pub(crate) needs_broadcast: bool,
}

impl ContainerInterface {
    /// # Errors
    /// Code 4 when there is no such namespace, or no such link in it.
    pub(crate) fn new(netns: PathBuf, ifname: &str) -> Result<Self> {
        let identity = Netns::identity(&netns).ok_or_else(|| {
            gone(format!("failed to open netns {netns:?}"))
                .details("the daemon does not see CNI_NETNS")
        })?;
        let sandbox = Sandbox::open(&NetnsPath::from(netns.clone()))?;
        let link = sandbox.netlink.find_link(ifname)?;
        let missing = || gone(format!("error looking up {ifname:?} in {}", netns.display()));
        let index = link.ok_or_else(missing)?.index;
        Ok(Self { netns, identity, index })
    }

    /// Whether two are the same link.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        (&self.identity, self.index) == (&other.identity, other.index)
    }

    /// Whether the namespace is certainly not there any more.
    pub(crate) fn is_gone(&self) -> bool {
        match Netns::identity(&self.netns) {
            Some(identity) => identity != self.identity,
            None => self.netns.try_exists().is_ok_and(|exists| !exists),
        }
    }

    /// Opens the link for packets.
    ///
    /// # Errors
    /// Code 4 when it is not there any more.
    pub(crate) fn open(&self) -> Result<OpenLink> {
        let (sandbox, link) = self.find()?;
        let needs_broadcast = link.kind.as_deref() == Some("ipvlan");
        Ok(OpenLink { socket: sandbox.packet_socket(&link, CLIENT_PORT)?, needs_broadcast })
    }

    /// Raises the link.
    ///
    /// # Errors
    /// As [`ContainerInterface::open`].
    pub(crate) fn raise(&self) -> Result<()> {
        let (sandbox, link) = self.find()?;
        if !link.is_up {
            sandbox.netlink.set_up(link.index)?;
        }
        // This makes the kernel notice the carrier, so that the first packet is not lost.
        Ok(sandbox.netlink.read_link(link.index).map(drop)?)
    }

    /// Whether the link is there.
    ///
    /// # Errors
    /// As [`ContainerInterface::open`].
    pub(crate) fn verify(&self) -> Result<()> {
        self.find().map(drop)
    }

    /// Opens the link for packets of DHCPv6, if it has an address for that by now.
    ///
    /// # Errors
    /// As [`ContainerInterface::open`].
    pub(crate) fn open_v6(&self) -> Result<Option<LinkLocalSocket>> {
        let (sandbox, link) = self.find()?;
        // This makes the kernel notice the carrier, and begin to probe the address.
        sandbox.netlink.read_link(link.index)?;
        sandbox.link_local_socket(&link, v6::exchange::CLIENT_PORT)
    }

    /// Has the link listen to routers, and raises it.
    ///
    /// # Errors
    /// As [`ContainerInterface::open`].
    pub(crate) fn listen_to_routers(&self, is_autoconfigured: bool) -> Result<()> {
        let (sandbox, link) = self.find()?;
        sandbox.listen_to_routers(&link, is_autoconfigured)?;
        Ok(sandbox.netlink.set_up(link.index)?)
    }

    /// What routers have told the link by now.
    ///
    /// # Errors
    /// As [`ContainerInterface::open`].
    pub(crate) fn advertised(&self) -> Result<Advertised> {
        let (sandbox, link) = self.find()?;
        sandbox.netlink.read_link(link.index)?;
        sandbox.advertised(&link)
    }

    /// Takes addresses from the link, as [`Sandbox::unaddress`] does.
    ///
    /// # Errors
    /// As [`ContainerInterface::open`].
    pub(crate) fn take(&self, lease: &Success, table: Option<u32>) -> Result<Option<u32>> {
        let (sandbox, link) = self.find()?;
        sandbox.unaddress(&link, lease, table)
    }

    /// Switches the link off: without a lease nothing may be sent by its address.
    ///
    /// # Errors
    /// As [`ContainerInterface::open`].
    pub(crate) fn lower(&self) -> Result<()> {
        let (sandbox, link) = self.find()?;
        Ok(sandbox.netlink.set_down(link.index)?)
    }

    /// Gives the link the addresses and routes of another lease, as [`Sandbox::readdress`] does.
    ///
    /// # Errors
    /// As [`ContainerInterface::open`].
    pub(crate) fn readdress(
        &self,
        old: &Success,
        new: &Success,
        table: Option<u32>,
    ) -> Result<Option<u32>> {
        let (sandbox, link) = self.find()?;
        sandbox.readdress(&link, old, new, table)
    }

    fn find(&self) -> Result<(Sandbox, Link)> {
        let path = self.netns.display();
        if self.is_gone() {
            return Err(gone(format!("the namespace {path} is gone")));
        }
        let sandbox = Sandbox::open(&NetnsPath::from(self.netns.clone()))?;
        match sandbox.netlink.read_link(self.index) {
            Err(error) if error.is_gone() => {
                Err(gone(format!("link {} in {path} is gone", self.index)))
            }
            link => Ok((sandbox, link?)),
        }
    }
}

fn gone(msg: String) -> Error {
    Error::new(Code::BadEnvironment, msg)
}
