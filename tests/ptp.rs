//! Pods that have a pair to the host each: who reaches whom, and what the kernel knows of it.

mod check;
mod crash;
mod dns;
mod layer_2;
mod masquerade;
mod undo;
mod upgrade;

use serde_json::{Value, json};
use testbed::{Sandbox, Testbed, attachment::ptp, reach::seen, result::addresses};

use crate::differences::case;

/// The address families, each alone and both.
fn families() -> [Value; 3] {
    let (v4, v6) = (json!([{"subnet": "10.1.0.0/24"}]), json!([{"subnet": "fd00:1::/64"}]));
    let (r4, r6) = (json!({"dst": "0.0.0.0/0"}), json!({"dst": "::/0"}));
    [
        (vec![v4.clone()], vec![r4.clone()]),
        (vec![v6.clone()], vec![r6.clone()]),
        (vec![v4, v6], vec![r4, r6]),
    ]
    .map(|(ranges, routes)| json!({"type": "host-local", "ranges": ranges, "routes": routes}))
}

/// Adds a pod with what the IPAM plugin `ipam` says: the sandbox.
fn add(bed: &Testbed, name: &str, ips: &[(&str, &str)]) -> Sandbox {
    bed.ipam(ips);
    let pod = bed.sandbox(name);
    bed.network(ptp(&json!({"ipam": {"type": "ipam"}}))).add(&pod, name).success();
    bed.settle();
    pod
}

/// Asserts that these pods reach each other, and that nobody translates what they send.
fn assert_connected(pods: [(&Sandbox, &str); 2]) {
    let [(one, own), (two, other)] = pods;
    assert_eq!(seen(one, two, other), own);
    assert_eq!(seen(two, one, own), other);
}

#[test]
fn both_ends_are_in_the_result() {
    case(|bed| {
        let pod = bed.sandbox("pod");
        let result = bed.network(ptp(&json!({}))).add(&pod, "c1").result();
        let interfaces = result["interfaces"].as_array().unwrap();
        let [host, own] = &interfaces[..] else { panic!("two interfaces: {result}") };
        let name = host["name"].as_str().unwrap();
        assert!(name.starts_with("veth"), "{result}");
        assert_eq!(*host, json!({"name": name, "mac": bed.link(name)["address"]}));
        let mac = &pod.link("eth0")["address"];
        assert_eq!(mac.as_str().map(str::len), Some(17));
        assert_eq!(*own, json!({"name": "eth0", "mac": mac, "sandbox": pod.path()}));
        let ip = |address, gateway| json!({"interface": 1, "address": address, "gateway": gateway});
        let ips = [ip("10.1.0.2/24", "10.1.0.1"), ip("fd00:1::2/64", "fd00:1::1")];
        assert_eq!(result["ips"], json!(ips));
        assert_eq!(result["routes"], json!([{"dst": "0.0.0.0/0"}, {"dst": "::/0"}]));
    });
}

#[test]
fn pods_reach_each_other_and_their_gateway() {
    case(|bed| {
        for (number, ipam) in families().into_iter().enumerate() {
            let name = format!("net{number}");
            let network = bed.network(ptp(&json!({"name": name, "ipam": ipam})));
            let pods = ["one", "two"].map(|id| bed.sandbox(id));
            let own = [(0, "one"), (1, "two")]
                .map(|(pod, id)| addresses(&network.add(&pods[pod], id).result()));
            bed.settle();
            for (one, two) in own[0].iter().zip(&own[1]) {
                assert_connected([(&pods[0], one), (&pods[1], two)]);
                let gateway = if one.contains(':') { "fd00:1::1" } else { "10.1.0.1" };
                for (pod, own) in [(&pods[0], one), (&pods[1], two)] {
                    assert_eq!(&seen(pod, bed, gateway), own);
                    assert_eq!(seen(bed, pod, own), gateway);
                }
            }
            for (pod, id) in pods.iter().zip(["one", "two"]) {
                network.check(pod, id).silent();
                network.del(pod, id).silent();
                assert!(pod.has_only_lo());
                pod.destroy();
            }
            assert!(bed.leases(&name).is_empty());
        }
    });
}

#[test]
fn all_addresses_may_be_used_at_once() {
    case(|bed| {
        let network = bed.network(ptp(&json!({})));
        for name in ["one", "two"] {
            let pod = bed.sandbox(name);
            network.add(&pod, name).success();
            for place in [&**bed, &*pod] {
                let probed = place.ip("-6 -o addr show scope global tentative");
                assert_eq!(probed, "", "an address that is probed cannot be used");
            }
        }
    });
}

#[test]
fn two_addresses_are_subnet_enough() {
    case(|bed| {
        let one = add(bed, "one", &[("10.1.0.2/31", "10.1.0.3"), ("fd00::2/127", "fd00::3")]);
        let two = add(bed, "two", &[("10.1.0.4/31", "10.1.0.5"), ("fd00::4/127", "fd00::5")]);
        for [one_at, two_at] in [["10.1.0.2", "10.1.0.4"], ["fd00::2", "fd00::4"]] {
            assert_connected([(&one, one_at), (&two, two_at)]);
        }
        assert_eq!(seen(&one, bed, "10.1.0.3"), "10.1.0.2");
    });
}

