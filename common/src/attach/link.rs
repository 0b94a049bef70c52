//! A link of the container that has no other end in the host, as a macvlan.
//!
//! The alias of a link that [`create`](ContainerLink::create) makes names its owner, so that DEL does
//! not delete a link of the same name that another plugin has made.

use super::host_end::host_name;
use super::layer3::describe;
use super::running::announce_del;
use super::sandbox::{Routing, no_differences};
use super::site::Side;
use super::{Ipam, Layer3, Owner, Sandbox, Site};
use crate::cni::{Add, Check, Code, Del, Error, Errors, Gc, Result, Success, Undo};
use crate::net::{self, Link, LinkChange, LinkKind, LinkSpec, Mac};
use std::cell::Cell;
use std::fmt::Display;
use std::rc::Rc;

/// A link that is to be made.
pub struct ContainerLink<'a> {
    /// Its kind, and the link below it.
    pub kind: LinkKind<'a>,
    /// Its hardware address; `None` leaves it to the kernel.
    pub mac: Option<Mac>,
    /// In bytes; `None` for the MTU of the link below.
    pub mtu: Option<u32>,
    /// The side that the link below is on; the container's, if there is none.
    pub parent: Side,
    /// The [segment](Add::segment) that it is on: the host does not route its addresses.
    pub segment: &'a str,
}

impl ContainerLink<'_> {
    /// An ADD that makes this link and no other: makes it while the IPAM plugin runs, and gives it the
    /// addresses; without an IPAM plugin those of the plugin before this one, if there are any.
    ///
    /// # Errors
    /// When the kernel refuses; and those of the IPAM plugin, unchanged.
    pub fn attach(
        &self,
        request: &Add<'_>,
        site: &Site,
        layer3: &Layer3,
        undo: &mut Undo,
    ) -> Result<Success> {
        let ipam = Ipam::of(request.call, Some(layer3))?;
        let mut addresses = ipam.start(None, Some(self.segment), undo)?;
        let link = self.create(site, undo)?;
        let interfaces = vec![site.sandbox.interface(&link)];
        let previous = request.prev_result.as_ref().filter(|result| !result.ips.is_empty());
        let answer = addresses.wait()?.or_else(|| previous.cloned());
        let success = describe(Some(layer3), answer, interfaces)?;
        layer3.configure(site, &link, &success, Routing::Connected)?;
        Ok(success)
    }

    /// Makes the link in the container, and leaves it down. It is made under the name of the host's end
    /// of a pair, which no other link has: before Linux 6.15 the kernel refuses a name that a link of the
    /// socket's namespace has, wherever the new link is to be. The message that sets the alias then
    /// renames it.
    ///
    /// # Errors
    /// When the kernel refuses; code 11 when another link has what it needs.
    pub fn create(&self, site: &Site, undo: &mut Undo) -> Result<Link> {
        let (name, inside) = (site.owner.ifname().as_str(), &site.sandbox);
        let first_name = host_name(&site.owner);
        // The kernel may make the link and its answer be lost. A random group, which unlike the alias
        // is set by the message that makes the link, then tells the rollback that this call made it.
        let [_, _, token @ ..] = Mac::random()?.0;
        let group = u32::from_ne_bytes(token) | 1;
        let path = inside.path().clone();
        let (names, made) = (names(&site.owner), Rc::new(Cell::new(None)));
        let index = Rc::clone(&made);
        undo.push(format!("interface {name}"), move || {
            let Some(sandbox) = Sandbox::find(Some(&path))? else { return Ok(()) };
            for name in names {
                let link = sandbox.netlink.find_link(&name)?;
                let is_own = |link: &Link| link.group == group || index.get() == Some(link.index);
                if let Some(link) = link.filter(is_own) {
                    sandbox.netlink.delete_link(link.index)?;
                }
            }
            Ok(())
        });
        let (mac, mtu, kind) = (self.mac, self.mtu, self.kind);
        let spec = LinkSpec { name: &first_name, mac, mtu, master: None, group, kind };
        let outcome = match self.parent {
            Side::Host => site.host.netlink.create_link_in(&spec, &inside.netns, &inside.netlink),
            Side::Container => inside.netlink.create_link(&spec),
        };
        let link = outcome.map_err(|error| explain(&error, name))?;
        made.set(Some(link.index));
        let change = LinkChange {
            name: Some(name),
            alias: Some(site.owner.as_str()),
            group: Some(0),
            ..LinkChange::default()
        };
        inside.netlink.change_link(link.index, &change).map_err(|error| explain(&error, name))?;
        Ok(Link { name: name.to_owned(), ..link })
    }
}

