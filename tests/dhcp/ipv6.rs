//! IPv6: addresses of DHCPv6 servers, and those of router advertisements.

use nix::sys::signal::Signal;
use serde_json::{Value, json};
use testbed::{
    Network, Sandbox, Testbed,
    dhcp::{
        REBIND, RELEASE, RELEASE6, RENEW, REQUEST6, SERVER6, SOLICIT, Server, Server6, begin_add,
        network, wire,
    },
    reach::seen,
    result::addresses,
    until_so,
};

use crate::differences::case;

const V4: &str = "203.0.113.5,203.0.113.200,255.255.255.0,5m";
const V6: &str = "2001:db8:ffff::a00,2001:db8:ffff::aff,64,5m";

fn lan(ipam: &Value) -> Value {
    let ipam = testbed::config::changed(json!({"type": "dhcp", "graceAge": 0}), ipam);
    network("macvlan", &json!({"cniVersion": "1.1.0", "master": "lan", "ipam": ipam}))
}

fn only_v6<'bed>(bed: &'bed Testbed, ipv6: &str) -> Network<'bed> {
    bed.network(lan(&json!({"ipv4": false, "ipv6": ipv6})))
}

fn routes_by_a_router(pod: &Sandbox) {
    let is_router = |line: &String| line.starts_with("default via fe80::");
    until_so("a default route", || pod.route_lines("-6").iter().any(is_router));
}

fn accept_ra(pod: &Sandbox) -> String {
    pod.succeed("cat", &["/proc/sys/net/ipv6/conf/eth0/accept_ra"]).trim().to_owned()
}

#[test]
fn one_add_gives_both_families_and_del_gives_both_back() {
    case(|bed| {
        let range = format!("--dhcp-range={V6}");
        let (neighbour, server) = bed.dnsmasq_on_lan(V4, &["--enable-ra", &range]);
        let _daemon = bed.dhcp_daemon("-timeout 2s");
        let network = bed.network(lan(&json!({"ipv6": "dhcp"})));
        for name in ["one", "two"] {
            let pod = bed.sandbox(name);
            let result = network.add(&pod, name).result();
            let own = &addresses(&result)[1];
            assert_eq!(result["ips"][1]["address"], format!("{own}/128"), "{result}");
            assert!(own.starts_with("2001:db8:ffff::a"), "{result}");
            assert_eq!(accept_ra(&pod), "2");
            routes_by_a_router(&pod);
            assert!(seen(&pod, &neighbour, "203.0.113.2").starts_with("203.0.113."));
            assert_eq!(seen(&pod, &neighbour, "2001:db8:ffff::2"), *own);
            network.check(&pod, name).silent();
            network.del(&pod, name).silent();
            assert!(pod.has_only_lo() && bed.dhcp_leases().is_empty());
        }
        assert!(server.log().contains("DHCPRELEASE(lan) 203.0.113."));
        // With DHCPv6 the log names the client.
        assert!(server.log().contains("DHCPRELEASE(lan) 00:04:"), "{}", server.log());
    });
}

#[test]
fn without_the_key_there_is_no_ipv6() {
    case(|bed| {
        let range = format!("--dhcp-range={V6}");
        let (_neighbour, server) = bed.dnsmasq_on_lan(V4, &["--enable-ra", &range]);
        let _daemon = bed.dhcp_daemon("");
        let config = testbed::config::changed(lan(&json!({})), &json!({"cniVersion": "1.0.0"}));
        let result = bed.network(config).add(&bed.sandbox("pod"), "c1").result();
        assert_eq!(addresses(&result).len(), 1, "{result}");
        assert!(!server.log().contains("DHCPSOLICIT"));
    });
}

#[test]
fn a_network_may_have_ipv6_alone() {
    case(|bed| {
        let (neighbour, _server) = bed.dnsmasq_on_lan(V6, &["--enable-ra"]);
        let _daemon = bed.dhcp_daemon("");
        let (pod, network) = (bed.sandbox("pod"), only_v6(bed, "dhcp"));
        let own = addresses(&network.add(&pod, "c1").result());
        assert!(own.len() == 1 && own[0].starts_with("2001:db8:ffff::a"), "{own:?}");
        routes_by_a_router(&pod);
        assert_eq!(seen(&pod, &neighbour, "2001:db8:ffff::2"), own[0]);
        network.check(&pod, "c1").silent();
        pod.ip(&format!("addr del {}/128 dev eth0", own[0]));
        assert!(network.check(&pod, "c1").error().msg.contains(&own[0]));
        network.gc(&[]).silent();
        assert!(bed.dhcp_leases().is_empty());
    });
}

