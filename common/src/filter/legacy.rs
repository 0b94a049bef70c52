//! What the Go plugins leave in the packet filter for an attachment, so that a node can be upgraded
//! under its pods: chains of iptables, tables of nft(8), chains of a spoof check. What of it is there
//! is asked of the kernel; where there is nothing, a look at a few names tells that.
//!
//! A chain of theirs is of a network and a container, whatever the interface.
//!
//! iptables has two kinds, whose tables do not know each other: those of iptables-nft are tables of
//! nftables, and those of iptables-legacy are shown and changed by its own programs only.

mod host_ports;
mod translation;

pub use host_ports::{LegacyContainer, LegacyHostPort};

use crate::attach::Owner;
use crate::attach::kept::Kept;
use crate::attach::owner::go_hash;
use crate::cni::{Attachment, Error, Errors, NetworkName, Result, report};
use crate::filter::elements::port_key;
use crate::net::nft::{Batch, KnownRule, Nft, Table, TableFamily};
use crate::net::{self, Family, iptables};
use std::cell::OnceCell;

/// Where `bridge` masquerades by nft(8).
const MASQUERADE: Table<'_> = Table { family: TableFamily::Inet, name: "cni_plugins_masquerade" };
const MASQUERADING: &str = "masq_checks";
/// Where `portmap` translates by nft(8), in both families.
const HOSTPORT: &str = "cni_hostport";
/// Where `bridge` checks hardware addresses.
const BRIDGE: Table<'_> = Table { family: TableFamily::Bridge, name: "nat" };
const SPOOF_CHECKS: &str = "PREROUTING";
/// What the chain that checks an interface's hardware address is called before the container's ID.
const SPOOF_CHECK_PREFIX: &str = "cni-br-iface-";
/// The chain of iptables that finds out whose port of the host it is.
pub const DNAT: &str = "CNI-HOSTPORT-DNAT";
/// What the chain that translates for a container is called before its hash.
const DNAT_PREFIX: &str = "CNI-DN-";
/// The same of the chain that masqueraded for it before 0.8.
const SNAT_PREFIX: &str = "CNI-SN-";

/// What the Go plugins have left, found and deleted.
pub struct Legacy {
    nft: Nft,
}

/// A chain of iptables, and where it is entered from.
struct EnteredChain {
    name: String,
    parents: &'static [&'static str],
}

impl Legacy {
    /// # Errors
    /// When there is no room for a socket.
    pub fn open() -> Result<Self> {
        Ok(Self::new(Nft::open()?))
    }

    /// By this socket.
    pub fn new(nft: Nft) -> Self {
        Self { nft }
    }

    /// Deletes what `bridge` has made: masquerading, and the spoof check.
    pub(crate) fn delete_masquerade(&mut self, owner: &Owner, errors: &mut Errors) {
        let Attachment { container, ifname } = owner.attachment();
        self.delete_chains(&[masquerade(owner.network(), container.as_str())], errors);
        let comment = masquerade_comment(owner.network(), owner.attachment());
        errors.note(self.delete_rules(MASQUERADE, MASQUERADING, |rule| {
            rule.comment().is_some_and(|other| other.starts_with(&comment))
        }));
        let chain = format!("{SPOOF_CHECK_PREFIX}{container}-{ifname}");
        let outcome = self.delete_spoof_check(&chain);
        errors.note(outcome);
    }

    /// Deletes what `portmap` has made.
    pub fn delete_ports(&mut self, owner: &Owner, errors: &mut Errors) {
        let container = owner.attachment().container.as_str();
        self.delete_chains(&ports(owner.network(), container), errors);
        self.delete_nft_host_ports(container, errors);
    }

    /// Those of nft(8), whose rules tell the container but not the network.
    fn delete_nft_host_ports(&mut self, container: &str, errors: &mut Errors) {
        for family in Family::ALL {
            let table = Table { family: family.into(), name: HOSTPORT };
            for chain in ["hostports", "hostip_hostports", "masquerading"] {
                let ours = |rule: &KnownRule| rule.comment().as_deref() == Some(container);
                errors.note(self.delete_rules(table, chain, ours));
            }
        }
    }

    /// Deletes what `bridge` has made for attachments that nobody keeps, as far as its rules name
    /// them.
    pub(crate) fn sweep_masquerade(&mut self, kept: &Kept<'_>, errors: &mut Errors) {
        let network = kept.network();
        for container in self.stale(kept, &["POSTROUTING"], errors) {
            self.delete_chains(&[masquerade(network, &container)], errors);
        }
        let of_network = format!("{}-", go_hash(&[network.as_str()], 16));
        let spared = OnceCell::new();
        errors.note(self.delete_rules(MASQUERADE, MASQUERADING, |rule| {
            let comment = rule.comment().filter(|comment| comment.starts_with(&of_network));
            let Some(comment) = comment else { return false };
            // Where it cannot be told who is kept, nothing is deleted.
            let spared = spared.get_or_init(|| kept.list().ok());
            spared.as_ref().is_some_and(|spared| {
                let is_of =
                    |one: &Attachment| comment.starts_with(&masquerade_comment(network, one));
                !spared.iter().any(is_of)
            })
        }));
        let outcome = self.sweep_spoof_checks();
        errors.note(outcome);
    }

