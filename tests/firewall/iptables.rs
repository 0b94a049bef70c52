//! firewall with iptables, whose rules are those of the reference.

use serde_json::json;
use testbed::{
    SYSTEM_PATH, Snapshot, Testbed,
    firewall::{Chain, neighbour, outside},
    iptables::{drop_forwarded, path_without_ip6tables},
    reach::{is_cut_off, reaches},
};

use crate::differences::case;

const SOURCES: [&str; 2] = ["10.1.0.2/32", "fd00:1::2/128"];

/// The rules of a chain of both families, as iptables lists them.
fn listed(bed: &Testbed, chain: &str) -> [Vec<String>; 2] {
    ["iptables", "ip6tables"].map(|tool| {
        let listed = bed.succeed(tool, &["-S", chain]);
        let rules = listed.lines().filter(|line| line.starts_with("-A "));
        rules.map(|line| line.trim_start_matches("-A ").to_owned()).collect()
    })
}

const IPTABLES: &str = "iptables";
const ANSWERS: &str = "-m conntrack --ctstate RELATED,ESTABLISHED";

#[test]
fn iptables_has_the_rules_of_the_reference() {
    case(|bed| {
        let (chain, pod) = (Chain::new(bed, json!({"backend": IPTABLES})), bed.sandbox("pod"));
        chain.add(&pod, "c1");
        let forward =
            "FORWARD -m comment --comment \"CNI firewall plugin rules\" -j CNI-FORWARD".to_owned();
        let admin = "CNI-FORWARD -m comment --comment \"CNI firewall plugin admin overrides\" -j \
                     CNI-ADMIN";
        let own = SOURCES.map(|source| {
            [
                admin.to_owned(),
                format!("CNI-FORWARD -d {source} {ANSWERS} -j ACCEPT"),
                format!("CNI-FORWARD -s {source} -j ACCEPT"),
            ]
            .to_vec()
        });
        let expected = || {
            assert_eq!(listed(bed, "FORWARD"), [vec![forward.clone()], vec![forward.clone()]]);
            assert_eq!(listed(bed, "CNI-FORWARD"), own);
            assert_eq!(listed(bed, "CNI-ADMIN"), [vec![], vec![]] as [Vec<String>; 2]);
        };
        expected();
        chain.run("CHECK", &pod, "c1").silent();
        chain.run("ADD", &pod, "c1").success();
        expected();
        let second = bed.sandbox("second");
        chain.add(&second, "c2");
        assert_eq!(listed(bed, "CNI-FORWARD").map(|rules| rules.len()), [5, 5]);
        for _ in 0..2 {
            chain.run("DEL", &second, "c2").silent();
            expected();
        }
        chain.run("DEL", &pod, "c1").silent();
        let left = listed(bed, "CNI-FORWARD");
        assert_eq!(left, [vec![admin.to_owned()], vec![admin.to_owned()]], "chains stay");
    });
}

#[test]
fn iptables_lets_pods_through_where_it_drops() {
    case(|bed| {
        let neighbour = neighbour(bed);
        drop_forwarded(bed);
        let keys = json!({"backend": IPTABLES, "iptablesAdminChainName": "CNI-foobar"});
        let (chain, pod) = (Chain::new(bed, keys), bed.sandbox("pod"));
        let own = chain.add(&pod, "c1");
        reaches(&pod, &neighbour, &outside());
        is_cut_off(&neighbour, &pod, &own);
        for rules in listed(bed, "CNI-FORWARD") {
            assert!(rules[0].ends_with("-j CNI-foobar"), "{rules:?}");
        }
        bed.succeed("iptables", &["-A", "CNI-foobar", "-j", "DROP"]);
        is_cut_off(&pod, &neighbour, &outside()[..1]);
    });
}

#[test]
fn iptables_keeps_bridges_apart() {
    case(|bed| {
        let keys = json!({"backend": IPTABLES, "ingressPolicy": "same-bridge"});
        let (chain, other) = (Chain::new(bed, keys.clone()), Chain::second(bed, keys));
        let pods = ["one", "two", "three"].map(|id| bed.sandbox(id));
        let own = [chain.add(&pods[0], "c1"), chain.add(&pods[1], "c2"), other.add(&pods[2], "c3")];
        reaches(&pods[0], &pods[1], &own[1]);
        is_cut_off(&pods[2], &pods[0], &own[0]);
        is_cut_off(&pods[0], &pods[2], &own[2]);
        let said = |policy: &str| {
            format!("-m comment --comment \"CNI firewall plugin rules (ingressPolicy: {policy})\"")
        };
        let (same, any) = (said("same-bridge"), said("same-bridge|isolated"));
        let stage = |number: u8| format!("CNI-ISOLATION-STAGE-{number}");
        let [one, two] = [stage(1), stage(2)];
        let all = [
            ("FORWARD", vec![format!("FORWARD {any} -j {one}")]),
            (
                &*one,
                ["br1", "br0"]
                    .iter()
                    .map(|own| format!("{one} -i {own} ! -o {own} {same} -j {two}"))
                    .chain([format!("{one} {any} -j RETURN")])
                    .collect(),
            ),
            (
                &*two,
                ["br1", "br0"]
                    .iter()
                    .map(|own| format!("{two} -o {own} {any} -j DROP"))
                    .chain([format!("{two} {any} -j RETURN")])
                    .collect(),
            ),
        ];
        for (chain, expected) in all {
            for mut rules in listed(bed, chain) {
                rules.truncate(expected.len());
                assert_eq!(rules, expected, "{chain}");
            }
        }
        chain.run("CHECK", &pods[0], "c1").silent();
        chain.run("DEL", &pods[0], "c1").silent();
        // Others may use the bridge.
        is_cut_off(&pods[2], &pods[1], &own[1]);
    });
}

