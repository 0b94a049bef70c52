//! Limits on links that others use as well: their filters and queues stay, and see the packets first.

use serde_json::{Value, json};
use testbed::{
    Testbed,
    bandwidth::{host_end, ifb, on_bridge, on_ptp, rates},
    chain::with_result,
    rate::Way,
    reach::seen,
    result::addresses,
};

use crate::differences::case;

fn keys() -> Value {
    rates(8_000_000, 16_000_000)
}

/// The filters of a link on one of its sides, as their places.
fn places(bed: &Testbed, link: &str, side: &str) -> Vec<Value> {
    let listed = bed.tc(&format!("filter show dev {link} {side}"));
    let mut places: Vec<_> = listed.iter().map(|one| one["pref"].clone()).collect();
    places.dedup();
    places
}

/// A link `sink` that leads nowhere.
fn sink(bed: &Testbed) {
    if !bed.has_link("sink") {
        bed.ip("link add sink type veth peer name sink-peer");
        bed.ip("link set sink up");
        bed.ip("link set sink-peer up");
    }
}

#[test]
fn filters_of_others_stay_and_come_first() {
    case(|bed| {
        for hook in ["clsact", "ingress"] {
            let (chain, pod) = (on_ptp(bed, &keys()), bed.sandbox("pod"));
            let result = chain.run("ADD", &chain.plugins[0], &pod, "c1").result();
            let (own, end) = (addresses(&result), host_end(&result));
            sink(bed);
            bed.succeed("tc", &["qdisc", "add", "dev", &end, hook]);
            // A policy: packets to this address end elsewhere.
            let policy = "protocol ip pref 100 u32 match ip dst 203.0.113.9 \
                          action mirred egress redirect dev sink";
            let words = format!("filter add dev {end} ingress {policy}");
            bed.tc_quiet(&words);
            if hook == "clsact" {
                bed.tc_quiet(&format!("filter add dev {end} egress {policy}"));
            }
            let result =
                chain.run("ADD", &with_result(&chain.plugins[1], &result), &pod, "c1").result();
            chain.check(&pod, "c1", &result);
            assert_eq!(bed.redirects(&end).last(), ifb(&result).as_ref());
            assert_eq!(places(bed, &end, "ingress"), [json!(100), json!(65535)]);
            bed.ip("addr replace 203.0.113.9/32 dev lo");
            bed.ip("addr replace 203.0.113.8/32 dev lo");
            let server = bed.udp_server("203.0.113.9:0");
            let at = server.local_addr().unwrap().to_string();
            assert!(pod.udp_refused(&at, &server).is_err(), "the policy is there for nothing");
            assert_eq!(seen(&pod, bed, "203.0.113.8"), own[0]);
            chain.run("DEL", &with_result(&chain.plugins[1], &result), &pod, "c1").silent();
            assert_eq!(places(bed, &end, "ingress"), [json!(100)], "{hook}");
            assert!(bed.qdiscs(&end).contains(&hook.to_owned()));
            assert!(pod.udp_refused(&at, &server).is_err());
            chain.run("DEL", &with_result(&chain.plugins[0], &result), &pod, "c1").silent();
            pod.destroy();
        }
    });
}

#[test]
fn filters_of_others_may_come_later() {
    case(|bed| {
        let (chain, pod) = (on_ptp(bed, &keys()), bed.sandbox("pod"));
        let result = chain.add(&pod, "c1");
        let end = host_end(&result);
        sink(bed);
        for side in ["ingress", "egress"] {
            bed.tc_quiet(&format!(
                "filter add dev {end} {side} protocol all pref 1 u32 match u32 0 0 action mirred egress mirror dev sink continue"
            ));
        }
        chain.check(&pod, "c1", &result);
        let own = addresses(&result);
        bed.ip("addr add 203.0.113.8/32 dev lo");
        Way { from: &pod, to: bed, at: "203.0.113.8" }.assert_limited(16_000_000);
        Way { from: bed, to: &pod, at: &own[0] }.assert_limited(8_000_000);
        chain.del(&pod, "c1", &result);
    });
}

#[test]
fn a_queue_of_somebody_elses_is_named_and_stays() {
    case(|bed| {
        for words in ["bfifo limit 9000", "handle 1: tbf rate 1mbit burst 9000 latency 25ms"] {
            let (chain, pod) = (on_ptp(bed, &keys()), bed.sandbox("pod"));
            let result = chain.run("ADD", &chain.plugins[0], &pod, "c1").result();
            let end = host_end(&result);
            bed.tc_quiet(&format!("qdisc add dev {end} root {words}"));
            let (before, queues) = (bed.snapshot(), bed.qdiscs(&end));
            let config = with_result(&chain.plugins[1], &result);
            let error = chain.run("ADD", &config, &pod, "c1").error();
            assert!(
                error.msg.contains(&end) && error.details.contains("tc qdisc del"),
                "{error:?}"
            );
            bed.assert_unchanged_since(&before);
            chain.run("DEL", &config, &pod, "c1").silent();
            assert_eq!(bed.qdiscs(&end), queues);
            chain.run("DEL", &with_result(&chain.plugins[0], &result), &pod, "c1").silent();
            pod.destroy();
        }
    });
}

#[test]
fn a_link_of_somebody_elses_of_that_name_stays() {
    case(|bed| {
        let (chain, pod) = (on_bridge(bed, &keys()), bed.sandbox("pod"));
        let first = ifb(&chain.add(&pod, "c1")).unwrap();
        chain.del(&pod, "c1", &Value::Null);
        bed.ip(&format!("link add {first} type bridge"));
        let before = bed.snapshot();
        let result = chain.add(&pod, "c1");
        assert_ne!(ifb(&result).unwrap(), first);
        chain.check(&pod, "c1", &result);
        chain.del(&pod, "c1", &Value::Null);
        bed.assert_unchanged_since(&before);
    });
}

#[test]
fn a_filter_of_somebody_elses_in_the_same_place_stays() {
    case(|bed| {
        for is_first in [true, false] {
            let (chain, pod) = (on_ptp(bed, &keys()), bed.sandbox("pod"));
            sink(bed);
            let result = chain.run("ADD", &chain.plugins[0], &pod, "c1").result();
            let end = host_end(&result);
            let mirror = || {
                bed.tc_quiet(&format!(
                    "filter add dev {end} ingress protocol all pref 65535 u32 match u32 0 0 action mirred egress mirror dev sink"
                ));
            };
            bed.succeed("tc", &["qdisc", "add", "dev", &end, "clsact"]);
            if is_first {
                mirror();
            }
            let config = with_result(&chain.plugins[1], &result);
            let result = chain.run("ADD", &config, &pod, "c1").result();
            if !is_first {
                mirror();
            }
            chain.run("DEL", &with_result(&chain.plugins[1], &result), &pod, "c1").silent();
            assert_eq!(bed.redirects(&end), ["sink"], "{is_first}");
            chain.run("DEL", &chain.plugins[0], &pod, "c1").silent();
            pod.destroy();
        }
    });
}
