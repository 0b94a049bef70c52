//! The addresses that make the bridge the containers' gateway.

use crate::config::{Gateway, Plan};
use crate::vlan_gateway::VlanGateway;
use common::attach::{forwarding, in_use};
use common::cni::{Cidr, Ip, Route};
use common::net::{AddressOptions, Family, Link};
use common::{Error, Host, Result, Success};
use ipnetwork::IpNetwork;
use std::net::IpAddr;

/// Completes what IPAM answered: a gateway for every address, and the default routes.
///
/// # Errors
/// When a subnet has no room for a gateway.
pub(crate) fn complete(gateway: Gateway, success: &mut Success) -> Result<()> {
    let Gateway::Address { is_default, .. } = gateway else { return Ok(()) };
    for ip in &mut success.ips {
        if ip.gateway.is_none() {
            ip.gateway = Some(first_address(&ip.address)?);
        }
    }
    if !is_default {
        return Ok(());
    }
    for ip in &success.ips {
        let family = |address: &Cidr| Family::of(address.ip());
        let is_same_family = |route: &Route| family(&route.dst) == family(&ip.address);
        // A default route that IPAM gave is not doubled, even if it names no next hop.
        if !success.routes.iter().any(|route| route.is_default() && is_same_family(route)) {
            let everywhere = Cidr::default_of(ip.address.ip());
            success.routes.push(Route::new(everywhere, ip.gateway));
        }
    }
    Ok(())
}

/// The first address of the subnet after the network address.
fn first_address(address: &Cidr) -> Result<IpAddr> {
    let (network, bits) = match address.network() {
        IpAddr::V4(network) => (IpAddr::V4((u32::from(network).wrapping_add(1)).into()), 32),
        IpAddr::V6(network) => (IpAddr::V6((u128::from(network).wrapping_add(1)).into()), 128),
    };
    // In a subnet of one or two addresses that address may be the container's own.
    if address.prefix() + 1 >= bits {
        return Err(Error::config(format!(
            "{address} has no room for a gateway: give the range a \"gateway\", or the network no \
             isGateway"
        )));
    }
    Ok(network)
}

/// The bridge's addresses: each gateway, with the prefix length of the container's address.
fn addresses(ips: &[Ip]) -> Result<Vec<IpNetwork>> {
    let mut wanted = Vec::new();
    for ip in ips {
        let Some(gateway) = ip.gateway else { continue };
        let address = IpNetwork::new(gateway, ip.address.prefix())
            .map_err(|error| Error::internal(format!("gateway {gateway}: {error}")))?;
        if !wanted.contains(&address) {
            wanted.push(address);
        }
    }
    Ok(wanted)
}

/// Refuses a link that has the name of the VLAN's gateway and cannot be that, before ADD changes
/// anything.
///
/// # Errors
/// Code 7.
pub(crate) fn refuse_foreign(host: &Host, plan: &Plan, bridge: Option<&Link>) -> Result<()> {
    match VlanGateway::of(plan)? {
        Some(gateway) => gateway.refuse_foreign(&host.netlink, bridge),
        None => Ok(()),
    }
}

/// The link that has the gateways' addresses: the bridge, or the gateway of the VLAN.
///
/// # Errors
/// When the kernel refuses; code 7 when another link has the name of the VLAN's gateway.
pub(crate) fn ensure_link(host: &Host, plan: &Plan, bridge: &Link) -> Result<Link> {
    match VlanGateway::of(plan)? {
        Some(gateway) => gateway.ensure(host, bridge),
        None => Ok(bridge.clone()),
    }
}

/// Gives that link the gateways' addresses, and lets the host forward.
///
/// # Errors
/// Code 7 when the link has a conflicting address, unless `forceAddress` is set.
pub(crate) fn ensure(host: &Host, plan: &Plan, link: &Link, ips: &[Ip]) -> Result<()> {
    let Gateway::Address { force, .. } = plan.gateway else { return Ok(()) };
    let wanted = addresses(ips)?;
    let found = host.netlink.list_addresses(link.index)?;
    let missing = wanted.iter().filter(|address| !found.iter().any(|f| f.address == **address));
    for address in missing {
        let existing = found.iter().map(|found| found.address);
        for other in existing.filter(|other| !wanted.contains(other) && conflicts(other, address)) {
            if !force {
                return Err(conflict(&link.name, &other, address));
            }
            host.netlink.delete_address(link.index, other)?;
        }
        in_use::refuse(&host.netlink, address.ip())?;
        let options = AddressOptions { nodad: plan.is_trusted(), noprefixroute: false };
        host.netlink.ensure_address(link.index, *address, &options).map_err(|error| {
            Error::internal(format!(
                "could not add IP address {address} to {:?}: {error}",
                link.name
            ))
        })?;
    }
    forwarding::ensure(wanted.iter().map(IpNetwork::ip))
}