#[test]
fn what_is_no_way_to_an_address_is_refused() {
    case(|bed| {
        let (_neighbour, pod) = (bed.neighbour(), bed.sandbox("pod"));
        for (ipam, word) in
            [(json!({"ipv6": "ra"}), "`ra`"), (json!({"ipv4": false}), "no address")]
        {
            let error = bed.network(lan(&ipam)).add(&pod, "c1").error();
            assert!(format!("{error:?}").contains(word), "{error:?}");
        }
    });
}

#[test]
fn an_address_may_come_at_once() {
    case(|bed| {
        let server = Server6::new(&bed.neighbour());
        server.set(|manners| manners.is_rapid = true);
        let _daemon = bed.dhcp_daemon("");
        let (pod, network) = (bed.sandbox("pod"), only_v6(bed, "dhcp"));
        assert_eq!(addresses(&network.add(&pod, "c1").result()), ["2001:db8:ffff::50"]);
        let solicit = server.hears(SOLICIT);
        assert!(solicit.source.is_unicast_link_local() && solicit.address.is_none());
        network.del(&pod, "c1").silent();
        let release = server.hears(RELEASE6);
        assert_eq!((&release.client, release.server), (&solicit.client, Some(SERVER6.into())));
        assert_eq!(release.address.unwrap().to_string(), "2001:db8:ffff::50");
    });
}

#[test]
fn it_is_renewed_by_its_server_and_then_by_any() {
    case(|bed| {
        let server = Server6::new(&bed.neighbour());
        server.set(|manners| manners.times = [1, 3, 600]);
        let _daemon = bed.dhcp_daemon("-timeout 1s");
        let (pod, network) = (bed.sandbox("pod"), only_v6(bed, "dhcp"));
        network.add(&pod, "c1").success();
        let request = server.hears(REQUEST6);
        for _ in 0..2 {
            let renew = server.hears(RENEW);
            assert_eq!((&renew.client, renew.server), (&request.client, Some(SERVER6.into())));
            assert_eq!(renew.address, request.address);
        }
        server.set(|manners| manners.is_silent = true);
        let rebind = server.hears(REBIND);
        assert_eq!((rebind.client, rebind.server), (request.client, None));
        server.set(|manners| manners.is_silent = false);
        // That was answered, so its server is asked next time.
        server.forget();
        server.hears(RENEW);
        assert!(pod.has_address("2001:db8:ffff::50"));
        network.check(&pod, "c1").silent();
    });
}

#[test]
fn a_refused_address_is_replaced_on_the_interface() {
    case(|bed| {
        let server = Server6::new(&bed.neighbour());
        server.set(|manners| manners.times = [1, 300, 600]);
        let _daemon = bed.dhcp_daemon("");
        let pod = bed.sandbox("pod");
        only_v6(bed, "dhcp").add(&pod, "c1").success();
        server.set(|manners| {
            manners.status = Some((RENEW, 3));
            manners.next = 0x51;
        });
        until_so("the other address", || pod.has_address("2001:db8:ffff::51"));
        assert!(!pod.has_address("2001:db8:ffff::50"));
    });
}

#[test]
fn another_server_cannot_take_an_address() {
    case(|bed| {
        let server = Server6::new(&bed.neighbour());
        server.set(|manners| manners.times = [1, 16, 60]);
        let _daemon = bed.dhcp_daemon("-timeout 1s");
        let pod = bed.sandbox("pod");
        only_v6(bed, "dhcp").add(&pod, "c1").success();
        server.set(|manners| {
            manners.server = vec![0, 3, 0, 1, 2, 0, 0, 0, 0, 66];
            manners.status = Some((RENEW, 3));
        });
        server.hears(RENEW);
        server.set(|manners| manners.status = Some((REBIND, 3)));
        for _ in 0..2 {
            server.hears(REBIND);
        }
        assert!(server.heard().iter().all(|said| said.kind != SOLICIT));
        assert!(pod.has_address("2001:db8:ffff::50"));
    });
}

