//! Links on top of one of the host, or of nothing: what holds for each kind of them, from ADD to DEL,
//! whatever happens in between.

use std::path::Path;

use serde_json::{Value, json};
use testbed::{
    Outcome, REFERENCE, Sandbox, Testbed,
    attachment::{dummy, ipvlan, macvlan, vlan},
    config::changed,
    kernel::{Feature, has},
    later_reference,
};

use crate::differences::{case, case_on};

/// What all of them need of the kernel.
const ALL: [Feature; 3] = [Feature::Ipvlan, Feature::Vlan, Feature::Dummy];

/// A network of each kind.
fn networks(changes: &Value) -> [Value; 3] {
    [ipvlan(changes), vlan(changes), dummy(changes)]
}

fn assert_nothing_left(bed: &Testbed, pod: &Sandbox, config: &Value) {
    assert!(pod.has_only_lo(), "{config}: {}", pod.ip("link"));
    assert!(bed.leases("segment").is_empty(), "{config}");
}

#[test]
fn nothing_is_left_when_link_namespace_or_master_are_gone_already() {
    case_on(&ALL, |bed| {
        let _neighbour = bed.neighbour();
        for config in networks(&json!({})) {
            let (network, pod) = (bed.network(config.clone()), bed.sandbox("pod"));
            network.add(&pod, "c1").success();
            pod.ip("link del eth0");
            network.del(&pod, "c1").silent();
            assert_nothing_left(bed, &pod, &config);
            network.add(&pod, "c1").success();
            pod.destroy();
            network.del(&pod, "c1").silent();
            assert!(bed.leases("segment").is_empty(), "{config}");
        }
        let networks = networks(&json!({})).map(|config| bed.network(config));
        let pods = networks.iter().zip(["p0", "p1", "p2"]);
        let pods: Vec<_> = pods.map(|(network, id)| (network, id, bed.sandbox(id))).collect();
        for (network, id, pod) in &pods {
            network.add(pod, id).success();
        }
        bed.ip("link del lan");
        for (network, id, pod) in &pods {
            network.del(pod, id).silent();
            assert!(pod.has_only_lo());
        }
        assert!(bed.leases("segment").is_empty());
    });
}

#[test]
fn nothing_is_left_whatever_has_become_of_the_configuration() {
    case_on(&ALL, |bed| {
        let (_neighbour, pod) = (bed.neighbour(), bed.sandbox("pod"));
        for config in networks(&json!({})) {
            let network = bed.network(config.clone());
            for changes in [
                json!({"master": "nowhere0"}),
                json!({"master": null, "linkInContainer": true}),
                json!({"mode": "x", "flag": 7}),
                json!({"mtu": -5, "vlanId": 5000}),
            ] {
                network.add(&pod, "c1").success();
                let edited = changed(config.clone(), &changes);
                network.call("DEL", "c1").netns(pod.path()).config(&edited).run().silent();
                assert_nothing_left(bed, &pod, &edited);
            }
        }
    });
}

#[test]
fn a_failed_add_leaves_nothing_and_can_be_repeated() {
    case_on(&ALL, |bed| {
        let (_neighbour, pod) = (bed.neighbour(), bed.sandbox("pod"));
        bed.ipam(&[]);
        for config in networks(&json!({})) {
            let network = bed.network(config.clone());
            network.add(&pod, "c0").success();
            network.del(&pod, "c0").silent();
            let before = bed.snapshot();
            let mut routed = config["ipam"].clone();
            routed["routes"] = json!([{"dst": "192.0.2.0/24", "gw": "10.99.0.1"}]);
            for (ipam, words) in [
                (json!({"type": "nowhere"}), "nowhere"),
                (routed, "192.0.2.0"),
                (json!({"type": "ipam"}), "IPAM plugin returned missing IP config"),
            ] {
                let broken = changed(config.clone(), &json!({"ipam": ipam}));
                let add = network.call("ADD", "c1").netns(pod.path()).config(&broken);
                let error = add.run().error();
                assert!(error.msg.contains(words), "{broken}: {error:?}");
                assert_nothing_left(bed, &pod, &broken);
                bed.assert_unchanged_since(&before);
            }
            network.add(&pod, "c1").success();
            network.del(&pod, "c1").silent();
        }
    });
}

#[test]
fn a_name_that_is_taken_stays_whose_it_was() {
    case_on(&ALL, |bed| {
        let (_neighbour, pod) = (bed.neighbour(), bed.sandbox("pod"));
        pod.ip("link add eth0 type bridge");
        for config in networks(&json!({})) {
            let network = bed.network(config);
            assert_eq!(network.add(&pod, "c1").error_code(), 4);
            network.call("DEL", "c1").netns(pod.path()).run().silent();
            assert_eq!(pod.link("eth0")["linkinfo"]["info_kind"], "bridge");
            assert!(bed.leases("segment").is_empty());
        }
    });
}

/// Before Linux 6.15 the kernel confuses the link with one of the host that has the name.
fn add_beside_a_link_of_the_host(bed: &Testbed, config: Value) {
    let (network, pod) = (bed.network(config), bed.sandbox("pod"));
    network.add(&pod, "c1").success();
    network.check(&pod, "c1").silent();
    network.del(&pod, "c1").silent();
    assert!(pod.has_only_lo());
    assert_eq!(bed.link("eth0")["linkinfo"]["info_kind"], "bridge");
    pod.destroy();
}

