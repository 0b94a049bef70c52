//! Ports of the host that rules of the Go plugins lead to containers. They are asked before ours.

use super::translation::{Translation, multiport};
use super::{
    DNAT, DNAT_PREFIX, EnteredChain, HOSTPORT, Legacy, list_iptables_legacy, nat, port_chain,
};
use crate::attach::Owner;
use crate::cni::{Errors, Result};
use crate::net::nft::{KnownRule, Table};
use crate::net::{Family, ipproto};
use std::fmt::{self, Display};
use std::net::{IpAddr, SocketAddr};

/// A port of the host that leads to a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LegacyHostPort {
    /// Whose it is.
    pub container: LegacyContainer,
    /// None for all.
    pub protocol: Option<u8>,
    /// The port of the host.
    pub port: u16,
    /// None for every address of the host.
    pub at: Option<IpAddr>,
    /// Where it leads.
    pub pod: IpAddr,
}

/// A container, as far as rules of the Go plugins tell which one it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LegacyContainer {
    /// Its chain of iptables; None if its rules are those of nft(8).
    chain: Option<String>,
    network: Option<String>,
    id: Option<String>,
}

impl LegacyContainer {
    /// Whether its rules have this ID.
    pub fn has_id(&self, id: &str) -> bool {
        self.id.as_deref() == Some(id)
    }

    /// Whether its rules are in this chain of iptables.
    pub fn has_chain(&self, name: &str) -> bool {
        self.chain.as_deref() == Some(name)
    }

    /// Whether it is the container of this attachment.
    pub fn is(&self, owner: &Owner) -> bool {
        match &self.chain {
            Some(chain) => *chain == port_chain(owner),
            None => self.has_id(owner.attachment().container.as_str()),
        }
    }
}

impl Display for LegacyContainer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let chain = self.chain.as_deref().unwrap_or_default();
        match (&self.id, &self.network) {
            (Some(id), Some(network)) => {
                write!(f, "container {id:?} (network {network:?}, by iptables)")
            }
            (Some(id), None) => write!(f, "container {id:?}"),
            _ => write!(f, "the container of chain {chain} of iptables"),
        }
    }
}

impl Legacy {
    /// What leads from these ports of the host to containers of the Go plugins, or to those of ours
    /// whose ports are mapped by iptables.
    ///
    /// # Errors
    /// When the kernel cannot be asked.
    pub fn list_host_ports(
        &mut self,
        family: Family,
        is_wanted: impl Fn(u16) -> bool,
    ) -> Result<Vec<LegacyHostPort>> {
        let (nat, mut found) = (nat(family), self.list_nft_host_ports(family)?);
        if self.nft.find_chain(nat, DNAT)?.is_some() {
            for jump in self.nft.list_rules(nat, DNAT)? {
                let ports = multiport(&jump);
                if !ports.is_empty() && !ports.iter().any(|port| is_wanted(*port)) {
                    continue;
                }
                let Some(container) = container_of(&jump) else { continue };
                let chain = container.chain.as_deref().unwrap_or_default();
                for rule in self.nft.list_rules(nat, chain)? {
                    found.extend(host_port(&container, Translation::of(&rule, family)));
                }
            }
        }
        found.extend(parse_iptables_legacy(&list_iptables_legacy(family)));
        found.retain(|one| is_wanted(one.port));
        Ok(found)
    }

    /// Those of them that nft(8) has made, whose rules do not tell the network.
    ///
    /// # Errors
    /// When the kernel cannot be asked.
    pub fn list_nft_host_ports(&mut self, family: Family) -> Result<Vec<LegacyHostPort>> {
        let (table, mut found) = (Table { family: family.into(), name: HOSTPORT }, Vec::new());
        if self.nft.find_chain(table, "hostports")?.is_some() {
            for rule in self.nft.list_rules(table, "hostports")? {
                let container = LegacyContainer { id: rule.comment(), ..Default::default() };
                found.extend(host_port(&container, Translation::of(&rule, family)));
            }
        }
        Ok(found)
    }