#[test]
fn when_it_ends_it_is_taken_and_asked_for_again() {
    case(|bed| {
        let server = Server6::new(&bed.neighbour());
        server.set(|manners| manners.times = [1, 2, 3]);
        let _daemon = bed.dhcp_daemon("-timeout 1s");
        let pod = bed.sandbox("pod");
        only_v6(bed, "dhcp").add(&pod, "c1").success();
        server.set(|manners| manners.is_silent = true);
        until_so("the end", || !pod.has_address("2001:db8:ffff::50"));
        server.set(|manners| manners.is_silent = false);
        until_so("the address", || pod.has_address("2001:db8:ffff::50"));
    });
}

#[test]
fn a_daemon_that_was_killed_goes_on() {
    case(|bed| {
        let server = Server6::new(&bed.neighbour());
        server.set(|manners| manners.times = [4, 300, 600]);
        let daemon = bed.dhcp_daemon("");
        let (pod, network) = (bed.sandbox("pod"), only_v6(bed, "dhcp"));
        network.add(&pod, "c1").success();
        let request = server.hears(REQUEST6);
        daemon.end(Signal::SIGKILL);
        server.forget();
        let _daemon = bed.dhcp_daemon("");
        let renew = server.hears(RENEW);
        assert_eq!((&renew.client, renew.address), (&request.client, request.address));
        network.check(&pod, "c1").silent();
        network.del(&pod, "c1").silent();
        assert_eq!(server.hears(RELEASE6).client, request.client);
    });
}

#[test]
fn a_failed_add_gives_the_ipv4_address_back() {
    case(|bed| {
        let neighbour = bed.neighbour();
        let (v4, server) = (Server::new(&neighbour), Server6::new(&neighbour));
        let daemon = bed.dhcp_daemon("-timeout 1s -resendtimeout 4s");
        let (pod, network) = (bed.sandbox("pod"), bed.network(lan(&json!({"ipv6": "dhcp"}))));
        server.set(|manners| manners.is_silent = true);
        let error = network.add(&pod, "c1").error();
        assert_eq!(
            (error.code, &error.msg[..]),
            (11, "error calling DHCP.Allocate: no more tries for an IPv6 address")
        );
        assert_eq!(error.details, "no DHCPv6 server has offered an address");
        v4.hears(RELEASE);
        server.set(|manners| {
            manners.is_silent = false;
            manners.status = Some((SOLICIT, 2));
        });
        let error = network.add(&pod, "c1").error();
        assert!(error.details.ends_with("NoAddrsAvail (sorry)"), "{error:?}");
        v4.hears(RELEASE);
        assert!(pod.has_only_lo() && bed.dhcp_leases().is_empty());
        drop(daemon);
    });
}

#[test]
fn a_killed_add_gives_the_ipv4_address_back() {
    case(|bed| {
        let neighbour = bed.neighbour();
        let (v4, server) = (Server::new(&neighbour), Server6::new(&neighbour));
        server.set(|manners| manners.is_silent = true);
        let _daemon = bed.dhcp_daemon("");
        let pod = bed.sandbox("pod");
        wire(bed, &pod, "eth0");
        let config = network("dhcp", &json!({"ipam": {"type": "dhcp", "ipv6": "dhcp"}}));
        let mut child = begin_add(bed, &pod, &config);
        server.hears(SOLICIT);
        child.kill().and_then(|()| child.wait()).unwrap();
        v4.hears(RELEASE);
        bed.network(config).del(&pod, "c1").silent();
        assert!(bed.dhcp_leases().is_empty());
    });
}

