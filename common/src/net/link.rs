//! Links: finding, changing and deleting them.

use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{
    LinkAttribute, LinkExtentMask, LinkFlags, LinkInfo, LinkMessage, Prop, State,
};
use nix::libc;

use super::{Error, Mac, Netlink, Result};

/// The number of the link of that name, or that has it as an alternative name, in the namespace of
/// the calling thread. One ioctl(2), without a netlink socket.
pub fn index_of(name: &str) -> Option<u32> {
    nix::net::if_::if_nametoindex(name).ok()
}

/// Whether there is a link of that name, as [`index_of`] finds it. Only the kernel's ENODEV counts as
/// no: after any other error the link may exist.
pub(crate) fn has_link(name: &str) -> bool {
    nix::net::if_::if_nametoindex(name) != Err(nix::errno::Errno::ENODEV)
}

/// A network interface, as the kernel described it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// Its number, unique within its namespace.
    pub index: u32,
    /// Its name, at most 15 bytes.
    pub name: String,
    /// `bridge`, `veth`, ..; `None` for hardware and for lo.
    pub kind: Option<String>,
    /// Its hardware address; `None` if that is not of six bytes.
    pub mac: Option<Mac>,
    /// Largest packet in bytes, without the Ethernet header.
    pub mtu: u32,
    /// Whether it was switched on (IFF_UP), which does not say that it works.
    pub is_up: bool,
    /// Whether it works (RFC 2863): `up`, `down`, `lowerlayerdown`, `unknown` (of lo and other
    /// drivers that never say), ..
    pub operstate: String,
    /// Whether it accepts packets for other hosts, which a packet capture also causes.
    pub is_promiscuous: bool,
    /// Whether it was told to (IFF_PROMISC): a packet capture does not count.
    pub is_set_promiscuous: bool,
    /// Whether it was told to accept all multicast packets (IFF_ALLMULTI).
    pub is_set_all_multicast: bool,
    /// How many packets may wait in its queue.
    pub tx_queue_len: u32,
    /// The index of the bridge that it is a port of.
    pub master: Option<u32>,
    /// The index of the other end of a veth pair, or of the link below a vlan or macvlan, in the
    /// namespace of that link.
    pub peer: Option<u32>,
    /// This namespace's ID for the one that `peer` is in; `None` if that is this namespace.
    pub peer_netns: Option<i32>,
    /// Its alias: a text that an administrator or a plugin has set.
    pub alias: Option<String>,
    /// Its group, by default 0.
    pub group: u32,
}

impl Link {
    fn from_message(message: LinkMessage) -> Self {
        let mut link = Self {
            index: message.header.index,
            name: String::new(),
            kind: None,
            mac: None,
            mtu: 0,
            is_up: message.header.flags.contains(LinkFlags::Up),
            operstate: State::Unknown.to_string().to_lowercase(),
            is_promiscuous: false,
            is_set_promiscuous: message.header.flags.contains(LinkFlags::Promisc),
            is_set_all_multicast: message.header.flags.contains(LinkFlags::Allmulti),
            tx_queue_len: 0,
            master: None,
            peer: None,
            peer_netns: None,
            alias: None,
            group: 0,
        };
        for attribute in message.attributes {
            match attribute {
                LinkAttribute::IfName(name) => link.name = name,
                LinkAttribute::Address(bytes) => link.mac = bytes.try_into().ok().map(Mac),
                LinkAttribute::Mtu(mtu) => link.mtu = mtu,
                LinkAttribute::OperState(state) => {
                    link.operstate = state.to_string().to_lowercase();
                }
                LinkAttribute::Promiscuity(count) => link.is_promiscuous = count != 0,
                LinkAttribute::TxQueueLen(length) => link.tx_queue_len = length,
                LinkAttribute::Controller(index) => link.master = Some(index),
                LinkAttribute::Link(index) => link.peer = Some(index),
                LinkAttribute::LinkNetNsId(id) => link.peer_netns = Some(id),
                LinkAttribute::IfAlias(alias) => link.alias = Some(alias),
                LinkAttribute::Group(group) => link.group = group,
                LinkAttribute::LinkInfo(infos) => {
                    link.kind = infos.into_iter().find_map(|info| match info {
                        LinkInfo::Kind(kind) => Some(kind.to_string()),
                        _ => None,
                    });
                }
                _ => {}
            }
        }
        link
    }
}

/// In bytes (`IFNAMSIZ`, without its NUL).
const LONGEST_NAME: usize = 15;

impl Netlink {
    /// The link of that name, or that has it as an alternative name. `None` if there is none.
    ///
    /// # Errors
    /// What the kernel refused for any other reason.
    pub fn find_link(&self, name: &str) -> Result<Option<Link>> {
        // No link can have such a name: the kernel answers ERANGE, or reads it up to the NUL, and a
        // message has no room for a very long one.
        if name.len() > LONGEST_NAME || name.contains('\0') {
            return Ok(None);
        }
        let what = || format!("find link {name:?}");
        let mut message = question();
        message.attributes.push(name_attribute(name));
        match self.get_link(message, what) {
            Err(error) if error.errno() == Some(libc::ENODEV) => Ok(None),
            outcome => outcome.map(Some),
        }
    }

