//! Which addresses there are, in which order they come, and which of them one may ask for.

use serde_json::{Value, json};
use testbed::{Testbed, config, ipam::DIR, ipam::Ipam, result::cidrs};

use crate::differences::case;

/// The addresses that a fresh network gives, until it has no more.
fn all(bed: &Testbed, ipam: &Value, limit: usize) -> Vec<String> {
    bed.run("rm", &["-r", DIR]);
    let ipam = Ipam::new(bed, ipam);
    let mut all = Vec::new();
    for number in 0..limit {
        let outcome = ipam.add(&format!("c{number}"));
        if !outcome.status.success() {
            let error = outcome.error();
            assert!(error.msg.contains("no IP addresses available in range set"), "{error:?}");
            break;
        }
        let ip = cidrs(&outcome.result()).concat();
        all.push(ip.split('/').next().unwrap().to_owned());
    }
    ipam.pod.destroy();
    all
}

#[test]
fn gateway_and_broadcast_are_skipped() {
    case(|bed| {
        let rows = [
            (json!({"subnet": "10.1.2.0/29"}), "2 3 4 5 6"),
            (json!({"subnet": "10.1.2.0/30"}), "2"),
            (json!({"subnet": "10.1.2.0/29", "gateway": "10.1.2.4"}), "1 2 3 5 6"),
            (json!({"subnet": "10.1.2.0/29", "gateway": "10.1.2.6"}), "1 2 3 4 5"),
            // Elsewhere: nothing is skipped.
            (json!({"subnet": "10.1.2.0/29", "gateway": "10.9.9.9"}), "1 2 3 4 5 6"),
            (json!({"subnet": "10.1.2.0/29", "rangeStart": "10.1.2.3"}), "3 4 5 6"),
            (json!({"subnet": "10.1.2.0/29", "rangeEnd": "10.1.2.3"}), "2 3"),
            (
                json!({"subnet": "10.1.2.0/24", "rangeStart": "10.1.2.9", "rangeEnd": "10.1.2.9"}),
                "9",
            ),
            // Whoever asks for it by name gets the network's own address and the broadcast.
            (json!({"subnet": "10.1.2.0/29", "rangeStart": "10.1.2.0"}), "0 2 3 4 5 6"),
            (json!({"subnet": "10.1.2.0/29", "rangeEnd": "10.1.2.7"}), "2 3 4 5 6 7"),
        ];
        for (range, expected) in rows {
            let expected: Vec<_> =
                expected.split(' ').map(|last| format!("10.1.2.{last}")).collect();
            assert_eq!(all(bed, &range, 10), expected, "{range}");
            assert_eq!(all(bed, &json!({"ranges": [[range]]}), 10), expected, "{range}");
        }
    });
}

#[test]
fn ipv6_has_no_broadcast() {
    case(|bed| {
        let range = json!({"subnet": "2001:db8:1::/126"});
        assert_eq!(all(bed, &range, 9), ["2001:db8:1::2", "2001:db8:1::3"]);
        let range = json!({"subnet": "2001:db8:1::/64", "gateway": "2001:db8:1::f"});
        assert_eq!(all(bed, &range, 2), ["2001:db8:1::1", "2001:db8:1::2"]);
        let range = json!({"subnet": "2001:db8::/32", "rangeStart": "2001:db8:ffff::ffff"});
        assert_eq!(all(bed, &range, 2), ["2001:db8:ffff::ffff", "2001:db8:ffff::1:0"]);
    });
}

#[test]
fn tiny_subnets_are_used_whole() {
    case(|bed| {
        let rows: [(&str, Option<&str>, &[&str]); 6] = [
            ("10.1.2.4/31", None, &["10.1.2.4", "10.1.2.5"]),
            ("10.1.2.4/31", Some("10.1.2.4"), &["10.1.2.5"]),
            ("10.1.2.4/32", None, &["10.1.2.4"]),
            ("10.1.2.4/32", Some("10.1.2.1"), &["10.1.2.4"]),
            ("2001:db8::4/127", None, &["2001:db8::4", "2001:db8::5"]),
            ("2001:db8::4/128", None, &["2001:db8::4"]),
        ];
        for (subnet, gateway, expected) in rows {
            let mut range = json!({"subnet": subnet});
            if let Some(gateway) = gateway {
                range["gateway"] = json!(gateway);
            }
            assert_eq!(all(bed, &range, 4), expected, "{range}");
        }
    });
}

