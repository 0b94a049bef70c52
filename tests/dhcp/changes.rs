//! What changes while a lease stands: its link, what its server says, and who else says something.

use std::os::unix::fs::MetadataExt as _;

use serde_json::{Value, json};
use testbed::{
    Network, Sandbox, Testbed,
    chain::Chain,
    dhcp::{DISCOVER, RELEASE, REQUEST, Server, network, wire},
    reach::seen,
    until_so,
};

use crate::differences::case;

/// A pod on the LAN that has 203.0.113.50 and a lease of these times in seconds: its end, T1, T2.
struct Pod<'bed> {
    server: Server,
    neighbour: Sandbox,
    network: Network<'bed>,
    pod: Sandbox,
}

fn lan() -> Value {
    network("macvlan", &json!({"master": "lan"}))
}

fn attach(bed: &Testbed, times: [u32; 3]) -> Pod<'_> {
    let (neighbour, pod) = (bed.neighbour(), bed.sandbox("pod"));
    let server = Server::new(&neighbour);
    server.set(|manners| manners.times = times);
    let network = bed.network(lan());
    network.add(&pod, "c1").success();
    server.hears(REQUEST);
    Pod { server, neighbour, network, pod }
}

fn has(pod: &Sandbox, address: &str) -> bool {
    pod.ip("-4 -o addr show dev eth0").contains(&format!(" {address} "))
}

fn default_routes(pod: &Sandbox, table: &str) -> Vec<String> {
    let routes = pod.route_lines("-4").into_iter();
    let routes: Vec<_> = match table {
        "main" => routes.collect(),
        _ => pod.ip(&format!("-4 route show table {table}")).lines().map(str::to_owned).collect(),
    };
    let gateway = |line: &str| Some(line.trim().strip_prefix("default via ")?.to_owned());
    routes.iter().filter_map(|line| gateway(line)).collect()
}

#[test]
fn a_link_is_known_whatever_its_name_and_its_name_is_nothing() {
    case(|bed| {
        let _daemon = bed.dhcp_daemon("");
        let Pod { server, pod, neighbour: _neighbour, .. } = attach(bed, [60, 1, 30]);
        let mac = pod.link("eth0")["address"].as_str().unwrap().replace(':', "");
        for command in ["set eth0 down", "set eth0 name eth9", "set eth9 up"] {
            pod.ip(&format!("link {command}"));
        }
        wire(bed, &pod, "eth0");
        pod.ip("link set eth0 up");
        server.forget();
        for _ in 0..2 {
            assert_eq!(server.hears(REQUEST).mac, mac);
        }
        pod.ip("link del eth9");
        until_so("the end of the lease", || bed.dhcp_leases().is_empty());
        assert!(server.heard().iter().all(|said| said.mac == mac));
        assert!(pod.ip("-4 -o addr show dev eth0").is_empty());
    });
}

#[test]
fn it_ends_with_its_namespace_wherever_the_path_leads() {
    case(|bed| {
        let _daemon = bed.dhcp_daemon("");
        let Pod { mut pod, server: _server, neighbour: _neighbour, .. } = attach(bed, [3600, 0, 0]);
        let number = |pod: &Sandbox| bed.file(pod.path()).metadata().unwrap().ino();
        let own = number(&pod);
        bed.succeed("pkill", &["-STOP", "-x", "dhcp"]);
        // The kernel gives the number away again, as a rule at once.
        for _ in 0..100 {
            pod.destroy();
            pod = bed.sandbox("pod");
            if number(&pod) == own {
                break;
            }
        }
        bed.succeed("pkill", &["-CONT", "-x", "dhcp"]);
        until_so("the end of the lease", || bed.dhcp_leases().is_empty());
    });
}

#[test]
fn a_link_has_the_lease_of_its_latest_add() {
    case(|bed| {
        let _server = Server::new(&bed.neighbour());
        let _daemon = bed.dhcp_daemon("");
        let (pod, network) = (bed.sandbox("pod"), bed.network(network("dhcp", &json!({}))));
        wire(bed, &pod, "eth0");
        // The first one was killed, and its pod has another container by now.
        for name in ["one", "two"] {
            network.add(&pod, name).success();
            let leases = bed.dhcp_leases();
            assert_eq!((leases.len(), &leases[0]["id"]["container"]), (1, &json!(name)));
        }
    });
}

#[test]
fn another_router_and_another_mask_are_followed() {
    case(|bed| {
        let _daemon = bed.dhcp_daemon("");
        let Pod { server, pod, neighbour, .. } = attach(bed, [60, 1, 30]);
        pod.ip("route add 192.0.2.0/24 via 203.0.113.2");
        let say = |router: u8, mask: u8| {
            let options = vec![(1, vec![255, 255, mask, 0]), (3, vec![203, 0, 113, router])];
            server.set(|manners| manners.options = options);
        };
        say(9, 255);
        until_so("the router", || default_routes(&pod, "main") == ["203.0.113.9 dev eth0"]);
        // The address was not touched, nor what others have.
        assert!(has(&pod, "203.0.113.50/24"));
        assert!(pod.route_lines("-4").iter().any(|line| line.starts_with("192.0.2.0/24 via")));
        say(2, 0);
        until_so("the mask", || has(&pod, "203.0.113.50/16") && !has(&pod, "203.0.113.50/24"));
        until_so("the router", || default_routes(&pod, "main") == ["203.0.113.2 dev eth0"]);
        assert_eq!(seen(&pod, &neighbour, "203.0.113.2"), "203.0.113.50");
    });
}

