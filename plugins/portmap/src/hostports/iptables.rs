//! The same by iptables, for those who ask for it by name: chains, rules, order and comments of the
//! reference plugin, so that either removes what the other has made.

use super::conflicts::Ports;
use super::{At, HostPorts, Mapping, PortMappings, Sources, ranges};
use common::Undo;
use common::attach::Owner;
use common::cni::{Cidr, Errors, Result};
use common::filter::legacy::{DNAT, Legacy, port_chain};
use common::net::iptables::{Rule, comment, ensure_with, missing, save};
use common::net::{Family, ipproto};

const TABLE: &str = "nat";
const SETMARK: &str = "CNI-HOSTPORT-SETMARK";
const MASQ: &str = "CNI-HOSTPORT-MASQ";

/// As many ports as the match `multiport` takes.
const PORTS: usize = 15;

/// What only iptables is told.
#[derive(Clone, Debug, Default)]
pub(crate) struct Options {
    /// How connections are marked that are masqueraded.
    pub(crate) mark: Mark,
    /// More words for the rule that leads to the container's chain, over IPv4 and over IPv6.
    pub(crate) conditions: [Vec<String>; 2],
}

/// How connections are marked that are masqueraded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Mark {
    /// By this bit of the packet's mark; we masquerade them.
    Bit(u8),
    /// By a chain of somebody else's, who masquerades them.
    Chain(String),
}

impl Default for Mark {
    fn default() -> Self {
        Self::Bit(13)
    }
}

/// A container's part of the table.
struct Part<'a> {
    ports: &'a PortMappings,
    options: &'a Options,
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
        options: &Options,
        owner: &Owner,
        undo: &mut Undo,
    ) -> Result<()> {
        self.clear_conflicting_dnat(ports, owner)?;
        let ruleset = Ports::new(ports, owner, &self.host.netlink);
        self.elements.displace(&ports.elements(), owner, &ruleset)?;
        let own = owner.clone();
        undo.push("host ports of iptables", move || {
            let mut legacy = Legacy::open()?;
            Errors::collect(|errors| legacy.delete_ports(&own, errors))
        });
        for part in parts(ports, options, owner) {
            let (chains, rules) = part.shared();
            let chains: Vec<_> = chains.iter().map(String::as_str).collect();
            ensure_with(part.family(), TABLE, (&chains, &rules), &part.script())?;
        }
        self.open_ways(ports)
    }

    /// Every rule that is not as it should be.
    ///
    /// # Errors
    /// When the programs are missing, or refuse.
    pub(crate) fn verify_by_iptables(
        &self,
        ports: &PortMappings,
        options: &Options,
        owner: &Owner,
    ) -> Result<Vec<String>> {
        let mut differences = Vec::new();
        for part in parts(ports, options, owner) {
            let saved = save(part.family(), TABLE)?;
            let (_, rules) = part.shared();
            let gone = missing(&saved, &rules);
            differences.extend(gone.iter().map(|rule| format!("{TABLE} has no {}", rule.saved())));
            let count = |begins: &str, ends: &str| {
                let is_it = |line: &&String| line.starts_with(begins) && line.ends_with(ends);
                saved.iter().filter(is_it).count()
            };
            let own = count(&format!("-A {} ", part.chain), "");
            let ways = count(&format!("-A {DNAT} "), &format!(" -j {}", part.chain));
            if own < part.body().len() || ways < part.ways().len() {
                let chain = &part.chain;
                differences
                    .push(format!("chain {chain} of iptables lacks rules, or the way to it"));
            }
        }
        differences.extend(self.localhost_difference(ports)?);
        Ok(differences)
    }
}

fn parts<'a>(ports: &'a PortMappings, options: &'a Options, owner: &Owner) -> Vec<Part<'a>> {
    let (network, container) = (owner.network(), &owner.attachment().container);
    let mut comment = format!("dnat name: \\\"{network}\\\" id: \\\"{container}\\\"");
    // The kernel takes 255 bytes, of which the four escapes here are none.
    if comment.len() > 255 + 4 {
        comment.truncate(253 + 4);
        comment.push_str("...");
    }
    let part = |pod: &Cidr| Part {
        ports,
        options,
        pod: *pod,
        chain: port_chain(owner),
        comment: comment.clone(),
    };
    let has_ports = |pod: &&Cidr| !ranges(&ports.mappings, pod.is_ipv6()).is_empty();
    ports.addresses.iter().filter(has_ports).map(part).collect()
}

impl Part<'_> {
    fn family(&self) -> Family {
        Family::of(self.pod.ip())
    }

    fn marks(&self) -> bool {
        self.ports.masquerade != Sources::None
    }

    /// What all containers share: chains, and rules.
    fn shared(&self) -> (Vec<String>, Vec<Rule>) {
        let local = "-m addrtype --dst-type LOCAL";
        let ways =
            ["PREROUTING", "OUTPUT"].map(|chain| Rule::last(chain, format!("{local} -j {DNAT}")));
        let (mut chains, mut rules) = (vec![DNAT.to_owned()], ways.to_vec());
        if let (true, Mark::Bit(bit)) = (self.marks(), &self.options.mark) {
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

    /// The container's chain, emptied and filled, and the ways to it.
    fn script(&self) -> String {
        let chain = &self.chain;
        let lines = self.ways().into_iter().chain(self.body());
        format!(":{chain} - [0:0]\n{}", lines.map(|line| line + "\n").collect::<String>())
    }

    /// A rule for each protocol and fifteen ports.
    fn ways(&self) -> Vec<String> {
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
        let conditions: String = self.options.conditions[usize::from(self.pod.is_ipv6())]
            .iter()
            .map(|word| format!(" {word}"))
            .collect();
        let (comment, chain) = (comment(&self.comment), &self.chain);
        let way = |protocol: &str, ports: &[String]| {
            let ports = ports.join(",");
            format!(
                "-A {DNAT} -p {protocol} {comment} -m multiport --dports {ports}{conditions} -j {chain}"
            )
        };
        let of_protocol = |(protocol, ports): &(&str, Vec<String>)| -> Vec<String> {
            ports.chunks(PORTS).map(|ports| way(protocol, ports)).collect()
        };
        by_protocol.iter().flat_map(of_protocol).collect()
    }

    fn body(&self) -> Vec<String> {
        let is_ipv6 = self.pod.is_ipv6();
        let of_family = |mapping: &&Mapping| mapping.at.has_family(is_ipv6);
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
        let mark = match &self.options.mark {
            Mark::Bit(_) => SETMARK,
            Mark::Chain(chain) => chain,
        };
        let marked = |source: &str| format!("-A {chain} -s {source}{asked} -j {mark}");
        let mut lines = Vec::new();
        match self.ports.masquerade {
            Sources::None => {}
            Sources::All if self.pod.is_ipv6() => lines.push(marked("::/0")),
            Sources::All => lines.push(marked("0.0.0.0/0")),
            Sources::Needed => {
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

    #[test]
    fn rules_are_those_of_the_reference() {
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
            masquerade: Sources::Needed,
            conditions: Default::default(),
        };
        let options = Options::default();
        let (network, container) = ("test".parse().unwrap(), "1234".parse().unwrap());
        let attachment = common::Attachment { container, ifname: "eth0".parse().unwrap() };
        let parts = parts(&ports, &options, &attachment.owner(&network));
        let (ways, body) = (parts[0].ways(), parts[0].body());
        assert_eq!((ways.len(), body.len()), (3, 3 * 17));
        assert!(ways[1].contains("--dports 8015 -j CNI-DN-"), "{ways:?}");
        let chain = &parts[0].chain;
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