#[test]
fn iptables_keeps_pods_of_one_bridge_apart_where_it_sees_them() {
    case(|bed| {
        let keys = json!({"backend": IPTABLES, "ingressPolicy": "isolated"});
        let (chain, pod) = (Chain::new(bed, keys), bed.sandbox("pod"));
        chain.add(&pod, "c1");
        chain.run("CHECK", &pod, "c1").silent();
        let own = "-m comment --comment \"CNI firewall plugin rules (ingressPolicy: isolated)\"";
        for rules in listed(bed, "CNI-ISOLATION-STAGE-1") {
            assert_eq!(rules[0], format!("CNI-ISOLATION-STAGE-1 -i br0 -o br0 {own} -j DROP"));
            assert_eq!(rules.len(), 3);
        }
    });
}

#[test]
fn a_missing_rule_of_iptables_is_noticed() {
    case(|bed| {
        let keys = json!({"backend": IPTABLES, "ingressPolicy": "same-bridge"});
        let (chain, pod) = (Chain::new(bed, keys), bed.sandbox("pod"));
        chain.add(&pod, "c1");
        for (damage, words) in [
            ("-D CNI-FORWARD -s 10.1.0.2 -j ACCEPT", "-s 10.1.0.2/32 -j ACCEPT"),
            ("-F CNI-FORWARD", "-j CNI-ADMIN"),
            ("-F CNI-ISOLATION-STAGE-2", "-o br0"),
            ("-F FORWARD", "-j CNI-FORWARD"),
            ("-P FORWARD DROP", ""),
        ] {
            bed.succeed("iptables", &damage.split(' ').collect::<Vec<_>>());
            if !words.is_empty() {
                chain.run("CHECK", &pod, "c1").fails_with(999, words);
                chain.run("ADD", &pod, "c1").success();
            }
            chain.run("CHECK", &pod, "c1").silent();
        }
    });
}

#[test]
fn del_and_gc_find_rules_of_iptables_without_a_result() {
    case(|bed| {
        let chain = Chain::new(bed, json!({"backend": IPTABLES, "cniVersion": "1.1.0"}));
        let pod = bed.sandbox("earlier");
        chain.add(&pod, "earlier");
        let before = bed.snapshot();
        for verb in ["DEL", "GC"] {
            let pod = bed.sandbox(verb);
            chain.add(&pod, verb);
            let mut config = chain.config(verb);
            config.as_object_mut().unwrap().remove("prevResult");
            config["cni.dev/valid-attachments"] =
                json!([{"containerID": "earlier", "ifname": "eth0"}]);
            let call = chain.call(verb, &pod, verb).without("CNI_NETNS").config(&config);
            call.run().silent();
            chain.bridge.del(&pod, verb).silent();
            pod.destroy();
            bed.assert_unchanged_since(&before);
        }
    });
}

#[test]
fn an_add_that_fails_takes_back_only_what_it_has_added() {
    case(|bed| {
        let (chain, pod) = (Chain::new(bed, json!({"backend": IPTABLES})), bed.sandbox("pod"));
        chain.add(&pod, "c1");
        let second = bed.sandbox("second");
        chain.bridge.add(&second, "c2").success();
        let path = path_without_ip6tables(bed);
        let before = bed.snapshot();
        for (pod, id) in [(&second, "c2"), (&pod, "c1")] {
            let outcome = chain.call("ADD", pod, id).env("PATH", &path).run();
            outcome.fails_with(999, "ip6tables-save");
            bed.assert_unchanged_since(&before);
        }
    });
}

#[test]
fn rules_that_another_backend_has_made_are_removed_too() {
    case(|bed| {
        let mut chain = Chain::new(bed, json!({"backend": IPTABLES}));
        let pod = bed.sandbox("pod");
        chain.add(&pod, "c1");
        // What a DEL without result has left there once, and an ADD has made again.
        for tool in ["iptables", "ip6tables"] {
            let source = SOURCES[usize::from(tool == "ip6tables")];
            bed.succeed(tool, &["-A", "CNI-FORWARD", "-s", source, "-j", "ACCEPT"]);
        }
        chain.keys = json!({});
        chain.run("DEL", &pod, "c1").silent();
        assert_eq!(listed(bed, "CNI-FORWARD").map(|rules| rules.len()), [1, 1]);
    });
}