    /// Their rules do not tell the network, but the link of the host, which ends with the container.
    fn sweep_spoof_checks(&mut self) -> Result<()> {
        if self.nft.find_chain(BRIDGE, SPOOF_CHECKS)?.is_none() {
            return Ok(());
        }
        // Rules first: an ADD makes its link before its rule, so that a listed rule without a link
        // has lost it. The other way round, an ADD between the two looks would lose its rule.
        let rules = self.nft.list_rules(BRIDGE, SPOOF_CHECKS)?;
        let links = net::Netlink::open()?.list_links()?;
        for rule in rules {
            let comment = rule.comment().unwrap_or_default();
            let lives = links.iter().any(|link| rule.contains(&port_key(&link.name)));
            if let (Some(instance), false) = (comment.strip_prefix("macspoofchk-"), lives) {
                self.delete_spoof_check(&format!("{SPOOF_CHECK_PREFIX}{instance}"))?;
            }
        }
        Ok(())
    }

    /// Deletes what `portmap` has made by iptables for attachments that nobody keeps.
    pub fn sweep_ports(&mut self, kept: &Kept<'_>, errors: &mut Errors) {
        for container in self.stale(kept, &[DNAT], errors) {
            self.delete_chains(&ports(kept.network(), &container), errors);
        }
    }

    /// The containers that rules of these chains name, and that nobody keeps.
    fn stale(&mut self, kept: &Kept<'_>, parents: &[&str], errors: &mut Errors) -> Vec<String> {
        let before = format!("name: \"{}\" id: \"", kept.network());
        let mut named: Vec<String> = Vec::new();
        for family in Family::ALL {
            for parent in parents {
                let rules = self.nft.list_rules(nat(family), parent);
                let rules = errors.note(rules.map_err(Error::from)).unwrap_or_default();
                named.extend(
                    rules
                        .iter()
                        .filter_map(|rule| rule.text_between(&before, '"'))
                        .map(str::to_owned),
                );
            }
            // iptables-legacy-save escapes quotes.
            let before = before.replace('"', "\\\"");
            let of_parent = |line: &String| {
                parents.iter().any(|parent| line.starts_with(&format!("-A {parent} ")))
            };
            let container =
                |line: String| Some(line.split_once(&before)?.1.split('\\').next()?.to_owned());
            named.extend(
                list_iptables_legacy(family).into_iter().filter(of_parent).filter_map(container),
            );
        }
        named.sort();
        named.dedup();
        let Some(spared) = errors.note(kept.list()) else { return Vec::new() };
        named.retain(|id| !spared.iter().any(|other| other.container.as_str() == id));
        named
    }

    fn delete_chains(&mut self, chains: &[EnteredChain], errors: &mut Errors) {
        for family in Family::ALL {
            for chain in chains {
                errors.note(self.delete_chain(nat(family), chain));
            }
            if iptables::has_legacy(family, "nat") {
                match delete_iptables_legacy(family, chains) {
                    // Without the programs, nobody can even list them.
                    Err(error) if error.is_gone() => {
                        report(format_args!("rules of iptables may be left: {error}"));
                    }
                    outcome => drop(errors.note(outcome.map_err(Error::from))),
                }
            }
        }
    }

    /// Deletes a chain of iptables-nft, and the rules that lead to it.
    fn delete_chain(&mut self, table: Table<'_>, chain: &EnteredChain) -> Result<()> {
        // Rules that lead to the chain may come and go between the look and the deletion.
        const ATTEMPTS: usize = 3;
        for attempt in 1.. {
            if self.nft.find_chain(table, &chain.name)?.is_none() {
                break;
            }
            let mut batch = Batch::new();
            for parent in chain.parents {
                for rule in self.nft.list_rules(table, parent)? {
                    if rule.mentions(&chain.name) {
                        batch.delete_rule(table, parent, rule.handle);
                    }
                }
            }
            batch.delete_rules(table, &chain.name).delete_chain(table, &chain.name);
            match self.nft.commit(batch) {
                Err(error) if error.is_gone() && attempt < ATTEMPTS => {}
                outcome => return Ok(outcome?),
            }
        }
        Ok(())
    }