fn explain(error: &net::Error, name: &str) -> Error {
    let said = format!("failed to make {name:?}: {error}");
    if !error.is_exists() {
        return Error::internal(said);
    }
    let way_out =
        "another attachment has it, or an ADD of this one was killed: DEL that attachment first";
    Error::new(Code::TryAgain, said).details(way_out)
}

/// The names that the attachment's link may have, of which the second one is that of a link whose ADD
/// was killed.
fn names(owner: &Owner) -> [String; 2] {
    [owner.ifname().to_string(), host_name(owner)]
}

/// The DEL of a plugin whose only link is the container's, of this kind.
pub fn detach(request: &Del<'_>, errors: &mut Errors, kind: &str) {
    let owner = request.owner();
    let _running = announce_del(&owner);
    Ipam::del_with(request.call, errors, |errors| {
        errors.note(delete(request, &owner, kind, |_| true));
    });
}

/// The GC of a plugin whose only link is the container's: the kernel deletes it with the namespace.
pub fn collect(request: &Gc<'_>, errors: &mut Errors) {
    errors.note(Ipam::find(request.call).and_then(|ipam| ipam.gc()));
}

/// Deletes the owner's link in the container, if it is of this kind: the one whose alias says so, or one
/// without an alias, as the Go plugins make them, if `is_own`.
pub(super) fn delete(
    request: &Del<'_>,
    owner: &Owner,
    kind: &str,
    is_own: impl Fn(&Link) -> bool,
) -> Result<()> {
    let Some(sandbox) = Sandbox::find(request.netns.as_ref())? else { return Ok(()) };
    for name in names(owner) {
        let Some(link) = sandbox.netlink.find_link(&name)? else { continue };
        let is_own = match &link.alias {
            Some(alias) => owner.is_in(alias),
            None => is_own(&link),
        };
        if is_own && link.kind.as_deref() == Some(kind) {
            sandbox.netlink.delete_link(link.index)?;
        }
    }
    Ok(())
}

/// Whether the result of ADD, as far as the runtime hands it to DEL, has a link of the container.
pub(super) fn is_listed(request: &Del<'_>, link: &Link) -> bool {
    let listed = request.prev_result.iter().flat_map(|result| &result.interfaces);
    let mut named = listed.filter(|entry| entry.is_in_sandbox() && entry.name == link.name);
    named.any(|entry| mac_difference(link, entry.mac.as_deref()).is_none())
}

/// The CHECK of a plugin whose only link is the container's, of this kind: `verify_own` gets the link,
/// if it is there, and tells the differences that only this kind can have.
///
/// # Errors
/// One that names every difference; and those of the IPAM plugin, unchanged.
pub fn check(
    request: &Check<'_>,
    layer3: &Layer3,
    kind: &str,
    verify_own: impl FnOnce(&Site, Option<&Link>) -> Result<Vec<String>>,
) -> Result<()> {
    let result = &request.prev_result;
    let site = Site::open(request)?;
    Ipam::of(request.call, Some(layer3))?.check()?;
    let (link, mut differences) = verify(&site, kind, result)?;
    differences.extend(verify_own(&site, link.as_ref())?);
    differences.extend(site.sandbox.verify(site.owner.ifname(), result, Routing::Connected)?);
    no_differences(&differences)
}

/// The container's link, if there is one of this kind, and every difference from the result of ADD.
///
/// # Errors
/// When the kernel cannot be asked.
pub fn verify(site: &Site, kind: &str, result: &Success) -> Result<(Option<Link>, Vec<String>)> {
    let (link, mut differences) = verify_any(site, result)?;
    let is_of_kind = |link: &Link| link.kind.as_deref() == Some(kind);
    if link.as_ref().is_some_and(|link| !is_of_kind(link)) {
        let ifname = site.owner.ifname();
        differences.insert(0, format!("Container interface {ifname} not of type {kind}"));
    }
    Ok((link.filter(is_of_kind), differences))
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

/// A sentence about a property of the link, if it is not as it should be.
pub fn difference<T: Copy + Display + PartialEq>(
    link: &Link,
    property: &str,
    found: Option<T>,
    wanted: T,
) -> Option<String> {
    let is_other = found != Some(wanted);
    let found = found.map_or_else(|| "unknown".to_owned(), |found| found.to_string());
    is_other.then(|| format!("{} has {property} {found}, not {wanted}", link.name))
}

/// A sentence about the link's hardware address, if the result of ADD has another one.
pub fn mac_difference(link: &Link, expected: Option<&str>) -> Option<String> {
    let expected = expected.filter(|mac| !mac.is_empty())?;
    let found = link.mac.map(|mac| mac.to_string()).unwrap_or_default();
    (!found.eq_ignore_ascii_case(expected))
        .then(|| format!("interface {} has MAC {found}, not {expected}", link.name))
}
