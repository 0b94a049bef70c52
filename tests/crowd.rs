//! Many attachments at once: nobody fails, nobody gets what somebody else has.

use std::thread;

use serde_json::{Value, json};
use testbed::{
    Testbed, config,
    crowd::{add_all, assert_distinct, del_all, sandboxes},
    is_reference,
    reach::seen_by_tcp,
};

use crate::differences::case;

/// A bridge of its own for each round.
fn round(number: usize, changes: &Value) -> Value {
    let mut config = config::pods_with(changes);
    config["name"] = json!(format!("round{number}"));
    config["bridge"] = json!(format!("br{number}"));
    let (v4, v6) = (format!("10.{number}.0.0/24"), format!("fd00:{number}::/64"));
    config["ipam"]["ranges"] = json!([[{"subnet": v4}], [{"subnet": v6}]]);
    config
}

/// How often the bridge has this address.
fn count(bed: &Testbed, bridge: &str, address: &str) -> usize {
    let shown = bed.ip(&format!("-o addr show dev {bridge}"));
    shown.matches(&format!(" {address}/")).count()
}

#[test]
fn a_hundred_at_once_on_a_bridge_that_nobody_has_made() {
    case(|bed| {
        let pods = sandboxes(bed, 100);
        for number in 1..=if is_reference() { 2 } else { 20 } {
            let network = bed.network(round(number, &json!({"ipMasq": false})));
            let all = add_all(&network, &pods);
            assert_distinct(&all, 200);
            for gateway in [format!("10.{number}.0.1"), format!("fd00:{number}::1")] {
                assert_eq!(count(bed, &format!("br{number}"), &gateway), 1);
            }
            assert_eq!(
                seen_by_tcp(&pods[99].0, &pods[0].0, &all[0]),
                all[198],
                "a pod's neighbour"
            );
            del_all(&network, &pods);
            assert!(bed.leases(&format!("round{number}")).is_empty());
            assert!(!bed.ip("-o link").contains(" veth"), "{}", bed.ip("-o link"));
            bed.ip(&format!("link del br{number}"));
        }
    });
}

#[test]
fn a_hundred_come_and_go_beside_one_who_stays() {
    case(|bed| {
        let (network, first) = (bed.network(config::pods()), bed.sandbox("first"));
        network.add(&first, "first").success();
        let pods = sandboxes(bed, 100);
        let before = bed.snapshot();
        assert_distinct(&add_all(&network, &pods), 200);
        del_all(&network, &pods);
        bed.assert_unchanged_since(&before);
    });
}

#[test]
fn fifty_make_one_packet_filter() {
    case(|bed| {
        let (neighbour, pods) = (bed.neighbour(), sandboxes(bed, 50));
        for number in 1..=if is_reference() { 1 } else { 4 } {
            // A table that nobody has made, with two subnets that nobody has made either.
            let network = bed.network(round(number, &json!({})));
            add_all(&network, &pods);
            for (pod, _) in [&pods[0], &pods[49]] {
                for (at, host) in
                    [("203.0.113.2", "203.0.113.1"), ("2001:db8:ffff::2", "2001:db8:ffff::1")]
                {
                    assert_eq!(seen_by_tcp(pod, &neighbour, at), host);
                }
            }
            let snapshot = bed.snapshot();
            let count = |what: &str| snapshot.lines(&format!("nft {{\"{what}\"")).count();
            let again: Vec<_> = snapshot.lines("(again ").collect();
            assert!(again.is_empty(), "the same rule twice: {again:?}");
            // One of each family: its hook and its subnet, with three rules.
            assert_eq!((count("table"), count("chain"), count("rule")), (2, 4, 8), "{snapshot:?}");
            del_all(&network, &pods);
            assert!(!bed.succeed("nft", &["list", "ruleset"]).contains("comment \"round"));
            bed.succeed("nft", &["flush", "ruleset"]);
            bed.ip(&format!("link del br{number}"));
        }
    });
}

#[test]
fn some_come_while_others_go() {
    case(|bed| {
        let (network, first) = (bed.network(config::pods()), bed.sandbox("first"));
        network.add(&first, "first").success();
        let before = bed.snapshot();
        let pods = sandboxes(bed, 20);
        // Each at its own pace, so that ADDs and DELs of different pods meet.
        thread::scope(|scope| {
            for (pod, name) in &pods {
                let network = &network;
                scope.spawn(move || {
                    for _ in 0..5 {
                        network.add(pod, name).success();
                        network.del(pod, name).silent();
                    }
                    network.add(pod, name).success();
                });
            }
        });
        assert_eq!(bed.leases("pods").len(), 42);
        for (pod, name) in &pods {
            network.check(pod, name).silent();
        }
        del_all(&network, &pods);
        bed.assert_unchanged_since(&before);
    });
}

#[test]
fn an_add_and_a_late_del_of_one_attachment_do_not_mix() {
    case(|bed| {
        let (network, first) = (bed.network(config::pods()), bed.sandbox("first"));
        network.add(&first, "first").success();
        let (before, pod) = (bed.snapshot(), bed.sandbox("pod"));
        for _ in 0..10 {
            thread::scope(|scope| {
                scope.spawn(|| network.call("DEL", "c1").netns(pod.path()).run().silent());
                // Whether it succeeds or not: it answers.
                scope.spawn(|| match network.add(&pod, "c1") {
                    outcome if outcome.status.success() => drop(outcome.result()),
                    outcome => drop(outcome.error()),
                });
            });
            network.del(&pod, "c1").silent();
            bed.assert_unchanged_since(&before);
        }
    });
}
