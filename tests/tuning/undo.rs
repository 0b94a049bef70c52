//! What tuning has changed is given back by DEL, whatever that is told and whoever has changed it, and by
//! nothing else.

use serde_json::{Value, json};
use testbed::{
    Death, Fault, REFERENCE,
    config::changed,
    later_reference, step,
    tuning::{DATA_DIR, config, restored, state, tuned, tuning},
};

use crate::differences::case;

/// Something of everything that can be given back.
fn everything() -> Value {
    json!({
        "mac": "02:00:00:00:00:77", "mtu": 1400, "promisc": true, "allmulti": true, "txQLen": 5,
        "sysctl": {"net.core.somaxconn": "500", "net.ipv4.conf.IFNAME.arp_filter": "1"}
    })
}

#[test]
fn del_needs_to_know_nothing() {
    case(|bed| {
        let (network, pod, assert_restored) = restored(bed, &everything());
        let bare = json!({"cniVersion": "1.0.0", "name": "net", "type": "tuning"});
        for (what, changes) in [
            ("no keys", json!({})),
            ("another network", json!({"name": "other"})),
            ("other values", json!({"mtu": 1300, "promisc": false})),
            ("nonsense", json!({"mac": "no address", "mtu": "large", "sysctl": 7})),
            ("a directory", json!({"dataDir": "/run/test/other"})),
            ("no directory", json!({"dataDir": 7})),
        ] {
            network.add(&pod, "c1").success();
            let config = changed(bare.clone(), &changes);
            let del = network.call("DEL", "c1").netns(pod.path()).config(&config);
            del.clone().run().silent();
            assert_restored(what);
            del.run().silent();
            assert_restored(what);
        }
    });
}

#[test]
fn nothing_is_left_when_the_namespace_or_the_link_is_gone() {
    case(|bed| {
        for how in ["gone", "not told", "no link", "another link"] {
            let host = bed.snapshot();
            let (network, pod) = tuning(bed, &everything());
            network.add(&pod, "c1").success();
            let del = network.call("DEL", "c1");
            match how {
                "gone" => {
                    pod.destroy();
                    del.netns(pod.path()).run().silent();
                }
                "not told" => del.run().silent(),
                "no link" => {
                    pod.ip("link del eth0");
                    del.netns(pod.path()).run().silent();
                }
                _ => {
                    pod.ip("link del eth0");
                    pod.ip("link add eth0 mtu 1234 type veth peer name peer0");
                    del.netns(pod.path()).run().silent();
                    assert_eq!(pod.link("eth0")["mtu"], 1234, "it is another one");
                }
            }
            bed.assert_unchanged_since(&host);
            if how != "gone" {
                pod.destroy();
            }
        }
    });
}

#[test]
fn what_was_never_added_is_gone() {
    case(|bed| {
        let (network, pod, assert_restored) = restored(bed, &everything());
        network.call("DEL", "c1").netns(pod.path()).run().silent();
        network.call("DEL", "c1").run().silent();
        assert_restored("never added");
    });
}

#[test]
fn a_repeated_add_keeps_what_was_before_the_first() {
    case(|bed| {
        let (network, pod, assert_restored) = restored(bed, &everything());
        network.add(&pod, "c1").success();
        network.add(&pod, "c1").success();
        let other = changed(network.config().clone(), &json!({"mtu": 1300, "txQLen": 9}));
        network.call("ADD", "c1").netns(pod.path()).config(&other).run().success();
        network.del(&pod, "c1").silent();
        assert_restored("added three times");
    });
}

#[test]
fn what_is_left_of_an_earlier_container_is_not_given_to_a_later_one() {
    case(|bed| {
        // Between the two, the kernel may give the number of the first namespace to the second.
        let host = bed.snapshot();
        let (network, pod) = tuning(bed, &everything());
        pod.ip("link set eth0 mtu 1444");
        network.add(&pod, "c1").success();
        pod.destroy();
        let (network, pod) = tuning(bed, &everything());
        let before = tuned(&pod);
        network.add(&pod, "c1").success();
        network.del(&pod, "c1").silent();
        assert_eq!(tuned(&pod), before);
        bed.assert_unchanged_since(&host);
    });
}