#[test]
fn one_address_is_subnet_enough() {
    case(|bed| {
        // The gateway is beyond the prefix, so there is no connected route to replace.
        let one = add(bed, "one", &[("10.1.0.2/32", "10.9.0.1"), ("fd00::2/128", "fd00::1")]);
        let two = add(bed, "two", &[("10.1.0.4/32", "10.9.0.1"), ("fd00::4/128", "fd00::1")]);
        for [one_at, two_at] in [["10.1.0.2", "10.1.0.4"], ["fd00::2", "fd00::4"]] {
            assert_connected([(&one, one_at), (&two, two_at)]);
        }
        assert_eq!(seen(&two, bed, "10.9.0.1"), "10.1.0.4");
        assert_eq!(seen(&two, bed, "fd00::1"), "fd00::4");
    });
}

#[test]
fn a_pod_may_have_several_addresses_of_one_family() {
    case(|bed| {
        let all = [("10.1.0.2/24", "10.1.0.1"), ("10.1.0.9/24", "10.1.0.1")];
        let pod = add(bed, "pod", &[&all[..], &[("10.2.0.2/24", "10.2.0.1")]].concat());
        for (own, gateway) in
            [("10.1.0.2", "10.1.0.1"), ("10.1.0.9", "10.1.0.1"), ("10.2.0.2", "10.2.0.1")]
        {
            assert_eq!(seen(bed, &pod, own), gateway);
            let as_whom = seen(&pod, bed, gateway);
            assert!(["10.1.0.2", "10.1.0.9", "10.2.0.2"].contains(&&*as_whom), "{as_whom}");
        }
        bed.network(ptp(&json!({"ipam": {"type": "ipam"}}))).del(&pod, "pod").silent();
        assert_eq!(bed.route_lines("-4"), [""; 0]);
    });
}

#[test]
fn whatever_is_in_the_subnet_goes_through_the_gateway() {
    case(|bed| {
        let (pod, network) = (bed.sandbox("pod"), bed.network(ptp(&json!({}))));
        network.add(&pod, "c1").success();
        let mut routes = pod.route_lines("-4");
        routes.sort();
        let expected = [
            "10.1.0.0/24 via 10.1.0.1 dev eth0 src 10.1.0.2",
            "10.1.0.1 dev eth0 scope link src 10.1.0.2",
            "default via 10.1.0.1 dev eth0",
        ];
        assert_eq!(routes, expected);
        let routes = pod.route_lines("-6");
        let mut routes: Vec<_> = routes.iter().filter(|line| !line.starts_with("fe80")).collect();
        routes.sort();
        let expected = [
            "default via fd00:1::1 dev eth0 metric 1024 pref medium",
            "fd00:1::/64 via fd00:1::1 dev eth0 src fd00:1::2 metric 1024 pref medium",
            "fd00:1::1 dev eth0 src fd00:1::2 metric 1024 pref medium",
        ];
        assert_eq!(routes, expected);
    });
}

#[test]
fn the_host_knows_each_pod_by_its_pair() {
    case(|bed| {
        let network = bed.network(ptp(&json!({})));
        let result = network.add(&bed.sandbox("pod"), "c1").result();
        let veth = result["interfaces"][0]["name"].as_str().unwrap();
        assert_eq!(bed.route_lines("-4"), [format!("10.1.0.2 dev {veth} scope host")]);
        let routes = bed.route_lines("-6");
        let mut routes: Vec<_> = routes.iter().filter(|line| !line.starts_with("fe80")).collect();
        routes.sort();
        assert_eq!(*routes[1], format!("fd00:1::2 dev {veth} metric 1024 pref medium"));
        let shown = bed.ip(&format!("-o addr show dev {veth} scope global"));
        for own in ["inet 10.1.0.1/32 ", "inet6 fd00:1::1/128 "] {
            assert!(shown.contains(own), "{shown}");
        }
        assert_eq!(shown.lines().count(), 2, "{shown}");
        for (key, value) in [
            ("ipv4/ip_forward", "1"),
            ("ipv6/conf/all/forwarding", "1"),
            (&*format!("ipv6/conf/{veth}/accept_ra"), "0"),
        ] {
            assert_eq!(bed.sysctl(&format!("net/{key}")).as_deref(), Some(value), "{key}");
        }
    });
}

#[test]
fn only_what_has_an_address_is_forwarded() {
    case(|bed| {
        let [v4, v6, _] = families();
        for (ipam, forwarding) in [(v6, ["0", "1"]), (v4, ["1", "0"])] {
            for key in ["ipv4/ip_forward", "ipv6/conf/all/forwarding"] {
                bed.set_sysctl(&format!("net/{key}"), "0");
            }
            let (pod, network) = (bed.sandbox("pod"), bed.network(ptp(&json!({"ipam": ipam}))));
            network.add(&pod, "c1").success();
            let now = ["ipv4/ip_forward", "ipv6/conf/all/forwarding"]
                .map(|key| bed.sysctl(&format!("net/{key}")).unwrap());
            assert_eq!(now, forwarding);
            network.del(&pod, "c1").silent();
            pod.destroy();
        }
    });
}

