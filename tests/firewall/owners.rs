//! What firewall leaves: nothing after DEL, whatever DEL was told; and as many rules as before.

use serde_json::{Value, json};
use testbed::{
    Snapshot, Testbed, bin_dir,
    firewall::{Chain, neighbour, outside},
    ipam::DIR,
    iptables::drop_forwarded,
    reach::{is_cut_off, reaches},
    ruleset::rules,
};

use crate::differences::case;

/// A chain on a host where the shared rules are there already, and what the host is like then.
fn settled(bed: &Testbed, keys: Value) -> (Chain<'_>, Snapshot) {
    let chain = Chain::new(bed, keys);
    chain.add(&bed.sandbox("earlier"), "earlier");
    let before = bed.snapshot();
    (chain, before)
}

fn filter(snapshot: &Snapshot) -> Vec<&str> {
    snapshot.lines("nft ").collect()
}

fn isolated() -> Value {
    json!({"ingressPolicy": "isolated"})
}

#[test]
fn del_needs_to_know_nothing() {
    case(|bed| {
        drop_forwarded(bed);
        let (chain, before) = settled(bed, isolated());
        for what in ["everything", "no result", "nothing", "other name", "garbage", "old result"] {
            let id = what.replace(' ', "-");
            let pod = bed.sandbox(&id);
            chain.add(&pod, &id);
            assert_ne!(filter(&bed.snapshot()), filter(&before), "{what}");
            let mut config = chain.config(&id);
            match what {
                "everything" => {}
                "old result" => {
                    config["prevResult"] =
                        json!({"cniVersion": "1.0.0", "ips": [{"address": "10.9.9.9/24"}]});
                }
                _ => drop(config.as_object_mut().unwrap().remove("prevResult")),
            }
            match what {
                "other name" => config["name"] = json!("renamed"),
                "garbage" => {
                    config["backend"] = json!("unheard-of");
                    config["ingressPolicy"] = json!("unheard-of");
                    config["iptablesAdminChainName"] = json!("-x");
                }
                _ => {}
            }
            let call = bed.call("DEL", &id, &config);
            let call = if what == "nothing" { call } else { call.netns(pod.path()) };
            call.clone().run().silent();
            assert_eq!(filter(&bed.snapshot()), filter(&before), "{what}");
            call.run().silent();
            chain.bridge.del(&pod, &id).silent();
            pod.destroy();
        }
        bed.assert_unchanged_since(&before);
    });
}

#[test]
fn add_may_be_repeated() {
    case(|bed| {
        let neighbour = neighbour(bed);
        drop_forwarded(bed);
        let (chain, before) = settled(bed, json!({}));
        let pod = bed.sandbox("pod");
        chain.add(&pod, "c1");
        let once = bed.snapshot();
        chain.run("ADD", &pod, "c1").success();
        bed.assert_unchanged_since(&once);
        reaches(&pod, &neighbour, &outside());
        chain.run("CHECK", &pod, "c1").silent();
        for _ in 0..2 {
            chain.run("DEL", &pod, "c1").silent();
        }
        chain.bridge.del(&pod, "c1").silent();
        bed.assert_unchanged_since(&before);
    });
}

#[test]
fn a_late_del_does_not_hurt_the_next_owner_of_an_address() {
    case(|bed| {
        let neighbour = neighbour(bed);
        drop_forwarded(bed);
        let (chain, _) = settled(bed, json!({}));
        let old = bed.sandbox("old");
        let own = chain.add(&old, "old");
        let late = chain.call("DEL", &old, "old");
        chain.bridge.del(&old, "old").silent();
        bed.succeed("rm", &["-r", DIR]);
        // Somewhere near the beginning the address is handed out again.
        let next = |number: u8| {
            let id = format!("new{number}");
            let pod = bed.sandbox(&id);
            (chain.add(&pod, &id) == own).then_some((pod, id))
        };
        let (new, id) = (0..4).find_map(next).unwrap();
        late.run().silent();
        reaches(&new, &neighbour, &outside());
        chain.run("CHECK", &new, &id).silent();
    });
}

