//! Pods on a bridge: they reach each other, their gateway and, masqueraded, the LAN.

mod filter;
mod links;
mod mac;
mod undo;
mod uplink;
mod vlan;

use std::{collections::BTreeSet, thread};

use serde_json::{Value, json};
use testbed::{Place, Sandbox, Testbed, config, reach::seen, result::addresses};

use crate::differences::case;

/// Asserts that packets flow from `from` to `to` and back, and that nobody translates them.
fn reaches(from: &Place, own: &str, to: &Place, address: &str) {
    assert_eq!(seen(from, to, address), own, "to {address}");
}

#[test]
fn a_bridge_is_created_and_up() {
    case(|bed| {
        let pod = bed.sandbox("pod");
        let mut config = config::bridge(&json!({}));
        config.as_object_mut().unwrap().remove("bridge");
        let result = bed.network(config).add(&pod, "c1").result();
        let link = &bed.ip_json("-d link show cni0")[0];
        assert_eq!(link["linkinfo"]["info_kind"], "bridge");
        assert_eq!(link["promiscuity"], 0);
        assert!(link["flags"].as_array().unwrap().contains(&json!("UP")));
        assert_eq!(result["interfaces"][0], json!({"name": "cni0", "mac": link["address"]}));
    });
}

#[test]
fn an_existing_bridge_is_used_as_it_is() {
    case(|bed| {
        bed.ip("link add br0 type bridge");
        let before = bed.ip_json("link show br0")[0]["ifindex"].clone();
        bed.network(config::bridge(&json!({}))).add(&bed.sandbox("pod"), "c1").success();
        assert_eq!(bed.ip_json("link show br0")[0]["ifindex"], before);
    });
}

#[test]
fn what_is_no_bridge_is_refused() {
    case(|bed| {
        bed.ip("link add br0 type veth peer name other");
        let before = bed.snapshot();
        let error = bed.network(config::bridge(&json!({}))).add(&bed.sandbox("pod"), "c1").error();
        assert!(error.msg.contains("already exists but is not a bridge"), "{error:?}");
        bed.assert_unchanged_since(&before);
    });
}

#[test]
fn pods_reach_each_other_and_their_gateway() {
    case(|bed| {
        let network = bed.network(config::bridge(&config::dual_stack()));
        let pods = ["one", "two"].map(|name| (bed.sandbox(name), name));
        let own = pods.each_ref().map(|(pod, id)| addresses(&network.add(pod, id).result()));
        for family in 0..2 {
            let gateway = ["10.1.0.1", "fd00:1::1"][family];
            reaches(&pods[0].0, &own[0][family], &pods[1].0, &own[1][family]);
            reaches(&pods[1].0, &own[1][family], &pods[0].0, &own[0][family]);
            reaches(&pods[0].0, &own[0][family], bed, gateway);
            reaches(bed, gateway, &pods[1].0, &own[1][family]);
        }
        assert_eq!(bed.sysctl("net/ipv4/ip_forward").unwrap(), "1");
        assert_eq!(bed.sysctl("net/ipv6/conf/all/forwarding").unwrap(), "1");
        for (pod, id) in &pods {
            network.del(pod, id).silent();
            assert!(!pod.has_link("eth0"));
        }
        assert!(bed.leases("net").is_empty());
    });
}

