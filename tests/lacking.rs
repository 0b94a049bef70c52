//! Kernels whose nftables was built without something. `make test-vm` boots one without the modules
//! that stand here; elsewhere there is nothing to see.

use std::env;

use serde_json::{Value, json};
use testbed::{
    Outcome, Testbed,
    config::{self, mappings},
    firewall::{self, neighbour, outside},
    iptables::drop_forwarded,
    node::Node,
    portmap::{self, matrix},
    reach::{is_cut_off, reaches, seen},
};

use crate::differences::case;

/// Runs a test on a kernel without these modules, whose names are in `WITHOUT`.
fn case_without(modules: &[&str], body: impl FnOnce(&Testbed)) {
    let left_out = env::var("WITHOUT").unwrap_or_default();
    if modules.iter().all(|module| left_out.split(' ').any(|word| word == *module)) {
        case(body);
    } else {
        println!("needs a kernel without {modules:?}");
    }
}

/// What an ADD says on stderr: one line with what the kernel lacks, and who does it instead.
#[track_caller]
fn says(outcome: &Outcome, option: &str) {
    let said = &outcome.success().stderr;
    assert!(said.contains(option) && said.contains("iptables"), "{outcome}");
    assert_eq!(said.lines().count(), 1, "{said}");
}

/// What is in the tables of iptables for a container.
fn rules_of(bed: &Testbed, words: &str) -> usize {
    let saved = ["iptables-save", "ip6tables-save"].map(|tool| bed.succeed(tool, &[]));
    saved.iter().flat_map(|text| text.lines()).filter(|line| line.contains(words)).count()
}

#[test]
fn without_masquerade_in_nftables_iptables_does_it() {
    case_without(&["nft_masq"], |bed| {
        let (neighbour, pod) = (bed.neighbour(), bed.sandbox("pod"));
        let network =
            bed.network(config::bridge(&json!({"isDefaultGateway": true, "ipMasq": true})));
        let outcome = network.add(&pod, "c1");
        says(&outcome, "CONFIG_NFT_MASQ");
        assert_eq!(seen(&pod, &neighbour, "203.0.113.2"), "203.0.113.1");
        network.check(&pod, "c1").silent();
        bed.succeed("iptables", &["-t", "nat", "-F"]);
        let found = network.check(&pod, "c1");
        assert!(found.stdout.contains("nat has no"), "{found}");
        network.del(&pod, "c1").silent();
        let rules = bed.succeed("iptables-save", &["-t", "nat"]);
        assert!(!rules.contains("c1"), "{rules}");
    });
}

#[test]
fn a_backend_that_is_named_is_kept_to() {
    case_without(&["nft_masq"], |bed| {
        let pod = bed.sandbox("pod");
        let keys = json!({"isDefaultGateway": true, "ipMasq": true, "ipMasqBackend": "nftables"});
        let refused = bed.network(config::bridge(&keys)).add(&pod, "c1");
        assert!(refused.stdout.contains("CONFIG_NFT_MASQ"), "{refused}");
        assert!(pod.has_only_lo());
    });
}

#[test]
fn without_routes_in_nftables_iptables_maps_host_ports() {
    case_without(&["nft_fib_ipv4"], |bed| assert_eq!(matrix(bed, json!({})), [""; 0]));
}

#[test]
fn host_ports_by_iptables_are_said_checked_and_deleted() {
    case_without(&["nft_fib_ipv4"], |bed| {
        let mut chain = portmap::Chain::with(bed, json!({"cniVersion": "1.1.0"}));
        let list = mappings(&[(8080, 80)], &json!({}));
        for verb in ["DEL", "GC"] {
            let pod = bed.sandbox(verb);
            chain.attach(&pod, verb);
            // An ADD that is repeated takes nothing away.
            for _ in 0..2 {
                says(&chain.call("ADD", &pod, verb, &list), "CONFIG_NFT_FIB_IPV4");
            }
            let rules = rules_of(bed, &format!("id: \\\"{verb}\\\""));
            assert_eq!(rules, 4, "one for each family and protocol");
            chain.call("CHECK", &pod, verb, &list).silent();
            let mut config = chain.config("", &list);
            let call = |verb: &str, config: &Value| {
                bed.plugin("portmap").command(verb).config(config).run()
            };
            call("STATUS", &config).silent();
            bed.succeed("iptables", &["-t", "nat", "-F"]);
            let found = chain.call("CHECK", &pod, verb, &list).error();
            assert!(found.msg.contains("nat has no") || found.details.contains("nat has no"));
            chain.call("ADD", &pod, verb, &list).success();
            if verb == "DEL" {
                chain.call(verb, &pod, verb, &list).silent();
            } else {
                chain.bridge.del(&pod, verb).silent();
                config["cni.dev/valid-attachments"] = json!([]);
                call(verb, &config).silent();
            }
            assert_eq!(rules_of(bed, &format!("id: \\\"{verb}\\\"")), 0);
        }
        // Who is named is kept to.
        chain.keys["backend"] = json!("nftables");
        let pod = bed.sandbox("pod");
        chain.attach(&pod, "c1");
        chain.call("ADD", &pod, "c1", &list).fails_with(999, "CONFIG_NFT_");
        let status = bed.plugin("portmap").command("STATUS").config(&chain.config("", &list));
        status.run().fails_with(50, "CONFIG_NFT_");
        assert_eq!(rules_of(bed, "c1"), 0);
    });
}

