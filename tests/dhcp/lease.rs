//! A lease as long as its container lives: renewed, rebound, refused, lost, and acquired anew.

use serde_json::{Value, json};
use testbed::{
    Network, Sandbox, Testbed,
    dhcp::{DISCOVER, REQUEST, Server, network},
    result::addresses,
    until, until_so,
};

use crate::differences::case;

/// A pod on the LAN with a lease of these times in seconds: its end, T1, T2.
struct Pod<'bed> {
    server: Server,
    neighbour: Sandbox,
    network: Network<'bed>,
    pod: Sandbox,
    result: Value,
}

fn attach(bed: &Testbed, times: [u32; 3]) -> Pod<'_> {
    let (neighbour, pod) = (bed.neighbour(), bed.sandbox("pod"));
    let server = Server::new(&neighbour);
    server.set(|manners| manners.times = times);
    let network = bed.network(network("macvlan", &json!({"master": "lan"})));
    let result = network.add(&pod, "c1").result();
    server.hears(REQUEST);
    Pod { server, neighbour, network, pod, result }
}

fn is_up(pod: &Sandbox) -> bool {
    pod.link("eth0")["flags"].as_array().unwrap().contains(&json!("UP"))
}

#[test]
fn it_is_renewed_by_its_server() {
    case(|bed| {
        let _daemon = bed.dhcp_daemon("-timeout 2s");
        let Pod { server, network, pod, result, neighbour: _neighbour } = attach(bed, [20, 1, 15]);
        for _ in 0..2 {
            let said = server.hears(REQUEST);
            assert!(said.is_unicast, "{said:?}");
            assert_eq!(vec![said.ciaddr.to_string()], addresses(&result));
            assert_eq!(said.source, said.ciaddr);
            assert_eq!((said.option(50), said.option(54)), (None, None));
            assert_eq!(said.option(61), Some(&b"\0c1/lan/eth0"[..]));
        }
        network.check(&pod, "c1").silent();
    });
}

#[test]
fn a_server_that_says_no_times_is_asked_at_half_of_the_lease() {
    case(|bed| {
        let _daemon = bed.dhcp_daemon("-timeout 2s");
        let Pod { server, .. } = attach(bed, [4, 0, 0]);
        assert!(server.hears(REQUEST).is_unicast);
        server.forget();
        assert!(server.hears(REQUEST).is_unicast);
    });
}

#[test]
fn who_does_not_hear_is_asked_so_that_all_hear() {
    case(|bed| {
        let _daemon = bed.dhcp_daemon("-timeout 1s");
        let Pod { server, network, pod, result, neighbour: _neighbour } = attach(bed, [60, 1, 30]);
        server.set(|manners| manners.is_deaf = true);
        let said =
            until("a broadcast", || Some(server.hears(REQUEST)).filter(|said| !said.is_unicast));
        assert_eq!(vec![said.ciaddr.to_string()], addresses(&result));
        assert_eq!((said.option(50), said.option(54)), (None, None));
        network.check(&pod, "c1").silent();
    });
}

#[test]
fn it_is_rebound_before_its_end() {
    case(|bed| {
        let _daemon = bed.dhcp_daemon("-timeout 1s");
        let Pod { server, pod, result, .. } = attach(bed, [30, 1, 2]);
        server.set(|manners| manners.is_silent = true);
        until("a broadcast", || Some(server.hears(REQUEST)).filter(|said| !said.is_unicast));
        server.set(|manners| manners.is_silent = false);
        let said =
            until("a broadcast", || Some(server.hears(REQUEST)).filter(|said| !said.is_unicast));
        assert_eq!((said.option(50), said.option(54)), (None, None));
        // That was answered, so its server is asked next time.
        until("a unicast", || Some(server.hears(REQUEST)).filter(|said| said.is_unicast));
        assert!(pod.has_address(&addresses(&result)[0]));
        assert!(server.heard().iter().all(|said| said.kind != DISCOVER));
    });
}