#[test]
fn a_failed_add_leaves_nothing() {
    case(|bed| {
        let (network, pod, assert_restored) = restored(bed, &everything());
        for changes in [
            json!({"mtu": 20}),
            json!({"sysctl": {"net.core.somaxconn": "500", "net.ipv4.ip_forward": "x"}}),
            json!({"sysctl": {"net.core.somaxconn": "500", "net.ipv4.no_such_setting": "1"}}),
            json!({"dataDir": "/proc/nowhere"}),
        ] {
            let config = changed(network.config().clone(), &changes);
            let add = network.call("ADD", "c1").netns(pod.path()).config(&config).run();
            assert_ne!(add.error_code(), 0);
            assert_restored(&changes.to_string());
        }
        pod.ip("link set eth0 name other0");
        assert!(network.add(&pod, "c1").error().msg.contains("eth0"));
        pod.ip("link set other0 name eth0");
        assert_restored("no interface");
    });
}

#[test]
fn an_add_whose_calls_fail_leaves_nothing() {
    case(|bed| {
        let (network, pod, assert_restored) = restored(bed, &everything());
        for (call, error) in [("sendto", "ENOBUFS"), ("write", "ENOSPC"), ("openat", "EMFILE")] {
            let mut failures = 0;
            Fault::each(call, error, step(3), |fault| {
                let add = network.call("ADD", "c1").netns(pod.path());
                let (outcome, was_struck) = fault.strike(bed, add);
                if outcome.status.success() {
                    network.call("DEL", "c1").netns(pod.path()).run().silent();
                } else {
                    failures += 1;
                }
                assert_restored(&format!("{fault:?}"));
                was_struck
            });
            assert!(failures > 1, "{call} hardly ever failed");
        }
    });
}

#[test]
fn a_killed_add_is_cleaned_up_by_one_del() {
    case(|bed| {
        for keys in [everything(), json!({"sysctl": {"net.core.somaxconn": "500"}})] {
            let (network, pod, assert_restored) = restored(bed, &keys);
            let deaths = Death::each(|death| {
                let survived = death.spares(network.call("ADD", "c1").netns(pod.path()));
                network.call("DEL", "c1").netns(pod.path()).run().silent();
                assert_restored(&format!("{death:?}"));
                survived
            });
            assert!(deaths > 10, "it was hardly ever killed");
            pod.destroy();
        }
    });
}

#[test]
fn a_killed_del_is_repeated() {
    case(|bed| {
        let (network, pod, assert_restored) = restored(bed, &everything());
        let deaths = Death::each(|death| {
            network.add(&pod, "c1").success();
            let survived = death.spares(network.call("DEL", "c1").netns(pod.path()));
            network.call("DEL", "c1").netns(pod.path()).run().silent();
            assert_restored(&format!("{death:?}"));
            survived
        });
        assert!(deaths > 10, "it was hardly ever killed");
    });
}

#[test]
fn a_file_that_is_none_stops_nobody() {
    case(|bed| {
        let (network, pod, assert_restored) = restored(bed, &everything());
        let file = format!("{DATA_DIR}/c1_eth0.json");
        for content in ["", "{\"mtu\": 15", "[]", "{\"mtu\": \"large\"}"] {
            bed.write(&file, content);
            network.call("DEL", "c1").netns(pod.path()).run().silent();
            assert_restored(content);
            bed.write(&file, content);
            network.add(&pod, "c1").success();
            network.del(&pod, "c1").silent();
            assert_restored(content);
        }
        bed.succeed("ln", &["-s", "/run/test/victim", &file]);
        bed.write("/run/test/victim", "{}");
        network.call("DEL", "c1").netns(pod.path()).run().silent();
        assert_eq!(bed.read("/run/test/victim"), "{}");
        assert_restored("a link");
    });
}

/// Both Go plugins, each with what it can give back.
fn references() -> Vec<(&'static str, Value)> {
    let keys = json!({"mac": "02:00:00:00:00:77", "mtu": 1400, "promisc": true});
    let more = json!({"txQLen": 5, "allmulti": true});
    let later = later_reference().map(|dir| (dir, changed(keys.clone(), &more)));
    later.into_iter().chain([(REFERENCE, keys)]).collect()
}

