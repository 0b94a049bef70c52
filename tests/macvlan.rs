//! Pods with an interface of their own on the LAN: who reaches whom, by which master, in which mode.

mod check;
mod crash;
mod mac;
mod undo;

use serde_json::{Value, json};
use testbed::{
    Network, Place, Sandbox, Testbed, attachment::macvlan, reach::is_refused, reach::seen,
    result::addresses,
};

use crate::differences::case;

/// The neighbour's addresses.
const LAN: [&str; 2] = ["203.0.113.2", "2001:db8:ffff::2"];

/// A link with a carrier that leads nowhere.
fn master(place: &Place, name: &str) {
    place.ip(&format!("link add {name} type veth peer name {name}-peer"));
    for end in ["", "-peer"] {
        place.ip(&format!("link set {name}{end} up"));
    }
}

/// Adds two pods: their sandboxes and addresses.
fn pair(network: &Network<'_>, bed: &Testbed) -> [(Sandbox, Vec<String>); 2] {
    ["one", "two"].map(|id| {
        let pod = bed.sandbox(id);
        let own = addresses(&network.add(&pod, id).result());
        (pod, own)
    })
}

fn mode(pod: &Place) -> Value {
    pod.link("eth0")["linkinfo"]["info_data"]["mode"].clone()
}

#[test]
fn one_interface_is_in_the_result() {
    case(|bed| {
        let (_neighbour, pod) = (bed.neighbour(), bed.sandbox("pod"));
        let dns = json!({"nameservers": ["192.0.2.53"]});
        let result = bed.network(macvlan(&json!({"dns": dns}))).add(&pod, "c1").result();
        let link = pod.link("eth0");
        assert_eq!(link["linkinfo"]["info_kind"], "macvlan");
        assert_eq!(link["mtu"], 1500);
        assert!(link["flags"].as_array().unwrap().contains(&json!("UP")));
        let own = json!({"name": "eth0", "mac": link["address"], "sandbox": pod.path()});
        assert_eq!(result["interfaces"], json!([own]));
        let ip = |address, gateway| json!({"interface": 0, "address": address, "gateway": gateway});
        let ips =
            [ip("203.0.113.10/24", "203.0.113.2"), ip("2001:db8:ffff::10/64", "2001:db8:ffff::2")];
        assert_eq!(result["ips"], json!(ips));
        assert_eq!(result["dns"], dns);
    });
}

#[test]
fn pods_and_the_lan_reach_each_other() {
    case(|bed| {
        let neighbour = bed.neighbour();
        let [(one, own), (two, others)] = pair(&bed.network(macvlan(&json!({}))), bed);
        for family in 0..2 {
            assert_eq!(seen(&one, &two, &others[family]), own[family]);
            assert_eq!(seen(&two, &one, &own[family]), others[family]);
            assert_eq!(seen(&one, &neighbour, LAN[family]), own[family]);
            assert_eq!(seen(&neighbour, &two, &others[family]), LAN[family]);
        }
    });
}

#[test]
fn private_pods_reach_the_lan_and_not_each_other() {
    case(|bed| {
        let neighbour = bed.neighbour();
        // The neighbour does not send back what came from there, so VEPA keeps them apart as well.
        for name in ["private", "vepa"] {
            let network = bed.network(macvlan(&json!({"mode": name})));
            let pods = pair(&network, bed);
            let [(one, own), (two, others)] = &pods;
            for family in 0..2 {
                assert_eq!(seen(one, &neighbour, LAN[family]), own[family]);
                assert_eq!(seen(&neighbour, two, &others[family]), LAN[family]);
                assert!(is_refused(one, two, &others[family]), "{name}");
            }
            for ((pod, _), id) in pods.iter().zip(["one", "two"]) {
                network.del(pod, id).silent();
                pod.destroy();
            }
        }
    });
}

#[test]
fn the_mode_is_as_told() {
    case(|bed| {
        for (number, (told, is)) in [
            (json!(null), "bridge"),
            (json!(""), "bridge"),
            (json!("bridge"), "bridge"),
            (json!("private"), "private"),
            (json!("vepa"), "vepa"),
            (json!("passthru"), "passthru"),
        ]
        .into_iter()
        .enumerate()
        {
            let (lan, pod) = (format!("m{number}"), bed.sandbox(&format!("p{number}")));
            master(bed, &lan);
            let config = macvlan(&json!({"master": lan, "mode": told, "ipam": null}));
            let network = bed.network(config);
            network.add(&pod, "c1").success();
            assert_eq!(mode(&pod), is);
            network.check(&pod, "c1").silent();
            if is == "passthru" {
                assert_eq!(pod.link("eth0")["address"], bed.link(&lan)["address"]);
            }
            network.del(&pod, "c1").silent();
        }
    });
}

