//! Chains of others at `forward`: whether a new connection of a pod passes them.
//!
//! Every chain is asked about a packet, and one that drops it is enough. So STATUS, ADD and
//! `cnitool doctor` ask the same question here: what does each chain do with the first packet?

use super::iptables::FORWARD;
use super::ruleset::ACCEPTED;
use common::cni::Result;
use common::filter::elements::TABLES;
use common::net::Family;
use common::net::nft::{self, FILTER, Fate, Hook, KnownChain, Nft, Packet, Policy, Table};
use std::fmt::{self, Display};
use std::net::IpAddr;

/// A pod that begins a connection, as far as it is known.
#[derive(Clone, Debug)]
pub struct Sender {
    /// Of which kind its packets are.
    pub family: Family,
    /// Its address.
    pub address: Option<IpAddr>,
    /// The link of the host by which its packets come in.
    pub input: Option<String>,
    /// Whether our own chain marks what it sends: that is what the plugin `firewall` is for.
    pub is_marked: bool,
}

impl Sender {
    /// Somebody whom the plugin `firewall` knows, whoever that is.
    pub fn anybody(family: Family) -> Self {
        Self { family, address: None, input: None, is_marked: true }
    }

    /// What a chain at this priority sees of it: ours is asked right before `filter`.
    fn packet(&self, chain: &KnownChain) -> Packet {
        let sees_mark = self.is_marked && chain.priority >= FILTER - 1;
        let mark = if sees_mark { ACCEPTED } else { 0 };
        let (source, input) = (self.address, self.input.clone());
        Packet { family: self.family, source, input, mark: Some(mark) }
    }
}

/// A chain of somebody else's that does not let every new connection through.
#[derive(Clone, Debug)]
pub struct Refusal {
    family: nft::Family,
    chain: KnownChain,
    /// Whose connections.
    sender: Sender,
    /// Nothing that the sender could send passes; otherwise that depends on where to.
    pub is_certain: bool,
}

impl Refusal {
    fn of(
        nft: &mut Nft,
        family: nft::Family,
        chain: &KnownChain,
        sender: &Sender,
    ) -> Result<Option<Self>> {
        let is_own = TABLES.contains(&Table { family, name: &chain.table });
        let sees = family == nft::Family::Inet || family == sender.family.into();
        if chain.hook != Some(Hook::Forward) || is_own || !sees {
            return Ok(None);
        }
        let table = Table { family, name: &chain.table };
        let is_certain = match nft.follow(table, chain, &sender.packet(chain))? {
            Fate::Passes => return Ok(None),
            // With a policy that lets through, a rule that drops something is meant to.
            Fate::Depends if chain.policy != Some(Policy::Drop) => return Ok(None),
            Fate::Depends => false,
            Fate::Dropped => true,
        };
        Ok(Some(Self { family, chain: chain.clone(), sender: sender.clone(), is_certain }))
    }

    /// Whether it is the chain of iptables, which is opened by way of its own programs.
    fn is_iptables(&self) -> bool {
        let name = (self.chain.table.as_str(), self.chain.name.as_str());
        name == ("filter", FORWARD) && self.family != nft::Family::Inet
    }

    /// Whether both are one chain that is opened by one command.
    pub fn is_same(&self, other: &Self) -> bool {
        self.sentence() == other.sentence() && self.way_out() == other.way_out()
    }

    /// Whose connections they are.
    pub fn address(&self) -> Option<IpAddr> {
        self.sender.address
    }

    /// What it does.
    pub fn sentence(&self) -> String {
        let (family, KnownChain { table, name, .. }) = (self.family, &self.chain);
        let what = if self.is_certain {
            "drops what pods send: no new connection of theirs passes it"
        } else {
            "drops what it does not accept"
        };
        format!("chain {name} of table {family} {table} {what}")
    }

    /// The command that opens it, for a shell.
    pub fn way_out(&self) -> String {
        let (family, KnownChain { table, name, priority, .. }) = (self.family, &self.chain);
        let rule = format!("insert rule {family} {table} {name}");
        if self.sender.is_marked && *priority >= FILTER - 1 {
            return format!("nft {rule} meta mark and {ACCEPTED:#x} == {ACCEPTED:#x} accept");
        }
        let Some(input) = &self.sender.input else {
            return format!("nft list chain {family} {table} {name}");
        };
        if self.is_iptables() {
            let tool = if self.sender.family == Family::V4 { "iptables" } else { "ip6tables" };
            return format!(
                "{tool} -I {name} -i {input} -j ACCEPT; {tool} -I {name} -o {input} -m conntrack \
                 --ctstate ESTABLISHED,RELATED -j ACCEPT"
            );
        }
        format!(
            "nft '{rule} iifname \"{input}\" accept; {rule} oifname \"{input}\" ct state \
             established,related accept'"
        )
    }
}

impl Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: let pods through with {}", self.sentence(), self.way_out())
    }
}

/// Which chains are looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Chains {
    /// Those of the usual names: a list of all takes its time where there are thousands.
    Usual,
    All,
}

/// The chains of others that do not let these senders through.
pub(super) fn find(nft: &mut Nft, senders: &[Sender], chains: Chains) -> Result<Vec<Refusal>> {
    let mut refusals = Vec::new();
    for family in [nft::Family::Ip, nft::Family::Ip6, nft::Family::Inet] {
        let found = match chains {
            Chains::All => nft.list_chains(family)?,
            Chains::Usual => {
                nft.find_chain(Table { family, name: "filter" }, "forward")?.into_iter().collect()
            }
        };
        for chain in &found {
            for sender in senders {
                refusals.extend(Refusal::of(nft, family, chain, sender)?);
            }
        }
    }
    // To those whom we mark, `forwarding` opens the chain of iptables.
    refusals.retain(|refusal| !(refusal.is_iptables() && refusal.sender.is_marked));
    Ok(refusals)
}