#[test]
fn what_is_excluded_is_never_handed_out() {
    case(|bed| {
        let rows = [
            (json!(["10.1.2.2", "10.1.2.5"]), vec!["10.1.2.3", "10.1.2.4", "10.1.2.6"]),
            (json!(["10.1.2.0/30"]), vec!["10.1.2.4", "10.1.2.5", "10.1.2.6"]),
            (json!(["10.1.2.4/30", "10.1.2.4"]), vec!["10.1.2.2", "10.1.2.3"]),
        ];
        for (exclude, expected) in rows {
            let range = json!({"subnet": "10.1.2.0/29", "exclude": exclude});
            assert_eq!(all(bed, &range, 9), expected, "{range}");
            let range = json!({"ranges": [[range]]});
            assert_eq!(all(bed, &range, 9), expected, "{range}");
            bed.run("rm", &["-r", DIR]);
            let ipam = Ipam::new(bed, &range);
            let requested = ipam.call("c9").args("IP=10.1.2.5").run();
            let is_free = expected.contains(&"10.1.2.5");
            assert_eq!(requested.status.success(), is_free, "{requested}");
            ipam.pod.destroy();
        }
        let range = json!({"subnet": "10.1.2.0/29", "exclude": ["10.1.2.0/29"]});
        Ipam::new(bed, &range).add("c1").fails_with(7, "has no address to hand out");
    });
}

#[test]
fn addresses_come_round_robin() {
    case(|bed| {
        let ipam = Ipam::new(bed, &json!({"subnet": "10.1.2.0/29"}));
        let last = |container: &str| ipam.ip(container).replace("10.1.2.", "").replace("/29", "");
        assert_eq!((last("a").as_str(), last("b").as_str()), ("2", "3"));
        // A released address is not the next one.
        ipam.del("a");
        ipam.del("b");
        assert_eq!((last("c").as_str(), last("d").as_str()), ("4", "5"));
        // Past the end, and past who is still there.
        assert_eq!((last("e").as_str(), last("f").as_str()), ("6", "2"));
        ipam.del("d");
        ipam.del("e");
        assert_eq!((last("g").as_str(), last("h").as_str()), ("3", "5"));
        // The only one that is left, wherever the last one was.
        assert_eq!(last("i"), "6");
        ipam.del("c");
        assert_eq!(last("j"), "4");
        assert!(!ipam.add("k").status.success());
        ipam.del("j");
        assert_eq!(last("k"), "4");
    });
}

#[test]
fn after_a_requested_address_comes_the_next() {
    case(|bed| {
        let ipam = Ipam::new(bed, &json!({"subnet": "10.1.2.0/29"}));
        assert_eq!(cidrs(&ipam.call("a").args("IP=10.1.2.5").run().result()), ["10.1.2.5/29"]);
        assert_eq!(ipam.ip("b"), "10.1.2.6/29");
        assert_eq!(ipam.ip("c"), "10.1.2.2/29");
    });
}

#[test]
fn a_last_address_of_other_ranges_does_not_matter() {
    case(|bed| {
        let ipam = Ipam::new(bed, &json!({"subnet": "10.1.2.0/24"}));
        ipam.add("a").success();
        let moved = bed.network(config::host_local("net", &json!({"subnet": "192.0.2.0/24"})));
        assert_eq!(cidrs(&moved.add(&ipam.pod, "b").result()), ["192.0.2.2/24"]);
    });
}