#[test]
fn check_sees_what_is_missing() {
    case(|bed| {
        drop_forwarded(bed);
        let (chain, _) = settled(bed, isolated());
        let pod = bed.sandbox("pod");
        chain.add(&pod, "c1");
        let check = |words: &str| chain.run("CHECK", &pod, "c1").fails_with(999, words);
        for (damage, words) in [
            ("delete element ip girder firewall-pods { 10.1.0.3 }", "connections of 10.1.0.3"),
            ("delete element ip6 girder firewall-pods { fd00:1::3 }", "connections of fd00:1::3"),
            ("flush chain ip girder firewall", "rules about what is forwarded"),
            ("flush chain bridge girder firewall", "rules about what is forwarded"),
            ("flush set bridge girder firewall-ports", "is not kept from the other ports"),
            ("flush set ip girder firewall-bridges", "ingressPolicy of bridge br0"),
            ("add element ip girder firewall-ways { br0 . br0 }", "ingressPolicy of bridge br0"),
            ("flush ruleset", "connections of 10.1.0.3"),
        ] {
            bed.succeed("nft", &[damage]);
            check(words);
            drop_forwarded(bed);
            // And an ADD that comes again repairs it.
            chain.run("ADD", &pod, "c1").success();
            chain.run("CHECK", &pod, "c1").silent();
        }
        for (tool, damage) in
            [("iptables", "-F CNI-FORWARD"), ("ip6tables", "-F FORWARD"), ("iptables", "-F")]
        {
            bed.succeed(tool, &damage.split(' ').collect::<Vec<_>>());
            check("has no way from FORWARD to CNI-FORWARD");
            chain.run("ADD", &pod, "c1").success();
            chain.run("CHECK", &pod, "c1").silent();
        }
    });
}

#[test]
fn gc_removes_what_is_not_listed() {
    case(|bed| {
        let mut keys = isolated();
        keys["cniVersion"] = json!("1.1.0");
        let (chain, before) = settled(bed, keys);
        let pod = bed.sandbox("pod");
        chain.add(&pod, "c1");
        let gc = |valid: &[&str]| {
            let mut config = chain.config("");
            let attachment = |id: &&str| json!({"containerID": id, "ifname": "eth0"});
            config["cni.dev/valid-attachments"] = valid.iter().map(attachment).collect();
            bed.plugin("firewall").command("GC").config(&config).run().silent();
        };
        let full = bed.snapshot();
        gc(&["earlier", "c1"]);
        bed.assert_unchanged_since(&full);
        gc(&["earlier"]);
        assert_eq!(filter(&bed.snapshot()), filter(&before));
        assert!(bed.snapshot().lines("\"br0\"").any(|line| line.contains("firewall-bridges")));
        gc(&[]);
        let left = bed.snapshot();
        assert!(!left.lines("firewall-").any(|line| line.contains("\"elem\"")), "{left:?}");
    });
}

#[test]
fn fifty_pods_have_the_rules_of_one() {
    case(|bed| {
        let neighbour = neighbour(bed);
        drop_forwarded(bed);
        let (chain, _) = settled(bed, isolated());
        let one = rules(bed);
        let pods: Vec<_> = (0..50).map(|number| bed.sandbox(&format!("c{number}"))).collect();
        for (number, pod) in pods.iter().enumerate() {
            chain.add(pod, &format!("c{number}"));
        }
        assert_eq!(rules(bed), one);
        reaches(&pods[49], &neighbour, &outside());
    });
}

#[test]
fn twenty_at_once_make_one_packet_filter() {
    case(|bed| {
        drop_forwarded(bed);
        let chain = Chain::new(bed, isolated());
        let pods: Vec<_> = (0..20).map(|number| bed.sandbox(&format!("c{number}"))).collect();
        for (number, pod) in pods.iter().enumerate() {
            chain.bridge.add(pod, &format!("c{number}")).success();
        }
        let all = |verb: &str| {
            std::thread::scope(|scope| {
                for (number, pod) in pods.iter().enumerate() {
                    let chain = &chain;
                    scope.spawn(move || {
                        chain.run(verb, pod, &format!("c{number}")).success();
                    });
                }
            });
        };
        all("ADD");
        for tool in ["iptables", "ip6tables"] {
            for chain in ["FORWARD", "CNI-FORWARD"] {
                let listed = bed.succeed(tool, &["-S", chain]);
                let expected = if chain == "FORWARD" { 2 } else { 3 };
                assert_eq!(listed.lines().count(), expected, "{listed}");
            }
        }
        all("CHECK");
        all("DEL");
        let left = bed.snapshot();
        assert!(!left.lines("firewall-pods").any(|line| line.contains("\"elem\"")), "{left:?}");
    });
}

