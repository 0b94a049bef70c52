//! The bridge itself: shared by all attachments, made by the first one, never removed.

use crate::config::{Hairpin, Plan};
use crate::uplink;
use common::attach::link::mac_difference;
use common::attach::veth::ignore_router_advertisements;
use common::net::{Link, LinkKind, LinkSpec, Mac, has_given_mac};
use common::{Error, Host, Result, Success};

/// The bridge, if it exists.
///
/// # Errors
/// Code 7 when another kind of link has its name, or when it does not filter VLANs and has to.
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

/// The bridge, raised, and made if [`find`] found none.
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
    if let Some(mask) = plan.group_forwarding
        && host.netlink.read_group_forwarding(link.index)? != mask
    {
        host.netlink.set_group_forwarding(link.index, mask)?;
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

/// Gives the bridge the hardware address that it has, before it gets another port. A bridge that was
/// given none takes that of a port and changes it as ports come and go, while containers still send
/// to the gateway's former address.
fn keep_mac(host: &Host, link: &Link) -> Result<()> {
    if has_given_mac(link) {
        return Ok(());
    }
    // A bridge that has lost its last port has an address of zeros.
    let mac = match link.mac.filter(|mac| mac.0 != [0; 6]) {
        Some(mac) => mac,
        None => Mac::of_host(&link.name)?,
    };
    Ok(host.netlink.set_mac(link.index, mac)?)
}

fn create(host: &Host, plan: &Plan) -> Result<Link> {
    let name = plan.bridge.as_str();
    // An address that is given when the bridge is made stays; one that the kernel chooses changes
    // with the ports.
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
            // A bridge keeps an MTU that was set. Otherwise it takes that of its smallest port, and
            // below 1280 bytes the kernel ends its IPv6. Setting the value that it has already has no
            // effect, so another one is set first.
            host.netlink.set_mtu(link.index, link.mtu.min(65534) + 1)?;
            host.netlink.set_mtu(link.index, link.mtu)?;
            Ok(link)
        }
        // The ADD of another attachment has made it meanwhile.
        Err(error) if error.is_exists() => find(host, plan)?.ok_or_else(|| error.into()),
        Err(error) => Err(Error::from(error).context(format!("failed to create bridge {name:?}"))),
    }
}

/// Every difference between the result of ADD and the bridge.
///
/// # Errors
/// When the kernel cannot be asked.
pub(crate) fn verify(
    host: &Host,
    plan: &Plan,
    bridge: &Link,
    result: &Success,
) -> Result<Vec<String>> {
    let mut differences = uplink::verify(host, plan, bridge)?;
    if let Some(mask) = plan.group_forwarding {
        let found = host.netlink.read_group_forwarding(bridge.index)?;
        if found != mask {
            let of = &bridge.name;
            differences.push(format!("bridge {of} has groupFwdMask {found}, not {mask}"));
        }
    }
    let entry = result.interfaces.iter().find(|entry| entry.name == bridge.name);
    match entry {
        None => differences.push(format!("Interface name {} not found in prevResult", bridge.name)),
        Some(entry) if entry.is_in_sandbox() => {
            differences.push(format!("Interface {} should not be in sandbox", bridge.name));
        }
        // The address of a bridge that only switches is of no use, and it changes if none was given.
        Some(_) if !plan.is_gateway() && !has_given_mac(bridge) => {}
        Some(entry) => differences.extend(mac_difference(bridge, entry.mac.as_deref())),
    }
    if !bridge.is_up {
        differences.push(format!("bridge {} is down", bridge.name));
    }
    // The reverse is no difference: a packet capture makes a bridge promiscuous, too.
    if plan.hairpin == Hairpin::PromiscuousBridge && !bridge.is_promiscuous {
        differences.push(format!("bridge {} is not in promiscuous mode", bridge.name));
    }
    Ok(differences)
}
