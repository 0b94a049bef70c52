//! The host's end of an attachment's veth pair: its name is a hash of the owner, its alias names the
//! owner and when it was made.
//!
//! The kernel deletes this end together with the namespace of the other one, so its existence proves
//! that the attachment is alive. Before it exists, the ADD that makes it [announces](super::running)
//! itself.

use super::Owner;
use super::kept::{is_young, now};
use crate::cni::{NetworkName, Result};
use crate::net::{Link, Netlink, has_link};
use std::time::Duration;

/// The name of the host's end, which depends on nothing but the owner.
pub fn host_name(owner: &Owner) -> String {
    let [name, _] = link_names(owner);
    name
}

/// The names that the host's end may have: with 44 bits of the owner's hash, and with 32 as earlier
/// versions named it.
pub fn link_names(owner: &Owner) -> [String; 2] {
    [owner.tag(), owner.former_tag()].map(|tag| format!("veth{tag}"))
}

/// The host's end of the attachment's pair, under either of its names. Its alias must name the owner,
/// because another link may have the name.
///
/// # Errors
/// When the kernel cannot be asked.
pub fn find(netlink: &Netlink, owner: &Owner) -> Result<Option<Link>> {
    for name in link_names(owner) {
        if let Some(link) = netlink.find_link(&name)?
            && is_end_of(&link, owner)
        {
            return Ok(Some(link));
        }
    }
    Ok(None)
}

/// Whether a link of the host has the name of the owner's end. It may be another link of that name;
/// to find that out takes a netlink socket, this takes two system calls.
pub fn may_exist(owner: &Owner) -> bool {
    link_names(owner).iter().any(|name| has_link(name))
}

/// Whether a link's alias names the owner.
pub(super) fn is_end_of(link: &Link, owner: &Owner) -> bool {
    link.alias.as_deref().is_some_and(|alias| owner.is_in(alias))
}

/// The alias of an end: its owner, when it was made (seconds since 1970), and for how many seconds GC
/// leaves it alone, as `pods c1 eth0 1700000000+60`. More words may follow.
pub fn alias(owner: &Owner, grace_age: Duration) -> String {
    format!("{} {}+{}", owner.as_str(), now(), grace_age.as_secs())
}

/// Whether a link with this alias is so young that GC leaves it alone.
pub fn is_young_by(alias: &str) -> bool {
    let note = Owner::split(alias).1.and_then(|note| note.split(' ').next());
    let times = note.and_then(|note| note.split_once('+'));
    let times = times.and_then(|(since, age)| Some((since.parse().ok()?, age.parse().ok()?)));
    times.is_some_and(|(since, age)| is_young(since, age))
}

/// Whether the link was made by an ADD to this network that has not set its alias yet, or was killed
/// before it could.
pub fn is_unfinished(link: &Link, network: &NetworkName) -> bool {
    link.alias.is_none() && link.group == network.group()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_alias_tells_the_age() {
        let age = |note: &str| is_young_by(&format!("pods c1 eth0 {note}"));
        assert!(age(&format!("{}+60", now())) && age(&format!("{}+60", now() - 50)));
        assert!(age(&format!("{}+60 veth0", now())));
        for old in ["0+60", "", "x+60", "60", "0+60 veth0"] {
            assert!(!age(old), "{old}");
        }
        assert!(!age(&format!("{}+60", now() - 61)) && !age(&format!("{}+0", now())));
        assert!(!age(&format!("{}+60", now() + 100)), "the clock was set back");
        assert!(!is_young_by("pods c1 eth0"));
    }
}
