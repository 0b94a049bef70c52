//! Pods that are limited: where the limits are, whose keys they come from, and which are refused.

mod check;
mod crash;
mod others;
mod rates;
mod theirs;
mod undo;

use serde_json::{Value, json};
use testbed::{
    Outcome, Sandbox, Testbed,
    attachment::{macvlan, ptp},
    bandwidth::{bandwidth, host_end, ifb, on_bridge, on_ptp, rates},
    chain::{Chain, with_result},
    config::changed,
};

use crate::differences::case;

/// Runs the ADD of a chain's bandwidth behind that of the plugin before it.
fn add(chain: &Chain<'_>, pod: &Sandbox, changes: &Value) -> Outcome {
    let result = chain.run("ADD", &chain.plugins[0], pod, "c1").result();
    let config = changed(with_result(&chain.plugins[1], &result), changes);
    chain.run("ADD", &config, pod, "c1")
}

/// The same for each of these keys, on a pod of its own: what came of it, and the link that the limits
/// would be on.
fn add_each(bed: &Testbed, keys: &[Value], see: impl Fn(&Value, Outcome, &str)) {
    for (number, keys) in keys.iter().enumerate() {
        let (chain, pod) = (on_ptp(bed, &json!({})), bed.sandbox(&format!("pod{number}")));
        let result = chain.run("ADD", &chain.plugins[0], &pod, "c1").result();
        let config = changed(with_result(&chain.plugins[1], &result), keys);
        let outcome = chain.run("ADD", &config, &pod, "c1");
        see(keys, outcome, &host_end(&result));
        chain.del(&pod, "c1", &result);
        bed.destroy(&pod);
    }
}

#[test]
fn both_directions_have_a_bucket() {
    case(|bed| {
        for version in ["0.3.0", "0.3.1", "0.4.0", "1.0.0"] {
            let name = "cni-plugin-bandwidth-test";
            let network = ptp(&json!({"cniVersion": version, "name": name, "mtu": 1024, "ipam": {
                "type": "host-local", "subnet": "10.1.0.0/24"
            }}));
            let keys = json!({
                "ingressRate": 8, "ingressBurst": 8, "egressRate": 16, "egressBurst": 8
            });
            let own = bandwidth(&network, &keys);
            let (chain, pod) = (Chain::new(bed, [network, own]), bed.sandbox("pod"));
            let result = chain.add(&pod, "dummy");
            let end = host_end(&result);
            assert_eq!(result["cniVersion"], version);
            assert_eq!(result["interfaces"].as_array().map(Vec::len), Some(3));
            assert_eq!(ifb(&result).as_deref(), Some("bwpa8eda89404b7"));
            let link = bed.link("bwpa8eda89404b7");
            assert_eq!(
                (&link["mtu"], &link["address"]),
                (&json!(1024), &result["interfaces"][2]["mac"])
            );
            assert_eq!(bed.bucket(&end).unwrap()[0], 1);
            assert_eq!(bed.bucket("bwpa8eda89404b7").unwrap()[0], 2);
            assert_eq!((bed.qdiscs(&end).len(), bed.qdiscs("bwpa8eda89404b7").len()), (2, 1));
            assert_eq!(bed.redirects(&end).last().map(String::as_str), Some("bwpa8eda89404b7"));
            if version != "0.3.0" && version != "0.3.1" {
                chain.check(&pod, "dummy", &result);
            }
            chain.del(&pod, "dummy", &result);
            assert!(!bed.has_link("bwpa8eda89404b7"));
            pod.destroy();
        }
    });
}

