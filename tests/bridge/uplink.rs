//! What a bridge has beside the ports of its containers: a link to the wire outside, and the group
//! addresses that it forwards.

use serde_json::{Value, json};
use testbed::{Sandbox, Testbed, config, kernel::Feature, reach::seen};

use crate::differences::{case, case_on};

/// A machine with 203.0.113.9 on the wire that the host's link `wan` leads to.
fn machine(bed: &Testbed) -> Sandbox {
    let machine = bed.sandbox("machine");
    bed.ip("link add wan type veth peer name wan netns machine");
    machine.ip("addr add 203.0.113.9/24 dev wan");
    machine.ip("link set wan up");
    machine
}

/// A bridge on that wire, whose pods have addresses of it.
fn on_wire(changes: &Value) -> Value {
    let ipam = json!({"type": "host-local", "graceAge": 0, "ranges": [[{
        "subnet": "203.0.113.0/24", "rangeStart": "203.0.113.20", "gateway": "203.0.113.9"
    }]]});
    let own = json!({"isGateway": null, "uplinkInterface": "wan", "ipam": ipam});
    config::changed(config::bridge(&own), changes)
}

#[test]
fn pods_are_machines_on_the_wire_outside() {
    case(|bed| {
        let (machine, network) = (machine(bed), bed.network(on_wire(&json!({}))));
        let [one, two] = ["one", "two"].map(|name| bed.sandbox(name));
        network.add(&one, "one").success();
        let before = bed.snapshot();
        network.add(&two, "two").success();
        for (pod, address) in [(&one, "203.0.113.20"), (&two, "203.0.113.21")] {
            assert_eq!(seen(pod, &machine, "203.0.113.9"), address);
            assert_eq!(seen(&machine, pod, address), "203.0.113.9");
        }
        network.check(&two, "two").silent();
        network.del(&two, "two").silent();
        // It is there for all of them, so it stays.
        bed.assert_unchanged_since(&before);
        network.del(&one, "one").silent();
        assert_eq!(bed.link("wan")["master"], "br0");
    });
}

#[test]
fn a_link_that_others_need_is_not_taken() {
    case(|bed| {
        let (_machine, pod) = (machine(bed), bed.sandbox("pod"));
        let network = bed.network(on_wire(&json!({})));
        let refuse = |prepare: &str, restore: &str, words: &str| {
            bed.ip(prepare);
            let before = bed.snapshot();
            network.add(&pod, "c1").fails_with(7, words);
            bed.assert_unchanged_since(&before);
            assert!(pod.has_only_lo());
            bed.ip(restore);
        };
        refuse(
            "addr add 203.0.113.1/24 dev wan",
            "addr del 203.0.113.1/24 dev wan",
            "203.0.113.1/24",
        );
        refuse(
            "addr add 2001:db8::1/64 dev wan",
            "addr del 2001:db8::1/64 dev wan",
            "2001:db8::1/64",
        );
        bed.ip("link add other type bridge");
        refuse("link set wan master other", "link set wan nomaster", "\"other\"");
        refuse("link set wan name elsewhere", "link set elsewhere name wan", "Link not found");
        bed.set_sysctl("net/ipv6/conf/wan/accept_dad", "0");
        bed.ip("link set wan up");
        // The kernel adds it when the wire has a carrier, in its own time.
        while !bed.ip("-6 route show dev wan").contains("fe80::/64") {}
        for (words, route) in [
            ("default dev wan", "0.0.0.0/0"),
            ("198.51.100.0/24 dev wan", "198.51.100.0/24"),
            ("default via fe80::9 dev wan", "::/0 via fe80::9"),
        ] {
            let family = if route.contains(':') { "-6" } else { "-4" };
            let [add, del] = ["add", "del"].map(|verb| format!("{family} route {verb} {words}"));
            refuse(&add, &del, &format!("uplinkInterface \"wan\": it has the route {route}"));
        }
        for name in ["other", "lo"] {
            let own = json!({"cniVersion": "1.1.0", "uplinkInterface": name});
            let (network, before) = (bed.network(on_wire(&own)), bed.snapshot());
            network.status().fails_with(50, "cannot be a port of a bridge");
            network.add(&pod, "c1").fails_with(7, "cannot be a port of a bridge");
            bed.assert_unchanged_since(&before);
        }
        // An address that the kernel has given by itself is no reason.
        network.add(&pod, "c1").success();
    });
}

