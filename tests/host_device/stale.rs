//! A record outlives what it tells of: the pod, the link, the attachment. Nobody else's link pays for that.

use std::fs;

use serde_json::{Value, json};
use testbed::{
    Network, REFERENCE, Sandbox, Testbed, attachment::host_device, config::changed, until_so,
};

use crate::differences::case;

const RECORDS: &str = "/run/cni/host-device";

fn record(id: &str) -> String {
    format!("{RECORDS}/cards:{id}:eth0.json")
}

fn bare(bed: &Testbed) -> Network<'_> {
    bed.network(host_device(&json!({"cniVersion": "1.1.0", "ipam": null})))
}

/// A pod with the link, at the path of one that has taken an earlier link of that name into its death.
fn successor(bed: &Testbed) -> (Network<'_>, Sandbox) {
    let network = bare(bed);
    bed.ip("link add card type veth peer name other");
    let pod = bed.sandbox("pod");
    network.add(&pod, "c1").success();
    bed.destroy(&pod);
    bed.ip("link add card type veth peer name other");
    let pod = bed.sandbox("pod");
    network.add(&pod, "c2").success();
    (network, pod)
}

#[test]
fn a_dead_pod_takes_nothing_from_the_next_one_at_its_path() {
    case(|bed| {
        let (network, pod) = successor(bed);
        network.call("DEL", "c1").run().silent();
        network.call("DEL", "c1").netns(pod.path()).run().silent();
        assert!(pod.has_link("eth0") && bed.file(record("c2")).exists());
        assert!(!bed.file(record("c1")).exists());
        network.del(&pod, "c2").silent();
        assert!(bed.has_link("card"));
    });
}

#[test]
fn gc_of_a_dead_pod_takes_nothing_from_the_next_one_at_its_path() {
    case(|bed| {
        let (network, pod) = successor(bed);
        let old = changed(
            serde_json::from_str(&fs::read_to_string(bed.file(record("c1"))).unwrap()).unwrap(),
            &json!({"since": 1000}),
        );
        bed.write(&record("c1"), old.to_string());
        network.gc(&["c2"]).silent();
        assert!(pod.has_link("eth0") && bed.file(record("c2")).exists());
        assert!(!bed.file(record("c1")).exists());
    });
}

#[test]
fn who_has_given_it_back_by_another_plugin_cannot_take_it_again() {
    case(|bed| {
        let (_wire, network) = (bed.card(), bare(bed));
        let [pod, next] = ["pod", "next"].map(|name| bed.sandbox(name));
        for to in [&pod, &next] {
            network.add(&pod, "c1").success();
            let theirs = bed.plugin("host-device").program(format!("{REFERENCE}/host-device"));
            let config = changed(network.config().clone(), &json!({"cniVersion": "1.0.0"}));
            let theirs = theirs.command("DEL").container("c1").ifname("eth0").netns(pod.path());
            theirs.config(&config).run().silent();
            bed.ip("link set card alias uplink-8");
            network.add(to, "c2").success();
            network.del(&pod, "c1").silent();
            assert!(to.has_link("eth0"), "c1 has taken it");
            network.del(to, "c2").silent();
            assert_eq!(bed.link("card")["ifalias"], "uplink-8");
        }
    });
}

#[test]
fn another_link_of_the_name_stays_as_the_administrator_made_it() {
    case(|bed| {
        let (_wire, network) = (bed.card(), bare(bed));
        let [pod, next] = ["pod", "next"].map(|name| bed.sandbox(name));
        network.add(&pod, "c1").success();
        bed.ip("link add card address 02:00:00:00:00:50 mtu 1300 type veth peer name rival");
        bed.ip("link set card alias card");
        bed.ip("link add spare type veth peer name spare-peer");
        let before = bed.snapshot();
        let other = bed.network(changed(
            network.config().clone(),
            &json!({"name": "others", "device": "spare"}),
        ));
        other.add(&next, "c2").success();
        other.del(&next, "c2").silent();
        bed.assert_unchanged_since(&before);
        assert_eq!(bed.link("card")["ifalias"], "card");
        network.check(&pod, "c1").silent();
    });
}

