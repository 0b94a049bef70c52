//! A plugin that is killed, before each of its system calls that matter.

use serde_json::{Value, json};
use testbed::{
    Death, SYSTEM_PATH, Sandbox, Testbed, bin_dir, config, firewall::Chain,
    iptables::drop_forwarded, reach::seen_by_tcp, step, warm::Warm,
};

use crate::differences::{case, case_each};

/// Runs a plugin, which is killed: whether it got to its end.
fn survives(bed: &Testbed, pod: &Sandbox, verb: &str, config: &Value, death: Death) -> bool {
    death.spares(bed.call(verb, "c1", config).netns(pod.path()).env("PATH", SYSTEM_PATH))
}

/// What each plugin leaves inside and outside when its ADD is killed: after DEL, nothing.
#[test]
fn whatever_add_was_killed_one_del_cleans_up() {
    case_each(|first| {
        first.add().success();
        first.call_del().run().silent();
        let before = first.bed.snapshot();
        let deaths = Death::every(step(4), |death| {
            let it = first.another();
            let inside = it.inside();
            let survived = death.spares(it.call("ADD"));
            it.call_del().run().silent();
            assert_eq!(it.inside(), inside, "{death:?}");
            it.leave();
            first.bed.assert_unchanged_since(&before);
            survived
        });
        assert!(deaths > 2, "it was hardly ever killed");
    });
}

#[test]
fn whatever_add_was_killed_del_cleans_up_when_the_namespace_is_gone() {
    case_each(|first| {
        first.add().success();
        first.call_del().run().silent();
        let before = first.bed.snapshot();
        Death::every(step(9), |death| {
            let it = first.another();
            let survived = death.spares(it.call("ADD"));
            it.vanish();
            first.bed.assert_back_to(&before);
            survived
        });
    });
}

#[test]
fn whatever_del_was_killed_can_be_repeated() {
    case_each(|first| {
        first.add().success();
        first.call_del().run().silent();
        let before = first.bed.snapshot();
        Death::every(step(4), |death| {
            let it = first.another();
            let inside = it.inside();
            it.add().success();
            let survived = death.spares(it.call_del());
            it.call_del().run().silent();
            assert_eq!(it.inside(), inside, "{death:?}");
            it.leave();
            first.bed.assert_unchanged_since(&before);
            survived
        });
    });
}