#[test]
fn each_family_has_a_life_of_its_own() {
    case(|bed| {
        let neighbour = bed.neighbour();
        let (v4, server) = (Server::new(&neighbour), Server6::new(&neighbour));
        // Long enough for the other family to come, on a machine that has much to do.
        v4.set(|manners| manners.times = [6, 0, 0]);
        let _daemon = bed.dhcp_daemon("-timeout 1s");
        let pod = bed.sandbox("pod");
        bed.network(lan(&json!({"ipv6": "dhcp"}))).add(&pod, "c1").success();
        v4.set(|manners| manners.is_silent = true);
        let ipv4 = || pod.ip("-4 -o addr show dev eth0");
        until_so("the end", || ipv4().is_empty());
        assert!(pod.has_address("2001:db8:ffff::50"));
        assert!(pod.link("eth0")["flags"].as_array().unwrap().contains(&json!("UP")));
        v4.set(|manners| manners.is_silent = false);
        until_so("the IPv4 address", || !ipv4().is_empty());
        drop(server);
    });
}

#[test]
fn other_main_plugins_lend_their_links_too() {
    case(|bed| {
        let (neighbour, _server) = bed.dnsmasq_on_lan(V6, &["--enable-ra"]);
        let _daemon = bed.dhcp_daemon("");
        bed.ip("link add br0 type bridge");
        bed.ip("link set br0 up");
        bed.ip("link set lan master br0");
        let ipam = json!({"type": "dhcp", "graceAge": 0, "ipv4": false, "ipv6": "auto"});
        for enabledad in [false, true] {
            let pod = bed.sandbox(&format!("pod{enabledad}"));
            let keys = json!({"bridge": "br0", "enabledad": enabledad, "ipam": ipam});
            let network = bed.network(network("bridge", &keys));
            let own = addresses(&network.add(&pod, "c1").result());
            routes_by_a_router(&pod);
            assert_eq!(vec![seen(&pod, &neighbour, "2001:db8:ffff::2")], own);
            network.check(&pod, "c1").silent();
            network.del(&pod, "c1").silent();
            assert!(pod.has_only_lo() && bed.dhcp_leases().is_empty());
        }
    });
}

#[test]
fn an_interface_makes_its_own_address_of_a_routers_prefix() {
    case(|bed| {
        for ipv6 in ["slaac", "auto"] {
            let (neighbour, _server) =
                bed.dnsmasq_on_lan("2001:db8:ffff::,ra-only", &["--enable-ra"]);
            let _daemon = bed.dhcp_daemon("");
            let (pod, network) = (bed.sandbox("pod"), only_v6(bed, ipv6));
            let result = network.add(&pod, "c1").result();
            let own = addresses(&result);
            assert!(own.len() == 1 && own[0].starts_with("2001:db8:ffff:0:"), "{result}");
            assert!(result["ips"][0]["address"].as_str().unwrap().ends_with("/64"), "{result}");
            assert!(result["ips"][0]["gateway"].as_str().unwrap().starts_with("fe80::"));
            assert_eq!(accept_ra(&pod), "2");
            routes_by_a_router(&pod);
            assert_eq!(vec![seen(&pod, &neighbour, "2001:db8:ffff::2")], own);
            // It is still the kernel's, which looks after it.
            assert!(pod.ip("-6 -o addr show dev eth0 scope global").contains("dynamic"));
            network.check(&pod, "c1").silent();
            network.del(&pod, "c1").silent();
            assert!(pod.has_only_lo() && bed.dhcp_leases().is_empty());
            pod.destroy();
            bed.ip("link del lan");
            neighbour.destroy();
        }
    });
}

#[test]
fn a_router_may_send_to_a_dhcpv6_server() {
    case(|bed| {
        let (_neighbour, _server) = bed.dnsmasq_on_lan(V6, &["--enable-ra"]);
        let _daemon = bed.dhcp_daemon("");
        let result = only_v6(bed, "auto").add(&bed.sandbox("pod"), "c1").result();
        assert!(addresses(&result)[0].starts_with("2001:db8:ffff::a"), "{result}");
    });
}

#[test]
fn a_segment_without_a_router_is_told() {
    case(|bed| {
        let _neighbour = bed.neighbour();
        let _daemon = bed.dhcp_daemon("-timeout 1s");
        for ipv6 in ["slaac", "auto"] {
            let pod = bed.sandbox(ipv6);
            let error = only_v6(bed, ipv6).add(&pod, ipv6).error();
            assert!(error.code == 11 && error.msg.contains("no router"), "{error:?}");
            assert!(pod.has_only_lo() && bed.dhcp_leases().is_empty());
        }
    });
}
