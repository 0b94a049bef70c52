//! What a link was on the host before a container got it.
//!
//! A record is a file of JSON below `/run`, where it is as long-lived as what it tells: until the next
//! boot. It is written before the link is moved, by a rename, and removed when all of it is restored.

use super::kept::{is_young, now};
use super::{Owner, Sandbox, Site};
use crate::cni::{NetnsPath, Result};
use crate::net::{Link, Mac, Netlink, Netns};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use std::time::Duration;

/// A link of the host that a container has.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Record {
    /// Whose it is, as [`Owner::as_str`].
    pub owner: String,
    /// When it was taken, in seconds since 1970.
    pub since: u64,
    /// For how many seconds GC leaves it alone.
    pub grace_age: u64,
    /// The container's namespace.
    pub netns: PathBuf,
    /// What tells that from a later one of the same path. An earlier version did not write it.
    #[serde(default)]
    identity: Option<String>,
    /// The link's number there; `None` until it has been moved.
    #[serde(default)]
    pub(super) index: Option<u32>,
    /// Its name on the host.
    pub name: String,
    /// Its alias there.
    pub alias: Option<String>,
    kind: Option<String>,
    mac: Option<String>,
    permanent_mac: Option<String>,
    /// Its MTU there, in bytes.
    pub mtu: u32,
    /// Whether it was switched on.
    pub is_up: bool,
    /// Those of its addresses that nobody renews, as [`Netlink::save_addresses`] writes them.
    pub(super) addresses: Vec<String>,
}

impl Record {
    /// What a link is now, before it goes into the container of `site`.
    ///
    /// # Errors
    /// When the kernel cannot be asked.
    pub(super) fn new(site: &Site, link: &Link, grace_age: Duration) -> Result<Self> {
        let host = &site.host.netlink;
        Ok(Self {
            owner: site.owner.as_str().to_owned(),
            since: now(),
            grace_age: grace_age.as_secs(),
            netns: site.sandbox.path().as_path().to_owned(),
            identity: Netns::identity(site.sandbox.path().as_path()),
            index: None,
            name: link.name.clone(),
            alias: link.alias.clone(),
            kind: link.kind.clone(),
            mac: link.mac.map(|mac| mac.to_string()),
            permanent_mac: host.read_permanent_mac(link.index)?.map(|mac| mac.to_string()),
            mtu: link.mtu,
            is_up: link.is_up,
            addresses: host.save_addresses(link.index)?,
        })
    }

    /// Whether GC leaves it alone whatever the runtime lists.
    pub(super) fn is_young(&self) -> bool {
        is_young(self.since, self.grace_age)
    }

    /// Whose it is; `None` if the file says nothing of that kind.
    pub(super) fn owner(&self) -> Option<Owner> {
        Owner::read(&self.owner)
    }

    /// Its hardware address on the host.
    pub fn mac(&self) -> Option<Mac> {
        self.mac.as_deref()?.parse().ok()
    }

    /// Whether the kernel moves it to the host when its namespace dies; it deletes all others
    /// (`default_device_exit_net` in net/core/dev.c).
    pub fn is_hardware(&self) -> bool {
        self.kind.is_none()
    }

    /// The container's namespace, by the path that a DEL has or else by the recorded one. `None` if it is
    /// gone, whatever is at its path by now.
    ///
    /// # Errors
    /// When it cannot be entered.
    pub(super) fn find_sandbox(&self, netns: Option<&NetnsPath>) -> Result<Option<Sandbox>> {
        let recorded = NetnsPath::from(self.netns.clone());
        for path in [netns, Some(&recorded)].into_iter().flatten() {
            let is_it = |identity: &String| Netns::has_identity(path.as_path(), identity);
            if self.identity.as_ref().is_none_or(is_it)
                && let Some(sandbox) = Sandbox::find(Some(path))?
            {
                return Ok(Some(sandbox));
            }
        }
        Ok(None)
    }

    /// The link in the container, unless it is one of the `others`. Its number tells which it is. Without
    /// that, two of its name, alias and addresses are proof enough, because the container may have changed
    /// them, or its alias, which is the name on the host, if no other link has it.
    ///
    /// # Errors
    /// When the kernel cannot be asked.
    pub(super) fn find_in_container(
        &self,
        sandbox: &Sandbox,
        others: &[Self],
    ) -> Result<Option<Link>> {
        let (netlink, ifname) = (&sandbox.netlink, self.owner());
        let mut links = netlink.list_links()?;
        links.retain(|link| {
            link.kind == self.kind && !others.iter().any(|other| other.is_of(sandbox, link))
        });
        if let Some(at) = links.iter().position(|link| self.index == Some(link.index)) {
            return Ok(Some(links.swap_remove(at)));
        }
        let has_two_signs = |link: &Link| {
            let signs = [
                ifname.as_ref().is_some_and(|owner| link.name == owner.ifname().as_str()),
                self.is_alias_of(link),
                self.has_mac(link),
                self.has_permanent_mac(netlink, link),
            ];
            signs.into_iter().filter(|is_seen| *is_seen).count() >= 2
        };
        if let Some(at) = links.iter().position(has_two_signs) {
            return Ok(Some(links.swap_remove(at)));
        }
        links.retain(|link| self.is_alias_of(link));
        Ok(links.pop().filter(|_| links.is_empty()))
    }

