//! The host's end of an attachment's veth pair: its name is a hash of the owner, its alias names the
//! owner and when it was made.
//!
//! The kernel deletes this end together with the namespace of the other one, so its existence proves
//! that the attachment is alive. Before it exists, the ADD that makes it announces itself by a
//! `Presence`.

use super::Owner;
use super::kept::{is_young, now};
use crate::cni::{Code, Error, NetworkName, Result, Undo};
use crate::net::{Link, Netlink, Presence, has_link};
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

/// The name of the [`Presence`] of a running ADD.
fn presence_name(link: &str) -> String {
    format!("girder/{link}")
}

/// Whether the ADD that makes this link of the host is running.
pub fn is_being_added(link: &str) -> bool {
    Presence::is_announced(&presence_name(link))
}

/// Whether an ADD or DEL of the attachment is running.
pub(super) fn is_running(owner: &Owner) -> bool {
    is_being_added(&host_name(owner))
}

/// Announces that the attachment is being added, until the value is dropped. Without this, of two
/// ADDs of one attachment at a time each would find what the other has made, fail, and roll back.
///
/// # Errors
/// Code 11 when another process adds the attachment.
pub(crate) fn announce(owner: &Owner) -> Result<Presence> {
    announce_as(&presence_name(&host_name(owner)), owner)
}

/// The same of a plugin beside the main one, until the ADD has been answered or rolled back: of a
/// chained one, whose ADD comes when that of the main plugin has ended, or of one that runs it.
///
/// # Errors
/// Code 11 when another process has the plugin add the attachment.
pub fn announce_chained(plugin: &str, owner: &Owner, undo: &mut Undo) -> Result<()> {
    undo.hold(announce_as(&chained_name(plugin, owner), owner)?);
    Ok(())
}

fn chained_name(plugin: &str, owner: &Owner) -> String {
    presence_name(&format!("{plugin}/{}", host_name(owner)))
}

/// Announces that a chained plugin makes this link of the host, which GC then leaves alone, until the ADD
/// has been answered or rolled back.
///
/// # Errors
/// Code 11 when another process makes it.
pub fn announce_link(link: &str, owner: &Owner, undo: &mut Undo) -> Result<()> {
    undo.hold(announce_as(&presence_name(link), owner)?);
    Ok(())
}

fn announce_as(name: &str, owner: &Owner) -> Result<Presence> {
    Presence::announce(name).map_err(
        |error| {
            if error.is_exists() { busy(owner) } else { error.into() }
        },
    )
}

fn busy(owner: &Owner) -> Error {
    let msg = format!("another ADD or DEL of this attachment ({}) is running", owner.as_str());
    Error::new(Code::TryAgain, msg).details("wait for its answer; DEL comes before another ADD")
}

/// Announces, unless an ADD of the attachment is running, that it is being deleted: an ADD that came
/// between the deletion of the link and that of the lease would end with an address that is free. That
/// ADD gets code 11.
pub fn announce_del(owner: &Owner) -> Deletion {
    Deletion { presence: Presence::announce(&presence_name(&host_name(owner))).ok() }
}

/// The same of a plugin whose ADD is announced by [`announce_chained`].
pub fn announce_chained_del(plugin: &str, owner: &Owner) -> Deletion {
    Deletion { presence: Presence::announce(&chained_name(plugin, owner)).ok() }
}

/// A DEL that is running: see [`announce_del`].
#[must_use]
pub struct Deletion {
    presence: Option<Presence>,
}

impl Deletion {
    /// For the DEL of a plugin with state of its own, which a DEL in the middle of an ADD would take from
    /// it.
    ///
    /// # Errors
    /// Code 11 when an ADD or another DEL of the attachment runs.
    pub fn require_alone(&self, owner: &Owner) -> Result<()> {
        if self.is_alone() { Ok(()) } else { Err(busy(owner)) }
    }

    /// Whether no ADD or other DEL of the attachment runs.
    pub fn is_alone(&self) -> bool {
        self.presence.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::super::in_use::is_attachment_alive;
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
