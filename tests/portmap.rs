//! Ports of the host, by packets: from everywhere a client may be, to every kind of mapping.

mod flows;
mod iptables;
mod owners;

use serde_json::json;
use testbed::{
    Place,
    config::mappings,
    kernel::Feature::Sctp,
    portmap::{Chain, matrix},
    reach::knock,
};

use crate::differences::{case, case_on};

#[test]
fn every_client_reaches_every_mapping() {
    // Go 1.1.1 has iptables only, and ignores the key.
    case(|bed| assert_eq!(matrix(bed, json!({"backend": "nftables"})), [""; 0]));
}

#[test]
fn conditions_say_who_may_use_a_port() {
    case(|bed| {
        let neighbour = bed.neighbour();
        let mut chain = Chain::new(bed);
        let stranger = bed.sandbox("stranger");
        chain.attach(&stranger, "stranger");
        let before = bed.snapshot();
        // Over IPv4, and over IPv6: may the neighbour, and may a pod?
        for (number, (v4, v6, [neighbour_may, pod_may])) in [
            (
                json!(["ip", "saddr", "203.0.113.0/24"]),
                json!(["ip6 saddr 2001:db8:ffff::/64"]),
                [true, false],
            ),
            (
                json!(["ip saddr != 203.0.113.0/24"]),
                json!(["ip6", "saddr", "!=", "2001:db8::/32"]),
                [false, true],
            ),
            (json!(["iifname", "{ lan, x* }"]), json!(["meta iifname \"la*\""]), [true, false]),
            (
                json!(["ip saddr { 203.0.113.9, 10.1.0.0/16 } iifname != lan"]),
                json!(["iifname != { lan, lo }"]),
                [false, true],
            ),
            (json!([]), json!([]), [true, true]),
        ]
        .into_iter()
        .enumerate()
        {
            chain.keys = json!({"conditionsV4": v4, "conditionsV6": v6});
            let (pod, id) = (bed.sandbox(&format!("p{number}")), format!("c{number}"));
            for list in
                [mappings(&[(8080, 80)], &json!({})), mappings(&[(79, 79), (80, 80)], &json!({}))]
            {
                chain.add(&pod, &id, &list);
                let port = if list[0]["hostPort"] == 79 { 80 } else { 8080 };
                for at in [format!("203.0.113.1:{port}"), format!("[2001:db8:ffff::1]:{port}")] {
                    for (from, may) in [(&neighbour, neighbour_may), (&stranger, pod_may)] {
                        for outcome in knock(from, &at, &pod, 80, may) {
                            assert_eq!(
                                outcome.is_ok(),
                                may,
                                "{} from {from:?} to {at}",
                                chain.keys
                            );
                        }
                    }
                }
                chain.call("CHECK", &pod, &id, &list).silent();
                // DEL that is told nothing, too.
                chain.call("DEL", &pod, &id, &if port == 80 { json!([]) } else { list }).silent();
                chain.bridge.del(&pod, &id).silent();
            }
            pod.destroy();
        }
        let left = |snapshot: &testbed::Snapshot| {
            snapshot.lines("element").filter(|line| line.contains("hostport")).count()
        };
        assert_eq!(left(&bed.snapshot()), left(&before));
    });
}

#[test]
fn sctp_is_translated_too() {
    case(|bed| {
        let (chain, pod) = (Chain::new(bed), bed.sandbox("pod"));
        let list = json!([{"hostPort": 8080, "containerPort": 80, "protocol": "SCTP"}]);
        chain.add(&pod, "c1", &list);
        chain.call("CHECK", &pod, "c1", &list).silent();
        let snapshot = bed.snapshot();
        let text: Vec<_> = snapshot.lines("hostport-targets").collect();
        assert!(text.iter().any(|line| line.contains("\"sctp\",8080")), "{text:?}");
    });
}

#[test]
fn an_sctp_port_is_reached_from_the_lan_and_from_pods() {
    case_on(&[Sctp], |bed| {
        let neighbour = bed.neighbour();
        let (chain, pod, other) = (Chain::new(bed), bed.sandbox("pod"), bed.sandbox("other"));
        chain.attach(&other, "other");
        let list = json!([{"hostPort": 8080, "containerPort": 80, "protocol": "sctp"}]);
        chain.add(&pod, "c1", &list);
        let server = pod.sctp_server("0.0.0.0:80");
        assert_eq!(neighbour.sctp("203.0.113.1:8080", &server).unwrap().to_string(), "203.0.113.2");
        for from in [bed as &Place, &other, &pod] {
            from.sctp("203.0.113.1:8080", &server).unwrap();
        }
        chain.call("DEL", &pod, "c1", &list).silent();
        assert!(neighbour.sctp("203.0.113.1:8080", &server).is_err());
    });
}

