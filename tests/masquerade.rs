//! Who is seen as whom: packets of pods, beyond their subnet and within.

mod iptables;

use std::{
    net::{Ipv4Addr, SocketAddrV6, UdpSocket},
    time::Duration,
};

use nix::sys::socket::{setsockopt, sockopt::BindToDevice};
use serde_json::json;
use testbed::{
    Place, Testbed, config, reach::seen, result::addresses, ruleset::rules, traffic::uninterrupted,
    warm::Warm,
};

use crate::differences::case;

#[test]
fn the_world_sees_the_host() {
    case(|bed| {
        let warm = Warm::new(bed, config::pods());
        let pod = bed.sandbox("pod");
        warm.network.add(&pod, "c1").success();
        for pod in [&warm.first, &pod] {
            assert_eq!(seen(pod, &warm.neighbour, "203.0.113.2"), "203.0.113.1");
            assert_eq!(seen(pod, &warm.neighbour, "2001:db8:ffff::2"), "2001:db8:ffff::1");
        }
    });
}

#[test]
fn pods_and_host_see_the_pod() {
    case(|bed| {
        let warm = Warm::new(bed, config::pods());
        let pod = bed.sandbox("pod");
        let own = addresses(&warm.network.add(&pod, "c1").result());
        assert_eq!(own, ["10.1.0.3", "fd00:1::3"]);
        for (number, at) in ["10.1.0.2", "fd00:1::2"].into_iter().enumerate() {
            assert_eq!(seen(&pod, &warm.first, at), own[number]);
        }
        // Also by the host's other addresses: they are no way out.
        for (number, at) in
            [(0, "10.1.0.1"), (0, "203.0.113.1"), (1, "fd00:1::1"), (1, "2001:db8:ffff::1")]
        {
            assert_eq!(seen(&pod, bed, at), own[number], "{at}");
        }
        // And from outside, who has a route sees the pod, and is seen.
        warm.neighbour.ip("route add 10.1.0.0/24 via 203.0.113.1");
        assert_eq!(seen(&warm.neighbour, &pod, "10.1.0.3"), "203.0.113.2");
    });
}

/// As whom the neighbour sees what the host sends to `to` from the pod's own address: the host
/// does not route multicast, so it takes the pod's part.
fn seen_from(bed: &Testbed, own: &str, receiver: &UdpSocket, to: &str) -> String {
    let sender = bed.udp_server(own);
    // Else multicast leaves by the link that has the address.
    setsockopt(&sender, BindToDevice, &"lan".into()).unwrap();
    sender.send_to(b"ping", to).unwrap();
    receiver.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    let received = uninterrupted(|| receiver.recv_from(&mut [0; 4]));
    received.unwrap_or_else(|error| panic!("{to}: {error}")).1.ip().to_string()
}

#[test]
fn multicast_is_not_translated() {
    case(|bed| {
        let warm = Warm::new(bed, config::pods());
        for at in ["addr add 10.1.0.2/32 dev lo", "addr add fd00:1::2/128 dev lo nodad"] {
            bed.ip(at);
        }
        bed.ip("route add 224.0.0.0/4 dev lan");
        warm.neighbour.ip("route add 10.1.0.0/24 via 203.0.113.1");
        warm.neighbour.ip("route add fd00:1::/64 via 2001:db8:ffff::1");
        let index = |place: &Place| {
            place.ip_json("link show lan")[0]["ifindex"].as_u64().and_then(|n| n.try_into().ok())
        };

        let receiver = warm.neighbour.udp_server("0.0.0.0:77");
        let group = Ipv4Addr::new(239, 1, 1, 1);
        receiver.join_multicast_v4(&group, &Ipv4Addr::new(203, 0, 113, 2)).unwrap();
        assert_eq!(seen_from(bed, "10.1.0.2:0", &receiver, "239.1.1.1:77"), "10.1.0.2");
        assert_eq!(seen_from(bed, "10.1.0.2:0", &receiver, "203.0.113.2:77"), "203.0.113.1");

        let receiver = warm.neighbour.udp_server("[::]:78");
        let group = "ff05::77".parse().unwrap();
        receiver.join_multicast_v6(&group, index(&warm.neighbour).unwrap()).unwrap();
        let to = SocketAddrV6::new(group, 78, 0, index(bed).unwrap()).to_string();
        assert_eq!(seen_from(bed, "[fd00:1::2]:0", &receiver, &to), "fd00:1::2");
        let unicast = seen_from(bed, "[fd00:1::2]:0", &receiver, "[2001:db8:ffff::2]:78");
        assert_eq!(unicast, "2001:db8:ffff::1");
    });
}

#[test]
fn two_networks_do_not_disturb_each_other() {
    case(|bed| {
        let warm = Warm::new(bed, config::pods());
        let ipam = json!({"type": "host-local", "ranges": [
            [{"subnet": "10.2.0.0/24"}], [{"subnet": "fd00:2::/64"}]
        ]});
        let other = bed
            .network(config::pods_with(&json!({"name": "other", "bridge": "br1", "ipam": ipam})));
        let pod = bed.sandbox("pod");
        // The same container's name, in another network.
        other.add(&pod, "first").success();
        warm.assert_connected(&warm.first);
        assert_eq!(seen(&pod, &warm.neighbour, "203.0.113.2"), "203.0.113.1");
        assert_eq!(seen(&pod, &warm.neighbour, "2001:db8:ffff::2"), "2001:db8:ffff::1");
        // Another network is the world, too.
        assert_eq!(seen(&pod, &warm.first, "10.1.0.2"), "10.1.0.1");
        assert_eq!(seen(&warm.first, &pod, "fd00:2::2"), "fd00:2::1");
        let before = bed.snapshot();
        warm.network.del(&warm.first, "first").silent();
        assert_eq!(seen(&pod, &warm.neighbour, "203.0.113.2"), "203.0.113.1");
        other.check(&pod, "first").silent();
        warm.network.add(&warm.first, "first").success();
        warm.assert_connected(&warm.first);
        assert_eq!(before.lines("nft {\"rule\"").count(), rules(bed));
    });
}

