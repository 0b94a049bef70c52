//! What limits leave behind: after DEL, after GC and after an ADD that failed, nothing.

use serde_json::{Value, json};
use testbed::{
    Fault, Sandbox, Snapshot, Testbed,
    bandwidth::{host_end, ifb, on_bridge, on_ptp, rates},
    chain::{Chain, with_result, with_valid},
    config::changed,
};

use crate::differences::case;

fn keys() -> Value {
    rates(8_000_000, 16_000_000)
}

/// A network with a limited pod, and another pod.
fn settled<'bed>(bed: &'bed Testbed) -> (Chain<'bed>, Sandbox, Snapshot) {
    let chain = on_bridge(bed, &keys());
    chain.add(&bed.sandbox("earlier"), "earlier");
    let before = bed.snapshot();
    (chain, bed.sandbox("pod"), before)
}

#[test]
fn del_undoes_add() {
    case(|bed| {
        let (chain, pod, before) = settled(bed);
        let result = chain.add(&pod, "c1");
        for _ in 0..2 {
            chain.del(&pod, "c1", &result);
            bed.assert_unchanged_since(&before);
        }
    });
}

#[test]
fn del_takes_the_limits_off_a_link_that_stays() {
    case(|bed| {
        let (chain, pod, _) = settled(bed);
        for _ in 0..2 {
            let result = chain.run("ADD", &chain.plugins[0], &pod, "c1").result();
            let before = bed.snapshot();
            let result =
                chain.run("ADD", &with_result(&chain.plugins[1], &result), &pod, "c1").result();
            chain.run("DEL", &with_result(&chain.plugins[1], &result), &pod, "c1").silent();
            bed.assert_unchanged_since(&before);
            let end = host_end(&result);
            assert!(bed.bucket(&end).is_none() && bed.redirects(&end).is_empty());
            chain.run("DEL", &with_result(&chain.plugins[0], &result), &pod, "c1").silent();
        }
    });
}

#[test]
fn del_needs_neither_namespace_nor_result_nor_sense() {
    case(|bed| {
        let (chain, pod, before) = settled(bed);
        for changes in [
            json!({}),
            json!({"ingressBurst": 0}),
            json!({"egressRate": "fast", "runtimeConfig": 7}),
            json!({"ingressRate": null, "egressRate": null}),
            json!({"shapedSubnets": ["x"]}),
        ] {
            chain.add(&pod, "c1");
            let config = changed(chain.plugins[1].clone(), &changes);
            bed.call("DEL", "c1", &config).run().silent();
            chain.run("DEL", &chain.plugins[0], &pod, "c1").silent();
            bed.assert_unchanged_since(&before);
        }
        chain.add(&pod, "c1");
        bed.destroy(&pod);
        assert_ne!(bed.snapshot(), before, "the kernel does not delete it");
        chain.del(&pod, "c1", &Value::Null);
        bed.assert_unchanged_since(&before);
    });
}

#[test]
fn each_interface_of_a_container_has_limits_of_its_own() {
    case(|bed| {
        let (chain, pod, before) = settled(bed);
        let call = |verb: &str, ifname: &str, plugin: &Value| {
            bed.call(verb, "c1", plugin).ifname(ifname).netns(pod.path()).run()
        };
        let results = ["eth0", "eth1"].map(|ifname| {
            let result = call("ADD", ifname, &chain.plugins[0]).result();
            call("ADD", ifname, &with_result(&chain.plugins[1], &result)).result()
        });
        let [first, second] = results.each_ref().map(|result| ifb(result).unwrap());
        assert_ne!(first, second);
        for (result, ifname) in results.iter().zip(["eth0", "eth1"]) {
            call("CHECK", ifname, &with_result(&chain.plugins[1], result)).silent();
        }
        for (ifname, own, other) in [("eth0", &first, Some(&second)), ("eth1", &second, None)] {
            call("DEL", ifname, &chain.plugins[1]).silent();
            assert!(!bed.has_link(own) && other.is_none_or(|other| bed.has_link(other)));
        }
        for ifname in ["eth0", "eth1"] {
            call("DEL", ifname, &chain.plugins[0]).silent();
        }
        bed.assert_unchanged_since(&before);
    });
}

