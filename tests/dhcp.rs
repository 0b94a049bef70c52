//! Addresses of a DHCP server: what the reference tests of it say, and what goes over the wire.

mod changes;
mod daemon;
mod ipv6;
mod lease;
mod routers;

use serde_json::{Value, json};
use std::thread;
use testbed::{
    Sandbox, Testbed,
    config::changed,
    dhcp::{DISCOVER, Dnsmasq, RELEASE, REQUEST, Server, network, wire},
    reach::seen,
    result::addresses,
    until_so,
};

use crate::differences::case;

const VERSIONS: [&str; 6] = ["0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0"];

/// From `.5` on, for five minutes.
const RANGE: &str = "203.0.113.5,203.0.113.200,255.255.255.0,5m";

fn lan<'bed>(bed: &'bed Testbed, range: &str, more: &[&str]) -> (Sandbox, Dnsmasq<'bed>) {
    let neighbour = bed.neighbour();
    let server = bed.dnsmasq(&neighbour, "lan", range, more);
    (neighbour, server)
}

fn pod(bed: &Testbed, name: &str) -> Sandbox {
    let pod = bed.sandbox(name);
    wire(bed, &pod, "eth0");
    pod
}

fn dhcp(ipam: &Value) -> Value {
    network("dhcp", &json!({"ipam": changed(json!({"type": "dhcp", "graceAge": 0}), ipam)}))
}

#[test]
fn add_gives_a_lease_and_del_ends_it() {
    case(|bed| {
        let (_neighbour, _server) = lan(bed, RANGE, &[]);
        let _daemon = bed.dhcp_daemon("");
        for (number, version) in VERSIONS.into_iter().enumerate() {
            let pod = pod(bed, &format!("pod{number}"));
            let network = bed.network(network("dhcp", &json!({"cniVersion": version})));
            let result = network.add(&pod, &format!("c{number}")).result();
            let ip = if number < 2 { &result["ip4"]["ip"] } else { &result["ips"][0]["address"] };
            assert!(ip.as_str().unwrap().starts_with("203.0.113."), "{result}");
            assert!(ip.as_str().unwrap().ends_with("/24"), "{result}");
            network.del(&pod, &format!("c{number}")).silent();
        }
    });
}

#[test]
fn the_result_is_the_servers() {
    case(|bed| {
        let (_neighbour, _server) = lan(bed, "203.0.113.5,203.0.113.5,255.255.255.0,5m", &[]);
        let _daemon = bed.dhcp_daemon("");
        let result =
            bed.network(dhcp(&json!({"priority": 7}))).add(&pod(bed, "pod"), "c1").result();
        let ip = json!({"address": "203.0.113.5/24", "gateway": "203.0.113.2"});
        assert_eq!(result["ips"], json!([ip]));
        let route = json!({"dst": "0.0.0.0/0", "gw": "203.0.113.2", "priority": 7});
        assert_eq!(result["routes"], json!([route]));
    });
}

#[test]
fn dels_at_once_all_succeed() {
    case(|bed| {
        let (_neighbour, _server) = lan(bed, RANGE, &[]);
        let _daemon = bed.dhcp_daemon("");
        let (pod, network) = (pod(bed, "pod"), bed.network(dhcp(&json!({}))));
        network.add(&pod, "c1").success();
        thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| network.again("DEL", "c1").netns(pod.path()).run().silent());
            }
        });
        network.del(&pod, "c1").silent();
    });
}

#[test]
fn one_container_may_have_two_leases() {
    case(|bed| {
        let (_neighbour, _server) = lan(bed, "203.0.113.5,203.0.113.6,255.255.255.0,5m", &[]);
        let _daemon = bed.dhcp_daemon("");
        let pod = pod(bed, "pod");
        wire(bed, &pod, "eth1");
        let networks = ["eth0", "eth1"].map(|ifname| bed.network(dhcp(&json!({}))).ifname(ifname));
        let mut found: Vec<_> =
            networks.iter().map(|network| addresses(&network.add(&pod, "c1").result())).collect();
        found.sort();
        assert_eq!(found, [["203.0.113.5"], ["203.0.113.6"]]);
        for network in &networks {
            network.del(&pod, "c1").silent();
        }
    });
}

#[test]
fn an_exhausted_server_is_not_waited_for_for_ever() {
    case(|bed| {
        let (_neighbour, _server) = lan(bed, "203.0.113.5,203.0.113.5,255.255.255.0,5m", &[]);
        let _daemon = bed.dhcp_daemon("-timeout 2s -resendmax 8s --resendtimeout 3s");
        let network = bed.network(dhcp(&json!({})));
        let [first, second] = ["one", "two"].map(|name| pod(bed, name));
        network.add(&first, "one").success();
        let error = network.add(&second, "two").error();
        assert_eq!(error.msg, "error calling DHCP.Allocate: no more tries");
        network.del(&second, "two").silent();
        network.del(&first, "one").silent();
    });
}