#[test]
fn when_a_range_is_exhausted_the_next_one_serves() {
    case(|bed| {
        let ranges = json!({"ranges": [[
            {"subnet": "10.1.2.0/30"}, {"subnet": "10.1.3.0/30", "rangeStart": "10.1.3.0"},
            {"subnet": "10.1.4.0/29", "gateway": "10.1.4.3"}
        ]]});
        let expected =
            ["10.1.2.2", "10.1.3.0", "10.1.3.2", "10.1.4.1", "10.1.4.2", "10.1.4.4", "10.1.4.5"];
        assert_eq!(all(bed, &ranges, 7), expected);
        let ipam = Ipam::new(bed, &ranges);
        ["c0", "c2"].into_iter().for_each(|container| ipam.del(container));
        // Each with the prefix and the gateway of its own range.
        let ip = |address: &str, gateway: &str| json!([{"address": address, "gateway": gateway}]);
        assert_eq!(ipam.add("d").result()["ips"], ip("10.1.4.6/29", "10.1.4.3"));
        assert_eq!(ipam.add("e").result()["ips"], ip("10.1.2.2/30", "10.1.2.1"));
        assert_eq!(ipam.add("f").result()["ips"], ip("10.1.3.2/30", "10.1.3.1"));
        let words = "no IP addresses available in range set: \
                     10.1.2.1-10.1.2.2,10.1.3.0-10.1.3.2,10.1.4.1-10.1.4.6";
        let error = ipam.add("g").error();
        assert!(error.msg.contains(words), "{error:?}");
    });
}

#[test]
fn an_address_is_taken_from_each_set_or_from_none() {
    case(|bed| {
        let ipam = Ipam::new(
            bed,
            &json!({"ranges": [
                [{"subnet": "10.1.2.0/24"}], [{"subnet": "10.1.3.0/30"}], [{"subnet": "fd00::/64"}]
            ]}),
        );
        assert_eq!(ipam.ips("c1"), ["10.1.2.2/24", "10.1.3.2/30", "fd00::2/64"]);
        let error = ipam.add("c2").error();
        assert!(error.msg.starts_with("failed to allocate for range 1: no IP"), "{error:?}");
        assert_eq!(bed.leases("net").len(), 3);
    });
}

#[test]
fn the_order_of_sets_is_runtime_old_style_ranges() {
    case(|bed| {
        let mut config = config::host_local(
            "net",
            &json!({
                "subnet": "10.1.2.0/24", "ranges": [[{"subnet": "10.1.3.0/24"}], [{"subnet": "fd00::/64"}]]
            }),
        );
        config["RuntimeConfig"] = json!({"ipRanges": [[{"subnet": "10.1.1.0/24"}]]});
        let expected = ["10.1.1.2/24", "10.1.2.2/24", "10.1.3.2/24", "fd00::2/64"];
        assert_eq!(Ipam::of(bed, config).ips("c1"), expected);
    });
}

#[test]
fn an_address_may_be_requested_in_three_ways() {
    case(|bed| {
        let ranges = json!([[{"subnet": "10.1.2.0/24"}], [{"subnet": "10.1.3.0/24"}], [{"subnet": "fd00::/64"}]]);
        let config = config::host_local("net", &json!({"ranges": ranges}));
        let ipam = Ipam::of(bed, config.clone());
        for (number, length) in [(50, ""), (60, "/24")] {
            let [arg, args, runtime] = [
                format!("10.1.2.{number}{length}"),
                format!("10.1.3.{number}{length}"),
                format!("fd00::{number}{}", length.replace("24", "64")),
            ];
            let mut config = config.clone();
            config["args"] = json!({"cni": {"ips": [args]}});
            config["runtimeConfig"] = json!({"ips": [runtime]});
            let call = ipam.call(&format!("c{number}")).config(&config);
            let result =
                call.args(&format!("IgnoreUnknown=1;IP={arg};K8S_POD_NAME=a")).run().result();
            let bare = |text: &String| text.split('/').next().unwrap().to_owned();
            let expected = [bare(&arg) + "/24", bare(&args) + "/24", bare(&runtime) + "/64"];
            assert_eq!(cidrs(&result), expected);
        }
        // The rest is chosen.
        let call = ipam.call("c3").args("IP=10.1.3.7");
        assert_eq!(cidrs(&call.run().result()), ["10.1.2.61/24", "10.1.3.7/24", "fd00::61/64"]);
        let call = ipam.call("c4").args("IP=fd00::ff");
        assert_eq!(cidrs(&call.run().result()), ["10.1.2.62/24", "10.1.3.8/24", "fd00::ff/64"]);
    });
}

