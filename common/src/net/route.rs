//! Routes.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnetwork::IpNetwork;
use netlink_packet_core::NLM_F_CREATE;
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteHeader, RouteMessage, RouteMetric,
    RouteNextHopFlags, RouteProtocol, RouteScope, RouteType, RouteVia,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use nix::libc;

use super::{Error, Netlink, Result};

/// The table that the kernel looks into unless a rule says otherwise (`RT_TABLE_MAIN`).
pub const MAIN_TABLE: u32 = 254;

/// The table of the namespace's own addresses (`RT_TABLE_LOCAL`).
pub const LOCAL_TABLE: u32 = 255;

/// An address family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// Both.
    pub const ALL: [Self; 2] = [Self::V4, Self::V6];

    /// That of an address.
    pub fn of(address: IpAddr) -> Self {
        if address.is_ipv4() { Self::V4 } else { Self::V6 }
    }

    /// The length of an address, and of the prefix that is one address, in bits.
    pub const fn bits(self) -> u8 {
        match self {
            Self::V4 => 32,
            Self::V6 => 128,
        }
    }
}

impl From<Family> for AddressFamily {
    fn from(family: Family) -> Self {
        match family {
            Family::V4 => Self::Inet,
            Family::V6 => Self::Inet6,
        }
    }
}

/// A unicast route with one next hop.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// Where it leads; `0.0.0.0/0` or `::/0` for the default route.
    pub dst: IpNetwork,
    /// The next hop; `None` if `dst` is on the link.
    pub gateway: Option<IpAddr>,
    /// The index of the link that it leaves by.
    pub oif: Option<u32>,
    /// Its metric: the smallest wins. `None` is 0 for IPv4 and 1024 for IPv6.
    pub priority: Option<u32>,
    /// `None` is [`MAIN_TABLE`].
    pub table: Option<u32>,
    /// IPv4 only: 0 for what is behind a gateway, 253 for what is on the link, 254 for this host
    /// (`RT_SCOPE_` of linux/rtnetlink.h). `None` is 253 without a gateway, else 0.
    pub scope: Option<u8>,
    /// Whether the next hop is taken to be on the link although no route says so (`RTNH_F_ONLINK`).
    pub onlink: bool,
    /// The address that packets leave with if their sender has not chosen one.
    pub prefsrc: Option<IpAddr>,
    /// Largest packet on this path, in bytes.
    pub mtu: Option<u32>,
    /// Largest TCP segment to ask the other side for, in bytes.
    pub advmss: Option<u32>,
    /// Who has made it (`RTPROT_` of linux/rtnetlink.h). `None` is 3, somebody's program.
    pub protocol: Option<u8>,
}

impl Route {
    /// To `dst`, everything else left to the kernel.
    pub fn to(dst: IpNetwork) -> Self {
        Self {
            dst,
            gateway: None,
            oif: None,
            priority: None,
            table: None,
            scope: None,
            onlink: false,
            prefsrc: None,
            mtu: None,
            advmss: None,
            protocol: None,
        }
    }

    /// Whether it leads to what the link is alone with, and what is in no other table for that reason:
    /// link-local addresses of IPv6 (RFC 4291, 2.5.6).
    pub fn is_link_local(&self) -> bool {
        matches!(self.dst.network(), IpAddr::V6(ip) if ip.is_unicast_link_local())
    }

