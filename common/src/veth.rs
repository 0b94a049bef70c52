//! A veth pair between the host and a sandbox: one attachment's own.

use crate::cni::{Attachment, Code, Error, IfName, NetnsPath, NetworkName, Owner, Result, Success};
use crate::kept::{Kept, alias, is_unfinished, link_names, presence_name};
use crate::net::{Link, Mac, Netlink, PortChange, Presence, VethEnd, VethPair, sysctl};
use crate::sandbox::{Host, Sandbox};
use crate::undo::Undo;
use std::time::Duration;

/// What a pair is to be.
pub struct Veth<'a> {
    /// The container's end.
    pub ifname: &'a IfName,
    /// Written on the host's end, whose name is made of it: so it is found again without the
    /// namespace.
    pub owner: &'a Owner,
    /// Of the container's end; a random one without it.
    pub mac: Option<Mac>,
    /// Bytes, for both ends; the kernel's default without it.
    pub mtu: Option<u32>,
    /// The bridge of which the host's end becomes a port.
    pub master: Option<u32>,
    /// Settings of that port.
    pub port: Port,
    /// How long GC spares it, whatever it is told of who is valid.
    pub grace_age: Duration,
}

/// What a bridge port does beyond forwarding.
#[derive(Clone, Copy, Debug, Default)]
pub struct Port {
    /// A frame may go back to where it came from.
    pub hairpin: bool,
    /// No frames to or from other isolated ports.
    pub isolated: bool,
}

/// A pair that was made.
pub struct Pair {
    /// The end in the host, up.
    pub host: Link,
    /// The end in the container, still down.
    pub container: Link,
}

impl Veth<'_> {
    /// Makes the pair with one message, so that neither udev nor a crash sees half of it.
    ///
    /// # Errors
    /// Code 4 when the container has an interface of that name.
    pub fn create(&self, host: &Host, sandbox: &Sandbox, undo: &mut Undo) -> Result<Pair> {
        let name = host_name(self.owner);
        let mac = self.mac.map_or_else(Mac::random, Ok)?;
        let host_mac = Mac::random()?;
        let pair = VethPair {
            host: VethEnd { name: &name, mac: host_mac },
            peer: VethEnd { name: self.ifname.as_str(), mac },
            peer_netns: &sandbox.netns,
            mtu: self.mtu,
            master: self.master,
            // Should we be killed before the alias is there, GC knows whose it is.
            group: self.owner.network_mark(),
        };
        let made = name.clone();
        // Before it is made: the kernel may do so, and its answer be lost. The random address tells
        // it from a pair of the same name that another call has made.
        undo.push(format!("veth {made}"), move || {
            let netlink = Netlink::open()?;
            if let Some(link) = netlink.find_link(&made)?.filter(|link| link.mac == Some(host_mac))
            {
                netlink.delete_link(link.index)?;
            }
            Ok(())
        });
        let link = host.netlink.create_veth(&pair).map_err(|error| {
            if !error.is_exists() {
                return Error::from(error).context("failed to make veth pair");
            }
            let raced = refuse_existing(host, sandbox, self.ifname, self.owner).err();
            raced.unwrap_or_else(|| error.into())
        })?;
        ignore_router_advertisements(&name);
        host.netlink.change_port(link.index, &self.change())?;
        self.refuse_unknown_isolation(host, link.index)?;
        let index = link.peer.ok_or_else(|| Error::internal(format!("veth {name} has no peer")))?;
        let container =
            Link { index, name: self.ifname.to_string(), mac: Some(mac), ..link.clone() };
        Ok(Pair { host: link, container })
    }

    /// A kernel that does not know a setting of a port passes it over in silence.
    fn refuse_unknown_isolation(&self, host: &Host, port: u32) -> Result<()> {
        if !self.port.isolated || host.netlink.read_port(port)?.isolated {
            return Ok(());
        }
        Err(Error::config("portIsolation needs Linux 4.18: this kernel isolates no ports")
            .details("take portIsolation out of the configuration, or keep pods apart by firewall"))
    }

    fn change(&self) -> PortChange {
        let of_port = |flag: bool| self.master.map(|_| flag);
        PortChange {
            alias: Some(alias(self.owner, self.grace_age)),
            up: true,
            group: Some(0),
            hairpin: of_port(self.port.hairpin),
            isolated: of_port(self.port.isolated),
        }
    }
}