#[test]
fn without_snat_only_strangers_get_an_answer() {
    case(|bed| {
        let neighbour = bed.neighbour();
        let chain = Chain::with(bed, json!({"snat": false}));
        let pod = bed.sandbox("pod");
        chain.add(&pod, "c1", &mappings(&[(8080, 80)], &json!({})));
        let reaches = |from: &Place, at, reaches| {
            knock(from, at, &pod, 80, reaches).map(|outcome| outcome.is_ok())
        };
        assert_eq!(reaches(&neighbour, "203.0.113.1:8080", true), [true; 2]);
        assert_eq!(reaches(&pod, "203.0.113.1:8080", false), [false; 2]);
        assert_eq!(reaches(bed, "127.0.0.1:8080", false), [false; 2]);
        assert_eq!(bed.sysctl("net/ipv4/conf/br0/route_localnet").unwrap(), "0");
    });
}

#[test]
fn with_masq_all_nobody_is_seen_as_itself() {
    case(|bed| {
        let neighbour = bed.neighbour();
        let chain = Chain::with(bed, json!({"masqAll": true}));
        let pod = bed.sandbox("pod");
        chain.add(&pod, "c1", &mappings(&[(8080, 80)], &json!({})));
        for (at, gateway) in
            [("203.0.113.1:8080", "10.1.0.1"), ("[2001:db8:ffff::1]:8080", "fd00:1::1")]
        {
            for seen in knock(&neighbour, at, &pod, 80, true) {
                assert_eq!(seen.unwrap().to_string(), gateway);
            }
        }
    });
}

/// As of CVE-2019-9946 and CVE-2025-67499: only what is for this host is redirected.
#[test]
fn what_merely_passes_by_is_left_alone() {
    case(|bed| {
        let neighbour = bed.neighbour();
        let chain = Chain::new(bed);
        let (pod, client) = (bed.sandbox("pod"), bed.sandbox("client"));
        chain.add(&pod, "c1", &mappings(&[(53, 53)], &json!({})));
        chain.attach(&client, "c2");
        neighbour.ip("route add 10.1.0.0/24 via 203.0.113.1");
        neighbour.ip("route add fd00:1::/64 via 2001:db8:ffff::1");
        for (at, seen) in [("203.0.113.2:53", "10.1.0.3"), ("[2001:db8:ffff::2]:53", "fd00:1::3")] {
            for outcome in knock(&client, at, &neighbour, 53, true) {
                assert_eq!(outcome.unwrap().to_string(), seen, "from a pod to {at}");
            }
        }
        // And from the LAN to a pod that has no mapping.
        for at in ["10.1.0.3:53", "[fd00:1::3]:53"] {
            for outcome in knock(&neighbour, at, &client, 53, true) {
                assert!(outcome.unwrap().to_string().ends_with('2'), "from the LAN to {at}");
            }
        }
    });
}

#[test]
fn a_service_of_this_host_wins() {
    case(|bed| {
        let neighbour = bed.neighbour();
        let chain = Chain::new(bed);
        let (pod, backend) = (bed.sandbox("pod"), bed.sandbox("backend"));
        chain.add(&pod, "c1", &mappings(&[(443, 443)], &json!({})));
        chain.attach(&backend, "c2");
        // As IPVS and kube-proxy have it: the address is local, and another table translates it.
        bed.ip("addr add 203.0.113.99/32 dev lo");
        let service = "table ip service {\n chain pre {\n type nat hook prerouting priority dstnat\n\
                       ip daddr 203.0.113.99 tcp dport 443 dnat to 10.1.0.3:443\n }\n}\n";
        assert!(bed.feed("nft", &["-f", "-"], service.as_bytes()).status.success());
        let server = backend.tcp_server("0.0.0.0:443");
        assert!(neighbour.tcp("203.0.113.99:443", &server).is_ok());
        let server = pod.tcp_server("0.0.0.0:443");
        assert!(neighbour.tcp("203.0.113.1:443", &server).is_ok());
    });
}

#[test]
fn loopback_stays_closed_for_the_lan_and_for_pods() {
    case(|bed| {
        let neighbour = bed.neighbour();
        let (chain, pod) = (Chain::new(bed), bed.sandbox("pod"));
        chain.add(&pod, "c1", &mappings(&[(8080, 80)], &json!({})));
        assert_eq!(bed.sysctl("net/ipv4/conf/br0/route_localnet").unwrap(), "1");
        for link in ["all", "default", "lan", "lo"] {
            let key = format!("net/ipv4/conf/{link}/route_localnet");
            assert_eq!(bed.sysctl(&key).unwrap(), "0", "{link}");
        }
        let server = bed.tcp_server("127.0.0.1:7777");
        let udp = bed.udp_server("127.0.0.1:7777");
        for (from, gateway) in [(&neighbour, "203.0.113.1"), (&pod, "10.1.0.1")] {
            from.ip("route del local 127.0.0.0/8 dev lo table local");
            from.ip("route del local 127.0.0.1 dev lo table local");
            let link = if gateway == "10.1.0.1" { "eth0" } else { "lan" };
            from.set_sysctl(&format!("net/ipv4/conf/{link}/route_localnet"), "1");
            from.ip(&format!(
                "route add 127.0.0.1/32 via {gateway} src {}",
                if link == "lan" { "203.0.113.2" } else { "10.1.0.2" }
            ));
            assert!(from.tcp_refused("127.0.0.1:7777", &server).is_err(), "{gateway}");
            assert!(from.udp_refused("127.0.0.1:7777", &udp).is_err(), "{gateway}");
        }
    });
}