#[test]
fn a_direction_without_a_rate_is_not_limited() {
    case(|bed| {
        for (ingress, egress) in [(0, 16_000_000), (8_000_000, 0)] {
            let mut keys = rates(ingress, egress);
            let off = if ingress == 0 { "ingress" } else { "egress" };
            keys[format!("{off}Burst")] = json!(0);
            let (chain, pod) = (on_bridge(bed, &keys), bed.sandbox("pod"));
            let result = chain.add(&pod, "c1");
            let end = host_end(&result);
            assert_eq!(
                bed.bucket(&end).map(|bucket| bucket[0] * 8),
                (ingress > 0).then_some(ingress)
            );
            let own = ifb(&result);
            assert_eq!(own.is_some(), egress > 0);
            assert_eq!(bed.redirects(&end).is_empty(), egress == 0);
            let bucket = own.and_then(|name| bed.bucket(&name));
            assert_eq!(bucket.map(|bucket| bucket[0] * 8), (egress > 0).then_some(egress));
            chain.check(&pod, "c1", &result);
            chain.del(&pod, "c1", &result);
            pod.destroy();
        }
    });
}

#[test]
fn without_limits_the_result_is_passed_on() {
    case(|bed| {
        for keys in
            [json!({}), json!({"ingressRate": 0}), json!({"runtimeConfig": {"bandwidth": {}}})]
        {
            let (chain, pod) = (on_bridge(bed, &keys), bed.sandbox("pod"));
            let result = chain.run("ADD", &chain.plugins[0], &pod, "c1").result();
            let config = with_result(&chain.plugins[1], &result);
            assert_eq!(chain.run("ADD", &config, &pod, "c1").result(), result);
            assert!(bed.qdiscs(&host_end(&result)).is_empty());
            chain.check(&pod, "c1", &result);
            chain.del(&pod, "c1", &result);
            pod.destroy();
        }
    });
}

#[test]
fn limits_that_contradict_each_other_are_refused() {
    case(|bed| {
        let keys = [
            json!({"ingressBurst": 123}),
            json!({"egressBurst": 123, "egressRate": 0}),
            json!({"egressRate": 123}),
            json!({"ingressRate": 1 << 30, "ingressBurst": 4_u64 * (1 << 30) * 8}),
            json!({"runtimeConfig": {"bandwidth": {"egressBurst": 1}}}),
        ];
        let words = [
            "if burst is set, rate must also be set",
            "if burst is set, rate must also be set",
            "if rate is set, burst must also be set",
            "burst cannot be more than 4GB",
            "if burst is set, rate must also be set",
        ];
        add_each(bed, &keys, |own, outcome, end| {
            let index = keys.iter().position(|one| one == own).unwrap();
            assert_eq!(outcome.error().msg, words[index], "{own}");
            assert!(bed.qdiscs(end).is_empty());
        });
    });
}

#[test]
fn odd_values_are_taken_or_refused_by_name() {
    case(|bed| {
        let largest = 4_u64 * (1 << 30) * 8 - 16;
        let mut all: Vec<(Value, bool)> = vec![
            (json!({"ingressRate": u64::MAX, "ingressBurst": largest}), true),
            (json!({"ingressRate": 1_u64 << 32, "ingressBurst": 1_u64 << 32}), true),
            (json!({"ingressRate": (1_u64 << 35) + 8, "ingressBurst": 8}), true),
            (json!({"egressRate": 8, "egressBurst": largest}), true),
            (json!({"ingressRate": null, "ingressBurst": null}), true),
            (json!({"ingressRate": 1, "ingressBurst": 8}), false),
            (json!({"ingressRate": u64::MAX, "ingressBurst": u64::MAX}), false),
            (json!({"runtimeConfig": {"bandwidth": {"egressRate": "1M"}}}), false),
            (json!({"runtimeConfig": {"bandwidth": "1M"}}), false),
            (json!({"shapedSubnets": "10.0.0.0/8"}), false),
            (json!({"shapedSubnets": ["10.0.0.0"]}), false),
            (json!({"shapedSubnets": ["10.0.0.0/33"]}), false),
            (json!({"shapedSubnets": ["::/0"], "unshapedSubnets": ["::/0"]}), false),
        ];
        for odd in
            [json!(-1), json!("8"), json!(8.5), json!(1e30), json!(true), json!([8]), json!({})]
        {
            all.push((json!({"ingressRate": odd, "ingressBurst": 80_000}), false));
        }
        let keys: Vec<_> = all.iter().map(|(keys, _)| keys.clone()).collect();
        add_each(bed, &keys, |own, outcome, end| {
            let (_, is_taken) = all.iter().find(|(keys, _)| keys == own).unwrap();
            if *is_taken {
                outcome.success();
                return;
            }
            let error = outcome.error();
            assert!([6, 7].contains(&error.code), "{own}: {error:?}");
            assert!(bed.qdiscs(end).is_empty(), "{own}");
        });
    });
}