/// Kills ADD before each of its calls, and lets `clean` do what the runtime would.
fn kill_add(bed: &Testbed, config: Value, clean: impl Fn(&Warm<'_>, &Sandbox)) {
    let warm = Warm::new(bed, config);
    let before = bed.snapshot();
    let deaths = Death::each(|death| {
        let pod = bed.sandbox("pod");
        let survived = survives(bed, &pod, "ADD", warm.network.config(), death);
        if survived {
            warm.assert_connected(&pod);
        }
        clean(&warm, &pod);
        bed.assert_unchanged_since(&before);
        bed.succeed("rm", &["-f", pod.path()]);
        survived
    });
    assert!(deaths > 20, "it was hardly ever killed");
    warm.assert_connected(&warm.first);
}

#[test]
fn a_killed_add_is_cleaned_up_by_one_del() {
    case(|bed| {
        kill_add(bed, config::pods(), |warm, pod| {
            warm.network.call("DEL", "c1").netns(pod.path()).run().silent();
            assert!(pod.has_only_lo(), "{}", pod.ip("link"));
            pod.destroy();
        });
    });
}

#[test]
fn a_killed_add_is_cleaned_up_when_its_namespace_is_gone() {
    case(|bed| {
        kill_add(bed, config::pods(), |warm, pod| {
            bed.destroy(pod);
            warm.network.call("DEL", "c1").netns("").run().silent();
        });
    });
}

#[test]
fn a_killed_add_is_cleaned_up_by_gc_when_its_namespace_is_gone() {
    case(|bed| {
        kill_add(bed, config::pods_with(&json!({"cniVersion": "1.1.0"})), |warm, pod| {
            bed.destroy(pod);
            warm.network.gc(&["first"]).silent();
        });
    });
}

#[test]
fn a_killed_add_is_cleaned_up_by_gc_while_its_namespace_is_there() {
    case(|bed| {
        kill_add(bed, config::pods_with(&json!({"cniVersion": "1.1.0"})), |warm, pod| {
            warm.network.gc(&["first"]).silent();
            assert!(pod.has_only_lo(), "{}", pod.ip("link"));
            pod.destroy();
        });
    });
}

#[test]
fn a_killed_del_is_repeated() {
    case(|bed| {
        let warm = Warm::new(bed, config::pods());
        let pod = bed.sandbox("pod");
        let before = bed.snapshot();
        let deaths = Death::each(|death| {
            warm.network.add(&pod, "c1").success();
            let survived = survives(bed, &pod, "DEL", warm.network.config(), death);
            warm.network.del(&pod, "c1").silent();
            assert!(pod.has_only_lo(), "{death:?}: {}", pod.ip("link"));
            bed.assert_unchanged_since(&before);
            survived
        });
        assert!(deaths > 8, "it was hardly ever killed");
        warm.assert_connected(&warm.first);
    });
}

#[test]
fn the_first_add_of_all_is_killed_and_repeated() {
    case(|bed| {
        let (neighbour, network) = (bed.neighbour(), bed.network(config::pods()));
        let deaths = Death::each(|death| {
            let pod = bed.sandbox("pod");
            let survived = survives(bed, &pod, "ADD", network.config(), death);
            network.call("DEL", "c1").netns(pod.path()).run().silent();
            network.add(&pod, "c1").success();
            assert_eq!(seen_by_tcp(&pod, &neighbour, "203.0.113.2"), "203.0.113.1", "{death:?}");
            pod.destroy();
            network.call("DEL", "c1").netns("").run().silent();
            bed.ip("link del br0");
            bed.succeed("nft", &["flush", "ruleset"]);
            bed.succeed("rm", &["-r", "/var/lib/cni/networks"]);
            survived
        });
        assert!(deaths > 20, "it was hardly ever killed");
    });
}

#[test]
fn an_ipam_plugin_that_is_killed_costs_no_address() {
    case(|bed| {
        let warm = Warm::new(bed, config::pods());
        let real = bin_dir().join("host-local").display().to_string();
        let pod = bed.sandbox("pod");
        let before = bed.snapshot();
        let deaths = Death::each(|death| {
            let strace = death.strace();
            bed.script(
                "host-local",
                &format!(
                    "#!/bin/sh\n[ $CNI_COMMAND = ADD ] || exec {real}\n\
                 PATH=/usr/bin:/bin exec {strace} {real}\n"
                ),
            );
            let outcome = warm.network.add(&pod, "c1");
            let survived = outcome.status.success();
            if survived {
                warm.assert_connected(&pod);
                warm.network.del(&pod, "c1").silent();
            } else {
                assert!(!outcome.error().msg.is_empty(), "{outcome}");
            }
            assert!(pod.has_only_lo(), "{death:?}: {}", pod.ip("link"));
            bed.assert_unchanged_since(&before);
            survived
        });
        assert!(deaths > 3, "it was hardly ever killed");
    });
}

/// What the ADD would have complained of, had it lived.
#[test]
fn an_ipam_plugin_that_is_killed_costs_no_earlier_lease() {
    case(|bed| {
        let warm = Warm::new(bed, config::pods());
        let real = bin_dir().join("host-local").display().to_string();
        let (earlier, pod) = (bed.sandbox("earlier"), bed.sandbox("pod"));
        let mut ipam = config::pods();
        ipam["type"] = json!("host-local");
        let leased = bed.network(ipam).call("ADD", "c1").netns(earlier.path());
        leased.env("GIRDER_LINK", "lo").run().success();
        let before = bed.leases("pods");
        bed.script(
            "host-local",
            &format!("#!/bin/sh\n[ $CNI_COMMAND = ADD ] || exec {real}\nkill -KILL $$\n"),
        );
        let outcome = warm.network.add(&pod, "c1");
        assert!(outcome.error().msg.contains("signal"), "{outcome}");
        assert_eq!(bed.leases("pods"), before);
        // A DEL of the runtime ends it, whichever ADD it was.
        warm.network.call("DEL", "c1").netns(pod.path()).run().silent();
        assert!(bed.leases("pods").into_values().all(|owner| owner == "first eth0"));
    });
}

/// What a firewall that is killed leaves, with this configuration.
fn kill_firewall(bed: &Testbed, keys: Value) {
    drop_forwarded(bed);
    let chain = Chain::new(bed, keys);
    chain.add(&bed.sandbox("earlier"), "earlier");
    let pod = bed.sandbox("pod");
    chain.bridge.add(&pod, "c1").success();
    let before = bed.snapshot();
    let config = chain.config("c1");
    let mut lost = config.clone();
    lost.as_object_mut().unwrap().remove("prevResult");
    let deaths = Death::each(|death| {
        let survived = survives(bed, &pod, "ADD", &config, death);
        // Nobody has the result of an ADD that had no end.
        chain.call("DEL", &pod, "c1").config(&lost).run().silent();
        bed.assert_unchanged_since(&before);
        survived
    });
    assert!(deaths > 5, "it was hardly ever killed");
    Death::each(|death| {
        chain.run("ADD", &pod, "c1").success();
        let survived = survives(bed, &pod, "DEL", &lost, death);
        chain.call("DEL", &pod, "c1").config(&lost).run().silent();
        bed.assert_unchanged_since(&before);
        survived
    });
}

#[test]
fn a_killed_firewall_is_cleaned_up_by_one_del() {
    case(|bed| kill_firewall(bed, json!({"ingressPolicy": "isolated"})));
}

#[test]
fn a_killed_firewall_with_iptables_is_cleaned_up_by_one_del() {
    case(|bed| kill_firewall(bed, json!({"backend": "iptables"})));
}