#[test]
fn without_connections_in_nftables_iptables_lets_pods_through() {
    case_without(&["nft_ct"], |bed| {
        let neighbour = neighbour(bed);
        drop_forwarded(bed);
        let keys = json!({"cniVersion": "1.1.0", "ingressPolicy": "same-bridge"});
        let (mut chain, pod) = (firewall::Chain::new(bed, keys), bed.sandbox("pod"));
        let own = chain.add(&pod, "c1");
        says(&chain.run("ADD", &pod, "c1"), "CONFIG_NFT_CT");
        reaches(&pod, &neighbour, &outside());
        is_cut_off(&neighbour, &pod, &own);
        chain.run("CHECK", &pod, "c1").silent();
        let status = |chain: &firewall::Chain<'_>| {
            bed.plugin("firewall").command("STATUS").config(&chain.config("")).run()
        };
        status(&chain).silent();
        bed.succeed("iptables", &["-F", "CNI-FORWARD"]);
        is_cut_off(&pod, &neighbour, &outside()[..1]);
        assert!(chain.run("CHECK", &pod, "c1").to_string().contains("iptables has no rule"));
        chain.run("ADD", &pod, "c1").success();
        reaches(&pod, &neighbour, &outside());
        let mut config = chain.config("");
        config["cni.dev/valid-attachments"] = json!([]);
        chain.bridge.del(&pod, "c1").silent();
        bed.plugin("firewall").command("GC").config(&config).run().silent();
        assert_eq!(rules_of(bed, "10.1.0."), 0);
        let second = bed.sandbox("second");
        let own = chain.add(&second, "c2");
        chain.run("DEL", &second, "c2").silent();
        assert_eq!(rules_of(bed, &own[0]), 0);
        // Who is named is kept to, and nobody else keeps the pods of a bridge apart.
        for (key, value) in [("backend", "nftables"), ("ingressPolicy", "isolated")] {
            chain.keys = json!({"cniVersion": "1.1.0"});
            chain.keys[key] = json!(value);
            chain.run("ADD", &second, "c2").fails_with(999, "CONFIG_NFT_CT");
            status(&chain).fails_with(50, "CONFIG_NFT_CT");
        }
    });
}

#[test]
fn a_node_by_iptables_is_restored_and_the_doctor_says_why() {
    case_without(&["nft_masq", "nft_fib_ipv4", "nft_ct"], |bed| {
        let node = Node::new(bed);
        let is_connected = || {
            let server = node.web.tcp_server("0.0.0.0:80");
            let by_port = node.neighbour.tcp("203.0.113.1:8080", &server).is_ok();
            by_port && seen(&node.other, &node.neighbour, "203.0.113.2") == "203.0.113.1"
        };
        assert!(is_connected());
        let doctor = node.succeeds(&[], &["doctor"]);
        for (option, what) in [
            ("CONFIG_NFT_MASQ", "iptables masquerades pods instead"),
            ("CONFIG_NFT_FIB_IPV4", "iptables maps host ports instead"),
            ("CONFIG_NFT_CT", "iptables lets connections of pods through instead"),
        ] {
            assert!(doctor.contains(option) && doctor.contains(what), "{what}: {doctor}");
        }
        assert!(node.succeeds(&[], &["restore"]).contains("nothing is missing of 2 attachments"));
        bed.succeed("nft", &["flush", "ruleset"]);
        node.fails(&["check", "pods", node.web.path()]);
        node.succeeds(&[], &["restore"]);
        assert!(is_connected());
        for pod in [&node.web, &node.other] {
            node.succeeds(&[], &["check", "pods", pod.path()]);
        }
        assert!(node.succeeds(&[], &["restore"]).contains("nothing is missing"));
    });
}
