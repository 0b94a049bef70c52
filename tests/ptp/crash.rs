//! Pair in a hurry: plugins that are killed before each system call, and a hundred at once.

use serde_json::{Value, json};
use testbed::{
    Death, Network, SYSTEM_PATH, Sandbox, Testbed,
    attachment::ptp,
    crowd::{add_all, assert_distinct, del_all, sandboxes},
    reach::seen,
};

use crate::differences::case;

fn config(version: &str) -> Value {
    ptp(&json!({"ipMasq": true, "cniVersion": version}))
}

/// Runs a plugin, which is killed: whether it got to its end.
fn survives(network: &Network<'_>, pod: &Sandbox, verb: &str, death: Death) -> bool {
    let call = network.call(verb, "c1").netns(pod.path());
    death.spares(call.env("PATH", SYSTEM_PATH))
}

/// Kills ADD before each of its calls, and lets `clean` do what the runtime would.
fn kill_add(bed: &Testbed, config: Value, clean: impl Fn(&Network<'_>, &Sandbox)) {
    let (neighbour, network) = (bed.neighbour(), bed.network(config));
    let earlier = bed.sandbox("earlier");
    network.add(&earlier, "earlier").success();
    bed.settle();
    let before = bed.snapshot();
    let deaths = Death::each(|death| {
        let pod = bed.sandbox("pod");
        let survived = survives(&network, &pod, "ADD", death);
        if survived {
            bed.settle();
            assert_eq!(seen(&pod, &neighbour, "203.0.113.2"), "203.0.113.1", "{death:?}");
        }
        clean(&network, &pod);
        bed.assert_unchanged_since(&before);
        bed.succeed("rm", &["-f", pod.path()]);
        survived
    });
    assert!(deaths > 20, "it was hardly ever killed");
    assert_eq!(seen(&earlier, &neighbour, "2001:db8:ffff::2"), "2001:db8:ffff::1");
    network.check(&earlier, "earlier").silent();
}

#[test]
fn a_killed_add_is_cleaned_up_by_one_del() {
    case(|bed| {
        kill_add(bed, config("1.0.0"), |network, pod| {
            network.call("DEL", "c1").netns(pod.path()).run().silent();
            assert!(pod.has_only_lo(), "{}", pod.ip("link"));
            pod.destroy();
        });
    });
}

#[test]
fn a_killed_add_is_cleaned_up_when_its_namespace_is_gone() {
    case(|bed| {
        kill_add(bed, config("1.0.0"), |network, pod| {
            bed.destroy(pod);
            network.call("DEL", "c1").netns("").run().silent();
        });
    });
}

#[test]
fn a_killed_add_is_cleaned_up_by_gc() {
    case(|bed| {
        kill_add(bed, config("1.1.0"), |network, pod| {
            network.gc(&["earlier"]).silent();
            assert!(pod.has_only_lo(), "{}", pod.ip("link"));
            pod.destroy();
        });
    });
}

#[test]
fn a_killed_del_is_repeated() {
    case(|bed| {
        let (network, pod) = (bed.network(config("1.0.0")), bed.sandbox("pod"));
        network.add(&bed.sandbox("earlier"), "earlier").success();
        bed.settle();
        let before = bed.snapshot();
        let deaths = Death::each(|death| {
            network.add(&pod, "c1").success();
            let survived = survives(&network, &pod, "DEL", death);
            network.del(&pod, "c1").silent();
            assert!(pod.has_only_lo(), "{death:?}: {}", pod.ip("link"));
            bed.assert_unchanged_since(&before);
            survived
        });
        assert!(deaths > 8, "it was hardly ever killed");
    });
}

#[test]
fn a_hundred_at_once_get_a_pair_each() {
    case(|bed| {
        let network = bed.network(ptp(&json!({})));
        let pods = sandboxes(bed, 100);
        let all = add_all(&network, &pods);
        assert_distinct(&all, 200);
        bed.settle();
        for ((pod, id), own) in pods.iter().zip(all.chunks(2)) {
            network.check(pod, id).silent();
            assert_eq!(seen(pod, bed, "10.1.0.1"), own[0]);
            assert_eq!(seen(pod, bed, "fd00:1::1"), own[1]);
        }
        assert_eq!(seen(&pods[99].0, &pods[0].0, &all[0]), all[198]);
        del_all(&network, &pods);
        assert!(bed.has_only_lo() && bed.leases("links").is_empty());
        assert_eq!(bed.route_lines("-4"), [""; 0]);
    });
}
