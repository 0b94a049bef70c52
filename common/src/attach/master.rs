//! The link that a link of the container is on, as that of a macvlan.

use super::site::Side;
use super::{Host, Site};
use crate::cni::{Add, Call, Error, Result};
use crate::net::{Family, Link, MAIN_TABLE, Netlink};
use serde::Deserialize;

/// The keys of the network configuration.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Keys {
    master: String,
    link_in_container: bool,
}

/// How the link below is found.
#[derive(Debug)]
pub struct Master {
    /// `None` for the only link of the plugin before this one, or else that of the default route.
    pub name: Option<String>,
    /// The side that it is on.
    pub side: Side,
}

impl Master {
    /// # Errors
    /// Code 7 for invalid values.
    pub fn load(call: &Call) -> Result<Self> {
        let Keys { master, link_in_container } = call.network.config()?;
        let side = if link_in_container { Side::Container } else { Side::Host };
        Ok(Self { name: (!master.is_empty()).then_some(master), side })
    }

    /// For ADD: the link.
    ///
    /// # Errors
    /// Code 7 when there is none.
    pub fn find(&self, request: &Add<'_>, site: &Site) -> Result<Link> {
        let netlink = site.netlink(self.side);
        let Some(result) = request.prev_result.as_ref().filter(|_| self.name.is_none()) else {
            return find(netlink, self.name.as_deref());
        };
        match result.interfaces.as_slice() {
            [only] if !only.name.is_empty() => find(netlink, Some(&only.name)),
            _ => Err(Error::config(
                "chained master failure. PrevResult lacks a single named interface",
            )
            .details("name the link to use: \"master\": \"eth0\"")),
        }
    }

    /// For CHECK: a sentence about the container's link, if it is not on the one that is named. Without
    /// a name it is on the one that ADD has found, for the kernel deletes both together.
    ///
    /// # Errors
    /// When the kernel cannot be asked.
    pub fn verify(&self, site: &Site, link: Option<&Link>) -> Result<Option<String>> {
        let Some(name) = &self.name else { return Ok(None) };
        let Some(master) = site.netlink(self.side).find_link(name)? else {
            return Ok(Some(format!("master {name:?} not found")));
        };
        // What is made on a macvlan or ipvlan is put on the link below that one.
        let is_on = |link: &Link| {
            link.peer == Some(master.index)
                || (link.kind == master.kind && link.peer == master.peer)
        };
        let misplaced = link.filter(|link| !is_on(link));
        Ok(misplaced.map(|link| format!("{} is not on master {name:?}", link.name)))
    }

    /// For STATUS: the one that is named. Otherwise the plugin before this one may tell ADD which one it
    /// is; and which container's links are meant is not known yet.
    ///
    /// # Errors
    /// Code 50 when ADD would not find it.
    pub fn status(&self) -> Result<Option<Link>> {
        let Some(name) = self.name.as_deref().filter(|_| self.side == Side::Host) else {
            return Ok(None);
        };
        find(&Host::open()?.netlink, Some(name)).map(Some).map_err(Error::unavailable)
    }
}

/// The link of that name, or the one of this namespace's default route.
fn find(netlink: &Netlink, name: Option<&str>) -> Result<Link> {
    if let Some(name) = name {
        return netlink.find_link(name)?.ok_or_else(|| {
            Error::config(format!("failed to lookup master {name:?}: Link not found")).details(
                "master names a link of the host, or with linkInContainer of the container",
            )
        });
    }
    for family in Family::ALL {
        let mut routes = netlink.list_routes(family, MAIN_TABLE)?.into_iter();
        if let Some(index) = routes.find_map(|route| route.oif.filter(|_| route.dst.prefix() == 0))
        {
            return Ok(netlink.read_link(index)?);
        }
    }
    Err(Error::config("no default route interface found")
        .details("name the link to use: \"master\": \"eth0\""))
}

/// The MTU in bytes that is asked for; `None` for the master's.
///
/// # Errors
/// Code 7 for one that is larger than the master's.
pub fn mtu(master: &Link, given: i64) -> Result<Option<u32>> {
    match u32::try_from(given) {
        Ok(0) => Ok(None),
        Ok(mtu) if mtu <= master.mtu => Ok(Some(mtu)),
        _ => Err(Error::config(format!(
            "invalid MTU {given}, must be [0, master MTU({})]",
            master.mtu
        ))),
    }
}
