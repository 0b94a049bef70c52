//! Whether an address is in use on this host, whatever the lease file says.
//!
//! A main plugin that makes a link of the host for a container gives it an alternative name for each
//! address, made of that address. The kernel refuses a name that another link has, and removes it
//! with the link; so two containers never get the same address, even if the lease file was deleted.

use super::owner::{Owner, digest};
use super::running::is_being_added;
use crate::cni::{Code, Error, Result, report};
use crate::net::{Link, Netlink, has_link, index_of, list_local, may_be_local};
use ipnetwork::IpNetwork;
use std::cell::OnceCell;
use std::collections::BTreeSet;
use std::net::IpAddr;

/// The alternative name that marks a link of the host as the one behind which the address is in use.
/// It has at most 15 bytes. An address that this host does not route must be unique within its
/// segment only, so there the name depends on the segment too.
pub(crate) fn name(segment: Option<&str>, address: IpAddr) -> String {
    match (segment, address) {
        (None, IpAddr::V4(ip)) => format!("ip-{:08x}", ip.to_bits()),
        (None, IpAddr::V6(ip)) => format!("ip-{}", digest(ip.octets(), 6)),
        (Some(segment), _) => format!("l2-{}", digest(format!("{segment} {address}"), 6)),
    }
}

/// An address that is in use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Use {
    /// Who uses it, as a sentence.
    pub by: String,
    /// The last address of an uninterrupted range, beginning with the one that was asked for, for all
    /// of which this is true.
    pub last: IpAddr,
}

/// Tells which addresses are in use. The addresses of this host itself are read once, when they are
/// first needed.
#[derive(Debug, Default)]
pub struct Lookup {
    /// The addresses of this host as ranges (first and last), ascending; `None` if they cannot be read.
    local: OnceCell<Option<Vec<(IpAddr, IpAddr)>>>,
    segment: Option<String>,
}

impl Lookup {
    /// For addresses that this host routes.
    pub fn new() -> Self {
        Self::default()
    }

    /// For addresses of a [segment](crate::Add::segment) that this host does not route; without a
    /// segment, as [`new`](Self::new).
    pub fn within(segment: Option<&str>) -> Self {
        Self { segment: segment.map(str::to_owned), ..Self::default() }
    }

    /// Who uses an address, if it is in use. The kernel is asked and no packet is sent, so this takes
    /// microseconds.
    pub fn find(&self, address: IpAddr) -> Option<Use> {
        if let Some(last) = self.last_local(address) {
            let by = if last == address {
                format!("{address} is an address of this host")
            } else {
                format!("{address} to {last} are addresses of this host")
            };
            return Some(Use { by, last });
        }
        let name = name(self.segment.as_deref(), address);
        let index = index_of(&name)?;
        let by =
            format!("a container behind link {index} (altname {name}) of this host has {address}");
        Some(Use { by, last: address })
    }

    /// Whether it is an address of this host.
    pub fn is_of_host(&self, address: IpAddr) -> bool {
        self.last_local(address).is_some()
    }

    /// The last address of the range of this host's addresses that the address is in.
    fn last_local(&self, address: IpAddr) -> Option<IpAddr> {
        if !may_be_local(address) {
            return None;
        }
        let ranges = self.local.get_or_init(|| list_local().ok().map(|all| merge(all.into_iter())));
        // They cannot be read: to skip a free address does less harm than to hand out the host's own.
        let Some(ranges) = ranges else { return Some(address) };
        let below = ranges.partition_point(|(first, _)| *first <= address);
        let (_, last) = ranges.get(..below)?.last()?;
        (address <= *last).then_some(*last)
    }
}

/// Networks as ranges of addresses, ascending, with adjacent and overlapping ones merged.
fn merge(networks: impl Iterator<Item = IpNetwork>) -> Vec<(IpAddr, IpAddr)> {
    let mut all: Vec<_> = networks.map(|one| (one.network(), one.broadcast())).collect();
    all.sort_unstable();
    let mut ranges: Vec<(IpAddr, IpAddr)> = Vec::with_capacity(all.len());
    for (first, last) in all {
        match ranges.last_mut() {
            Some((_, end)) if first <= *end || next(*end) == Some(first) => *end = last.max(*end),
            _ => ranges.push((first, last)),
        }
    }
    ranges
}

fn next(address: IpAddr) -> Option<IpAddr> {
    match address {
        IpAddr::V4(ip) => ip.to_bits().checked_add(1).map(|bits| IpAddr::V4(bits.into())),
        IpAddr::V6(ip) => ip.to_bits().checked_add(1).map(|bits| IpAddr::V6(bits.into())),
    }
}

/// Whether the attachment whose link of the host has this name is alive, or is being added. The kernel
/// removes the host's end of a pair with the namespace of the other end, and before the link exists,
/// the ADD that makes it announces itself. An attachment about which the kernel gives no clear answer
/// counts as alive, so that its address is not handed out a second time.
pub fn is_attachment_alive(link: &str) -> bool {
    // Asked a second time, because an ADD may create the link and end between the first two questions.
    has_link(link) || is_being_added(link) || has_link(link)
}

/// Whether an earlier attachment with the same name of its link is gone, asked on behalf of the ADD
/// that makes it again. Only one such ADD runs at a time, and it starts its IPAM plugin after it has
/// seen that the link does not exist: if the link exists now, this ADD has made it.
pub fn is_replaced(link: &str) -> bool {
    is_being_added(link) || !has_link(link)
}

/// The containers of this host: the network namespaces that the other ends of its veth pairs are in.
/// Their addresses are listed once, at the first question.
pub struct Containers<'a> {
    netlink: &'a Netlink,
    found: Option<Found>,
}

