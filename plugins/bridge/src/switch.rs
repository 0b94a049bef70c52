//! The bridge itself: shared by all attachments, made by the first, never removed.

use crate::config::{Hairpin, Plan};
use common::attach::link::mac_difference;
use common::attach::veth::ignore_router_advertisements;
use common::net::{Link, LinkKind, LinkSpec, Mac, has_given_mac};
use common::{Error, Host, Result, Success};

/// The bridge, if it is there.
///
/// # Errors
/// Code 7 when its name belongs to something else, or when it cannot keep VLANs apart.
pub(crate) fn find(host: &Host, plan: &Plan) -> Result<Option<Link>> {
    let name = plan.bridge.as_str();
    let refuse =
        |reason: &str| Error::config(format!("failed to create bridge {name:?}: {reason}"));
    let Some(link) = host.netlink.find_link(name)? else { return Ok(None) };
    if link.kind.as_deref() != Some("bridge") {
        return Err(refuse(&format!("{name:?} already exists but is not a bridge"))
            .details("give the network another \"bridge\", or remove that link"));
    }
    if plan.vlans.is_some() && !host.netlink.read_vlan_filtering(link.index)? {
        return Err(refuse("it exists and does not filter VLANs, so they would not be kept apart")
            .details(format!("ip link set {name} type bridge vlan_filtering 1 makes it do so")));
    }
    Ok(Some(link))
}

/// The bridge, up, made if [`find`] found none.
///
/// # Errors
/// When the kernel refuses.
pub(crate) fn ensure(host: &Host, plan: &Plan, found: Option<Link>) -> Result<Link> {
    let link = match found {
        Some(link) => {
            if plan.is_gateway() {
                keep_mac(host, &link)?;
            }
            link
        }
        None => create(host, plan)?,
    };
    if let Some(mtu) = plan.mtu.filter(|mtu| *mtu > link.mtu) {
        host.netlink.set_mtu(link.index, mtu)?;
    }
    if plan.hairpin == Hairpin::PromiscuousBridge {
        host.netlink.set_promiscuous(link.index, true)?;
    }
    if !link.is_up {
        ignore_router_advertisements(&link.name);
        host.netlink.set_up(link.index)?;
    }
    Ok(link)
}

/// A bridge that was given no address of its own has the one of a port, or none, and another one as
/// ports come and go: containers would look for their gateway where it is no more. So the address
/// that it has is given to it, before our port comes.
fn keep_mac(host: &Host, link: &Link) -> Result<()> {
    if has_given_mac(link) {
        return Ok(());
    }
    // Zeros are what its last port has left it with.
    let mac = match link.mac.filter(|mac| mac.0 != [0; 6]) {
        Some(mac) => mac,
        None => Mac::of_host(&link.name)?,
    };
    Ok(host.netlink.set_mac(link.index, mac)?)
}

fn create(host: &Host, plan: &Plan) -> Result<Link> {
    let name = plan.bridge.as_str();
    // An address that is given at birth stays; the kernel's own choice changes with the ports.
    let spec = LinkSpec {
        name,
        mac: Some(Mac::of_host(name)?),
        mtu: plan.mtu,
        master: None,
        group: 0,
        kind: LinkKind::Bridge { vlan_filtering: plan.vlans.is_some() },
    };
    match host.netlink.create_link(&spec) {
        Ok(link) => {
            // Told, and not just left, to have this size, it keeps it: else one small port, and the
            // kernel ends the bridge's IPv6. Being told what is the case already does not count.
            host.netlink.set_mtu(link.index, link.mtu.min(65534) + 1)?;
            host.netlink.set_mtu(link.index, link.mtu)?;
            Ok(link)
        }
        // Another attachment was quicker.
        Err(error) if error.is_exists() => find(host, plan)?.ok_or_else(|| error.into()),
        Err(error) => Err(Error::from(error).context(format!("failed to create bridge {name:?}"))),
    }
}

/// Every difference between the result of ADD and the bridge.
pub(crate) fn verify(plan: &Plan, bridge: &Link, result: &Success) -> Vec<String> {
    let mut differences = Vec::new();
    let entry = result.interfaces.iter().find(|entry| entry.name == bridge.name);
    match entry {
        None => differences.push(format!("Interface name {} not found in prevResult", bridge.name)),
        Some(entry) if entry.is_in_sandbox() => {
            differences.push(format!("Interface {} should not be in sandbox", bridge.name));
        }
        // Nobody asks for the address of a switch, and one that was given none changes it.
        Some(_) if !plan.is_gateway() && !has_given_mac(bridge) => {}
        Some(entry) => differences.extend(mac_difference(bridge, entry.mac.as_deref())),
    }
    if !bridge.is_up {
        differences.push(format!("bridge {} is down", bridge.name));
    }
    // Only what is missing: a packet capture makes a bridge promiscuous, too.
    if plan.hairpin == Hairpin::PromiscuousBridge && !bridge.is_promiscuous {
        differences.push(format!("bridge {} is not in promiscuous mode", bridge.name));
    }
    differences
}
