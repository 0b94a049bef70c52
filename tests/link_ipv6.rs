//! IPv6 in pods that have one link: where somebody has switched it off, and when the link goes down.

use serde_json::{Value, json};
use testbed::{
    attachment::{macvlan, ptp},
    reach::seen,
};

use crate::differences::case;

/// Each plugin, an address beyond the link, and the pod's own.
fn networks() -> [(Value, &'static str, &'static str); 2] {
    [
        (ptp(&json!({})), "fd00:1::1", "fd00:1::2"),
        (macvlan(&json!({})), "2001:db8:ffff::2", "2001:db8:ffff::10"),
    ]
}

#[test]
fn addresses_come_although_ipv6_is_switched_off() {
    case(|bed| {
        let neighbour = bed.neighbour();
        for (config, at, own) in networks() {
            let (network, pod) = (bed.network(config.clone()), bed.sandbox("pod"));
            for scope in ["all", "default"] {
                pod.set_sysctl(&format!("net/ipv6/conf/{scope}/disable_ipv6"), "1");
            }
            network.add(&pod, "c1").success();
            bed.settle();
            let server = if config["type"] == "ptp" { &**bed } else { &*neighbour };
            assert_eq!(seen(&pod, server, at), own);
            network.check(&pod, "c1").silent();
            network.del(&pod, "c1").silent();
            pod.destroy();
        }
    });
}

#[test]
fn addresses_stay_when_the_link_goes_down() {
    case(|bed| {
        let _neighbour = bed.neighbour();
        for (config, _, own) in networks() {
            let (network, pod) = (bed.network(config), bed.sandbox("pod"));
            network.add(&pod, "c1").success();
            pod.ip("link set eth0 down");
            pod.ip("link set eth0 up");
            let shown = pod.ip("-6 -o addr show dev eth0 scope global");
            assert!(shown.contains(&format!(" {own}/64 ")), "{own}: {shown}");
            network.del(&pod, "c1").silent();
            pod.destroy();
        }
    });
}
