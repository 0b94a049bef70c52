//! Addresses from files: which one is chosen, who holds it, and what the directory says.

use std::{collections::BTreeSet, os::unix::fs::PermissionsExt as _, thread};

use serde_json::{Value, json};
use testbed::{Call, Network, Outcome, Testbed};

use crate::differences::case;

fn network<'bed>(bed: &'bed Testbed, ipam: &Value) -> Network<'bed> {
    if !bed.file("/run/netns/pod").exists() {
        let _pod = bed.sandbox("pod");
    }
    let mut config =
        json!({"cniVersion": "1.0.0", "name": "net", "type": "host-local", "ipam": ipam});
    config["ipam"]["type"] = json!("host-local");
    bed.network(config)
}

/// A call with the namespace that every lease of these tests is for.
fn call<'bed>(network: &Network<'bed>, verb: &str, container: &str) -> Call<'bed> {
    network.call(verb, container).netns("/run/netns/pod")
}

fn add(network: &Network<'_>, container: &str) -> Outcome {
    call(network, "ADD", container).run()
}

/// The addresses of a successful ADD, without their prefix lengths.
fn take(network: &Network<'_>, container: &str) -> Vec<String> {
    let result = add(network, container).result();
    let ips = result["ips"].as_array().unwrap().iter();
    ips.map(|ip| ip["address"].as_str().unwrap().split('/').next().unwrap().to_owned()).collect()
}

/// CHECK of an attachment that was given `address`.
fn check(network: &Network<'_>, container: &str, address: &str) -> Outcome {
    let mut config = network.config().clone();
    config["prevResult"] = json!({"cniVersion": "1.0.0", "ips": [{"address": address}]});
    call(network, "CHECK", container).config(&config).run()
}

fn give_back(network: &Network<'_>, container: &str) {
    call(network, "DEL", container).run().silent();
}

#[test]
fn addresses_are_taken_in_turn_and_not_again_at_once() {
    case(|bed| {
        // .2 to .6: without network, gateway and broadcast.
        let network = network(bed, &json!({"subnet": "10.1.0.0/29"}));
        for (container, expected) in [("a", "10.1.0.2"), ("b", "10.1.0.3")] {
            assert_eq!(take(&network, container), [expected]);
        }
        give_back(&network, "a");
        for expected in ["10.1.0.4", "10.1.0.5", "10.1.0.6", "10.1.0.2"] {
            assert_eq!(take(&network, &format!("c{}", expected.replace('.', "-"))), [expected]);
        }
        let error = add(&network, "late").error();
        assert!(error.msg.contains("no IP addresses available in range set: 10.1.0.1-10.1.0.6"));
        give_back(&network, "b");
        assert_eq!(take(&network, "late"), ["10.1.0.3"]);
    });
}

#[test]
fn the_directory_is_as_everyone_reads_it() {
    case(|bed| {
        let ranges =
            json!({"ranges": [[{"subnet": "10.1.0.0/24"}], [{"subnet": "2001:db8:1::/64"}]]});
        let network = network(bed, &ranges);
        assert_eq!(take(&network, "c1"), ["10.1.0.2", "2001:db8:1::2"]);
        let dir = "/var/lib/cni/networks/net";
        for (number, address) in ["10.1.0.2", "2001:db8:1::2"].into_iter().enumerate() {
            assert_eq!(bed.read(&format!("{dir}/{address}")), "c1\r\neth0");
            assert_eq!(bed.read(&format!("{dir}/last_reserved_ip.{number}")), address);
        }
        assert!(bed.file(format!("{dir}/lock")).is_file());
        assert_eq!(bed.leases("net"), bed.lease_files("net"));
        give_back(&network, "c1");
        assert!(bed.lease_files("net").is_empty() && bed.leases("net").is_empty());
        assert_eq!(bed.read(&format!("{dir}/last_reserved_ip.0")), "10.1.0.2");
    });
}

#[test]
fn only_root_reads_a_lease() {
    case(|bed| {
        take(&network(bed, &json!({"subnet": "10.1.0.0/24"})), "c1");
        for file in ["10.1.0.2", "last_reserved_ip.0"] {
            let file = bed.file(format!("/var/lib/cni/networks/net/{file}"));
            assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        }
    });
}

#[test]
fn files_of_the_reference_are_leases() {
    case(|bed| {
        let dir = "/var/lib/cni/networks/net";
        let network = network(bed, &json!({"subnet": "10.1.0.0/24"}));
        bed.write(&format!("{dir}/10.1.0.2"), "old\r\neth0");
        // As it was before interfaces had names, and with space around.
        bed.write(&format!("{dir}/10.1.0.3"), " legacy\n");
        assert_eq!(take(&network, "c1"), ["10.1.0.4"]);
        for (container, address) in [("old", "10.1.0.2/24"), ("legacy", "10.1.0.3/24")] {
            assert!(add(&network, container).error().msg.contains("duplicate allocation"));
            check(&network, container, address).silent();
            give_back(&network, container);
        }
        assert_eq!(bed.lease_files("net").len(), 1);
        // Somebody removes a file: the address is free.
        std::fs::remove_file(bed.file(format!("{dir}/10.1.0.4"))).unwrap();
        assert_eq!(take(&network, "c1"), ["10.1.0.5"]);
    });
}

