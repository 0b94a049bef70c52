//! An ADD or DEL of a bridge that does not hear what the kernel has done, or is not heard: its links
//! are rolled back, and a DEL can be repeated.

use serde_json::{Value, json};
use testbed::{
    Call, Fault, Sandbox, Testbed,
    config::{self, changed},
    step,
};

use crate::differences::case;

/// Answers that are lost after the kernel has acted, and questions that never get there.
const FAULTS: [(&str, &str); 4] =
    [("recvfrom", "ENOBUFS"), ("recvfrom", "ENOMEM"), ("sendto", "ENOBUFS"), ("sendto", "ENOMEM")];

fn call<'bed>(bed: &'bed Testbed, verb: &str, config: &Value, pod: &Sandbox) -> Call<'bed> {
    bed.call(verb, "c1", config).netns(pod.path())
}

/// On a host where what is shared is there, a failed ADD leaves nothing, and nothing is in the way
/// of another one.
fn add_leaves_nothing(bed: &Testbed, config: &Value) {
    bed.network(config.clone()).add(&bed.sandbox("first"), "first").success();
    let (before, pod) = (bed.snapshot(), bed.sandbox("pod"));
    let mut failures = 0;
    for (name, error) in FAULTS {
        let all = Fault::each(name, error, step(4), |fault| {
            let (outcome, was_struck) = fault.strike(bed, call(bed, "ADD", config, &pod));
            if outcome.status.success() {
                call(bed, "DEL", config, &pod).run().silent();
            } else {
                failures += 1;
                assert!(!outcome.error().msg.is_empty(), "{fault:?}: {outcome}");
                assert!(pod.has_only_lo(), "{fault:?}: {outcome}");
            }
            println!("{fault:?}");
            bed.assert_unchanged_since(&before);
            was_struck
        });
        println!("{name}, {error}: {all} calls");
    }
    assert!(failures > 8, "it hardly ever failed");
    call(bed, "ADD", config, &pod).run().success();
    call(bed, "DEL", config, &pod).run().silent();
    bed.assert_unchanged_since(&before);
}

#[test]
fn an_add_leaves_nothing() {
    case(|bed| add_leaves_nothing(bed, &config::pods_with(&json!({"macspoofchk": true}))));
}

#[test]
fn an_add_to_a_switch_leaves_nothing() {
    case(|bed| {
        let keys = json!({"isGateway": false, "ipam": {}, "hairpinMode": true});
        add_leaves_nothing(bed, &config::bridge(&keys));
    });
}

/// What is shared may stay: the bridge, forwarding, the packet filter's rules.
#[test]
fn the_first_add_of_all_leaves_no_link_and_no_lease() {
    case(|bed| {
        let (config, pod) = (config::pods_with(&json!({"macspoofchk": true})), bed.sandbox("pod"));
        for (name, error) in FAULTS {
            Fault::each(name, error, step(4), |fault| {
                let (outcome, was_struck) = fault.strike(bed, call(bed, "ADD", &config, &pod));
                if outcome.status.success() {
                    call(bed, "DEL", &config, &pod).run().silent();
                }
                assert!(pod.has_only_lo(), "{fault:?}: {outcome}");
                assert!(!bed.ip("-o link").contains(" veth"), "{fault:?}: {}", bed.ip("-o link"));
                assert!(bed.leases("pods").is_empty(), "{fault:?}: {outcome}");
                let ruleset = bed.succeed("nft", &["list", "ruleset"]);
                assert!(!ruleset.contains("pods c1 eth0"), "{fault:?}: {ruleset}");
                bed.run("ip", &["link", "del", "br0"]);
                bed.succeed("nft", &["flush", "ruleset"]);
                bed.set_sysctl("net/ipv4/ip_forward", "0");
                was_struck
            });
        }
    });
}

#[test]
fn a_del_is_repeated() {
    case(|bed| {
        let config = changed(config::pods(), &json!({"macspoofchk": true}));
        bed.network(config.clone()).add(&bed.sandbox("first"), "first").success();
        let (before, pod) = (bed.snapshot(), bed.sandbox("pod"));
        for (name, error) in FAULTS {
            Fault::each(name, error, step(4), |fault| {
                call(bed, "ADD", &config, &pod).run().success();
                let (outcome, was_struck) = fault.strike(bed, call(bed, "DEL", &config, &pod));
                if outcome.status.success() {
                    assert!(pod.has_only_lo(), "{fault:?}: {outcome}");
                    bed.assert_unchanged_since(&before);
                } else {
                    assert!(!outcome.error().msg.is_empty(), "{fault:?}: {outcome}");
                    call(bed, "DEL", &config, &pod).run().silent();
                    assert!(pod.has_only_lo(), "{fault:?}: {outcome}");
                    bed.assert_unchanged_since(&before);
                }
                was_struck
            });
        }
    });
}
