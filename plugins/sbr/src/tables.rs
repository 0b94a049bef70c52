//! A table for each address: the routes of the interface, and a default route by its gateway.

use crate::config::OwnTables;
use crate::source_rules::{SourceRules, list_routes};
use common::Result;
use common::cni::{Cidr, Ip};
use common::net::{Family, MAIN_TABLE, Netlink, OUR_PROTOCOL, Route};
use ipnetwork::IpNetwork;
use std::net::IpAddr;

/// The first number of a table, as in the Go plugin.
const FIRST: u32 = 100;

impl OwnTables {
    /// Moves the routes of the interface from the main table into those of its addresses.
    pub(crate) fn create(&self, rules: &SourceRules<'_>, ips: &[Ip]) -> Result<()> {
        let netlink = rules.netlink();
        let link = rules.link()?;
        let routes = list_routes(netlink, link, MAIN_TABLE)?;
        for (ip, table) in ips.iter().zip(netlink.list_free_tables(FIRST)?) {
            // First the rule, by which DEL finds the table. A table without the route that a packet
            // needs does no harm: the next rule is asked.
            rules.create_to_own(ip.address.ip(), table)?;
            let own: Vec<_> = routes.iter().filter(|route| is_for(route, ip, ips)).collect();
            for route in &own {
                netlink.append_route(&Route { table: Some(table), ..(*route).clone() })?;
            }
            let gateway = self.default_route(ip, &own);
            if let Some(route) = gateway {
                netlink.create_route(&Route { oif: Some(link), table: Some(table), ..route })?;
            }
        }
        let is_covered = |route: &&Route| ips.iter().any(|ip| is_for(route, ip, ips));
        // Those with a gateway first, the other way round than they are made.
        for route in routes.iter().rev().filter(is_covered) {
            if self.source_hints && route.gateway.is_none() {
                hint(netlink, route, ips)?;
            } else if !route.is_link_local() {
                // A neighbour's link-local address is never routed by the sender's address, which may
                // not be chosen yet: that route stays where it is, too.
                netlink.delete_route(route)?;
            }
        }
        Ok(())
    }

    /// The default route of an address, unless it is among its routes.
    fn default_route(&self, ip: &Ip, own: &[&Route]) -> Option<Route> {
        let family = Family::of(ip.address.ip());
        let has_one = own.iter().any(|route| route.dst.prefix() == 0);
        let wanted = self.static_gateway(family);
        let gateway = wanted.or(ip.gateway.filter(|_| !has_one))?;
        Some(Route {
            gateway: Some(gateway),
            // IPAM may give a gateway outside of the subnet.
            onlink: !ip.address.contains(gateway),
            // Two of the same metric would share the packets. Of IPv4 the newer one wins.
            priority: (has_one && family == Family::V6).then_some(1),
            protocol: Some(OUR_PROTOCOL),
            ..Route::to(*Cidr::default_of(gateway))
        })
    }

    /// A sentence for each address without a rule to a table that leads out of the interface.
    pub(crate) fn verify(&self, rules: &SourceRules<'_>, ips: &[Ip]) -> Result<Vec<String>> {
        let link = rules.link()?;
        let mut differences = Vec::new();
        for ip in ips {
            let (address, family) = (ip.address.ip(), Family::of(ip.address.ip()));
            let Some(table) = rules.list_tables(address)?.first().copied() else {
                differences.push(format!("no rule is for packets from {address}"));
                continue;
            };
            let routes = list_routes(rules.netlink(), link, table)?;
            let has = |dst: IpNetwork, gateway: Option<IpAddr>| {
                let is_it = |route: &Route| gateway.is_none() || route.gateway == gateway;
                routes.iter().any(|route| route.dst == dst && is_it(route))
            };
            let wanted = self.static_gateway(family);
            if wanted.or(ip.gateway).is_some() && !has(*Cidr::default_of(address), wanted) {
                let by = wanted.map(|gateway| format!(" by {gateway}")).unwrap_or_default();
                differences.push(format!("table {table} of {address} has no default route{by}"));
            }
            let subnet = IpNetwork::new(ip.address.network(), ip.address.prefix()).ok();
            if let Some(subnet) = subnet.filter(|it| it.prefix() < family.bits() && !has(*it, None))
            {
                differences.push(format!("table {table} of {address} has no route to {subnet}"));
            }
        }
        Ok(differences)
    }
}

/// Whether a route is of the table of an address: unless its gateway, or the address that it has packets
/// leave with, says that it is of the subnet of another one.
fn is_for(route: &Route, ip: &Ip, all: &[Ip]) -> bool {
    let is_in = |ip: &Ip| {
        let mut names = [route.prefsrc, route.gateway].into_iter().flatten();
        names.any(|name| ip.address.contains(name))
    };
    let family = Family::of(route.dst.ip());
    family == Family::of(ip.address.ip()) && (is_in(ip) || !all.iter().any(is_in))
}

/// Has packets to the destination of a route that stays in the main table leave with the address whose
/// subnet it is, unless the route says which one.
fn hint(netlink: &Netlink, route: &Route, ips: &[Ip]) -> Result<()> {
    let is_subnet = |ip: &&Ip| ip.address.network() == route.dst.ip();
    let Some(ip) = ips.iter().find(is_subnet).filter(|_| route.prefsrc.is_none()) else {
        return Ok(());
    };
    // In one step it would replace the route of another interface to the same subnet.
    netlink.delete_route(route)?;
    Ok(netlink.append_route(&Route { prefsrc: Some(ip.address.ip()), ..route.clone() })?)
}
