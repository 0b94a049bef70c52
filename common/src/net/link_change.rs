//! Changing links: one message for all that is to be different, the namespace included.

use std::os::fd::{AsFd, AsRawFd};
use std::time::Duration;

use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{
    InfoBridgePort, InfoPortData, InfoPortKind, LinkAttribute, LinkFlags, LinkInfo, LinkMessage,
};

use super::bridge::NO_PORT;
use super::link::{mac_attribute, name_attribute};
use super::{Link, Mac, Netlink, Netns, Result};

/// `RTNLGRP_LINK` of linux/rtnetlink.h.
const LINKS: u32 = 1;

/// What [`Netlink::change_link`] changes; `None` leaves it as it is.
#[derive(Debug, Clone, Copy, Default)]
pub struct LinkChange<'a> {
    /// The namespace that the link goes to. It is down there, and has lost its addresses, its routes and
    /// its bridge; name, alias, MTU and hardware address go with it.
    pub netns: Option<&'a Netns>,
    /// Its name. A link that is up and stays in its namespace keeps its own (EBUSY, before Linux 6.2).
    pub name: Option<&'a str>,
    /// Its alias, at most 255 bytes; the empty one removes it.
    pub alias: Option<&'a str>,
    /// Its hardware address.
    pub mac: Option<Mac>,
    /// Its MTU in bytes.
    pub mtu: Option<u32>,
    /// The bridge that it becomes a port of.
    pub master: Option<u32>,
    /// Its group.
    pub group: Option<u32>,
    /// Whether to switch it on; `false` leaves it as it is.
    pub up: bool,
    /// See [`Port::hairpin`](super::Port::hairpin).
    pub hairpin: Option<bool>,
    /// See [`Port::isolated`](super::Port::isolated).
    pub isolated: Option<bool>,
}

impl LinkChange<'_> {
    fn message(&self, index: u32) -> LinkMessage {
        let mut message = LinkMessage::default();
        message.header.index = index;
        if self.up {
            message.header.flags = LinkFlags::Up;
            message.header.change_mask = LinkFlags::Up;
        }
        let netns = self.netns.map(|netns| LinkAttribute::NetNsFd(netns.as_fd().as_raw_fd()));
        let alias = self.alias.map(|alias| LinkAttribute::IfAlias(alias.to_owned()));
        message.attributes.extend(netns);
        message.attributes.extend(self.name.map(name_attribute));
        message.attributes.extend(alias);
        message.attributes.extend(self.mac.map(mac_attribute));
        message.attributes.extend(self.mtu.map(LinkAttribute::Mtu));
        message.attributes.extend(self.master.map(LinkAttribute::Controller));
        message.attributes.extend(self.group.map(LinkAttribute::Group));
        let hairpin = self.hairpin.map(InfoBridgePort::HairpinMode);
        let isolated = self.isolated.map(InfoBridgePort::Isolated);
        let port: Vec<_> = hairpin.into_iter().chain(isolated).collect();
        if !port.is_empty() {
            message.attributes.push(LinkAttribute::LinkInfo(vec![
                LinkInfo::PortKind(InfoPortKind::Bridge),
                LinkInfo::PortData(InfoPortData::BridgePort(port)),
            ]));
        }
        message
    }
}

impl Netlink {
    /// Changes a link with one message, under one lock of the kernel (`do_setlink` in
    /// net/core/rtnetlink.c): nobody, and no process that is killed, sees one of the changes without the
    /// others. The kernel takes none of them back when it refuses a later one: the namespace comes
    /// first, the name after hardware address and MTU. The message is the one that makes links, because
    /// only that one reaches the settings of a bridge's port; without NLM_F_CREATE it makes none.
    ///
    /// # Errors
    /// EEXIST if the name is taken, EINVAL for a link that cannot leave its namespace, and if the link is
    /// no port of a bridge and `hairpin` or `isolated` is asked for.
    pub fn change_link(&self, index: u32, change: &LinkChange<'_>) -> Result<()> {
        let message = RouteNetlinkMessage::NewLink(change.message(index));
        let what = || match change.netns {
            Some(netns) => format!("move {} to {:?}", self.name_of(index), netns.path()),
            None => format!("change {}", self.name_of(index)),
        };
        let is_about_port = change.hairpin.or(change.isolated).is_some();
        self.change(message, 0, what).map(drop).map_err(|error| {
            let is_no_port = is_about_port && self.is_no_port(index, &error);
            if is_no_port { error.because(NO_PORT) } else { error }
        })
    }

    /// The address that hardware has of its own, whatever it was given since. `None` for links that are
    /// no hardware, and before Linux 5.6.
    ///
    /// # Errors
    /// [`Error::is_gone`](super::Error::is_gone) if there is no such link.
    pub(crate) fn read_permanent_mac(&self, index: u32) -> Result<Option<Mac>> {
        let message = self.read_link_message(index)?;
        Ok(message.attributes.into_iter().find_map(|attribute| match attribute {
            LinkAttribute::PermAddress(bytes) => bytes.try_into().ok().map(Mac),
            _ => None,
        }))
    }

    /// Waits until a link of this namespace is the one that `is_it` looks for. The kernel announces links
    /// that come, so nothing is polled. `None` after `patience`.
    pub(crate) fn wait_for_link(
        &self,
        patience: Duration,
        mut is_it: impl FnMut(&Link) -> bool,
    ) -> Result<Option<Link>> {
        self.wait_for(LINKS, patience, || Ok(self.list_links()?.into_iter().find(&mut is_it)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_of_nothing_is_an_empty_message() {
        let message = LinkChange::default().message(3);
        assert_eq!(message.attributes, []);
        assert_eq!(message.header.change_mask, LinkFlags::empty());
    }
}
