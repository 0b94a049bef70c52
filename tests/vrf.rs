//! A pod's interface gets a routing table of its own: addresses and routes of both families come with
//! it, and the VRF goes with its last interface.

mod beside_sbr;
mod crash;

use serde_json::{Value, json};
use testbed::{Place, config::changed, kernel::Feature, reach::seen_by_tcp};

use crate::differences::case_on;

const VRF: &[Feature] = &[Feature::Vrf];

const DUAL: [(&str, &str); 2] =
    [("192.168.1.209/24", "192.168.1.1"), ("2001:db8:1::209/64", "2001:db8:1::1")];

fn blue() -> Value {
    json!({"vrfname": "blue"})
}

/// The table of a VRF.
fn table(pod: &Place, vrf: &str) -> Value {
    pod.link(vrf)["linkinfo"]["info_data"]["table"].clone()
}

/// The global addresses of an interface.
fn addresses(pod: &Place, ifname: &str) -> Vec<String> {
    let shown = pod.ip(&format!("-o addr show dev {ifname} scope global"));
    shown.lines().map(|line| line.split_whitespace().nth(3).unwrap().to_owned()).collect()
}

#[test]
fn the_interface_joins_and_the_result_passes() {
    case_on(VRF, |bed| {
        let pod = bed.sandbox("pod");
        let wire = bed.wire(&pod, "net1", &DUAL);
        let before = pod.routing();
        let result = changed(wire.result.clone(), &json!({"cniVersion": "0.3.1"}));
        let keys = json!({"vrfName": "blue", "cniVersion": "0.3.1", "prevResult": result});
        let network = wire.chained(bed, "vrf", &keys);
        let answer = network.add(&pod, "c1").result();
        assert_eq!(answer["interfaces"], wire.result["interfaces"]);
        assert_eq!(answer["ips"].as_array().unwrap().len(), 2);
        assert_eq!(pod.link("net1")["master"], "blue");
        assert_eq!(table(&pod, "blue"), 1);
        assert!(pod.link("blue")["flags"].as_array().unwrap().contains(&json!("UP")));
        network.del(&pod, "c1").silent();
        assert!(!pod.has_link("blue") && pod.link("net1")["master"].is_null());
        let rest = |line: &&String| !line.contains("l3mdev");
        let (before, now) = (before.iter().filter(rest), pod.routing());
        assert!(before.eq(now.iter().filter(rest)), "{now:?}");
    });
}

#[test]
fn packets_come_and_go_by_its_table() {
    case_on(VRF, |bed| {
        let pod = bed.sandbox("pod");
        let first = [("10.1.0.2/24", "10.1.0.1"), ("fd00:1::2/64", "fd00:1::1")];
        let _first = bed.wire(&pod, "eth0", &first);
        pod.ip("route add default via 10.1.0.1");
        pod.ip("-6 route add default via fd00:1::1");
        let wire = bed.wire(&pod, "net1", &DUAL);
        pod.ip("route append default via 192.168.1.1 dev net1");
        pod.ip("-6 route add default via 2001:db8:1::1 dev net1 metric 2000");
        let network = wire.chained(bed, "vrf", &blue());
        network.add(&pod, "c1").success();
        pod.set_sysctl("net/ipv4/tcp_l3mdev_accept", "1");
        for (far, own) in [("198.51.100.1", "192.168.1.209"), ("2001:db8:99::1", "2001:db8:1::209")]
        {
            wire.ask_from(far);
            assert_eq!(seen_by_tcp(&wire.router, &pod, own), far);
            let shown = pod.ip(&format!("route get {far}"));
            assert!(shown.contains("dev eth0"), "{shown}");
            let shown = pod.ip(&format!("route get vrf blue {far}"));
            assert!(shown.contains("dev net1") && shown.contains(own), "{shown}");
        }
        network.check(&pod, "c1").silent();
    });
}