/// Routers announce themselves to the host's links as well, and the host must not believe a
/// container (CVE-2020-10749). The kernel may have no IPv6 to be configured.
pub fn ignore_router_advertisements(link: &str) {
    drop(sysctl::set(&format!("net/ipv6/conf/{link}/accept_ra"), "0"));
}

/// Refuses an attachment that is there already, in whole or in part.
///
/// # Errors
/// Code 4 when the container has an interface of that name (specification, section "ADD"), 999
/// when the host has the other end of an earlier one.
pub fn refuse_existing(
    host: &Host,
    sandbox: &Sandbox,
    ifname: &IfName,
    owner: &Owner,
) -> Result<()> {
    let way_out = "if this attachment was made before, DEL it first";
    if sandbox.netlink.find_link(ifname.as_str())?.is_some() {
        let (name, path) = (ifname.as_str(), sandbox.path());
        let msg =
            format!("container veth name ({name:?}) already exists in {path}: CNI_IFNAME is taken");
        return Err(Error::new(Code::BadEnvironment, msg).details(way_out));
    }
    for name in link_names(owner) {
        let Some(link) = host.netlink.find_link(&name)? else { continue };
        // 32 bits are few: by the former name, it may be a stranger's.
        if name == host_name(owner) || is_end_of(&link, owner) {
            let msg = format!("the host's end {name:?} of this attachment already exists");
            return Err(Error::internal(msg).details(way_out));
        }
    }
    Ok(())
}

/// The name of the host's end, which the owner alone tells.
pub fn host_name(owner: &Owner) -> String {
    let [name, _] = link_names(owner);
    name
}

/// The host's end of the attachment's pair, whose alias says that it is that, under whichever name
/// it was made.
///
/// # Errors
/// When the kernel cannot be asked.
pub fn find_host_end(netlink: &Netlink, owner: &Owner) -> Result<Option<Link>> {
    for name in link_names(owner) {
        if let Some(link) = netlink.find_link(&name)?
            && is_end_of(&link, owner)
        {
            return Ok(Some(link));
        }
    }
    Ok(None)
}

fn is_end_of(link: &Link, owner: &Owner) -> bool {
    link.alias.as_deref().is_some_and(|alias| owner.is_in(alias))
}

/// Announces that the attachment is being added, for as long as the answer lives: of two ADDs of one
/// attachment, each would find the other's half and take back what is not its own.
///
/// # Errors
/// Code 11 when another process is at it.
pub fn begin_add(owner: &Owner) -> Result<Presence> {
    Presence::announce(&presence_name(&host_name(owner))).map_err(|error| {
        if !error.is_exists() {
            return error.into();
        }
        let msg = format!("another ADD of this attachment ({}) is running", owner.as_str());
        Error::new(Code::TryAgain, msg).details("wait for its answer; DEL comes before another ADD")
    })
}

/// Deletes the attachment's pair, wherever one of its ends can be found.
///
/// # Errors
/// When the kernel refuses.
pub fn delete(
    host: &Host,
    netns: Option<&NetnsPath>,
    network: &NetworkName,
    attachment: &Attachment,
) -> Result<()> {
    let owner = attachment.owner(network);
    for name in link_names(&owner) {
        if let Some(link) = host.netlink.find_link(&name)?
            && (is_end_of(&link, &owner) || is_unfinished(&link, network))
        {
            host.netlink.delete_link(link.index)?;
            return Ok(());
        }
    }
    // Made by another implementation, or nothing at all.
    let Some(sandbox) = Sandbox::find(netns)? else { return Ok(()) };
    let Some(link) = sandbox.netlink.find_link(attachment.ifname.as_str())? else {
        return Ok(());
    };
    if is_end_of_nobodys_pair(host, &link, &owner)? {
        sandbox.netlink.delete_link(link.index)?;
    }
    Ok(())
}