#[test]
fn without_its_programs_iptables_cannot_be_asked_but_del_works() {
    case(|bed| {
        let (chain, pod) = (Chain::new(bed, json!({"backend": IPTABLES})), bed.sandbox("pod"));
        chain.add(&pod, "c1");
        let second = bed.sandbox("second");
        chain.bridge.add(&second, "c2").success();
        let before = bed.snapshot();
        // Nobody finds a program in directories that are empty.
        for directory in ["/usr/sbin", "/usr/local/sbin"] {
            bed.succeed("mount", &["-t", "tmpfs", "none", directory]);
        }
        let call = |verb: &str, id: &str| chain.call(verb, &pod, id).env("PATH", "/nowhere");
        call("ADD", "c2").run().fails_with(999, "iptables-save");
        let mut config = chain.config("");
        config["cniVersion"] = json!("1.1.0");
        let status = bed.plugin("firewall").command("STATUS").config(&config);
        status.env("PATH", "/nowhere").run().fails_with(50, "iptables-save");
        let del = call("DEL", "c1").run();
        del.silent();
        assert!(del.stderr.contains("rules may be left"), "{del}");
        for directory in ["/usr/local/sbin", "/usr/sbin"] {
            bed.succeed("umount", &[directory]);
        }
        let kept = |line: &&str| !line.contains(" c1 ");
        let now = bed.snapshot();
        let lines = |of: &Snapshot| of.lines("nft {\"rule\"").filter(kept).count();
        assert_eq!(lines(&now), lines(&before));
    });
}

/// Where iptables is iptables-legacy.
const LEGACY: &str = "/run/test/legacy";

/// A `PATH` by which a host has iptables-legacy only.
fn path_of_legacy(bed: &Testbed) -> String {
    bed.succeed("mkdir", &["-p", LEGACY]);
    for tool in ["iptables", "ip6tables"] {
        for action in ["", "-save", "-restore"] {
            let target = format!("/usr/sbin/{tool}-legacy{action}");
            bed.succeed("ln", &["-s", &target, &format!("{LEGACY}/{tool}{action}")]);
        }
    }
    format!("{LEGACY}:{SYSTEM_PATH}")
}

#[test]
fn without_nftables_rules_of_iptables_come_and_go() {
    case(|bed| {
        let path = path_of_legacy(bed);
        let (chain, pod) = (Chain::new(bed, json!({"backend": IPTABLES})), bed.sandbox("pod"));
        chain.bridge.add(&pod, "c1").success();
        // ADD's first socket announces it, and is none of nfnetlink.
        for (verb, first, count) in [("ADD", 2, 3), ("DEL", 1, 1), ("DEL", 1, 1)] {
            let call = chain.call(verb, &pod, "c1").env("PATH", &path);
            // As a kernel without nfnetlink answers.
            let inject = format!("inject=socket:error=EPROTONOSUPPORT:when={first}+");
            let (outcome, trace) = bed.strace(call, &format!("-e trace=socket -e {inject}"));
            assert!(outcome.status.success() && trace.contains("(INJECTED)"), "{outcome}");
            for tool in ["iptables", "ip6tables"] {
                let listed = bed.succeed(&format!("{LEGACY}/{tool}"), &["-S", "CNI-FORWARD"]);
                let rules = listed.lines().filter(|line| line.starts_with("-A "));
                assert_eq!(rules.count(), count, "{verb}: {listed}");
            }
        }
    });
}

#[test]
fn tables_of_the_older_kind_are_opened_too() {
    case(|bed| {
        let neighbour = neighbour(bed);
        let path = path_of_legacy(bed);
        for tool in ["iptables", "ip6tables"] {
            bed.succeed(&format!("{LEGACY}/{tool}"), &["-P", "FORWARD", "DROP"]);
        }
        for keys in [json!({}), json!({"backend": IPTABLES})] {
            let (chain, pod) = (Chain::new(bed, keys), bed.sandbox("pod"));
            let call = |verb: &str| chain.call(verb, &pod, "c1").env("PATH", &path).run();
            chain.bridge.add(&pod, "c1").success();
            reaches(&pod, bed, &["10.1.0.1".to_owned()]);
            is_cut_off(&pod, &neighbour, &outside());
            call("ADD").success();
            reaches(&pod, &neighbour, &outside());
            call("CHECK").silent();
            call("DEL").silent();
            is_cut_off(&pod, &neighbour, &outside());
            chain.bridge.del(&pod, "c1").silent();
            pod.destroy();
        }
    });
}
