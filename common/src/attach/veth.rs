//! A veth pair between the host and a sandbox: one attachment's own.

use super::host_end::{alias, host_name, is_end_of, is_unfinished, link_names};
use super::link::{self, mac_difference};
use super::{Host, Kept, Owner, Sandbox, Site};
use crate::cni::{Error, NetnsPath, Result, Success, Undo};
use crate::net::{Link, LinkChange, LinkKind, LinkSpec, Mac, Netlink, Peer, Port, sysctl};
use std::time::Duration;

/// A pair that is to be made.
pub struct Veth {
    /// The hardware address of the container's end; `None` for a random one.
    pub mac: Option<Mac>,
    /// Of both ends, in bytes; `None` for the kernel's default.
    pub mtu: Option<u32>,
    /// The bridge of which the host's end becomes a port.
    pub master: Option<u32>,
    /// Settings of that port.
    pub port: Port,
    /// For how long after its ADD GC leaves it alone, whether or not it is listed as valid.
    pub grace_age: Duration,
}

/// A pair that [`Veth::create`] has made.
pub struct Pair {
    /// The end in the host, up.
    pub host: Link,
    /// The end in the container, still down.
    pub container: Link,
}

impl Veth {
    /// Makes the pair with one message, so that there is never half of it, whenever the process is
    /// killed. The name of the host's end is a hash of the owner and its alias is the owner: so DEL and
    /// GC find it without the container's namespace.
    ///
    /// # Errors
    /// Code 4 when the container has an interface of that name.
    pub fn create(&self, site: &Site, undo: &mut Undo) -> Result<Pair> {
        let (name, ifname) = (host_name(&site.owner), site.owner.ifname().as_str());
        let mac = self.mac.map_or_else(Mac::random, Ok)?;
        let host_mac = Mac::random()?;
        let spec = LinkSpec {
            name: &name,
            mac: Some(host_mac),
            mtu: self.mtu,
            master: self.master,
            // If this process is killed before it has set the alias, GC finds the network by this.
            group: site.owner.network_group(),
            kind: LinkKind::Veth(Peer { name: ifname, mac, netns: &site.sandbox.netns }),
        };
        let own_name = name.clone();
        // Registered first, because the kernel may make the pair and its answer be lost. The random
        // address tells the rollback that this call made it, not another one under the same name.
        undo.push(format!("veth {own_name}"), move || {
            let netlink = Netlink::open()?;
            if let Some(link) =
                netlink.find_link(&own_name)?.filter(|link| link.mac == Some(host_mac))
            {
                netlink.delete_link(link.index)?;
            }
            Ok(())
        });
        let host = &site.host.netlink;
        let link = host.create_link(&spec).map_err(|error| {
            if !error.is_exists() {
                return Error::from(error).context("failed to make veth pair");
            }
            site.refuse_existing().err().unwrap_or_else(|| error.into())
        })?;
        ignore_router_advertisements(&name);
        let (alias, of_port) = (alias(&site.owner, self.grace_age), self.master.is_some());
        let change = LinkChange {
            alias: Some(&alias),
            up: true,
            group: Some(0),
            hairpin: of_port.then_some(self.port.hairpin),
            isolated: of_port.then_some(self.port.isolated),
            ..LinkChange::default()
        };
        host.change_link(link.index, &change)?;
        self.refuse_unknown_isolation(&site.host, link.index)?;
        let index = link.peer.ok_or_else(|| Error::internal(format!("veth {name} has no peer")))?;
        let container = Link { index, name: ifname.to_owned(), mac: Some(mac), ..link.clone() };
        Ok(Pair { host: link, container })
    }

    /// A kernel ignores a port's setting that it does not know without an error, so it is read back.
    fn refuse_unknown_isolation(&self, host: &Host, port: u32) -> Result<()> {
        if !self.port.isolated || host.netlink.read_port(port)?.isolated {
            return Ok(());
        }
        Err(Error::config("portIsolation needs Linux 4.18: this kernel isolates no ports")
            .details("take portIsolation out of the configuration, or keep pods apart by firewall"))
    }
}

/// Makes the host ignore router advertisements that come in by this link: a container could send them
/// and redirect the host's traffic to itself (CVE-2020-10749). An error means that the kernel has no
/// IPv6, and so no such danger.
pub fn ignore_router_advertisements(link: &str) {
    drop(sysctl::set(&format!("net/ipv6/conf/{link}/accept_ra"), "0"));
}

/// How a plugin attaches the host's end of its pairs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attached {
    /// It is a port of a bridge.
    ToBridge,
    /// It is no port of anything.
    ToNothing,
}