#[test]
fn a_masqueraded_pod_is_seen_as_the_host() {
    case(|bed| {
        let neighbour = bed.neighbour();
        let mut changes = config::dual_stack();
        changes["ipMasq"] = json!(true);
        let network = bed.network(config::bridge(&changes));
        let (other, pod) = (bed.sandbox("other"), bed.sandbox("pod"));
        let others = addresses(&network.add(&other, "c0").result());
        let before = bed.snapshot();
        let own = addresses(&network.add(&pod, "c1").result());
        for (at, host) in
            [("203.0.113.2:7", "203.0.113.1"), ("[2001:db8:ffff::2]:7", "2001:db8:ffff::1")]
        {
            let (tcp, udp) = (neighbour.tcp_server(at), neighbour.udp_server(at));
            assert_eq!(pod.tcp(at, &tcp).unwrap().to_string(), host);
            assert_eq!(pod.udp(at, &udp).unwrap().to_string(), host);
        }
        // Among pods nothing is translated.
        reaches(&pod, &own[0], &other, &others[0]);
        reaches(&pod, &own[1], &other, &others[1]);
        network.del(&pod, "c1").silent();
        bed.assert_unchanged_since(&before);
    });
}

#[test]
fn without_masquerade_the_lan_has_no_way_back() {
    case(|bed| {
        let (neighbour, pod) = (bed.neighbour(), bed.sandbox("pod"));
        bed.network(config::bridge(&config::dual_stack())).add(&pod, "c1").success();
        let server = neighbour.tcp_server("203.0.113.2:7");
        assert!(pod.tcp_refused("203.0.113.2:7", &server).is_err());
        // It is only the way back that is missing: with one, the pod is seen as itself.
        neighbour.ip("route add 10.1.0.0/24 via 203.0.113.1");
        assert_eq!(pod.tcp("203.0.113.2:7", &server).unwrap().to_string(), "10.1.0.2");
    });
}

#[test]
fn a_pod_may_have_several_addresses_of_one_family() {
    case(|bed| {
        let ranges = json!([
            [{"subnet": "10.1.0.0/24"}], [{"subnet": "fd00:1::/64"}], [{"subnet": "fd00:2::/64"}]
        ]);
        let network =
            bed.network(config::bridge(&json!({"ipam": {"type": "host-local", "ranges": ranges}})));
        let (one, two) = (bed.sandbox("one"), bed.sandbox("two"));
        let own = addresses(&network.add(&one, "c1").result());
        assert_eq!(own.len(), 3);
        let others = addresses(&network.add(&two, "c2").result());
        for (own, other) in own.iter().zip(&others) {
            reaches(&one, own, &two, other);
        }
    });
}

#[test]
fn a_default_gateway_becomes_the_default_route() {
    case(|bed| {
        let pod = bed.sandbox("pod");
        let result = bed.network(config::bridge(&config::dual_stack())).add(&pod, "c1").result();
        for (family, gateway) in [("-4", "10.1.0.1"), ("-6", "fd00:1::1")] {
            let route = &pod.ip_json(&format!("{family} route show default"))[0];
            assert_eq!(route["gateway"], gateway, "{result}");
            assert_eq!(route["prefsrc"], Value::Null);
        }
        let routes = [("0.0.0.0/0", "10.1.0.1"), ("::/0", "fd00:1::1")];
        assert_eq!(result["routes"], json!(routes.map(|(dst, gw)| json!({"dst": dst, "gw": gw}))));
    });
}

#[test]
fn name_servers_come_from_the_file_or_from_the_configuration() {
    case(|bed| {
        let text = "# a comment\nnameserver 192.0.2.53\nsearch a.example b.example\n\
                    options ndots:2\ndomain a.example\n";
        bed.write("/run/test/resolv.conf", text);
        let file = "/run/test/resolv.conf";
        let ipam = json!({"type": "host-local", "subnet": "10.1.0.0/24", "resolvConf": file});
        let found = json!({
            "nameservers": ["192.0.2.53"], "domain": "a.example",
            "search": ["a.example", "b.example"], "options": ["ndots:2"]
        });
        let given = json!({"nameservers": ["192.0.2.1"]});
        let from_file = json!({"ipam": ipam});
        let from_both = json!({"ipam": ipam, "dns": given});
        for (changes, expected) in [(from_file, &found), (from_both, &given)] {
            let network = bed.network(config::bridge(&changes));
            let pod = bed.sandbox(if expected == &found { "file" } else { "both" });
            assert_eq!(
                &network.add(&pod, pod.path().rsplit('/').next().unwrap()).result()["dns"],
                expected
            );
        }
    });
}

