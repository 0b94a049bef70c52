//! What all plugins together make of the packet filter, and what it takes them.

use std::thread;

use serde_json::{Value, json};
use testbed::{Testbed, bin_dir};

use crate::{
    differences::case,
    faults::sent,
    pods::{changed, config},
    portmap_owners::census,
};

const NO_IPV6: &str = "net/ipv6/conf/all/disable_ipv6";

/// A chain of plugins that have to do with the packet filter. A bridge has room for 1,023 pods, so
/// many of them need more than one.
struct Node<'bed> {
    bed: &'bed Testbed,
    plugins: [Value; 3],
}

impl<'bed> Node<'bed> {
    fn new(bed: &'bed Testbed, network: usize) -> Self {
        let name = format!("net{network}");
        let ranges = json!([[{"subnet": format!("10.{network}.0.0/20")}]]);
        let keys = json!({
            "name": name, "bridge": format!("br{network}"), "macspoofchk": true,
            "ipam": {"type": "host-local", "ranges": ranges}
        });
        let chained = |keys: Value| changed(keys, &json!({"name": name, "cniVersion": "1.0.0"}));
        let plugins = [
            changed(config(), &keys),
            chained(json!({"type": "portmap"})),
            chained(json!({"type": "firewall", "ingressPolicy": "same-bridge"})),
        ];
        Self { bed, plugins }
    }

    /// Every plugin's ADD, with a port of the host.
    fn add(&self, id: &str, port: usize) {
        let pod = self.bed.sandbox(id);
        // The kernel has room for 1,024 neighbours in all namespaces together, and IPv6 knows some of
        // every link at once: other tests would find no place.
        pod.set_sysctl(NO_IPV6, "1");
        let port = json!({"hostPort": port, "containerPort": 80, "protocol": "tcp"});
        let mut known = json!({"runtimeConfig": {"portMappings": [port]}});
        for plugin in &self.plugins {
            let config = changed(plugin.clone(), &known);
            let call = self.bed.plugin(plugin["type"].as_str().unwrap()).command("ADD");
            let call = call.container(id).ifname("eth0").netns(pod.path()).config(&config);
            known["prevResult"] = call.run().result();
        }
    }

    /// A verb of every plugin: the processes that each was.
    fn processes(&self, verb: &str, netns: &str) -> Vec<usize> {
        let mut known = json!({"runtimeConfig": {"portMappings": [
            {"hostPort": 8080, "containerPort": 80, "protocol": "tcp"}
        ]}});
        let count = |plugin: &Value| {
            let (stdout, processes) =
                traced(self.bed, verb, netns, &changed(plugin.clone(), &known));
            if verb == "ADD" {
                known["prevResult"] = serde_json::from_slice(&stdout).unwrap();
            }
            processes
        };
        self.plugins.iter().map(count).collect()
    }
}

/// A verb of a plugin for c1, under strace: what it said, and how many processes and threads
/// that took.
pub(crate) fn traced(bed: &Testbed, verb: &str, netns: &str, config: &Value) -> (Vec<u8>, usize) {
    let directory = bin_dir().display();
    let script = format!(
        "CNI_COMMAND={verb} CNI_CONTAINERID=c1 CNI_IFNAME=eth0 CNI_PATH={directory} \
         CNI_NETNS={netns} strace -f -o /run/test/trace -e trace=clone,clone3,fork,vfork,execve \
         {directory}/{}",
        config["type"].as_str().unwrap(),
    );
    let ran = bed.feed("sh", &["-c", &script], config.to_string().as_bytes());
    assert!(ran.status.success(), "{ran:?}");
    let trace = bed.read("/run/test/trace");
    let calls: Vec<_> = trace.lines().filter(|line| !line.contains(" resumed>")).collect();
    let of = |what: &str| calls.iter().filter(|line| line.contains(what)).count();
    (ran.stdout, 1 + of("clone3(") + of("clone(") + of("fork("))
}

#[test]
fn two_thousand_attachments_have_the_rules_of_two() {
    case(|bed| {
        const PODS: usize = 2_000;
        // Masquerading, two of the spoof check, three of a port, and the firewall's.
        const ELEMENTS: usize = 7;
        bed.set_sysctl(NO_IPV6, "1");
        let nodes = [1, 2].map(|network| Node::new(bed, network));
        let add = |number: usize| nodes[number % 2].add(&format!("c{number}"), 8000 + number);
        add(0);
        add(1);
        let (rules, elements) = census(bed);
        thread::scope(|scope| {
            for first in 2..4 {
                scope.spawn(move || (first..PODS).step_by(2).for_each(add));
            }
        });
        let (all_rules, all_elements) = census(bed);
        assert_eq!(all_rules, rules);
        assert_eq!(all_elements - elements, (PODS - 2) * ELEMENTS);
    });
}

#[test]
fn no_program_is_started_but_ipam() {
    case(|bed| {
        let (node, pod) = (Node::new(bed, 1), bed.sandbox("pod"));
        for verb in ["ADD", "DEL"] {
            assert_eq!(node.processes(verb, pod.path()), [2, 1, 1], "{verb}");
        }
    });
}

#[test]
fn what_nft_has_loaded_serves_as_what_was_made() {
    case(|bed| {
        let [one, two] = [1, 2].map(|network| Node::new(bed, network));
        one.add("c1", 8001);
        let listed = bed.succeed("nft", &["list", "ruleset"]);
        let file = format!("flush ruleset\n{listed}");
        assert!(bed.feed("nft", &["-f", "-"], file.as_bytes()).status.success(), "{listed}");
        // What is another network's is declared anew, with all that is shared.
        two.add("c2", 8002);
    });
}

/// How often a plugin lists whole sets of the packet filter.
fn lists(messages: &[Vec<u8>], set: &str) -> usize {
    const GET_SET_ELEMENT: u16 = 10 << 8 | 13;
    const DUMP: u16 = 0x300;
    let half = |bytes: &[u8], at| u16::from_ne_bytes([bytes[at], bytes[at + 1]]);
    let is_list = |bytes: &&Vec<u8>| {
        half(bytes, 4) == GET_SET_ELEMENT
            && half(bytes, 6) & DUMP == DUMP
            && bytes.windows(set.len()).any(|window| window == set.as_bytes())
    };
    messages.iter().filter(is_list).count()
}

#[test]
fn del_lists_nothing_that_it_is_told() {
    case(|bed| {
        let pod = bed.sandbox("pod");
        for (masquerade, expected) in
            [(json!(true), 0), (json!("v4"), 0), (json!("v6"), 0), (json!(false), 2)]
        {
            let config = changed(config(), &json!({"ipMasq": masquerade}));
            let result = bed.network(config.clone()).add(&pod, "c1").result();
            let told = changed(config, &json!({"prevResult": result}));
            let messages = sent(bed, "DEL", pod.path(), &told);
            assert_eq!(lists(&messages, "masqueraded"), expected, "{masquerade}");
        }
        let listed = bed.succeed("nft", &["list", "ruleset"]);
        assert!(!listed.contains("pods c1 eth0"), "{listed}");
    });
}
