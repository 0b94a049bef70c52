//! Whether an address is in use on this host, whatever any record says.
//!
//! A plugin that makes a link of the host for a container gives it an alternative name that is made
//! of each address. The kernel lets no two links have one name, and forgets it with the link; so
//! two containers never have one address, even after somebody has removed all leases.

use super::host_end::is_being_added;
use super::owner::{Owner, digest};
use crate::cni::{Code, Error, Result, report};
use crate::net::{Link, Netlink, has_link, index_of, list_local, may_be_local};
use ipnetwork::IpNetwork;
use std::cell::OnceCell;
use std::collections::BTreeSet;
use std::net::IpAddr;

/// The alternative name of the link of the host behind which an address lives. It has at most 15
/// bytes. What this host routes has one address once; where it does not, each segment does.
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
    /// By whom, as a sentence.
    pub by: String,
    /// The last address of a row of which this is true, from the one that was asked for on.
    pub last: IpAddr,
}

/// Tells which addresses are in use. What the kernel takes for this host is read once, when the
/// first question needs it.
#[derive(Debug, Default)]
pub struct Lookup {
    /// Rows of addresses, first and last, in order; none if the kernel does not tell.
    local: OnceCell<Option<Vec<(IpAddr, IpAddr)>>>,
    segment: Option<String>,
}

impl Lookup {
    /// For what this host routes. Nothing is asked yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// For a [segment](crate::Add::segment) that it does not route, if one is named.
    pub fn within(segment: Option<&str>) -> Self {
        Self { segment: segment.map(str::to_owned), ..Self::default() }
    }

    /// Who lives under an address, if anybody does. No packet is sent: it takes some microseconds.
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

    /// The last address of the row of this host's that the address is in.
    fn last_local(&self, address: IpAddr) -> Option<IpAddr> {
        if !may_be_local(address) {
            return None;
        }
        let rows = self.local.get_or_init(|| list_local().ok().map(|all| rows(all.into_iter())));
        // An address that is not handed out by mistake costs less than one that is.
        let Some(rows) = rows else { return Some(address) };
        let below = rows.partition_point(|(first, _)| *first <= address);
        let (_, last) = rows.get(..below)?.last()?;
        (address <= *last).then_some(*last)
    }
}

/// Networks as rows of addresses in order, those that touch each other as one.
fn rows(networks: impl Iterator<Item = IpNetwork>) -> Vec<(IpAddr, IpAddr)> {
    let mut all: Vec<_> = networks.map(|one| (one.network(), one.broadcast())).collect();
    all.sort_unstable();
    let mut rows: Vec<(IpAddr, IpAddr)> = Vec::with_capacity(all.len());
    for (first, last) in all {
        match rows.last_mut() {
            Some(row) if first <= row.1 || next(row.1) == Some(first) => row.1 = row.1.max(last),
            _ => rows.push((first, last)),
        }
    }
    rows
}

fn next(address: IpAddr) -> Option<IpAddr> {
    match address {
        IpAddr::V4(ip) => ip.to_bits().checked_add(1).map(|bits| IpAddr::V4(bits.into())),
        IpAddr::V6(ip) => ip.to_bits().checked_add(1).map(|bits| IpAddr::V6(bits.into())),
    }
}

/// Whether an attachment lives, or is being made, whose link of the host has this name. The kernel
/// keeps the host's end of a pair as long as the namespace of the other; before the link is there,
/// the ADD that makes it announces itself. In doubt it lives.
pub fn is_attachment_alive(link: &str) -> bool {
    // Most have a link. Where there is none, an ADD may make it and end while we ask.
    has_link(link) || is_being_added(link) || has_link(link)
}

/// Whether an earlier attachment is gone whose link has the name of the one that the ADD makes which
/// asks. Of such ADDs one runs at a time, and it begins when it has seen that there is no such link:
/// one that is there by now is its own.
pub fn is_replaced(link: &str) -> bool {
    is_being_added(link) || !has_link(link)
}

