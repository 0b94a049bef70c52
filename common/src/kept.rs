//! What GC leaves alone, be it a link or an element of the packet filter: what is listed as valid,
//! and what may have been made since the list was.

use crate::cni::{Attachment, NetworkName, Owner, Result};
use crate::net::{Link, Netlink, Presence};
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

/// What a link's alias says: whose it is, and for how long GC spares it.
pub(crate) fn alias(owner: &Owner, grace_age: Duration) -> String {
    format!("{} {}+{}", owner.as_str(), now(), grace_age.as_secs())
}

fn is_young_by(alias: &str) -> bool {
    let times = Owner::split(alias).1.and_then(|note| note.split_once('+'));
    let times = times.and_then(|(since, age)| Some((since.parse().ok()?, age.parse().ok()?)));
    times.is_some_and(|(since, age)| is_young(since, age))
}

/// The host's end of an attachment's veth pair, by either of the names that its owner tells.
pub(crate) fn link_names(owner: &Owner) -> [String; 2] {
    [owner.tag(), owner.former_tag()].map(|tag| format!("veth{tag}"))
}

/// What a running ADD announces.
pub(crate) fn presence_name(link: &str) -> String {
    format!("girder/{link}")
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
    pub(crate) fn list(&self) -> Result<Vec<Attachment>> {
        let mut all = self.valid.to_vec();
        for link in self.netlink.list_links()? {
            let owner = link.alias.as_deref().and_then(Owner::read);
            let owner = owner.filter(|owner| Owner::is_of(owner.as_str(), self.network));
            let spared = owner.filter(|owner| self.spares(owner.as_str()));
            all.extend(spared.and_then(|owner| owner.attachment()));
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
    pub fn is_stale_link(&self, link: &Link) -> bool {
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

/// Whether an ADD to this network has made the link and not yet, or never, noted its owner on it.
pub(crate) fn is_unfinished(link: &Link, network: &NetworkName) -> bool {
    link.alias.is_none() && link.group == network.mark() && link.name.starts_with("veth")
}

/// Whether the ADD that makes this link of the host is running now.
pub(crate) fn is_being_added(link: &str) -> bool {
    Presence::is_announced(&presence_name(link))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_alias_tells_the_age() {
        let age = |note: &str| is_young_by(&format!("pods c1 eth0 {note}"));
        assert!(age(&format!("{}+60", now())) && age(&format!("{}+60", now() - 50)));
        for old in ["0+60", "", "x+60", "60"] {
            assert!(!age(old), "{old}");
        }
        assert!(!age(&format!("{}+60", now() - 61)) && !age(&format!("{}+0", now())));
        assert!(!age(&format!("{}+60", now() + 100)), "the clock was set back");
        assert!(!is_young_by("pods c1 eth0"));
    }
}