#[test]
fn an_attachment_holds_one_address_and_a_container_several() {
    case(|bed| {
        let ipam = json!({"subnet": "10.1.0.0/24"});
        let network = network(bed, &ipam);
        take(&network, "c1");
        let expected = "10.1.0.2 has been allocated to c1, duplicate allocation is not allowed";
        assert!(add(&network, "c1").error().msg.contains(expected));
        assert_eq!(bed.leases("net").len(), 1, "the first one stays");
        let second = network.ifname("eth1");
        assert_eq!(take(&second, "c1"), ["10.1.0.3"]);
        give_back(&second, "c1");
        assert_eq!(bed.leases("net").into_values().collect::<Vec<_>>(), ["c1 eth0"]);
    });
}

#[test]
fn an_address_may_be_asked_for() {
    case(|bed| {
        let network = network(bed, &json!({"subnet": "10.1.0.0/24"}));
        let with = |key: &str, value: Value| {
            let mut config = network.config().clone();
            config[key] = value;
            config
        };
        let first = |outcome: Outcome| outcome.result()["ips"][0]["address"].clone();
        let by_args = call(&network, "ADD", "a").args("IgnoreUnknown=1;IP=10.1.0.50");
        assert_eq!(first(by_args.run()), "10.1.0.50/24");
        for (container, config, expected) in [
            ("b", with("args", json!({"cni": {"ips": ["10.1.0.51"]}})), "10.1.0.51/24"),
            ("c", with("runtimeConfig", json!({"ips": ["10.1.0.52/24"]})), "10.1.0.52/24"),
        ] {
            assert_eq!(first(call(&network, "ADD", container).config(&config).run()), expected);
        }
        let held = bed.leases("net");
        for (wanted, expected) in [
            ("10.1.0.50", "requested IP address 10.1.0.50 is not available"),
            ("10.1.0.1", "requested ip 10.1.0.1 is subnet's gateway"),
            ("10.9.0.1", "failed to allocate all requested IPs: 10.9.0.1"),
            ("nonsense", "nonsense"),
        ] {
            let error = call(&network, "ADD", "d").args(&format!("IP={wanted}")).run().error();
            assert!(error.msg.contains(expected), "{error:?}");
            assert_eq!(bed.leases("net"), held, "{wanted}");
        }
    });
}

#[test]
fn ranges_follow_each_other_and_start_where_they_say() {
    case(|bed| {
        let pool = json!([
            {"subnet": "10.1.0.0/24", "rangeStart": "10.1.0.9", "rangeEnd": "10.1.0.10"},
            {"subnet": "10.2.0.0/30", "gateway": "10.2.0.2"}
        ]);
        let network = network(bed, &json!({"ranges": [pool]}));
        for (container, expected) in [("a", "10.1.0.9"), ("b", "10.1.0.10"), ("c", "10.2.0.1")] {
            assert_eq!(take(&network, container), [expected]);
        }
        let error = add(&network, "d").error();
        assert!(error.msg.contains("10.1.0.9-10.1.0.10,10.2.0.1-10.2.0.2"), "{error:?}");
    });
}

#[test]
fn a_second_family_that_is_full_gives_the_first_one_back() {
    case(|bed| {
        let small = json!({"subnet": "fd00::/126", "rangeStart": "fd00::2", "rangeEnd": "fd00::2"});
        let network = network(bed, &json!({"ranges": [[{"subnet": "10.1.0.0/24"}], [small]]}));
        take(&network, "a");
        let held = bed.leases("net");
        let error = add(&network, "b").error();
        assert!(error.msg.contains("failed to allocate for range 1"), "{error:?}");
        assert_eq!(bed.leases("net"), held);
    });
}

#[test]
fn what_cannot_be_is_refused_before_anything_is_written() {
    case(|bed| {
        let before = bed.snapshot();
        for (ipam, expected) in [
            (json!({}), "no IP ranges specified"),
            (json!({"ranges": [[]]}), "empty range set"),
            (
                json!({"subnet": "10.1.0.5/24"}),
                "Network has host bits set. For a subnet mask of length 24 the network address is 10.1.0.0",
            ),
            (
                json!({"subnet": "10.1.0.0/24", "rangeStart": "10.2.0.1"}),
                "RangeStart 10.2.0.1 not in network 10.1.0.0/24",
            ),
            (
                json!({"subnet": "10.1.0.0/24", "rangeEnd": "10.2.0.1"}),
                "RangeEnd 10.2.0.1 not in network 10.1.0.0/24",
            ),
            (
                json!({"ranges": [[{"subnet": "10.1.0.0/24"}, {"subnet": "fd00::/64"}]]}),
                "mixed address families",
            ),
            (
                json!({"ranges": [[{"subnet": "10.1.0.0/24"}, {"subnet": "10.1.0.0/28"}]]}),
                "overlap",
            ),
            (
                json!({"ranges": [[{"subnet": "10.1.0.0/24"}], [{"subnet": "10.1.0.0/28"}]]}),
                "range set 0 overlaps with 1",
            ),
        ] {
            // A DEL may ignore what it does not need.
            for verb in ["ADD", "CHECK"] {
                let error = call(&network(bed, &ipam), verb, "c1").run().error();
                assert!(error.msg.contains(expected), "{ipam}: {error:?}");
            }
        }
        let missing = json!({"subnet": "10.1.0.0/24", "resolvConf": "/run/test/missing"});
        assert_ne!(add(&network(bed, &missing), "c1").error_code(), 0);
        bed.assert_unchanged_since(&before);
    });
}