/// Whether a link of the container is one end of a pair as this plugin makes them, and the other
/// one, a port of a bridge of the host, names nobody else. The container may have another plugin's
/// interface under that name: the ADD of this one was refused then, and its DEL comes all the same.
fn is_end_of_nobodys_pair(host: &Host, link: &Link, owner: &Owner) -> Result<bool> {
    let Some(peer) = link.peer.filter(|_| link.kind.as_deref() == Some("veth")) else {
        return Ok(false);
    };
    let peer = match host.netlink.read_link(peer) {
        Ok(peer) if peer.peer == Some(link.index) => peer,
        Ok(_) => return Ok(false),
        Err(error) if error.is_gone() => return Ok(false),
        Err(error) => return Err(error.into()),
    };
    let is_port = match peer.master {
        Some(master) => host.netlink.read_link(master)?.kind.as_deref() == Some("bridge"),
        None => false,
    };
    let names_another =
        peer.alias.is_some_and(|alias| Owner::is_any(&alias) && !owner.is_in(&alias));
    Ok(is_port && !names_another)
}

/// Deletes the pairs of a network that belong to nobody who is kept.
///
/// # Errors
/// When the kernel refuses.
pub fn sweep(netlink: &Netlink, kept: &Kept<'_>) -> Result<()> {
    let mut stale = netlink.list_links()?;
    stale.retain(|link| kept.is_stale_link(link));
    let stale: Vec<_> = stale.iter().map(|link| link.index).collect();
    Ok(netlink.delete_links(&stale)?)
}

/// Every difference between the result of ADD and the pair that is there.
///
/// # Errors
/// When the kernel cannot be asked.
pub fn verify(
    host: &Host,
    sandbox: &Sandbox,
    ifname: &IfName,
    master: Option<&Link>,
    result: &Success,
) -> Result<Vec<String>> {
    let Some(link) = sandbox.netlink.find_link(ifname.as_str())? else {
        return Ok(vec![format!("interface {ifname} not found in {}", sandbox.path())]);
    };
    let mut differences = Vec::new();
    if link.kind.as_deref() != Some("veth") {
        differences.push(format!("Container interface {ifname} not of type veth"));
    }
    let listed = result.interfaces.iter();
    let entry = listed.clone().find(|entry| entry.is_in_sandbox() && entry.name == ifname.as_str());
    match entry {
        None => differences.push(format!("Interface name {ifname} not found in prevResult")),
        Some(entry) => differences.extend(mac_difference(&link, entry.mac.as_deref())),
    }
    let mut host_ends = Vec::new();
    for entry in listed.filter(|entry| !entry.is_in_sandbox()) {
        let Some(end) = host.netlink.find_link(&entry.name)? else {
            differences.push(format!("interface {} not found in the host", entry.name));
            continue;
        };
        let is_pair = end.kind.as_deref() == Some("veth") && end.peer == Some(link.index);
        if is_pair && master.is_none_or(|master| end.master == Some(master.index)) {
            differences.extend(mac_difference(&end, entry.mac.as_deref()));
            host_ends.push(end);
        }
    }
    if host_ends.is_empty() {
        let of = master.map_or_else(String::new, |master| format!(" for bridge {}", master.name));
        differences.push(format!("CNI veth created{of} was not found"));
    }
    Ok(differences)
}

/// The link's address, if the result had another one.
pub fn mac_difference(link: &Link, expected: Option<&str>) -> Option<String> {
    let expected = expected.filter(|mac| !mac.is_empty())?;
    let found = link.mac.map(|mac| mac.to_string()).unwrap_or_default();
    (!found.eq_ignore_ascii_case(expected))
        .then(|| format!("interface {} has MAC {found}, not {expected}", link.name))
}
