//! Host ports by iptables, for those who ask for it, and where nftables cannot: chains, rules, order and comments are
//! those of the Go plugin, so that each of the two deletes what the other has made.

use super::conflicts::HostPortRuleset;
use super::{At, HostPorts, Mapping, PortMappings, SourceNat, ranges};
use crate::per_family::PerFamily;
use common::Undo;
use common::attach::Owner;
use common::cni::{Cidr, Result};
use common::filter::legacy::{DNAT, port_chain};
use common::net::iptables::{LockedTable, Rule, comment, missing, save};
use common::net::{Family, ipproto};

const TABLE: &str = "nat";
const SETMARK: &str = "CNI-HOSTPORT-SETMARK";
const MASQ: &str = "CNI-HOSTPORT-MASQ";

/// As many ports as the match `multiport` takes.
const PORTS: usize = 15;

/// What only iptables is told.
#[derive(Clone, Debug, Default)]
pub(crate) struct IptablesOptions {
    /// How connections are marked that are masqueraded.
    pub(crate) mark: MasqueradeMark,
    /// More words for the rule that leads to the container's chain.
    pub(crate) conditions: PerFamily<Vec<String>>,
}

/// How connections are marked that are masqueraded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum MasqueradeMark {
    /// By this bit of the packet's mark, with a rule that masquerades what has it.
    Bit(u8),
    /// By a chain whose owner masquerades what it marks, as kube-proxy's `KUBE-MARK-MASQ`.
    Chain(String),
}

impl Default for MasqueradeMark {
    fn default() -> Self {
        Self::Bit(13)
    }
}

/// What an attachment has in the table of one family.
struct ContainerRules<'a> {
    ports: &'a PortMappings,
    pod: Cidr,
    chain: String,
    comment: String,
}

impl HostPorts {
    /// Makes the ports lead to the attachment by iptables: one program to look, and one to make
    /// it, for each family.
    ///
    /// # Errors
    /// When the programs are missing, or refuse.
    pub(crate) fn create_by_iptables(
        &mut self,
        ports: &PortMappings,
        owner: &Owner,
        undo: &mut Undo,
    ) -> Result<()> {
        let chain = port_chain(owner);
        let is_repeated = self.clear_conflicting_dnat(ports, owner, Some(&chain))?;
        let ruleset = HostPortRuleset::new(ports, owner, &self.host.netlink);
        self.elements.delete_conflicting(&ports.elements(), owner, &ruleset)?;
        for rules in container_rules(ports, owner) {
            let (shared_chains, shared) = rules.shared();
            let chains: Vec<_> = shared_chains.iter().map(String::as_str).collect();
            let table = LockedTable::open(rules.family(), TABLE)?;
            // The chain may serve another interface of the container, or an earlier ADD of this one.
            let earlier = table.remember(&chain);
            let replaced = if is_repeated { earlier.without_jumps() } else { String::new() };
            undo.push(format!("chain {chain} of iptables"), move || Ok(earlier.roll_back()?));
            table.ensure(&chains, &shared, &(replaced + &rules.script()))?;
        }
        self.complete(ports)
    }

    /// Every rule that is not as it should be.
    ///
    /// # Errors
    /// When the programs are missing, or refuse.
    pub(crate) fn verify_by_iptables(
        &self,
        ports: &PortMappings,
        owner: &Owner,
    ) -> Result<Vec<String>> {
        let mut differences = Vec::new();
        for rules in container_rules(ports, owner) {
            let saved = save(rules.family(), TABLE)?;
            let (_, shared) = rules.shared();
            let gone = missing(&saved, &shared);
            differences.extend(gone.iter().map(|rule| format!("{TABLE} has no {}", rule.saved())));
            let count = |begins: &str, ends: &str| {
                let is_it = |line: &&String| line.starts_with(begins) && line.ends_with(ends);
                saved.iter().filter(is_it).count()
            };
            let chain = &rules.chain;
            let own = count(&format!("-A {chain} "), "");
            let jumps = count(&format!("-A {DNAT} "), &format!(" -j {chain}"));
            if own < rules.body().len() || jumps < rules.jumps().len() {
                differences
                    .push(format!("chain {chain} of iptables lacks rules, or the way to it"));
            }
        }
        differences.extend(self.localhost_difference(ports)?);
        Ok(differences)
    }
}

/// One for each family that has ports.
fn container_rules<'a>(ports: &'a PortMappings, owner: &Owner) -> Vec<ContainerRules<'a>> {
    let (network, container) = (owner.network(), &owner.attachment().container);
    let mut comment = format!("dnat name: \\\"{network}\\\" id: \\\"{container}\\\"");
    // The kernel takes 255 bytes, of which the four escapes here are none.
    if comment.len() > 255 + 4 {
        comment.truncate(253 + 4);
        comment.push_str("...");
    }
    let of_pod = |pod: &Cidr| ContainerRules {
        ports,
        pod: *pod,
        chain: port_chain(owner),
        comment: comment.clone(),
    };
    let has_ports = |pod: &&Cidr| !ranges(&ports.mappings, Family::of(pod.ip())).is_empty();
    ports.addresses.iter().filter(has_ports).map(of_pod).collect()
}

