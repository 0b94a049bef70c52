//! Limits beside those of the Go plugin, which does not say whose they are.

use serde_json::Value;
use testbed::{
    Outcome, REFERENCE, SYSTEM_PATH, Sandbox, Testbed,
    bandwidth::{host_end, ifb, on_bridge, on_ptp, rates},
    chain::with_result,
    later_reference,
    reach::seen,
    result::addresses,
};

use crate::differences::case;

fn keys() -> Value {
    rates(8_000_000, 16_000_000)
}

/// The directories of the Go plugins that are on this machine.
fn theirs() -> Vec<&'static str> {
    [REFERENCE].into_iter().chain(later_reference()).collect()
}

fn run(bed: &Testbed, dir: &str, verb: &str, pod: &Sandbox, config: &Value) -> Outcome {
    let plugin = config["type"].as_str().unwrap();
    let call = bed.call(verb, "c1", config).program(format!("{dir}/{plugin}"));
    call.netns(pod.path()).cni_path(dir).env("PATH", SYSTEM_PATH).run()
}

#[test]
fn del_and_check_of_ours_know_what_theirs_have_made() {
    for dir in theirs() {
        case(|bed| {
            let (chain, pod) = (on_bridge(bed, &keys()), bed.sandbox("pod"));
            for is_told in [true, false] {
                let before = bed.snapshot();
                let result = chain.run("ADD", &chain.plugins[0], &pod, "c1").result();
                let config = with_result(&chain.plugins[1], &result);
                let result = run(bed, dir, "ADD", &pod, &config).result();
                assert!(ifb(&result).is_some());
                let told = if is_told { result.clone() } else { Value::Null };
                if is_told {
                    chain.check(&pod, "c1", &result);
                    assert_ne!(chain.run("ADD", &config, &pod, "c1").error_code(), 0);
                    chain.check(&pod, "c1", &result);
                }
                chain.del(&pod, "c1", &told);
                chain.del(&pod, "c1", &told);
                let links = |snapshot: &testbed::Snapshot| snapshot.lines("link \"bwp").count();
                assert_eq!((links(&before), links(&bed.snapshot())), (0, 0));
            }
        });
    }
}

#[test]
fn check_and_del_of_theirs_know_what_ours_have_made() {
    for dir in theirs() {
        case(|bed| {
            let (chain, pod) = (on_bridge(bed, &keys()), bed.sandbox("pod"));
            let result = chain.add(&pod, "c1");
            let config = with_result(&chain.plugins[1], &result);
            run(bed, dir, "CHECK", &pod, &config).silent();
            run(bed, dir, "DEL", &pod, &config).silent();
            assert!(!bed.has_link(&ifb(&result).unwrap()));
            chain.del(&pod, "c1", &result);
        });
    }
}

#[test]
fn their_limits_of_another_interface_stay() {
    for dir in theirs() {
        case(|bed| {
            let (chain, pod) = (on_bridge(bed, &keys()), bed.sandbox("pod"));
            let result = chain.run("ADD", &chain.plugins[0], &pod, "c1").result();
            let config = with_result(&chain.plugins[1], &result);
            let their_own = ifb(&run(bed, dir, "ADD", &pod, &config).result()).unwrap();
            let call = |verb: &str, plugin: &Value| {
                bed.call(verb, "c1", plugin).ifname("eth1").netns(pod.path()).run()
            };
            let result = call("ADD", &chain.plugins[0]).result();
            let result = call("ADD", &with_result(&chain.plugins[1], &result)).result();
            let own = ifb(&result).unwrap();
            assert_ne!(own, their_own);
            call("DEL", &with_result(&chain.plugins[1], &result)).silent();
            // Its result tells that the other one is not its own.
            call("DEL", &with_result(&chain.plugins[1], &result)).silent();
            assert!(bed.has_link(&their_own) && !bed.has_link(&own));
        });
    }
}

#[test]
fn without_a_result_theirs_of_another_interface_stay() {
    for dir in theirs() {
        case(|bed| {
            let (chain, pod) = (on_bridge(bed, &keys()), bed.sandbox("pod"));
            let result = run(bed, dir, "ADD", &pod, &chain.plugins[0]).result();
            let config = with_result(&chain.plugins[1], &result);
            let result = run(bed, dir, "ADD", &pod, &config).result();
            let (own, end) = (ifb(&result).unwrap(), host_end(&result));
            let call = |verb: &str| {
                bed.call(verb, "c1", &chain.plugins[0]).ifname("eth1").netns(pod.path())
            };
            call("ADD").run().success();
            for path in [pod.path(), "", "/run/netns/nowhere"] {
                let del = bed.call("DEL", "c1", &chain.plugins[1]).ifname("eth1");
                del.netns(path).run().silent();
                assert!(bed.has_link(&own) && bed.redirects(&end).contains(&own), "{path:?}");
            }
            // That of this interface is told by what is redirected to it.
            chain.run("DEL", &chain.plugins[1], &pod, "c1").silent();
            assert!(!bed.has_link(&own) && bed.redirects(&end).is_empty());
        });
    }
}

#[test]
fn theirs_of_a_pod_that_is_gone_go() {
    for dir in theirs() {
        case(|bed| {
            let (chain, pod) = (on_bridge(bed, &keys()), bed.sandbox("pod"));
            let result = run(bed, dir, "ADD", &pod, &chain.plugins[0]).result();
            let config = with_result(&chain.plugins[1], &result);
            let own = ifb(&run(bed, dir, "ADD", &pod, &config).result()).unwrap();
            bed.destroy(&pod);
            chain.run("DEL", &chain.plugins[1], &pod, "c1").silent();
            assert!(!bed.has_link(&own));
        });
    }
}

/// Theirs deletes the link, and leaves the filter, with which the kernel drops every packet.
#[test]
fn what_a_del_of_theirs_has_left_loses_no_packets() {
    for dir in theirs() {
        case(|bed| {
            bed.ip("addr add 203.0.113.8/32 dev lo");
            for is_ours in [true, false] {
                let (chain, pod) = (on_ptp(bed, &keys()), bed.sandbox("pod"));
                let first = chain.run("ADD", &chain.plugins[0], &pod, "c1").result();
                let config = with_result(&chain.plugins[1], &first);
                let (own, end) = (addresses(&first), host_end(&first));
                let add_and_del = || {
                    let result = if is_ours {
                        chain.run("ADD", &config, &pod, "c1").result()
                    } else {
                        run(bed, dir, "ADD", &pod, &config).result()
                    };
                    let config = with_result(&chain.plugins[1], &result);
                    run(bed, dir, "DEL", &pod, &config).silent();
                    assert!(!bed.tc(&format!("filter show dev {end} ingress")).is_empty());
                    config
                };
                let told = add_and_del();
                chain.run("DEL", &told, &pod, "c1").silent();
                assert_eq!(seen(&pod, bed, "203.0.113.8"), own[0], "{is_ours}");
                let clear = |hook: &str| drop(bed.run("tc", &["qdisc", "del", "dev", &end, hook]));
                // Theirs takes no link that has any of these.
                ["root", "ingress"].iter().for_each(|hook| clear(hook));
                add_and_del();
                clear("root");
                let result = chain.run("ADD", &config, &pod, "c1").result();
                chain.check(&pod, "c1", &result);
                assert_eq!(seen(&pod, bed, "203.0.113.8"), own[0], "{is_ours}");
                chain.del(&pod, "c1", &result);
                pod.destroy();
            }
        });
    }
}
