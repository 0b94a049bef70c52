//! Pods that share the hardware address of a link of the host: modes, flags, and what is below.

use serde_json::{Value, json};
use testbed::{
    Network, Place, Sandbox, Testbed,
    attachment::{ipvlan, macvlan},
    config::changed,
    kernel::Feature,
    reach::{is_refused, seen},
    result::addresses,
};

use crate::differences::{case, case_on};

const IPVLAN: [Feature; 1] = [Feature::Ipvlan];

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
fn pair(network: &Network<'_>, bed: &Testbed, names: [&str; 2]) -> [(Sandbox, Vec<String>); 2] {
    names.map(|id| {
        let pod = bed.sandbox(id);
        let own = addresses(&network.add(&pod, id).result());
        (pod, own)
    })
}

/// What `ip -d` shows of the mode.
fn shown(pod: &Place) -> Value {
    pod.link("eth0")["linkinfo"]["info_data"].clone()
}

#[test]
fn one_interface_is_in_the_result() {
    case_on(&IPVLAN, |bed| {
        let (_neighbour, pod) = (bed.neighbour(), bed.sandbox("pod"));
        let dns = json!({"nameservers": ["192.0.2.53"]});
        let result = bed.network(ipvlan(&json!({"dns": dns}))).add(&pod, "c1").result();
        let mac = bed.link("lan")["address"].clone();
        let own = json!({"name": "eth0", "mac": mac, "sandbox": pod.path()});
        assert_eq!(result["interfaces"], json!([own]));
        assert_eq!(pod.link("eth0")["address"], mac);
        assert_eq!(result["ips"][0]["interface"], 0);
        assert_eq!(result["dns"], dns);
        for key in ["ipv4/conf/eth0/arp_notify", "ipv6/conf/eth0/ndisc_notify"] {
            assert_eq!(pod.sysctl(&format!("net/{key}")).as_deref(), Some("1"), "{key}");
        }
    });
}

#[test]
fn pods_and_the_lan_reach_each_other() {
    case_on(&IPVLAN, |bed| {
        let neighbour = bed.neighbour();
        let network = bed.network(ipvlan(&json!({})));
        let [(one, own), (two, others)] = pair(&network, bed, ["one", "two"]);
        for family in 0..2 {
            assert_eq!(seen(&one, &two, &others[family]), own[family]);
            assert_eq!(seen(&one, &neighbour, LAN[family]), own[family]);
            assert_eq!(seen(&neighbour, &two, &others[family]), LAN[family]);
        }
    });
}

#[test]
fn private_pods_reach_the_lan_and_not_each_other() {
    case_on(&IPVLAN, |bed| {
        let neighbour = bed.neighbour();
        // The neighbour does not send back what came from there, so VEPA keeps them apart as well.
        for flag in ["private", "vepa"] {
            let network = bed.network(ipvlan(&json!({"flag": flag})));
            let [(one, own), (two, others)] = pair(&network, bed, ["one", "two"]);
            for family in 0..2 {
                assert_eq!(seen(&one, &neighbour, LAN[family]), own[family]);
                assert!(is_refused(&one, &two, &others[family]), "{flag}");
            }
            for (pod, id) in [(one, "one"), (two, "two")] {
                network.check(&pod, id).silent();
                network.del(&pod, id).silent();
                pod.destroy();
            }
        }
    });
}

#[test]
fn pods_may_be_told_apart_by_routes() {
    case_on(&IPVLAN, |bed| {
        let neighbour = bed.neighbour();
        for mode in ["l3", "l3s"] {
            let network = bed.network(ipvlan(&json!({"mode": mode})));
            let [(one, own), (two, others)] = pair(&network, bed, ["one", "two"]);
            assert_eq!(seen(&one, &two, &others[0]), own[0], "{mode}");
            // Nobody answers for them: whoever is on the wire is told where they are.
            let mac = bed.link("lan")["address"].as_str().unwrap().to_owned();
            neighbour.ip(&format!("neigh replace {} lladdr {mac} dev lan", own[0]));
            assert_eq!(seen(&neighbour, &one, &own[0]), LAN[0], "{mode}");
            for (pod, id) in [(one, "one"), (two, "two")] {
                network.check(&pod, id).silent();
                network.del(&pod, id).silent();
                pod.destroy();
            }
        }
    });
}

