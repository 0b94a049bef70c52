//! A VRF has the routes of its interfaces in its own table; sbr moves them into others. An interface has
//! one or the other.

use serde_json::json;
use testbed::{Sandbox, Testbed, kernel::Feature, network::Network, wire::Wire};

use crate::differences::case_on;

const VRF: &[Feature] = &[Feature::Vrf];

const DUAL: [(&str, &str); 2] =
    [("192.168.1.209/24", "192.168.1.1"), ("2001:db8:1::209/64", "2001:db8:1::1")];

/// The routes and rules of a pod, but for the rule that the kernel adds with the first VRF and keeps.
fn routing(pod: &Sandbox) -> Vec<String> {
    let lines = pod.routing().into_iter();
    lines.filter(|line| !line.contains("l3mdev") && !line.contains("unreachable")).collect()
}

/// A pod's interface, with vrf and sbr as they would be chained behind it.
fn settled<'bed>(bed: &'bed Testbed, name: &str) -> (Sandbox, Wire, [Network<'bed>; 2]) {
    let pod = bed.sandbox(name);
    let wire = bed.wire(&pod, "net1", &DUAL);
    pod.ip("route add 10.10.10.0/24 via 192.168.1.7 src 192.168.1.209");
    let vrf = wire.chained(bed, "vrf", &json!({"vrfname": "blue"}));
    let sbr = wire.chained(bed, "sbr", &json!({}));
    (pod, wire, [vrf, sbr])
}

#[test]
fn of_both_the_second_one_is_refused() {
    case_on(VRF, |bed| {
        for is_sbr_first in [false, true] {
            let (pod, _wire, [vrf, sbr]) = settled(bed, &format!("pod{is_sbr_first}"));
            let before = routing(&pod);
            let (first, second, words) = if is_sbr_first {
                (sbr, vrf, "interface net1 has routes in table 100")
            } else {
                (vrf, sbr, "interface net1 is in VRF blue")
            };
            first.add(&pod, "c1").success();
            let added = routing(&pod);
            second.add(&pod, "c1").fails_with(7, words);
            assert_eq!(routing(&pod), added);
            first.check(&pod, "c1").silent();
            // The runtime calls DEL of all, last one first.
            second.call("DEL", "c1").netns(pod.path()).run().silent();
            assert_eq!(routing(&pod), added);
            first.del(&pod, "c1").silent();
            assert_eq!(routing(&pod), before);
        }
    });
}

#[test]
fn rules_may_lead_into_the_table_of_the_vrf() {
    case_on(VRF, |bed| {
        let (pod, wire, _) = settled(bed, "pod");
        let before = routing(&pod);
        let vrf = wire.chained(bed, "vrf", &json!({"vrfname": "blue", "table": 1001}));
        let sbr = wire.chained(bed, "sbr", &json!({"table": 1001}));
        for [first, second] in [[&vrf, &sbr], [&sbr, &vrf]] {
            first.add(&pod, "c1").success();
            second.add(&pod, "c1").success();
            for network in [first, second] {
                network.check(&pod, "c1").silent();
            }
            second.del(&pod, "c1").silent();
            first.check(&pod, "c1").silent();
            first.del(&pod, "c1").silent();
            assert_eq!(routing(&pod), before);
        }
    });
}
