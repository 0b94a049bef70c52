//! The host's side: its end is the container's gateway, and it routes to the container.

use common::attach::{forwarding, in_use};
use common::cni::Ip;
use common::net::{AddressOptions, Family, Link, MAIN_TABLE, Route};
use common::{Host, Result};
use std::net::IpAddr;

fn addresses(ips: &[Ip]) -> impl Iterator<Item = IpAddr> {
    ips.iter().map(|ip| ip.address.ip())
}

/// `RT_SCOPE_HOST`, as the Go plugin has it.
const HOST: u8 = 254;

/// The host's route to an address of the container.
fn route(link: &Link, ips: &[Ip], ip: &Ip) -> Route {
    let family = Family::of(ip.address.ip());
    // As a source the kernel takes the link's first address of the family, which is the gateway of
    // `first`; a route of another gateway has to name its own.
    let first = ips.iter().find(|other| Family::of(other.address.ip()) == family);
    let prefsrc = ip.gateway.filter(|_| first.is_some_and(|first| first.gateway != ip.gateway));
    let (oif, scope) = (Some(link.index), Some(HOST));
    Route { oif, scope, prefsrc, ..Route::to(ip.address.ip().into()) }
}

/// Gives the host's end the gateways' addresses and the routes to the container, and lets the host
/// forward. There is no undo, because the kernel removes both with the link.
///
/// # Errors
/// Code 7 when IPAM gave an address no gateway; naming what the kernel refused.
pub(crate) fn configure(host: &Host, link: &Link, ips: &[Ip]) -> Result<()> {
    // Without duplicate address detection: the host's ends of all containers have the same gateway.
    let options = AddressOptions { nodad: true, noprefixroute: false };
    for ip in ips {
        let gateway = ip.required_gateway()?;
        in_use::refuse(&host.netlink, gateway)?;
        host.netlink.ensure_address(link.index, gateway.into(), &options)?;
    }
    for ip in ips {
        host.netlink.create_route(&route(link, ips, ip))?;
    }
    forwarding::ensure(addresses(ips))
}

/// Everything that [`configure`] made for these addresses of the container and that is missing.
///
/// # Errors
/// When the kernel cannot be asked.
pub(crate) fn verify(host: &Host, link: &Link, ips: &[Ip]) -> Result<Vec<String>> {
    let mut differences = forwarding::verify(addresses(ips))?;
    let found = host.netlink.list_addresses(link.index)?;
    for gateway in ips.iter().filter_map(|ip| ip.gateway) {
        if !found.iter().any(|one| one.address.ip() == gateway) {
            differences.push(format!("gateway {gateway} is missing on {}", link.name));
        }
    }
    for ip in ips {
        let address = ip.address.ip();
        let routes = host.netlink.list_routes(Family::of(address), MAIN_TABLE)?;
        let to = route(link, ips, ip);
        let is_same = |one: &Route| (one.dst, one.oif, one.prefsrc) == (to.dst, to.oif, to.prefsrc);
        if !routes.iter().any(is_same) {
            differences.push(format!("the host has no route to {address} by {}", link.name));
        }
    }
    Ok(differences)
}
