//! What an interface in use gets when its addresses change: a DHCP server may say at any time that an
//! address is another one by now, or a router. What others have made of the former address follows:
//! `sbr` or `vrf` may have moved its routes, and Multus removes default routes.

use super::Sandbox;
use super::sandbox::Routing;
use super::settings::{Setting, settings};
use crate::cni::{Ip, Result, Success};
use crate::net::{self, AddressOptions, Family, Link, MAIN_TABLE, Route};

impl Sandbox {
    /// Gives a link other addresses and routes, and raises it. `table` is where its routes were when it
    /// had its former addresses last, `None` for nowhere; that is returned as it is now.
    ///
    /// # Errors
    /// Naming the address or route that the kernel refused.
    pub fn readdress(
        &self,
        link: &Link,
        old: &Success,
        new: &Success,
        table: Option<u32>,
    ) -> Result<Option<u32>> {
        let netlink = &self.netlink;
        let table = self.table_of(link, old, table)?;
        // First, because with its last address a link loses the routes by gateways that are not its any more.
        let is_kept = |ip: &&Ip| new.ips.iter().any(|other| other.address == ip.address);
        for ip in old.ips.iter().filter(|ip| !is_kept(ip)) {
            netlink.delete_address(link.index, *ip.address)?;
        }
        let routes = |of: &Success| -> Result<Vec<Route>> {
            let Some(table) = table else { return Ok(Vec::new()) };
            let routes = of.kernel_routes(link, Routing::Connected)?;
            Ok(routes.into_iter().map(|route| Route { table: Some(table), ..route }).collect())
        };
        let wanted = routes(new)?;
        let mut lost = routes(old)?;
        lost.retain(|route| !wanted.contains(route));
        if let Some(table) = table.filter(|_| !lost.is_empty()) {
            let all = netlink.list_link_routes(link.index, table)?;
            for route in all.iter().filter(|found| lost.iter().any(|own| is_it(found, own))) {
                netlink.delete_route(route)?;
            }
        }
        let settings = settings(&link.name, None);
        self.enter(|| settings.iter().try_for_each(Setting::apply))??;
        for ip in &new.ips {
            netlink.ensure_address(link.index, *ip.address, &AddressOptions::default())?;
        }
        netlink.set_up(link.index)?;
        for (before, after) in old.ips.iter().zip(&new.ips) {
            self.redirect(link, before, after, table)?;
        }
        wanted.iter().try_for_each(|route| unless_there(netlink.create_route(route)))?;
        Ok(table)
    }

    /// Takes addresses from a link. `table` and what is returned are as in [`Sandbox::readdress`].
    ///
    /// # Errors
    /// Naming the address that the kernel refused to remove.
    pub fn unaddress(&self, link: &Link, old: &Success, table: Option<u32>) -> Result<Option<u32>> {
        let table = self.table_of(link, old, table)?;
        for ip in &old.ips {
            self.netlink.delete_address(link.index, *ip.address)?;
        }
        Ok(table)
    }

    /// The table that has the routes of a result; `None` if somebody has removed them. Where the link
    /// has lost its address, and the kernel the routes with it, and where there never was a route,
    /// nothing can be seen, and it is `known`.
    fn table_of(&self, link: &Link, of: &Success, known: Option<u32>) -> Result<Option<u32>> {
        let addresses = self.netlink.list_addresses(link.index)?;
        let has = |ip: &Ip| addresses.iter().any(|own| own.address == *ip.address);
        let routes = of.kernel_routes(link, Routing::Connected)?;
        let Some(first) = routes.first().filter(|_| of.ips.iter().any(has)) else {
            return Ok(known);
        };
        let all = self.netlink.list_all_routes(Family::of(first.dst.ip()))?;
        let found = |own: &Route| all.iter().find(|found| is_it(found, own))?.table;
        Ok(routes.iter().find_map(found))
    }

    /// Has the rules for packets from an address be for those from another one, and the table beside the
    /// main one, if there is one, know the subnet of that: the kernel tells the main table only.
    fn redirect(&self, link: &Link, old: &Ip, new: &Ip, table: Option<u32>) -> Result<()> {
        let netlink = &self.netlink;
        let (before, after) = (old.address.ip(), new.address.ip());
        if let Some(table) = table.filter(|table| *table != MAIN_TABLE) {
            for route in netlink.list_link_routes(link.index, MAIN_TABLE)? {
                if route.prefsrc == Some(after) && route.gateway.is_none() {
                    netlink.append_route(&route.in_table(table))?;
                }
            }
        }
        let rules = match netlink.list_rules() {
            // A kernel without policy rules.
            Err(error) if error.is_unsupported() => Vec::new(),
            rules => rules?,
        };
        for rule in rules.iter().filter(|rule| rule.is_from(before) && before != after) {
            unless_there(netlink.create_rule(&rule.with_source(after)))?;
            netlink.delete_rule(rule)?;
        }
        Ok(())
    }
}

/// Whether the kernel tells this route.
fn is_it(found: &Route, own: &Route) -> bool {
    (found.dst, found.oif, found.gateway) == (own.dst, own.oif, own.gateway)
}

fn unless_there(made: net::Result<()>) -> net::Result<()> {
    match made {
        Err(error) if error.is_exists() => Ok(()),
        outcome => outcome,
    }
}
