//! Chains of others at the hook `forward`: whether a new connection of a pod passes them.
//!
//! Every chain sees a packet, and one that drops it is enough. So STATUS, ADD and `cnitool doctor`
//! find out here what each chain does with a connection's first packet.

mod registers;
mod walk;

use super::iptables::FORWARD;
use super::ruleset::ACCEPTED;
use common::cni::Result;
use common::filter::elements;
use common::net::Family;
use common::net::nft::{FILTER, Hook, KnownChain, Nft, Policy, Table, TableFamily};
use registers::Packet;
use std::fmt::{self, Display};
use std::net::IpAddr;
use walk::{Fate, follow};

/// A pod that begins a connection, as far as it is known.
#[derive(Clone, Debug)]
pub struct Sender {
    /// That of its packets.
    pub family: Family,
    /// Its address.
    pub address: Option<IpAddr>,
    /// The link of the host by which its packets come in.
    pub input: Option<String>,
    /// Whether our own chain marks what it sends, because it is an attachment of `firewall`.
    pub is_marked: bool,
}

impl Sender {
    /// Any pod that is an attachment of `firewall`.
    pub fn anybody(family: Family) -> Self {
        Self { family, address: None, input: None, is_marked: true }
    }

    /// Its first packet, as a chain sees it: our chain, which marks it, runs right before `filter`.
    fn packet(&self, chain: &KnownChain) -> Packet {
        let sees_mark = self.is_marked && chain.priority >= FILTER - 1;
        let mark = if sees_mark { ACCEPTED } else { 0 };
        let (source, input) = (self.address, self.input.clone());
        Packet { family: self.family, source, input, mark: Some(mark) }
    }
}

/// A chain of others that does not let every new connection of a sender through.
#[derive(Clone, Debug)]
pub struct BlockingChain {
    family: TableFamily,
    chain: KnownChain,
    /// Whose connections.
    sender: Sender,
    /// Nothing that the sender could send passes; otherwise that depends on where to.
    pub is_certain: bool,
}

impl BlockingChain {
    fn of(
        nft: &mut Nft,
        family: TableFamily,
        chain: &KnownChain,
        sender: &Sender,
    ) -> Result<Option<Self>> {
        let table = Table { family, name: &chain.table };
        let is_own = table == elements::table(sender.family);
        let sees = family == TableFamily::Inet || family == sender.family.into();
        if chain.hook != Some(Hook::Forward) || is_own || !sees {
            return Ok(None);
        }
        let is_certain = match follow(nft, table, chain, sender.packet(chain))? {
            Fate::Passes => return Ok(None),
            // A chain that accepts by its policy drops what somebody wanted dropped.
            Fate::Depends if chain.policy != Some(Policy::Drop) => return Ok(None),
            Fate::Depends => false,
            Fate::Dropped => true,
        };
        Ok(Some(Self { family, chain: chain.clone(), sender: sender.clone(), is_certain }))
    }

    /// Whether it is the chain of iptables, which takes rules from its own programs only.
    fn is_iptables(&self) -> bool {
        let name = (self.chain.table.as_str(), self.chain.name.as_str());
        name == ("filter", FORWARD) && self.family != TableFamily::Inet
    }

    /// Whether both are one chain that is opened by one command.
    pub fn is_same(&self, other: &Self) -> bool {
        self.sentence() == other.sentence() && self.way_out() == other.way_out()
    }

    /// The sender's address.
    pub fn address(&self) -> Option<IpAddr> {
        self.sender.address
    }

    /// What the chain does, as a sentence.
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

impl Display for BlockingChain {
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
pub(super) fn find(
    nft: &mut Nft,
    senders: &[Sender],
    chains: Chains,
) -> Result<Vec<BlockingChain>> {
    let mut blocking = Vec::new();
    for family in [TableFamily::Ip, TableFamily::Ip6, TableFamily::Inet] {
        let found = match chains {
            Chains::All => nft.list_chains(family)?,
            Chains::Usual => {
                nft.find_chain(Table { family, name: "filter" }, "forward")?.into_iter().collect()
            }
        };
        for chain in &found {
            for sender in senders {
                blocking.extend(BlockingChain::of(nft, family, chain, sender)?);
            }
        }
    }
    // `accept` has the chain of iptables accept those whom we mark.
    blocking.retain(|one| !(one.is_iptables() && one.sender.is_marked));
    Ok(blocking)
}
