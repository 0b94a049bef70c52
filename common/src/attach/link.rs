//! A link of the container's that has no other end in the host: a macvlan, for one.
//!
//! What [`create`](ContainerLink::create) makes names its owner, so that DEL leaves alone what another
//! plugin has put under the same name.

use super::{Owner, Sandbox, Site};
use crate::cni::{NetnsPath, Result, Success, Undo};
use crate::net::{Link, LinkKind, LinkSpec, Mac, Netlink, PortChange};

/// What the link is to be.
pub struct ContainerLink<'a> {
    /// What it is, and what it is tied to.
    pub kind: LinkKind<'a>,
    /// Its address; the kernel's choice without it.
    pub mac: Option<Mac>,
    /// Bytes; that of what it is tied to without it.
    pub mtu: Option<u32>,
    /// Where that is.
    pub parent: Side,
}

/// One side of an attachment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Side {
    /// The runtime's namespace.
    #[default]
    Host,
    /// The container's namespace.
    Container,
}

impl Site {
    /// A socket to one side.
    pub fn netlink(&self, side: Side) -> &Netlink {
        match side {
            Side::Host => &self.host.netlink,
            Side::Container => &self.sandbox.netlink,
        }
    }
}

impl ContainerLink<'_> {
    /// Makes the link in the container, under its name, with one message; it is down then.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn create(&self, site: &Site, undo: &mut Undo) -> Result<Link> {
        let (name, inside) = (site.owner.ifname().as_str(), &site.sandbox);
        // A number that nobody can foresee tells what this call has made, whatever becomes of the
        // kernel's answer; unlike the alias, the kernel takes it in the same message.
        let [_, _, token @ ..] = Mac::random()?.0;
        let group = u32::from_ne_bytes(token) | 1;
        let (path, alias) = (inside.path().clone(), site.owner.as_str().to_owned());
        let own_name = name.to_owned();
        undo.push(format!("interface {name}"), move || {
            let Some(sandbox) = Sandbox::find(Some(&path))? else { return Ok(()) };
            let link = sandbox.netlink.find_link(&own_name)?;
            let is_own = |link: &Link| link.group == group || link.alias.as_ref() == Some(&alias);
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
        let alias = Some(site.owner.as_str().to_owned());
        let noted = PortChange { alias, group: Some(0), ..PortChange::default() };
        inside.netlink.change_port(link.index, &noted)?;
        Ok(link)
    }
}

/// Deletes the container's link of the owner, if it is of this kind and does not name another one.
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

/// The container's link, if it is there, and every difference from what ADD answered.
///
/// # Errors
/// When the kernel cannot be asked.
pub fn verify(site: &Site, kind: &str, result: &Success) -> Result<(Option<Link>, Vec<String>)> {
    let (ifname, path) = (site.owner.ifname(), site.sandbox.path());
    let Some(link) = site.sandbox.netlink.find_link(ifname.as_str())? else {
        return Ok((None, vec![format!("interface {ifname} not found in {path}")]));
    };
    let mut differences = Vec::new();
    if link.kind.as_deref() != Some(kind) {
        differences.push(format!("Container interface {ifname} not of type {kind}"));
    }
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

/// The link's address, if the result had another one.
pub fn mac_difference(link: &Link, expected: Option<&str>) -> Option<String> {
    let expected = expected.filter(|mac| !mac.is_empty())?;
    let found = link.mac.map(|mac| mac.to_string()).unwrap_or_default();
    (!found.eq_ignore_ascii_case(expected))
        .then(|| format!("interface {} has MAC {found}, not {expected}", link.name))
}
