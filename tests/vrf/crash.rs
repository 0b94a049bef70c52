//! ADDs to a VRF that fail, are killed, repeated, or run beside others; and DEL, whatever is still known.

use std::thread;

use serde_json::{Value, json};
use testbed::{
    Death, Fault, REFERENCE, SYSTEM_PATH, Sandbox, config::changed, kernel::Feature,
    later_reference, step,
};

use crate::differences::case_on;

const VRF: &[Feature] = &[Feature::Vrf];

const DUAL: [(&str, &str); 2] =
    [("192.168.1.209/24", "192.168.1.1"), ("2001:db8:1::209/64", "2001:db8:1::1")];

fn blue() -> Value {
    json!({"vrfname": "blue"})
}

/// What the kernel adds with the first VRF, and keeps.
fn routing(pod: &Sandbox) -> Vec<String> {
    let lines = pod.routing().into_iter();
    lines.filter(|line| !line.contains("l3mdev") && !line.contains("unreachable")).collect()
}

#[test]
fn a_failed_add_puts_everything_back() {
    case_on(VRF, |bed| {
        for (call, error) in [("sendto", "ENOBUFS"), ("recvfrom", "EIO")] {
            Fault::each(call, error, step(2), |fault| {
                let pod = bed.sandbox("pod");
                let wire = bed.wire(&pod, "net1", &DUAL);
                pod.ip("route add default via 192.168.1.1");
                pod.ip("-6 route add default via 2001:db8:1::1");
                let (before, network) = (routing(&pod), wire.chained(bed, "vrf", &blue()));
                let add = network.call("ADD", "c1").netns(pod.path());
                let (outcome, was_struck) = fault.strike_alone(bed, add);
                if !outcome.status.success() {
                    assert!(!pod.has_link("blue"), "{fault:?}: {outcome}");
                    assert_eq!(routing(&pod), before, "{fault:?}: {outcome}");
                    network.add(&pod, "c1").success();
                }
                network.call("CHECK", "c1").netns(pod.path()).run().silent();
                for place in [&pod, &wire.router] {
                    place.destroy();
                }
                was_struck
            });
        }
    });
}

#[test]
fn what_was_killed_is_gone_after_del() {
    case_on(VRF, |bed| {
        for verb in ["ADD", "DEL"] {
            let mut number = 0;
            let deaths = Death::every(step(4), |death| {
                number += 1;
                let pod = bed.sandbox(&format!("{verb}{number}"));
                let wire = bed.wire(&pod, "net1", &DUAL);
                let network = wire.chained(bed, "vrf", &blue());
                if verb == "DEL" {
                    network.add(&pod, "c1").success();
                }
                let survived = death.spares(network.call(verb, "c1").netns(pod.path()));
                network.del(&pod, "c1").silent();
                assert!(!pod.has_link("blue"), "{death:?}");
                assert!(pod.link("net1")["master"].is_null(), "{death:?}");
                network.add(&pod, "c1").success();
                network.check(&pod, "c1").silent();
                for place in [&pod, &wire.router] {
                    place.destroy();
                }
                survived
            });
            assert!(deaths > 3, "it was hardly ever killed");
        }
    });
}

#[test]
fn interfaces_come_and_go_at_once() {
    case_on(VRF, |bed| {
        for round in 0..12 / step(3) {
            let pod = bed.sandbox(&format!("pod{round}"));
            let wires: Vec<_> = (0..6)
                .map(|number| {
                    let (own, gateway) =
                        (format!("10.0.{number}.2/24"), format!("10.0.{number}.1"));
                    bed.wire(&pod, &format!("net{number}"), &[(&own, &gateway)])
                })
                .collect();
            // Two share each VRF.
            let networks: Vec<_> = wires
                .iter()
                .enumerate()
                .map(|(number, wire)| {
                    let keys = json!({"vrfname": format!("vrf{}", number / 2)});
                    wire.chained(bed, "vrf", &keys)
                })
                .collect();
            thread::scope(|scope| {
                for network in &networks {
                    scope.spawn(|| drop(network.add(&pod, "c1").result()));
                }
            });
            let vrfs = pod.ip_json("-d link show type vrf");
            let table = |vrf: &Value| vrf["linkinfo"]["info_data"]["table"].as_u64();
            let mut tables: Vec<_> = vrfs.as_array().unwrap().iter().map(table).collect();
            tables.sort_unstable();
            assert_eq!(tables, [Some(1), Some(2), Some(3)]);
            // While one of each pair goes, another comes.
            thread::scope(|scope| {
                for network in networks.iter().step_by(2) {
                    scope.spawn(|| {
                        for _ in 0..3 {
                            network.del(&pod, "c1").silent();
                            network.add(&pod, "c1").success();
                        }
                        network.del(&pod, "c1").silent();
                    });
                }
            });
            for network in networks.iter().skip(1).step_by(2) {
                network.check(&pod, "c1").silent();
            }
            thread::scope(|scope| {
                for network in &networks {
                    scope.spawn(|| network.del(&pod, "c1").silent());
                }
            });
            assert_eq!(pod.ip("-o link show type vrf"), "");
        }
    });
}

#[test]
fn del_is_complete_whatever_is_still_known() {
    case_on(VRF, |bed| {
        let edits = [
            json!({"vrfname": "red"}),
            json!({"vrfname": null}),
            json!({"vrfname": 7}),
            json!({"table": "broken"}),
            json!({"prevResult": null}),
        ];
        for (number, edit) in edits.into_iter().enumerate() {
            let pod = bed.sandbox(&format!("pod{number}"));
            let network = bed.wire(&pod, "net1", &DUAL).chained(bed, "vrf", &blue());
            network.add(&pod, "c1").success();
            let config = changed(network.config().clone(), &edit);
            let del = network.call("DEL", "c1").config(&config);
            del.clone().netns(pod.path()).run().silent();
            assert!(!pod.has_link("blue"), "{edit}");
            del.clone().netns(pod.path()).run().silent();
            pod.destroy();
            del.clone().netns(pod.path()).run().silent();
            del.run().silent();
        }
        // The interface is gone already.
        let pod = bed.sandbox("pod");
        let network = bed.wire(&pod, "net1", &DUAL).chained(bed, "vrf", &blue());
        network.add(&pod, "c1").success();
        pod.ip("link del net1");
        network.del(&pod, "c1").silent();
        assert!(!pod.has_link("blue"));
    });
}

#[test]
fn either_plugin_deletes_what_the_other_has_made() {
    case_on(VRF, |bed| {
        for (number, dir) in [REFERENCE].into_iter().chain(later_reference()).enumerate() {
            let pod = bed.sandbox(&format!("pod{number}"));
            let network = bed.wire(&pod, "net1", &DUAL).chained(bed, "vrf", &blue());
            let theirs = |verb: &str| {
                let call = network.again(verb, "c1").netns(pod.path()).env("PATH", SYSTEM_PATH);
                call.program(format!("{dir}/vrf")).run()
            };
            theirs("ADD").success();
            network.check(&pod, "c1").silent();
            network.del(&pod, "c1").silent();
            assert!(!pod.has_link("blue"));
            network.add(&pod, "c1").success();
            theirs("CHECK").silent();
            theirs("DEL").silent();
            assert!(!pod.has_link("blue"));
        }
    });
}
