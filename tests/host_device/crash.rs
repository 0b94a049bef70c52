//! ADD and DEL that are killed before any of their system calls lose nothing of the link.

use serde_json::json;
use testbed::{
    Death, Fault, Network, SYSTEM_PATH, Sandbox, Testbed, attachment::host_device, step,
};

use crate::differences::case;

/// Runs a plugin, which is killed: whether it got to its end.
fn survives(network: &Network<'_>, pod: &Sandbox, verb: &str, death: Death) -> bool {
    let call = network.call(verb, "c1").netns(pod.path());
    death.spares(call.env("PATH", SYSTEM_PATH))
}

fn network(bed: &Testbed) -> Network<'_> {
    bed.network(host_device(&json!({"cniVersion": "1.1.0"})))
}

#[test]
fn a_killed_add_is_cleaned_up_by_one_del() {
    case(|bed| {
        let (_wire, network) = (bed.card(), network(bed));
        let before = bed.snapshot();
        let deaths = Death::each(|death| {
            let pod = bed.sandbox("pod");
            let survived = survives(&network, &pod, "ADD", death);
            network.call("DEL", "c1").netns(pod.path()).run().silent();
            assert!(pod.has_only_lo(), "{death:?}: {}", pod.ip("link"));
            bed.assert_unchanged_since(&before);
            assert_eq!(bed.link("card")["ifalias"], "uplink-7", "{death:?}");
            pod.destroy();
            survived
        });
        assert!(deaths > 15, "it was hardly ever killed");
    });
}

#[test]
fn a_killed_add_is_cleaned_up_by_gc() {
    case(|bed| {
        let (_wire, network) = (bed.card(), network(bed));
        let before = bed.snapshot();
        Death::each(|death| {
            let pod = bed.sandbox("pod");
            let survived = survives(&network, &pod, "ADD", death);
            network.gc(&[]).silent();
            assert!(pod.has_only_lo(), "{death:?}: {}", pod.ip("link"));
            bed.assert_unchanged_since(&before);
            pod.destroy();
            survived
        });
    });
}

#[test]
fn a_killed_del_is_repeated() {
    case(|bed| {
        let (_wire, network) = (bed.card(), network(bed));
        let before = bed.snapshot();
        let deaths = Death::each(|death| {
            let pod = bed.sandbox("pod");
            network.add(&pod, "c1").success();
            pod.ip("link set eth0 mtu 1300");
            let survived = survives(&network, &pod, "DEL", death);
            network.del(&pod, "c1").silent();
            assert!(pod.has_only_lo(), "{death:?}: {}", pod.ip("link"));
            bed.assert_unchanged_since(&before);
            assert_eq!(bed.link("card")["ifalias"], "uplink-7", "{death:?}");
            pod.destroy();
            survived
        });
        assert!(deaths > 6, "it was hardly ever killed");
    });
}

#[test]
fn after_a_killed_del_the_next_add_finds_it_whole() {
    case(|bed| {
        let (_wire, network) = (bed.card(), network(bed));
        let before = bed.snapshot();
        Death::each(|death| {
            let [pod, other] = ["pod", "other"].map(|name| bed.sandbox(name));
            network.add(&pod, "c1").success();
            let survived = survives(&network, &pod, "DEL", death);
            if pod.has_only_lo() {
                network.add(&other, "c2").success();
                network.del(&other, "c2").silent();
            }
            network.del(&pod, "c1").silent();
            bed.assert_unchanged_since(&before);
            [pod, other].iter().for_each(Sandbox::destroy);
            survived
        });
    });
}

#[test]
fn an_answer_that_nobody_reads_gives_it_back() {
    case(|bed| {
        let (_wire, network) = (bed.card(), network(bed));
        let (pod, before) = (bed.sandbox("pod"), bed.snapshot());
        bed.script("deaf", "#!/bin/sh\n{ \"$@\"; echo $? > /run/test/status; } | :\n");
        bed.script("full", "#!/bin/sh\n\"$@\" > /dev/full\necho $? > /run/test/status\n");
        for runtime in ["deaf", "full"] {
            let under = format!("/run/test/plugins/{runtime}");
            let add = network.call("ADD", "c1").netns(pod.path()).env("PATH", SYSTEM_PATH);
            drop(add.under(&under).run());
            assert_eq!(bed.read("/run/test/status").trim(), "1", "{runtime}");
            bed.succeed("rm", &["/run/test/status"]);
            bed.assert_unchanged_since(&before);
            assert!(pod.has_only_lo() && bed.leases("cards").is_empty());
        }
    });
}

#[test]
fn an_add_whose_calls_fail_gives_it_back() {
    case(|bed| {
        let (_wire, network) = (bed.card(), network(bed));
        let (pod, before) = (bed.sandbox("pod"), bed.snapshot());
        let mut failures = 0;
        for (call, error) in
            [("sendto", "ENOBUFS"), ("recvfrom", "ENOMEM"), ("write", "ENOSPC"), ("rename", "EIO")]
        {
            Fault::each(call, error, step(2), |fault| {
                let add = network.call("ADD", "c1").netns(pod.path()).env("PATH", SYSTEM_PATH);
                let (outcome, was_struck) = fault.strike_alone(bed, add);
                if outcome.status.success() {
                    network.call("DEL", "c1").netns(pod.path()).run().silent();
                } else {
                    failures += 1;
                }
                bed.assert_unchanged_since(&before);
                assert_eq!(bed.link("card")["ifalias"], "uplink-7", "{fault:?}");
                assert!(pod.has_only_lo(), "{fault:?}");
                was_struck
            });
        }
        assert!(failures > 10, "it hardly ever failed: {failures}");
    });
}

#[test]
fn a_del_whose_calls_fail_is_repeated() {
    case(|bed| {
        let (_wire, network) = (bed.card(), network(bed));
        let (pod, before) = (bed.sandbox("pod"), bed.snapshot());
        let mut failures = 0;
        for (call, error) in
            [("sendto", "ENOBUFS"), ("recvfrom", "ENOMEM"), ("unlink", "EIO"), ("openat", "EMFILE")]
        {
            Fault::each(call, error, step(2), |fault| {
                network.add(&pod, "c1").success();
                let del = network.call("DEL", "c1").netns(pod.path()).env("PATH", SYSTEM_PATH);
                let (outcome, was_struck) = fault.strike_alone(bed, del);
                if !outcome.status.success() {
                    failures += 1;
                    network.del(&pod, "c1").silent();
                }
                bed.assert_unchanged_since(&before);
                assert_eq!(bed.link("card")["ifalias"], "uplink-7", "{fault:?}");
                assert!(pod.has_only_lo(), "{fault:?}");
                was_struck
            });
        }
        assert!(failures > 5, "it hardly ever failed: {failures}");
    });
}