#[test]
fn a_master_that_is_passed_through_is_not_shared() {
    case(|bed| {
        master(bed, "m0");
        let [first, second] = ["first", "second"].map(|name| bed.sandbox(name));
        let shared = bed.network(macvlan(&json!({"master": "m0", "ipam": null})));
        let alone = json!({"master": "m0", "mode": "passthru", "ipam": null});
        bed.network(macvlan(&alone)).add(&first, "c1").success();
        assert_ne!(shared.add(&second, "c2").error_code(), 0);
        assert!(second.has_only_lo());
        shared.del(&first, "c1").silent();
        shared.add(&second, "c2").success();
        assert_ne!(bed.network(macvlan(&alone)).add(&first, "c1").error_code(), 0);
        assert!(first.has_only_lo());
    });
}

#[test]
fn an_unknown_mode_is_named() {
    case(|bed| {
        let (_neighbour, pod) = (bed.neighbour(), bed.sandbox("pod"));
        let before = bed.snapshot();
        let error = bed.network(macvlan(&json!({"mode": "x"}))).add(&pod, "c1").error();
        assert_eq!(error.msg, "unknown macvlan mode: \"x\"");
        bed.assert_unchanged_since(&before);
        assert!(pod.has_only_lo());
    });
}

#[test]
fn the_master_is_by_default_where_the_default_route_leads() {
    case(|bed| {
        let neighbour = bed.neighbour();
        master(bed, "other");
        for (number, (add, del)) in [
            ("route add default via 203.0.113.2", "route del default"),
            ("-6 route add default via 2001:db8:ffff::2", "-6 route del default"),
        ]
        .into_iter()
        .enumerate()
        {
            for (master, id) in [(json!(null), "a"), (json!(""), "b")] {
                let id = format!("{id}{number}");
                let (network, pod) =
                    (bed.network(macvlan(&json!({"master": master}))), bed.sandbox(&id));
                bed.ip(add);
                let own = addresses(&network.add(&pod, &id).result());
                assert_eq!(seen(&pod, &neighbour, LAN[0]), own[0]);
                network.check(&pod, &id).silent();
                bed.ip(del);
                // By now there is none, which is no reason to keep anything.
                network.del(&pod, &id).silent();
                assert!(pod.has_only_lo());
            }
        }
        assert!(bed.leases("segment").is_empty());
    });
}

#[test]
fn without_a_default_route_there_is_no_default_master() {
    case(|bed| {
        let (_neighbour, pod) = (bed.neighbour(), bed.sandbox("pod"));
        let before = bed.snapshot();
        let error = bed.network(macvlan(&json!({"master": null}))).add(&pod, "c1").error();
        assert_eq!(error.msg, "no default route interface found");
        bed.assert_unchanged_since(&before);
    });
}

#[test]
fn a_master_that_is_missing_is_named() {
    case(|bed| {
        let (pod, before) = (bed.sandbox("pod"), bed.snapshot());
        let error = bed.network(macvlan(&json!({"master": "nowhere0"}))).add(&pod, "c1").error();
        assert!(error.msg.contains("nowhere0"), "{error:?}");
        bed.assert_unchanged_since(&before);
        assert!(pod.has_only_lo());
    });
}

#[test]
fn the_mtu_is_at_most_the_masters() {
    case(|bed| {
        let (_neighbour, pod) = (bed.neighbour(), bed.sandbox("pod"));
        bed.ip("link set lan mtu 1450");
        for (told, is) in
            [(json!(null), 1450), (json!(0), 1450), (json!(1450), 1450), (json!(1300), 1300)]
        {
            let network = bed.network(macvlan(&json!({"mtu": told})));
            network.add(&pod, "c1").success();
            assert_eq!(pod.link("eth0")["mtu"], is, "{told}");
            network.check(&pod, "c1").silent();
            network.del(&pod, "c1").silent();
        }
        let before = bed.snapshot();
        for mtu in [1451, -1, 70_000] {
            let error = bed.network(macvlan(&json!({"mtu": mtu}))).add(&pod, "c1").error();
            assert_eq!(error.msg, format!("invalid MTU {mtu}, must be [0, master MTU(1450)]"));
            bed.assert_unchanged_since(&before);
            assert!(pod.has_only_lo());
        }
    });
}

#[test]
fn an_mtu_that_the_kernel_does_not_take_leaves_nothing() {
    case(|bed| {
        let (_neighbour, pod) = (bed.neighbour(), bed.sandbox("pod"));
        let before = bed.snapshot();
        // Too small for IPv4, and for IPv6.
        for mtu in [67, 1279] {
            let outcome = bed.network(macvlan(&json!({"mtu": mtu}))).add(&pod, "c1");
            assert_ne!(outcome.error_code(), 0);
            bed.assert_unchanged_since(&before);
            assert!(pod.has_only_lo(), "{mtu}");
        }
    });
}

#[test]
fn broadcasts_have_a_queue_as_long_as_told() {
    case(|bed| {
        let (_neighbour, pod) = (bed.neighbour(), bed.sandbox("pod"));
        bed.network(macvlan(&json!({"bcqueuelen": 77}))).add(&pod, "c1").success();
        let link = pod.link("eth0");
        assert_eq!(link["linkinfo"]["info_data"]["bcqueuelen"], 77, "{link}");
        let wrong = bed.network(macvlan(&json!({"bcqueuelen": -1})));
        assert_ne!(wrong.add(&bed.sandbox("other"), "c2").error_code(), 0);
    });
}