#[test]
fn dnsmasq_honours_the_release() {
    case(|bed| {
        let (_neighbour, server) = lan(bed, "203.0.113.5,203.0.113.5,255.255.255.0,5m", &[]);
        let _daemon = bed.dhcp_daemon("-timeout 1s -resendmax 2s -resendtimeout 4s");
        for name in ["one", "two", "three"] {
            let (pod, network) = (pod(bed, name), bed.network(dhcp(&json!({}))));
            // The only address is free again.
            assert_eq!(addresses(&network.add(&pod, name).result()), ["203.0.113.5"]);
            network.del(&pod, name).silent();
        }
        server.says("DHCPRELEASE(lan) 203.0.113.5");
    });
}

#[test]
fn main_plugins_lend_the_link_and_take_it_back_after_the_release() {
    case(|bed| {
        let mac = "02:00:00:00:00:09";
        let fixed = format!("--dhcp-host={mac},203.0.113.99");
        let (neighbour, server) = lan(bed, RANGE, &[&fixed]);
        let _daemon = bed.dhcp_daemon("-timeout 2s");
        for (kind, keys) in [
            ("macvlan", json!({"master": "lan", "runtimeConfig": {"mac": mac}})),
            ("bridge", json!({"bridge": "br0", "runtimeConfig": {"mac": mac}})),
        ] {
            if kind == "bridge" {
                bed.ip("link add br0 type bridge");
                bed.ip("link set br0 up");
                bed.ip("link set lan master br0");
            }
            let pod = bed.sandbox(kind);
            let network = bed.network(network(kind, &keys));
            let result = network.add(&pod, kind).result();
            assert_eq!(addresses(&result), ["203.0.113.99"], "{result}");
            assert_eq!(seen(&pod, &neighbour, "203.0.113.2"), "203.0.113.99");
            network.check(&pod, kind).silent();
            network.del(&pod, kind).silent();
            let releases = || server.log().matches("DHCPRELEASE(lan) 203.0.113.99").count();
            until_so("a release", || releases() == if kind == "bridge" { 2 } else { 1 });
            assert!(pod.has_only_lo() && bed.dhcp_leases().is_empty());
        }
    });
}

#[test]
fn a_failed_add_gives_the_lease_back() {
    case(|bed| {
        let server = Server::new(&bed.neighbour());
        // A route by a router that cannot be reached, which the kernel refuses.
        server.set(|manners| manners.options.push((121, vec![8, 10, 192, 0, 2, 1])));
        let _daemon = bed.dhcp_daemon("");
        let pod = bed.sandbox("pod");
        let network = bed.network(network("macvlan", &json!({"master": "lan"})));
        assert!(network.add(&pod, "c1").error().msg.contains("10.0.0.0/8"));
        assert_eq!(server.hears(RELEASE).ciaddr.to_string(), "203.0.113.50");
        assert!(pod.has_only_lo() && bed.dhcp_leases().is_empty());
    });
}

#[test]
fn options_are_asked_for_and_told() {
    case(|bed| {
        let server = Server::new(&bed.neighbour());
        let _daemon = bed.dhcp_daemon("");
        let ipam = json!({
            "request": [{"option": "121"}, {"option": "host-name"}],
            "provide": [
                {"option": "host-name", "value": "fixed", "fromArg": "K8S_POD_NAME"},
                {"option": "60", "value": "girder"},
            ],
        });
        let network = bed.network(dhcp(&ipam)).args("IgnoreUnknown=1;K8S_POD_NAME=web");
        let pod = pod(bed, "pod");
        network.add(&pod, "c1").success();
        for said in [server.hears(DISCOVER), server.hears(REQUEST)] {
            assert_eq!(said.option(61), Some(&b"\0c1/lan/eth0"[..]));
            assert_eq!(said.option(55), Some(&[121, 12, 3, 1][..]));
            assert_eq!(said.option(12), Some(&b"web"[..]));
            assert_eq!(said.option(60), Some(&b"girder"[..]));
            assert!(!said.wants_broadcast);
        }
        network.del(&pod, "c1").silent();
        let release = server.hears(RELEASE);
        assert_eq!(release.option(61), Some(&b"\0c1/lan/eth0"[..]));
        assert_eq!(release.option(12), None);
    });
}

#[test]
fn a_release_goes_to_the_server_from_the_address() {
    case(|bed| {
        let server = Server::new(&bed.neighbour());
        let _daemon = bed.dhcp_daemon("");
        let (pod, network) = (pod(bed, "pod"), bed.network(dhcp(&json!({}))));
        let own = addresses(&network.add(&pod, "c1").result());
        network.del(&pod, "c1").silent();
        let release = server.hears(RELEASE);
        assert_eq!(
            (release.ciaddr.to_string(), release.source.to_string()),
            (own[0].clone(), own[0].clone())
        );
        assert!(release.is_unicast);
        assert_eq!(release.option(54), Some(&[203, 0, 113, 2][..]));
    });
}

