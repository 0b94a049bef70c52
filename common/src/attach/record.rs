//! What a link was on the host before a container got it.
//!
//! A record is a file of JSON below `/run`, where it is as long-lived as what it tells: until the next
//! boot. It is written before the link is moved, by a rename, and removed when all of it is restored.

use super::kept::{is_young, now};
use super::{Owner, Site, host_end};
use crate::cni::{Cidr, Code, Context as _, Error, IfName, Network, Result};
use crate::file;
use crate::net::{Link, Mac, Netlink};
use ipnetwork::IpNetwork;
use serde::{Deserialize, Serialize};
use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Where the records are, unless `dataDir` says otherwise.
const DIRECTORY: &str = "/run/cni/host-device";

/// The extension of a record that is being written.
const UNFINISHED: &str = "new";

/// No record is longer than this, however many addresses the link has.
const LONGEST: u64 = 1 << 20;

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
    /// Those of its addresses that nobody renews, but for the link-local ones of the kernel.
    pub addresses: Vec<Cidr>,
}

impl Record {
    /// What a link is now, before it goes into the container of `site`.
    ///
    /// # Errors
    /// When the kernel cannot be asked.
    pub(super) fn new(site: &Site, link: &Link, grace_age: Duration) -> Result<Self> {
        let host = &site.host.netlink;
        let addresses = host.list_addresses(link.index)?.into_iter();
        let own = addresses.filter(|one| one.is_permanent && !is_link_local(&one.address));
        Ok(Self {
            owner: site.owner.as_str().to_owned(),
            since: now(),
            grace_age: grace_age.as_secs(),
            netns: site.sandbox.path().as_path().to_owned(),
            name: link.name.clone(),
            alias: link.alias.clone(),
            kind: link.kind.clone(),
            mac: link.mac.map(|mac| mac.to_string()),
            permanent_mac: host.read_permanent_mac(link.index)?.map(|mac| mac.to_string()),
            mtu: link.mtu,
            is_up: link.is_up,
            addresses: own.map(|one| one.address.into()).collect(),
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
    pub(super) fn mac(&self) -> Option<Mac> {
        self.mac.as_deref()?.parse().ok()
    }

    /// Whether the kernel moves it to the host when its namespace dies; it deletes all others
    /// (`default_device_exit_net` in net/core/dev.c).
    pub(super) fn is_hardware(&self) -> bool {
        self.kind.is_none()
    }

    /// The link in the container, which may have given it another name, alias or address: two of them,
    /// or one beside the address that hardware keeps, are proof enough.
    ///
    /// # Errors
    /// When the kernel cannot be asked.
    pub(super) fn find_in_container(
        &self,
        netlink: &Netlink,
        ifname: &IfName,
    ) -> Result<Option<Link>> {
        let links = netlink.list_links()?.into_iter();
        Ok(links.filter(|link| link.kind == self.kind).find(|link| {
            let signs = [
                link.name == ifname.as_str(),
                self.is_alias_of(link),
                self.has_mac(link),
                self.has_permanent_mac(netlink, link),
            ];
            signs.into_iter().filter(|is_seen| *is_seen).count() >= 2
        }))
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

    fn is_returned(&self, host: &Netlink, link: &Link) -> bool {
        let is_own_name = link.name == self.name;
        let has_permanent_mac = || self.has_permanent_mac(host, link);
        link.kind == self.kind
            && if self.is_alias_of(link) {
                is_own_name || self.has_mac(link) || has_permanent_mac()
            } else {
                !is_own_name && has_permanent_mac()
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

/// Whether it is one that the kernel gives every link by itself.
fn is_link_local(address: &IpNetwork) -> bool {
    matches!(address, IpNetwork::V6(address) if address.ip().is_unicast_link_local())
}

/// The directory of the records.
#[derive(Clone, Debug)]
pub struct Records(PathBuf);

impl Records {
    /// The directory of that name; the empty one is the default.
    pub fn at(directory: &str) -> Self {
        Self(if directory.is_empty() { DIRECTORY.into() } else { directory.into() })
    }

    /// For DEL and GC: the directory that the configuration names.
    pub fn of(network: &Network) -> Self {
        Self::at(&network.tolerant::<String>(&["dataDir"]).unwrap_or_default())
    }

    /// Every record. A file that is none of ours is passed over.
    ///
    /// # Errors
    /// Code 5 when they cannot be read.
    pub fn list(&self) -> Result<Vec<Record>> {
        let read = self.files("json")?.into_iter().map(|path| read(&path));
        Ok(read.collect::<Result<Vec<_>>>()?.into_iter().flatten().collect())
    }

    /// Removes the records that an ADD was killed for while it wrote them, before it moved its link.
    ///
    /// # Errors
    /// Code 5 when they cannot be removed.
    pub(super) fn sweep_unfinished(&self) -> Result<()> {
        for path in self.files(UNFINISHED)? {
            let name = path.file_stem().unwrap_or_default().to_string_lossy().replace(':', " ");
            if Owner::read(&name).is_some_and(|owner| !host_end::is_running(&owner)) {
                remove(&path)?;
            }
        }
        Ok(())
    }

    fn files(&self, extension: &str) -> Result<Vec<PathBuf>> {
        let entries = match fs::read_dir(&self.0) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.context(self.what("list"))?,
        };
        let mut found = Vec::new();
        for entry in entries {
            found.push(entry.context(self.what("list"))?.path());
        }
        found.retain(|path| path.extension().is_some_and(|own| own == extension));
        Ok(found)
    }

    /// The record of a link that the owner has.
    ///
    /// # Errors
    /// Code 5 when it cannot be read.
    pub(super) fn find(&self, owner: &Owner) -> Result<Option<Record>> {
        Ok(read(&self.path(owner.as_str()))?.filter(|record| record.owner == owner.as_str()))
    }

    /// Writes a record in the place of an earlier one of its owner.
    ///
    /// # Errors
    /// Code 5 when it cannot be written.
    pub(super) fn write(&self, record: &Record) -> Result<()> {
        fs::create_dir_all(&self.0).context(self.what("make"))?;
        let path = self.path(&record.owner);
        let text = serde_json::to_vec_pretty(record).map_err(|error| {
            Error::new(Code::Io, format!("cannot write {}: {error}", path.display()))
        })?;
        let temporary = path.with_extension(UNFINISHED);
        let written = file::replace(&path, &temporary, 0o600, |file| file.write_all(&text));
        written.map(drop).context(format!("cannot write {}", path.display()))
    }

    /// Forgets the record of an owner.
    ///
    /// # Errors
    /// Code 5 when it cannot be removed.
    pub(super) fn remove(&self, owner: &Owner) -> Result<()> {
        let path = self.path(owner.as_str());
        remove(&path.with_extension(UNFINISHED)).and_then(|()| remove(&path))
    }

    /// No word of an owner has a colon or a slash.
    fn path(&self, owner: &str) -> PathBuf {
        self.0.join(format!("{}.json", owner.replace(' ', ":")))
    }

    fn what(&self, verb: &str) -> String {
        format!("cannot {verb} {}", self.0.display())
    }
}

fn remove(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        outcome => outcome.context(format!("cannot remove {}", path.display())),
    }
}

/// `None` if it is gone, or of another format.
fn read(path: &Path) -> Result<Option<Record>> {
    let opened = match file::open_own(path, OpenOptions::new().read(true)) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        opened => opened.context(format!("cannot open {}", path.display()))?,
    };
    let text = file::read(opened, LONGEST).context(format!("cannot read {}", path.display()))?;
    Ok(serde_json::from_slice(&text).ok())
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
            "netns": "/run/netns/c1", "name": "eth1", "alias": null, "kind": "veth",
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
        assert!(serde_json::from_value::<Record>(Value::Null).is_err());
    }
}
