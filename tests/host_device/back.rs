//! A link comes back with its name, MTU, addresses and state, whatever has happened to the pod.
//!
//! Hardware survives its namespace: the kernel brings it to the host, down, without addresses, and under
//! the pod's name or another one. Here a test does that with a virtual link, before it ends the pod.

use serde_json::{Value, json};
use testbed::{
    Network, Outcome, REFERENCE, SYSTEM_PATH, Sandbox, Snapshot, Testbed, attachment::host_device,
    config::changed, later_reference,
};

use crate::differences::case;

const RECORD: &str = "/run/cni/host-device/cards:c1:eth0.json";

/// A host with a card, and a network of it.
fn settled<'bed>(bed: &'bed Testbed, changes: &Value) -> (Network<'bed>, Sandbox, Snapshot) {
    let _wire = bed.card();
    let network = bed.network(host_device(changes));
    (network, bed.sandbox("pod"), bed.snapshot())
}

#[track_caller]
fn is_back(bed: &Testbed, before: &Snapshot) {
    bed.assert_unchanged_since(before);
    assert_eq!(bed.link("card")["ifalias"], "uplink-7");
}

/// What the kernel does with hardware when its namespace dies.
fn kernel_brings_it_back(bed: &Testbed, pod: &Sandbox, name: &str) {
    pod.ip("link set eth0 down");
    pod.ip("link set eth0 netns 1");
    if name != "eth0" {
        bed.ip(&format!("link set eth0 name {name}"));
    }
    pod.destroy();
}

#[test]
fn del_gives_it_back_as_it_was() {
    case(|bed| {
        let (network, pod, before) = settled(bed, &json!({}));
        for state in ["up", "down"] {
            bed.ip(&format!("link set card {state}"));
            let before = if state == "up" { before.clone() } else { bed.snapshot() };
            network.add(&pod, "c1").success();
            network.del(&pod, "c1").silent();
            is_back(bed, &before);
            assert!(pod.has_only_lo());
        }
    });
}

#[test]
fn what_the_pod_has_changed_is_changed_back() {
    case(|bed| {
        let (network, pod, before) = settled(bed, &json!({}));
        for changes in [
            &["link set eth0 mtu 1300"][..],
            &["link set eth0 address 02:00:00:00:00:77"],
            &["link set eth0 down", "link set eth0 name net7"],
            &["link set eth0 alias mine"],
            &["link set eth0 mtu 1300", "link set eth0 down", "link set eth0 name card"],
        ] {
            network.add(&pod, "c1").success();
            changes.iter().for_each(|change| drop(pod.ip(change)));
            network.del(&pod, "c1").silent();
            is_back(bed, &before);
            assert!(pod.has_only_lo(), "{changes:?}");
        }
    });
}

#[test]
fn del_without_a_path_finds_the_namespace() {
    case(|bed| {
        let (network, pod, before) = settled(bed, &json!({}));
        network.add(&pod, "c1").success();
        network.call("DEL", "c1").run().silent();
        is_back(bed, &before);
        network.add(&pod, "c1").success();
        network.call("DEL", "c1").netns("/run/netns/nowhere").run().silent();
        is_back(bed, &before);
    });
}

#[test]
fn del_succeeds_as_often_as_one_likes() {
    case(|bed| {
        let (network, pod, before) = settled(bed, &json!({}));
        network.del(&pod, "c1").silent();
        network.add(&pod, "c1").success();
        for path in [pod.path(), pod.path(), "", "/run/netns/nowhere"] {
            network.again("DEL", "c1").netns(path).run().silent();
            is_back(bed, &before);
        }
    });
}

#[test]
fn nothing_is_left_whatever_has_become_of_the_configuration() {
    case(|bed| {
        let (network, pod, before) = settled(bed, &json!({}));
        for changes in [
            json!({"device": "nowhere0"}),
            json!({"device": null}),
            json!({"device": 7}),
            json!({"hwaddr": "nonsense"}),
            json!({"runtimeConfig": {"deviceID": "0000:ff:1f.7"}}),
        ] {
            network.add(&pod, "c1").success();
            let config = changed(network.config().clone(), &changes);
            network.call("DEL", "c1").netns(pod.path()).config(&config).run().silent();
            is_back(bed, &before);
        }
    });
}

#[test]
fn hardware_whose_namespace_is_gone_is_restored_by_del() {
    case(|bed| {
        let (network, _, before) = settled(bed, &json!({}));
        for name in ["eth0", "dev7", "card"] {
            let pod = bed.sandbox("dying");
            network.add(&pod, "c1").success();
            pod.ip("link set eth0 mtu 1300");
            kernel_brings_it_back(bed, &pod, name);
            if name == "dev7" {
                bed.ip("link set dev7 up");
            }
            network.del(&pod, "c1").silent();
            is_back(bed, &before);
        }
    });
}

