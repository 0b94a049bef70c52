//! The two sides of an attachment, and a CNI result applied to an interface of the container.

use super::settings::{Ipv6, Setting, settings};
use crate::cni::{Cidr, Code, Error, IfName, Interface, Ip, NetnsPath, Result, Route, Success};
use crate::net::{self, AddressOptions, Family, Link, MAIN_TABLE, Netlink, Netns, PacketSocket};
use ipnetwork::IpNetwork;
use std::net::IpAddr;
use std::time::Duration;

/// How long to wait for duplicate address detection, which takes the kernel about a second.
const SETTLE: Duration = Duration::from_secs(5);

impl From<net::Error> for Error {
    fn from(error: net::Error) -> Self {
        Self::internal(error.to_string())
    }
}

/// The runtime's side: the namespace that the plugin was started in.
pub struct Host {
    /// Its links, addresses and routes.
    pub netlink: Netlink,
}

impl Host {
    /// Opens a socket in the namespace of the calling thread.
    ///
    /// # Errors
    /// When the kernel gives no socket.
    pub fn open() -> Result<Self> {
        Ok(Self { netlink: Netlink::open()? })
    }
}

/// The container's side: its namespace, open, and its path as the runtime gave it.
pub struct Sandbox {
    path: NetnsPath,
    pub(crate) netns: Netns,
    /// Its links, addresses and routes.
    pub netlink: Netlink,
}

/// Whether IPv6 addresses are used at once, or probed for duplicates first (RFC 4862, 5.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ipv6Addresses {
    /// They are used at once, because IPAM has made sure that no other machine has them.
    Trusted,
    /// The kernel probes the link for duplicates first, which takes a second or more.
    Probed,
}

/// How the container reaches others of its own subnet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Routing {
    /// Directly, by a route to the subnet on the link.
    Connected,
    /// By its gateway, like all other destinations.
    ViaGateway,
}

impl Sandbox {
    /// Opens the namespace, and a socket in it.
    ///
    /// # Errors
    /// Code 4 when the path is not a network namespace.
    pub fn open(path: &NetnsPath) -> Result<Self> {
        let netns = Netns::open(path.as_path()).map_err(|error| {
            let msg = format!("failed to open netns \"{path}\": {error}");
            if error.is_exhausted() {
                return Error::internal(msg);
            }
            Error::new(Code::BadEnvironment, msg)
                .details("CNI_NETNS must be the path of a network namespace")
        })?;
        let netlink = Netlink::open_in(&netns)?;
        Ok(Self { path: path.clone(), netns, netlink })
    }

