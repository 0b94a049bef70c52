//! Pods with one VLAN of a link of the host: which frames they see, and who has which VLAN.

use serde_json::{Value, json};
use testbed::{
    Place, Sandbox, attachment::vlan, config::changed, kernel::Feature, reach::is_refused,
    reach::seen, result::addresses,
};

use crate::differences::{case, case_on};

const VLAN: [Feature; 1] = [Feature::Vlan];

/// The neighbour's addresses in a VLAN.
const LAN: [&str; 2] = ["198.51.100.2", "2001:db8:33::2"];

/// Gives the neighbour these addresses in a VLAN.
fn join(neighbour: &Sandbox, id: u16) {
    neighbour.ip(&format!("link add link lan name lan.{id} type vlan id {id}"));
    neighbour.ip(&format!("addr add {}/24 dev lan.{id}", LAN[0]));
    neighbour.ip(&format!("addr add {}/64 dev lan.{id} nodad", LAN[1]));
    neighbour.ip(&format!("link set lan.{id} up"));
}

fn shown(pod: &Place) -> Value {
    pod.link("eth0")["linkinfo"].clone()
}

#[test]
fn the_pod_is_in_its_vlan_and_in_no_other() {
    case_on(&VLAN, |bed| {
        let (neighbour, pod) = (bed.neighbour(), bed.sandbox("pod"));
        join(&neighbour, 33);
        let network = bed.network(vlan(&json!({})));
        let result = network.add(&pod, "c1").result();
        let link = pod.link("eth0");
        assert_eq!(shown(&pod)["info_kind"], "vlan");
        assert_eq!(shown(&pod)["info_data"]["id"], 33);
        assert_eq!(shown(&pod)["info_data"]["protocol"], "802.1Q");
        let own = json!({"name": "eth0", "mac": link["address"], "sandbox": pod.path()});
        assert_eq!(result["interfaces"], json!([own]));
        assert_eq!(result["ips"][0]["interface"], 0);
        for (own, at) in addresses(&result).iter().zip(LAN) {
            assert_eq!(&seen(&pod, &neighbour, at), own);
            assert_eq!(seen(&neighbour, &pod, own), at);
        }
        network.check(&pod, "c1").silent();
        neighbour.ip("link del lan.33");
        join(&neighbour, 34);
        assert!(is_refused(&pod, &neighbour, LAN[0]));
    });
}

#[test]
fn the_number_is_as_told() {
    case_on(&VLAN, |bed| {
        let (_neighbour, pod) = (bed.neighbour(), bed.sandbox("pod"));
        for (told, is) in
            [(json!(1234), 1234), (json!(4094), 4094), (json!(0), 0), (json!(null), 0)]
        {
            let network = bed.network(vlan(&json!({"vlanId": told})));
            network.add(&pod, "c1").success();
            assert_eq!(shown(&pod)["info_data"]["id"], is);
            network.check(&pod, "c1").silent();
            network.del(&pod, "c1").silent();
            assert!(pod.has_only_lo());
        }
    });
}

#[test]
fn what_is_no_vlan_of_a_link_is_refused() {
    case(|bed| {
        let (_neighbour, pod) = (bed.neighbour(), bed.sandbox("pod"));
        let before = bed.snapshot();
        let number =
            |id: i64| format!("invalid VLAN ID {id} (must be between 0 and 4095 inclusive)");
        for (changes, msg) in [
            (json!({"master": null}), "\"master\" field is required".into()),
            (json!({"master": "nowhere0"}), "failed to lookup master \"nowhere0\"".into()),
            (json!({"vlanId": -1}), number(-1)),
            (json!({"vlanId": 4095}), number(4095)),
            (
                json!({"mtu": 1600, "vlanId": null}),
                "invalid MTU 1600, must be [0, master MTU(1500)]".into(),
            ),
            (
                json!({"mtu": -100, "vlanId": null}),
                "invalid MTU -100, must be [0, master MTU(1500)]".into(),
            ),
        ] {
            let error = bed.network(vlan(&changes)).add(&pod, "c1").error();
            assert!(error.msg.contains(&msg), "{changes}: {error:?}");
            assert!(pod.has_only_lo());
            bed.assert_unchanged_since(&before);
        }
    });
}

#[test]
fn the_mtu_is_the_masters_or_less() {
    case_on(&VLAN, |bed| {
        let (_neighbour, pod) = (bed.neighbour(), bed.sandbox("pod"));
        bed.ip("link set lan mtu 1400");
        for (told, is) in
            [(json!(null), 1400), (json!(0), 1400), (json!(1400), 1400), (json!(1300), 1300)]
        {
            let network = bed.network(vlan(&json!({"mtu": told})));
            network.add(&pod, "c1").success();
            assert_eq!(pod.link("eth0")["mtu"], is, "{told}");
            network.check(&pod, "c1").silent();
            network.del(&pod, "c1").silent();
        }
    });
}