struct Found {
    links: Vec<Link>,
    /// `None` if the addresses of a namespace cannot be listed: it may have any address.
    addresses: Option<BTreeSet<IpAddr>>,
}

impl<'a> Containers<'a> {
    /// The containers of the namespace that the socket is in.
    pub fn new(netlink: &'a Netlink) -> Self {
        Self { netlink, found: None }
    }

    /// Whether it is certain that no container has an address: no namespace behind a veth pair has it,
    /// and the host's route to it leads to no other kind of link, behind which nothing can be listed.
    ///
    /// # Errors
    /// When the kernel cannot be asked.
    pub fn is_free(&mut self, address: IpAddr) -> Result<bool> {
        let Found { links, addresses } = match &mut self.found {
            Some(found) => found,
            none => none.insert(Found::read(self.netlink)?),
        };
        if addresses.as_ref().is_none_or(|addresses| addresses.contains(&address)) {
            return Ok(false);
        }
        let Ok(route) = self.netlink.find_route_to(address) else { return Ok(false) };
        let Some(route) = route else { return Ok(true) };
        // Behind a router any machine may have it, and so may a macvlan of this host.
        if route.gateway.is_some() {
            return Ok(false);
        }
        let is_veth = |link: &Link| link.kind.as_deref() == Some("veth");
        let mut outputs = links.iter().filter(|link| Some(link.index) == route.oif);
        Ok(outputs.all(|output| {
            let mut ports = links.iter().filter(|link| link.master == Some(output.index));
            is_veth(output) || output.kind.as_deref() == Some("bridge") && ports.all(is_veth)
        }))
    }
}

impl Found {
    fn read(netlink: &Netlink) -> Result<Self> {
        let links = netlink.list_links()?;
        let peers: BTreeSet<_> = links.iter().filter_map(|link| link.peer_netns).collect();
        let of_peer = |netns: i32| netlink.list_addresses_in(netns).ok().flatten();
        let addresses: Option<Vec<_>> = peers.into_iter().map(of_peer).collect();
        Ok(Self { links, addresses: addresses.map(|all| all.into_iter().flatten().collect()) })
    }
}

/// Marks the link as the one behind which these addresses are in use. A kernel before 5.5 has no
/// alternative names: then nothing is marked.
///
/// # Errors
/// Code 11 when another link has the mark.
pub(crate) fn set(
    netlink: &Netlink,
    index: u32,
    segment: Option<&str>,
    addresses: impl Iterator<Item = IpAddr>,
) -> Result<()> {
    for address in addresses {
        let name = name(segment, address);
        match netlink.add_name(index, &name) {
            Ok(()) => {}
            Err(error) if error.is_exists() => {
                let other = netlink.find_link(&name).ok().flatten();
                return Err(taken(address, segment, other.as_ref()));
            }
            Err(error) if error.is_unsupported() => {
                report(format_args!(
                    "addresses are not marked as in use: that needs Linux 5.5 ({error})"
                ));
                break;
            }
            Err(error) => report(format_args!("{address} is not marked as in use: {error}")),
        }
    }
    Ok(())
}

/// Refuses to give the host an address that a container has which it routes for: the host would answer
/// in its place.
///
/// # Errors
/// Code 11 when one has it.
pub fn refuse(netlink: &Netlink, address: IpAddr) -> Result<()> {
    match netlink.find_link(&name(None, address))? {
        Some(link) => Err(taken(address, None, Some(&link))),
        None => Ok(()),
    }
}

fn taken(address: IpAddr, segment: Option<&str>, by: Option<&Link>) -> Error {
    let link = by.map_or_else(String::new, |link| match &link.alias {
        Some(alias) => format!(" {} ({})", link.name, Owner::split(alias).0),
        None => format!(" {}", link.name),
    });
    let mut details = format!("a container behind link{link} of this host has it");
    if segment.is_none() {
        details.push_str("; subnets that this host routes must not overlap");
    }
    Error::new(Code::TryAgain, format!("{address} is in use already")).details(details)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_names_of_links() {
        let of = |segment, address: &str| name(segment, address.parse().unwrap());
        assert_eq!(of(None, "10.1.0.2"), "ip-0a010002");
        let ipv6 = of(None, "fd00::2");
        assert!(ipv6.len() == 15 && ipv6.starts_with("ip-"), "{ipv6}");
        let names = [of(Some("br0"), "10.1.0.2"), of(Some("br0 9"), "10.1.0.2")];
        assert!(names[0] != names[1] && names.iter().all(|name| name.len() == 15), "{names:?}");
    }

    #[test]
    fn ranges_are_ascending_and_merged() {
        let list = ["fd00::/64", "10.0.0.2/32", "10.0.0.0/31", "127.0.0.0/8", "127.0.0.1/32"];
        let more = ["255.255.255.255/32", "ffff::/16", "10.0.0.4/32"];
        let networks = list.iter().chain(&more).map(|text| text.parse().unwrap());
        let ranges: Vec<_> =
            merge(networks).iter().map(|(first, last)| format!("{first}-{last}")).collect();
        let expected = [
            "10.0.0.0-10.0.0.2",
            "10.0.0.4-10.0.0.4",
            "127.0.0.0-127.255.255.255",
            "255.255.255.255-255.255.255.255",
            "fd00::-fd00::ffff:ffff:ffff:ffff",
            "ffff::-ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
        ];
        assert_eq!(ranges, expected);
    }

    #[test]
    fn a_local_address_is_in_use() {
        assert_eq!(
            Lookup::new().find("127.0.0.1".parse().unwrap()).unwrap().last.to_string(),
            "127.255.255.255"
        );
        assert!(Lookup::new().find("192.0.2.99".parse().unwrap()).is_none());
    }
}