#[test]
fn an_answer_that_cannot_be_written_leaves_nothing() {
    case(|bed| {
        drop_forwarded(bed);
        let (chain, _) = settled(bed, isolated());
        let pod = bed.sandbox("pod");
        chain.bridge.add(&pod, "c1").success();
        let before = bed.snapshot();
        let own = bin_dir().join("firewall");
        bed.script("firewall", &format!("#!/bin/sh\nexec {} >/dev/full\n", own.display()));
        let outcome = chain.run("ADD", &pod, "c1");
        assert!(!outcome.status.success(), "{outcome}");
        bed.assert_unchanged_since(&before);
    });
}

#[test]
fn what_cannot_be_meant_is_refused_before_anything_is_touched() {
    case(|bed| {
        let mut chain = Chain::new(bed, json!({}));
        let pod = bed.sandbox("pod");
        chain.bridge.add(&pod, "c1").success();
        let before = bed.snapshot();
        for (keys, words) in [
            (json!({"backend": "ebpf"}), "backend is nftables, iptables or firewalld"),
            (json!({"backend": "Iptables"}), "unknown firewall backend: \"Iptables\""),
            (json!({"ingressPolicy": "none"}), "unknown ingress policy: \"none\""),
            (json!({"iptablesAdminChainName": "a b"}), "iptablesAdminChainName \"a b\""),
            (json!({"iptablesAdminChainName": "X\n-F"}), "is no name for a chain"),
            (json!({"backend": 5}), "backend"),
        ] {
            chain.keys = keys;
            chain.run("ADD", &pod, "c1").fails_with(7, words);
            chain.run("CHECK", &pod, "c1").fails_with(7, words);
        }
        chain.keys = json!({"ingressPolicy": "same-bridge"});
        let mut config = chain.config("c1");
        config["prevResult"]["interfaces"] = json!([]);
        config["prevResult"]["ips"] = json!([{"address": "10.1.0.2/24"}]);
        chain.call("ADD", &pod, "c1").config(&config).run().fails_with(7, "needs a bridge");
        config.as_object_mut().unwrap().remove("prevResult");
        let alone = chain.call("ADD", &pod, "c1").config(&config).run();
        alone.fails_with(7, "missing prevResult from earlier plugin");
        bed.assert_unchanged_since(&before);
    });
}

#[test]
fn no_program_is_started_where_nobody_drops() {
    case(|bed| {
        let (chain, pod) = (Chain::new(bed, isolated()), bed.sandbox("pod"));
        chain.bridge.add(&pod, "c1").success();
        let starts = |verb: &str| bed.processes(chain.call(verb, &pod, "c1")).1;
        for verb in ["ADD", "CHECK", "DEL"] {
            assert_eq!(starts(verb), 1, "{verb}: its own execve and nothing else");
        }
        // Where iptables drops, it is asked once for all.
        drop_forwarded(bed);
        assert!(starts("ADD") > 1);
        assert_eq!(starts("ADD"), 1);
        assert_eq!(starts("DEL"), 1);
    });
}

#[test]
fn nft_loads_what_it_has_listed() {
    case(|bed| {
        let neighbour = neighbour(bed);
        let (chain, before) = settled(bed, isolated());
        let listed = bed.succeed("nft", &["list", "ruleset"]);
        let file = format!("flush ruleset\n{listed}");
        let taken = bed.feed("nft", &["-f", "-"], file.as_bytes());
        assert!(taken.status.success(), "{taken:?}: {listed}");
        bed.assert_unchanged_since(&before);
        let pods = ["one", "two"].map(|id| bed.sandbox(id));
        let own = [chain.add(&pods[0], "c1"), chain.add(&pods[1], "c2")];
        is_cut_off(&pods[0], &pods[1], &own[1]);
        reaches(&pods[0], &neighbour, &outside());
    });
}