#[test]
fn a_request_that_cannot_be_met_costs_nothing() {
    case(|bed| {
        let range = json!({
            "subnet": "10.1.2.0/24", "rangeStart": "10.1.2.10", "rangeEnd": "10.1.2.20",
            "gateway": "10.1.2.15"
        });
        let ipam = Ipam::new(bed, &json!({"ranges": [[range], [{"subnet": "fd00::/64"}]]}));
        let taken = ipam.call("c1").args("IP=10.1.2.12").run();
        assert_eq!(cidrs(&taken.result()), ["10.1.2.12/24", "fd00::2/64"]);
        let before = bed.leases("net");
        let rows = [
            (
                "10.1.2.12",
                "requested IP address 10.1.2.12 is not available in range set 10.1.2.10-10.1.2.20",
            ),
            ("10.1.2.15", "requested ip 10.1.2.15 is subnet's gateway"),
            ("10.1.2.9", "failed to allocate all requested IPs: 10.1.2.9"),
            ("10.1.2.21", "failed to allocate all requested IPs: 10.1.2.21"),
            ("192.0.2.1", "failed to allocate all requested IPs: 192.0.2.1"),
            ("fd00:1::1", "failed to allocate all requested IPs: fd00:1::1"),
        ];
        for (ip, words) in rows {
            let error = ipam.call("c2").args(&format!("IP={ip}")).run().error();
            assert!(error.msg.contains(words), "{error:?}");
            assert_eq!(bed.leases("net"), before, "{ip}");
        }
        let mut config = ipam.network.config().clone();
        config["args"] = json!({"cni": {"ips": ["10.1.2.13", "10.1.2.14"]}});
        let error = ipam.call("c2").config(&config).run().error();
        assert!(error.msg.contains("failed to allocate all requested IPs: 10.1.2.1"), "{error:?}");
        assert_eq!(bed.leases("net"), before);
    });
}

#[test]
fn a_request_fails_with_the_code_of_its_reason() {
    case(|bed| {
        let ipam = Ipam::new(bed, &json!({"subnet": "10.1.2.0/24"}));
        ipam.call("c1").args("IP=10.1.2.5").run().success();
        let asked = |config: &Value, args: &str| {
            ipam.call("c2").config(config).args(args).run().error_code()
        };
        let mut config = ipam.network.config().clone();
        assert_eq!(asked(&config, "IP=10.1.2.5"), 11);
        assert_eq!(asked(&config, "IP=10.1.2.1"), 4);
        assert_eq!(asked(&config, "IP=192.0.2.1"), 4);
        assert_eq!(asked(&config, "IP=no address"), 4);
        config["runtimeConfig"] = json!({"ips": ["192.0.2.1"]});
        assert_eq!(asked(&config, ""), 7);
    });
}

#[test]
fn halves_of_one_subnet_do_not_overlap() {
    case(|bed| {
        let half = |start: &str, end: &str| json!({"subnet": "10.1.2.0/24", "rangeStart": start, "rangeEnd": end});
        let halves = [half("10.1.2.2", "10.1.2.2"), half("10.1.2.100", "10.1.2.100")];
        assert_eq!(all(bed, &json!({"ranges": [halves]}), 3), ["10.1.2.2", "10.1.2.100"]);
        let two = json!({"ranges": [[halves[0]], [halves[1]]]});
        assert_eq!(Ipam::named(bed, "two", &two).ips("c"), ["10.1.2.2/24", "10.1.2.100/24"]);
    });
}