#[test]
fn addresses_and_routes_come_with_the_interface() {
    case_on(VRF, |bed| {
        for keep in ["0", "1"] {
            let pod = bed.sandbox(&format!("pod{keep}"));
            let other = bed.wire(&pod, "net0", &[("10.10.0.2/24", "10.10.0.1")]);
            let wire = bed.wire(&pod, "net1", &DUAL);
            pod.set_sysctl("net/ipv6/conf/net1/keep_addr_on_down", keep);
            for words in [
                "route add 10.10.10.0/24 via 192.168.1.7 src 192.168.1.209 metric 7",
                "route add 10.10.11.0/24 dev net1",
                "route add 10.10.12.0/24 via 192.168.1.7 initcwnd 20",
                "route add 10.10.13.0/24 via 10.10.0.7",
                "-6 route add 2001:db8:7::/64 via 2001:db8:1::7 src 2001:db8:1::209 metric 77",
                "-6 route add 2001:db8:8::/64 dev net1",
            ] {
                pod.ip(words);
            }
            let (before, elsewhere) = (addresses(&pod, "net1"), pod.ip("route show dev net0"));
            let network = wire.chained(bed, "vrf", &changed(blue(), &json!({"table": 1001})));
            network.add(&pod, "c1").success();
            assert_eq!(addresses(&pod, "net1"), before);
            assert_eq!(pod.ip("route show dev net0"), elsewhere);
            assert_eq!(pod.ip("route show dev net1") + &pod.ip("-6 route show dev net1"), "");
            let (v4, v6) = (pod.ip("route show vrf blue"), pod.ip("-6 route show vrf blue"));
            for (shown, line) in [
                (&v4, "192.168.1.0/24 dev net1 proto kernel scope link src 192.168.1.209"),
                (&v4, "10.10.10.0/24 via 192.168.1.7 dev net1 src 192.168.1.209 metric 7"),
                (&v4, "10.10.11.0/24 dev net1 scope link"),
                (&v4, "10.10.12.0/24 via 192.168.1.7 dev net1 initcwnd 20"),
                (&v6, "2001:db8:1::/64 dev net1 proto kernel metric 256"),
                (&v6, "2001:db8:7::/64 via 2001:db8:1::7 dev net1 src 2001:db8:1::209 metric 77"),
                (&v6, "2001:db8:8::/64 dev net1 metric 1024"),
            ] {
                assert_eq!(shown.matches(line).count(), 1, "{line}: {shown}");
            }
            assert!(!v4.contains("10.10.13.0"), "{v4}");
            drop(other);
        }
    });
}

#[test]
fn an_interface_that_has_a_master_is_refused() {
    case_on(VRF, |bed| {
        let pod = bed.sandbox("pod");
        let wire = bed.wire(&pod, "net1", &DUAL);
        let network = wire.chained(bed, "vrf", &blue());
        for kind in ["bridge", "vrf table 9"] {
            pod.ip(&format!("link add master0 type {kind}"));
            pod.ip("link set net1 master master0");
            let error = network.add(&pod, "c1").error();
            assert!(error.msg.contains("has already a master set"), "{error:?}");
            assert!(!pod.has_link("blue"));
            pod.ip("link del master0");
        }
        network.add(&pod, "c1").success();
        assert_ne!(network.add(&pod, "c1").error_code(), 0);
        network.check(&pod, "c1").silent();
    });
}

#[test]
fn a_link_that_is_no_vrf_is_refused() {
    case_on(VRF, |bed| {
        let pod = bed.sandbox("pod");
        let wire = bed.wire(&pod, "net1", &DUAL);
        pod.ip("link add blue type bridge");
        let network = wire.chained(bed, "vrf", &blue());
        assert_ne!(network.add(&pod, "c1").error_code(), 0);
        network.call("DEL", "c1").netns(pod.path()).run().silent();
        assert!(pod.has_link("blue") && pod.link("net1")["master"].is_null());
    });
}

#[test]
fn interfaces_share_a_vrf_or_have_one_each() {
    case_on(VRF, |bed| {
        let second = [("192.168.2.209/24", "192.168.2.1"), ("2001:db8:2::209/64", "2001:db8:2::1")];
        for (number, (ips, vrf)) in
            [(second, "blue"), (second, "red"), (DUAL, "red")].into_iter().enumerate()
        {
            let pod = bed.sandbox(&format!("pod{number}"));
            let one = bed.wire(&pod, "net1", &DUAL).chained(bed, "vrf", &blue());
            one.add(&pod, "c1").success();
            // Also the same addresses, as long as the tables are not the same.
            let wire = bed.wire(&pod, "net2", &ips);
            let two = wire.chained(bed, "vrf", &json!({"vrfname": vrf}));
            two.add(&pod, "c1").success();
            assert_eq!(addresses(&pod, "net1"), DUAL.map(|(address, _)| address));
            assert_eq!(addresses(&pod, "net2"), ips.map(|(address, _)| address));
            assert_eq!(table(&pod, vrf), if vrf == "blue" { 1 } else { 2 });
            for network in [&one, &two] {
                network.check(&pod, "c1").silent();
            }
            one.del(&pod, "c1").silent();
            two.check(&pod, "c1").silent();
            assert!(pod.has_link(vrf) && (vrf == "blue" || !pod.has_link("blue")));
            two.del(&pod, "c1").silent();
            assert!(!pod.has_link(vrf));
        }
    });
}