#[test]
fn what_a_server_does_not_repeat_stays() {
    case(|bed| {
        let _daemon = bed.dhcp_daemon("");
        let Pod { server, pod, network, neighbour: _neighbour } = attach(bed, [6, 1, 3]);
        server.set(|manners| manners.options.clear());
        server.forget();
        for _ in 0..8 {
            assert!(server.hears(REQUEST).is_unicast);
        }
        assert!(has(&pod, "203.0.113.50/24"));
        assert_eq!(default_routes(&pod, "main"), ["203.0.113.2 dev eth0"]);
        network.check(&pod, "c1").silent();
    });
}

#[test]
fn a_route_that_somebody_has_removed_does_not_come_back() {
    case(|bed| {
        let _daemon = bed.dhcp_daemon("-timeout 2s");
        let Pod { server, pod, neighbour: _neighbour, .. } = attach(bed, [60, 1, 30]);
        // As Multus does.
        pod.ip("route del default");
        server.set(|manners| (manners.refuses, manners.next) = (true, 77));
        server.hears(DISCOVER);
        server.set(|manners| manners.refuses = false);
        until_so("the other address", || has(&pod, "203.0.113.77/24"));
        server.forget();
        server.hears(REQUEST);
        assert_eq!(default_routes(&pod, "main"), [""; 0]);
    });
}

#[test]
fn routes_that_sbr_has_moved_stay_where_they_are() {
    case(|bed| {
        let neighbour = bed.neighbour();
        let server = Server::new(&neighbour);
        server.set(|manners| manners.times = [5, 1, 3]);
        let _daemon = bed.dhcp_daemon("-timeout 1s");
        let sbr = json!({"cniVersion": "1.0.0", "name": "lan", "type": "sbr"});
        let (chain, pod) = (Chain::new(bed, [lan(), sbr]), bed.sandbox("pod"));
        let result = chain.add(&pod, "c1");
        server.forget();
        let assert_by = |address: &str| {
            until_so("the route", || default_routes(&pod, "100") == ["203.0.113.2 dev eth0"]);
            assert_eq!(default_routes(&pod, "main"), [""; 0]);
            let rules = pod.ip("rule show");
            assert!(rules.contains(&format!("from {address} ")), "{rules}");
            assert_eq!(rules.lines().count(), 4, "{rules}");
            // Not by the router, which does not forward.
            let subnet = pod.ip("route show table 100");
            assert!(subnet.contains("203.0.113.0/24 dev eth0"), "{subnet}");
        };
        assert_by("203.0.113.50");
        server.set(|manners| (manners.refuses, manners.next) = (true, 77));
        server.hears(DISCOVER);
        server.set(|manners| manners.refuses = false);
        until_so("the other address", || has(&pod, "203.0.113.77/24"));
        assert_by("203.0.113.77");
        server.set(|manners| manners.is_silent = true);
        until_so("the end", || !has(&pod, "203.0.113.77/24"));
        server.set(|manners| manners.is_silent = false);
        until_so("the address", || has(&pod, "203.0.113.77/24"));
        assert_by("203.0.113.77");
        assert_eq!(seen(&pod, &neighbour, "203.0.113.2"), "203.0.113.77");
        chain.del(&pod, "c1", &result);
        assert!(pod.has_only_lo() && pod.ip("rule show").lines().count() == 3);
    });
}

#[test]
fn another_server_cannot_take_an_address() {
    case(|bed| {
        let _daemon = bed.dhcp_daemon("-timeout 1s");
        let Pod { server, pod, network, neighbour: _neighbour } = attach(bed, [60, 1, 16]);
        server.set(|manners| {
            manners.refuses = true;
            manners.server = [203, 0, 113, 66].into();
        });
        server.forget();
        for is_unicast in [true, false] {
            until_so("a question", || server.hears(REQUEST).is_unicast == is_unicast);
        }
        assert!(!server.hears(REQUEST).is_unicast);
        assert!(server.heard().iter().all(|said| said.kind != DISCOVER));
        assert!(has(&pod, "203.0.113.50/24"));
        network.check(&pod, "c1").silent();
    });
}

#[test]
fn a_link_that_is_switched_off_is_released_too() {
    case(|bed| {
        let _daemon = bed.dhcp_daemon("");
        let Pod { server, pod, network, neighbour: _neighbour } = attach(bed, [3600, 0, 0]);
        pod.ip("link set eth0 down");
        network.del(&pod, "c1").silent();
        assert_eq!(server.hears(RELEASE).source.to_string(), "203.0.113.50");
        assert!(pod.has_only_lo() && bed.dhcp_leases().is_empty());
    });
}
