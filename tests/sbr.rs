//! What a pod sends from an address of an interface leaves by that interface.

mod crash;
mod gateways;
mod owners;
mod whole;

use serde_json::json;
use testbed::{
    Place,
    attachment::ptp,
    chain::{Chain, with_result},
    config::changed,
    reach::{is_refused, seen},
};

use crate::differences::case;

const ONE: [(&str, &str); 1] = [("192.168.1.209/24", "192.168.1.1")];
const TWO: [(&str, &str); 2] =
    [("192.168.1.209/24", "192.168.1.1"), ("192.168.101.209/24", "192.168.101.1")];
const DUAL: [(&str, &str); 2] =
    [("192.168.1.209/24", "192.168.1.1"), ("2001:db8:1::209/64", "2001:db8:1::1")];

fn from(rules: &[(&str, &str)]) -> Vec<(String, String)> {
    rules.iter().map(|(from, table)| ((*from).to_owned(), (*table).to_owned())).collect()
}

/// Destination and gateway of the routes by `net1` in a table.
fn routes(pod: &Place, words: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for route in pod.ip_json(&format!("{words} dev net1")).as_array().unwrap() {
        let text = |key: &str| route[key].as_str().unwrap_or_default().to_owned();
        found.push((text("dst"), text("gateway")));
    }
    found.sort();
    found
}

fn table(pod: &Place, number: u32) -> Vec<(String, String)> {
    routes(pod, &format!("route show table {number}"))
}

#[test]
fn routes_move_into_a_table_of_the_address() {
    case(|bed| {
        let pod = bed.sandbox("pod");
        let wire = bed.wire(&pod, "net1", &ONE);
        pod.ip("route add 198.51.100.0/24 via 192.168.1.7");
        let before = (pod.source_rules(), routes(&pod, "route show table local"));
        let config = changed(
            json!({"cniVersion": "0.3.0", "name": "second", "type": "sbr"}),
            &json!({"prevResult": changed(wire.result.clone(), &json!({"cniVersion": "0.3.0"}))}),
        );
        let network = bed.network(config).ifname("net1");
        let result = network.add(&pod, "c1").result();
        assert_eq!(result["ips"][0]["address"], "192.168.1.209/24");
        assert_eq!(pod.source_rules(), from(&[("192.168.1.209", "100")]));
        let moved = from(&[
            ("192.168.1.0/24", ""),
            ("198.51.100.0/24", "192.168.1.7"),
            ("default", "192.168.1.1"),
        ]);
        assert_eq!(table(&pod, 100), moved);
        assert!(routes(&pod, "route show").is_empty());
        network.del(&pod, "c1").silent();
        assert_eq!((pod.source_rules(), routes(&pod, "route show table local")), before);
    });
}

#[test]
fn a_default_route_that_is_there_is_the_tables() {
    case(|bed| {
        let pod = bed.sandbox("pod");
        let wire = bed.wire(&pod, "net1", &ONE);
        pod.ip("route add default via 192.168.1.1 dev net1");
        wire.chained(bed, "sbr", &json!({})).add(&pod, "c1").success();
        let expected = from(&[("192.168.1.0/24", ""), ("default", "192.168.1.1")]);
        assert_eq!(table(&pod, 100), expected);
        assert!(routes(&pod, "route show").is_empty());
    });
}

#[test]
fn each_address_has_a_table() {
    case(|bed| {
        let pod = bed.sandbox("pod");
        let wire = bed.wire(&pod, "net1", &TWO);
        let network = wire.chained(bed, "sbr", &json!({}));
        network.add(&pod, "c1").success();
        assert_eq!(
            pod.source_rules(),
            from(&[("192.168.101.209", "101"), ("192.168.1.209", "100")])
        );
        let expected = from(&[("192.168.1.0/24", ""), ("default", "192.168.1.1")]);
        assert_eq!(table(&pod, 100), expected);
        let expected = from(&[("192.168.101.0/24", ""), ("default", "192.168.101.1")]);
        assert_eq!(table(&pod, 101), expected);
        assert!(routes(&pod, "route show").is_empty());
        network.check(&pod, "c1").silent();
        network.del(&pod, "c1").silent();
        assert!(pod.source_rules().is_empty());
    });
}

#[test]
fn it_must_be_chained() {
    case(|bed| {
        let pod = bed.sandbox("pod");
        for version in ["0.2.0", "0.3.0", "1.0.0"] {
            let alone = json!({"cniVersion": version, "name": "second", "type": "sbr"});
            let error = bed.network(alone).ifname("net1").add(&pod, "c1").error();
            assert_eq!(error.msg, "This plugin must be called as chained plugin");
        }
    });
}

#[test]
fn a_result_without_addresses_is_refused() {
    case(|bed| {
        let pod = bed.sandbox("pod");
        let wire = bed.wire(&pod, "net1", &[]);
        let error = wire.chained(bed, "sbr", &json!({})).add(&pod, "c1").error();
        assert!(error.msg.starts_with("No IP addresses supplied on interface:"), "{error:?}");
    });
}

