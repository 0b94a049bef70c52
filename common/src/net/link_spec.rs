//! Making links: one message makes a link of any kind, in the namespace where it belongs.

use std::os::fd::{AsFd, AsRawFd};

use netlink_packet_core::{NLM_F_CREATE, NLM_F_ECHO, NLM_F_EXCL};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{
    InfoBridge, InfoData, InfoIpVlan, InfoKind, InfoMacVlan, InfoVeth, InfoVlan, InfoVrf,
    LinkAttribute, LinkInfo, LinkMessage,
};
use nix::libc;

use super::link::{mac_attribute, name_attribute, new_link};
use super::{
    Error, IpvlanFlag, IpvlanMode, Link, Mac, MacvlanMode, Netlink, Netns, Result, bridge,
};

/// A link that is to be made; it is down when it has been made.
#[derive(Debug, Clone, Copy)]
pub struct LinkSpec<'a> {
    /// Its name, at most 15 bytes.
    pub name: &'a str,
    /// Its hardware address; `None` leaves it to the kernel. One that is given is changed neither by
    /// udev nor by the kernel.
    pub mac: Option<Mac>,
    /// Its MTU in bytes; `None` for the kernel's default.
    pub mtu: Option<u32>,
    /// The index of the bridge that it becomes a port of.
    pub master: Option<u32>,
    /// Its group, which unlike an alias can be set by the message that makes the link.
    pub group: u32,
    /// Its kind, with what that kind needs.
    pub kind: LinkKind<'a>,
}

/// The kind of a link.
#[derive(Debug, Clone, Copy)]
pub enum LinkKind<'a> {
    /// A bridge.
    Bridge {
        /// Whether it filters VLANs.
        vlan_filtering: bool,
    },
    /// One end of a pair: what goes into one comes out of the other.
    Veth(Peer<'a>),
    /// A link with an address of its own on top of another one.
    Macvlan {
        /// The index of that link, in the namespace of the socket.
        parent: u32,
        /// How it shares that link with other macvlans.
        mode: MacvlanMode,
        /// How many broadcast packets may wait for it (Linux 5.11).
        bc_queue_len: Option<u32>,
    },
    /// A link with the address of another one, from which it gets what is for its own IP addresses.
    Ipvlan {
        /// The index of that link, in the namespace of the socket.
        parent: u32,
        /// At which layer the packets are told apart.
        mode: IpvlanMode,
        /// How it shares that link with other ipvlans.
        flag: IpvlanFlag,
    },
    /// What of a link has the tag of a VLAN (IEEE 802.1Q).
    Vlan {
        /// The index of that link, in the namespace of the socket.
        parent: u32,
        /// The number of the VLAN, 0 to 4094.
        id: u16,
    },
    /// A link that leads nowhere, to hold addresses.
    Dummy,
    /// A routing table of its own for the links that have it as their master.
    Vrf {
        /// The number of that table.
        table: u32,
    },
    /// A link that packets are redirected to, to be queued there.
    Ifb,
}

impl LinkKind<'_> {
    /// Its name in ip-link(8), and the option that a kernel which has it was built with.
    fn names(&self) -> (&'static str, &'static str) {
        match self {
            Self::Bridge { .. } => ("bridge", "BRIDGE"),
            Self::Veth(_) => ("veth", "VETH"),
            Self::Macvlan { .. } => ("macvlan", "MACVLAN"),
            Self::Ipvlan { mode: IpvlanMode::L3s, .. } => ("ipvlan", "IPVLAN_L3S"),
            Self::Ipvlan { .. } => ("ipvlan", "IPVLAN"),
            Self::Vlan { .. } => ("vlan", "VLAN_8021Q"),
            Self::Dummy => ("dummy", "DUMMY"),
            Self::Vrf { .. } => ("vrf", "NET_VRF"),
            Self::Ifb => ("ifb", "IFB"),
        }
    }

    /// Its name in ip-link(8).
    pub fn name(&self) -> &'static str {
        self.names().0
    }

    /// Why a kernel cannot make such a link.
    fn lack(&self) -> String {
        let (name, option) = self.names();
        format!("this kernel has no {name} (CONFIG_{option} is not set)")
    }
}

/// The other end of a veth pair. It has the MTU of the first end.
#[derive(Debug, Clone, Copy)]
pub struct Peer<'a> {
    /// Its name, at most 15 bytes.
    pub name: &'a str,
    /// Its address.
    pub mac: Mac,
    /// The namespace that it is made in.
    pub netns: &'a Netns,
}

