//! The link that a link of the container is on, as that of a macvlan.

use crate::cni::{Error, Result};
use crate::net::{Family, Link, MAIN_TABLE, Netlink};

/// The link of that name, or the one of this namespace's default route.
///
/// # Errors
/// Code 7 when there is none.
pub fn find(netlink: &Netlink, name: Option<&str>) -> Result<Link> {
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
