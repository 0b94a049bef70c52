//! The bridge's addresses of the subnet that the node had before.
//!
//! flanneld gives a node another subnet when its lease has run out, or when the cluster is made anew.
//! The bridge, which nobody deletes, would keep its address: `bridge` refuses to add another one of
//! IPv4, so that the node could start no pod until somebody deletes `cni0`; and the route that comes
//! with the address keeps from this node's pods what the cluster has meanwhile given to another node.

use crate::config::{Object, kind_of};
use crate::subnet_env::SubnetEnv;
use common::cni::{IfName, json, report};
use common::net::AddressOptions;
use common::{Host, Result, Undo};
use ipnetwork::IpNetwork;
use serde_json::Value;

/// Removes addresses of the bridge that are the cluster's and not this node's, and, from the `cni0` that
/// nobody has named and that serves nobody, every other address that `bridge` would refuse to replace.
/// What else has an address there may be another network's, and is left to `bridge` to refuse. They come
/// back if the ADD fails, because pods of the former subnet may still use them.
///
/// # Errors
/// When the kernel refuses.
pub(crate) fn delete_former(config: &Object, subnet: &SubnetEnv, undo: &mut Undo) -> Result<()> {
    let is_told = json::get(config, "forceAddress").is_some();
    if kind_of(config) != "bridge" || is_told {
        return Ok(());
    }
    let given = json::get(config, "bridge").and_then(Value::as_str);
    let name = given.unwrap_or("cni0");
    // A name that no link can have is the delegate's to refuse.
    let Ok(name) = name.parse::<IfName>() else { return Ok(()) };
    let netlink = Host::open()?.netlink;
    let bridge = netlink.find_link(name.as_str())?;
    let bridge = bridge.filter(|link| link.kind.as_deref() == Some("bridge"));
    let Some(bridge) = bridge else { return Ok(()) };
    let found = netlink.list_addresses(bridge.index)?.into_iter().map(|found| found.address);
    let is_own = |address: &IpNetwork| subnet.subnets.iter().any(|own| own.contains(address.ip()));
    let others: Vec<_> = found.filter(|address| !is_own(address)).collect();
    if others.is_empty() {
        return Ok(());
    }
    let is_unused = given.is_none() && netlink.list_ports(bridge.index)?.is_empty();
    for address in others {
        let is_former = subnet.networks.iter().any(|network| network.contains(address.ip()));
        if is_former || is_unused && address.is_ipv4() {
            report(format_args!(
                "{address} of {name} is no address of this node's subnet any more"
            ));
            let index = bridge.index;
            undo.push(format!("{address} of {name}"), move || {
                let options = AddressOptions { nodad: true, noprefixroute: false };
                match Host::open()?.netlink.ensure_address(index, address, &options) {
                    Err(error) if !error.is_gone() => Err(error.into()),
                    _ => Ok(()),
                }
            });
            netlink.delete_address(index, address)?;
        }
    }
    Ok(())
}