#[test]
fn the_smallest_networks_are_used_whole() {
    case(|bed| {
        for (subnet, expected) in [
            ("10.1.0.0/32", &["10.1.0.0"][..]),
            ("10.1.0.2/31", &["10.1.0.2", "10.1.0.3"]),
            ("fd00::7/128", &["fd00::7"]),
        ] {
            let mut config = network(bed, &json!({"subnet": subnet})).config().clone();
            config["name"] = json!(subnet.replace([':', '/'], "-"));
            let network = bed.network(config);
            for (number, address) in expected.iter().enumerate() {
                assert_eq!(take(&network, &format!("c{number}")), [*address], "{subnet}");
            }
            assert!(add(&network, "late").error().msg.contains("no IP addresses available"));
        }
    });
}

#[test]
fn check_looks_for_the_lease_and_del_does_not_mind() {
    case(|bed| {
        let network = network(bed, &json!({"subnet": "10.1.0.0/24"}));
        let expected = "Failed to find address added by container c1";
        let check = || check(&network, "c1", "10.1.0.2/24");
        check().fails_with(check().error_code(), expected);
        give_back(&network, "c1");
        take(&network, "c1");
        check().silent();
        give_back(&network, "c1");
        give_back(&network, "c1");
        check().fails_with(check().error_code(), expected);
    });
}

#[test]
fn what_many_take_at_once_is_distinct() {
    case(|bed| {
        let network = network(bed, &json!({"subnet": "10.1.0.0/24"}));
        let taken: Vec<_> = thread::scope(|scope| {
            let take = |number| take(&network, &format!("c{number}"));
            let running: Vec<_> = (0..32).map(|number| scope.spawn(move || take(number))).collect();
            running.into_iter().flat_map(|add| add.join().unwrap()).collect()
        });
        assert_eq!(taken.iter().collect::<BTreeSet<_>>().len(), 32, "{taken:?}");
        assert_eq!(bed.leases("net").len(), 32);
        assert_eq!(bed.leases("net"), bed.lease_files("net"));
    });
}

#[test]
fn networks_and_directories_are_apart() {
    case(|bed| {
        let network = network(bed, &json!({"subnet": "10.1.0.0/24"}));
        let mut other = network.config().clone();
        other["name"] = json!("other");
        let mut elsewhere = network.config().clone();
        elsewhere["ipam"]["dataDir"] = json!("/run/test/leases");
        for config in [network.config(), &other, &elsewhere] {
            let result = call(&network, "ADD", "c1").config(config).run().result();
            assert_eq!(result["ips"][0]["address"], "10.1.0.2/24");
        }
        assert!(bed.file("/run/test/leases/net/10.1.0.2").is_file());
        call(&network, "DEL", "c1").config(&other).run().silent();
        assert!(bed.leases("other").is_empty() && bed.leases("net").len() == 1);
    });
}

#[test]
fn gc_keeps_what_is_claimed() {
    case(|bed| {
        let mut config = network(bed, &json!({"subnet": "10.1.0.0/29"})).config().clone();
        config["cniVersion"] = json!("1.1.0");
        let network = bed.network(config);
        for container in ["a", "b", "c"] {
            take(&network, container);
        }
        network.gc(&["a", "c"]).silent();
        assert_eq!(bed.leases("net").into_values().collect::<Vec<_>>(), ["a eth0", "c eth0"]);
        assert_eq!(bed.lease_files("net"), bed.leases("net"));
        // Without a list nothing is known, so nothing is removed.
        let outcome = call(&network, "GC", "x").run();
        assert!(outcome.status.code() == Some(1) || outcome.stdout.is_empty(), "{outcome}");
        assert_eq!(bed.leases("net").len(), 2);
        network.gc(&[]).silent();
        assert!(bed.leases("net").is_empty());
    });
}

#[test]
fn status_says_when_the_pool_is_empty() {
    case(|bed| {
        let mut config = network(bed, &json!({"subnet": "10.1.0.0/30"})).config().clone();
        config["cniVersion"] = json!("1.1.0");
        let network = bed.network(config);
        network.status().silent();
        take(&network, "a");
        assert_eq!(network.status().error_code(), 50);
        give_back(&network, "a");
        network.status().silent();
    });
}