    /// For DEL: `None` if no namespace was given, it is gone, or its path is now something else, because
    /// then nothing is left to be deleted in it.
    ///
    /// # Errors
    /// When the namespace exists and cannot be entered.
    pub fn find(path: Option<&NetnsPath>) -> Result<Option<Self>> {
        let Some(path) = path else { return Ok(None) };
        match Self::open(path) {
            Ok(sandbox) => Ok(Some(sandbox)),
            Err(error) if error.code() == Code::BadEnvironment => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Runs `work` with the calling thread in the namespace, as settings below /proc/sys need it.
    ///
    /// # Errors
    /// When the namespace cannot be entered.
    pub fn enter<T>(&self, work: impl FnOnce() -> T) -> Result<T> {
        Ok(self.netns.enter(work)?)
    }

    /// The path as the runtime gave it, which is the one that results must have.
    pub fn path(&self) -> &NetnsPath {
        &self.path
    }

    /// Gives a link of the container the addresses and routes of `success`, and raises it. There is no
    /// undo, because the kernel removes them with the link.
    ///
    /// # Errors
    /// Naming the address or route that the kernel refused.
    pub(crate) fn configure(
        &self,
        link: &Link,
        success: &Success,
        ipv6: Ipv6,
        routing: Routing,
    ) -> Result<()> {
        let addresses = success.addresses_of(&link.name)?;
        let has_ipv6 = addresses.iter().any(|ip| ip.is_ipv6());
        // Set before the link is raised, because the kernel applies them when it adds an address.
        let settings = settings(&link.name, has_ipv6.then_some(ipv6));
        self.netns.enter(|| settings.iter().try_for_each(Setting::apply))??;
        let options = AddressOptions {
            nodad: ipv6.addresses == Ipv6Addresses::Trusted,
            noprefixroute: routing == Routing::ViaGateway,
        };
        for address in &addresses {
            if ipv6.has_routers && address.is_ipv6() {
                // The kernel may have it already, for as long as routers say.
                self.netlink.ensure_address(link.index, **address, &options)?;
            } else {
                self.netlink.create_address(link.index, **address, &options)?;
            }
        }
        self.netlink.set_up(link.index)?;
        if has_ipv6 && ipv6.addresses == Ipv6Addresses::Probed {
            let settled = self.netlink.wait_until_settled(link.index, SETTLE);
            settled.map_err(|error| {
                Error::from(error)
                    .context(format!("failed to settle addresses for {:?}", link.name))
            })?;
        }
        for route in success.kernel_routes(link, routing)? {
            self.netlink.create_route(&route)?;
        }
        Ok(())
    }

    /// Opens a socket on a link of the container, for datagrams to a port.
    ///
    /// # Errors
    /// When there is no such link, or none with a hardware address.
    pub fn packet_socket(&self, link: &Link, port: u16) -> Result<PacketSocket> {
        Ok(PacketSocket::open(&self.netns, link.index, port)?)
    }

    /// Every address and route of `success` that the container's interface does not have. Others that
    /// it has are no difference: another plugin of the chain may have added them.
    ///
    /// # Errors
    /// When the kernel cannot be asked.
    pub fn verify(
        &self,
        ifname: &IfName,
        success: &Success,
        routing: Routing,
    ) -> Result<Vec<String>> {
        let Some(link) = self.netlink.find_link(ifname.as_str())? else {
            return Ok(vec![format!("interface {ifname} not found in {}", self.path)]);
        };
        let mut differences = Vec::new();
        if !link.is_up {
            differences.push(format!("interface {ifname} in {} is down", self.path));
        }
        let found = self.netlink.list_addresses(link.index)?;
        for address in success.addresses_of(ifname.as_str())? {
            if !found.iter().any(|found| found.address == *address) {
                differences.push(format!("Failed to match addr {address} on interface {ifname}"));
            }
        }
        for route in success.kernel_routes(&link, routing)? {
            // Another plugin of the chain, as sbr or vrf, may have moved it into a table of its own.
            let is_in = |found: &net::Route| match route.table {
                Some(table) => found.table == Some(table),
                None => found.table == Some(MAIN_TABLE) || found.oif == route.oif,
            };
            let routes = self.netlink.list_all_routes(Family::of(route.dst.ip()))?;
            let is_there = routes.iter().any(|found| {
                found.dst == route.dst
                    && is_in(found)
                    && (route.gateway.is_none() || found.gateway == route.gateway)
            });
            if !is_there {
                differences.push(format!("Expected Route {route} not found in routing table"));
            }
        }
        Ok(differences)
    }

    /// The entry of a result for a link of this container.
    pub fn interface(&self, link: &Link) -> Interface {
        Interface { sandbox: Some(self.path.to_string()), ..interface(link) }
    }
}

/// The entry of a result for a link of the host.
pub fn interface(link: &Link) -> Interface {
    let mac = link.mac.map(|mac| mac.to_string());
    Interface { name: link.name.clone(), mac, ..Interface::default() }
}

/// Turns what a `verify_` found into the answer of CHECK.
///
/// # Errors
/// One that names every difference.
pub fn no_differences(differences: &[String]) -> Result<()> {
    if differences.is_empty() { Ok(()) } else { Err(Error::internal(differences.join("; "))) }
}

impl Success {
    /// What the result says of the addresses of the container's interface of that name.
    ///
    /// # Errors
    /// When an address names an interface that the result does not list.
    pub fn ips_of(&self, ifname: &str) -> Result<Vec<Ip>> {
        let mut own = Vec::new();
        for ip in &self.ips {
            let Some(index) = ip.interface else { continue };
            let interface = usize::try_from(index).ok().and_then(|i| self.interfaces.get(i));
            match interface {
                Some(interface) if interface.name == ifname => own.push(ip.clone()),
                // The address of another plugin's interface in the chain.
                Some(_) => {}
                None => {
                    return Err(Error::internal(format!(
                        "failed to add IP addr {} to {ifname:?}: invalid interface index {index}",
                        ip.address
                    )));
                }
            }
        }
        Ok(own)
    }

    fn addresses_of(&self, ifname: &str) -> Result<Vec<Cidr>> {
        Ok(self.ips_of(ifname)?.iter().map(|ip| ip.address).collect())
    }

    /// The routes as the kernel gets them: one that names no next hop goes by the gateway of the
    /// first address of its family, if that has one.
    pub(super) fn kernel_routes(&self, link: &Link, routing: Routing) -> Result<Vec<net::Route>> {
        let gateway = |of: &Route| {
            let same = |ip: &&IpAddr| Family::of(**ip) == Family::of(of.dst.ip());
            self.ips.iter().filter_map(|ip| ip.gateway.as_ref()).find(same).copied()
        };
        let some = |number: u32| (number != 0).then_some(number);
        let mut routes = match routing {
            Routing::Connected => Vec::new(),
            Routing::ViaGateway => self.gateway_routes(link)?,
        };
        routes.extend(self.routes.iter().map(|route| net::Route {
            // 0.0.0.0 is how the Go plugin dhcp says that a destination is on the link.
            gateway: route.gw.or_else(|| gateway(route)).filter(|hop| !hop.is_unspecified()),
            oif: Some(link.index),
            // There is no route to the subnet, by which the kernel would know that a next hop of it is
            // on the link.
            onlink: routing == Routing::ViaGateway && self.is_in_a_subnet(route.gw),
            priority: some(route.priority),
            table: route.table.filter(|table| *table != 0),
            scope: route.scope,
            mtu: some(route.mtu),
            advmss: some(route.advmss),
            ..net::Route::to(
                IpNetwork::new(route.dst.network(), route.dst.prefix()).unwrap_or(*route.dst),
            )
        }));
        Ok(routes)
    }

    fn is_in_a_subnet(&self, next_hop: Option<IpAddr>) -> bool {
        next_hop.is_some_and(|hop| self.ips.iter().any(|ip| ip.address.contains(hop)))
    }

    /// For each address, a route to its gateway on the link, and one to its subnet by the gateway.
    fn gateway_routes(&self, link: &Link) -> Result<Vec<net::Route>> {
        let mut routes: Vec<net::Route> = Vec::new();
        for ip in self.ips_of(&link.name)? {
            let gateway = ip.required_gateway()?;
            let route = |dst| net::Route {
                oif: Some(link.index),
                prefsrc: Some(ip.address.ip()),
                ..net::Route::to(dst)
            };
            // Several addresses may have the same gateway.
            if !routes.iter().any(|other| other.dst == gateway.into()) {
                routes.push(route(gateway.into()));
            }
            let subnet = IpNetwork::new(ip.address.network(), ip.address.prefix());
            let subnet = subnet.ok().filter(|subnet| *subnet != ip.address.ip().into());
            routes.extend(subnet.map(|dst| net::Route { gateway: Some(gateway), ..route(dst) }));
        }
        Ok(routes)
    }
}

impl Ip {
    /// The gateway, for networks in which every destination is reached by it.
    ///
    /// # Errors
    /// When IPAM gave none.
    pub fn required_gateway(&self) -> Result<IpAddr> {
        self.gateway.ok_or_else(|| {
            Error::config(format!("IPAM gave {} no gateway", self.address))
                .details("everything is reached by the gateway: give the range a \"gateway\"")
        })
    }
}
