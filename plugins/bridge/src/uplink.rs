//! The link of the host that joins the bridge to a wire outside (`uplinkInterface`). It is shared like the
//! bridge itself: attached by the first attachment, and never detached.

use crate::config::Plan;
use common::net::{Link, Netlink};
use common::{Code, Error, Host, Result};
use ipnetwork::IpNetwork;

/// The link, if the network has one.
///
/// # Errors
/// Code 7 when it is missing, another's port, or has addresses: a port has no use for its own, so the
/// host would be cut off from where they lead.
pub(crate) fn find(host: &Host, plan: &Plan) -> Result<Option<Link>> {
    let Some(name) = &plan.uplink else { return Ok(None) };
    let refuse = |reason: &str| Error::config(format!("uplinkInterface {name:?}: {reason}"));
    let Some(link) = host.netlink.find_link(name.as_str())? else {
        return Err(refuse("Link not found").details("it names a link of the host"));
    };
    match link.master {
        Some(master) => {
            let other = host.netlink.read_link(master)?.name;
            if other != plan.bridge.as_str() {
                return Err(refuse(&format!("it is a port of {other:?} already"))
                    .details(format!("ip link set {name} nomaster sets it free")));
            }
        }
        None => {
            let mut addresses = host.netlink.list_addresses(link.index)?.into_iter();
            if let Some(found) = addresses.find(|found| !is_link_local(found.address)) {
                let address = found.address;
                let msg = format!("it has the address {address}, which would no longer be reached");
                let way_out =
                    format!("give {address} and its routes to {}, then attach it", plan.bridge);
                return Err(refuse(&msg)
                    .details(format!("{way_out}: ip link set {name} master {}", plan.bridge)));
            }
        }
    }
    Ok(Some(link))
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
    found.map(drop).map_err(|error| Error::new(Code::Unavailable, error.to_string()))
}

/// Makes the link a port of the bridge, raised, and in the containers' VLANs.
///
/// # Errors
/// When the kernel refuses.
pub(crate) fn ensure(
    host: &Netlink,
    plan: &Plan,
    uplink: Option<&Link>,
    bridge: &Link,
) -> Result<()> {
    let Some(uplink) = uplink else { return Ok(()) };
    if uplink.master != Some(bridge.index) {
        host.set_master(uplink.index, Some(bridge.index))?;
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
    Ok(differences)
}
