//! What is in the way of a host port, and whether it has to go.

use super::conditions;
use super::conflicting_dnat::taken;
use super::port_range::{PortRange, sources};
use super::ruleset::{
    self, ACLS, HELD_RANGES, PORTS, PORTS_AT, RANGES, SOURCES, TARGETS, TARGETS_AT,
};
use super::{PortMappings, Sources, pod_of, range_text};
use common::attach::Owner;
use common::attach::host_end;
use common::cni::Result;
use common::filter::elements::{
    Comment, OwnedElement, Shared, SharedRuleset, TABLES, VETH, has_veth_note, notes,
};
use common::net::Netlink;
use common::net::nft::{Batch, Element, Family, Key, SetName};
use std::cell::RefCell;

/// Who has these elements: with a note that a veth pair of ours vanishes with the owner, if there is
/// one, and with their number, by which DEL knows that it has found them all.
pub(super) fn comment(owner: &Owner, has_veth: bool, elements: &[OwnedElement]) -> Comment {
    let mut notes = vec![elements.len().to_string()];
    if has_veth {
        notes.insert(0, VETH.to_owned());
    }
    Comment { owner: owner.clone(), notes }
}

/// The number that a comment tells.
pub(super) fn count(comment: &str) -> Option<usize> {
    notes(comment).find_map(|note| note.parse().ok())
}

/// Whether the host has the owner's end of a veth pair of ours.
pub(super) fn has_veth(netlink: &Netlink, owner: &Owner) -> Result<bool> {
    Ok(host_end::find(netlink, owner)?.is_some())
}

/// What is behind the elements of one ADD.
pub(super) struct Ports<'a> {
    ports: &'a PortMappings,
    owner: &'a Owner,
    netlink: &'a Netlink,
    /// Comments of owners that are gone.
    dead: RefCell<Vec<String>>,
}

impl<'a> Ports<'a> {
    pub(super) fn new(ports: &'a PortMappings, owner: &'a Owner, netlink: &'a Netlink) -> Self {
        Self { ports, owner, netlink, dead: RefCell::default() }
    }

    /// Whether the owner is provably gone: it is the same interface, its address is this
    /// attachment's by now, or its veth pair has vanished. In doubt it is alive.
    fn is_dead(&self, found: &Element, comment: &str) -> Result<bool> {
        let has_our_address =
            pod_of(found).is_some_and(|pod| self.ports.addresses.iter().any(|own| own.ip() == pod));
        if has_our_address || self.owner.is_same_interface(comment) {
            return Ok(true);
        }
        match Owner::read(comment).filter(|_| has_veth_note(comment)) {
            Some(owner) => Ok(!has_veth(self.netlink, &owner)?),
            None => Ok(false),
        }
    }
}

/// What a element to ports is about, and its key where addresses count.
fn ports_of(element: &OwnedElement) -> Option<(PortRange, Key)> {
    let is_about_ports = [PORTS, PORTS_AT, HELD_RANGES].contains(&element.set.name);
    let range = PortRange::from_key(&element.key).filter(|_| is_about_ports)?;
    let key = range.key(element.set.table.family == Family::Ip6);
    Some((range, key))
}

/// What all publications share.
pub(super) fn declare(ports: &PortMappings) -> Batch {
    let mut batch = Batch::new();
    let pods = &ports.addresses;
    for (table, is_ipv6) in TABLES.into_iter().zip([false, true]) {
        if pods.iter().any(|pod| pod.is_ipv6() == is_ipv6) {
            ruleset::declare(&mut batch, table);
        }
    }
    for pod in pods {
        let table = TABLES[usize::from(pod.is_ipv6())];
        let (name, networks) = sources(pod, ports.masquerade == Sources::All);
        ruleset::sources_chain(&mut batch, table, &name, &networks);
        let conditions = ports.conditions(pod.is_ipv6());
        if !conditions.is_empty() {
            conditions::chain(&mut batch, table, conditions);
        }
    }
    batch
}

impl SharedRuleset for Ports<'_> {
    fn declare(&self) -> Result<Batch> {
        Ok(declare(self.ports))
    }

    /// An owner that goes leaves all of them. Where its address is known comes first.
    fn conflicting_keys(&self, element: &OwnedElement) -> Vec<(Shared, Key)> {
        let Some((range, key)) = ports_of(element) else {
            return vec![(element.set, element.key.clone())];
        };
        let place = |name| {
            let key = if [TARGETS, PORTS].contains(&name) { range.port_key() } else { key.clone() };
            (SetName { name, ..element.set }, key)
        };
        [TARGETS, TARGETS_AT, RANGES, ACLS, PORTS, PORTS_AT, HELD_RANGES].map(place).into()
    }

    /// A range with others in its midst meets none of them at its ends.
    fn overlapping_keys(&self, element: &OwnedElement) -> Vec<(Shared, Key)> {
        let Some((range, key)) = ports_of(element) else { return Vec::new() };
        let set = |name| SetName { name, ..element.set };
        let all =
            [(set(HELD_RANGES), key.clone()), (set(PORTS_AT), key), (set(PORTS), range.port_key())];
        // Of two equal single ports the kernel refuses one.
        let is_needed = |(set, _): &(Shared, Key)| set.name == HELD_RANGES || *set != element.set;
        all.into_iter().filter(is_needed).collect()
    }

    fn may_replace(&self, element: &OwnedElement, found: &Element) -> Result<()> {
        // IPAM says whose address it is now.
        if element.set.name == SOURCES {
            return Ok(());
        }
        let comment = found.comment.as_deref().unwrap_or_default();
        if self.dead.borrow().iter().any(|dead| dead == comment) || self.is_dead(found, comment)? {
            self.dead.borrow_mut().push(comment.to_owned());
            return Ok(());
        }
        let port =
            PortRange::from_key(&element.key).map_or_else(String::new, |range| range_text(&range));
        let holder = Owner::read(comment).map_or_else(
            || format!("somebody else ({comment:?})"),
            |owner| {
                let words: Vec<_> = owner.as_str().split(' ').collect();
                format!("container {:?} (interface {}, network {:?})", words[1], words[2], words[0])
            },
        );
        Err(taken(&port, &holder))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_comment_tells_how_many_there_are() {
        assert_eq!(count("pods c1 eth0 veth 12"), Some(12));
        assert_eq!(count("pods c1 eth0 12"), Some(12));
        assert_eq!(
            (count("pods c1 eth0 veth"), count("pods 12 eth0"), count("")),
            (None, None, None)
        );
    }
}
