//! A table for each address: the routes of the interface, and a default route by its gateway.

use crate::config::OwnTables;
use crate::source_rules::SourceRules;
use common::Result;
use common::cni::{self, Cidr, Ip};
use common::net::{Family, LinkRoute, MAIN_TABLE, Netlink, OUR_PROTOCOL, Route};
use ipnetwork::IpNetwork;
use std::net::IpAddr;

/// The first number of a table, as in the Go plugin.
const FIRST: u32 = 100;

impl OwnTables {
    /// The gateway of a family, whatever IPAM says.
    fn static_gateway(&self, family: Family) -> Option<IpAddr> {
        self.gateways.iter().find(|gateway| Family::of(**gateway) == family).copied()
    }

    /// Moves the routes of the interface from the main table into those of its addresses.
    pub(crate) fn create(&self, rules: &SourceRules<'_>, ips: &[Ip]) -> Result<()> {
        let netlink = rules.netlink();
        let link = rules.link()?;
        let routes = netlink.list_link_routes(link, MAIN_TABLE)?;
        for (ip, table) in ips.iter().zip(netlink.list_free_tables(FIRST)?) {
            // First the rule, by which DEL finds the table. A table without the route that a packet
            // needs does no harm: the next rule is asked.
            rules.create_to_own(ip.address.ip(), table)?;
            let own: Vec<_> = routes.iter().filter(|route| is_for(route, ip, ips)).collect();
            for route in &own {
                let copy = (*route).clone().in_table(table);
                // What stays in the main table does not come back there.
                let copy = if route.is_shared { copy.made_by(OUR_PROTOCOL) } else { copy };
                netlink.append_route(&copy)?;
            }
            if let Some(route) = self.default_route(ip, &own) {
                netlink.create_route(&Route { oif: Some(link), table: Some(table), ..route })?;
            }
        }
        let is_covered =
            |route: &&LinkRoute| !route.is_shared && ips.iter().any(|ip| is_for(route, ip, ips));
        // Those with a gateway first, the other way round than they are made.
        for route in routes.iter().rev().filter(is_covered) {
            if self.source_hints && route.gateways.is_empty() {
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
    fn default_route(&self, ip: &Ip, own: &[&LinkRoute]) -> Option<Route> {
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

    /// A sentence for each address without a rule to a table that leads out of the interface. `told` are
    /// the routes of the result.
    pub(crate) fn verify(
        &self,
        rules: &SourceRules<'_>,
        ips: &[Ip],
        told: &[cni::Route],
    ) -> Result<Vec<String>> {
        let link = rules.link()?;
        let mut differences = Vec::new();
        for ip in ips {
            let (address, family) = (ip.address.ip(), Family::of(ip.address.ip()));
            let tables = match rules.find_tables(address)? {
                Ok(tables) => tables,
                Err(difference) => {
                    differences.push(difference);
                    continue;
                }
            };
            let Some(table) = tables.first().copied() else { continue };
            let routes = rules.netlink().list_link_routes(link, table)?;
            let (default, fixed) = (*Cidr::default_of(address), self.static_gateway(family));
            if let Some(own) = fixed.or(ip.gateway) {
                // Without a fixed gateway ADD may have moved a default route that IPAM has told.
                let is_moved = |route: &LinkRoute| {
                    let mut told = told.iter().filter(|told| *told.dst == default);
                    let is_told = told.any(|told| told.gw.is_some_and(|gw| route.has_gateway(gw)));
                    fixed.is_none() && (is_told || route.gateways.is_empty())
                };
                let leads_out = |route: &LinkRoute| route.has_gateway(own) || is_moved(route);
                if !routes.iter().any(|route| route.dst == default && leads_out(route)) {
                    let text = format!("table {table} of {address} has no default route by {own}");
                    differences.push(text);
                }
            }
            let subnet = IpNetwork::new(ip.address.network(), ip.address.prefix()).ok();
            let is_missing = |subnet: &IpNetwork| {
                subnet.prefix() < family.bits() && routes.iter().all(|route| route.dst != *subnet)
            };
            if let Some(subnet) = subnet.filter(is_missing) {
                differences.push(format!("table {table} of {address} has no route to {subnet}"));
            }
        }
        Ok(differences)
    }
}

/// Whether a route is of the table of an address: unless its gateway, or the address that it has packets
/// leave with, says that it is of the subnet of another one.
fn is_for(route: &LinkRoute, ip: &Ip, all: &[Ip]) -> bool {
    let is_in = |ip: &Ip| {
        let mut names = route.prefsrc.iter().chain(&route.gateways);
        names.any(|name| ip.address.contains(*name))
    };
    let family = Family::of(route.dst.ip());
    family == Family::of(ip.address.ip()) && (is_in(ip) || !all.iter().any(is_in))
}

/// Has packets to the destination of a route that stays in the main table leave with the address whose
/// subnet it is, unless the route says which one.
fn hint(netlink: &Netlink, route: &LinkRoute, ips: &[Ip]) -> Result<()> {
    let is_subnet = |ip: &&Ip| ip.address.network() == route.dst.ip();
    let Some(ip) = ips.iter().find(is_subnet).filter(|_| route.prefsrc.is_none()) else {
        return Ok(());
    };
    // In one step it would replace the route of another interface to the same subnet.
    netlink.delete_route(route)?;
    Ok(netlink.append_route(&route.clone().with_source(Some(ip.address.ip())))?)
}