impl LinkSpec<'_> {
    fn message(&self) -> LinkMessage {
        let mut message = end(self.name, self.mac, self.mtu);
        message.attributes.extend(self.master.map(LinkAttribute::Controller));
        message.attributes.push(LinkAttribute::Group(self.group));
        let (kind, data) = match self.kind {
            LinkKind::Bridge { vlan_filtering } => {
                let filter = vlan_filtering.then_some(InfoBridge::VlanFiltering(true));
                let data = filter.map(|filter| InfoData::Bridge(vec![filter]));
                (InfoKind::Bridge, data)
            }
            LinkKind::Veth(peer) => {
                let mut other = end(peer.name, Some(peer.mac), self.mtu);
                other.attributes.push(LinkAttribute::NetNsFd(peer.netns.as_fd().as_raw_fd()));
                (InfoKind::Veth, Some(InfoData::Veth(InfoVeth::Peer(other))))
            }
            LinkKind::Macvlan { parent, mode, bc_queue_len } => {
                message.attributes.push(LinkAttribute::Link(parent));
                let mode = InfoMacVlan::Mode(mode.to_wire());
                let queue = bc_queue_len.map(InfoMacVlan::BcQueueLen);
                let data = std::iter::once(mode).chain(queue).collect();
                (InfoKind::MacVlan, Some(InfoData::MacVlan(data)))
            }
            LinkKind::Ipvlan { parent, mode, flag } => {
                message.attributes.push(LinkAttribute::Link(parent));
                let (mode, flag) = (mode.to_wire(), flag.to_wire());
                let data = vec![InfoIpVlan::Mode(mode), InfoIpVlan::Flags(flag)];
                (InfoKind::IpVlan, Some(InfoData::IpVlan(data)))
            }
            LinkKind::Vlan { parent, id } => {
                message.attributes.push(LinkAttribute::Link(parent));
                (InfoKind::Vlan, Some(InfoData::Vlan(vec![InfoVlan::Id(id)])))
            }
            LinkKind::Dummy => (InfoKind::Dummy, None),
            LinkKind::Vrf { table } => {
                (InfoKind::Vrf, Some(InfoData::Vrf(vec![InfoVrf::TableId(table)])))
            }
            LinkKind::Ifb => (InfoKind::Ifb, None),
        };
        let infos = std::iter::once(LinkInfo::Kind(kind)).chain(data.map(LinkInfo::Data));
        message.attributes.push(LinkAttribute::LinkInfo(infos.collect()));
        message
    }

    fn what(&self) -> String {
        let name = self.name;
        match self.kind {
            LinkKind::Bridge { .. } => format!("create bridge {name:?}"),
            LinkKind::Veth(Peer { name: other, netns, .. }) => {
                format!("create veth pair of {name:?} and {other:?} in {:?}", netns.path())
            }
            _ => format!("create {} {name:?}", self.kind.name()),
        }
    }

    /// Gives the reason for an error where the kernel's text does not: it was built without what the
    /// link needs, or the link below is used already.
    fn explain(&self, error: Error, netlink: &Netlink) -> Error {
        match self.kind {
            LinkKind::Bridge { vlan_filtering: true } => bridge::explain_vlans(error),
            kind if error.is_unsupported() => error.because(&kind.lack()),
            LinkKind::Vlan { parent, id } if error.is_exists() => {
                let parent = netlink.name_of(parent);
                error.because(&format!("VLAN {id} of {parent} is taken by another link"))
            }
            LinkKind::Ipvlan { parent, .. } if error.is_busy() => {
                let parent = netlink.name_of(parent);
                error.because(&format!("{parent} has macvlans, or is itself part of another link"))
            }
            _ => error,
        }
    }
}

fn end(name: &str, mac: Option<Mac>, mtu: Option<u32>) -> LinkMessage {
    let mut message = LinkMessage::default();
    message.attributes.push(name_attribute(name));
    message.attributes.extend(mac.map(mac_attribute));
    message.attributes.extend(mtu.map(LinkAttribute::Mtu));
    message
}

impl Netlink {
    /// Makes a link in the namespace of the socket, and returns it. Both ends of a veth pair are made at
    /// once. The other end must be raised later, through a socket in its namespace, because the kernel
    /// refuses to create it raised (ENOTCONN). After an error nothing is left behind.
    ///
    /// # Errors
    /// [`Error::is_exists`] if the name, or that of the other end, is taken.
    pub fn create_link(&self, spec: &LinkSpec<'_>) -> Result<Link> {
        let flags = NLM_F_CREATE | NLM_F_EXCL | NLM_F_ECHO;
        let message = RouteNetlinkMessage::NewLink(spec.message());
        let made = self.change(message, flags, || spec.what());
        let echo = made.map_err(|error| spec.explain(error, self))?;
        // Kernels before 6.2 do not honour NLM_F_ECHO, and no kernel's echo has the link's master.
        let link = echo.into_iter().find_map(new_link);
        let link = link.map_or_else(|| self.find_made(spec), Ok)?;
        Ok(Link { master: spec.master, ..link })
    }

    /// Makes a link in another namespace, in which `there` is a socket, and returns it. The link below
    /// it is one of this socket's namespace.
    ///
    /// # Errors
    /// As [`Netlink::create_link`].
    pub(crate) fn create_link_in(
        &self,
        spec: &LinkSpec<'_>,
        netns: &Netns,
        there: &Self,
    ) -> Result<Link> {
        let mut message = spec.message();
        message.attributes.push(LinkAttribute::NetNsFd(netns.as_fd().as_raw_fd()));
        let message = RouteNetlinkMessage::NewLink(message);
        // Without NLM_F_ECHO: the kernel would send the echo to a socket of the other namespace.
        let made = self.change(message, NLM_F_CREATE | NLM_F_EXCL, || spec.what());
        made.map_err(|error| spec.explain(error, self))?;
        there.find_made(spec)
    }

    fn find_made(&self, spec: &LinkSpec<'_>) -> Result<Link> {
        let name = spec.name;
        self.find_link(name)?.ok_or_else(|| {
            Error::with_errno(format!("find {name:?}"), libc::ENODEV, "it was deleted again")
        })
    }
}
