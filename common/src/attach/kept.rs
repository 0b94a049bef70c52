//! What GC leaves alone, be it a link or an element of the packet filter: what belongs to an attachment
//! that is listed as valid, or that may have been added after the runtime made the list.

use super::host_end::{is_unfinished, is_young_by, link_names};
use super::running::is_being_added;
use crate::attach::Owner;
use crate::cni::{Attachment, NetworkName, Result};
use crate::net::{Link, Netlink};
use std::collections::HashSet;
use std::time::{Duration, SystemTime};

/// For how long GC leaves a new attachment alone, unless `ipam.graceAge` says otherwise. A runtime
/// lists an attachment only when its ADD has been answered, which takes seconds at worst.
pub const GRACE_AGE: Duration = Duration::from_secs(60);

/// Seconds since 1970.
pub fn now() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// Whether something made at `since` (seconds since 1970) is younger than `age` (seconds). A time in
/// the future by less than `age` also counts as young, because the clock may have been set back; one
/// further in the future does not, or a wrong clock would keep things for ever.
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
    /// The attachments to `network`, of which `valid` are listed by the runtime. The kernel is asked
    /// later, by the other functions.
    pub fn new(netlink: &'a Netlink, network: &'a NetworkName, valid: &'a [Attachment]) -> Self {
        let owners = valid.iter().map(|attachment| attachment.owner(network).as_str().to_owned());
        Self { netlink, network, valid, owners: owners.collect() }
    }

    /// The network.
    pub(crate) fn network(&self) -> &NetworkName {
        self.network
    }

    /// All attachments that are left alone, for state that names its owner in another way than
    /// [`Owner`]: the chains of the Go plugins. The state must have been listed before this is called, as
    /// for [`is_stale`](Self::is_stale).
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

    /// Whether an object with this comment or alias belongs to the network, and to no attachment that
    /// is left alone. The object must have been listed before this is called: an ADD makes its link
    /// before its elements, so the link of an element that was listed can be found now.
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
            // If the kernel does not answer, the owner may be alive: the next GC asks again.
            Err(_) => true,
        })
    }

    /// Whether a link of the host, whose name begins like this, belongs to the network, and to no
    /// attachment that is left alone.
    pub fn is_stale_link(&self, link: &Link, prefix: &str) -> bool {
        match &link.alias {
            _ if !link.name.starts_with(prefix) => false,
            Some(alias) => self.is_stale(alias),
            None => {
                is_unfinished(link, self.network)
                    && !is_being_added(&link.name)
                    // The ADD that made it may have set the alias since the link was listed.
                    && self
                        .netlink
                        .read_link(link.index)
                        .is_ok_and(|link| is_unfinished(&link, self.network))
            }
        }
    }
}
