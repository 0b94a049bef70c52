//! Interfaces on the LAN in a hurry, killed half way, and beside those of the Go plugins.

use serde_json::{Value, json};
use testbed::{
    Death, Network, Outcome, REFERENCE, SYSTEM_PATH, Sandbox, Testbed,
    attachment::macvlan,
    config::changed,
    crowd::{add_all, assert_distinct, del_all, sandboxes},
    later_reference,
    reach::seen,
    result::addresses,
};

use crate::differences::case;

/// Runs a plugin, which is killed: whether it got to its end.
fn survives(network: &Network<'_>, pod: &Sandbox, verb: &str, death: Death) -> bool {
    let call = network.call(verb, "c1").netns(pod.path());
    death.spares(call.env("PATH", SYSTEM_PATH))
}

#[test]
fn a_killed_add_is_cleaned_up_by_one_del() {
    case(|bed| {
        let (neighbour, network) = (bed.neighbour(), bed.network(macvlan(&json!({}))));
        let earlier = bed.sandbox("earlier");
        network.add(&earlier, "earlier").success();
        let before = bed.snapshot();
        let deaths = Death::each(|death| {
            let pod = bed.sandbox("pod");
            let survived = survives(&network, &pod, "ADD", death);
            if survived {
                assert_eq!(seen(&neighbour, &earlier, "203.0.113.10"), "203.0.113.2", "{death:?}");
            }
            network.call("DEL", "c1").netns(pod.path()).run().silent();
            assert!(pod.has_only_lo(), "{death:?}: {}", pod.ip("link"));
            bed.assert_unchanged_since(&before);
            pod.destroy();
            survived
        });
        assert!(deaths > 15, "it was hardly ever killed");
        network.check(&earlier, "earlier").silent();
    });
}

#[test]
fn a_killed_add_costs_no_address_when_its_namespace_is_gone() {
    case(|bed| {
        let _neighbour = bed.neighbour();
        let network = bed.network(macvlan(&json!({})));
        network.add(&bed.sandbox("earlier"), "earlier").success();
        let deaths = Death::each(|death| {
            let pod = bed.sandbox("pod");
            let survived = survives(&network, &pod, "ADD", death);
            pod.destroy();
            network.call("DEL", "c1").netns("").run().silent();
            let owners: Vec<_> = bed.leases("segment").into_values().collect();
            assert_eq!(owners, ["earlier eth0"; 2], "{death:?}");
            survived
        });
        assert!(deaths > 15, "it was hardly ever killed");
    });
}

#[test]
fn a_killed_del_is_repeated() {
    case(|bed| {
        let _neighbour = bed.neighbour();
        let (network, pod) = (bed.network(macvlan(&json!({}))), bed.sandbox("pod"));
        network.add(&bed.sandbox("earlier"), "earlier").success();
        let before = bed.snapshot();
        let deaths = Death::each(|death| {
            network.add(&pod, "c1").success();
            let survived = survives(&network, &pod, "DEL", death);
            network.del(&pod, "c1").silent();
            assert!(pod.has_only_lo(), "{death:?}: {}", pod.ip("link"));
            bed.assert_unchanged_since(&before);
            survived
        });
        assert!(deaths > 6, "it was hardly ever killed");
    });
}

#[test]
fn a_hundred_at_once_are_on_the_lan() {
    case(|bed| {
        let neighbour = bed.neighbour();
        let (before, network) = (bed.snapshot(), bed.network(macvlan(&json!({}))));
        let pods = sandboxes(bed, 100);
        let all = add_all(&network, &pods);
        assert_distinct(&all, 200);
        for ((pod, id), own) in pods.iter().zip(all.chunks(2)) {
            network.check(pod, id).silent();
            assert_eq!(seen(&neighbour, pod, &own[0]), "203.0.113.2");
        }
        assert_eq!(seen(&pods[99].0, &pods[0].0, &all[1]), all[199]);
        del_all(&network, &pods);
        bed.assert_unchanged_since(&before);
    });
}

/// The directories of the Go plugins that are on this machine.
fn theirs() -> Vec<&'static str> {
    [REFERENCE].into_iter().chain(later_reference()).collect()
}

fn run(bed: &Testbed, dir: &str, verb: &str, pod: &Sandbox, config: &Value) -> Outcome {
    let call = bed.plugin("macvlan").program(format!("{dir}/macvlan")).command(verb);
    call.container("c1").ifname("eth0").netns(pod.path()).cni_path(dir).config(config).run()
}

#[test]
fn del_and_check_of_ours_know_what_theirs_have_made() {
    for dir in theirs() {
        case(|bed| {
            let (neighbour, before) = (bed.neighbour(), bed.snapshot());
            for is_told in [true, false] {
                let (pod, config) = (bed.sandbox("pod"), macvlan(&json!({})));
                let result = run(bed, dir, "ADD", &pod, &config).result();
                assert_eq!(seen(&neighbour, &pod, &addresses(&result)[0]), "203.0.113.2");
                let config = changed(config, &json!({"prevResult": is_told.then_some(&result)}));
                let call = |verb: &str| {
                    let call = bed.plugin("macvlan").command(verb).container("c1").ifname("eth0");
                    call.netns(pod.path()).config(&config).run().silent();
                };
                if is_told {
                    call("CHECK");
                }
                call("DEL");
                call("DEL");
                assert!(pod.has_only_lo());
                // The neighbour's own lease directory aside, which nobody has but host-local.
                assert!(bed.leases("segment").is_empty() && bed.lease_files("segment").is_empty());
                assert_eq!(bed.link("lan")["promiscuity"], 0);
                pod.destroy();
            }
            assert_eq!(before.lines("link ").count(), bed.snapshot().lines("link ").count());
        });
    }
}

#[test]
fn del_of_theirs_removes_what_ours_have_made() {
    for dir in theirs() {
        case(|bed| {
            let (_neighbour, pod) = (bed.neighbour(), bed.sandbox("pod"));
            let network = bed.network(macvlan(&json!({})));
            let result = network.add(&pod, "c1").result();
            let config = changed(network.config().clone(), &json!({"prevResult": result}));
            run(bed, dir, "DEL", &pod, &config).silent();
            assert!(pod.has_only_lo() && bed.lease_files("segment").is_empty());
            network.add(&pod, "c1").success();
            network.del(&pod, "c1").silent();
            assert!(bed.leases("segment").is_empty());
        });
    }
}
