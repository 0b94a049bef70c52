//! What an interface of the container takes from the routers of its segment, and how it talks to a
//! DHCPv6 server there. Both are for networks that ask for it only, because any container of the
//! segment could be such a router (CVE-2020-10749).

use super::Sandbox;
use crate::cni::{Cidr, Ip, Result};
use crate::net::{Address, Family, Link, LinkLocalSocket, MAIN_TABLE, sysctl};
use std::net::{IpAddr, Ipv6Addr};

/// What routers have told an interface.
#[derive(Debug)]
pub struct Advertised {
    /// Whether its addresses are to come from a DHCPv6 server.
    pub is_managed: bool,
    /// The addresses that it has made of prefixes of routers by now, each with the router.
    pub ips: Vec<Ip>,
}

impl Sandbox {
    /// Has the kernel take routes from router advertisements, and addresses too where
    /// `is_autoconfigured`; to be called before the link is raised, when the kernel asks for them.
    ///
    /// # Errors
    /// When the kernel has no IPv6.
    pub fn listen_to_routers(&self, link: &Link, is_autoconfigured: bool) -> Result<()> {
        let autoconf = if is_autoconfigured { "1" } else { "0" };
        // With accept_ra 1 a container that forwards would not listen.
        let settings = [("autoconf", autoconf), ("accept_ra", "2"), ("disable_ipv6", "0")];
        self.enter(|| {
            settings.iter().try_for_each(|(key, value)| {
                sysctl::set(&format!("net/ipv6/conf/{}/{key}", link.name), value)
            })
        })??;
        Ok(())
    }

    /// Opens a socket for datagrams to a port of the link's own link-local address. `None` as long as
    /// that cannot be used: the kernel first probes whether another machine has it.
    ///
    /// # Errors
    /// When the kernel gives no socket.
    pub fn link_local_socket(&self, link: &Link, port: u16) -> Result<Option<LinkLocalSocket>> {
        let all = self.netlink.list_addresses(link.index)?;
        let own = all.iter().filter(|own| is_settled(own)).find_map(|own| match own.address.ip() {
            IpAddr::V6(ip) if ip.is_unicast_link_local() => Some(ip),
            _ => None,
        });
        let Some(own) = own else { return Ok(None) };
        Ok(LinkLocalSocket::open(&self.netns, link.index, own, port)?)
    }

    /// What routers have told the interface.
    ///
    /// # Errors
    /// When the kernel cannot be asked.
    pub fn advertised(&self, link: &Link) -> Result<Advertised> {
        let default = Cidr::default_of(Ipv6Addr::UNSPECIFIED.into());
        let routes = self.netlink.list_all_routes(Family::V6)?;
        let router = routes.iter().find(|route| {
            let is_main = route.table.is_none_or(|table| table == MAIN_TABLE);
            route.dst == *default && route.oif == Some(link.index) && is_main
        });
        let gateway = router.and_then(|route| route.gateway);
        let found = self.netlink.list_addresses(link.index)?;
        let own = found.iter().filter(|own| {
            own.address.is_ipv6() && own.scope == 0 && is_settled(own) && !own.is_permanent
        });
        let ip = |own: &Address| Ip { address: own.address.into(), gateway, interface: None };
        let ips = own.map(ip).collect();
        Ok(Advertised { is_managed: self.netlink.is_managed(link.index)?, ips })
    }
}

fn is_settled(address: &Address) -> bool {
    !address.is_tentative && !address.is_dadfailed
}
