//! The interface: the kernel switches it off and on again as it joins a VRF, which costs it routes and
//! IPv6 addresses. So both are remembered, and given back.

use common::cni::IfName;
use common::net::{
    Address, AddressOptions, Family, LOCAL_TABLE, Link, LinkRoute, MAIN_TABLE, Netlink,
};
use common::{Error, Result, Sandbox, Undo};
use std::time::Duration;

/// How long to wait for duplicate address detection, which takes the kernel about a second.
const SETTLE: Duration = Duration::from_secs(5);

/// `RT_SCOPE_UNIVERSE` of linux/rtnetlink.h.
const EVERYWHERE: u8 = 0;

/// An interface that is to join a VRF.
pub(crate) struct Member {
    link: Link,
    saved: Saved,
}

/// What it had before.
#[derive(Clone)]
struct Saved {
    addresses: Vec<Address>,
    routes: Vec<LinkRoute>,
}

impl Member {
    pub(crate) fn find(sandbox: &Sandbox, ifname: &IfName) -> Result<Self> {
        let netlink = &sandbox.netlink;
        let link = netlink.find_link(ifname.as_str())?.ok_or_else(|| {
            Error::internal(format!("interface {ifname} not found in {}", sandbox.path()))
                .details("vrf comes behind the plugin that makes it")
        })?;
        if let Some(master) = link.master {
            let master = netlink.read_link(master)?.name;
            let msg = format!("interface {ifname} has already a master set: {master}");
            return Err(
                Error::internal(msg).details("if this attachment was made before, DEL it first")
            );
        }
        refuse_other_tables(netlink, &link)?;
        let saved = Saved::read(netlink, link.index, MAIN_TABLE)?;
        Ok(Self { link, saved })
    }

    /// Makes it one of the VRF's.
    pub(crate) fn join(
        self,
        sandbox: &Sandbox,
        vrf: &Link,
        table: u32,
        undo: &mut Undo,
    ) -> Result<()> {
        let Self { link, saved } = self;
        let (path, before) = (sandbox.path().clone(), saved.clone());
        undo.push(format!("{} in VRF {}", link.name, vrf.name), move || {
            let Some(sandbox) = Sandbox::find(Some(&path))? else { return Ok(()) };
            sandbox.netlink.set_master(link.index, None)?;
            before.restore(&sandbox.netlink, link.index, MAIN_TABLE)
        });
        sandbox.netlink.set_master(link.index, Some(vrf.index))?;
        saved.restore(&sandbox.netlink, link.index, table)
    }
}

/// Refuses an interface with routes in further tables, as `sbr` makes them. They would be lost as it
/// joins the VRF, and the kernel would not take them again where they name its address.
fn refuse_other_tables(netlink: &Netlink, link: &Link) -> Result<()> {
    for family in Family::ALL {
        let routes = netlink.list_all_routes(family)?;
        let mut own = routes.iter().filter(|route| route.oif == Some(link.index));
        let is_other = |table: &u32| ![MAIN_TABLE, LOCAL_TABLE].contains(table);
        if let Some(table) = own.find_map(|route| route.table.filter(is_other)) {
            let msg = format!("interface {} has routes in table {table}", link.name);
            return Err(Error::config(msg).details(
                "a VRF gives it one table: take what made them, as sbr, out of the chain, or vrf",
            ));
        }
    }
    Ok(())
}

impl Saved {
    fn read(netlink: &Netlink, link: u32, table: u32) -> Result<Self> {
        let mut addresses = netlink.list_addresses(link)?;
        addresses.retain(|one| one.address.is_ipv6() && one.scope == EVERYWHERE);
        let routes = netlink.list_link_routes(link, table)?;
        Ok(Self { addresses, routes })
    }

    fn restore(&self, netlink: &Netlink, link: u32, table: u32) -> Result<()> {
        let kept = netlink.list_addresses(link)?;
        // The routes to their networks are among the others.
        let options = AddressOptions { nodad: true, noprefixroute: true };
        for Address { address, .. } in &self.addresses {
            if !kept.iter().any(|kept| kept.address == *address) {
                netlink.create_address(link, *address, &options)?;
            }
        }
        // An address that the kernel has kept may be probed once more, and no route can name it until
        // that has ended.
        if kept.iter().any(|kept| kept.is_tentative && kept.scope == EVERYWHERE) {
            netlink.wait_until_settled(link, SETTLE)?;
        }
        for route in &self.routes {
            netlink.append_route(&route.clone().in_table(table))?;
        }
        Ok(())
    }
}

/// Takes the interface out of its VRF, back to the main table: the VRF's name.
pub(crate) fn leave(sandbox: &Sandbox, ifname: &IfName) -> Result<Option<String>> {
    let netlink = &sandbox.netlink;
    let Some(link) = netlink.find_link(ifname.as_str())? else { return Ok(None) };
    let Some(master) = link.master else { return Ok(None) };
    // Its master may be a bridge: only a VRF is left.
    let Some(table) = netlink.read_vrf_table(master)? else { return Ok(None) };
    let name = netlink.read_link(master)?.name;
    let saved = Saved::read(netlink, link.index, table)?;
    netlink.set_master(link.index, None)?;
    // What cannot be given back goes with the interface, which the next DEL of the chain deletes.
    drop(saved.restore(netlink, link.index, MAIN_TABLE));
    Ok(Some(name))
}