#[test]
fn a_refused_address_is_replaced_on_the_interface() {
    case(|bed| {
        let _daemon = bed.dhcp_daemon("-timeout 2s");
        let Pod { server, pod, result, neighbour, .. } = attach(bed, [60, 1, 30]);
        assert_eq!(addresses(&result), ["203.0.113.50"]);
        server.set(|manners| {
            manners.refuses = true;
            manners.next = 77;
        });
        server.hears(DISCOVER);
        server.set(|manners| manners.refuses = false);
        until_so("the other address", || pod.has_address("203.0.113.77"));
        assert!(!pod.has_address("203.0.113.50"));
        let routes = || pod.route_lines("-4");
        let is_default = |line: &String| line == "default via 203.0.113.2 dev eth0";
        until_so("its route", || routes().iter().any(is_default));
        assert_eq!(testbed::reach::seen(&pod, &neighbour, "203.0.113.2"), "203.0.113.77");
    });
}

#[test]
fn at_its_end_the_interface_is_switched_off_until_there_is_another() {
    case(|bed| {
        let _daemon = bed.dhcp_daemon("-timeout 1s");
        let Pod { server, network, pod, result, neighbour } = attach(bed, [4, 1, 2]);
        let own = &addresses(&result)[0];
        server.set(|manners| manners.is_silent = true);
        until_so("the end", || !is_up(&pod) && !pod.has_address(own));
        server.set(|manners| {
            manners.is_silent = false;
            manners.times = [600, 0, 0];
        });
        until_so("the address", || is_up(&pod) && pod.has_address(own));
        until_so("the lease", || network.check(&pod, "c1").status.success());
        assert_eq!(testbed::reach::seen(&pod, &neighbour, "203.0.113.2"), *own);
        network.del(&pod, "c1").silent();
        server.hears(testbed::dhcp::RELEASE);
    });
}

#[test]
fn it_ends_with_its_namespace() {
    case(|bed| {
        let _daemon = bed.dhcp_daemon("");
        let Pod { pod, network, .. } = attach(bed, [3600, 0, 0]);
        assert_eq!(bed.dhcp_leases().len(), 1);
        pod.destroy();
        until_so("the end of the lease", || bed.dhcp_leases().is_empty());
        network.del(&pod, "c1").silent();
    });
}

#[test]
fn it_ends_with_its_link() {
    case(|bed| {
        let _daemon = bed.dhcp_daemon("");
        let Pod { pod, .. } = attach(bed, [60, 1, 30]);
        pod.ip("link del eth0");
        until_so("the end of the lease", || bed.dhcp_leases().is_empty());
    });
}

#[test]
fn gc_releases_what_is_not_listed() {
    case(|bed| {
        let _daemon = bed.dhcp_daemon("");
        let neighbour = bed.neighbour();
        let server = Server::new(&neighbour);
        let config = network("macvlan", &json!({"master": "lan", "cniVersion": "1.1.0"}));
        let network = bed.network(config);
        let pods = ["one", "two"].map(|name| bed.sandbox(name));
        for (pod, name) in pods.iter().zip(["one", "two"]) {
            network.add(pod, name).success();
        }
        network.gc(&["one"]).silent();
        assert_eq!(server.hears(testbed::dhcp::RELEASE).option(61), Some(&b"\0two/lan/eth0"[..]));
        let leases = bed.dhcp_leases();
        assert_eq!((leases.len(), &leases[0]["id"]["container"]), (1, &json!("one")));
        network.check(&pods[0], "one").silent();
        assert_ne!(network.check(&pods[1], "two").error_code(), 0);
    });
}

#[test]
fn check_acquires_nothing() {
    case(|bed| {
        let daemon = bed.dhcp_daemon("");
        let Pod { server, network, pod, neighbour: _neighbour, .. } = attach(bed, [3600, 0, 0]);
        network.check(&pod, "c1").silent();
        drop(daemon);
        bed.succeed("rm", &[testbed::dhcp::LEASES]);
        let _daemon = bed.dhcp_daemon("");
        network.check(&pod, "c1").fails_with(999, "keeps no lease for c1/lan/eth0");
        assert!(server.heard().is_empty());
    });
}
