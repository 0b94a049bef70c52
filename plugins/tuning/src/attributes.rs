//! Attributes of a link: those that are asked for, and those that it had before.

use common::Errors;
use common::attach::link::mac_difference;
use common::attach::link_keys;
use common::net::{Link, Netlink};
use serde::{Deserialize, Serialize};

/// Attributes of a link, named as the Go plugin writes them down.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Attributes {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) mac: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) promisc: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) mtu: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) allmulti: Option<bool>,
    #[serde(rename = "txQLen", skip_serializing_if = "Option::is_none")]
    pub(crate) tx_queue_len: Option<u32>,
}

impl Attributes {
    pub(crate) fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// What the link has of these.
    pub(crate) fn of(&self, link: &Link) -> Self {
        Self {
            mac: self.mac.as_ref().and(link.mac).map(|mac| mac.to_string()),
            promisc: self.promisc.map(|_| link.is_set_promiscuous),
            mtu: self.mtu.map(|_| link.mtu),
            allmulti: self.allmulti.map(|_| link.is_set_all_multicast),
            tx_queue_len: self.tx_queue_len.map(|_| link.tx_queue_len),
        }
    }

    /// These, and of the others what is not among them.
    pub(crate) fn or(self, others: Self) -> Self {
        Self {
            mac: self.mac.or(others.mac),
            promisc: self.promisc.or(others.promisc),
            mtu: self.mtu.or(others.mtu),
            allmulti: self.allmulti.or(others.allmulti),
            tx_queue_len: self.tx_queue_len.or(others.tx_queue_len),
        }
    }

    /// Gives them to a link.
    pub(crate) fn apply(&self, netlink: &Netlink, link: u32, errors: &mut Errors) {
        if let Some(mac) = &self.mac {
            errors.note(link_keys::mac(mac).and_then(|mac| Ok(netlink.set_mac(link, mac)?)));
        }
        if let Some(on) = self.promisc {
            errors.note(netlink.set_promiscuous(link, on));
        }
        if let Some(mtu) = self.mtu {
            errors.note(netlink.set_mtu(link, mtu));
        }
        if let Some(on) = self.allmulti {
            errors.note(netlink.set_all_multicast(link, on));
        }
        if let Some(length) = self.tx_queue_len {
            errors.note(netlink.set_tx_queue_len(link, length));
        }
    }

    /// Every difference between these and what a link has.
    pub(crate) fn differences(&self, link: &Link) -> Vec<String> {
        let (found, name) = (self.of(link), &link.name);
        let mut differences: Vec<_> =
            mac_difference(link, self.mac.as_deref()).into_iter().collect();
        differences.extend(mtu_difference(link, self.mtu));
        let flags = [
            ("promiscuous", self.promisc, found.promisc),
            ("taking all multicast", self.allmulti, found.allmulti),
        ];
        for (what, wanted, found) in flags {
            if wanted != found {
                let not = if wanted == Some(true) { "not " } else { "" };
                differences.push(format!("interface {name} is {not}{what}"));
            }
        }
        if let (Some(wanted), Some(found)) = (self.tx_queue_len, found.tx_queue_len)
            && wanted != found
        {
            differences.push(format!("interface {name} has a queue of {found}, not {wanted}"));
        }
        differences
    }
}

/// A sentence about the link's MTU, if it should have another one.
pub(crate) fn mtu_difference(link: &Link, wanted: Option<u32>) -> Option<String> {
    let wanted = wanted.filter(|wanted| *wanted != link.mtu)?;
    Some(format!("interface {} has MTU {}, not {wanted}", link.name, link.mtu))
}