#[test]
fn a_vrf_has_one_table_and_a_table_may_have_several() {
    case_on(VRF, |bed| {
        let pod = bed.sandbox("pod");
        let keys = |vrf, table: u32| json!({"vrfname": vrf, "table": table});
        let wires = [1, 2, 3].map(|number| {
            let (own, gateway) = (format!("10.0.{number}.2/24"), format!("10.0.{number}.1"));
            bed.wire(&pod, &format!("net{number}"), &[(&own, &gateway)])
        });
        wires[0].chained(bed, "vrf", &keys("blue", 1001)).add(&pod, "c1").success();
        let before = pod.ip("-o -d link show type vrf");
        let other = wires[1].chained(bed, "vrf", &keys("blue", 1002));
        let error = other.add(&pod, "c1").error();
        assert!(error.msg.contains("already exist with different routing table"), "{error:?}");
        assert_eq!(pod.ip("-o -d link show type vrf"), before);
        wires[1].chained(bed, "vrf", &keys("blue", 1001)).add(&pod, "c1").success();
        wires[2].chained(bed, "vrf", &keys("red", 1001)).add(&pod, "c1").success();
        assert_eq!((table(&pod, "blue"), table(&pod, "red")), (json!(1001), json!(1001)));
    });
}

#[test]
fn the_table_is_the_first_one_that_nothing_uses() {
    case_on(VRF, |bed| {
        let pod = bed.sandbox("pod");
        for number in [1, 2, 3, 5] {
            pod.ip(&format!("link add vrf{number} type vrf table {number}"));
        }
        pod.ip("link add br4 type bridge");
        let wire = bed.wire(&pod, "net1", &DUAL);
        let network = wire.chained(bed, "vrf", &blue());
        network.add(&pod, "c1").success();
        assert_eq!(table(&pod, "blue"), 4);
        network.del(&pod, "c1").silent();
        // What sbr, or an administrator, has is not shared without having been asked for.
        pod.ip("rule add from 10.9.9.9 lookup 4");
        pod.ip("route add blackhole 198.18.0.0/15 table 6");
        network.add(&pod, "c1").success();
        assert_eq!(table(&pod, "blue"), 7);
    });
}

#[test]
fn check_finds_what_is_different() {
    case_on(VRF, |bed| {
        let (pod, keys) = (bed.sandbox("pod"), json!({"vrfname": "blue", "cniVersion": "0.4.0"}));
        let breakages =
            ["link set net1 nomaster", "link set blue down", "link del blue", "link del net1"];
        for (number, breakage) in breakages.into_iter().enumerate() {
            let pod = bed.sandbox(&format!("pod{number}"));
            let mut wire = bed.wire(&pod, "net1", &DUAL);
            wire.result["cniVersion"] = json!("0.4.0");
            let network = wire.chained(bed, "vrf", &keys);
            network.add(&pod, "c1").success();
            network.check(&pod, "c1").silent();
            pod.ip(breakage);
            let error = network.check(&pod, "c1").error();
            assert!(error.msg.contains("blue"), "{error:?}");
            network.del(&pod, "c1").silent();
        }
        let wire = bed.wire(&pod, "net1", &DUAL);
        wire.chained(bed, "vrf", &blue()).add(&pod, "c1").success();
        let other = wire.chained(bed, "vrf", &json!({"vrfname": "blue", "table": 77}));
        other.call("CHECK", "c1").netns(pod.path()).run().fails_with(999, "77");
    });
}

#[test]
fn what_is_missing_in_the_configuration_is_named() {
    case_on(VRF, |bed| {
        let pod = bed.sandbox("pod");
        let wire = bed.wire(&pod, "net1", &DUAL);
        for keys in [json!({}), json!({"vrfname": ""})] {
            let error = wire.chained(bed, "vrf", &keys).add(&pod, "c1").error();
            assert!(error.msg.contains("expected to have a valid vrf name"), "{error:?}");
        }
        let alone = wire.chained(bed, "vrf", &json!({"vrfname": "blue", "prevResult": null}));
        let error = alone.add(&pod, "c1").error();
        assert!(error.msg.contains("missing prevResult from earlier plugin"), "{error:?}");
    });
}