    /// Whether the container, as far as it lives, still has the link.
    ///
    /// # Errors
    /// When the kernel cannot be asked.
    pub(super) fn is_in_container(&self) -> Result<bool> {
        let Some(sandbox) = self.find_sandbox(None)? else { return Ok(false) };
        Ok(self.find_in_container(&sandbox, &[])?.is_some())
    }

    /// Whether a link of a container is this one.
    pub(super) fn is_of(&self, sandbox: &Sandbox, link: &Link) -> bool {
        let path = sandbox.path().as_path();
        let is_there = match &self.identity {
            Some(identity) => Netns::has_identity(path, identity),
            None => path == self.netns,
        };
        is_there
            && match self.index {
                Some(index) => index == link.index,
                None => self.owner().is_some_and(|owner| owner.ifname().as_str() == link.name),
            }
    }

    /// Whether both tell of one link of the host.
    pub(super) fn is_same_link(&self, other: &Self) -> bool {
        let mac = |record: &Self| record.permanent_mac.clone().or_else(|| record.mac.clone());
        self.name == other.name
            && self.kind == other.kind
            && mac(self).is_some()
            && mac(self) == mac(other)
    }

    /// The link on the host, if it is there and has not been restored: it still has the alias of the
    /// container's, or hardware came back under another name.
    ///
    /// # Errors
    /// When the kernel cannot be asked.
    pub(super) fn find_returned(&self, host: &Netlink) -> Result<Option<Link>> {
        Ok(host.list_links()?.into_iter().find(|link| self.is_returned(host, link)))
    }

    /// The same, which may come within `patience`.
    ///
    /// # Errors
    /// When the kernel cannot be asked.
    pub(super) fn wait_until_returned(
        &self,
        host: &Netlink,
        patience: Duration,
    ) -> Result<Option<Link>> {
        Ok(host.wait_for_link(patience, |link| self.is_returned(host, link))?)
    }

    /// Whether the host has it although nobody has given it back: it was never moved, or all of it has
    /// been restored.
    ///
    /// # Errors
    /// When the kernel cannot be asked.
    pub(super) fn is_at_home(&self, host: &Netlink) -> Result<bool> {
        let link = host.find_link(&self.name)?;
        Ok(link.is_some_and(|link| self.has_mac(&link) || self.has_permanent_mac(host, &link)))
    }

    /// Name and alias are no proof: an administrator may have made another link of that name.
    fn is_returned(&self, host: &Netlink, link: &Link) -> bool {
        let has_permanent_mac = || self.has_permanent_mac(host, link);
        link.kind == self.kind
            && if self.is_alias_of(link) {
                self.has_mac(link) || has_permanent_mac()
            } else {
                link.name != self.name && has_permanent_mac()
            }
    }

    fn is_alias_of(&self, link: &Link) -> bool {
        link.alias.as_deref() == Some(&self.name)
    }

    fn has_mac(&self, link: &Link) -> bool {
        self.mac().is_some_and(|mac| link.mac == Some(mac))
    }

    fn has_permanent_mac(&self, netlink: &Netlink, link: &Link) -> bool {
        let Some(mac) = &self.permanent_mac else { return false };
        let found = netlink.read_permanent_mac(link.index).ok().flatten();
        found.is_some_and(|found| found.to_string() == *mac)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    /// Plugins of an earlier version have written such, and those of a later one read them.
    #[test]
    fn the_format_stays() {
        let written = json!({
            "owner": "cards c1 eth0", "since": 1_700_000_000, "graceAge": 60,
            "netns": "/run/netns/c1", "identity": "4026532000 1700000000.000000007", "index": 7,
            "name": "eth1", "alias": null, "kind": "veth",
            "mac": "02:00:00:00:00:11", "permanentMac": null, "mtu": 1500, "isUp": true,
            "addresses": ["198.51.100.1/24", "2001:db8:2::1/64"]
        });
        let record: Record = serde_json::from_value(written.clone()).unwrap();
        assert_eq!(record.owner().unwrap().as_str(), "cards c1 eth0");
        assert!(!record.is_hardware() && !record.is_young() && record.is_up);
        assert_eq!(serde_json::to_value(&record).unwrap(), written);
        let page = include_str!("../../../plugins/host-device/README.md");
        for field in written.as_object().map(|fields| fields.keys()).unwrap() {
            assert!(page.contains(&format!("`{field}`")), "{field} is not on the plugin's page");
        }
        let mut earlier = written;
        let fields = earlier.as_object_mut().unwrap();
        fields.retain(|field, _| !["identity", "index"].contains(&field.as_str()));
        assert!(serde_json::from_value::<Record>(earlier).unwrap().index.is_none());
        assert!(serde_json::from_value::<Record>(Value::Null).is_err());
    }
}