    /// The link of that index. From Linux 6.8 on the kernel first finishes what it still had to do
    /// about the link's carrier (`linkwatch_sync_dev` in net/core/link_watch.c), so `operstate` is
    /// settled: a veth whose other end was raised before this call reads `up`. Older kernels do that
    /// up to a second later.
    ///
    /// # Errors
    /// [`Error::is_gone`] if there is none.
    pub fn read_link(&self, index: u32) -> Result<Link> {
        let mut message = question();
        message.header.index = index;
        self.get_link(message, || format!("read link {index}"))
    }

    /// All links of the namespace.
    pub fn list_links(&self) -> Result<Vec<Link>> {
        self.dump_links(question(), || "list links".into())
    }

    /// The ports of the bridge or VRF whose index is `master`.
    pub fn list_ports(&self, master: u32) -> Result<Vec<Link>> {
        let mut message = question();
        message.attributes.push(LinkAttribute::Controller(master));
        let mut links =
            self.dump_links(message, || format!("list ports of {}", self.name_of(master)))?;
        links.retain(|link| link.master == Some(master));
        Ok(links)
    }

    /// Sets the MTU of a link, in bytes. A bridge whose MTU was set keeps it whatever ports it gets
    /// (`br_mtu_auto_adjust` in net/bridge/br_if.c).
    ///
    /// # Errors
    /// EINVAL for a size that the link cannot have.
    pub fn set_mtu(&self, index: u32, mtu: u32) -> Result<()> {
        self.set_attribute(index, LinkAttribute::Mtu(mtu), |link| {
            format!("set the MTU of {link} to {mtu}")
        })
    }

    /// Sets the hardware address of a link. Even if the link has that address already, the kernel then
    /// treats it as given, so that a bridge keeps it whatever ports it gets.
    ///
    /// # Errors
    /// EADDRNOTAVAIL for an address of zeros or of a group.
    pub fn set_mac(&self, index: u32, mac: Mac) -> Result<()> {
        self.set_attribute(index, mac_attribute(mac), |link| format!("give {link} the MAC {mac}"))
    }

    /// Gives a link an alternative name, which no other link of the namespace may have. The kernel
    /// removes it with the link.
    ///
    /// # Errors
    /// [`Error::is_exists`] if another link has it; [`Error::is_unsupported`] before Linux 5.5.
    pub(crate) fn add_name(&self, index: u32, name: &str) -> Result<()> {
        let mut message = LinkMessage::default();
        message.header.index = index;
        message.attributes.push(LinkAttribute::PropList(vec![Prop::AltIfName(name.to_owned())]));
        let flags = NLM_F_CREATE | NLM_F_EXCL;
        self.change(RouteNetlinkMessage::NewLinkProp(message), flags, || {
            format!("give {} the name {name:?}", self.name_of(index))
        })
        .map(drop)
    }

    /// Switches a link on. The kernel then adds its IPv6 link-local address and the routes of its
    /// addresses.
    pub fn set_up(&self, index: u32) -> Result<()> {
        self.set_flag(index, LinkFlags::Up, true)
    }

    /// Switches a link off, which drops its routes and, unless sysctls say otherwise, its IPv6
    /// addresses.
    pub fn set_down(&self, index: u32) -> Result<()> {
        self.set_flag(index, LinkFlags::Up, false)
    }

    /// Makes a link accept packets for other hosts, or withdraws that. The kernel counts the requests, so
    /// after a withdrawal others may keep the link promiscuous.
    pub fn set_promiscuous(&self, index: u32, on: bool) -> Result<()> {
        self.set_flag(index, LinkFlags::Promisc, on)
    }

    /// Makes a link accept all multicast packets, or withdraws that. The kernel counts here, too.
    pub fn set_all_multicast(&self, index: u32, on: bool) -> Result<()> {
        self.set_flag(index, LinkFlags::Allmulti, on)
    }

    /// Sets how many packets may wait in the queue of a link.
    pub fn set_tx_queue_len(&self, index: u32, length: u32) -> Result<()> {
        self.set_attribute(index, LinkAttribute::TxQueueLen(length), |link| {
            format!("give {link} a queue of {length}")
        })
    }

    /// Makes a link a port of the bridge or VRF `master`, or of none. A VRF switches it off and on again
    /// (`cycle_netdev` in drivers/net/vrf.c).
    pub fn set_master(&self, index: u32, master: Option<u32>) -> Result<()> {
        let attribute = LinkAttribute::Controller(master.unwrap_or(0));
        self.set_attribute(index, attribute, |link| match master {
            Some(master) => format!("attach {link} to {}", self.name_of(master)),
            None => format!("detach {link} from its master"),
        })
    }