#[test]
fn limits_are_set_once() {
    case(|bed| {
        for keys in [
            keys(),
            json!({"ingressRate": 8_000_000, "ingressBurst": 80_000}),
            json!({"egressRate": 8_000_000, "egressBurst": 80_000}),
        ] {
            let (chain, pod) = (on_ptp(bed, &keys), bed.sandbox("pod"));
            let first = chain.run("ADD", &chain.plugins[0], &pod, "c1").result();
            let config = with_result(&chain.plugins[1], &first);
            let result = chain.run("ADD", &config, &pod, "c1").result();
            let before = bed.snapshot();
            let error = chain.run("ADD", &config, &pod, "c1").error();
            assert!(format!("{error:?}").contains("DEL it first"), "{error:?}");
            bed.assert_unchanged_since(&before);
            chain.check(&pod, "c1", &result);
            chain.del(&pod, "c1", &result);
            bed.destroy(&pod);
        }
    });
}

#[test]
fn a_failed_add_leaves_nothing_whatever_it_failed_for() {
    case(|bed| {
        let (chain, pod, _) = settled(bed);
        let result = chain.run("ADD", &chain.plugins[0], &pod, "c1").result();
        let (before, end) = (bed.snapshot(), host_end(&result));
        let config = with_result(&chain.plugins[1], &result);
        let mut failures = 0;
        for call in ["sendto", "recvfrom"] {
            Fault::each(call, "ENOMEM", 1, |fault| {
                let call = |verb: &str| bed.call(verb, "c1", &config).netns(pod.path());
                let (outcome, was_struck) = fault.strike_alone(bed, call("ADD"));
                if outcome.status.success() {
                    call("DEL").run().silent();
                } else {
                    failures += 1;
                    assert!(bed.qdiscs(&end).is_empty() || bed.redirects(&end).is_empty());
                }
                bed.assert_unchanged_since(&before);
                assert!(bed.bucket(&end).is_none(), "{fault:?}");
                was_struck
            });
        }
        assert!(failures > 10, "it hardly ever failed: {failures}");
    });
}

#[test]
fn gc_deletes_what_belongs_to_nobody() {
    case(|bed| {
        let (chain, pod, before) = settled(bed);
        let chain = Chain::new(
            bed,
            chain
                .plugins
                .iter()
                .map(|plugin| changed(plugin.clone(), &json!({"cniVersion": "1.1.0"})))
                .collect::<Vec<_>>(),
        );
        let result = chain.add(&pod, "c1");
        let both = bed.snapshot();
        chain.gc(&["earlier", "c1"]);
        bed.assert_unchanged_since(&both);
        // As long as it is so young that the list may be older, and its link is there.
        let own = with_valid(&chain.plugins[1], &["earlier"]);
        bed.plugin("bandwidth").command("GC").config(&own).run().silent();
        bed.assert_unchanged_since(&both);
        bed.destroy(&pod);
        let name = ifb(&result).unwrap();
        assert!(bed.has_link(&name));
        // Those of other networks stay.
        let other = changed(own, &json!({"name": "other"}));
        bed.plugin("bandwidth").command("GC").config(&other).run().silent();
        assert!(bed.has_link(&name));
        chain.gc(&["earlier"]);
        bed.assert_unchanged_since(&before);
    });
}

#[test]
fn status_has_nothing_against_it() {
    case(|bed| {
        let config = json!({"cniVersion": "1.1.0"});
        let chain = on_bridge(bed, &changed(keys(), &config));
        let own = changed(chain.plugins[1].clone(), &config);
        bed.network(own.clone()).status().silent();
        let wrong = changed(own, &json!({"egressBurst": 0}));
        bed.network(wrong).status().fails_with(7, "burst");
    });
}
