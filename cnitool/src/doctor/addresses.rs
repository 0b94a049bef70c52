//! Leases that nobody will give back, and such that nobody renews.

use crate::chain::Runtime;
use crate::finding::Finding;
use crate::leases;
use crate::list::ConfigList;
use crate::living::Living;
use crate::request;
use common::Result;
use common::cni::{Context as _, Network};

/// The leases of a network, if host-local has them.
pub(super) fn of(list: &ConfigList) -> Result<Vec<Finding>> {
    let Some(leased) = leases::of_list(list)? else { return Ok(Vec::new()) };
    let name = list.name.as_str();
    let stats = leases::stats(&leased).context(format_args!("network {name:?}"))?;
    let leaking = stats.iter().filter(|set| set.leaked > 0);
    let mut findings: Vec<_> = leaking
        .map(|set| {
            let (leaked, used, number) = (set.leaked, set.used, set.range_set);
            Finding::note(
                format!(
                    "network {name:?}, range set {number}: {leaked} of {used} addresses in use \
                     look leaked"
                ),
                format!("cnitool leases {name}; cnitool leases repair {name} --dry-run"),
            )
        })
        .collect();
    findings.extend(stats.iter().filter(|set| set.used == set.size).map(|set| {
        let (size, number) = (set.size, set.range_set);
        Finding::problem(
            format!("network {name:?}, range set {number}: all {size} addresses are in use"),
            "add a range, or end what looks leaked: cnitool leases --stats",
        )
    }));
    Ok(findings)
}

/// The daemon of a network, if it is dhcp that leases its addresses, and whose lease it has lost.
pub(super) fn of_daemon(
    runtime: &Runtime,
    list: &ConfigList,
    living: &Living,
) -> Result<Vec<Finding>> {
    let is_dhcp = |kind: &serde_json::Value| kind == "dhcp";
    let mut plugins = list.plugins.iter();
    let Some(plugin) = plugins.find(|plugin| plugin.ipam_kind().is_some_and(is_dhcp)) else {
        return Ok(Vec::new());
    };
    let name = list.name.as_str();
    let network = Network::parse(request::of_network(list, plugin).to_string().into_bytes())?;
    if let Err(error) = dhcp::verify_daemon(&network) {
        return Ok(vec![Finding::problem(
            format!("network {name:?}: no lease is made or renewed: {error}"),
            "systemctl start cni-dhcp.socket, or whatever starts `dhcp daemon` here",
        )]);
    }
    let mut findings = Vec::new();
    for cached in runtime.cache.list(&list.name)?.into_iter().filter(|cached| living.has(cached)) {
        let attachment = &cached.target.attachment;
        if !dhcp::is_leased(&network, attachment)? {
            let (container, ifname) = (&attachment.container, &attachment.ifname);
            findings.push(Finding::problem(
                format!(
                    "network {name:?}: the DHCP daemon keeps no lease for {ifname} of {container}"
                ),
                "add the container anew, unless the daemon is asking for a lease (see its log)",
            ));
        }
    }
    Ok(findings)
}
