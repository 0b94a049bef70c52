//! The file of flanneld: missing, broken, and with another subnet than before.

use serde_json::json;
use testbed::{
    Sandbox, Testbed,
    flannel::{LEASE, SUBNET_ENV, flannel},
    reach::{is_cut_off, reaches, seen},
    result::addresses,
};

use crate::differences::case;

#[test]
fn a_node_without_a_subnet_is_told_what_to_look_at() {
    case(|bed| {
        let (network, pod, before) =
            (bed.network(flannel(&json!({}))), bed.sandbox("pod"), bed.snapshot());
        let adds = |words: &str| {
            for words in [words, SUBNET_ENV, "Check the flannel pod log for this node."] {
                network.add(&pod, "c1").fails_with(11, words);
                network.status().fails_with(50, words);
            }
            network.del(&pod, "c1").silent();
            network.gc(&[]).silent();
            assert!(pod.has_only_lo());
        };
        adds("failed to load flannel 'subnet.env' file:");
        bed.assert_unchanged_since(&before);
        for (content, words) in [
            ("", "is missing FLANNEL_NETWORK, FLANNEL_IPV6_NETWORK, FLANNEL_SUBNET"),
            ("FLANNEL_MTU", "is missing FLANNEL_NETWORK"),
            (&LEASE.replace("FLANNEL_MTU=1450\n", ""), "is missing FLANNEL_MTU"),
            (&LEASE.replace("=false", ""), "is missing FLANNEL_IPMASQ"),
            (&LEASE.replace("17.1/24", "17.1"), "FLANNEL_SUBNET=10.5.17.1"),
            (&LEASE.replace("1450", "x"), "FLANNEL_MTU=x"),
        ] {
            bed.write(SUBNET_ENV, content);
            adds(words);
        }
        for make in ["mkdir", "mkfifo"] {
            bed.succeed("rm", &[SUBNET_ENV]);
            bed.succeed(make, &[SUBNET_ENV]);
            adds("not a plain file");
            bed.succeed("rm", &["-r", SUBNET_ENV]);
            bed.lease_subnet();
        }
        network.status().silent();
        network.add(&pod, "c1").success();
    });
}

#[test]
fn the_file_and_the_state_may_be_elsewhere() {
    case(|bed| {
        bed.write("/run/test/env", LEASE);
        let elsewhere = json!({"subnetFile": "/run/test/env", "dataDir": "/run/test/state"});
        let (network, pod) = (bed.network(flannel(&elsewhere)), bed.sandbox("pod"));
        network.add(&pod, "c1").success();
        assert!(bed.file("/run/test/state/c1").exists());
        network.del(&pod, "c1").silent();
        assert!(!bed.file("/run/test/state/c1").exists() && pod.has_only_lo());
    });
}

const DUAL: &str = "FLANNEL_NETWORK=10.5.0.0/16\nFLANNEL_SUBNET=10.5.17.1/24\n\
                    FLANNEL_IPV6_NETWORK=fd00:5::/48\nFLANNEL_IPV6_SUBNET=fd00:5:0:17::1/64\n\
                    FLANNEL_MTU=1450\nFLANNEL_IPMASQ=false\n";

fn other_subnet(bed: &Testbed) {
    bed.write(SUBNET_ENV, DUAL.replace("10.5.17.1", "10.5.18.1").replace(":17::", ":18::"));
}

/// The addresses of a link that the kernel has not given it by itself.
fn on(bed: &Testbed, link: &str) -> Vec<String> {
    let mut lines: Vec<_> = bed
        .snapshot()
        .lines(&format!("address \"{link}\""))
        .map(|line| line.rsplit(' ').next().unwrap().replace('"', ""))
        .collect();
    lines.sort();
    lines
}

#[test]
fn new_pods_have_the_new_subnet_and_old_ones_go_completely() {
    case(|bed| {
        let neighbour = bed.neighbour();
        bed.write(SUBNET_ENV, DUAL);
        let network = bed.network(flannel(&json!({})));
        let pods = ["old", "older", "new", "newer"].map(|name| bed.sandbox(name));
        let before = bed.snapshot();
        for id in [0, 1] {
            network.add(&pods[id], &format!("c{id}")).success();
        }
        assert_eq!(on(bed, "cni0"), ["10.5.17.1/24", "fd00:5:0:17::1/64"]);
        other_subnet(bed);
        let own = [2, 3].map(|id| addresses(&network.add(&pods[id], &format!("c{id}")).result()));
        assert_eq!(own[0], ["10.5.18.2", "fd00:5:0:18::2"]);
        assert_eq!(on(bed, "cni0"), ["10.5.18.1/24", "fd00:5:0:18::1/64"]);
        for (own, other) in own[0].iter().zip(&own[1]) {
            assert_eq!(&seen(&pods[2], &pods[3], other), own);
        }
        assert_eq!(seen(&pods[2], &neighbour, "203.0.113.2"), "203.0.113.1");
        // The way to what is another node's by now does not end on this bridge.
        let way = bed.ip_json("-4 route show 10.5.17.0/24");
        assert_eq!(way, json!([]));
        // One of them is gone already.
        bed.destroy(&pods[1]);
        for id in [0, 1] {
            network.del(&pods[id], &format!("c{id}")).silent();
        }
        assert!(pods[0].has_only_lo());
        network.check(&pods[2], "c2").silent();
        reaches(&pods[2], &pods[3], &own[1]);
        for id in [2, 3] {
            network.del(&pods[id], &format!("c{id}")).silent();
        }
        let files = |bed: &Testbed| bed.snapshot().lines("file ").count();
        assert_eq!(files(bed), before.lines("file ").count());
        assert!(bed.leases("cbr0").is_empty());
    });
}

