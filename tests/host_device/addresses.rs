//! A link comes back with all that was said of its addresses.

use serde_json::{Value, json};
use testbed::{Testbed, attachment::host_device};

use crate::differences::case;

/// What `ip` says of the addresses of `card`, but for what the kernel adds in its own time.
fn addresses(bed: &Testbed) -> Vec<String> {
    let shown = bed.ip_json("-d addr show dev card");
    let mut all = Vec::new();
    for address in shown[0]["addr_info"].as_array().unwrap() {
        let mut address = address.clone();
        address.as_object_mut().unwrap().retain(|key, _| key != "tentative");
        if address["scope"] != "link"
            || address["local"] == "fe80::77"
            || address["family"] == "inet"
        {
            all.push(address.to_string());
        }
    }
    all.sort();
    all
}

#[test]
fn they_come_back_as_they_were() {
    case(|bed| {
        let (_wire, pod) = (bed.card(), bed.sandbox("pod"));
        for words in [
            "198.51.100.30 peer 198.51.100.31/32",
            "198.51.101.5/24 brd 198.51.101.99 label card:more scope link noprefixroute metric 77",
            "198.51.101.6/24 scope link",
            "fe80::77/64",
            "2001:db8:9::1/64 noprefixroute preferred_lft 0 nodad",
            "2001:db8:9::2 peer 2001:db8:9::3/128 metric 88 nodad",
        ] {
            bed.ip(&format!("addr add {words} dev card"));
        }
        let (before, routes) = (addresses(bed), bed.snapshot());
        assert_eq!(before.len(), 8, "{before:?}");
        let network = bed.network(host_device(&json!({"ipam": null})));
        for is_dying in [false, true] {
            network.add(&pod, "c1").success();
            if is_dying {
                // As the kernel does it with hardware.
                pod.ip("link set eth0 down");
                pod.ip("link set eth0 netns 1");
                bed.destroy(&pod);
            }
            network.del(&pod, "c1").silent();
            assert_eq!(addresses(bed), before);
            // The kernel makes the routes to peers once it trusts the addresses.
            bed.assert_back_to(&routes);
        }
    });
}

#[test]
fn what_the_host_refuses_by_now_keeps_nothing_else() {
    case(|bed| {
        let (_wire, pod) = (bed.card(), bed.sandbox("pod"));
        let network = bed.network(host_device(&json!({"ipam": null})));
        network.add(&pod, "c1").success();
        bed.set_sysctl("net/ipv6/conf/default/disable_ipv6", "1");
        let outcome = network.del(&pod, "c1");
        outcome.silent();
        assert!(outcome.stderr.contains("2001:db8:2::1/64"), "{outcome}");
        let link = bed.link("card");
        assert_eq!(link["ifalias"], "uplink-7");
        assert!(link["flags"].as_array().unwrap().contains(&json!("UP")));
        assert!(bed.ip("addr show dev card").contains("198.51.100.1/24"));
        network.add(&pod, "c2").success();
    });
}

/// An earlier version wrote no more than the address.
#[test]
fn a_record_of_an_earlier_version_is_understood() {
    case(|bed| {
        let (_wire, pod) = (bed.card(), bed.sandbox("pod"));
        let before = bed.snapshot();
        let network = bed.network(host_device(&json!({"ipam": null})));
        network.add(&pod, "c1").success();
        let file = "/run/cni/host-device/cards:c1:eth0.json";
        let mut record: Value = serde_json::from_str(&bed.read(file)).unwrap();
        for address in record["addresses"].as_array_mut().unwrap() {
            *address = json!(address.as_str().unwrap().split(' ').next());
        }
        bed.write(file, record.to_string());
        network.del(&pod, "c1").silent();
        bed.assert_unchanged_since(&before);
    });
}
