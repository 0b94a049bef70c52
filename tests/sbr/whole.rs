//! Routes move as they are: with metrics, several next hops, and whatever else the kernel says of them.

use serde_json::json;

use crate::differences::case;

const ONE: [(&str, &str); 1] = [("192.168.1.209/24", "192.168.1.1")];
const DUAL: [(&str, &str); 2] =
    [("192.168.1.209/24", "192.168.1.1"), ("2001:db8:1::209/64", "2001:db8:1::1")];

#[test]
fn a_route_moves_with_all_that_the_kernel_says_of_it() {
    case(|bed| {
        let pod = bed.sandbox("pod");
        let wire = bed.wire(&pod, "net1", &DUAL);
        for words in [
            "route add 198.51.100.0/24 via 192.168.1.7 initcwnd 20 mtu 1400 advmss 1300",
            "route add 198.51.100.0/24 via 192.168.1.8 tos 0x10",
            "route add 203.0.113.0/24 nexthop via 192.168.1.7 weight 3 nexthop via 192.168.1.8",
            "-6 route add 2001:db8:7::/64 via 2001:db8:1::7 initrwnd 30 hoplimit 9",
            "-6 route add 2001:db8:8::/64 nexthop via 2001:db8:1::7 nexthop via 2001:db8:1::8",
        ] {
            pod.ip(words);
        }
        let show = |words: &str| {
            let shown = pod.ip(&format!("-o {words}"));
            let lines = shown.lines().map(|line| line.trim().to_owned());
            let of_its_own = |line: &String| line.contains("default") || line.contains("fe80::");
            lines.filter(|line| !of_its_own(line)).collect::<Vec<_>>()
        };
        let (before, v4, v6) = (pod.routing(), show("-4 route show"), show("-6 route show"));
        assert!(v4.len() == 4 && v6.len() == 3, "{v4:?} {v6:?}");
        for keys in [json!({}), json!({"addSourceHints": true})] {
            let network = wire.chained(bed, "sbr", &keys);
            network.add(&pod, "c1").success();
            assert_eq!(show("-4 route show table 100"), v4);
            assert_eq!(show("-6 route show table 101"), v6);
            network.check(&pod, "c1").silent();
            network.del(&pod, "c1").silent();
            assert_eq!(pod.routing(), before, "{keys}");
        }
    });
}

#[test]
fn a_route_that_another_interface_shares_stays() {
    case(|bed| {
        let pod = bed.sandbox("pod");
        let _first = bed.wire(&pod, "eth0", &[("10.1.0.2/24", "10.1.0.1")]);
        let wire = bed.wire(&pod, "net1", &ONE);
        let hops = ["via 10.1.0.7 dev eth0", "via 192.168.1.7 dev net1"];
        pod.ip(&format!("route add 203.0.113.0/24 nexthop {} nexthop {}", hops[0], hops[1]));
        let (before, shared) = (pod.routing(), pod.ip("-o route show 203.0.113.0/24"));
        let network = wire.chained(bed, "sbr", &json!({}));
        network.add(&pod, "c1").success();
        assert_eq!(pod.ip("-o route show 203.0.113.0/24"), shared);
        let own = pod.ip("route show 203.0.113.0/24 table 100");
        assert!(own.contains(hops[1]) && !own.contains("eth0"), "{own}");
        network.del(&pod, "c1").silent();
        assert_eq!(pod.routing(), before);
    });
}
