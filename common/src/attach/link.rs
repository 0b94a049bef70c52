//! A link of the container that has no other end in the host, as a macvlan.
//!
//! The alias of a link that [`create`](ContainerLink::create) makes names its owner, so that DEL does
//! not delete a link of the same name that another plugin has made.

use super::site::Side;
use super::{Owner, Sandbox, Site};
use crate::cni::{NetnsPath, Result, Success, Undo};
use crate::net::{Link, LinkChange, LinkKind, LinkSpec, Mac};
use std::cell::Cell;
use std::rc::Rc;

/// A link that is to be made.
pub struct ContainerLink<'a> {
    /// Its kind, and the link below it.
    pub kind: LinkKind<'a>,
    /// Its hardware address; `None` leaves it to the kernel.
    pub mac: Option<Mac>,
    /// In bytes; `None` for the MTU of the link below.
    pub mtu: Option<u32>,
    /// The side that the link below is on.
    pub parent: Side,
}

impl ContainerLink<'_> {
    /// Makes the link in the container under its final name with one message, and leaves it down.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn create(&self, site: &Site, undo: &mut Undo) -> Result<Link> {
        let (name, inside) = (site.owner.ifname().as_str(), &site.sandbox);
        // The kernel may make the link and its answer be lost. A random group, which unlike the alias
        // is set by the message that makes the link, then tells the rollback that this call made it.
        let [_, _, token @ ..] = Mac::random()?.0;
        let group = u32::from_ne_bytes(token) | 1;
        let path = inside.path().clone();
        let (own_name, made) = (name.to_owned(), Rc::new(Cell::new(None)));
        let index = Rc::clone(&made);
        undo.push(format!("interface {name}"), move || {
            let Some(sandbox) = Sandbox::find(Some(&path))? else { return Ok(()) };
            let link = sandbox.netlink.find_link(&own_name)?;
            let is_own = |link: &Link| link.group == group || index.get() == Some(link.index);
            if let Some(link) = link.filter(is_own) {
                sandbox.netlink.delete_link(link.index)?;
            }
            Ok(())
        });
        let (mac, mtu, kind) = (self.mac, self.mtu, self.kind);
        let spec = LinkSpec { name, mac, mtu, master: None, group, kind };
        let link = match self.parent {
            Side::Host => {
                site.host.netlink.create_link_in(&spec, &inside.netns, &inside.netlink)?
            }
            Side::Container => inside.netlink.create_link(&spec)?,
        };
        made.set(Some(link.index));
        let alias = Some(site.owner.as_str().to_owned());
        let change = LinkChange { alias, group: Some(0), ..LinkChange::default() };
        inside.netlink.change_link(link.index, &change)?;
        Ok(link)
    }
}

/// Deletes the owner's link in the container, if it is of this kind and its alias names no other owner.
///
/// # Errors
/// When the kernel refuses.
pub fn delete(netns: Option<&NetnsPath>, owner: &Owner, kind: &str) -> Result<()> {
    let Some(sandbox) = Sandbox::find(netns)? else { return Ok(()) };
    let Some(link) = sandbox.netlink.find_link(owner.ifname().as_str())? else { return Ok(()) };
    let is_anothers = |alias: &str| Owner::is_any(alias) && !owner.is_in(alias);
    if link.kind.as_deref() == Some(kind) && !link.alias.as_deref().is_some_and(is_anothers) {
        sandbox.netlink.delete_link(link.index)?;
    }
    Ok(())
}

/// The container's link, if it exists, and every difference from the result of ADD.
///
/// # Errors
/// When the kernel cannot be asked.
pub fn verify(site: &Site, kind: &str, result: &Success) -> Result<(Option<Link>, Vec<String>)> {
    let (link, mut differences) = verify_any(site, result)?;
    if link.as_ref().is_some_and(|link| link.kind.as_deref() != Some(kind)) {
        let ifname = site.owner.ifname();
        differences.insert(0, format!("Container interface {ifname} not of type {kind}"));
    }
    Ok((link, differences))
}

/// The same of a link of whatever kind.
///
/// # Errors
/// When the kernel cannot be asked.
pub fn verify_any(site: &Site, result: &Success) -> Result<(Option<Link>, Vec<String>)> {
    let (ifname, path) = (site.owner.ifname(), site.sandbox.path());
    let Some(link) = site.sandbox.netlink.find_link(ifname.as_str())? else {
        return Ok((None, vec![format!("interface {ifname} not found in {path}")]));
    };
    let mut differences = Vec::new();
    let mut listed = result.interfaces.iter();
    match listed.find(|entry| entry.is_in_sandbox() && entry.name == ifname.as_str()) {
        None => differences.push(format!("Interface name {ifname} not found in prevResult")),
        Some(entry) => {
            let sandbox = entry.sandbox.as_deref().unwrap_or_default();
            if !site.sandbox.netns.is_at(sandbox.as_ref()) {
                differences
                    .push(format!("Sandbox in prevResult {sandbox} doesn't match netns {path}"));
            }
            differences.extend(mac_difference(&link, entry.mac.as_deref()));
        }
    }
    Ok((Some(link), differences))
}

/// A sentence about the link's hardware address, if the result of ADD has another one.
pub fn mac_difference(link: &Link, expected: Option<&str>) -> Option<String> {
    let expected = expected.filter(|mac| !mac.is_empty())?;
    let found = link.mac.map(|mac| mac.to_string()).unwrap_or_default();
    (!found.eq_ignore_ascii_case(expected))
        .then(|| format!("interface {} has MAC {found}, not {expected}", link.name))
}