#[test]
fn the_largest_numbers_get_to_the_kernel() {
    case(|bed| {
        let burst = 4_u64 * (1 << 30) * 8 - 16;
        for rate in [1_u64 << 36, 80_000_000_000, u64::MAX - 7] {
            let keys = json!({"ingressRate": rate, "ingressBurst": burst});
            let (chain, pod) = (on_bridge(bed, &keys), bed.sandbox("pod"));
            let result = chain.add(&pod, "c1");
            assert_eq!(bed.bucket(&host_end(&result)).unwrap()[0], rate / 8);
            chain.check(&pod, "c1", &result);
            chain.del(&pod, "c1", &result);
            pod.destroy();
        }
    });
}

#[test]
fn the_runtime_hands_in_limits_in_any_spelling() {
    case(|bed| {
        let own = rates(8_000_000, 16_000_000);
        for keys in [
            json!({"runtimeConfig": {"bandwidth": own}}),
            json!({"runtimeConfig": {"bandWidth": own}}),
            json!({"RuntimeConfig": {"Bandwidth": {
                "INGRESSRATE": 8_000_000, "ingressburst": 400_000,
                "EgressRate": 16_000_000, "egressBurst": 800_000
            }}}),
        ] {
            let (chain, pod) = (on_bridge(bed, &keys), bed.sandbox("pod"));
            let result = chain.add(&pod, "c1");
            let own = [host_end(&result), ifb(&result).unwrap()];
            let buckets = own.map(|link| bed.bucket(&link).unwrap());
            assert_eq!(buckets, [[1_000_000, 50_000], [2_000_000, 100_000]]);
            chain.check(&pod, "c1", &result);
            chain.del(&pod, "c1", &result);
            pod.destroy();
        }
    });
}

#[test]
fn limits_of_the_configuration_beat_those_of_the_runtime() {
    case(|bed| {
        let handed = json!({"runtimeConfig": {"bandWidth": rates(8_000_000, 16_000_000)}});
        let pod = bed.sandbox("pod");
        // Even if they are wrong, or 0.
        let chain = on_ptp(bed, &changed(handed.clone(), &json!({"ingressBurst": 123})));
        let error = add(&chain, &pod, &json!({})).error();
        assert_eq!(error.msg, "if burst is set, rate must also be set");
        chain.del(&pod, "c1", &Value::Null);
        let chain = on_ptp(bed, &changed(handed, &json!({"egressRate": 0})));
        let result = add(&chain, &pod, &json!({})).result();
        assert!(bed.qdiscs(&host_end(&result)).is_empty() && ifb(&result).is_none());
    });
}

#[test]
fn no_burst_of_a_runtime_is_not_half_a_gigabyte() {
    case(|bed| {
        for none in [0x7fff_ffff_u64, 0xffff_ffff] {
            let handed = json!({
                "ingressRate": 80_000_000, "ingressBurst": none, "egressRate": 8_000, "egressBurst": none
            });
            let keys = json!({"runtimeConfig": {"bandwidth": handed}});
            let (chain, pod) = (on_bridge(bed, &keys), bed.sandbox("pod"));
            let result = chain.add(&pod, "c1");
            assert_eq!(bed.bucket(&host_end(&result)), Some([10_000_000, 500_000]));
            let [rate, burst] = bed.bucket(&ifb(&result).unwrap()).unwrap();
            assert!(rate == 1000 && (60_000..70_000).contains(&burst), "{rate} {burst}");
            chain.check(&pod, "c1", &result);
            chain.del(&pod, "c1", &result);
            pod.destroy();
        }
    });
}