#[test]
fn a_vlan_that_is_taken_is_refused_by_name() {
    case_on(&VLAN, |bed| {
        let (_neighbour, one, two) = (bed.neighbour(), bed.sandbox("one"), bed.sandbox("two"));
        let network = bed.network(vlan(&json!({})));
        network.add(&one, "one").success();
        let before = bed.snapshot();
        let other = bed.network(vlan(&json!({"name": "other"})));
        for network in [&network, &other] {
            network.add(&two, "two").fails_with(11, "VLAN 33 of \"lan\" is taken");
            assert!(two.has_only_lo());
            bed.assert_unchanged_since(&before);
        }
        // Another one of the same link is free.
        let beside = bed.network(vlan(&json!({"name": "beside", "vlanId": 34})));
        beside.add(&two, "two").success();
        network.check(&one, "one").silent();
        beside.del(&two, "two").silent();
        network.del(&one, "one").silent();
        other.add(&two, "two").success();
        other.del(&two, "two").silent();
        // The host itself may have it.
        bed.ip("link add link lan name own type vlan id 33");
        network.add(&one, "one").fails_with(11, "VLAN 33 of \"lan\" is taken");
        network.call("DEL", "one").netns(one.path()).run().silent();
        assert!(bed.has_link("own"));
    });
}

#[test]
fn a_master_that_is_down_is_named() {
    case(|bed| {
        let (_neighbour, pod) = (bed.neighbour(), bed.sandbox("pod"));
        bed.ip("link set lan down");
        let before = bed.snapshot();
        let network = bed.network(vlan(&json!({"cniVersion": "1.1.0"})));
        network.add(&pod, "c1").fails_with(11, "master \"lan\" is down");
        network.status().fails_with(50, "master \"lan\" is down");
        assert!(pod.has_only_lo());
        bed.assert_unchanged_since(&before);
    });
}

#[test]
fn the_master_may_be_in_the_container() {
    case_on(&VLAN, |bed| {
        for told in [json!(false), json!(null), json!(true)] {
            let (pod, is_inside) = (bed.sandbox("pod"), told == true);
            for place in [&**bed, &*pod] {
                place.ip("link add m0 type veth peer name m1");
                place.ip("link set m0 up");
            }
            let network = bed.network(vlan(&json!({"master": "m0", "linkInContainer": told})));
            network.add(&pod, "c1").success();
            assert_eq!(pod.link("eth0")["link"] == "m0", is_inside);
            network.check(&pod, "c1").silent();
            network.del(&pod, "c1").silent();
            assert!(!pod.has_link("eth0") && pod.has_link("m0"));
            bed.ip("link del m0");
            pod.destroy();
        }
    });
}

#[test]
fn without_ipam_it_carries_frames() {
    case_on(&VLAN, |bed| {
        let (neighbour, pod) = (bed.neighbour(), bed.sandbox("pod"));
        join(&neighbour, 33);
        let network = bed.network(vlan(&json!({"ipam": null})));
        network.add(&pod, "c1").success();
        pod.ip("addr add 198.51.100.9/24 dev eth0");
        assert_eq!(seen(&pod, &neighbour, LAN[0]), "198.51.100.9");
        network.check(&pod, "c1").silent();
        network.del(&pod, "c1").silent();
        assert!(pod.has_only_lo());
    });
}

#[test]
fn check_finds_what_is_different() {
    case_on(&VLAN, |bed| {
        let (_neighbour, pod) = (bed.neighbour(), bed.sandbox("pod"));
        bed.ip("link add other type veth peer name other-peer");
        let network = bed.network(vlan(&json!({"mtu": 1400})));
        network.add(&pod, "c1").success();
        network.check(&pod, "c1").silent();
        let check = |changes: Value| {
            let result = json!({"prevResult": network.result("c1")});
            let config = changed(changed(network.config().clone(), &result), &changes);
            network.call("CHECK", "c1").netns(pod.path()).config(&config).run().error().msg
        };
        assert!(check(json!({"vlanId": 34})).contains("VLAN ID 33, not 34"));
        assert!(check(json!({"mtu": 1300})).contains("MTU 1400, not 1300"));
        assert!(check(json!({"master": "other"})).contains("not on master \"other\""));
        pod.ip("link set eth0 mtu 1350");
        assert!(check(json!({})).contains("MTU 1350, not 1400"));
        pod.ip("addr del 198.51.100.10/24 dev eth0");
        let both = check(json!({}));
        assert!(both.contains("MTU") && both.contains("198.51.100.10"), "{both}");
        pod.ip("link del eth0");
        pod.ip("link add eth0 type veth peer name eth9");
        assert!(check(json!({})).contains("not of type vlan"));
    });
}