#[test]
fn the_mtu_is_of_both_ends() {
    case(|bed| {
        let (pod, network) = (bed.sandbox("pod"), bed.network(ptp(&json!({"mtu": 5000}))));
        let result = network.add(&pod, "c1").result();
        let veth = result["interfaces"][0]["name"].as_str().unwrap();
        assert_eq!([&bed.link(veth)["mtu"], &pod.link("eth0")["mtu"]], [5000, 5000]);
        network.check(&pod, "c1").silent();
    });
}

#[test]
fn an_impossible_mtu_is_refused() {
    case(|bed| {
        let pod = bed.sandbox("pod");
        bed.network(ptp(&json!({}))).add(&bed.sandbox("earlier"), "earlier").success();
        bed.settle();
        let before = bed.snapshot();
        // Too small for IPv6, and too large for anybody.
        for mtu in [1279, 70_000] {
            assert_ne!(bed.network(ptp(&json!({"mtu": mtu}))).add(&pod, "c1").error_code(), 0);
            bed.assert_unchanged_since(&before);
            assert!(pod.has_only_lo(), "{mtu}");
        }
    });
}

#[test]
fn routes_of_ipam_are_the_pods() {
    case(|bed| {
        let routes = json!([
            {"dst": "0.0.0.0/0"}, {"dst": "192.168.0.0/16"}, {"dst": "1.2.3.4/32", "gw": "10.1.0.77"}
        ]);
        let ranges = json!([[{"subnet": "10.1.0.0/24"}], [{"subnet": "2001:db8:1::/66"}]]);
        let ipam = json!({"type": "host-local", "ranges": ranges, "routes": routes});
        let (pod, network) = (bed.sandbox("pod"), bed.network(ptp(&json!({"ipam": ipam}))));
        let result = network.add(&pod, "c1").result();
        assert_eq!(result["routes"], routes);
        bed.settle();
        let shown = pod.route_lines("-4");
        for route in [
            "default via 10.1.0.1 dev eth0",
            "192.168.0.0/16 via 10.1.0.1 dev eth0",
            "1.2.3.4 via 10.1.0.77 dev eth0",
        ] {
            // Nothing else of the subnet is on the link, so that may have to be said.
            let is_it = |line: &String| line.trim_end_matches(" onlink") == route;
            assert!(shown.iter().any(is_it), "{route}: {shown:?}");
        }
        assert_eq!(seen(&pod, bed, "10.1.0.1"), "10.1.0.2");
        assert_eq!(seen(&pod, bed, "2001:db8:1::1"), "2001:db8:1::2");
        network.check(&pod, "c1").silent();
        network.del(&pod, "c1").silent();
    });
}

#[test]
fn an_address_without_a_gateway_is_refused() {
    case(|bed| {
        bed.network(ptp(&json!({}))).add(&bed.sandbox("earlier"), "earlier").success();
        bed.settle();
        bed.ipam(&[("10.1.0.5/24", "")]);
        let (pod, before) = (bed.sandbox("pod"), bed.snapshot());
        let error = bed.network(ptp(&json!({"ipam": {"type": "ipam"}}))).add(&pod, "c1").error();
        let text = format!("{}; {}", error.msg, error.details);
        assert!(text.contains("10.1.0.5") && text.contains("gateway"), "{error:?}");
        bed.assert_unchanged_since(&before);
        assert!(pod.has_only_lo());
    });
}

#[test]
fn who_has_a_route_reaches_the_pod_and_is_reached() {
    case(|bed| {
        let (neighbour, pod) = (bed.neighbour(), bed.sandbox("pod"));
        bed.network(ptp(&json!({}))).add(&pod, "c1").success();
        bed.settle();
        assert!(testbed::reach::is_refused(&pod, &neighbour, "203.0.113.2"));
        neighbour.ip("route add 10.1.0.0/24 via 203.0.113.1");
        neighbour.ip("route add fd00:1::/64 via 2001:db8:ffff::1");
        assert_eq!(seen(&pod, &neighbour, "203.0.113.2"), "10.1.0.2");
        assert_eq!(seen(&pod, &neighbour, "2001:db8:ffff::2"), "fd00:1::2");
        assert_eq!(seen(&neighbour, &pod, "10.1.0.2"), "203.0.113.2");
        assert_eq!(seen(&neighbour, &pod, "fd00:1::2"), "2001:db8:ffff::2");
    });
}

#[test]
fn the_hosts_end_keeps_its_hardware_address() {
    case(|bed| {
        let result = bed.network(ptp(&json!({}))).add(&bed.sandbox("pod"), "c1").result();
        let veth = result["interfaces"][0]["name"].as_str().unwrap();
        // NET_ADDR_SET: udev changes what the kernel has drawn, and leaves what somebody has set.
        assert_eq!(bed.read(&format!("/sys/class/net/{veth}/addr_assign_type")).trim(), "3");
    });
}