#[test]
fn the_other_end_of_this_interface_is_found_among_several() {
    case(|bed| {
        let mut chain = on_ptp(bed, &rates(8_000_000, 16_000_000));
        chain.plugins[0]["ipam"]["routes"] = json!([]);
        let pod = bed.sandbox("pod");
        let other = bed.network(chain.plugins[0].clone()).ifname("eth1");
        let other = other.add(&pod, "c1").result();
        let mut result = chain.run("ADD", &chain.plugins[0], &pod, "c1").result();
        let end = host_end(&result);
        let mut interfaces = other["interfaces"].as_array().unwrap().clone();
        interfaces.extend(result["interfaces"].as_array().unwrap().clone());
        result["interfaces"] = json!(interfaces);
        result["ips"] = json!([]);
        let result =
            chain.run("ADD", &with_result(&chain.plugins[1], &result), &pod, "c1").result();
        assert_eq!(result["interfaces"].as_array().map(Vec::len), Some(5));
        assert_eq!(result["interfaces"][4]["name"], json!(ifb(&result).unwrap()));
        assert_eq!(bed.bucket(&end).unwrap()[0], 1_000_000);
        assert!(bed.qdiscs(&host_end(&other)).is_empty());
    });
}

#[test]
fn an_interface_without_another_end_is_refused() {
    case(|bed| {
        let _neighbour = bed.neighbour();
        let network = macvlan(&json!({}));
        let own = bandwidth(&network, &rates(8_000_000, 0));
        let (chain, pod) = (Chain::new(bed, [network, own]), bed.sandbox("pod"));
        let before = bed.snapshot();
        let error = add(&chain, &pod, &json!({"egressBurst": 0})).error();
        assert!(error.msg.contains("has no veth peer"), "{error:?}");
        chain.run("DEL", &chain.plugins[0], &pod, "c1").silent();
        bed.assert_unchanged_since(&before);
    });
}

#[test]
fn a_result_without_the_interface_is_refused() {
    case(|bed| {
        let (chain, pod) = (on_ptp(bed, &rates(8_000_000, 16_000_000)), bed.sandbox("pod"));
        let result = chain.run("ADD", &chain.plugins[0], &pod, "c1").result();
        let (before, end) = (bed.snapshot(), host_end(&result));
        let named = |name: &str| json!([{"name": name}, result["interfaces"][1]]);
        for (interfaces, words) in [
            (json!([]), "no interfaces provided"),
            (named("veth-other"), "no veth peer of container interface found in host ns"),
        ] {
            let result = changed(result.clone(), &json!({"interfaces": interfaces, "ips": []}));
            let config = with_result(&chain.plugins[1], &result);
            assert_eq!(chain.run("ADD", &config, &pod, "c1").error().msg, words);
            bed.assert_unchanged_since(&before);
            assert!(bed.qdiscs(&end).is_empty());
        }
    });
}

#[test]
fn it_is_chained_or_refused() {
    case(|bed| {
        let pod = bed.sandbox("pod");
        // Without limits as well, with which it has nothing to do.
        for keys in [json!({}), rates(8_000_000, 16_000_000)] {
            let chain = on_ptp(bed, &keys);
            let error = chain.run("ADD", &chain.plugins[1], &pod, "c1").error();
            assert_eq!(error.msg, "must be called as chained plugin");
        }
        assert!(pod.has_only_lo());
    });
}

#[test]
fn a_burst_that_no_packet_fits_into_is_mentioned() {
    case(|bed| {
        let keys = json!({"ingressRate": 8_000_000, "ingressBurst": 8_000});
        let (chain, pod) = (on_ptp(bed, &keys), bed.sandbox("pod"));
        let outcome = add(&chain, &pod, &json!({}));
        assert!(outcome.success().stderr.contains("ingressBurst is 1000 bytes"), "{outcome}");
    });
}
