//! ADDs that fail, are killed, repeated, or run beside others: routes are where they were, and no table
//! is anybody else's.

use std::{collections::BTreeSet, thread};

use serde_json::{Value, json};
use testbed::{Death, Fault, REFERENCE, SYSTEM_PATH, Sandbox, Testbed, step, wire::Wire};

use crate::differences::case;

const DUAL: [(&str, &str); 2] =
    [("192.168.1.209/24", "192.168.1.1"), ("2001:db8:1::209/64", "2001:db8:1::1")];

/// A pod with one interface that has default routes, and another one that may get sbr.
fn pod(bed: &Testbed, name: &str) -> (Sandbox, Wire) {
    let pod = bed.sandbox(name);
    let _first =
        bed.wire(&pod, "eth0", &[("10.1.0.2/24", "10.1.0.1"), ("fd00:1::2/64", "fd00:1::1")]);
    let wire = bed.wire(&pod, "net1", &DUAL);
    for words in [
        "route add default via 10.1.0.1",
        "-6 route add default via fd00:1::1 metric 100",
        "route append default via 192.168.1.1",
        "-6 route add default via 2001:db8:1::1",
        "route add 198.51.100.0/24 via 192.168.1.7",
        "-6 route add 2001:db8:7::/64 via 2001:db8:1::7 metric 77",
    ] {
        pod.ip(words);
    }
    (pod, wire)
}

/// What an ADD may be told.
fn keys() -> [Value; 3] {
    [json!({}), json!({"addSourceHints": true}), json!({"table": 5000})]
}

#[test]
fn a_failed_add_puts_everything_back() {
    case(|bed| {
        for (number, keys) in keys().into_iter().enumerate() {
            let (pod, wire) = pod(bed, &format!("pod{number}"));
            let (before, network) = (pod.routing(), wire.chained(bed, "sbr", &keys));
            for (call, error) in
                [("sendto", "ENOBUFS"), ("recvfrom", "ENOBUFS"), ("write", "EPIPE")]
            {
                Fault::each(call, error, step(2), |fault| {
                    let add = network.call("ADD", "c1").netns(pod.path());
                    let (outcome, was_struck) = fault.strike_alone(bed, add);
                    if outcome.status.success() {
                        network.del(&pod, "c1").silent();
                    }
                    assert_eq!(pod.routing(), before, "{fault:?}: {outcome}");
                    was_struck
                });
            }
            network.add(&pod, "c1").success();
            network.check(&pod, "c1").silent();
        }
    });
}

#[test]
fn a_killed_add_is_repaired_by_del() {
    case(|bed| {
        for (number, keys) in keys().into_iter().enumerate() {
            let (pod, wire) = pod(bed, &format!("pod{number}"));
            let (before, network) = (pod.routing(), wire.chained(bed, "sbr", &keys));
            let deaths = Death::every(step(3), |death| {
                let survived = death.spares(network.call("ADD", "c1").netns(pod.path()));
                if survived {
                    network.check(&pod, "c1").silent();
                }
                network.del(&pod, "c1").silent();
                assert_eq!(pod.routing(), before, "{death:?}");
                survived
            });
            assert!(deaths > 4, "it was hardly ever killed");
        }
    });
}

#[test]
fn a_killed_del_is_repeated() {
    case(|bed| {
        let (pod, wire) = pod(bed, "pod");
        let (before, network) = (pod.routing(), wire.chained(bed, "sbr", &json!({})));
        let deaths = Death::every(step(3), |death| {
            network.add(&pod, "c1").success();
            let survived = death.spares(network.again("DEL", "c1").netns(pod.path()));
            network.del(&pod, "c1").silent();
            assert_eq!(pod.routing(), before, "{death:?}");
            survived
        });
        assert!(deaths > 4, "it was hardly ever killed");
    });
}

#[test]
fn an_attachment_is_added_once() {
    case(|bed| {
        for (number, keys) in keys().into_iter().enumerate() {
            let (pod, wire) = pod(bed, &format!("pod{number}"));
            let network = wire.chained(bed, "sbr", &keys);
            network.add(&pod, "c1").success();
            let added = pod.routing();
            assert_ne!(network.add(&pod, "c1").error_code(), 0);
            assert_eq!(pod.routing(), added);
            network.check(&pod, "c1").silent();
        }
    });
}

/// Rounds of a race.
fn rounds() -> usize {
    12 / step(2)
}

#[test]
fn interfaces_that_come_at_once_have_tables_of_their_own() {
    case(|bed| {
        for round in 0..rounds() {
            let pod = bed.sandbox(&format!("pod{round}"));
            let wires: Vec<_> = (0..6)
                .map(|number| {
                    let own = format!("192.168.{number}.2/24");
                    let gateway = format!("192.168.{number}.1");
                    bed.wire(&pod, &format!("net{number}"), &[(&own, &gateway)])
                })
                .collect();
            let before = pod.routing();
            let networks: Vec<_> =
                wires.iter().map(|wire| wire.chained(bed, "sbr", &json!({}))).collect();
            let all = |verb: fn(&testbed::Network<'_>, &Sandbox)| {
                thread::scope(|scope| {
                    for network in &networks {
                        let pod = &pod;
                        scope.spawn(move || verb(network, pod));
                    }
                });
            };
            all(|network, pod| drop(network.add(pod, "c1").result()));
            let tables: BTreeSet<_> = pod.source_rules().into_iter().map(|(_, own)| own).collect();
            assert_eq!(tables.len(), networks.len(), "{tables:?}");
            for network in &networks {
                network.check(&pod, "c1").silent();
            }
            all(|network, pod| network.del(pod, "c1").silent());
            assert_eq!(pod.routing(), before);
        }
    });
}

/// Both lock the same file.
#[test]
fn the_go_plugin_and_this_one_wait_for_each_other() {
    case(|bed| {
        for round in 0..rounds() {
            let pod = bed.sandbox(&format!("pod{round}"));
            let [one, two] = [1, 2].map(|number| {
                let ips = (format!("192.168.{number}.2/24"), format!("192.168.{number}.1"));
                let wire = bed.wire(&pod, &format!("net{number}"), &[(&ips.0, &ips.1)]);
                wire.chained(bed, "sbr", &json!({}))
            });
            thread::scope(|scope| {
                scope.spawn(|| {
                    let add = one.call("ADD", "c1").netns(pod.path()).env("PATH", SYSTEM_PATH);
                    add.program(format!("{REFERENCE}/sbr")).run().success();
                });
                scope.spawn(|| two.add(&pod, "c1").success().clone());
            });
            let tables: BTreeSet<_> = pod.source_rules().into_iter().map(|(_, own)| own).collect();
            assert_eq!(tables.len(), 2, "{tables:?}");
        }
    });
}