/// The containers of this host, as the namespaces at the other ends of its veth pairs tell. They
/// are looked at once, when the first question comes.
pub struct Containers<'a> {
    netlink: &'a Netlink,
    found: Option<Found>,
}

struct Found {
    links: Vec<Link>,
    /// None if a namespace does not answer: then anybody may be there.
    addresses: Option<BTreeSet<IpAddr>>,
}

impl<'a> Containers<'a> {
    /// Nothing is asked yet.
    pub fn new(netlink: &'a Netlink) -> Self {
        Self { netlink, found: None }
    }

    /// Whether it is proven that none of them has an address: no namespace has it, and it is not
    /// reached by any other kind of link.
    ///
    /// # Errors
    /// When the kernel cannot be asked.
    pub fn is_free(&mut self, address: IpAddr) -> Result<bool> {
        let Found { links, addresses } = match &mut self.found {
            Some(found) => found,
            none => none.insert(Found::look(self.netlink)?),
        };
        if addresses.as_ref().is_none_or(|addresses| addresses.contains(&address)) {
            return Ok(false);
        }
        let Ok(route) = self.netlink.find_route_to(address) else { return Ok(false) };
        let Some(route) = route else { return Ok(true) };
        // Behind a router it may be anybody's, a macvlan's of this host too.
        if route.gateway.is_some() {
            return Ok(false);
        }
        let is_veth = |link: &Link| link.kind.as_deref() == Some("veth");
        let mut ways = links.iter().filter(|link| Some(link.index) == route.oif);
        Ok(ways.all(|way| {
            let mut ports = links.iter().filter(|link| link.master == Some(way.index));
            is_veth(way) || way.kind.as_deref() == Some("bridge") && ports.all(is_veth)
        }))
    }
}

impl Found {
    fn look(netlink: &Netlink) -> Result<Self> {
        let links = netlink.list_links()?;
        let peers: BTreeSet<_> = links.iter().filter_map(|link| link.peer_netns).collect();
        let of_peer = |netns: i32| netlink.list_addresses_in(netns).ok().flatten();
        let addresses: Option<Vec<_>> = peers.into_iter().map(of_peer).collect();
        Ok(Self { links, addresses: addresses.map(|all| all.into_iter().flatten().collect()) })
    }
}

/// Marks the link behind which these addresses live. A kernel before 5.5 has no such names: then
/// there is no mark.
///
/// # Errors
/// Code 11 when another link has the mark.
pub(crate) fn mark(
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
                let other = other.map_or(name, |link| match link.alias {
                    Some(alias) => format!("{} ({})", link.name, Owner::split(&alias).0),
                    None => link.name,
                });
                let msg = format!("{address} is in use already");
                let mut details = format!("a container behind link {other} of this host has it");
                if segment.is_none() {
                    details.push_str("; subnets that this host routes must not overlap");
                }
                return Err(Error::new(Code::TryAgain, msg).details(details));
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
    fn rows_are_in_order_and_as_long_as_can_be() {
        let list = ["fd00::/64", "10.0.0.2/32", "10.0.0.0/31", "127.0.0.0/8", "127.0.0.1/32"];
        let more = ["255.255.255.255/32", "ffff::/16", "10.0.0.4/32"];
        let networks = list.iter().chain(&more).map(|text| text.parse().unwrap());
        let rows: Vec<_> =
            rows(networks).iter().map(|(first, last)| format!("{first}-{last}")).collect();
        let expected = [
            "10.0.0.0-10.0.0.2",
            "10.0.0.4-10.0.0.4",
            "127.0.0.0-127.255.255.255",
            "255.255.255.255-255.255.255.255",
            "fd00::-fd00::ffff:ffff:ffff:ffff",
            "ffff::-ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
        ];
        assert_eq!(rows, expected);
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