#[test]
fn a_failed_add_detaches_what_it_has_attached() {
    case(|bed| {
        let _machine = machine(bed);
        let [pod, other] = ["pod", "other"].map(|name| bed.sandbox(name));
        let refusal = "echo '{\"code\": 53, \"msg\": \"no\"}'; exit 1";
        bed.script("none", &format!("#!/bin/sh\ncat >/dev/null\n{refusal}\n"));
        let failing = bed.network(on_wire(&json!({"ipam": {"type": "none", "ranges": null}})));
        let working = bed.network(on_wire(&json!({"uplinkInterface": null})));
        working.add(&other, "other").success();
        working.del(&other, "other").silent();
        let before = bed.snapshot();
        failing.add(&pod, "c1").fails_with(53, "no");
        bed.assert_unchanged_since(&before);
        bed.ip("link set wan up");
        // Who is there by then may need it.
        working.add(&other, "other").success();
        failing.add(&pod, "c1").fails_with(53, "no");
        assert_eq!(bed.link("wan")["master"], "br0");
    });
}

#[test]
fn check_misses_the_vlan_of_the_uplink() {
    case_on(&[Feature::BridgeVlans], |bed| {
        let (_machine, pod) = (machine(bed), bed.sandbox("pod"));
        let network = bed.network(on_wire(&json!({"vlan": 9})));
        network.add(&pod, "c1").success();
        network.check(&pod, "c1").silent();
        bed.succeed("bridge", &["vlan", "del", "dev", "wan", "vid", "9"]);
        network.check(&pod, "c1").fails_with(999, "uplink wan is not in VLAN 9");
        network.del(&pod, "c1").silent();
    });
}

#[test]
fn check_and_status_miss_the_uplink() {
    case(|bed| {
        let (_machine, pod) = (machine(bed), bed.sandbox("pod"));
        let network = bed.network(on_wire(&json!({"cniVersion": "1.1.0"})));
        network.status().silent();
        network.add(&pod, "c1").success();
        for (breakage, repair) in [
            ("link set wan nomaster", "link set wan master br0"),
            ("link set wan down", "link set wan up"),
        ] {
            bed.ip(breakage);
            assert!(network.check(&pod, "c1").error().msg.contains("wan"), "{breakage}");
            bed.ip(repair);
            network.check(&pod, "c1").silent();
        }
        bed.ip("link del wan");
        assert!(network.check(&pod, "c1").error().msg.contains("wan"));
        network.status().fails_with(50, "wan");
        network.del(&pod, "c1").silent();
    });
}

#[test]
fn the_bridge_forwards_the_group_addresses_that_it_is_told() {
    case(|bed| {
        let mask = |bed: &Testbed| {
            let shown = bed.link("br0")["linkinfo"]["info_data"]["group_fwd_mask"].clone();
            let shown = shown.as_str().map_or(shown.to_string(), str::to_owned);
            u32::from_str_radix(
                shown.trim_start_matches("0x"),
                if shown.starts_with("0x") { 16 } else { 10 },
            )
        };
        let network = |wanted: Value| bed.network(config::bridge(&json!({"groupFwdMask": wanted})));
        let pods = ["one", "two", "three"].map(|name| bed.sandbox(name));
        network(json!(16384)).add(&pods[0], "one").success();
        assert_eq!(mask(bed), Ok(16384));
        let lldp = network(json!(16392));
        lldp.add(&pods[1], "two").success();
        assert_eq!(mask(bed), Ok(16392));
        lldp.check(&pods[1], "two").silent();
        // Who says nothing leaves it as it is.
        network(Value::Null).add(&pods[2], "three").success();
        assert_eq!(mask(bed), Ok(16392));
        bed.ip("link set br0 type bridge group_fwd_mask 8");
        assert!(lldp.check(&pods[1], "two").error().msg.contains("groupFwdMask"));
    });
}

#[test]
fn group_addresses_that_no_bridge_forwards_are_refused() {
    case(|bed| {
        for wanted in [json!(1), json!(16388), json!(65536), json!(-1), json!("16384")] {
            let network = bed.network(config::bridge(&json!({"groupFwdMask": wanted})));
            let pod = bed.sandbox("pod");
            assert_eq!(network.add(&pod, "c1").error_code(), 7, "{wanted}");
            pod.destroy();
        }
    });
}