    fn message(&self) -> RouteMessage {
        let mut message = RouteMessage::default();
        let family = Family::of(self.dst.ip());
        message.header.address_family = family.into();
        message.header.destination_prefix_length = self.dst.prefix();
        message.header.protocol = self.protocol.map_or(RouteProtocol::Boot, RouteProtocol::from);
        message.header.kind = RouteType::Unicast;
        message.header.scope = self.scope.map_or_else(
            || match (family, self.gateway) {
                (Family::V4, None) => RouteScope::Link,
                _ => RouteScope::Universe,
            },
            RouteScope::from,
        );
        message.header.flags.set(RouteFlags::Onlink, self.onlink);
        set_table(&mut message, self.table.unwrap_or(MAIN_TABLE));
        let attributes = &mut message.attributes;
        attributes.push(RouteAttribute::Destination(self.dst.network().into()));
        attributes.extend(self.gateway.map(|gateway| {
            // An IPv4 destination behind an IPv6 router has an attribute of its own (RFC 5549).
            if Family::of(gateway) == family {
                RouteAttribute::Gateway(gateway.into())
            } else {
                RouteAttribute::Via(gateway.into())
            }
        }));
        attributes.extend(self.oif.map(RouteAttribute::Oif));
        attributes.extend(self.priority.map(RouteAttribute::Priority));
        attributes.extend(self.prefsrc.map(|source| RouteAttribute::PrefSource(source.into())));
        let mtu = self.mtu.map(RouteMetric::Mtu);
        let metrics: Vec<_> = mtu.into_iter().chain(self.advmss.map(RouteMetric::Advmss)).collect();
        if !metrics.is_empty() {
            attributes.push(RouteAttribute::Metrics(metrics));
        }
        message
    }

    /// A route for each next hop; an empty list if the message is about another kind than unicast.
    pub(super) fn from_message(message: RouteMessage) -> Vec<Self> {
        let RouteHeader {
            address_family,
            destination_prefix_length: prefix,
            scope,
            protocol,
            flags,
            ..
        } = message.header;
        let everywhere: IpAddr = match address_family {
            AddressFamily::Inet => Ipv4Addr::UNSPECIFIED.into(),
            AddressFamily::Inet6 => Ipv6Addr::UNSPECIFIED.into(),
            _ => return Vec::new(),
        };
        let Ok(dst) = IpNetwork::new(everywhere, prefix) else {
            return Vec::new();
        };
        if message.header.kind != RouteType::Unicast {
            return Vec::new();
        }
        let mut route = Self::to(dst);
        route.scope = Some(scope.into());
        route.protocol = Some(protocol.into());
        route.onlink = flags.contains(RouteFlags::Onlink);
        route.table = Some(message.header.table.into());
        let mut hops = Vec::new();
        for attribute in message.attributes {
            match attribute {
                RouteAttribute::Destination(RouteAddress::Inet(ip)) => route.set_dst(ip.into()),
                RouteAttribute::Destination(RouteAddress::Inet6(ip)) => route.set_dst(ip.into()),
                RouteAttribute::PrefSource(RouteAddress::Inet(ip)) => {
                    route.prefsrc = Some(ip.into());
                }
                RouteAttribute::PrefSource(RouteAddress::Inet6(ip)) => {
                    route.prefsrc = Some(ip.into());
                }
                RouteAttribute::Priority(priority) => route.priority = Some(priority),
                RouteAttribute::Table(table) => route.table = Some(table),
                RouteAttribute::Metrics(metrics) => route.set_metrics(&metrics),
                RouteAttribute::MultiPath(next_hops) => hops = next_hops,
                attribute => route.set_hop(&attribute),
            }
        }
        if hops.is_empty() {
            return vec![route];
        }
        let split = hops.iter().map(|hop| {
            let mut route = Self { oif: Some(hop.interface_index), ..route.clone() };
            route.onlink |= hop.flags.contains(RouteNextHopFlags::Onlink);
            hop.attributes.iter().for_each(|attribute| route.set_hop(attribute));
            route
        });
        split.collect()
    }

    fn set_dst(&mut self, ip: IpAddr) {
        if let Ok(dst) = IpNetwork::new(ip, self.dst.prefix()) {
            self.dst = dst;
        }
    }

    fn set_metrics(&mut self, metrics: &[RouteMetric]) {
        for metric in metrics {
            match metric {
                RouteMetric::Mtu(mtu) => self.mtu = Some(*mtu),
                RouteMetric::Advmss(advmss) => self.advmss = Some(*advmss),
                _ => {}
            }
        }
    }

