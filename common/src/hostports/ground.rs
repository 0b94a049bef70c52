//! What is in the way of a host port, and whether it has to go.

use super::conditions;
use super::ruleset::{self, GATES, PORTS, PORTS_AT, RANGES, SOURCES, SPANS, TARGETS, TARGETS_AT};
use super::shadows::taken;
use super::span::{Span, sources};
use super::{Publication, Sources, pod_of, ports};
use crate::claims::{Claim, Claimant, Ground, Shared, TABLES, is_same_attachment, split};
use crate::cni::{Owner, Result};
use crate::net::Netlink;
use crate::net::nft::{Batch, Element, Family, Key, SetName};
use crate::veth::find_host_end;
use std::cell::RefCell;

/// The note of owners that have a veth pair of ours, whose absence proves that they are gone.
pub(super) const VETH: &str = "veth";

/// Who has these elements: with a note that a veth pair of ours vanishes with the owner, if there is
/// one, and with their number, by which DEL knows that it has found them all.
pub(super) fn claimant(owner: &Owner, has_veth: bool, claims: &[Claim]) -> Claimant {
    let mut notes = vec![claims.len().to_string()];
    if has_veth {
        notes.insert(0, VETH.to_owned());
    }
    Claimant { owner: owner.clone(), notes }
}

/// The number that a comment tells.
pub(super) fn count(comment: &str) -> Option<usize> {
    split(comment).1?.split(' ').find_map(|note| note.parse().ok())
}

/// Whether the host has the owner's end of a veth pair of ours.
pub(super) fn has_veth(netlink: &Netlink, owner: &Owner) -> Result<bool> {
    Ok(find_host_end(netlink, owner)?.is_some())
}

/// What is behind the elements of one ADD.
pub(super) struct Ports<'a> {
    publication: &'a Publication,
    owner: &'a Owner,
    netlink: &'a Netlink,
    /// Comments of owners that are gone.
    dead: RefCell<Vec<String>>,
}

impl<'a> Ports<'a> {
    pub(super) fn new(
        publication: &'a Publication,
        owner: &'a Owner,
        netlink: &'a Netlink,
    ) -> Self {
        Self { publication, owner, netlink, dead: RefCell::default() }
    }

    /// Whether the owner is provably gone: it is the same interface, its address is this
    /// attachment's by now, or its veth pair has vanished. In doubt it is alive.
    fn is_dead(&self, found: &Element, comment: &str) -> Result<bool> {
        let has_our_address = pod_of(found)
            .is_some_and(|pod| self.publication.addresses.iter().any(|own| own.ip() == pod));
        if has_our_address || is_same_attachment(self.owner, comment) {
            return Ok(true);
        }
        match Owner::read(comment).filter(|_| has_veth_note(comment)) {
            Some(owner) => Ok(!has_veth(self.netlink, &owner)?),
            None => Ok(false),
        }
    }
}

/// Whether a comment says that its owner has a veth pair of ours.
pub(crate) fn has_veth_note(comment: &str) -> bool {
    split(comment).1.is_some_and(|notes| notes.split(' ').any(|note| note == VETH))
}

/// What a claim to ports is about, and its key where addresses count.
fn ports_of(claim: &Claim) -> Option<(Span, Key)> {
    let is_about_ports = [PORTS, PORTS_AT, SPANS].contains(&claim.set.name);
    let span = Span::from_key(&claim.key).filter(|_| is_about_ports)?;
    let key = span.key(claim.set.table.family == Family::Ip6);
    Some((span, key))
}

/// What all publications share.
pub(super) fn declare(publication: &Publication) -> Batch {
    let mut batch = Batch::new();
    let pods = &publication.addresses;
    for (table, is_ipv6) in TABLES.into_iter().zip([false, true]) {
        if pods.iter().any(|pod| pod.is_ipv6() == is_ipv6) {
            ruleset::declare(&mut batch, table);
        }
    }
    for pod in pods {
        let table = TABLES[usize::from(pod.is_ipv6())];
        let (name, networks) = sources(pod, publication.masquerade == Sources::All);
        ruleset::sources_chain(&mut batch, table, &name, &networks);
        let conditions = publication.conditions(pod.is_ipv6());
        if !conditions.is_empty() {
            conditions::chain(&mut batch, table, conditions);
        }
    }
    batch
}

impl Ground for Ports<'_> {
    fn declare(&self) -> Result<Batch> {
        Ok(declare(self.publication))
    }

    /// An owner that goes leaves all of them. Where its address is known comes first.
    fn related(&self, claim: &Claim) -> Vec<(Shared, Key)> {
        let Some((span, key)) = ports_of(claim) else {
            return vec![(claim.set, claim.key.clone())];
        };
        let place = |name| {
            let key = if [TARGETS, PORTS].contains(&name) { span.port_key() } else { key.clone() };
            (SetName { name, ..claim.set }, key)
        };
        [TARGETS, TARGETS_AT, RANGES, GATES, PORTS, PORTS_AT, SPANS].map(place).into()
    }

    /// A range with others in its midst meets none of them at its ends.
    fn elsewhere(&self, claim: &Claim) -> Vec<(Shared, Key)> {
        let Some((span, key)) = ports_of(claim) else { return Vec::new() };
        let set = |name| SetName { name, ..claim.set };
        let all = [(set(SPANS), key.clone()), (set(PORTS_AT), key), (set(PORTS), span.port_key())];
        // Of two equal single ports the kernel refuses one.
        let is_needed = |(set, _): &(Shared, Key)| set.name == SPANS || *set != claim.set;
        all.into_iter().filter(is_needed).collect()
    }

    fn yields(&self, claim: &Claim, found: &Element) -> Result<()> {
        // IPAM says whose address it is now.
        if claim.set.name == SOURCES {
            return Ok(());
        }
        let comment = found.comment.as_deref().unwrap_or_default();
        if self.dead.borrow().iter().any(|dead| dead == comment) || self.is_dead(found, comment)? {
            self.dead.borrow_mut().push(comment.to_owned());
            return Ok(());
        }
        let port = Span::from_key(&claim.key).map_or_else(String::new, |span| ports(&span));
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