    fn delete_rules(
        &mut self,
        table: Table<'_>,
        chain: &str,
        is_ours: impl Fn(&KnownRule) -> bool,
    ) -> Result<()> {
        // A list of rules that are not there costs more than this look.
        if self.nft.find_chain(table, chain)?.is_none() {
            return Ok(());
        }
        let mut batch = Batch::new();
        for rule in self.nft.list_rules(table, chain)?.iter().filter(|rule| is_ours(rule)) {
            batch.delete_rule(table, chain, rule.handle);
        }
        match self.nft.commit(batch) {
            Err(error) if error.is_gone() => Ok(()),
            outcome => Ok(outcome?),
        }
    }

    fn delete_spoof_check(&mut self, chain: &str) -> Result<()> {
        if self.nft.find_chain(BRIDGE, chain)?.is_none() {
            return Ok(());
        }
        let (mut batch, mac) = (Batch::new(), format!("{chain}-mac"));
        for rule in self.nft.list_rules(BRIDGE, SPOOF_CHECKS)? {
            if rule.mentions(chain) {
                batch.delete_rule(BRIDGE, SPOOF_CHECKS, rule.handle);
            }
        }
        let mut chains = vec![chain];
        if self.nft.find_chain(BRIDGE, &mac)?.is_some() {
            chains.push(&mac);
        }
        for chain in &chains {
            batch.delete_rules(BRIDGE, chain);
        }
        for chain in &chains {
            batch.delete_chain(BRIDGE, chain);
        }
        Ok(self.nft.commit(batch)?)
    }
}

/// Where iptables-nft translates.
fn nat(family: Family) -> Table<'static> {
    Table { family: family.into(), name: "nat" }
}

fn masquerade(network: &NetworkName, container: &str) -> EnteredChain {
    let name = format!("CNI-{}", go_hash(&[network.as_str(), container], 24));
    EnteredChain { name, parents: &["POSTROUTING"] }
}

fn ports(network: &NetworkName, container: &str) -> [EnteredChain; 2] {
    let hash = go_hash(&[network.as_str(), container], 21);
    let chain = |prefix: &str, parents| EnteredChain { name: format!("{prefix}{hash}"), parents };
    [chain(DNAT_PREFIX, &[DNAT][..]), chain(SNAT_PREFIX, &["CNI-HOSTPORT-SNAT", "POSTROUTING"][..])]
}

/// The chain of iptables that masquerades a container's connections.
pub(crate) fn masquerade_chain(owner: &Owner) -> String {
    masquerade(owner.network(), owner.attachment().container.as_str()).name
}

/// The chain of iptables that translates for a container.
pub fn port_chain(owner: &Owner) -> String {
    let [chain, _] = ports(owner.network(), owner.attachment().container.as_str());
    chain.name
}

fn masquerade_comment(network: &NetworkName, attachment: &Attachment) -> String {
    let instance = [attachment.ifname.as_str(), ":", attachment.container.as_str()];
    format!("{}-{}", go_hash(&[network.as_str()], 16), go_hash(&instance, 16))
}

/// The rules of iptables-legacy, if it has a table and its program shows them.
fn list_iptables_legacy(family: Family) -> Vec<String> {
    if !iptables::has_legacy(family, "nat") {
        return Vec::new();
    }
    iptables::save_legacy(family, "nat").unwrap_or_else(|error| {
        report(format_args!("rules of iptables cannot be looked at: {error}"));
        Vec::new()
    })
}

/// Deletes chains of iptables-legacy, and the rules that lead to them.
fn delete_iptables_legacy(family: Family, chains: &[EnteredChain]) -> net::Result<()> {
    let _lock = iptables::lock()?;
    let saved = iptables::save_legacy(family, "nat")?;
    let is_there = |chain: &&EnteredChain| {
        saved.iter().any(|line| line.starts_with(&format!(":{} ", chain.name)))
    };
    let mut script = String::new();
    for chain in chains.iter().filter(is_there) {
        let leads_there = |line: &&String| line.ends_with(&format!("-j {}", chain.name));
        let rules = saved.iter().filter(leads_there);
        for rule in rules.filter_map(|line| line.strip_prefix("-A ")) {
            script.push_str(&format!("-D {rule}\n"));
        }
        script.push_str(&format!("-F {0}\n-X {0}\n", chain.name));
    }
    if script.is_empty() {
        return Ok(());
    }
    iptables::restore_legacy(family, &format!("*nat\n{script}COMMIT\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_the_go_plugins() {
        let network = |name: &str| name.parse::<NetworkName>().unwrap();
        assert_eq!(masquerade(&network("test"), "1234").name, "CNI-2bbe0c48b91a7d1b8a6753a8");
        let attachment =
            Attachment { container: "one".parse().unwrap(), ifname: "eth0".parse().unwrap() };
        assert_eq!(
            masquerade_comment(&network("unit-test"), &attachment),
            "6fd94d501e58f0aa-287fc69eff0574a2"
        );
        assert_eq!(ports(&network("test"), "1234")[0].name.len(), 28);
    }
}