    fn set_hop(&mut self, attribute: &RouteAttribute) {
        match attribute {
            RouteAttribute::Oif(index) => self.oif = Some(*index),
            RouteAttribute::Gateway(RouteAddress::Inet(ip))
            | RouteAttribute::Via(RouteVia::Inet(ip)) => self.gateway = Some((*ip).into()),
            RouteAttribute::Gateway(RouteAddress::Inet6(ip))
            | RouteAttribute::Via(RouteVia::Inet6(ip)) => self.gateway = Some((*ip).into()),
            _ => {}
        }
    }
}

impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.dst)?;
        if let Some(gateway) = self.gateway {
            write!(f, " via {gateway}")?;
        }
        if let Some(priority) = self.priority {
            write!(f, " metric {priority}")?;
        }
        match self.table {
            Some(table) if table != MAIN_TABLE => write!(f, " table {table}"),
            _ => Ok(()),
        }
    }
}

impl Netlink {
    /// Adds a route; bits of `dst` that its prefix does not cover are ignored. A route to the same
    /// destination with the same metric, but another next hop, stays: IPv6 then balances over both,
    /// IPv4 prefers the new one.
    ///
    /// # Errors
    /// [`Error::is_exists`] if there is the same route already. A gateway that no address or route of
    /// the link reaches is refused (ENETUNREACH for IPv4, EHOSTUNREACH for IPv6).
    pub fn create_route(&self, route: &Route) -> Result<()> {
        // Neither EXCL, which refuses a second next hop, nor APPEND, which makes IPv4 prefer the
        // old one (fib_table_insert in net/ipv4/fib_trie.c, fib6_add_rt2node in ip6_fib.c).
        self.new_route(route.message(), route, NLM_F_CREATE)
    }

    pub(super) fn new_route(&self, message: RouteMessage, route: &Route, flags: u16) -> Result<()> {
        self.change(RouteNetlinkMessage::NewRoute(message), flags, || {
            self.describe_route("add", route)
        })
        .map(drop)
    }

    pub(super) fn describe_route(&self, verb: &str, route: &Route) -> String {
        let dev = route.oif.map(|index| format!(" dev {}", self.name_of(index)));
        format!("{verb} route {route}{}", dev.unwrap_or_default())
    }

    /// The unicast routes of all tables.
    pub fn list_all_routes(&self, family: Family) -> Result<Vec<Route>> {
        let mut message = RouteMessage::default();
        message.header.address_family = family.into();
        message.header.kind = RouteType::Unicast;
        let answer = self
            .dump(&RouteNetlinkMessage::GetRoute(message), || format!("list {family:?} routes"))?;
        Ok(answer.into_iter().flat_map(new_routes).collect())
    }

    /// The tables that have a route of whatever kind.
    pub(super) fn list_tables_of_routes(&self, family: Family) -> Result<Vec<u32>> {
        let mut message = RouteMessage::default();
        message.header.address_family = family.into();
        let answer = self
            .dump(&RouteNetlinkMessage::GetRoute(message), || format!("list {family:?} routes"))?;
        let table = |message: RouteNetlinkMessage| match message {
            RouteNetlinkMessage::NewRoute(message) => {
                let told = message.attributes.iter().find_map(|attribute| match attribute {
                    RouteAttribute::Table(table) => Some(*table),
                    _ => None,
                });
                Some(told.unwrap_or(message.header.table.into()))
            }
            _ => None,
        };
        Ok(answer.into_iter().filter_map(table).collect())
    }

    /// The unicast routes of one table; an empty list for a table that does not exist.
    pub fn list_routes(&self, family: Family, table: u32) -> Result<Vec<Route>> {
        let messages = self.dump_table(family, table)?.into_iter();
        let routes = messages.flat_map(Route::from_message);
        Ok(routes.filter(|route| route.table == Some(table)).collect())
    }

    /// What the kernel says of a table; kernels before 4.20 say it of all of them.
    pub(super) fn dump_table(&self, family: Family, table: u32) -> Result<Vec<RouteMessage>> {
        let mut message = RouteMessage::default();
        message.header.address_family = family.into();
        message.header.kind = RouteType::Unicast;
        set_table(&mut message, table);
        let outcome = self.dump(&RouteNetlinkMessage::GetRoute(message), || {
            format!("list {family:?} routes of table {table}")
        });
        let answer = match outcome {
            Err(error) if error.errno() == Some(libc::ENOENT) => return Ok(Vec::new()),
            outcome => outcome?,
        };
        let message = |answer| match answer {
            RouteNetlinkMessage::NewRoute(message) => Some(message),
            _ => None,
        };
        Ok(answer.into_iter().filter_map(message).collect())
    }