    /// Deletes all that leads to a container.
    pub fn delete_host_ports(&mut self, container: &LegacyContainer, errors: &mut Errors) {
        if let Some(name) = container.chain.clone() {
            self.delete_chains(&[EnteredChain { name, parents: &[DNAT] }], errors);
        } else if let Some(id) = &container.id {
            self.delete_nft_host_ports(id, errors);
        }
    }
}

fn host_port(container: &LegacyContainer, rule: Translation) -> Option<LegacyHostPort> {
    let Translation { protocol, port, destination, to } = rule;
    let container = container.clone();
    Some(LegacyHostPort { container, protocol, port: port?, at: destination, pod: to? })
}

/// Whose chain a rule of [`DNAT`] jumps to.
fn container_of(jump: &KnownRule) -> Option<LegacyContainer> {
    let chain = format!("{DNAT_PREFIX}{}", jump.text_between(DNAT_PREFIX, '\0')?);
    let word = |before| jump.text_between(before, '"').map(str::to_owned);
    Some(LegacyContainer { chain: Some(chain), network: word("dnat name: \""), id: word("id: \"") })
}

/// The ports in what `iptables-legacy-save` prints.
fn parse_iptables_legacy(saved: &[String]) -> Vec<LegacyHostPort> {
    let mut found = Vec::new();
    let of_container = format!("-A {DNAT_PREFIX}");
    for line in saved.iter().filter(|line| line.starts_with(&of_container)) {
        let words: Vec<_> = line.split(' ').collect();
        let after = |word| words.iter().skip_while(|one| **one != word).nth(1).copied();
        let (Some(chain), Some(to)) = (words.get(1), after("--to-destination")) else { continue };
        let jump = saved.iter().find(|line| line.ends_with(&format!("-j {chain}")));
        let word = |before: &str| -> Option<String> {
            Some(jump?.split_once(before)?.1.split('\\').next()?.to_owned())
        };
        let container = LegacyContainer {
            chain: Some((*chain).to_owned()),
            network: word("dnat name: \\\""),
            id: word("id: \\\""),
        };
        let rule = Translation {
            protocol: after("-p").and_then(ipproto::number),
            port: after("--dport").and_then(|port| port.parse().ok()),
            destination: after("-d").and_then(|at| at.split('/').next()?.parse().ok()),
            to: to.parse::<SocketAddr>().ok().map(|to| to.ip()),
        };
        found.extend(host_port(&container, rule));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_iptables_legacy_prints_is_read() {
        let saved = [
            "-A CNI-DN-0a1b -s 10.1.0.0/24 -d 203.0.113.1/32 -p tcp -m tcp --dport 8080 -j CNI-HOSTPORT-SETMARK",
            "-A CNI-DN-0a1b -d 203.0.113.1/32 -p tcp -m tcp --dport 8080 -j DNAT --to-destination 10.1.0.2:80",
            "-A CNI-DN-0a1b -p udp -m udp --dport 53 -j DNAT --to-destination [fd00::2]:53",
            r#"-A CNI-HOSTPORT-DNAT -p tcp -m comment --comment "dnat name: \"pods\" id: \"c1\"" -m multiport --dports 8080 -j CNI-DN-0a1b"#,
        ];
        let found = parse_iptables_legacy(&saved.map(str::to_owned));
        let told: Vec<_> = found.iter().map(|one| (one.protocol, one.port, one.at)).collect();
        assert_eq!(told, [(Some(6), 8080, "203.0.113.1".parse().ok()), (Some(17), 53, None)]);
        assert_eq!(found[1].pod.to_string(), "fd00::2");
        let words = "container \"c1\" (network \"pods\", by iptables)";
        assert_eq!(found[0].container.to_string(), words);
    }
}
