//! Ports of the host that rules of the reference lead to its containers. They come before ours.

use super::{DNAT, Entered, HOSTPORT, Legacy, list_legacy, nat};
use crate::attach::Owner;
use crate::cni::{Errors, Result};
use crate::net::nft::{KnownRule, Redirect, Table};
use crate::net::{self, ipproto};
use std::fmt::{self, Display};
use std::net::{IpAddr, SocketAddr};

/// One of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Redirected {
    /// Whose it is.
    pub holder: Holder,
    /// None for all.
    pub protocol: Option<u8>,
    /// The port of the host.
    pub port: u16,
    /// None for every address of the host.
    pub at: Option<IpAddr>,
    /// Where it leads.
    pub pod: IpAddr,
}

/// Whose rules they are, as far as they tell.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Holder {
    /// Of iptables only.
    chain: Option<String>,
    network: Option<String>,
    container: Option<String>,
}

impl Holder {
    /// Whether its rules name this container.
    pub fn is_named(&self, container: &str) -> bool {
        self.container.as_deref() == Some(container)
    }

    /// Whether it is this container.
    pub fn is(&self, owner: &Owner) -> bool {
        match &self.chain {
            Some(chain) => *chain == super::port_chain(owner),
            None => self.is_named(owner.attachment().container.as_str()),
        }
    }
}

impl Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (container, chain) = (&self.container, self.chain.as_deref().unwrap_or_default());
        match (container, &self.network) {
            (Some(container), Some(network)) => {
                write!(f, "container {container:?} (network {network:?}, by iptables)")
            }
            (Some(container), None) => write!(f, "container {container:?}"),
            _ => write!(f, "the container of chain {chain} of iptables"),
        }
    }
}

impl Legacy {
    /// What leads from these ports of the host to containers of the reference, or to such of ours
    /// as are published by iptables.
    ///
    /// # Errors
    /// When the kernel cannot be asked.
    pub fn list_redirects(
        &mut self,
        family: net::Family,
        is_wanted: impl Fn(u16) -> bool,
    ) -> Result<Vec<Redirected>> {
        let (nat, mut found) = (nat(family), self.list_redirects_of_nft(family)?);
        if self.nft.find_chain(nat, DNAT)?.is_some() {
            for way in self.nft.list_rules(nat, DNAT)? {
                let ports = way.ports();
                if !ports.is_empty() && !ports.iter().any(|port| is_wanted(*port)) {
                    continue;
                }
                let Some(holder) = holder(&way) else { continue };
                let chain = holder.chain.as_deref().unwrap_or_default();
                for rule in self.nft.list_rules(nat, chain)? {
                    found.extend(redirected(&holder, rule.redirect()));
                }
            }
        }
        found.extend(of_legacy(&list_legacy(family)));
        found.retain(|one| is_wanted(one.port));
        Ok(found)
    }

    /// Those of them that do not tell their network.
    ///
    /// # Errors
    /// When the kernel cannot be asked.
    pub fn list_redirects_of_nft(&mut self, family: net::Family) -> Result<Vec<Redirected>> {
        let (table, mut found) = (Table { family: family.into(), name: HOSTPORT }, Vec::new());
        if self.nft.find_chain(table, "hostports")?.is_some() {
            for rule in self.nft.list_rules(table, "hostports")? {
                let container = rule.comment().map(str::to_owned);
                let holder = Holder { container, ..Holder::default() };
                found.extend(redirected(&holder, rule.redirect()));
            }
        }
        Ok(found)
    }

    /// Removes all that leads to a container.
    pub fn delete_redirects(&mut self, holder: &Holder, errors: &mut Errors) {
        if let Some(chain) = &holder.chain {
            self.delete_chains(&[Entered { name: chain.clone(), parents: &[DNAT] }], errors);
        } else if let Some(container) = &holder.container {
            self.delete_rules_of(container, errors);
        }
    }
}

fn redirected(holder: &Holder, rule: Redirect) -> Option<Redirected> {
    let Redirect { protocol, port, destination, to } = rule;
    Some(Redirected { holder: holder.clone(), protocol, port: port?, at: destination, pod: to? })
}

/// Whom a rule of [`DNAT`] leads to.
fn holder(way: &KnownRule) -> Option<Holder> {
    let chain = format!("CNI-DN-{}", way.text_between("CNI-DN-", '\0')?);
    let word = |before| way.text_between(before, '"').map(str::to_owned);
    Some(Holder { chain: Some(chain), network: word("dnat name: \""), container: word("id: \"") })
}

/// The same of the text that is all one gets of tables of the older kind.
fn of_legacy(saved: &[String]) -> Vec<Redirected> {
    const CHAIN: &str = "-A CNI-DN-";
    let mut found = Vec::new();
    for line in saved.iter().filter(|line| line.starts_with(CHAIN)) {
        let words: Vec<_> = line.split(' ').collect();
        let after = |word| words.iter().skip_while(|one| **one != word).nth(1).copied();
        let (Some(chain), Some(to)) = (words.get(1), after("--to-destination")) else { continue };
        let entry = saved.iter().find(|line| line.ends_with(&format!("-j {chain}")));
        let word = |before: &str| -> Option<String> {
            Some(entry?.split_once(before)?.1.split('\\').next()?.to_owned())
        };
        let holder = Holder {
            chain: Some((*chain).to_owned()),
            network: word("dnat name: \\\""),
            container: word("id: \\\""),
        };
        let rule = Redirect {
            protocol: after("-p").and_then(ipproto::number),
            port: after("--dport").and_then(|port| port.parse().ok()),
            destination: after("-d").and_then(|at| at.split('/').next()?.parse().ok()),
            to: to.parse::<SocketAddr>().ok().map(|to| to.ip()),
        };
        found.extend(redirected(&holder, rule));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_of_the_older_kind_are_read() {
        let saved = [
            "-A CNI-DN-0a1b -s 10.1.0.0/24 -d 203.0.113.1/32 -p tcp -m tcp --dport 8080 -j CNI-HOSTPORT-SETMARK",
            "-A CNI-DN-0a1b -d 203.0.113.1/32 -p tcp -m tcp --dport 8080 -j DNAT --to-destination 10.1.0.2:80",
            "-A CNI-DN-0a1b -p udp -m udp --dport 53 -j DNAT --to-destination [fd00::2]:53",
            r#"-A CNI-HOSTPORT-DNAT -p tcp -m comment --comment "dnat name: \"pods\" id: \"c1\"" -m multiport --dports 8080 -j CNI-DN-0a1b"#,
        ];
        let found = of_legacy(&saved.map(str::to_owned));
        let told: Vec<_> = found.iter().map(|one| (one.protocol, one.port, one.at)).collect();
        assert_eq!(told, [(Some(6), 8080, "203.0.113.1".parse().ok()), (Some(17), 53, None)]);
        assert_eq!(found[1].pod.to_string(), "fd00::2");
        let words = "container \"c1\" (network \"pods\", by iptables)";
        assert_eq!(found[0].holder.to_string(), words);
    }
}
