//! The routes by one link as the kernel has them, with all that it says of them: metrics, type of
//! service, several next hops. What puts a route into another table needs the whole of it.

use std::net::IpAddr;
use std::ops::Deref;

use netlink_packet_core::{NLM_F_APPEND, NLM_F_CREATE};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::route::{
    RouteAttribute, RouteFlags, RouteMessage, RouteNextHopFlags, RouteProtocol,
};

use super::route::set_table;
use super::{Family, Netlink, Result, Route};

/// A unicast route by one link. It reads as a [`Route`] with the first of its next hops.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkRoute {
    first: Route,
    /// The gateways of all its next hops.
    pub gateways: Vec<IpAddr>,
    /// Whether the kernel also has next hops by other links in it. They are left out here.
    pub is_shared: bool,
    message: RouteMessage,
}

impl Deref for LinkRoute {
    type Target = Route;
    fn deref(&self) -> &Route {
        &self.first
    }
}

impl LinkRoute {
    /// `None` for a route of another kind, or by other links only.
    fn new(mut message: RouteMessage, link: u32) -> Option<Self> {
        let all = Route::from_message(message.clone());
        let own: Vec<_> = all.iter().filter(|hop| hop.oif == Some(link)).collect();
        let first = (*own.first()?).clone();
        let gateways = own.iter().filter_map(|hop| hop.gateway).collect();
        let is_shared = own.len() < all.len();
        // The kernel tells state among the flags, and takes none.
        message.header.flags &= RouteFlags::Onlink;
        let has_object = message.attributes.iter().any(|it| matches!(it, RouteAttribute::NhId(_)));
        message.attributes.retain(|attribute| match attribute {
            RouteAttribute::CacheInfo(_) => false,
            // A next hop that is an object of its own (ip-nexthop(8)) is told, and not taken.
            RouteAttribute::Oif(_)
            | RouteAttribute::Gateway(_)
            | RouteAttribute::Via(_)
            | RouteAttribute::Encap(_)
            | RouteAttribute::EncapType(_)
            | RouteAttribute::MultiPath(_) => !has_object,
            _ => true,
        });
        for attribute in &mut message.attributes {
            if let RouteAttribute::MultiPath(hops) = attribute {
                hops.retain(|hop| hop.interface_index == link);
                hops.iter_mut().for_each(|hop| hop.flags &= RouteNextHopFlags::Onlink);
            }
        }
        let table = first.table;
        let route = Self { first, gateways, is_shared, message };
        table.map(|table| route.in_table(table))
    }

    /// Whether one of its next hops is this gateway.
    pub fn has_gateway(&self, gateway: IpAddr) -> bool {
        self.gateways.contains(&gateway)
    }

    /// The same in another table.
    #[must_use]
    pub fn in_table(mut self, table: u32) -> Self {
        self.first.table = Some(table);
        self.message.attributes.retain(|it| !matches!(it, RouteAttribute::Table(_)));
        set_table(&mut self.message, table);
        self
    }

    /// The same, with another address to leave with, or none.
    #[must_use]
    pub fn with_source(mut self, source: Option<IpAddr>) -> Self {
        self.first.prefsrc = source;
        let attributes = &mut self.message.attributes;
        attributes.retain(|it| !matches!(it, RouteAttribute::PrefSource(_)));
        attributes.extend(source.map(|source| RouteAttribute::PrefSource(source.into())));
        self
    }

    /// The same, made by somebody else ([`Route::protocol`]).
    #[must_use]
    pub fn made_by(mut self, protocol: u8) -> Self {
        self.first.protocol = Some(protocol);
        self.message.header.protocol = RouteProtocol::from(protocol);
        self
    }
}

impl Netlink {
    /// The routes of both families that a table has by a link. Those without a gateway come first, for
    /// the kernel takes a gateway only where there is a route to it.
    pub fn list_link_routes(&self, link: u32, table: u32) -> Result<Vec<LinkRoute>> {
        let mut routes = Vec::new();
        for family in Family::ALL {
            let messages = self.dump_table(family, table)?.into_iter();
            routes.extend(messages.filter_map(|message| LinkRoute::new(message, link)));
        }
        routes.retain(|route| route.table == Some(table));
        routes.sort_by_key(|route| !route.gateways.is_empty());
        Ok(routes)
    }

    /// Adds a route behind those to the same destination with the same metric, unless it is there
    /// already; IPv6 balances over all of them.
    ///
    /// # Errors
    /// As [`Netlink::create_route`], but for a route that is there.
    pub fn append_route(&self, route: &LinkRoute) -> Result<()> {
        match self.new_route(route.message.clone(), route, NLM_F_CREATE | NLM_F_APPEND) {
            Err(error) if error.is_exists() => Ok(()),
            outcome => outcome,
        }
    }

    /// Removes a route; one that is gone already is success.
    pub fn delete_route(&self, route: &LinkRoute) -> Result<()> {
        let message = RouteNetlinkMessage::DelRoute(route.message.clone());
        match self.change(message, 0, || self.describe_route("delete", route)) {
            Err(error) if !error.is_gone() => Err(error),
            _ => Ok(()),
        }
    }
}
