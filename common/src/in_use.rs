//! Whether an address is in use on this host, whatever any record says.
//!
//! A plugin that makes a link of the host for a container gives it an alternative name that is made
//! of each address. The kernel lets no two links have one name, and forgets it with the link; so
//! two containers never have one address, even after somebody has removed all leases.

use crate::cni::{Code, Error, Owner, Result, report};
pub use crate::net::has_link;
use crate::net::{Link, Netlink, index_of, is_local};
use sha2::{Digest as _, Sha256};
use std::collections::BTreeSet;
use std::net::IpAddr;

/// The alternative name of the link of the host behind which an address lives. It has at most 15
/// bytes. What this host routes has one address once; where it does not, each segment does.
pub fn name(segment: Option<&str>, address: IpAddr) -> String {
    let (before, hash) = match (segment, address) {
        (None, IpAddr::V4(ip)) => return format!("ip-{:08x}", ip.to_bits()),
        (None, IpAddr::V6(ip)) => ("ip-", Sha256::digest(ip.octets())),
        (Some(segment), _) => ("l2-", Sha256::digest(format!("{segment} {address}"))),
    };
    hash.iter().take(6).fold(before.to_owned(), |name, byte| format!("{name}{byte:02x}"))
}

/// Who lives under an address, as a sentence, if anybody does. No packet is sent: it takes some
/// microseconds.
pub fn tenant(address: IpAddr) -> Option<String> {
    if is_local(address) {
        return Some(format!("{address} is an address of this host"));
    }
    let name = name(None, address);
    index_of(&name).map(|index| {
        format!("a container behind link {index} (altname {name}) of this host has {address}")
    })
}

/// The containers of this host, as the namespaces at the other ends of its veth pairs tell. They
/// are looked at once, when the first question comes.
pub struct Residents<'a> {
    netlink: &'a Netlink,
    found: Option<Found>,
}

struct Found {
    links: Vec<Link>,
    /// None if a namespace does not answer: then anybody may be there.
    addresses: Option<BTreeSet<IpAddr>>,
}

impl<'a> Residents<'a> {
    /// Nothing is asked yet.
    pub fn new(netlink: &'a Netlink) -> Self {
        Self { netlink, found: None }
    }

    /// Whether it is proven that none of them has an address: no namespace has it, and it is not
    /// reached by any other kind of link.
    ///
    /// # Errors
    /// When the kernel cannot be asked.
    pub fn lack(&mut self, address: IpAddr) -> Result<bool> {
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
pub fn mark(
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
    fn a_local_address_has_a_tenant() {
        assert!(tenant("127.0.0.1".parse().unwrap()).is_some());
        assert!(tenant("192.0.2.99".parse().unwrap()).is_none());
    }
}