#[test]
fn the_master_may_be_in_the_container() {
    case(|bed| {
        for told in [json!(false), json!(null), json!(true)] {
            let pod = bed.sandbox("pod");
            let is_inside = told == true;
            // Each side has one, of its own size.
            for (place, mtu) in [(&**bed, 1400), (&*pod, 1300)] {
                master(place, "m0");
                place.ip(&format!("link set m0 mtu {mtu}"));
            }
            let network = bed.network(macvlan(&json!({"master": "m0", "linkInContainer": told})));
            network.add(&pod, "c1").success();
            let link = pod.link("eth0");
            assert_eq!(link["mtu"], if is_inside { 1300 } else { 1400 }, "{told}");
            assert_eq!(link["link"] == "m0", is_inside, "{link}");
            network.check(&pod, "c1").silent();
            network.del(&pod, "c1").silent();
            assert!(!pod.has_link("eth0") && pod.has_link("m0"));
            bed.ip("link del m0");
            pod.ip("link del m0");
            pod.destroy();
        }
    });
}

#[test]
fn the_default_master_in_the_container_is_by_its_own_routes() {
    case(|bed| {
        let pod = bed.sandbox("pod");
        master(&pod, "m0");
        let inside = json!({"master": null, "linkInContainer": true});
        let network = bed.network(macvlan(&inside));
        assert_eq!(network.add(&pod, "c1").error().msg, "no default route interface found");
        pod.ip("addr add 192.0.2.1/24 dev m0");
        pod.ip("route add default via 192.0.2.2");
        network.add(&pod, "c1").success();
        assert_eq!(pod.link("eth0")["link"], "m0");
        // A master that is only on the host is none.
        master(bed, "outside");
        let other = macvlan(&json!({"master": "outside", "linkInContainer": true}));
        assert_ne!(bed.network(other).ifname("eth1").add(&pod, "c1").error_code(), 0);
        assert!(!pod.has_link("eth1"));
    });
}

#[test]
fn a_new_owner_of_an_address_is_known_at_once() {
    case(|bed| {
        let neighbour = bed.neighbour();
        let ranges = json!([
            [{"subnet": "203.0.113.0/24", "rangeStart": "203.0.113.10", "rangeEnd": "203.0.113.10"}],
            [{
                "subnet": "2001:db8:ffff::/64", "rangeStart": "2001:db8:ffff::10",
                "rangeEnd": "2001:db8:ffff::10"
            }]
        ]);
        let ipam = json!({"type": "host-local", "ranges": ranges, "graceAge": 0});
        let network = bed.network(macvlan(&json!({"ipam": ipam})));
        for id in ["one", "two", "three"] {
            let pod = bed.sandbox(id);
            let own = addresses(&network.add(&pod, id).result());
            assert_eq!(own, ["203.0.113.10", "2001:db8:ffff::10"]);
            // The neighbour still knows the hardware address of the one before.
            assert_eq!(seen(&neighbour, &pod, &own[0]), LAN[0], "{id}");
            network.del(&pod, id).silent();
        }
    });
}

#[test]
fn changes_of_the_pods_link_are_announced() {
    case(|bed| {
        let (_neighbour, pod) = (bed.neighbour(), bed.sandbox("pod"));
        bed.network(macvlan(&json!({}))).add(&pod, "c1").success();
        for key in ["ipv4/conf/eth0/arp_notify", "ipv6/conf/eth0/ndisc_notify"] {
            assert_eq!(pod.sysctl(&format!("net/{key}")).as_deref(), Some("1"), "{key}");
        }
        let probed = pod.ip("-6 -o addr show scope global tentative");
        assert_eq!(probed, "", "an address that is probed cannot be used");
    });
}

#[test]
fn routes_of_ipam_are_the_pods() {
    case(|bed| {
        let (_neighbour, pod) = (bed.neighbour(), bed.sandbox("pod"));
        let mut config = macvlan(&json!({}));
        config["ipam"]["routes"] = json!([
            {"dst": "0.0.0.0/0"}, {"dst": "::/0"}, {"dst": "192.0.2.0/24", "gw": "203.0.113.77"}
        ]);
        let network = bed.network(config);
        let result = network.add(&pod, "c1").result();
        assert_eq!(result["routes"].as_array().map(Vec::len), Some(3));
        let (shown, shown6) = (pod.route_lines("-4"), pod.route_lines("-6"));
        for route in [
            "default via 203.0.113.2 dev eth0",
            "192.0.2.0/24 via 203.0.113.77 dev eth0",
            "203.0.113.0/24 dev eth0 proto kernel scope link src 203.0.113.10",
        ] {
            assert!(shown.iter().any(|line| line == route), "{route}: {shown:?}");
        }
        let default = "default via 2001:db8:ffff::2 dev eth0 metric 1024 pref medium";
        assert!(shown6.iter().any(|line| line == default), "{shown6:?}");
        network.check(&pod, "c1").silent();
    });
}
