//! portmap's other backend: the same packets get through, by the rules of the Go plugin.

use serde_json::{Value, json};
use testbed::{
    REFERENCE, SYSTEM_PATH, Sandbox, Testbed,
    config::{changed, mappings},
    iptables::{nat_rules, path_without_ip6tables},
    portmap::{Chain, matrix},
    reach::knock,
};

use crate::differences::case;

fn by_iptables<'bed>(bed: &'bed Testbed, more: &Value) -> Chain<'bed> {
    // Go 1.1.1 knows no other backend, and ignores the key.
    Chain::with(bed, changed(json!({"backend": "iptables"}), more))
}

#[test]
fn every_client_reaches_every_mapping() {
    case(|bed| assert_eq!(matrix(bed, json!({"backend": "iptables"})), [""; 0]));
}

#[test]
fn the_rules_are_those_of_the_go_plugin() {
    case(|bed| {
        let sixteen: Vec<_> = (8000..8016).map(|port| (port, 80)).collect();
        for (number, (keys, list)) in [
            (json!({}), mappings(&[(8080, 80), (9090, 9090)], &json!({}))),
            (json!({}), mappings(&sixteen, &json!({}))),
            (json!({}), mappings(&[(8080, 80)], &json!({"hostIP": "203.0.113.1"}))),
            (json!({}), mappings(&[(8080, 80)], &json!({"hostIP": "0.0.0.0"}))),
            (json!({"snat": false}), mappings(&[(8080, 80)], &json!({}))),
            (json!({"markMasqBit": 5}), mappings(&[(8080, 80)], &json!({}))),
            (
                json!({"conditionsV4": ["-s", "203.0.113.0/24"], "conditionsV6": ["!", "-i", "x0"]}),
                mappings(&[(8080, 80)], &json!({})),
            ),
        ]
        .into_iter()
        .enumerate()
        {
            let chain = by_iptables(bed, &keys);
            let (pod, id) = (bed.sandbox(&format!("p{number}")), format!("c{number}"));
            chain.attach(&pod, &id);
            let config = chain.config(&id, &list);
            let call = |verb: &str| bed.call(verb, &id, &config).netns(pod.path());
            let theirs = call("ADD").program(format!("{REFERENCE}/portmap"));
            let flush = || bed.succeed("nft", &["flush", "ruleset"]);
            flush();
            theirs.env("PATH", SYSTEM_PATH).run().success();
            let expected = nat_rules(bed);
            flush();
            call("ADD").run().success();
            // Theirs have an empty chain in the family that has no mapping.
            let only_ipv4 = list[0].get("hostIP").is_some();
            let part = |text: &str| match only_ipv4 {
                true => text.split(":PREROUTING").nth(1).unwrap().to_owned(),
                false => text.to_owned(),
            };
            assert_eq!(part(&nat_rules(bed)), part(&expected), "{keys}");
            call("CHECK").run().silent();
        }
    });
}

/// An attachment with two ports of the host, and what the host was like before.
fn attached(bed: &Testbed, chain: &Chain<'_>, id: &str, port: u16) -> (Sandbox, Value) {
    let pod = bed.sandbox(id);
    let list = mappings(&[(port, 80), (port + 1, port + 1)], &json!({}));
    chain.add(&pod, id, &list);
    (pod, list)
}

#[test]
fn del_needs_to_know_nothing_and_leaves_what_is_shared() {
    case(|bed| {
        let chain = by_iptables(bed, &json!({}));
        attached(bed, &chain, "earlier", 1);
        let (before, saved) = (bed.snapshot(), nat_rules(bed));
        for known in [true, false] {
            let (pod, list) = attached(bed, &chain, "c1", 8080);
            assert_ne!(nat_rules(bed), saved);
            let list = if known { list } else { json!([]) };
            chain.call("DEL", &pod, "c1", &list).silent();
            assert_eq!(nat_rules(bed), saved);
            chain.bridge.del(&pod, "c1").silent();
            bed.assert_unchanged_since(&before);
            pod.destroy();
        }
    });
}

#[test]
fn an_add_that_fails_leaves_the_container_its_other_ports() {
    case(|bed| {
        let chain = by_iptables(bed, &json!({}));
        let (pod, list) = attached(bed, &chain, "c1", 8080);
        // The chain is one for all interfaces of the container.
        let mut second = by_iptables(bed, &json!({}));
        second.bridge = second.bridge.ifname("net1");
        second.attach(&pod, "c1");
        let other = bed.sandbox("other");
        chain.attach(&other, "c2");
        let path = path_without_ip6tables(bed);
        let (before, saved) = (bed.snapshot(), nat_rules(bed));
        let more = mappings(&[(8090, 80)], &json!({}));
        for (config, ifname, id, pod) in [
            (chain.config("c2", &more), "eth0", "c2", &other),
            (chain.config("c1", &list), "eth0", "c1", &pod),
            (second.config("c1", &more), "net1", "c1", &pod),
        ] {
            let call = bed.call("ADD", id, &config).netns(pod.path()).ifname(ifname);
            let outcome = call.env("PATH", &path).run();
            outcome.fails_with(999, "ip6tables-save");
            assert_eq!(nat_rules(bed), saved);
            bed.assert_unchanged_since(&before);
        }
    });
}