#[test]
fn many_at_once_do_not_disturb_each_other() {
    case(|bed| {
        let network = bed.network(config::bridge(&config::dual_stack()));
        let pods: Vec<Sandbox> =
            (0..8).map(|number| bed.sandbox(&format!("pod{number}"))).collect();
        let add = |pod: &Sandbox| {
            addresses(&network.add(pod, pod.path().rsplit('/').next().unwrap()).result())
        };
        let own: Vec<_> = thread::scope(|scope| {
            let running: Vec<_> = pods.iter().map(|pod| scope.spawn(move || add(pod))).collect();
            running.into_iter().map(|add| add.join().unwrap()).collect()
        });
        assert_eq!(own.iter().flatten().collect::<BTreeSet<_>>().len(), 16, "{own:?}");
        for (pod, own) in pods.iter().zip(&own) {
            reaches(pod, &own[0], bed, "10.1.0.1");
            reaches(pod, &own[1], bed, "fd00:1::1");
        }
    });
}

/// A host whose bridge has `existing` already, and what an ADD makes of it: whether it succeeds,
/// and which addresses the bridge has afterwards.
fn with_address(
    bed: &Testbed,
    name: &str,
    existing: &str,
    subnet: &str,
    force: bool,
) -> (bool, Vec<String>) {
    bed.ip(&format!("link add {name} type bridge"));
    bed.ip(&format!("link set {name} up"));
    bed.ip(&format!("addr add {existing} dev {name}"));
    let changes = json!({
        "bridge": name, "name": name, "forceAddress": force,
        "ipam": {"type": "host-local", "subnet": subnet}
    });
    let outcome = bed.network(config::bridge(&changes)).add(&bed.sandbox(name), name);
    if !outcome.status.success() {
        outcome.fails_with(outcome.error_code(), "already has an IP address different from");
    }
    let addresses = bed.ip_json(&format!("addr show dev {name} scope global"));
    let infos = addresses[0]["addr_info"].as_array().unwrap().clone();
    let text = |info: &Value| format!("{}/{}", info["local"].as_str()?, info["prefixlen"]).into();
    (outcome.status.success(), infos.iter().filter_map(text).collect())
}

#[test]
fn an_address_that_conflicts_is_kept_or_replaced_as_told() {
    case(|bed| {
        // What is there, what is wanted, and what comes of it without and with force.
        let rows = [
            ("10.9.0.1/24", "10.1.0.0/24", (false, &["10.9.0.1/24"][..]), &["10.1.0.1/24"][..]),
            ("fd00::9/48", "fd00::/64", (false, &["fd00::9/48"]), &["fd00::1/64"]),
            (
                "fd09::1/64",
                "fd00::/64",
                (true, &["fd00::1/64", "fd09::1/64"]),
                &["fd00::1/64", "fd09::1/64"],
            ),
            ("10.1.0.1/24", "10.1.0.0/24", (true, &["10.1.0.1/24"]), &["10.1.0.1/24"]),
        ];
        for (number, (existing, subnet, (succeeds, kept), forced)) in rows.into_iter().enumerate() {
            let (success, mut now) =
                with_address(bed, &format!("a{number}"), existing, subnet, false);
            now.sort();
            assert_eq!(
                (success, &now[..]),
                (succeeds, &kept.iter().map(ToString::to_string).collect::<Vec<_>>()[..]),
                "{existing}"
            );
            bed.ip(&format!("link del a{number}"));
            let (success, mut now) =
                with_address(bed, &format!("b{number}"), existing, subnet, true);
            now.sort();
            assert_eq!(
                (success, now),
                (true, forced.iter().map(ToString::to_string).collect()),
                "{existing}"
            );
            bed.ip(&format!("link del b{number}"));
        }
    });
}
