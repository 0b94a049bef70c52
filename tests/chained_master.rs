//! Links whose master, and whose addresses, are those of the plugin before them in the chain.

use serde_json::{Value, json};
use testbed::{
    Testbed,
    attachment::{ipvlan, macvlan},
    config::changed,
    kernel::Feature,
    reach::seen,
    result::addresses,
};

use crate::differences::{case, case_on};

/// The result of a plugin that has found link and address, without a version, as some write it.
fn found(master: &str) -> Value {
    json!({
        "interfaces": [{"name": master}],
        "ips": [{"address": "203.0.113.77/24", "gateway": "203.0.113.2", "interface": 0}],
        "routes": [{"dst": "192.0.2.0/24"}],
        "dns": {"nameservers": ["192.0.2.53"]}
    })
}

/// Neither a master nor an IPAM plugin is named.
fn chained(config: Value, result: &Value) -> Value {
    changed(config, &json!({"master": null, "ipam": null, "prevResult": result}))
}

fn link_and_addresses_are_as_found(bed: &Testbed, config: Value) {
    let (neighbour, pod) = (bed.neighbour(), bed.sandbox("pod"));
    let network = bed.network(chained(config, &found("lan")));
    let result = network.add(&pod, "c1").result();
    let mac = pod.link("eth0")["address"].clone();
    let own = json!({"name": "eth0", "mac": mac, "sandbox": pod.path()});
    assert_eq!(result["interfaces"], json!([own]));
    assert_eq!(result["ips"].as_array().map(Vec::len), Some(1));
    assert_eq!(result["ips"][0]["interface"], 0);
    assert_eq!(seen(&neighbour, &pod, "203.0.113.77"), "203.0.113.2");
    let routes = pod.route_lines("-4");
    let route = "192.0.2.0/24 via 203.0.113.2 dev eth0";
    assert!(routes.iter().any(|line| line == route), "{routes:?}");
    network.check(&pod, "c1").silent();
    network.del(&pod, "c1").silent();
    assert!(pod.has_only_lo());
}

#[test]
fn an_ipvlan_takes_link_and_addresses() {
    case_on(&[Feature::Ipvlan], |bed| link_and_addresses_are_as_found(bed, ipvlan(&json!({}))));
}

#[test]
fn a_macvlan_takes_link_and_addresses() {
    case(|bed| link_and_addresses_are_as_found(bed, macvlan(&json!({}))));
}

#[test]
fn its_own_keys_come_first() {
    case(|bed| {
        let (neighbour, pod) = (bed.neighbour(), bed.sandbox("pod"));
        let dns = json!({"nameservers": ["192.0.2.1"]});
        let own = macvlan(&json!({"prevResult": found("nowhere0"), "dns": dns}));
        let result = bed.network(own.clone()).add(&pod, "c1").result();
        assert_eq!(addresses(&result), ["203.0.113.10", "2001:db8:ffff::10"]);
        assert_eq!(seen(&neighbour, &pod, "203.0.113.10"), "203.0.113.2");
        assert_eq!(result["dns"], dns);
        // Only the addresses, or only the link.
        let addressed = changed(own.clone(), &json!({"ipam": null}));
        let network = bed.network(addressed).ifname("eth1");
        let result = network.add(&pod, "c1").result();
        assert_eq!((addresses(&result), &result["dns"]), (vec!["203.0.113.77".into()], &dns));
        let linked = changed(own, &json!({"master": null, "prevResult": found("lan")}));
        bed.network(linked).ifname("eth2").add(&pod, "c1").success();
    });
}

#[test]
fn the_link_may_be_in_the_container() {
    case(|bed| {
        let pod = bed.sandbox("pod");
        pod.ip("link add m0 type veth peer name m1");
        let inside = macvlan(&json!({"linkInContainer": true}));
        let network = bed.network(chained(inside, &found("m0")));
        network.add(&pod, "c1").success();
        assert_eq!(pod.link("eth0")["link"], "m0");
        network.check(&pod, "c1").silent();
        network.del(&pod, "c1").silent();
        assert!(!pod.has_link("eth0") && pod.has_link("m0"));
    });
}

#[test]
fn a_result_without_one_named_interface_is_refused() {
    case(|bed| {
        let (_neighbour, pod) = (bed.neighbour(), bed.sandbox("pod"));
        let before = bed.snapshot();
        for interfaces in
            [json!([]), json!([{"name": ""}]), json!([{"name": "lan"}, {"name": "b"}])]
        {
            let result = changed(found("lan"), &json!({"interfaces": interfaces, "ips": []}));
            let words = "chained master failure. PrevResult lacks a single named interface";
            for config in [ipvlan(&json!({})), macvlan(&json!({}))] {
                bed.network(chained(config, &result)).add(&pod, "c1").fails_with(7, words);
                bed.assert_unchanged_since(&before);
                assert!(pod.has_only_lo());
            }
        }
    });
}
