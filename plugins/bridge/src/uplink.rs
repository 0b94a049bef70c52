//! The link of the host that joins the bridge to a wire outside (`uplinkInterface`). It is shared like the
//! bridge itself: attached by the first attachment, and detached only if the ADD of that one fails.

use crate::config::Plan;
use common::net::{Family, Link, Netlink, Route, Vlan};
use common::{Error, Host, Result, Undo};
use ipnetwork::IpNetwork;

/// The link, if the network has one.
///
/// # Errors
/// Code 7 when it is missing, cannot be a port, is another bridge's, or has addresses or routes: a port
/// has no use for its own, so the host would be cut off from where they lead.
pub(crate) fn find(host: &Host, plan: &Plan) -> Result<Option<Link>> {
    let Some(name) = &plan.uplink else { return Ok(None) };
    let refuse =
        |reason: &str| Error::config(format!("uplinkInterface {:?}: {reason}", name.as_str()));
    let Some(link) = host.netlink.find_link(name.as_str())? else {
        return Err(refuse("Link not found").details("it names a link of the host"));
    };
    // Of the kinds that the kernel makes no ports, lo has an address of zeros, and tunnels have none.
    if link.kind.as_deref() == Some("bridge") || link.mac.is_none_or(|mac| mac.0 == [0; 6]) {
        return Err(refuse("a bridge, or what is no Ethernet link, cannot be a port of a bridge"));
    }
    match link.master {
        Some(master) => {
            let other = host.netlink.read_link(master)?.name;
            if other != plan.bridge.as_str() {
                return Err(refuse(&format!("it is a port of {other:?} already"))
                    .details(format!("ip link set {name} nomaster sets it free")));
            }
        }
        None => {
            let addresses = host.netlink.list_addresses(link.index)?.into_iter();
            let address = addresses.map(|found| found.address).find(|it| !is_link_local(*it));
            let mut used = address.map(|address| format!("the address {address}"));
            for family in Family::ALL {
                let mut routes = host.netlink.list_all_routes(family)?.into_iter();
                let route = routes.find(|it| it.oif == Some(link.index) && !is_given(it));
                used = used.or(route.map(|route| format!("the route {route}")));
            }
            if let Some(used) = used {
                let msg = format!("it has {used}, which would no longer work");
                let way_out = format!("give {used} to {}, then attach it", plan.bridge);
                return Err(refuse(&msg)
                    .details(format!("{way_out}: ip link set {name} master {}", plan.bridge)));
            }
        }
    }
    Ok(Some(link))
}

/// Whether it is a route that the kernel gives by itself.
fn is_given(route: &Route) -> bool {
    route.is_link_local() || route.dst.ip().is_multicast()
}

/// Whether it is an address that the kernel gives by itself.
fn is_link_local(address: IpNetwork) -> bool {
    matches!(address, IpNetwork::V6(address) if address.ip().is_unicast_link_local())
}

/// For STATUS.
///
/// # Errors
/// Code 50 for what [`find`] refuses.
pub(crate) fn probe(plan: &Plan) -> Result<()> {
    if plan.uplink.is_none() {
        return Ok(());
    }
    let found = find(&Host::open()?, plan);
    found.map(drop).map_err(Error::unavailable)
}

/// Makes the link a port of the bridge, raised, and in the containers' VLANs. If the ADD fails that has
/// attached it, it is detached again, unless other attachments are there by then.
///
/// # Errors
/// When the kernel refuses.
pub(crate) fn ensure(
    host: &Netlink,
    plan: &Plan,
    uplink: Option<&Link>,
    bridge: &Link,
    undo: &mut Undo,
) -> Result<()> {
    let Some(uplink) = uplink else { return Ok(()) };
    if uplink.master != Some(bridge.index) {
        let (own, master, was_up) = (uplink.index, bridge.index, uplink.is_up);
        undo.push(format!("{} in {}", uplink.name, bridge.name), move || {
            let host = Host::open()?.netlink;
            let ports = host.list_ports(master)?;
            if ports.iter().all(|port| port.index == own) && !ports.is_empty() {
                host.set_master(own, None)?;
                if !was_up {
                    host.set_down(own)?;
                }
            }
            Ok(())
        });
        host.set_master(own, Some(master))?;
    }
    if let Some(vlans) = &plan.vlans {
        vlans.ensure_tagged(host, uplink.index)?;
    }
    if !uplink.is_up {
        host.set_up(uplink.index)?;
    }
    Ok(())
}

/// What keeps it from being what [`ensure`] has made of it.
///
/// # Errors
/// When the kernel cannot be asked.
pub(crate) fn verify(host: &Host, plan: &Plan, bridge: &Link) -> Result<Vec<String>> {
    let Some(name) = &plan.uplink else { return Ok(Vec::new()) };
    let Some(link) = host.netlink.find_link(name.as_str())? else {
        return Ok(vec![format!("uplink {name} not found")]);
    };
    let mut differences = Vec::new();
    if link.master != Some(bridge.index) {
        differences.push(format!("uplink {name} is not a port of {}", bridge.name));
    }
    if !link.is_up {
        differences.push(format!("uplink {name} is down"));
    }
    if let Some(vlans) = &plan.vlans {
        let missing = vlans.list_missing(&host.netlink, link.index)?;
        let text = |vlan: &Vlan| format!("uplink {name} is not in VLAN {}", vlan.vid);
        differences.extend(missing.iter().map(text));
    }
    Ok(differences)
}