#[test]
fn a_table_of_somebody_elses_is_only_looked_into() {
    case(|bed| {
        let pod = bed.sandbox("pod");
        let wire = bed.wire(&pod, "net1", &TWO);
        pod.ip("route add 198.51.100.0/24 via 192.168.1.7 table 5000");
        let before = pod.ip("route show table all");
        let network = wire.chained(bed, "sbr", &json!({"table": 5000}));
        network.add(&pod, "c1").success();
        assert_eq!(
            pod.source_rules(),
            from(&[("192.168.101.209", "5000"), ("192.168.1.209", "5000")])
        );
        assert_eq!(pod.ip("route show table all"), before);
        network.check(&pod, "c1").silent();
        network.del(&pod, "c1").silent();
        assert!(pod.source_rules().is_empty());
        assert_eq!(pod.ip("route show table all"), before);
    });
}

#[test]
fn the_subnet_may_be_reached_by_whoever_has_chosen_no_address() {
    case(|bed| {
        let pod = bed.sandbox("pod");
        let wire = bed.wire(&pod, "net1", &DUAL);
        pod.ip("route add default via 192.168.1.1 dev net1");
        let network = wire.chained(bed, "sbr", &json!({"addSourceHints": true}));
        network.add(&pod, "c1").success();
        assert_eq!(routes(&pod, "route show"), from(&[("192.168.1.0/24", "")]));
        for (neighbour, own) in
            [("192.168.1.1", "192.168.1.209"), ("2001:db8:1::1", "2001:db8:1::209")]
        {
            let shown = pod.ip(&format!("route get {neighbour}"));
            assert!(shown.contains("dev net1") && shown.contains(&format!("src {own}")), "{shown}");
            assert_eq!(seen(&pod, &wire.router, neighbour), own);
        }
        assert!(!pod.run("ip", &["route", "get", "198.51.100.1"]).status.success());
        network.check(&pod, "c1").silent();
    });
}

#[test]
fn an_answer_leaves_by_the_interface_that_the_question_came_by() {
    case(|bed| {
        let pod = bed.sandbox("pod");
        let _first =
            bed.wire(&pod, "eth0", &[("10.1.0.2/24", "10.1.0.1"), ("fd00:1::2/64", "fd00:1::1")]);
        pod.ip("route add default via 10.1.0.1");
        pod.ip("-6 route add default via fd00:1::1");
        let wire = bed.wire(&pod, "net1", &DUAL);
        for (far, own) in [("198.51.100.1", "192.168.1.209"), ("2001:db8:99::1", "2001:db8:1::209")]
        {
            wire.ask_from(far);
            assert!(is_refused(&wire.router, &pod, own), "without sbr it is lost");
        }
        let before = pod.ip("route show default") + &pod.ip("-6 route show default");
        let network = wire.chained(bed, "sbr", &json!({}));
        network.add(&pod, "c1").success();
        for (far, own) in [("198.51.100.1", "192.168.1.209"), ("2001:db8:99::1", "2001:db8:1::209")]
        {
            assert_eq!(seen(&wire.router, &pod, own), far);
        }
        assert_eq!(pod.ip("route show default") + &pod.ip("-6 route show default"), before);
        network.check(&pod, "c1").silent();
    });
}

#[test]
fn link_local_neighbours_are_reached_as_before() {
    case(|bed| {
        let pod = bed.sandbox("pod");
        let wire = bed.wire(&pod, "net1", &DUAL);
        let scoped = |place: &Place| {
            let shown = place.ip("-6 -o addr show dev net1 scope link");
            let cidr = shown.split_whitespace().nth(3).unwrap();
            cidr.split('/').next().unwrap().to_owned()
        };
        let router = scoped(&wire.router);
        wire.chained(bed, "sbr", &json!({})).add(&pod, "c1").success();
        pod.succeed("ping", &["-c", "1", "-W", "5", &format!("{router}%net1")]);
        // Also from an address that has a rule.
        let shown = pod.ip(&format!("route get {router} from 2001:db8:1::209 oif net1"));
        assert!(!shown.contains("via"), "{shown}");
    });
}

#[test]
fn routes_that_no_address_needs_stay_where_they_are() {
    case(|bed| {
        let pod = bed.sandbox("pod");
        let mut wire = bed.wire(&pod, "net1", &DUAL);
        let before = pod.ip("-6 route show");
        // IPAM gave an IPv4 address only, the kernel has another one by itself.
        wire.result["ips"].as_array_mut().unwrap().pop();
        wire.chained(bed, "sbr", &json!({})).add(&pod, "c1").success();
        assert_eq!(pod.ip("-6 route show"), before);
        assert!(routes(&pod, "route show").is_empty());
        assert_eq!(pod.source_rules(), from(&[("192.168.1.209", "100")]));
    });
}