impl ContainerRules<'_> {
    fn family(&self) -> Family {
        Family::of(self.pod.ip())
    }

    fn marks(&self) -> bool {
        self.ports.source_nat != SourceNat::None
    }

    /// What all containers share: chains, and rules.
    fn shared(&self) -> (Vec<String>, Vec<Rule>) {
        let local = "-m addrtype --dst-type LOCAL";
        let jumps =
            ["PREROUTING", "OUTPUT"].map(|chain| Rule::last(chain, format!("{local} -j {DNAT}")));
        let (mut chains, mut rules) = (vec![DNAT.to_owned()], jumps.to_vec());
        if let (true, MasqueradeMark::Bit(bit)) = (self.marks(), &self.ports.iptables.mark) {
            let mark = format!("{0:#x}/{0:#x}", 1_u32 << bit);
            let (set, asks) = (
                comment("CNI portfwd masquerade mark"),
                comment("CNI portfwd requiring masquerade"),
            );
            chains.extend([SETMARK, MASQ].map(str::to_owned));
            rules.extend([
                Rule::last(SETMARK, format!("{set} -j MARK --set-xmark {mark}")),
                Rule::last(MASQ, format!("-m mark --mark {mark} -j MASQUERADE")),
                Rule::first("POSTROUTING", format!("{asks} -j {MASQ}")),
            ]);
        }
        (chains, rules)
    }

    /// The container's chain, emptied and filled, and the rules that jump to it.
    fn script(&self) -> String {
        let chain = &self.chain;
        let lines = self.jumps().into_iter().chain(self.body());
        format!(":{chain} - [0:0]\n{}", lines.map(|line| line + "\n").collect::<String>())
    }

    /// A rule for each protocol and fifteen ports.
    fn jumps(&self) -> Vec<String> {
        let mut by_protocol: Vec<(&str, Vec<String>)> = Vec::new();
        let mut mappings: Vec<_> = self.ports.mappings.iter().collect();
        mappings.sort_by_key(|mapping| ipproto::name(mapping.protocol));
        for mapping in mappings {
            let (protocol, port) = (ipproto::name(mapping.protocol), mapping.host_port.to_string());
            match by_protocol.last_mut() {
                Some((last, ports)) if *last == protocol => ports.push(port),
                _ => by_protocol.push((protocol, vec![port])),
            }
        }
        let conditions = self.ports.iptables.conditions.of(self.family()).iter();
        let conditions: String = conditions.map(|word| format!(" {word}")).collect();
        let (comment, chain) = (comment(&self.comment), &self.chain);
        let jump = |protocol: &str, ports: &[String]| {
            let ports = ports.join(",");
            format!(
                "-A {DNAT} -p {protocol} {comment} -m multiport --dports {ports}{conditions} -j {chain}"
            )
        };
        let of_protocol = |(protocol, ports): &(&str, Vec<String>)| -> Vec<String> {
            ports.chunks(PORTS).map(|ports| jump(protocol, ports)).collect()
        };
        by_protocol.iter().flat_map(of_protocol).collect()
    }

    fn body(&self) -> Vec<String> {
        let of_family = |mapping: &&Mapping| mapping.at.has_family(self.family());
        let all = self.ports.mappings.iter().filter(of_family);
        all.flat_map(|mapping| self.of_mapping(mapping)).collect()
    }

    fn of_mapping(&self, mapping: &Mapping) -> Vec<String> {
        let (chain, protocol) = (&self.chain, ipproto::name(mapping.protocol));
        let at = match mapping.at {
            At::Address(address) => format!(" -d {address}"),
            _ => String::new(),
        };
        let asked = format!("{at} -p {protocol} -m {protocol} --dport {}", mapping.host_port);
        let mark = match &self.ports.iptables.mark {
            MasqueradeMark::Bit(_) => SETMARK,
            MasqueradeMark::Chain(chain) => chain,
        };
        let marked = |source: &str| format!("-A {chain} -s {source}{asked} -j {mark}");
        let mut lines = Vec::new();
        match self.ports.source_nat {
            SourceNat::None => {}
            SourceNat::All => lines.push(marked(&Cidr::default_of(self.pod.ip()).to_string())),
            SourceNat::Needed => {
                lines.push(marked(&self.pod.to_string()));
                lines.extend((!self.pod.is_ipv6()).then(|| marked("127.0.0.1")));
            }
        }
        let (pod, port) = (self.pod.ip(), mapping.container_port);
        let to = if pod.is_ipv6() { format!("[{pod}]:{port}") } else { format!("{pod}:{port}") };
        lines.push(format!("-A {chain}{asked} -j DNAT --to-destination {to}"));
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use common::filter::Backend;

    #[test]
    fn rules_are_those_of_the_go_plugin() {
        let mapping = |host_port, protocol| Mapping {
            at: At::Anywhere,
            protocol,
            host_port,
            container_port: 80,
        };
        let mut mappings: Vec<_> = (8000..8016).map(|port| mapping(port, ipproto::TCP)).collect();
        mappings.push(mapping(53, ipproto::UDP));
        let ports = PortMappings {
            addresses: vec!["10.1.0.2/24".parse().unwrap()],
            mappings,
            source_nat: SourceNat::Needed,
            conditions: Default::default(),
            backend: Backend::Iptables,
            iptables: Default::default(),
        };
        let (network, container) = ("test".parse().unwrap(), "1234".parse().unwrap());
        let attachment = common::Attachment { container, ifname: "eth0".parse().unwrap() };
        let rules = container_rules(&ports, &attachment.owner(&network));
        let (jumps, body) = (rules[0].jumps(), rules[0].body());
        assert_eq!((jumps.len(), body.len()), (3, 3 * 17));
        assert!(jumps[1].contains("--dports 8015 -j CNI-DN-"), "{jumps:?}");
        let chain = &rules[0].chain;
        assert_eq!(
            body[..3],
            [
                format!("-A {chain} -s 10.1.0.2/24 -p tcp -m tcp --dport 8000 -j {SETMARK}"),
                format!("-A {chain} -s 127.0.0.1 -p tcp -m tcp --dport 8000 -j {SETMARK}"),
                format!(
                    "-A {chain} -p tcp -m tcp --dport 8000 -j DNAT --to-destination 10.1.0.2:80"
                ),
            ]
        );
    }
}
