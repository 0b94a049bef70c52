//! The packet filter: ours, and what others do to our packets.

use super::Finding;
use crate::chain::Runtime;
use crate::restore;
use common::net::Family;
use common::net::iptables::has_legacy;
use common::net::nft::{self, Nft};
use common::{Firewall, Result};

/// Whether what the attachments should have is there.
pub(super) fn own(runtime: &Runtime) -> Result<Vec<Finding>> {
    let found = restore::look(runtime)?;
    let mut findings = Vec::new();
    if !found.missing.is_empty() {
        findings.push(Finding::problem(
            format!("{}: somebody has flushed the packet filter", found.missing),
            "cnitool restore, and see conf/systemd for doing so whenever it happens",
        ));
    }
    let unclear = found.missing.taken.iter().chain(&found.unclear);
    findings.extend(unclear.map(|what| {
        Finding::note(what, "DEL that attachment, and add its container anew, if it is alive")
    }));
    Ok(findings)
}

/// Chains of others that drop what no rule of theirs accepts, and rules in two places.
pub(super) fn of_others() -> Result<Vec<Finding>> {
    let refusals = Firewall::open()?.find_refusals()?;
    let mut findings: Vec<_> = refusals
        .into_iter()
        .map(|refusal| {
            let way_out = "the plugin firewall, behind the others in the network's list, marks what \
                           is of pods";
            Finding::note(refusal, way_out)
        })
        .collect();
    let chains = Nft::open()?.list_chains(nft::Family::Ip)?;
    for table in ["filter", "nat"] {
        let is_here = chains.iter().any(|chain| chain.table == table && chain.hook.is_some());
        if is_here && has_legacy(Family::V4, table) {
            findings.push(Finding::problem(
                format!(
                    "iptables has rules in two tables {table}: in nftables, and in the older kind. \
                     Each tool shows its own, and a packet must pass both"
                ),
                "iptables-legacy-save shows the older ones; settle on one kind \
                 (update-alternatives --config iptables) and flush the other",
            ));
        }
    }
    Ok(findings)
}