#[test]
fn the_mode_is_as_told() {
    case_on(&IPVLAN, |bed| {
        for (number, (told, is)) in [
            (json!(null), "l2"),
            (json!(""), "l2"),
            (json!("l2"), "l2"),
            (json!("l3"), "l3"),
            (json!("l3s"), "l3s"),
        ]
        .into_iter()
        .enumerate()
        {
            let (lan, pod) = (format!("m{number}"), bed.sandbox(&format!("p{number}")));
            master(bed, &lan);
            let network = bed.network(ipvlan(&json!({"master": lan, "mode": told})));
            network.add(&pod, "c1").success();
            assert_eq!(shown(&pod)["mode"], is);
            network.check(&pod, "c1").silent();
            network.del(&pod, "c1").silent();
        }
    });
}

#[test]
fn the_flag_is_as_told() {
    case_on(&IPVLAN, |bed| {
        let (_neighbour, pod) = (bed.neighbour(), bed.sandbox("pod"));
        for (told, is) in [
            (json!("private"), "private"),
            (json!("vepa"), "vepa"),
            (json!("bridge"), "bridge"),
            (json!(null), "bridge"),
        ] {
            let network = bed.network(ipvlan(&json!({"flag": told})));
            network.add(&pod, "c1").success();
            assert_eq!(shown(&pod)[is], true, "{}", shown(&pod));
            network.check(&pod, "c1").silent();
            network.del(&pod, "c1").silent();
        }
    });
}

#[test]
fn an_unknown_mode_or_flag_is_named() {
    case(|bed| {
        let (_neighbour, pod) = (bed.neighbour(), bed.sandbox("pod"));
        let before = bed.snapshot();
        for (key, msg) in
            [("mode", "unknown ipvlan mode: \"x\""), ("flag", "unknown ipvlan flag: \"x\"")]
        {
            let config = changed(ipvlan(&json!({})), &json!({key: "x"}));
            bed.network(config).add(&pod, "c1").fails_with(7, msg);
            bed.assert_unchanged_since(&before);
            assert!(pod.has_only_lo());
        }
    });
}

#[test]
fn the_latest_network_of_a_master_decides_and_check_says_so() {
    case_on(&IPVLAN, |bed| {
        let (_neighbour, pod, other) = (bed.neighbour(), bed.sandbox("pod"), bed.sandbox("other"));
        let network = bed.network(ipvlan(&json!({})));
        network.add(&pod, "c1").success();
        for (changes, words) in [
            (json!({"mode": "l3"}), "mode l3, not l2"),
            (json!({"flag": "private"}), "flag private, not bridge"),
        ] {
            let later = bed.network(ipvlan(&changes));
            later.add(&other, "c2").success();
            let error = network.check(&pod, "c1").error();
            assert!(error.msg.contains(words), "{error:?}");
            later.del(&other, "c2").silent();
        }
    });
}

#[test]
fn networks_share_a_master() {
    case_on(&IPVLAN, |bed| {
        let neighbour = bed.neighbour();
        let ipam = json!({"type": "host-local", "graceAge": 0, "subnet": "203.0.113.0/24",
                          "rangeStart": "203.0.113.100"});
        let second = ipvlan(&json!({"name": "second", "ipam": ipam}));
        for (number, config) in [ipvlan(&json!({})), second].into_iter().enumerate() {
            let (network, id) = (bed.network(config), format!("c{number}"));
            let pod = bed.sandbox(&id);
            let own = addresses(&network.add(&pod, &id).result());
            assert_eq!(seen(&neighbour, &pod, &own[0]), LAN[0]);
            network.check(&pod, &id).silent();
        }
        // But not with macvlans: the kernel gives a link's packets to one of them.
        let pod = bed.sandbox("pod");
        let third = bed.network(macvlan(&json!({"name": "third"})));
        assert_ne!(third.add(&pod, "c9").error_code(), 0);
        assert!(pod.has_only_lo() && bed.leases("third").is_empty());
    });
}

