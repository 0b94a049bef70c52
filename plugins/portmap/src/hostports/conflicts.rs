//! Elements that conflict with those of a host port, and whether they may be replaced.

use super::conditions;
use super::conflicting_dnat::taken;
use super::port_range::{PortRange, sources};
use super::ruleset::{
    self, ACLS, PORTS, PORTS_AT, RANGE_OWNERS, RANGES, SOURCES, TARGETS, TARGETS_AT,
};
use super::{PortMappings, SourceNat, pod_of, range_text};
use common::attach::Owner;
use common::attach::host_end;
use common::cni::Result;
use common::filter::elements::{
    Comment, OwnedElement, Shared, SharedRuleset, VETH, has_veth_note, notes, table,
};
use common::net::nft::{Batch, Element, Key, SetName};
use common::net::{Family, Netlink};
use std::cell::RefCell;

/// The comment of these elements. It has their number, by which DEL knows that it has found them all,
/// and a note if the owner has a veth pair of ours: when that is gone, so is the owner.
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

/// The ruleset of the elements of one ADD.
pub(super) struct HostPortRuleset<'a> {
    ports: &'a PortMappings,
    owner: &'a Owner,
    netlink: &'a Netlink,
    /// Comments of owners that are gone: one may have left thousands of elements.
    dead: RefCell<Vec<String>>,
}

impl<'a> HostPortRuleset<'a> {
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

/// The ports that an element of a set takes, and its key in sets that have addresses.
fn ports_of(element: &OwnedElement) -> Option<(PortRange, Key)> {
    let takes_ports = [PORTS, PORTS_AT, RANGE_OWNERS].contains(&element.set.name);
    let range = PortRange::from_key(&element.key).filter(|_| takes_ports)?;
    let family = Family::ALL.into_iter().find(|family| table(*family) == element.set.table)?;
    let key = range.key(family);
    Some((range, key))
}

/// What all port mappings of these families, and all pods of these subnets, share.
pub(super) fn declare(ports: &PortMappings) -> Batch {
    let mut batch = Batch::new();
    let pods = &ports.addresses;
    for family in Family::ALL {
        if pods.iter().any(|pod| Family::of(pod.ip()) == family) {
            ruleset::declare(&mut batch, table(family));
        }
    }
    for pod in pods {
        let family = Family::of(pod.ip());
        let table = table(family);
        let (name, networks) = sources(pod, ports.source_nat == SourceNat::All);
        ruleset::sources_chain(&mut batch, table, &name, &networks);
        let conditions = ports.conditions.of(family);
        if !conditions.is_empty() {
            conditions::chain(&mut batch, table, conditions);
        }
    }
    batch
}

impl SharedRuleset for HostPortRuleset<'_> {
    fn declare(&self) -> Result<Batch> {
        Ok(declare(self.ports))
    }

    /// An owner that is gone has left elements in several of the sets. The maps come first: their
    /// elements tell its address, by which it may be known to be gone.
    fn conflicting_keys(&self, element: &OwnedElement) -> Vec<(Shared, Key)> {
        let Some((range, key)) = ports_of(element) else {
            return vec![(element.set, element.key.clone())];
        };
        let in_set = |name| {
            let key = if [TARGETS, PORTS].contains(&name) { range.port_key() } else { key.clone() };
            (SetName { name, ..element.set }, key)
        };
        [TARGETS, TARGETS_AT, RANGES, ACLS, PORTS, PORTS_AT, RANGE_OWNERS].map(in_set).into()
    }

    /// The kernel does not notice a range that encloses another one.
    fn overlapping_keys(&self, element: &OwnedElement) -> Vec<(Shared, Key)> {
        let Some((range, key)) = ports_of(element) else { return Vec::new() };
        let set = |name| SetName { name, ..element.set };
        let all = [
            (set(RANGE_OWNERS), key.clone()),
            (set(PORTS_AT), key),
            (set(PORTS), range.port_key()),
        ];
        // In its own set the kernel refuses the second of two equal single ports.
        let is_needed = |(set, _): &(Shared, Key)| set.name == RANGE_OWNERS || *set != element.set;
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
        let container = Owner::read(comment).map_or_else(
            || format!("somebody else ({comment:?})"),
            |owner| {
                let words: Vec<_> = owner.as_str().split(' ').collect();
                format!("container {:?} (interface {}, network {:?})", words[1], words[2], words[0])
            },
        );
        Err(taken(&port, &container))
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