#[test]
fn after_del_the_address_is_nobodys() {
    case(|bed| {
        let warm = Warm::new(bed, config::pods());
        let before = bed.succeed("nft", &["list", "ruleset"]);
        let pod = bed.sandbox("pod");
        warm.network.add(&pod, "c1").success();
        let with_pod = bed.succeed("nft", &["list", "ruleset"]);
        assert!(with_pod.contains("10.1.0.3") && with_pod.contains("fd00:1::3"), "{with_pod}");
        warm.network.del(&pod, "c1").silent();
        let after = bed.succeed("nft", &["list", "ruleset"]);
        assert!(!after.contains("10.1.0.3") && !after.contains("fd00:1::3"), "{after}");
        assert_eq!(after.lines().count(), before.lines().count(), "{after}");
    });
}

#[test]
fn the_next_owner_of_an_address_replaces_the_last() {
    case(|bed| {
        let warm = Warm::new(bed, config::pods());
        let before = bed.snapshot();
        let result = warm.network.result("first").unwrap();
        bed.destroy(&warm.first);
        bed.succeed("rm", &["-r", "/var/lib/cni/networks/pods"]);
        let pod = bed.sandbox("first");
        assert_eq!(addresses(&warm.network.add(&pod, "next").result()), addresses(&result));
        warm.assert_connected(&pod);
        warm.network.check(&pod, "next").silent();
        let now = bed.snapshot();
        let maps = |of: &str| now.lines("nft {\"map\"").filter(|map| map.contains(of)).count();
        assert_eq!((maps("pods first eth0"), maps("pods next eth0")), (0, 2));
        assert_eq!(before.lines("nft ").count(), now.lines("nft ").count());
    });
}

#[test]
fn as_many_rules_for_thirty_as_for_one() {
    case(|bed| {
        let warm = Warm::new(bed, config::pods());
        let one = rules(bed);
        for number in 0..29 {
            let name = format!("c{number}");
            warm.network.add(&bed.sandbox(&name), &name).success();
        }
        assert_eq!(rules(bed), one, "{:?}", bed.snapshot());
        warm.assert_connected(&warm.first);
    });
}

#[test]
fn nft_loads_what_it_has_listed() {
    case(|bed| {
        let warm = Warm::new(bed, config::pods());
        let before = bed.snapshot();
        let listed = bed.succeed("nft", &["list", "ruleset"]);
        let file = format!("flush ruleset\n{listed}");
        let taken = bed.feed("nft", &["-f", "-"], file.as_bytes());
        assert!(taken.status.success(), "{taken:?}: {listed}");
        bed.assert_unchanged_since(&before);
        warm.assert_connected(&warm.first);
        warm.network.check(&warm.first, "first").silent();
        warm.network.del(&warm.first, "first").silent();
        let pod = bed.sandbox("pod");
        warm.network.add(&pod, "c1").success();
        warm.assert_connected(&pod);
    });
}

#[test]
fn a_flushed_packet_filter_is_noticed() {
    case(|bed| {
        let warm = Warm::new(bed, config::pods());
        warm.network.check(&warm.first, "first").silent();
        bed.succeed("nft", &["flush", "ruleset"]);
        let error = warm.network.check(&warm.first, "first").error();
        assert!(format!("{error:?}").contains("10.1.0.2"), "{error:?}");
    });
}

#[test]
fn a_flushed_packet_filter_is_made_again_by_the_next() {
    case(|bed| {
        let warm = Warm::new(bed, config::pods());
        bed.succeed("nft", &["flush", "ruleset"]);
        let pod = bed.sandbox("pod");
        warm.network.add(&pod, "c1").success();
        warm.assert_connected(&pod);
        warm.network.del(&warm.first, "first").silent();
        warm.assert_connected(&pod);
        bed.succeed("nft", &["flush", "ruleset"]);
        warm.network.del(&pod, "c1").silent();
    });
}

#[test]
fn other_peoples_rules_stay() {
    case(|bed| {
        let mine = "table ip mine { map pods { type ipv4_addr : verdict; }; \
                    chain postrouting { type nat hook postrouting priority 100; counter; }; }";
        assert!(bed.feed("nft", &["-f", "-"], mine.as_bytes()).status.success());
        let before = bed.succeed("nft", &["-s", "list", "table", "ip", "mine"]);
        let warm = Warm::new(bed, config::pods());
        warm.assert_connected(&warm.first);
        warm.network.del(&warm.first, "first").silent();
        assert_eq!(bed.succeed("nft", &["-s", "list", "table", "ip", "mine"]), before);
    });
}

#[test]
fn a_table_that_lost_its_rules_is_completed() {
    case(|bed| {
        let warm = Warm::new(bed, config::pods());
        bed.succeed("nft", &["flush", "table", "ip", "girder"]);
        let noticed = !warm.network.check(&warm.first, "first").status.success();
        let pod = bed.sandbox("pod");
        warm.network.add(&pod, "c1").success();
        warm.assert_connected(&pod);
        assert!(noticed, "CHECK finds nothing wrong");
    });
}

#[test]
fn a_table_of_that_name_is_completed() {
    case(|bed| {
        bed.succeed("nft", &["add", "table", "ip", "girder"]);
        let warm = Warm::new(bed, config::pods());
        warm.assert_connected(&warm.first);
    });
}