#[test]
fn broadcast_is_asked_for_where_it_is_told() {
    case(|bed| {
        let server = Server::new(&bed.neighbour());
        let _daemon = bed.dhcp_daemon("-broadcast");
        bed.network(dhcp(&json!({}))).add(&pod(bed, "pod"), "c1").success();
        assert!(server.hears(DISCOVER).wants_broadcast && server.hears(REQUEST).wants_broadcast);
    });
}

#[test]
fn routes_are_classless_or_of_classes() {
    case(|bed| {
        let server = Server::new(&bed.neighbour());
        let _daemon = bed.dhcp_daemon("");
        let network = bed.network(dhcp(&json!({})));
        let routes = |name: &str| {
            let result = network.add(&pod(bed, name), name).result();
            let one = |route: &Value| format!("{} {}", route["dst"], route["gw"]).replace('"', "");
            result["routes"].as_array().unwrap().iter().map(one).collect::<Vec<_>>()
        };
        server.set(|manners| manners.options.push((33, vec![10, 0, 0, 0, 203, 0, 113, 9])));
        assert_eq!(routes("one"), ["10.0.0.0/8 203.0.113.9", "0.0.0.0/0 203.0.113.2"]);
        let classless = vec![24, 192, 168, 7, 0, 0, 0, 0, 0, 203, 0, 113, 8];
        server.set(|manners| manners.options.push((121, classless)));
        assert_eq!(routes("two"), ["192.168.7.0/24 0.0.0.0", "0.0.0.0/0 203.0.113.8"]);
    });
}

#[test]
fn a_list_of_routes_may_be_longer_than_an_option() {
    case(|bed| {
        let server = Server::new(&bed.neighbour());
        // RFC 3396: it is cut wherever 255 bytes are full.
        let routes: Vec<u8> =
            (0..60).flat_map(|number| [24, 10, 0, number, 203, 0, 113, 9]).collect();
        let parts = routes.chunks(255).map(|part| (121, part.to_vec()));
        server.set(|manners| manners.options.extend(parts));
        let _daemon = bed.dhcp_daemon("");
        let result = bed.network(dhcp(&json!({}))).add(&pod(bed, "pod"), "c1").result();
        let found = result["routes"].as_array().unwrap();
        assert_eq!((found.len(), &found[59]["dst"]), (60, &json!("10.0.59.0/24")));
    });
}

#[test]
fn a_route_on_the_link_is_the_pods() {
    case(|bed| {
        let server = Server::new(&bed.neighbour());
        let classless = vec![24, 192, 168, 7, 0, 0, 0, 0, 0, 203, 0, 113, 8];
        server.set(|manners| manners.options.push((121, classless)));
        let _daemon = bed.dhcp_daemon("");
        let pod = bed.sandbox("pod");
        let network = bed.network(network("macvlan", &json!({"master": "lan"})));
        network.add(&pod, "c1").success();
        let routes = pod.route_lines("-4");
        for route in ["default via 203.0.113.8 dev eth0", "192.168.7.0/24 dev eth0 scope link"] {
            assert!(routes.iter().any(|line| line == route), "{routes:?}");
        }
        network.check(&pod, "c1").silent();
    });
}

#[test]
fn an_unknown_option_is_named() {
    case(|bed| {
        let ipam = json!({"request": [{"option": "hostname"}]});
        let error = bed.network(dhcp(&ipam)).add(&bed.sandbox("pod"), "c1").error();
        assert_eq!((error.code, error.msg.as_str()), (7, "cannot parse option \"hostname\""));
    });
}

#[test]
fn a_lease_without_a_mask_is_given_back() {
    case(|bed| {
        let server = Server::new(&bed.neighbour());
        server.set(|manners| manners.options.clear());
        let _daemon = bed.dhcp_daemon("");
        let error = bed.network(dhcp(&json!({}))).add(&pod(bed, "pod"), "c1").error();
        assert!(error.msg.contains("DHCP option Subnet Mask not found in DHCPACK"), "{error:?}");
        server.hears(RELEASE);
    });
}

#[test]
fn an_interface_that_is_missing_is_named_at_once() {
    case(|bed| {
        let _neighbour = bed.neighbour();
        let _daemon = bed.dhcp_daemon("");
        let error = bed.network(dhcp(&json!({}))).add(&bed.sandbox("pod"), "c1").error();
        assert!(error.msg.contains("error looking up \"eth0\""), "{error:?}");
    });
}