#[test]
fn a_repeated_add_has_each_rule_once() {
    case(|bed| {
        let chain = by_iptables(bed, &json!({"conditionsV4": ["!", "-i", "x0"]}));
        let (pod, list) = attached(bed, &chain, "c1", 8080);
        let saved = nat_rules(bed);
        chain.call("ADD", &pod, "c1", &list).success();
        assert_eq!(nat_rules(bed), saved);
    });
}

#[test]
fn chains_of_the_other_kind_of_iptables_make_way() {
    case(|bed| {
        let chain = by_iptables(bed, &json!({}));
        let (pod, list) = attached(bed, &chain, "c1", 8080);
        let saved = nat_rules(bed);
        // What this container had before iptables was iptables-nft on this host.
        let script = "iptables-save -t nat | iptables-legacy-restore; nft flush ruleset";
        bed.succeed("sh", &["-c", script]);
        chain.call("ADD", &pod, "c1", &list).success();
        assert_eq!(nat_rules(bed), saved);
        let left = bed.succeed("iptables-legacy-save", &["-t", "nat"]);
        assert!(!left.contains("CNI-DN-"), "{left}");
    });
}

#[test]
fn a_port_has_one_owner_whoever_translates() {
    case(|bed| {
        let list = mappings(&[(8080, 80)], &json!({}));
        let (iptables, native) = (by_iptables(bed, &json!({})), json!({}));
        let mut pods = Vec::new();
        // Each backend against itself and the other one: who lives stays, who is lost makes way.
        for (number, keys) in
            [&iptables.keys, &iptables.keys, &native, &iptables.keys].iter().enumerate()
        {
            let mut chain = Chain::new(bed);
            chain.keys = (*keys).clone();
            let id = format!("c{number}");
            let pod = bed.sandbox(&id);
            chain.attach(&pod, &id);
            if let Some(last) = pods.last() {
                let before = bed.snapshot();
                let outcome = chain.call("ADD", &pod, &id, &list);
                let words = format!("taken by container \"c{}\"", number - 1);
                assert!(outcome.error().msg.contains(&words), "{outcome}");
                bed.assert_unchanged_since(&before);
                bed.destroy(last);
            }
            chain.call("ADD", &pod, &id, &list).success();
            let server = pod.tcp_server("0.0.0.0:80");
            assert!(bed.tcp("127.0.0.1:8080", &server).is_ok(), "{keys}");
            pods.push(pod);
        }
    });
}

#[test]
fn check_misses_any_rule() {
    case(|bed| {
        let chain = by_iptables(bed, &json!({}));
        let (pod, list) = attached(bed, &chain, "c1", 8080);
        chain.call("CHECK", &pod, "c1", &list).silent();
        for loss in [
            "iptables -t nat -F CNI-HOSTPORT-DNAT",
            "iptables -t nat -F CNI-HOSTPORT-MASQ",
            "iptables -t nat -F POSTROUTING",
            "ip6tables -t nat -F PREROUTING",
            "for c in $(iptables-save -t nat | grep -o 'CNI-DN-[0-9a-f]*' | sort -u); do iptables -t nat -D $c 1; done",
        ] {
            bed.succeed("sh", &["-c", loss]);
            let outcome = chain.call("CHECK", &pod, "c1", &list);
            assert!(!outcome.status.success(), "{loss}: {outcome}");
            chain.call("DEL", &pod, "c1", &list).silent();
            chain.call("ADD", &pod, "c1", &list).success();
            chain.call("CHECK", &pod, "c1", &list).silent();
        }
    });
}

#[test]
fn a_chain_of_somebody_elses_marks() {
    case(|bed| {
        let chain = by_iptables(bed, &json!({"externalSetMarkChain": "KUBE-MARK-MASQ"}));
        let list = mappings(&[(8080, 80)], &json!({}));
        let pod = bed.sandbox("pod");
        chain.attach(&pod, "c1");
        let before = nat_rules(bed);
        let outcome = chain.call("ADD", &pod, "c1", &list);
        assert!(!outcome.status.success(), "{outcome}");
        assert_eq!(nat_rules(bed).matches("CNI-DN-").count(), before.matches("CNI-DN-").count());
        for tool in ["iptables", "ip6tables"] {
            let make = format!(
                "{tool} -t nat -N KUBE-MARK-MASQ; {tool} -t nat -A KUBE-MARK-MASQ -j MARK \
                 --set-xmark 0x4000/0x4000; {tool} -t nat -A POSTROUTING -m mark --mark \
                 0x4000/0x4000 -j MASQUERADE"
            );
            bed.succeed("sh", &["-c", &make]);
        }
        chain.call("ADD", &pod, "c1", &list).success();
        assert!(!nat_rules(bed).contains("CNI-HOSTPORT-SETMARK"));
        for outcome in knock(&pod, "203.0.113.1:8080", &pod, 80, false) {
            assert!(outcome.is_err(), "there is no such address of the host yet");
        }
        let _neighbour = bed.neighbour();
        for outcome in knock(&pod, "203.0.113.1:8080", &pod, 80, true) {
            outcome.unwrap();
        }
    });
}
