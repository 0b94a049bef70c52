//! VLANs of a bridge's ports, and the host's own end of one, `<bridge>.<vlan>`.
//!
//! Most of it needs a kernel that filters VLANs (CONFIG_BRIDGE_VLAN_FILTERING).

use serde_json::{Value, json};
use testbed::{Network, Testbed, config, kernel::Feature::BridgeVlans};

use crate::differences::{case, case_on};

fn network<'bed>(bed: &'bed Testbed, changes: &Value) -> Network<'bed> {
    bed.network(config::bridge(&config::changed(json!({"vlan": 9}), changes)))
}

/// The other end of `br0.9`, which is a port of the bridge.
fn gateway_port(bed: &Testbed) -> String {
    bed.ip_json("link show br0.9")[0]["link"].as_str().unwrap().to_owned()
}

fn bridge_vlan(bed: &Testbed, words: &str) {
    bed.succeed("bridge", &words.split_whitespace().collect::<Vec<_>>());
}

#[test]
fn a_gateway_whose_name_is_too_long_is_refused_before_anything_is_touched() {
    case(|bed| {
        let pod = bed.sandbox("pod");
        let before = bed.snapshot();
        for (bridge, vlan) in [("fourteen-long.", 9), ("twelve-long.", 100)] {
            let network = network(bed, &json!({"bridge": bridge, "vlan": vlan}));
            let outcome = network.add(&pod, "c1");
            outcome.fails_with(7, &format!("{bridge}.{vlan}"));
            outcome.fails_with(7, "shorter name");
            bed.assert_unchanged_since(&before);
            assert!(!pod.has_link("eth0"));
            network.call("DEL", "c1").netns(pod.path()).run().silent();
        }
    });
}

#[test]
fn a_link_that_cannot_be_the_gateway_is_refused_before_anything_is_touched() {
    case_on(&[BridgeVlans], |bed| {
        let pod = bed.sandbox("pod");
        let away = bed.sandbox("away");
        bed.ip("link add br0 type bridge vlan_filtering 1");
        bed.ip("link add other type bridge vlan_filtering 1");
        for (make, words) in [
            ("link add br0.9 type bridge", "it is a bridge"),
            ("link add br0.9 type veth peer name uplink", "somebody's own"),
            ("link add br0.9 type veth peer name br0.9 netns away", "another network namespace"),
            ("link add br0.9 type veth peer name veth01020304", "a port of another bridge"),
            ("link add link other name br0.9 type vlan id 9", "on another link"),
            ("link add link br0 name br0.9 type vlan id 8", "tags frames of VLAN 8"),
            ("link add link br0 name br0.9 type vlan id 9", "bridge vlan add dev br0 vid 9 self"),
        ] {
            bed.ip(make);
            if words.contains("port of another") {
                bed.ip("link set veth01020304 master other");
            }
            let before = bed.snapshot();
            network(bed, &json!({})).add(&pod, "c1").fails_with(7, words);
            bed.assert_unchanged_since(&before);
            bed.ip("link del br0.9");
        }
        drop(away);
    });
}

#[test]
fn a_gateway_that_was_broken_is_found_by_check_and_repaired_by_the_next_add() {
    case_on(&[BridgeVlans], |bed| {
        let (network, pod) = (network(bed, &json!({})), bed.sandbox("pod"));
        network.add(&pod, "c1").success();
        network.check(&pod, "c1").silent();
        let port = gateway_port(bed);
        for (number, (breakage, words)) in [
            ("ip link set br0.9 down".to_owned(), "gateway br0.9 is down"),
            (format!("ip link set {port} down"), "the port of gateway br0.9 is down"),
            (format!("bridge vlan del dev {port} vid 9"), "gateway br0.9 is not in VLAN 9"),
            (format!("bridge vlan add dev {port} vid 9"), "not in VLAN 9 as it should be"),
            (format!("bridge vlan add dev {port} vid 8"), "is in VLAN 8, too"),
            (format!("ip link set {port} nomaster"), "is not attached to br0"),
        ]
        .into_iter()
        .enumerate()
        {
            bed.succeed("sh", &["-c", &breakage]);
            network.check(&pod, "c1").fails_with(999, words);
            let id = format!("other{number}");
            let other = bed.sandbox(&id);
            network.add(&other, &id).success();
            network.check(&other, &id).silent();
            network.check(&pod, "c1").silent();
            let server = bed.tcp_server("10.1.0.1:0");
            let at = server.local_addr().unwrap().to_string();
            assert!(other.tcp(&at, &server).is_ok(), "{breakage}");
            network.del(&other, &id).silent();
        }
    });
}

#[test]
fn a_gateway_survives_its_bridge() {
    case_on(&[BridgeVlans], |bed| {
        let (network, pod) = (network(bed, &json!({})), bed.sandbox("pod"));
        network.add(&bed.sandbox("first"), "first").success();
        bed.ip("link del br0");
        network.add(&pod, "c1").success();
        network.check(&pod, "c1").silent();
    });
}

#[test]
fn an_administrators_vlan_link_is_the_gateway() {
    case_on(&[BridgeVlans], |bed| {
        bed.ip("link add br0 type bridge vlan_filtering 1");
        bed.ip("link add link br0 name br0.9 type vlan id 9");
        bridge_vlan(bed, "vlan add dev br0 vid 9 self");
        let (network, pod) = (network(bed, &json!({})), bed.sandbox("pod"));
        network.add(&pod, "c1").success();
        network.check(&pod, "c1").silent();
        let server = bed.tcp_server("10.1.0.1:0");
        let at = server.local_addr().unwrap().to_string();
        assert!(pod.tcp(&at, &server).is_ok());
    });
}

#[test]
fn a_port_in_one_vlan_too_many_is_found_by_check() {
    case_on(&[BridgeVlans], |bed| {
        let rows = [
            (json!({}), "vlan add dev PORT vid 8", "is in VLAN 8, too"),
            (json!({}), "vlan add dev PORT vid 1 untagged", "is in VLAN 1, too"),
            (json!({}), "vlan del dev PORT vid 9", "is not in VLAN 9"),
            (json!({"preserveDefaultVlan": true}), "vlan add dev PORT vid 8", "is in VLAN 8, too"),
            (
                json!({"vlan": 0, "vlanTrunk": [{"minID": 20, "maxID": 22}]}),
                "vlan del dev PORT vid 21",
                "is not in VLAN 21",
            ),
        ];
        for (number, (changes, breakage, words)) in rows.into_iter().enumerate() {
            let (network, id) = (network(bed, &changes), format!("c{number}"));
            let pod = bed.sandbox(&id);
            let result = network.add(&pod, &id).result();
            network.check(&pod, &id).silent();
            let port = result["interfaces"][1]["name"].as_str().unwrap();
            bridge_vlan(bed, &breakage.replace("PORT", port));
            network.check(&pod, &id).fails_with(999, words);
            network.del(&pod, &id).silent();
        }
    });
}