#[test]
fn a_master_that_is_used_otherwise_is_named() {
    case_on(&IPVLAN, |bed| {
        let (_neighbour, one, two) = (bed.neighbour(), bed.sandbox("one"), bed.sandbox("two"));
        bed.network(macvlan(&json!({}))).add(&one, "c1").success();
        let error = bed.network(ipvlan(&json!({"name": "other"}))).add(&two, "c2").error();
        assert!(error.msg.contains("\"lan\" has macvlans"), "{error:?}");
        assert!(two.has_only_lo() && bed.leases("other").is_empty());
    });
}

#[test]
fn the_master_is_by_default_where_the_default_route_leads() {
    case_on(&IPVLAN, |bed| {
        let (neighbour, pod) = (bed.neighbour(), bed.sandbox("pod"));
        master(bed, "other");
        let network = bed.network(ipvlan(&json!({"master": null})));
        bed.ip("route add default via 203.0.113.2");
        let own = addresses(&network.add(&pod, "c1").result());
        assert_eq!(seen(&pod, &neighbour, LAN[0]), own[0]);
        bed.ip("route del default");
        // By now there is none, which says nothing about the pod.
        network.check(&pod, "c1").silent();
        network.del(&pod, "c1").silent();
        assert!(pod.has_only_lo());
    });
}

#[test]
fn a_master_that_is_missing_is_named() {
    case(|bed| {
        let (pod, before) = (bed.sandbox("pod"), bed.snapshot());
        let refusal = |changes| bed.network(ipvlan(&changes)).add(&pod, "c1").error().msg;
        let missing = refusal(json!({"master": "nowhere0"}));
        assert_eq!(missing, "failed to lookup master \"nowhere0\": Link not found");
        assert_eq!(refusal(json!({"master": null})), "no default route interface found");
        bed.assert_unchanged_since(&before);
        assert!(pod.has_only_lo());
    });
}

#[test]
fn the_master_may_be_in_the_container() {
    case_on(&IPVLAN, |bed| {
        for told in [json!(false), json!(null), json!(true)] {
            let pod = bed.sandbox("pod");
            let is_inside = told == true;
            for (place, mtu) in [(&**bed, 1400), (&*pod, 1300)] {
                master(place, "m0");
                place.ip(&format!("link set m0 mtu {mtu}"));
            }
            let network = bed.network(ipvlan(&json!({"master": "m0", "linkInContainer": told})));
            network.add(&pod, "c1").success();
            assert_eq!(pod.link("eth0")["mtu"], if is_inside { 1300 } else { 1400 }, "{told}");
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
fn a_link_of_the_kind_may_be_the_master_of_another() {
    case_on(&IPVLAN, |bed| {
        let (_neighbour, pod) = (bed.neighbour(), bed.sandbox("pod"));
        bed.network(ipvlan(&json!({}))).add(&pod, "c1").success();
        let ipam = json!({"type": "host-local", "graceAge": 0, "subnet": "192.0.2.0/24"});
        let inside = json!({"master": "eth0", "linkInContainer": true, "ipam": ipam});
        let inner = bed.network(ipvlan(&inside)).ifname("eth1");
        inner.add(&pod, "c1").success();
        inner.check(&pod, "c1").silent();
        inner.del(&pod, "c1").silent();
        assert!(!pod.has_link("eth1") && pod.has_link("eth0"));
    });
}

#[test]
fn check_finds_what_is_different() {
    case_on(&IPVLAN, |bed| {
        let (_neighbour, pod) = (bed.neighbour(), bed.sandbox("pod"));
        master(bed, "other");
        let network = bed.network(ipvlan(&json!({})));
        network.add(&pod, "c1").success();
        network.check(&pod, "c1").silent();
        let check = |changes: Value| {
            let result = json!({"prevResult": network.result("c1")});
            let config = changed(changed(network.config().clone(), &result), &changes);
            network.call("CHECK", "c1").netns(pod.path()).config(&config).run().error()
        };
        assert!(check(json!({"master": "other"})).msg.contains("\"other\""));
        assert!(check(json!({"master": "nowhere0"})).msg.contains("\"nowhere0\""));
        assert!(check(json!({"mode": "l3"})).msg.contains("mode l2, not l3"));
        pod.ip("addr del 203.0.113.10/24 dev eth0");
        assert!(check(json!({})).msg.contains("203.0.113.10"));
        pod.ip("link set eth0 down");
        assert!(check(json!({})).msg.contains("down"));
        pod.ip("link del eth0");
        assert!(check(json!({})).msg.contains("eth0"));
    });
}
