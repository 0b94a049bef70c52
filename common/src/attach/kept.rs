//! What GC leaves alone, be it a link or an element of the packet filter: what is listed as valid,
//! and what may have been made since the list was.

use super::host_end::{is_being_added, is_unfinished, is_young_by, link_names};
use crate::attach::Owner;
use crate::cni::{Attachment, NetworkName, Result};
use crate::net::{Link, Netlink};
use std::collections::HashSet;
use std::time::{Duration, SystemTime};

/// How long what is new is spared where the configuration does not tell (`ipam.graceAge`). An ADD
/// takes seconds at worst, and a runtime lists an attachment when its ADD has been answered.
pub const GRACE_AGE: Duration = Duration::from_secs(60);

/// Seconds since 1970.
pub fn now() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// Whether something made at `since` is younger than `age`, both in seconds. The clock may have
/// been set back a little; what is of a farther future is not young, for it would be so for ever.
pub fn is_young(since: u64, age: u64) -> bool {
    now().abs_diff(since) < age
}

/// The attachments to one network that GC leaves alone.
pub struct Kept<'a> {
    netlink: &'a Netlink,
    network: &'a NetworkName,
    valid: &'a [Attachment],
    owners: HashSet<String>,
}

impl<'a> Kept<'a> {
    /// Nothing is asked yet.
    pub fn new(netlink: &'a Netlink, network: &'a NetworkName, valid: &'a [Attachment]) -> Self {
        let owners = valid.iter().map(|attachment| attachment.owner(network).as_str().to_owned());
        Self { netlink, network, valid, owners: owners.collect() }
    }

    /// The network.
    pub(crate) fn network(&self) -> &NetworkName {
        self.network
    }

    /// Everybody who is spared, for what names its owner in another way. Ask after having found it,
    /// as in [`is_stale`](Self::is_stale).
    ///
    /// # Errors
    /// When the kernel cannot be asked.
    pub fn list(&self) -> Result<Vec<Attachment>> {
        let mut all = self.valid.to_vec();
        for link in self.netlink.list_links()? {
            let owner = link.alias.as_deref().and_then(Owner::read);
            let owner = owner.filter(|owner| Owner::is_of(owner.as_str(), self.network));
            let spared = owner.filter(|owner| self.spares(owner.as_str()));
            all.extend(spared.map(|owner| owner.attachment().clone()));
        }
        Ok(all)
    }

    /// Whether what bears this comment belongs to the network, and to nobody who is spared. Ask
    /// after having found it: whoever makes an element has made the link before.
    pub fn is_stale(&self, comment: &str) -> bool {
        Owner::is_of(comment, self.network) && !self.spares(Owner::split(comment).0)
    }

    fn spares(&self, owner: &str) -> bool {
        if self.owners.contains(owner) {
            return true;
        }
        let Some(owner) = Owner::read(owner) else { return false };
        link_names(&owner).iter().any(|name| match self.netlink.find_link(name) {
            Ok(Some(link)) => {
                let alias = link.alias.as_deref().unwrap_or_default();
                owner.is_in(alias) && is_young_by(alias) || is_being_added(name)
            }
            Ok(None) => is_being_added(name),
            // In doubt it stays: the next GC looks again.
            Err(_) => true,
        })
    }

    /// Whether a link of the host belongs to the network, and to nobody who is spared.
    pub(crate) fn is_stale_link(&self, link: &Link) -> bool {
        match &link.alias {
            _ if !link.name.starts_with("veth") => false,
            Some(alias) => self.is_stale(alias),
            None => {
                is_unfinished(link, self.network)
                    && !is_being_added(&link.name)
                    // Whoever made it may have noted its owner since it was listed.
                    && self
                        .netlink
                        .read_link(link.index)
                        .is_ok_and(|link| is_unfinished(&link, self.network))
            }
        }
    }
}
