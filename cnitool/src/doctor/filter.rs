//! The packet filter: ours, and what others do to our packets.

use crate::chain::Runtime;
use crate::finding::Finding;
use crate::list::ConfigList;
use crate::living::Living;
use crate::restore;
use common::Result;
use common::net::Family;
use common::net::iptables::has_legacy;
use common::net::nft::{Nft, TableFamily};
use firewall::policy::{BlockingChain, ForwardingRules, Sender};
use std::collections::BTreeMap;

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

/// What attachments have left that are gone.
pub(super) fn leftovers(
    runtime: &Runtime,
    lists: &[ConfigList],
    living: &Living,
) -> Result<Vec<Finding>> {
    let alive = living.everybody(runtime)?;
    let mut networks = BTreeMap::<String, (usize, Vec<String>)>::new();
    for (owner, elements) in common::filter::restore::leftovers(|owner| alive.contains(owner))? {
        let (sum, owners) = networks.entry(owner.label().to_owned()).or_default();
        *sum += elements;
        owners.push(owner.as_str().to_owned());
    }
    let finding = |(network, (elements, owners)): (String, (usize, Vec<String>))| {
        let (first, count) = (owners.first().cloned().unwrap_or_default(), owners.len());
        let more = if count > 1 { format!(" and {} others", count - 1) } else { String::new() };
        Finding::note(
            format!(
                "network {network:?}: {elements} elements of the packet filter are left of \
                 attachments that are gone: {first}{more}"
            ),
            // What is written beside an element may be an abbreviation.
            match lists.iter().find(|list| list.name.label() == network) {
                Some(list) => format!("cnitool gc {} --gone", list.name),
                None => "there is no configuration of that network: put it back for its GC".into(),
            },
        )
    };
    Ok(networks.into_iter().map(finding).collect())
}

/// Chains of others that drop what pods send, and rules in two places.
pub(super) fn of_others(senders: Vec<Sender>) -> Result<Vec<Finding>> {
    let mut blocking = Vec::<(BlockingChain, Vec<String>)>::new();
    for chain in ForwardingRules::open()?.find_blocking_chains(senders)? {
        let address = chain.address().map(|address| address.to_string());
        match blocking.iter_mut().find(|(other, _)| other.is_same(&chain)) {
            Some((_, addresses)) => addresses.extend(address),
            None => blocking.push((chain, address.into_iter().collect())),
        }
    }
    let mut findings: Vec<_> =
        blocking.iter().map(|(chain, addresses)| of_chain(chain, addresses)).collect();
    let chains = Nft::open()?.list_chains(TableFamily::Ip)?;
    for table in ["filter", "nat"] {
        let is_here = chains.iter().any(|chain| chain.table == table && chain.hook.is_some());
        if is_here && has_legacy(Family::V4, table) {
            findings.push(Finding::problem(
                format!(
                    "iptables has rules in two tables {table}: those of iptables-nft, and those of \
                     iptables-legacy. Each tool shows its own, and a packet must pass both"
                ),
                "iptables-legacy-save shows those of the latter; settle on one of the two \
                 (update-alternatives --config iptables) and flush the other",
            ));
        }
    }
    Ok(findings)
}

fn of_chain(chain: &BlockingChain, addresses: &[String]) -> Finding {
    let whose = match addresses {
        [] => String::new(),
        [one] => format!(" (of {one})"),
        [first, others @ ..] => format!(" (of {first} and {} others)", others.len()),
    };
    let what = format!("{}{whose}", chain.sentence());
    if chain.is_certain {
        return Finding::problem(what, chain.way_out());
    }
    let way_out = chain.way_out();
    Finding::note(
        what,
        format!("intended, if its rules accept what pods need; otherwise {way_out}"),
    )
}