    /// Deletes a link, and the other end of a veth pair with it; one that is gone is success. Returns
    /// after the kernel has let go of it, which takes an RCU grace period: 10 to 20 ms.
    ///
    /// # Errors
    /// EOPNOTSUPP for lo and for hardware.
    pub fn delete_link(&self, index: u32) -> Result<()> {
        let mut message = LinkMessage::default();
        message.header.index = index;
        self.delete(message, || format!("delete {}", self.name_of(index))).map(drop)
    }

    /// Deletes links, all with one wait for the kernel: they are put into a group of their own
    /// first (`rtnl_group_dellink` in net/core/rtnetlink.c). What is gone already is success.
    ///
    /// # Errors
    /// As [`Netlink::delete_link`]; then none of them may be gone.
    pub fn delete_links(&self, indexes: &[u32]) -> Result<()> {
        if let [] | [_] = indexes {
            return indexes.iter().try_for_each(|index| self.delete_link(*index));
        }
        let taken: Vec<_> = self.list_links()?.iter().map(|link| link.group).collect();
        let group = loop {
            let [_, _, bytes @ ..] = Mac::random()?.0;
            let group = u32::from_ne_bytes(bytes);
            if !taken.contains(&group) {
                break group;
            }
        };
        for index in indexes {
            let what = |link: &str| format!("put {link} into group {group}");
            match self.set_attribute(*index, LinkAttribute::Group(group), what) {
                Err(error) if !error.is_gone() => return Err(error),
                _ => {}
            }
        }
        let mut message = LinkMessage::default();
        message.attributes.push(LinkAttribute::Group(group));
        self.delete(message, || format!("delete {} links", indexes.len())).map(drop)
    }

    fn delete(&self, message: LinkMessage, what: impl FnOnce() -> String) -> Result<bool> {
        match self.change(RouteNetlinkMessage::DelLink(message), 0, what) {
            Ok(_) => Ok(true),
            Err(error) if error.errno() == Some(libc::ENODEV) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// The whole answer, for attributes that a [`Link`] does not have.
    pub(super) fn read_link_message(&self, index: u32) -> Result<LinkMessage> {
        let mut message = question();
        message.header.index = index;
        self.get_link_message(message, || format!("read link {index}"))
    }

    fn get_link(&self, message: LinkMessage, what: impl Fn() -> String) -> Result<Link> {
        self.get_link_message(message, what).map(Link::from_message)
    }

    fn get_link_message(
        &self,
        message: LinkMessage,
        what: impl Fn() -> String,
    ) -> Result<LinkMessage> {
        match self.get(&RouteNetlinkMessage::GetLink(message), &what)? {
            Some(RouteNetlinkMessage::NewLink(message)) => Ok(message),
            _ => Err(Error::new(what(), "the kernel's answer cannot be decoded")),
        }
    }

    fn dump_links(&self, message: LinkMessage, what: impl FnOnce() -> String) -> Result<Vec<Link>> {
        let answer = self.dump(&RouteNetlinkMessage::GetLink(message), what)?;
        Ok(answer.into_iter().filter_map(new_link).collect())
    }

    fn set_flag(&self, index: u32, flag: LinkFlags, on: bool) -> Result<()> {
        let mut message = LinkMessage::default();
        message.header.index = index;
        message.header.flags = if on { flag } else { LinkFlags::empty() };
        message.header.change_mask = flag;
        self.change(RouteNetlinkMessage::SetLink(message), 0, || {
            let mode = match flag {
                LinkFlags::Promisc => "promiscuous mode of ",
                LinkFlags::Allmulti => "reception of all multicast by ",
                _ => "",
            };
            format!("switch {} {mode}{}", if on { "on" } else { "off" }, self.name_of(index))
        })?;
        Ok(())
    }

    fn set_attribute(
        &self,
        index: u32,
        attribute: LinkAttribute,
        what: impl FnOnce(&str) -> String,
    ) -> Result<()> {
        let mut message = LinkMessage::default();
        message.header.index = index;
        message.attributes.push(attribute);
        let message = RouteNetlinkMessage::SetLink(message);
        self.change(message, 0, || what(&self.name_of(index))).map(drop)
    }
}

pub(super) fn name_attribute(name: &str) -> LinkAttribute {
    LinkAttribute::IfName(name.to_owned())
}

pub(super) fn mac_attribute(mac: Mac) -> LinkAttribute {
    LinkAttribute::Address(mac.0.to_vec())
}

/// A request for links without their counters, which would be most of the answer.
fn question() -> LinkMessage {
    let mut message = LinkMessage::default();
    message.attributes.push(LinkAttribute::ExtMask(vec![LinkExtentMask::SkipStats]));
    message
}

pub(super) fn new_link(message: RouteNetlinkMessage) -> Option<Link> {
    match message {
        RouteNetlinkMessage::NewLink(message) => Some(Link::from_message(message)),
        _ => None,
    }
}