/// Deletes the attachment's pair, by the host's end, or else by the container's.
///
/// # Errors
/// When the kernel refuses.
pub fn delete(netns: Option<&NetnsPath>, owner: &Owner, attached: Attached) -> Result<()> {
    let host = Host::open()?;
    for name in link_names(owner) {
        if let Some(link) = host.netlink.find_link(&name)?
            && (is_end_of(&link, owner) || is_unfinished(&link, owner.network()))
        {
            host.netlink.delete_link(link.index)?;
            return Ok(());
        }
    }
    // The Go plugins name the host's end at random: such a pair is found by the container's end.
    let Some(sandbox) = Sandbox::find(netns)? else { return Ok(()) };
    let Some(link) = sandbox.netlink.find_link(owner.ifname().as_str())? else {
        return Ok(());
    };
    if is_end_of_unowned_pair(&host, &link, owner, attached)? {
        sandbox.netlink.delete_link(link.index)?;
    }
    Ok(())
}

/// Whether a link of the container is one end of a pair as the plugin makes them, and the alias of
/// the other end, in the host, names no other owner. The container may have another plugin's interface
/// of that name: then the ADD of this one was refused, and the runtime sends its DEL nevertheless.
fn is_end_of_unowned_pair(
    host: &Host,
    link: &Link,
    owner: &Owner,
    attached: Attached,
) -> Result<bool> {
    let Some(peer) = find_other_end(host, link)? else { return Ok(false) };
    let is_attached_so = match peer.master {
        Some(master) => {
            let kind = host.netlink.read_link(master)?.kind;
            attached == Attached::ToBridge && kind.as_deref() == Some("bridge")
        }
        // Whoever else makes pairs names them in another way.
        None => attached == Attached::ToNothing && is_name_of_go_plugins(&peer.name),
    };
    let names_another =
        peer.alias.is_some_and(|alias| Owner::is_any(&alias) && !owner.is_in(&alias));
    Ok(is_attached_so && !names_another)
}

/// Four random bytes in hexadecimal (`RandomVethName` of their package `ip`).
fn is_name_of_go_plugins(name: &str) -> bool {
    let is_hex = |digits: &str| {
        digits.len() == 8 && digits.bytes().all(|byte| b"0123456789abcdef".contains(&byte))
    };
    name.strip_prefix("veth").is_some_and(is_hex)
}

/// The other end, in the host, of a link of the container's: the owner's own, or, of a pair that the Go
/// plugins have made, one that the result names.
///
/// # Errors
/// When the kernel cannot be asked.
pub fn find_host_end(
    host: &Host,
    link: &Link,
    owner: &Owner,
    result: &Success,
) -> Result<Option<Link>> {
    let is_listed = |end: &Link| {
        result.interfaces.iter().any(|entry| !entry.is_in_sandbox() && entry.name == end.name)
    };
    let end = find_other_end(host, link)?;
    Ok(end.filter(|end| is_end_of(end, owner) || is_listed(end)))
}

/// The other end of a pair, if that is in the host. It may be in a third namespace, and another pair of
/// the host have the same two numbers.
///
/// # Errors
/// When the kernel cannot be asked.
pub fn find_other_end(host: &Host, link: &Link) -> Result<Option<Link>> {
    let is_veth = |link: &Link| link.kind.as_deref() == Some("veth");
    // One that is in the same namespace as the link is in no other one.
    let Some(peer) = link.peer.filter(|_| is_veth(link) && link.peer_netns.is_some()) else {
        return Ok(None);
    };
    match host.netlink.read_link(peer) {
        Ok(end) => Ok(Some(end).filter(|end| is_veth(end) && end.peer == Some(link.index))),
        Err(error) if error.is_gone() => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Deletes the pairs of a network that belong to no attachment that GC leaves alone.
///
/// # Errors
/// When the kernel refuses.
pub fn sweep(netlink: &Netlink, kept: &Kept<'_>) -> Result<()> {
    let mut stale = netlink.list_links()?;
    stale.retain(|link| kept.is_stale_link(link, "veth"));
    let stale: Vec<_> = stale.iter().map(|link| link.index).collect();
    Ok(netlink.delete_links(&stale)?)
}

/// Every difference between the result of ADD and the pair.
///
/// # Errors
/// When the kernel cannot be asked.
pub fn verify(
    site: &Site,
    master: Option<&Link>,
    result: &Success,
) -> Result<(Option<Link>, Vec<String>)> {
    let (link, mut differences) = link::verify(site, "veth", result)?;
    let Some(link) = link else { return Ok((None, differences)) };
    let listed = result.interfaces.iter();
    let mut host_end = None;
    for entry in listed.filter(|entry| !entry.is_in_sandbox()) {
        let Some(end) = site.host.netlink.find_link(&entry.name)? else {
            differences.push(format!("interface {} not found in the host", entry.name));
            continue;
        };
        let is_pair = end.kind.as_deref() == Some("veth") && end.peer == Some(link.index);
        if is_pair && master.is_none_or(|master| end.master == Some(master.index)) {
            differences.extend(mac_difference(&end, entry.mac.as_deref()));
            host_end = Some(end);
        }
    }
    if host_end.is_none() {
        let of = master.map_or_else(String::new, |master| format!(" for bridge {}", master.name));
        differences.push(format!("CNI veth created{of} was not found"));
    }
    Ok((host_end, differences))
}
