//! What a pod gets is what was asked for, measured by packets in both directions.

use serde_json::json;
use testbed::{
    Sandbox, Testbed,
    bandwidth::{bandwidth, on_bridge, on_ptp, rates},
    chain::Chain,
    config::{bridge, changed, pods},
    rate::Way,
    result::addresses,
};

use crate::differences::case;

const MBIT: u64 = 1_000_000;

/// Adds a pod: its addresses.
fn add(bed: &Testbed, chain: &Chain<'_>, pod: &Sandbox) -> Vec<String> {
    let result = chain.add(pod, "c1");
    bed.settle();
    pod.settle();
    addresses(&result)
}

/// The ways to a pod and from it, by its address and one of the host.
fn ways<'a>(bed: &'a Testbed, pod: &'a Sandbox, own: &'a str, host: &'a str) -> [Way<'a>; 2] {
    [Way { from: bed, to: pod, at: own }, Way { from: pod, to: bed, at: host }]
}

/// Prints a row of the table of the plugin's page.
fn print(rate: [u64; 2], measured: [u64; 2]) {
    let mbit = |rate: u64| format!("{}.{:02}", rate / MBIT, rate % MBIT / (MBIT / 100));
    let [ingress, egress] = measured.map(mbit);
    println!("| {} | {ingress} | {} | {egress} |", rate[0] / MBIT, rate[1] / MBIT);
}

/// On a bridge, with other rates in one direction than in the other.
fn measure(bed: &Testbed, ingress: u64, egress: u64) {
    let (chain, pod) = (on_bridge(bed, &rates(ingress, egress)), bed.sandbox("pod"));
    let own = add(bed, &chain, &pod);
    let [to, from] = ways(bed, &pod, &own[0], "10.1.0.1");
    print([ingress, egress], [to.assert_limited(ingress), from.assert_limited(egress)]);
}

#[test]
fn two_and_twenty_megabits() {
    case(|bed| measure(bed, 2 * MBIT, 20 * MBIT));
}

#[test]
fn twenty_and_two_hundred_megabits() {
    case(|bed| measure(bed, 20 * MBIT, 200 * MBIT));
}

#[test]
fn two_hundred_and_two_megabits() {
    case(|bed| measure(bed, 200 * MBIT, 2 * MBIT));
}

#[test]
fn connections_of_tcp_get_what_was_asked_for() {
    case(|bed| {
        let (chain, pod) = (on_bridge(bed, &rates(20 * MBIT, 20 * MBIT)), bed.sandbox("pod"));
        let own = add(bed, &chain, &pod);
        let measured =
            ways(bed, &pod, &own[0], "10.1.0.1").map(|way| way.assert_tcp_limited(20 * MBIT));
        print([20 * MBIT; 2], measured);
    });
}

#[test]
fn a_pod_that_the_host_routes_for_is_limited() {
    case(|bed| {
        let neighbour = bed.neighbour();
        for (net, via) in [("10.1.0.0/24", "203.0.113.1"), ("fd00:1::/64", "2001:db8:ffff::1")] {
            neighbour.ip(&format!("route add {net} via {via}"));
        }
        let (chain, pod) = (on_ptp(bed, &rates(20 * MBIT, 20 * MBIT)), bed.sandbox("pod"));
        let own = add(bed, &chain, &pod);
        for (own, at) in own.iter().zip(["203.0.113.2", "2001:db8:ffff::2"]) {
            Way { from: &neighbour, to: &pod, at: own }.assert_limited(20 * MBIT);
            Way { from: &pod, to: &neighbour, at }.assert_limited(20 * MBIT);
        }
    });
}

#[test]
fn a_pod_with_ipv6_only_is_limited() {
    case(|bed| {
        let ipam = json!({"type": "host-local", "ranges": [[{"subnet": "fd00:1::/64"}]]});
        let network = bridge(&json!({"ipam": ipam}));
        let own = bandwidth(&network, &rates(20 * MBIT, 20 * MBIT));
        let (chain, pod) = (Chain::new(bed, [network, own]), bed.sandbox("pod"));
        let own = add(bed, &chain, &pod);
        for way in ways(bed, &pod, &own[0], "fd00:1::1") {
            way.assert_limited(20 * MBIT);
        }
    });
}

#[test]
fn one_pods_limits_are_not_another_ones() {
    case(|bed| {
        let limited = on_bridge(bed, &rates(2 * MBIT, 2 * MBIT));
        let free = on_bridge(bed, &json!({}));
        let [slow, fast] = ["slow", "fast"].map(|name| bed.sandbox(name));
        let own = addresses(&limited.add(&slow, "slow"));
        let others = addresses(&free.add(&fast, "fast"));
        bed.settle();
        for way in ways(bed, &fast, &others[0], "10.1.0.1") {
            way.assert_faster(20 * MBIT);
        }
        Way { from: &slow, to: &fast, at: &others[0] }.assert_limited(2 * MBIT);
        Way { from: &fast, to: &slow, at: &own[0] }.assert_limited(2 * MBIT);
    });
}

#[test]
fn only_what_is_exchanged_with_some_networks_is_limited() {
    case(|bed| {
        let neighbour = bed.neighbour();
        for (net, via) in [("10.1.0.0/24", "203.0.113.1"), ("fd00:1::/64", "2001:db8:ffff::1")] {
            neighbour.ip(&format!("route add {net} via {via}"));
        }
        let lan = json!(["203.0.113.0/24", "2001:db8:ffff::/64"]);
        let rate = 2 * MBIT;
        for (number, (key, lan_is_limited)) in
            [("shapedSubnets", true), ("unshapedSubnets", false)].into_iter().enumerate()
        {
            for is_handed in [false, true] {
                let mut keys = rates(rate, rate);
                if is_handed {
                    keys = json!({"runtimeConfig": {"bandwidth": keys}});
                }
                keys[key] = lan.clone();
                let network = changed(pods(), &json!({"ipMasq": false}));
                let own = bandwidth(&network, &keys);
                let chain = Chain::new(bed, [network, own]);
                let pod = bed.sandbox(&format!("pod{number}{is_handed}"));
                let result = chain.add(&pod, "c1");
                bed.settle();
                pod.settle();
                let own = addresses(&result);
                let lan_ways = [
                    Way { from: &neighbour, to: &pod, at: &own[0] },
                    Way { from: &pod, to: &neighbour, at: "203.0.113.2" },
                    Way { from: &neighbour, to: &pod, at: &own[1] },
                    Way { from: &pod, to: &neighbour, at: "2001:db8:ffff::2" },
                ];
                let [v4, v6] = [("10.1.0.1", 0), ("fd00:1::1", 1)]
                    .map(|(host, family)| ways(bed, &pod, &own[family], host));
                let host_ways = [v4[0], v4[1], v6[0], v6[1]];
                let (slow, fast) =
                    if lan_is_limited { (lan_ways, host_ways) } else { (host_ways, lan_ways) };
                for (slow, fast) in slow.into_iter().zip(fast) {
                    slow.assert_limited(rate);
                    fast.assert_faster(rate * 10);
                }
                chain.check(&pod, "c1", &result);
                chain.del(&pod, "c1", &result);
                pod.destroy();
            }
        }
    });
}