#[test]
fn the_pod_may_change_all_that_it_is_recognized_by() {
    case(|bed| {
        let (_wire, network) = (bed.card(), bare(bed));
        let pod = bed.sandbox("pod");
        let before = bed.snapshot();
        for (alias, has_index) in [("card", true), ("mine", true), ("card", false)] {
            network.add(&pod, "c1").success();
            if !has_index {
                let text = fs::read_to_string(bed.file(record("c1"))).unwrap();
                let kept = changed(serde_json::from_str(&text).unwrap(), &json!({"index": null}));
                bed.write(&record("c1"), kept.to_string());
            }
            for change in ["down", "name net7", "address 02:00:00:00:00:77"] {
                pod.ip(&format!(
                    "link set {} {change}",
                    if change.starts_with('a') { "net7" } else { "eth0" }
                ));
            }
            pod.ip(&format!("link set net7 alias {alias}"));
            network.del(&pod, "c1").silent();
            assert!(pod.has_only_lo());
            bed.assert_unchanged_since(&before);
            assert_eq!(bed.link("card")["ifalias"], "uplink-7");
        }
    });
}

#[test]
fn del_during_add_is_told_to_wait() {
    case(|bed| {
        let (_wire, network) = (bed.card(), bare(bed));
        let pod = bed.sandbox("pod");
        let before = bed.snapshot();
        let call = |verb: &str| network.call(verb, "c1").netns(pod.path());
        let slow = "-e trace=rename -e inject=rename:delay_exit=1500000:when=1";
        std::thread::scope(|threads| {
            let add = threads.spawn(|| bed.strace(call("ADD"), slow).0);
            until_so("the record", || bed.file(record("c1")).exists());
            call("DEL").run().fails_with(11, "another ADD or DEL of this attachment");
            assert!(bed.file(record("c1")).exists());
            add.join().unwrap().success();
        });
        call("DEL").run().silent();
        bed.assert_unchanged_since(&before);
    });
}

#[test]
fn a_directory_that_was_changed_since_loses_nothing() {
    case(|bed| {
        let (_wire, network) = (bed.card(), bare(bed));
        let pod = bed.sandbox("pod");
        let before = bed.snapshot();
        let moved = changed(network.config().clone(), &json!({"dataDir": "/run/elsewhere"}));
        network.add(&pod, "c1").success();
        network.call("DEL", "c1").netns(pod.path()).config(&moved).run().silent();
        bed.assert_unchanged_since(&before);
        assert!(!bed.file(record("c1")).exists());
    });
}

#[test]
fn what_is_no_record_keeps_nobody_from_anything() {
    case(|bed| {
        let (_wire, network) = (bed.card(), bare(bed));
        let pod = bed.sandbox("pod");
        bed.succeed("mkdir", &["-p", &format!("{RECORDS}/directory.json")]);
        bed.succeed("ln", &["-s", "/nowhere", &format!("{RECORDS}/link.json")]);
        bed.write(&format!("{RECORDS}/large.json"), vec![b' '; 2 << 20]);
        let before = bed.snapshot();
        let outcome = network.add(&pod, "c1");
        outcome.success();
        assert!(outcome.stderr.contains("link.json is no record"), "{outcome}");
        network.status().silent();
        network.del(&pod, "c1").silent();
        bed.assert_unchanged_since(&before);
        network.add(&pod, "c1").success();
        bed.write(&record("c1"), vec![b' '; 2 << 20]);
        network.del(&pod, "c1").silent();
        assert!(bed.has_link("card") && pod.has_only_lo());
        assert!(!bed.file(record("c1")).exists());
    });
}

#[test]
fn a_device_that_nobody_has_is_missed_whatever_others_have() {
    case(|bed| {
        let (_wire, network) = (bed.card(), bare(bed));
        let mac = bed.link("card")["address"].clone();
        let pod = bed.sandbox("pod");
        network.add(&pod, "c1").success();
        let status = |keys: Value| {
            let config = changed(network.config().clone(), &json!({"device": null}));
            bed.network(changed(config, &keys)).status()
        };
        status(json!({"hwaddr": mac})).silent();
        status(json!({"device": "card"})).silent();
        assert_eq!(status(json!({"device": "nowhere0"})).error_code(), 50);
        assert_eq!(status(json!({"hwaddr": "02:00:00:00:00:99"})).error_code(), 50);
    });
}

#[test]
fn del_after_a_refused_add_takes_no_link_that_somebody_gave_an_alias() {
    case(|bed| {
        let (_wire, network) = (bed.card(), bare(bed));
        let (pod, before) = (bed.sandbox("pod"), bed.snapshot());
        pod.ip("link add eth0 type veth peer name other");
        for alias in ["uplink", "card", "wan0"] {
            pod.ip(&format!("link set eth0 alias {alias}"));
            network.add(&pod, "c1").fails_with(4, "eth0");
            network.del(&pod, "c1").silent();
            assert!(pod.has_link("eth0"), "{alias}");
            bed.assert_unchanged_since(&before);
        }
    });
}
