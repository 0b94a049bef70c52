//! ADDs and DELs that are running, as they announce themselves to other processes by a `Presence`.

use super::Owner;
use super::host_end::host_name;
use crate::cni::{Code, Error, Result, Undo};
use crate::net::Presence;

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
    fn an_attachment_lives_by_its_link_or_by_its_add() {
        let link = format!("t{}", std::process::id());
        assert!(is_attachment_alive("lo") && !is_attachment_alive(&link));
        let running = Presence::announce(&presence_name(&link)).unwrap();
        assert!(is_attachment_alive(&link));
        drop(running);
        assert!(!is_attachment_alive(&link));
    }
}