#[test]
fn hardware_that_nobody_deletes_is_restored_by_the_next_add() {
    case(|bed| {
        let (network, pod, before) = settled(bed, &json!({}));
        let dying = bed.sandbox("dying");
        network.add(&dying, "c1").success();
        kernel_brings_it_back(bed, &dying, "dev7");
        network.add(&pod, "c2").success();
        network.del(&pod, "c2").silent();
        network.del(&dying, "c1").silent();
        is_back(bed, &before);
    });
}

#[test]
fn gc_restores_what_is_not_listed() {
    case(|bed| {
        let (network, pod, before) = settled(bed, &json!({"cniVersion": "1.1.0"}));
        network.add(&pod, "c1").success();
        network.gc(&["c1"]).silent();
        network.check(&pod, "c1").silent();
        // It belongs to another network, or is too young for this one.
        bed.network(changed(network.config().clone(), &json!({"name": "n2"}))).gc(&[]).silent();
        network.check(&pod, "c1").silent();
        network.gc(&[]).silent();
        is_back(bed, &before);
        let dying = bed.sandbox("dying");
        network.add(&dying, "c1").success();
        kernel_brings_it_back(bed, &dying, "eth0");
        network.gc(&["other"]).silent();
        is_back(bed, &before);
    });
}

#[test]
fn gc_leaves_alone_what_is_young() {
    case(|bed| {
        let young =
            json!({"cniVersion": "1.1.0", "ipam": {"type": "host-local", "subnet": "10.1.0.0/24"}});
        let (network, pod, before) = settled(bed, &young);
        network.add(&pod, "c1").success();
        network.gc(&[]).silent();
        network.check(&pod, "c1").silent();
        network.del(&pod, "c1").silent();
        is_back(bed, &before);
    });
}

#[test]
fn what_dies_with_its_namespace_is_forgotten() {
    case(|bed| {
        let (network, pod, _) = settled(bed, &json!({}));
        network.add(&pod, "c1").success();
        assert!(bed.file(RECORD).exists());
        pod.ip("link del eth0");
        network.del(&pod, "c1").silent();
        assert!(!bed.file(RECORD).exists() && bed.leases("cards").is_empty());
    });
}

#[test]
fn what_dies_with_a_namespace_that_is_gone_is_forgotten_too() {
    case(|bed| {
        let (network, pod, _) = settled(bed, &json!({}));
        network.add(&pod, "c1").success();
        pod.destroy();
        network.del(&pod, "c1").silent();
        assert!(!bed.file(RECORD).exists() && bed.leases("cards").is_empty());
        assert!(!bed.has_link("card"));
    });
}

/// The reference's test that DEL is idempotent.
#[test]
fn while_the_host_has_another_link_of_that_name_the_pod_keeps_it() {
    case(|bed| {
        bed.ip("link add card type veth peer name card-peer");
        let mac = bed.link("card")["address"].clone();
        let network = bed.network(host_device(&json!({"ipam": null})));
        let pod = bed.sandbox("pod");
        network.add(&pod, "c1").success();
        bed.ip("link add card type veth peer name rival");
        assert_ne!(network.del(&pod, "c1").error_code(), 0);
        let link = pod.link("eth0");
        assert_eq!(link["address"], mac);
        assert!(link["flags"].as_array().unwrap().contains(&json!("UP")));
        network.check(&pod, "c1").silent();
        bed.ip("link del card");
        network.del(&pod, "c1").silent();
        assert_eq!(bed.link("card")["address"], mac);
        assert!(pod.has_only_lo());
    });
}

#[test]
fn the_pod_keeps_its_addresses_meanwhile() {
    case(|bed| {
        let (network, pod, before) = settled(bed, &json!({"ipam": null}));
        network.add(&pod, "c1").success();
        pod.ip("addr add 198.51.100.7/24 dev eth0");
        bed.ip("link add card type veth peer name rival");
        assert!(network.del(&pod, "c1").error().msg.contains("card"));
        assert!(pod.ip("addr show dev eth0").contains("198.51.100.7/24"));
        bed.ip("link del card");
        network.del(&pod, "c1").silent();
        is_back(bed, &before);
    });
}

#[test]
fn hardware_whose_name_is_taken_stays_usable() {
    case(|bed| {
        let (network, pod, _) = settled(bed, &json!({}));
        network.add(&pod, "c1").success();
        kernel_brings_it_back(bed, &pod, "dev7");
        bed.ip("link add card type veth peer name rival");
        let outcome = network.del(&pod, "c1");
        outcome.silent();
        assert!(outcome.stderr.contains("\"dev7\""), "{outcome}");
        let link = bed.link("dev7");
        assert_eq!((&link["ifalias"], &link["mtu"]), (&json!("card"), &json!(1400)));
        let addresses = bed.ip("addr show dev dev7");
        assert!(addresses.contains("198.51.100.1/24") && addresses.contains("2001:db8:2::1/64"));
        assert!(!bed.file(RECORD).exists());
    });
}

