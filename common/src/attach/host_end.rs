//! The host's end of an attachment's veth pair: what its name and its alias tell.
//!
//! The kernel keeps this end as long as the namespace of the other one lives, so it is what proves
//! that an attachment lives. Before it is there, the ADD that makes it announces itself.

use super::Owner;
use super::kept::{is_young, now};
use crate::cni::{Code, Error, NetworkName, Result};
use crate::net::{Link, Netlink, Presence, has_link};
use std::time::Duration;

/// The name of the host's end, which the owner alone tells.
pub fn host_name(owner: &Owner) -> String {
    let [name, _] = link_names(owner);
    name
}

/// The names that the host's end may have: before there were 44 bits in it, there were 32.
pub fn link_names(owner: &Owner) -> [String; 2] {
    [owner.tag(), owner.former_tag()].map(|tag| format!("veth{tag}"))
}

/// The host's end of the attachment's pair, whose alias says that it is that, under whichever name
/// it was made.
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

/// Whether the host may have the owner's end, by its name alone: one system call, without a socket.
pub fn may_exist(owner: &Owner) -> bool {
    link_names(owner).iter().any(|name| has_link(name))
}

/// Whether a link's alias names the owner.
pub(super) fn is_end_of(link: &Link, owner: &Owner) -> bool {
    link.alias.as_deref().is_some_and(|alias| owner.is_in(alias))
}

/// What the alias says: whose it is, since when, and for how long GC spares it.
pub(super) fn alias(owner: &Owner, grace_age: Duration) -> String {
    format!("{} {}+{}", owner.as_str(), now(), grace_age.as_secs())
}

/// Whether GC still spares the link of this alias.
pub(super) fn is_young_by(alias: &str) -> bool {
    let times = Owner::split(alias).1.and_then(|note| note.split_once('+'));
    let times = times.and_then(|(since, age)| Some((since.parse().ok()?, age.parse().ok()?)));
    times.is_some_and(|(since, age)| is_young(since, age))
}

/// Whether an ADD to this network has made the link and not yet, or never, noted its owner on it.
pub(super) fn is_unfinished(link: &Link, network: &NetworkName) -> bool {
    link.alias.is_none() && link.group == network.mark() && link.name.starts_with("veth")
}

/// What a running ADD announces.
fn presence_name(link: &str) -> String {
    format!("girder/{link}")
}

/// Whether the ADD that makes this link of the host is running now.
pub(super) fn is_being_added(link: &str) -> bool {
    Presence::is_announced(&presence_name(link))
}

/// Announces that the attachment is being added, for as long as the answer lives: of two ADDs of one
/// attachment, each would find the other's half and roll back what is not its own.
///
/// # Errors
/// Code 11 when another process is at it.
pub(crate) fn announce(owner: &Owner) -> Result<Presence> {
    Presence::announce(&presence_name(&host_name(owner))).map_err(|error| {
        if !error.is_exists() {
            return error.into();
        }
        let msg = format!("another ADD of this attachment ({}) is running", owner.as_str());
        Error::new(Code::TryAgain, msg).details("wait for its answer; DEL comes before another ADD")
    })
}

#[cfg(test)]
mod tests {
    use super::super::in_use::is_attachment_alive;
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

    #[test]
    fn an_attachment_lives_by_its_link_or_by_its_add() {
        let link = format!("t{}", std::process::id());
        assert!(is_attachment_alive("lo") && !is_attachment_alive(&link));
        let running = Presence::announce(&presence_name(&link)).unwrap();
        assert!(is_attachment_alive(&link));
        drop(running);
        assert!(!is_attachment_alive(&link));
    }
}