#[test]
fn ours_gives_back_what_the_go_plugin_has_changed() {
    case(|bed| {
        for (dir, keys) in references() {
            let (network, pod, assert_restored) = restored(bed, &keys);
            let call = |verb: &str| network.call(verb, "c1").netns(pod.path());
            call("ADD").program(format!("{dir}/tuning")).run().success();
            assert_eq!(state(&pod)["mtu"], 1400);
            call("CHECK").run().silent();
            call("DEL").run().silent();
            assert_restored(dir);
            pod.destroy();
        }
    });
}

#[test]
fn the_go_plugin_gives_back_what_ours_has_changed() {
    case(|bed| {
        for (dir, keys) in references() {
            let (network, pod, assert_restored) = restored(bed, &keys);
            network.add(&pod, "c1").success();
            for verb in ["CHECK", "DEL"] {
                let call = network.call(verb, "c1").netns(pod.path());
                call.program(format!("{dir}/tuning")).run().silent();
            }
            assert_restored(dir);
            pod.destroy();
        }
    });
}

#[test]
fn gc_removes_files_of_the_dead() {
    case(|bed| {
        for keys in [everything(), json!({"sysctl": {"net.core.somaxconn": "500"}})] {
            let keys = changed(keys, &json!({"cniVersion": "1.1.0"}));
            let host = bed.snapshot();
            let (network, pod) = tuning(bed, &keys);
            network.add(&pod, "c1").success();
            let added = bed.snapshot();
            // Whoever lives may have been added since the list was made.
            network.gc(&[]).silent();
            bed.assert_unchanged_since(&added);
            pod.destroy();
            network.gc(&["c1"]).silent();
            bed.assert_unchanged_since(&added);
            let other = changed(network.config().clone(), &json!({"name": "other"}));
            bed.network(other).gc(&[]).silent();
            bed.assert_unchanged_since(&added);
            // The path leads to another container by now.
            let pod = bed.sandbox("pod");
            network.gc(&["c2"]).silent();
            bed.assert_unchanged_since(&host);
            pod.destroy();
        }
    });
}

#[test]
fn gc_leaves_what_the_go_plugin_has_written() {
    case(|bed| {
        let (network, _pod) = tuning(bed, &json!({"cniVersion": "1.1.0"}));
        bed.write(&format!("{DATA_DIR}/c1_eth0.json"), r#"{"mtu": 1500}"#);
        let before = bed.snapshot();
        network.gc(&[]).silent();
        bed.assert_unchanged_since(&before);
    });
}

/// Whoever may write into the directory must not thereby write elsewhere.
#[test]
fn a_planted_file_reaches_no_further_than_the_container() {
    case(|bed| {
        let (network, pod) = tuning(bed, &json!({}));
        let (victim, before) = ("/run/test/victim", bed.sysctl("net/ipv4/ip_forward"));
        bed.write(victim, "as it was");
        let sysctls = json!({
            victim: "planted", "net/../../../run/test/victim": "planted", "kernel/hostname": "planted"
        });
        let name = bed.sysctl("kernel/hostname");
        let planted = json!({"girder": {"owner": "net c1 eth0", "sysctls": sysctls}});
        bed.write(&format!("{DATA_DIR}/c1_eth0.json"), planted.to_string());
        network.call("DEL", "c1").netns(pod.path()).run().silent();
        assert_eq!(bed.read(victim), "as it was");
        assert_eq!(
            (bed.sysctl("kernel/hostname"), bed.sysctl("net/ipv4/ip_forward")),
            (name, before)
        );
    });
}

/// `a` with `b_c`, and `a_b` with `c`, have a file of one name.
#[test]
fn a_file_of_another_container_is_not_restored() {
    case(|bed| {
        let (_, pod) = tuning(bed, &json!({}));
        let planted = json!({"mtu": 1300, "girder": {"owner": "net a b_eth0"}});
        bed.write(&format!("{DATA_DIR}/a_b_eth0.json"), planted.to_string());
        let (network, before) = (bed.network(config(&pod, &json!({}))), state(&pod));
        network.call("DEL", "a_b").netns(pod.path()).run().silent();
        assert_eq!(state(&pod), before);
    });
}
