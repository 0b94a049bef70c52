//! What all plugins together make of the packet filter, and what it takes them.

use std::thread;

use serde_json::{Value, json};
use testbed::{Testbed, bin_dir};

use crate::{
    differences::case,
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
