//! What all plugins together make of the packet filter, and what it takes them.

mod gc;

use std::thread;

use serde_json::{Value, json};
use testbed::{
    SYSTEM_PATH, Testbed,
    chain::{Chain, with_result},
    config::{self, changed, mapping},
    ruleset::census,
};

use crate::differences::case;

const NO_IPV6: &str = "net/ipv6/conf/all/disable_ipv6";

/// A chain of all plugins that have to do with the packet filter, with a port of the host. A bridge
/// has room for 1,023 pods, so many of them need more than one.
fn chain(bed: &Testbed, network: u16, port: u16) -> Chain<'_> {
    let name = format!("net{network}");
    let ranges = json!([[{"subnet": format!("10.{network}.0.0/20")}]]);
    let keys = json!({
        "name": name, "bridge": format!("br{network}"), "macspoofchk": true,
        "ipam": {"type": "host-local", "ranges": ranges}
    });
    let ports = json!({"portMappings": [mapping(port, 80, "tcp")]});
    let chained = |keys: Value| changed(keys, &json!({"name": name, "cniVersion": "1.0.0"}));
    let plugins = [
        config::pods_with(&keys),
        chained(json!({"type": "portmap", "runtimeConfig": ports})),
        chained(json!({"type": "firewall", "ingressPolicy": "same-bridge"})),
    ];
    Chain::new(bed, plugins)
}

/// Every plugin's ADD for a new pod.
fn add(bed: &Testbed, network: u16, id: &str, port: u16) {
    let pod = bed.sandbox(id);
    // The kernel has room for 1,024 neighbours in all namespaces together, and IPv6 knows some of
    // every link at once: other tests would find no place.
    pod.set_sysctl(NO_IPV6, "1");
    chain(bed, network, port).add(&pod, id);
}

#[test]
fn two_thousand_attachments_have_the_rules_of_two() {
    case(|bed| {
        const PODS: u16 = 2_000;
        // Masquerading, two of the spoof check, three of a port, and the firewall's.
        const ELEMENTS: usize = 7;
        bed.set_sysctl(NO_IPV6, "1");
        let add = |number: u16| add(bed, 1 + number % 2, &format!("c{number}"), 8000 + number);
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
        assert_eq!(all_elements - elements, usize::from(PODS - 2) * ELEMENTS);
    });
}

#[test]
fn no_program_is_started_but_ipam() {
    case(|bed| {
        let (chain, pod) = (chain(bed, 1, 8080), bed.sandbox("pod"));
        for verb in ["ADD", "DEL"] {
            let mut result = Value::Null;
            let count = |plugin: &Value| {
                let call = bed.call(verb, "c1", &with_result(plugin, &result)).netns(pod.path());
                let (outcome, processes) = bed.processes(call.env("PATH", SYSTEM_PATH));
                if verb == "ADD" {
                    result = outcome.result();
                }
                processes
            };
            let processes: Vec<_> = chain.plugins.iter().map(count).collect();
            assert_eq!(processes, [2, 1, 1], "{verb}");
        }
    });
}

#[test]
fn what_nft_has_loaded_serves_as_what_was_made() {
    case(|bed| {
        add(bed, 1, "c1", 8001);
        let listed = bed.succeed("nft", &["list", "ruleset"]);
        let file = format!("flush ruleset\n{listed}");
        assert!(bed.feed("nft", &["-f", "-"], file.as_bytes()).status.success(), "{listed}");
        // What is another network's is declared anew, with all that is shared.
        add(bed, 2, "c2", 8002);
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
            let config = changed(config::pods(), &json!({"ipMasq": masquerade}));
            let result = bed.network(config.clone()).add(&pod, "c1").result();
            let told = changed(config, &json!({"prevResult": result}));
            let messages = bed.sent(bed.call("DEL", "c1", &told).netns(pod.path()));
            assert_eq!(lists(&messages, "masqueraded"), expected, "{masquerade}");
        }
        let listed = bed.succeed("nft", &["list", "ruleset"]);
        assert!(!listed.contains("pods c1 eth0"), "{listed}");
    });
}