#[test]
fn a_failed_add_leaves_the_former_subnet_to_its_pods() {
    case(|bed| {
        bed.write(SUBNET_ENV, DUAL);
        let (network, old) = (bed.network(flannel(&json!({}))), bed.sandbox("old"));
        let own = addresses(&network.add(&old, "old").result());
        let (pod, before) = (bed.sandbox("pod"), bed.snapshot());
        other_subnet(bed);
        let refusal = "echo '{\"code\": 53, \"msg\": \"no\"}'; exit 1";
        bed.script("bridge", &format!("#!/bin/sh\ncat >/dev/null\n{refusal}\n"));
        network.add(&pod, "c1").fails_with(53, "no");
        bed.write(SUBNET_ENV, DUAL);
        bed.assert_unchanged_since(&before);
        reaches(bed, &old, &own);
    });
}

#[test]
fn a_bridge_that_serves_nobody_takes_the_addresses_of_a_new_cluster() {
    case(|bed| {
        bed.write(SUBNET_ENV, DUAL.replace("10.5.", "10.244."));
        let (network, pod) = (bed.network(flannel(&json!({}))), bed.sandbox("pod"));
        network.add(&pod, "c1").success();
        network.del(&pod, "c1").silent();
        bed.write(SUBNET_ENV, DUAL);
        network.add(&pod, "c1").success();
        assert_eq!(on(bed, "cni0"), ["10.5.17.1/24", "fd00:5:0:17::1/64"]);
    });
}

#[test]
fn a_bridge_that_somebody_has_named_keeps_its_addresses() {
    case(|bed| {
        bed.lease_subnet();
        for words in [
            "link add br-lan type bridge",
            "link set br-lan up",
            "addr add 192.168.7.1/24 dev br-lan",
        ] {
            bed.ip(words);
        }
        let (before, pod) = (bed.snapshot(), bed.sandbox("pod"));
        let network = bed.network(flannel(&json!({"delegate": {"bridge": "br-lan"}})));
        network
            .add(&pod, "c1")
            .fails_with(7, "already has an IP address different from 10.5.17.1/24");
        bed.assert_unchanged_since(&before);
    });
}

/// A pod of another network on the same bridge.
fn foreign(bed: &Testbed) -> (Sandbox, Vec<String>) {
    let ipam = json!({"type": "host-local", "subnet": "10.9.0.0/24"});
    let pod = bed.sandbox("foreign");
    let network = bed.network(json!({
        "cniVersion": "1.0.0", "name": "foreign", "type": "bridge", "bridge": "cni0",
        "isDefaultGateway": true, "ipam": ipam
    }));
    let own = addresses(&network.add(&pod, "foreign").result());
    (pod, own)
}

#[test]
fn another_networks_bridge_is_left_alone() {
    case(|bed| {
        bed.lease_subnet();
        let (foreign, own) = foreign(bed);
        let (network, pod, before) =
            (bed.network(flannel(&json!({}))), bed.sandbox("pod"), bed.snapshot());
        network
            .add(&pod, "c1")
            .fails_with(7, "already has an IP address different from 10.5.17.1/24");
        bed.assert_unchanged_since(&before);
        reaches(bed, &foreign, &own);
    });
}

#[test]
fn who_asks_for_it_replaces_whatever_is_there() {
    case(|bed| {
        bed.lease_subnet();
        let (foreign, own) = foreign(bed);
        for (force, code) in [(true, None), (false, Some(7))] {
            let keys = json!({"delegate": {"isDefaultGateway": true, "forceAddress": force}});
            let (network, pod) = (bed.network(flannel(&keys)), bed.sandbox("pod"));
            let outcome = network.add(&pod, "c1");
            assert_eq!((!outcome.status.success()).then(|| outcome.error_code()), code);
            bed.destroy(&pod);
            network.del(&pod, "c1").silent();
            // What was told stays told: flannel itself replaces nothing then.
            other_subnet(bed);
        }
        is_cut_off(bed, &foreign, &own);
    });
}
