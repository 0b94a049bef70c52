//! Leases that nobody will give back.

use crate::finding::Finding;
use crate::leases;
use crate::list::ConfigList;
use common::Result;
use common::cni::Context as _;

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