#[test]
fn the_host_may_have_a_link_of_the_name() {
    case_on(&ALL, |bed| {
        let _neighbour = bed.neighbour();
        bed.ip("link add eth0 type bridge");
        networks(&json!({})).into_iter().for_each(|one| add_beside_a_link_of_the_host(bed, one));
    });
}

#[test]
fn the_host_may_have_a_link_of_the_name_of_a_macvlan() {
    case(|bed| {
        let _neighbour = bed.neighbour();
        bed.ip("link add eth0 type bridge");
        add_beside_a_link_of_the_host(bed, macvlan(&json!({})));
    });
}

#[test]
fn gc_frees_what_is_not_listed() {
    case_on(&ALL, |bed| {
        let _neighbour = bed.neighbour();
        for config in networks(&json!({"cniVersion": "1.1.0"})) {
            let (network, pod) = (bed.network(config), bed.sandbox("pod"));
            network.add(&pod, "c1").success();
            network.gc(&["c1"]).silent();
            network.check(&pod, "c1").silent();
            pod.destroy();
            network.gc(&[]).silent();
            assert!(bed.leases("segment").is_empty());
        }
    });
}

#[test]
fn a_plugin_that_makes_links_hands_out_no_addresses() {
    case(|bed| {
        let (_neighbour, pod) = (bed.neighbour(), bed.sandbox("pod"));
        let before = bed.snapshot();
        for kind in ["bridge", "dummy", "ipvlan", "macvlan", "ptp", "tap", "vlan"] {
            let config = macvlan(&json!({"ipam": {"type": kind}}));
            bed.network(config).add(&pod, "c1").fails_with(7, "hands out no addresses");
            assert!(pod.has_only_lo(), "{kind}");
            bed.assert_unchanged_since(&before);
        }
    });
}

#[test]
fn status_asks_the_ipam_plugin() {
    case(|bed| {
        let _neighbour = bed.neighbour();
        let refusal = "echo '{\"cniVersion\": \"1.1.0\", \"code\": 50, \"msg\": \"full\"}'; exit 1";
        bed.script("full", &format!("#!/bin/sh\n{refusal}\n"));
        let version = json!({"cniVersion": "1.1.0"});
        for config in networks(&version) {
            bed.network(config.clone()).status().silent();
            let full = changed(config, &json!({"ipam": {"type": "full"}}));
            bed.network(full).status().fails_with(50, "full");
        }
    });
}

#[test]
fn status_misses_a_master() {
    case(|bed| {
        let version = json!({"cniVersion": "1.1.0"});
        for config in [ipvlan(&version), vlan(&version)] {
            bed.network(config.clone()).status().fails_with(50, "\"lan\"");
            // Which container's link it will be is not known yet.
            let inside = changed(config, &json!({"linkInContainer": true}));
            bed.network(inside).status().silent();
        }
    });
}

#[test]
fn a_kernel_without_them_is_told_by_name() {
    case(|bed| {
        let (_neighbour, pod) = (bed.neighbour(), bed.sandbox("pod"));
        let options = ["CONFIG_IPVLAN", "CONFIG_VLAN_8021Q", "CONFIG_DUMMY"];
        let kinds = networks(&json!({})).into_iter().zip(ALL).zip(options);
        for ((config, _), option) in kinds.filter(|((_, feature), _)| !has(*feature)) {
            let network = bed.network(config.clone());
            let error = network.add(&pod, "c1").error();
            assert!(error.msg.contains("\"eth0\"") && error.msg.contains(option), "{error:?}");
            assert_nothing_left(bed, &pod, &config);
            network.call("DEL", "c1").netns(pod.path()).run().silent();
        }
    });
}

/// The directories of this machine where this Go plugin is.
fn theirs(config: &Value) -> Vec<&'static str> {
    let kind = config["type"].as_str().unwrap();
    let all = [REFERENCE].into_iter().chain(later_reference());
    all.filter(|dir| Path::new(dir).join(kind).exists()).collect()
}

fn run(bed: &Testbed, dir: &str, verb: &str, pod: &Sandbox, config: &Value) -> Outcome {
    let kind = config["type"].as_str().unwrap();
    let call = bed.plugin(kind).program(format!("{dir}/{kind}")).command(verb);
    call.container("c1").ifname("eth0").netns(pod.path()).cni_path(dir).config(config).run()
}

#[test]
fn ours_and_theirs_delete_what_the_other_one_has_made() {
    case_on(&ALL, |bed| {
        let (_neighbour, pod) = (bed.neighbour(), bed.sandbox("pod"));
        for config in networks(&json!({})) {
            let network = bed.network(config.clone());
            for dir in theirs(&config) {
                for is_told in [true, false] {
                    let result = run(bed, dir, "ADD", &pod, &config).result();
                    let told = json!({"prevResult": is_told.then_some(&result)});
                    let config = changed(config.clone(), &told);
                    let call = |verb| network.call(verb, "c1").netns(pod.path()).config(&config);
                    if is_told {
                        call("CHECK").run().silent();
                    }
                    call("DEL").run().silent();
                    assert_nothing_left(bed, &pod, &config);
                }
                let result = network.add(&pod, "c1").result();
                let config = changed(config.clone(), &json!({"prevResult": result}));
                run(bed, dir, "CHECK", &pod, &config).silent();
                run(bed, dir, "DEL", &pod, &config).silent();
                assert!(pod.has_only_lo() && bed.lease_files("segment").is_empty(), "{config}");
                // Our host-local believes them when it is next asked.
                network.add(&pod, "c1").success();
                network.del(&pod, "c1").silent();
                assert_nothing_left(bed, &pod, &config);
            }
        }
    });
}