    /// The route that a packet to `address` would take; its `dst` is `address` alone. `None` if there
    /// is no route, or if the address is this namespace's own.
    ///
    /// # Errors
    /// EINVAL if the route is one that drops packets (`blackhole`), EACCES if it is `prohibit`.
    pub fn find_route_to(&self, address: IpAddr) -> Result<Option<Route>> {
        let mut message = RouteMessage::default();
        let family = Family::of(address);
        message.header.address_family = family.into();
        message.header.destination_prefix_length = family.bits();
        message.attributes.push(RouteAttribute::Destination(address.into()));
        let what = || format!("find the route to {address}");
        match self.get(&RouteNetlinkMessage::GetRoute(message), what) {
            Ok(Some(answer)) => Ok(new_routes(answer).into_iter().next()),
            Ok(None) => Err(Error::new(what(), "the kernel's answer cannot be decoded")),
            Err(error) if is_unreachable(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

fn is_unreachable(error: &Error) -> bool {
    error.errno().is_some_and(|errno| [libc::ENETUNREACH, libc::EHOSTUNREACH].contains(&errno))
}

/// The header has one byte for the table; the attribute takes any number.
pub(super) fn set_table(message: &mut RouteMessage, table: u32) {
    message.header.table = u8::try_from(table).unwrap_or(RouteHeader::RT_TABLE_UNSPEC);
    message.attributes.push(RouteAttribute::Table(table));
}

fn new_routes(message: RouteNetlinkMessage) -> Vec<Route> {
    match message {
        RouteNetlinkMessage::NewRoute(message) => Route::from_message(message),
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use netlink_packet_route::route::RouteNextHop;

    use super::*;

    fn route() -> Route {
        Route {
            gateway: Some("10.1.0.1".parse().unwrap()),
            oif: Some(3),
            priority: Some(7),
            table: Some(1000),
            scope: Some(0),
            mtu: Some(1400),
            advmss: Some(1360),
            protocol: Some(4),
            onlink: true,
            ..Route::to("10.2.0.0/16".parse().unwrap())
        }
    }

    #[test]
    fn what_is_encoded_is_decoded() {
        assert_eq!(Route::from_message(route().message()), [route()]);
    }

    #[test]
    fn an_ipv4_route_without_a_gateway_is_of_the_link() {
        let scope = |dst: &str| Route::to(dst.parse().unwrap()).message().header.scope;
        assert_eq!(scope("10.2.0.0/16"), RouteScope::Link);
        assert_eq!(scope("fd00::/64"), RouteScope::Universe);
        assert_eq!(Route { scope: None, ..route() }.message().header.scope, RouteScope::Universe);
    }

    #[test]
    fn each_next_hop_becomes_a_route() {
        let mut message = Route { gateway: None, oif: None, ..route() }.message();
        let hops = [(3, "10.1.0.1"), (4, "10.1.0.2")].map(|(index, gateway)| {
            let mut hop = RouteNextHop::default();
            hop.interface_index = index;
            let gateway: IpAddr = gateway.parse().unwrap();
            hop.attributes.push(RouteAttribute::Gateway(gateway.into()));
            hop
        });
        message.attributes.push(RouteAttribute::MultiPath(hops.to_vec()));
        let second = Route { gateway: Some("10.1.0.2".parse().unwrap()), oif: Some(4), ..route() };
        assert_eq!(Route::from_message(message), [route(), second]);
    }

    #[test]
    fn a_route_reads_as_the_ip_command_writes_it() {
        assert_eq!(route().to_string(), "10.2.0.0/16 via 10.1.0.1 metric 7 table 1000");
        let default = Route { table: Some(MAIN_TABLE), ..Route::to("::/0".parse().unwrap()) };
        assert_eq!(default.to_string(), "::/0");
    }
}
