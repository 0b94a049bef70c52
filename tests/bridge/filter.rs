//! What the bridge asks of the packet filter: masquerading, and frames with their own address.

use serde_json::{Value, json};
use testbed::{Network, Place, Sandbox, Testbed, config, reach};

use crate::differences::case;

fn network<'bed>(bed: &'bed Testbed, changes: &Value) -> Network<'bed> {
    bed.network(config::bridge(&config::changed(config::dual_stack(), changes)))
}

/// As whom the neighbour, who knows the way back, sees the pod: by IPv4 and by IPv6.
fn seen(neighbour: &Place, pod: &Sandbox) -> [String; 2] {
    ["203.0.113.2", "2001:db8:ffff::2"].map(|at| reach::seen(pod, neighbour, at))
}

#[test]
fn masquerading_may_be_for_one_family_and_have_exceptions() {
    case(|bed| {
        let neighbour = bed.neighbour();
        neighbour.ip("route add 10.1.0.0/24 via 203.0.113.1");
        neighbour.ip("route add fd00:1::/64 via 2001:db8:ffff::1");
        let (hosts, pods) = (["203.0.113.1", "2001:db8:ffff::1"], ["10.1.0.", "fd00:1::"]);
        let lan = json!(["203.0.113.0/24"]);
        for (number, (changes, masqueraded)) in [
            (json!({"ipMasq": true}), [true, true]),
            (json!({"ipMasq": "v4"}), [true, false]),
            (json!({"ipMasq": "v6"}), [false, true]),
            (json!({"ipMasq": false}), [false, false]),
            (json!({"ipMasq": true, "ipMasqExclude": lan}), [false, true]),
            (json!({"ipMasq": true, "ipMasqExclude": ["198.51.100.0/24"]}), [true, true]),
        ]
        .into_iter()
        .enumerate()
        {
            let network = network(bed, &changes);
            let id = format!("c{number}");
            let pod = bed.sandbox(&id);
            network.add(&pod, &id).success();
            network.check(&pod, &id).silent();
            let seen = seen(&neighbour, &pod);
            for family in 0..2 {
                let expected = if masqueraded[family] { hosts[family] } else { pods[family] };
                assert!(seen[family].starts_with(expected), "{changes}: {seen:?}");
            }
            network.del(&pod, &id).silent();
        }
        for wrong in [json!("v5"), json!(4)] {
            let outcome =
                network(bed, &json!({"ipMasq": wrong})).add(&bed.sandbox(&wrong.to_string()), "c");
            outcome.fails_with(7, "ipMasq");
        }
    });
}

#[test]
fn a_pod_sends_with_its_own_address_only() {
    case(|bed| {
        let network = network(bed, &json!({"macspoofchk": true, "cniVersion": "1.1.0"}));
        let (free, pod) = (bed.sandbox("free"), bed.sandbox("pod"));
        network.add(&free, "c0").success();
        let result = network.add(&pod, "c1").result();
        let mac = result["interfaces"][2]["mac"].as_str().unwrap();
        let reaches = || {
            bed.ip("neigh flush dev br0");
            let server = bed.udp_server("10.1.0.1:7");
            let outcome = pod.udp_refused("10.1.0.1:7", &server);
            outcome.is_ok()
        };
        assert!(reaches());
        network.check(&pod, "c1").silent();
        pod.ip("link set eth0 address 02:00:00:00:00:77");
        assert!(!reaches(), "a foreign address is heard");
        pod.ip(&format!("link set eth0 address {mac}"));
        pod.ip("route replace default via 10.1.0.1");
        assert!(reaches());
        bed.succeed("nft", &["flush set bridge girder checked-ports"]);
        network.check(&pod, "c1").fails_with(999, "are not checked");
        network.del(&pod, "c1").silent();
        assert_eq!(bed.snapshot().lines(" c1 ").count(), 0);
    });
}

#[test]
fn the_check_of_addresses_leaves_nothing() {
    case(|bed| {
        let network = network(bed, &json!({"macspoofchk": true, "cniVersion": "1.1.0"}));
        network.add(&bed.sandbox("earlier"), "earlier").success();
        let rules = || bed.snapshot().lines("nft ").map(str::to_owned).collect::<Vec<_>>();
        let shared = rules();
        for way in ["DEL", "DEL without anything", "GC"] {
            let pod = bed.sandbox(&way.replace(' ', "-"));
            network.add(&pod, "c1").success();
            match way {
                "DEL" => network.del(&pod, "c1").silent(),
                "GC" => network.gc(&["earlier"]).silent(),
                _ => network.call("DEL", "c1").run().silent(),
            }
            assert_eq!(rules(), shared, "{way}");
        }
    });
}