#[test]
fn a_failed_add_gives_it_back() {
    case(|bed| {
        let (_, pod, before) = settled(bed, &json!({}));
        bed.script(
            "refuses",
            "#!/bin/sh\ncat >/dev/null\necho '{\"code\": 100, \"msg\": \"no\"}'\nexit 1\n",
        );
        bed.recorder("empty", &json!({"cniVersion": "1.0.0"}));
        let nowhere = json!([{"address": "198.51.100.10/24", "gateway": "192.0.2.1"}]);
        let routes = json!([{"dst": "203.0.113.0/24", "gw": "192.0.2.1"}]);
        let reply = json!({"cniVersion": "1.0.0", "ips": nowhere, "routes": routes});
        bed.recorder("unroutable", &reply);
        for ipam in ["refuses", "empty", "unroutable", "missing"] {
            let network = bed.network(host_device(&json!({"ipam": {"type": ipam}})));
            assert_ne!(network.add(&pod, "c1").error_code(), 0);
            is_back(bed, &before);
            assert!(pod.has_only_lo(), "{ipam}");
        }
    });
}

#[test]
fn an_answer_that_cannot_be_written_gives_it_back() {
    case(|bed| {
        let (network, pod, before) = settled(bed, &json!({"cniVersion": "0.2.0", "ipam": null}));
        let error = network.add(&pod, "c1").error();
        assert!(error.msg.contains("cannot convert: no valid IP addresses"), "{error:?}");
        is_back(bed, &before);
        assert!(pod.has_only_lo());
    });
}

#[test]
fn del_after_a_refused_add_takes_nothing_from_another_network() {
    case(|bed| {
        let (network, pod, before) = settled(bed, &json!({}));
        network.add(&pod, "c1").success();
        let other = bed.network(host_device(&json!({"name": "others", "device": "spare"})));
        other.add(&pod, "c1").fails_with(4, "eth0");
        other.del(&pod, "c1").silent();
        network.check(&pod, "c1").silent();
        network.del(&pod, "c1").silent();
        is_back(bed, &before);
    });
}

#[test]
fn a_record_that_cannot_be_read_does_not_keep_it() {
    case(|bed| {
        let (network, pod, _) = settled(bed, &json!({}));
        for text in ["", "nonsense", "{}", "{\"owner\": \"cards c1 eth0\"}"] {
            network.add(&pod, "c1").success();
            bed.write(RECORD, text);
            network.del(&pod, "c1").silent();
            assert!(bed.has_link("card") && pod.has_only_lo(), "{text}");
        }
    });
}

#[test]
fn the_directory_of_records_may_be_elsewhere() {
    case(|bed| {
        let (network, pod, before) = settled(bed, &json!({"dataDir": "/run/elsewhere/cards"}));
        network.add(&pod, "c1").success();
        assert!(bed.file("/run/elsewhere/cards/cards:c1:eth0.json").exists());
        network.del(&pod, "c1").silent();
        is_back(bed, &before);
    });
}

/// The directories of the Go plugins that are on this machine.
fn theirs() -> Vec<&'static str> {
    [REFERENCE].into_iter().chain(later_reference()).collect()
}

fn run(bed: &Testbed, dir: &str, verb: &str, pod: &Sandbox, config: &Value) -> Outcome {
    let call = bed.plugin("host-device").program(format!("{dir}/host-device")).command(verb);
    let call = call.container("c1").ifname("eth0").netns(pod.path()).cni_path(dir);
    call.env("PATH", SYSTEM_PATH).config(config).run()
}

#[test]
fn what_theirs_has_taken_comes_back() {
    for dir in theirs() {
        case(|bed| {
            let (network, pod, _) = settled(bed, &json!({}));
            let result = run(bed, dir, "ADD", &pod, network.config()).result();
            let told = changed(network.config().clone(), &json!({"prevResult": result}));
            network.call("CHECK", "c1").netns(pod.path()).config(&told).run().silent();
            network.del(&pod, "c1").silent();
            assert!(bed.has_link("card") && pod.has_only_lo());
            assert_eq!(bed.link("card")["ifalias"], Value::Null);
            assert!(bed.leases("cards").is_empty());
        });
    }
}

#[test]
fn theirs_gives_back_what_ours_has_taken() {
    for dir in theirs() {
        case(|bed| {
            let (network, pod, before) = settled(bed, &json!({"cniVersion": "1.0.0"}));
            network.add(&pod, "c1").success();
            run(bed, dir, "DEL", &pod, network.config()).silent();
            assert!(bed.has_link("card") && pod.has_only_lo());
            // Of this ours has not heard: its record is of no link any more.
            network.add(&pod, "c1").success();
            run(bed, dir, "DEL", &pod, network.config()).silent();
            network.del(&pod, "c1").silent();
            assert!(!bed.file(RECORD).exists());
            assert_eq!(before.lines("link \"card\"").count(), 1);
        });
    }
}
