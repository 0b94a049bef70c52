//! Where the default route of an interface leads: by whom IPAM, the configuration or the interface itself
//! says.

use serde_json::json;
use testbed::reach::seen;

use crate::differences::case;

const DUAL: [(&str, &str); 2] =
    [("192.168.1.209/24", "192.168.1.1"), ("2001:db8:1::209/64", "2001:db8:1::1")];

#[test]
fn gateways_may_be_told() {
    case(|bed| {
        for (number, (gateways, v4, v6)) in [
            (json!(["192.168.1.77"]), "192.168.1.77", "2001:db8:1::1"),
            (json!(["2001:db8:1::77"]), "192.168.1.1", "2001:db8:1::77"),
            (json!(["192.168.1.77", "2001:db8:1::77"]), "192.168.1.77", "2001:db8:1::77"),
        ]
        .into_iter()
        .enumerate()
        {
            let pod = bed.sandbox(&format!("pod{number}"));
            let wire = bed.wire(&pod, "net1", &DUAL);
            let network = wire.chained(bed, "sbr", &json!({"gateways": gateways}));
            network.add(&pod, "c1").success();
            let route = |words: &str| pod.ip(&format!("{words} show table {} default", 100));
            assert!(route("route").contains(&format!("via {v4} ")), "{}", route("route"));
            let shown = pod.ip("-6 route show table 101 default");
            assert!(shown.contains(&format!("via {v6} ")), "{shown}");
            network.check(&pod, "c1").silent();
        }
    });
}

/// Which one wins, if the interface has one already.
#[test]
fn a_gateway_that_is_told_beats_the_default_route_of_the_interface() {
    case(|bed| {
        let pod = bed.sandbox("pod");
        let wire = bed.wire(&pod, "net1", &DUAL);
        pod.ip("route add default via 192.168.1.1 dev net1");
        pod.ip("-6 route add default via 2001:db8:1::1 dev net1");
        let told = json!({"gateways": ["192.168.1.77", "2001:db8:1::77"]});
        let network = wire.chained(bed, "sbr", &told);
        network.add(&pod, "c1").success();
        for (far, from, gateway) in [
            ("198.51.100.9", "192.168.1.209", "192.168.1.77"),
            ("2001:db8:99::9", "2001:db8:1::209", "2001:db8:1::77"),
        ] {
            let shown = pod.ip(&format!("route get {far} from {from}"));
            assert!(shown.contains(&format!("via {gateway} ")), "{shown}");
        }
        network.check(&pod, "c1").silent();
    });
}

#[test]
fn gateways_that_contradict_each_other_are_refused() {
    case(|bed| {
        let pod = bed.sandbox("pod");
        let wire = bed.wire(&pod, "net1", &DUAL);
        let before = pod.ip("route show table all");
        for (gateways, words) in [
            (json!(["192.168.1.7", "192.168.1.8"]), "multiple IPv4 addresses"),
            (json!(["2001:db8:1::7", "2001:db8:1::8"]), "multiple IPv6 addresses"),
            (json!(["192.168.1.7", "2001:db8:1::8", "192.168.1.9"]), "more than 2 entries"),
            (json!(["nowhere"]), "invalid static gateway IP address"),
        ] {
            let error =
                wire.chained(bed, "sbr", &json!({"gateways": gateways})).add(&pod, "c1").error();
            assert!(error.msg.contains(words), "{error:?}");
            assert!(pod.source_rules().is_empty());
            assert_eq!(pod.ip("route show table all"), before);
        }
    });
}

#[test]
fn beside_a_table_of_somebody_elses_gateways_mean_nothing() {
    case(|bed| {
        let pod = bed.sandbox("pod");
        let wire = bed.wire(&pod, "net1", &DUAL);
        let keys = json!({"table": 77, "gateways": ["192.168.1.7", "192.168.1.8"]});
        let network = wire.chained(bed, "sbr", &keys);
        network.add(&pod, "c1").success();
        assert!(pod.source_rules().iter().all(|(_, table)| table == "77"));
        network.check(&pod, "c1").silent();
    });
}

#[test]
fn a_gateway_may_be_outside_of_the_subnet() {
    case(|bed| {
        let pod = bed.sandbox("pod");
        let mut wire = bed.wire(&pod, "net1", &[("192.168.1.209/32", "")]);
        wire.result["ips"][0]["gateway"] = json!("169.254.1.1");
        wire.router.ip("addr add 169.254.1.1/32 dev net1");
        wire.ask_from("198.51.100.1");
        let network = wire.chained(bed, "sbr", &json!({}));
        network.add(&pod, "c1").success();
        assert_eq!(seen(&wire.router, &pod, "192.168.1.209"), "198.51.100.1");
        network.check(&pod, "c1").silent();
    });
}