/// As in the Go plugin: any other IPv4 address conflicts, because a bridge serves one IPv4 network; of
/// IPv6, where links commonly have several networks, only one in an overlapping subnet does.
fn conflicts(found: &IpNetwork, wanted: &IpNetwork) -> bool {
    match (found, wanted) {
        (IpNetwork::V4(_), IpNetwork::V4(_)) => true,
        (IpNetwork::V6(found), IpNetwork::V6(wanted)) => {
            found.contains(wanted.network()) || wanted.contains(found.network())
        }
        _ => false,
    }
}

fn conflict(bridge: &str, found: &IpNetwork, wanted: &IpNetwork) -> Error {
    Error::config(format!(
        "failed to set bridge addr: {bridge:?} already has an IP address different from {wanted}"
    ))
    .details(format!(
        "it has {found}: another network uses this bridge, or its subnet has changed; give this \
         network a bridge of its own, or set forceAddress to replace {found}"
    ))
}

/// Every address and setting of the gateway that is missing.
///
/// # Errors
/// When the kernel cannot be asked.
pub(crate) fn verify(host: &Host, plan: &Plan, bridge: &Link, ips: &[Ip]) -> Result<Vec<String>> {
    if !plan.is_gateway() {
        return Ok(Vec::new());
    }
    let (link, mut differences) = match VlanGateway::of(plan)? {
        None => (bridge.clone(), Vec::new()),
        Some(gateway) => match gateway.verify(host, bridge)? {
            (Some(link), differences) => (link, differences),
            (None, differences) => return Ok(differences),
        },
    };
    let (wanted, found) = (addresses(ips)?, host.netlink.list_addresses(link.index)?);
    let missing = wanted.iter().filter(|address| !found.iter().any(|f| f.address == **address));
    differences
        .extend(missing.map(|address| format!("gateway {address} is missing on {}", link.name)));
    differences.extend(forwarding::verify(wanted.iter().map(IpNetwork::ip))?);
    Ok(differences)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn success(ips: &[(&str, Option<&str>)], routes: &[Route]) -> Success {
        let ip = |(address, gateway): &(&str, Option<&str>)| Ip {
            address: address.parse().unwrap(),
            gateway: gateway.map(|gateway| gateway.parse().unwrap()),
            interface: None,
        };
        let ips = ips.iter().map(ip).collect();
        Success { ips, routes: routes.to_vec(), ..Success::default() }
    }

    const DEFAULT: Gateway = Gateway::Address { force: false, is_default: true };

    #[test]
    fn a_gateway_is_the_first_address_unless_ipam_says_otherwise() {
        let mut given = success(&[("10.1.2.3/16", None), ("fd00::5/64", Some("fd00::fe"))], &[]);
        complete(DEFAULT, &mut given).unwrap();
        assert_eq!(given.ips[0].gateway, Some("10.1.0.1".parse().unwrap()));
        assert_eq!(given.ips[1].gateway, Some("fd00::fe".parse().unwrap()));
        let routes: Vec<_> = given.routes.iter().map(|route| route.dst.to_string()).collect();
        assert_eq!(routes, ["0.0.0.0/0", "::/0"]);
    }

    #[test]
    fn a_default_route_of_ipam_is_not_doubled() {
        let ipam = Route::new("0.0.0.0/0".parse().unwrap(), None);
        let mut given = success(&[("10.1.0.2/24", None)], std::slice::from_ref(&ipam));
        complete(DEFAULT, &mut given).unwrap();
        assert_eq!(given.routes, [ipam]);
    }

    #[test]
    fn a_subnet_without_room_needs_a_gateway() {
        for (address, fits) in [
            ("10.0.0.1/31", false),
            ("10.0.0.1/32", false),
            ("10.0.0.2/30", true),
            ("fd00::1/127", false),
        ] {
            let mut given = success(&[(address, None)], &[]);
            assert_eq!(complete(DEFAULT, &mut given).is_ok(), fits, "{address}");
        }
        let mut given = success(&[("10.0.0.1/31", Some("10.0.0.0"))], &[]);
        assert!(complete(DEFAULT, &mut given).is_ok());
    }

    #[test]
    fn addresses_conflict_as_the_families_are() {
        let conflicts = |a: &str, b: &str| conflicts(&a.parse().unwrap(), &b.parse().unwrap());
        assert!(conflicts("10.1.0.1/24", "10.2.0.1/24"));
        assert!(!conflicts("10.1.0.1/24", "fd00::1/64"));
        assert!(!conflicts("fd00:1::1/64", "fd00:2::1/64"));
        assert!(conflicts("fd00:1::1/64", "fd00:1::1/48"));
        assert!(conflicts("fd00:1::1/48", "fd00:1::1/64"));
    }
}