#[test]
fn addresses_of_other_interfaces_are_none_of_its() {
    case(|bed| {
        let pod = bed.sandbox("pod");
        let mut wire = bed.wire(&pod, "net1", &TWO);
        let interfaces = wire.result["interfaces"].as_array_mut().unwrap();
        interfaces.push(json!({"name": "eth0", "sandbox": pod.path()}));
        wire.result["ips"][1]["interface"] = json!(1);
        wire.chained(bed, "sbr", &json!({"table": 7})).add(&pod, "c1").success();
        assert_eq!(pod.source_rules(), from(&[("192.168.1.209", "7")]));
        // But an index that leads nowhere counts as none.
        let pod = bed.sandbox("other");
        let mut wire = bed.wire(&pod, "net1", &ONE);
        wire.result["ips"][0]["interface"] = json!(10);
        wire.chained(bed, "sbr", &json!({})).add(&pod, "c1").success();
        assert_eq!(pod.source_rules(), from(&[("192.168.1.209", "100")]));
    });
}

#[test]
fn a_table_that_anything_uses_is_not_free() {
    case(|bed| {
        let pod = bed.sandbox("pod");
        let wire = bed.wire(&pod, "net1", &DUAL);
        pod.ip("rule add from 10.9.9.9 lookup 100");
        pod.ip("-6 rule add from fd09::9 lookup 101");
        pod.ip("route add blackhole 198.18.0.0/15 table 102");
        pod.ip("-6 route add fd09::/64 dev net1 table 103");
        wire.chained(bed, "sbr", &json!({})).add(&pod, "c1").success();
        let tables: Vec<_> = pod.source_rules().into_iter().map(|(_, table)| table).collect();
        assert_eq!(tables, ["104", "100", "105", "101"]);
    });
}

/// The plugin that made the interface looks for its routes in the main table.
#[test]
fn check_of_the_plugin_before_it_finds_what_has_moved() {
    case(|bed| {
        let sbr = json!({"cniVersion": "1.0.0", "name": "links", "type": "sbr"});
        let (chain, pod) = (Chain::new(bed, [ptp(&json!({})), sbr]), bed.sandbox("pod"));
        let result = chain.add(&pod, "c1");
        bed.settle();
        chain.check(&pod, "c1", &result);
        pod.ip("route del default table 100");
        for plugin in &chain.plugins {
            let config = with_result(plugin, &result);
            assert_ne!(chain.run("CHECK", &config, &pod, "c1").error_code(), 0);
        }
        chain.del(&pod, "c1", &result);
        assert!(pod.has_only_lo() && pod.source_rules().is_empty());
    });
}

#[test]
fn check_finds_what_is_missing() {
    case(|bed| {
        let breakages = [
            "rule del from 192.168.1.209",
            "-6 rule del from 2001:db8:1::209",
            "route del default table 100",
            "-6 route del default table 101",
            "route del 192.168.1.0/24 table 100",
            "route replace default via 192.168.1.77 dev net1 table 100",
            "rule add from 192.168.1.209 prohibit pref 5",
            "rule add from all blackhole pref 5",
            "-6 rule add from 2001:db8:1::/64 unreachable pref 5",
            "link set net1 down",
            "link del net1",
        ];
        for (number, breakage) in breakages.into_iter().enumerate() {
            let pod = bed.sandbox(&format!("pod{number}"));
            let wire = bed.wire(&pod, "net1", &DUAL);
            let network = wire.chained(bed, "sbr", &json!({}));
            network.add(&pod, "c1").success();
            network.check(&pod, "c1").silent();
            pod.ip(breakage);
            assert_ne!(network.check(&pod, "c1").error_code(), 0, "{breakage}");
            network.del(&pod, "c1").silent();
        }
        let pod = bed.sandbox("given");
        let wire = bed.wire(&pod, "net1", &ONE);
        let network = wire.chained(bed, "sbr", &json!({"table": 77}));
        network.add(&pod, "c1").success();
        pod.ip("rule del from 192.168.1.209");
        pod.ip("rule add from 192.168.1.209 lookup 78");
        assert_ne!(network.check(&pod, "c1").error_code(), 0);
        pod.ip("rule add from 192.168.1.209 lookup 77");
        network.check(&pod, "c1").silent();
        pod.ip("rule add from 192.168.1.209 prohibit pref 5");
        network.check(&pod, "c1").fails_with(999, "a rule drops packets from 192.168.1.209");
    });
}

#[test]
fn gc_and_status_have_nothing_to_say() {
    case(|bed| {
        let pod = bed.sandbox("pod");
        let wire = bed.wire(&pod, "net1", &ONE);
        let network = wire.chained(bed, "sbr", &json!({"cniVersion": "1.1.0"}));
        network.add(&pod, "c1").success();
        network.status().silent();
        network.gc(&[]).silent();
        assert_eq!(pod.source_rules(), from(&[("192.168.1.209", "100")]));
    });
}

/// A path of a namespace, and nothing there.
#[test]
fn del_makes_no_file_where_no_namespace_is() {
    case(|bed| {
        let pod = bed.sandbox("pod");
        let wire = bed.wire(&pod, "net1", &ONE);
        let network = wire.chained(bed, "sbr", &json!({}));
        network.add(&pod, "c1").success();
        pod.destroy();
        let before = bed.succeed("ls", &["/run/netns"]);
        network.again("DEL", "c1").netns("").run().silent();
        network.again("DEL", "c1").run().silent();
        network.del(&pod, "c1").silent();
        assert_eq!(bed.succeed("ls", &["/run/netns"]), before);
    });
}
