//! Addresses that somebody says: by which source, and what comes of those that make no sense.

use serde_json::{Value, json};
use testbed::{
    Network, Sandbox, Testbed,
    config::{bridge, changed, host_local},
    result::{addresses, cidrs},
};

use crate::differences::case;

/// The network `net` with this `ipam` section and other keys.
fn network<'bed>(bed: &'bed Testbed, ipam: &Value, changes: &Value) -> Network<'bed> {
    let ipam = changed(json!({"type": "static"}), ipam);
    let config = json!({"cniVersion": "1.0.0", "name": "net", "type": "static", "ipam": ipam});
    bed.network(changed(config, changes))
}

fn dual() -> Value {
    json!({
        "addresses": [
            {"address": "10.10.0.1/24", "gateway": "10.10.0.254"},
            {"address": "3ffe:ffff:0:1ff::1/64", "gateway": "3ffe:ffff::1"}
        ],
        "routes": [
            {"dst": "0.0.0.0/0"},
            {"dst": "192.168.0.0/16", "gw": "10.10.5.1"},
            {"dst": "192.168.0.0/16", "gw": "10.10.5.2"},
            {"dst": "3ffe:ffff:0:1ff::1/64"}
        ],
        "dns": {
            "nameservers": ["8.8.8.8"], "domain": "example.com", "search": ["example.com"],
            "options": ["ndots:2"]
        }
    })
}

/// The addresses of a result, each with its gateway.
fn ips(result: &Value) -> Vec<(String, Value)> {
    let ips = result["ips"].as_array().into_iter().flatten();
    ips.map(|ip| (ip["address"].as_str().unwrap().to_owned(), ip["gateway"].clone())).collect()
}

fn ip(address: &str, gateway: &str) -> (String, Value) {
    let gateway = if gateway.is_empty() { Value::Null } else { json!(gateway) };
    (address.to_owned(), gateway)
}

#[test]
fn the_answer_is_what_the_configuration_says_in_each_version() {
    case(|bed| {
        let pod = bed.sandbox("pod");
        for version in ["0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0"] {
            let network = network(bed, &dual(), &json!({"cniVersion": version}));
            let result = network.add(&pod, "c1").result();
            assert_eq!(cidrs(&result), ["10.10.0.1/24", "3ffe:ffff:0:1ff::1/64"], "{version}");
            assert_eq!(result["dns"], dual()["dns"], "{version}");
            let routes = dual()["routes"].as_array().unwrap().clone();
            if matches!(version, "0.1.0" | "0.2.0") {
                assert_eq!(result["ip4"]["gateway"], "10.10.0.254", "{version}");
                assert_eq!(result["ip4"]["routes"], json!(routes[..3]), "{version}");
                assert_eq!(result["ip6"]["routes"], json!(routes[3..]), "{version}");
            } else {
                let gateways = [
                    ip("10.10.0.1/24", "10.10.0.254"),
                    ip("3ffe:ffff:0:1ff::1/64", "3ffe:ffff::1"),
                ];
                assert_eq!(ips(&result), gateways, "{version}");
                assert_eq!(result["routes"], json!(routes), "{version}: in their order");
            }
            assert_eq!(network.add(&pod, "c1").result(), result, "as often as one likes");
            if !matches!(version, "0.1.0" | "0.2.0" | "0.3.0" | "0.3.1") {
                network.check(&pod, "c1").silent();
            }
            network.del(&pod, "c1").silent();
        }
    });
}

#[test]
fn an_empty_gateway_is_none() {
    case(|bed| {
        let pod = bed.sandbox("pod");
        let routes = json!([{"dst": "0.0.0.0/0", "gw": ""}]);
        let addresses = json!([{"address": "10.10.0.1/24", "gateway": ""}]);
        let subnet = json!({"subnet": "10.10.0.0/24", "gateway": "", "routes": routes});
        for network in [
            network(bed, &json!({"addresses": addresses, "routes": routes}), &json!({})),
            bed.network(host_local("net", &subnet)),
        ] {
            let result = network.add(&pod, "c1").result();
            assert_eq!(result["routes"], json!([{"dst": "0.0.0.0/0"}]));
            network.check(&pod, "c1").silent();
            let told = changed(result, &json!({"routes": routes}));
            let config = changed(network.config().clone(), &json!({"prevResult": told}));
            network.call("CHECK", "c1").config(&config).netns(pod.path()).run().silent();
            network.del(&pod, "c1").silent();
        }
    });
}

#[test]
fn the_answer_is_what_it_says_in_the_newest_version() {
    case(|bed| {
        let (pod, before) = (bed.sandbox("pod"), bed.snapshot());
        let network = network(bed, &dual(), &json!({"cniVersion": "1.1.0"}));
        assert_eq!(
            cidrs(&network.add(&pod, "c1").result()),
            ["10.10.0.1/24", "3ffe:ffff:0:1ff::1/64"]
        );
        network.status().silent();
        network.check(&pod, "c1").silent();
        network.gc(&[]).silent();
        network.del(&pod, "c1").silent();
        bed.assert_unchanged_since(&before);
        assert!(pod.has_only_lo(), "it touches no network");
    });
}

#[test]
fn the_environment_adds_addresses_and_gateways() {
    case(|bed| {
        let pod = bed.sandbox("pod");
        let own = json!({"addresses": [{"address": "10.1.0.5/24"}]});
        for (args, added) in [
            ("IP=10.10.0.1/24", vec![ip("10.10.0.1/24", "")]),
            ("IP=10.10.0.1/24;GATEWAY=10.10.0.254", vec![ip("10.10.0.1/24", "10.10.0.254")]),
            (
                "IP=10.10.0.1/24,11.11.0.1/24, fd00::1/64;GATEWAY=10.10.0.254,fd00::9,10.1.0.1",
                vec![
                    ip("10.10.0.1/24", "10.10.0.254"),
                    ip("11.11.0.1/24", ""),
                    ip("fd00::1/64", "fd00::9"),
                ],
            ),
            ("GATEWAY=10.1.0.1;IgnoreUnknown=1;K8S_POD_NAME=x", vec![]),
            ("IP=;GATEWAY=", vec![]),
        ] {
            let network = network(bed, &own, &json!({})).args(args);
            let mut expected = vec![ip("10.1.0.5/24", "")];
            expected.extend(added);
            assert_eq!(ips(&network.add(&pod, "c1").result()), expected, "{args}");
            network.check(&pod, "c1").silent();
        }
    });
}

#[test]
fn of_several_sources_the_runtime_counts_most() {
    case(|bed| {
        let pod = bed.sandbox("pod");
        let environment = "IP=10.10.0.1/24;GATEWAY=10.10.0.254";
        let (args, runtime) = (
            json!({"args": {"cni": {"ips": ["10.11.0.1/24", "11.11.0.1/24"]}}}),
            json!({"RuntimeConfig": {"ips": ["10.12.0.1/24", "fd00:12::1/64"]}}),
        );
        for (changes, expected) in [
            (args.clone(), ["10.11.0.1/24", "11.11.0.1/24"]),
            (changed(args, &runtime), ["10.12.0.1/24", "fd00:12::1/64"]),
            (runtime, ["10.12.0.1/24", "fd00:12::1/64"]),
        ] {
            let network = network(bed, &dual(), &changes).args(environment);
            let result = network.add(&pod, "c1").result();
            assert_eq!(ips(&result), expected.map(|address| ip(address, "")));
            assert_eq!(result["routes"], dual()["routes"]);
            network.check(&pod, "c1").silent();
        }
    });
}

#[test]
fn an_old_answer_has_one_address_of_each_family() {
    case(|bed| {
        let pod = bed.sandbox("pod");
        for version in ["0.1.0", "0.2.0"] {
            let network = network(bed, &dual(), &json!({"cniVersion": version}));
            let add = network.args("IP=11.11.0.1/24").add(&pod, "c1");
            let msg = add.error().msg;
            let expected =
                format!("CNI version {version} does not support more than 1 address per family");
            assert_eq!(msg, expected);
        }
        let none = network(bed, &json!({}), &json!({"cniVersion": "0.2.0"}));
        assert_eq!(none.add(&pod, "c1").error().msg, "cannot convert: no valid IP addresses");
        let none = network(bed, &json!({}), &json!({}));
        assert_eq!(ips(&none.add(&pod, "c1").result()), []);
    });
}

/// The error of an ADD, and that a DEL goes through all the same.
fn refusal(network: &Network<'_>, pod: &Sandbox) -> String {
    let error = network.add(pod, "c1").error();
    network.call("DEL", "c1").netns(pod.path()).run().silent();
    error.msg
}

#[test]
fn what_is_no_address_is_quoted() {
    case(|bed| {
        let pod = bed.sandbox("pod");
        let bad = json!({"addresses": [{"address": "10.1.2.3"}]});
        let address = "the 'address' field is expected to be in CIDR notation, got: '10.1.2.3'";
        assert!(refusal(&network(bed, &bad, &json!({})), &pod).contains(address));
        let entry = "an entry in the 'ips' field is NOT in CIDR notation, got: '10.1.2.3'";
        for changes in [
            json!({"args": {"cni": {"ips": ["10.1.2.3"]}}}),
            json!({"runtimeConfig": {"ips": ["10.1.2.3"]}}),
        ] {
            assert!(refusal(&network(bed, &dual(), &changes), &pod).contains(entry));
        }
        for (args, expected) in [
            ("IP=10.1.2.3", "the 'ip' field is expected to be in CIDR notation, got: '10.1.2.3'"),
            ("IP=10.1.2.3/24,", "the 'ip' field is expected to be in CIDR notation, got: ''"),
            ("IP=10.1.2.3/24;GATEWAY=x", "invalid gateway address: "),
        ] {
            let network = network(bed, &dual(), &json!({})).args(args);
            let error = network.add(&pod, "c1").error();
            assert!(error.msg.contains(expected), "{error:?}");
            network.call("DEL", "c1").netns(pod.path()).run().silent();
        }
    });
}

#[test]
fn the_section_is_needed_even_if_it_says_nothing() {
    case(|bed| {
        let pod = bed.sandbox("pod");
        for changes in [
            json!({"ipam": null}),
            json!({"ipam": null, "args": {"cni": {"ips": ["10.1.2.3/24"]}}}),
            json!({"ipam": null, "runtimeConfig": {"ips": ["10.1.2.3/24"]}}),
        ] {
            let msg = refusal(&network(bed, &dual(), &changes), &pod);
            assert!(msg.contains("IPAM config missing 'ipam' key"), "{msg}");
        }
    });
}

#[test]
fn an_error_has_the_code_of_its_source() {
    case(|bed| {
        let pod = bed.sandbox("pod");
        let runtime = json!({"runtimeConfig": {"ips": ["10.1.2.3"]}});
        assert_eq!(network(bed, &dual(), &runtime).add(&pod, "c1").error_code(), 7);
        let environment = network(bed, &dual(), &json!({})).args("IP=10.1.2.3");
        assert_eq!(environment.add(&pod, "c1").error_code(), 4);
    });
}

#[test]
fn del_reads_nothing() {
    case(|bed| {
        let pod = bed.sandbox("pod");
        for ipam in
            [json!(7), json!({"addresses": 7}), json!({"addresses": [{"address": "x"}]}), json!([])]
        {
            let network = network(bed, &dual(), &json!({"ipam": ipam}));
            network.call("DEL", "unknown").netns(pod.path()).args("IP=x").run().silent();
            network.call("DEL", "unknown").run().silent();
        }
    });
}

/// The CHECK of a network with another result than it has given.
fn check(network: &Network<'_>, pod: &Sandbox, ips: &Value) -> testbed::Outcome {
    let prev = json!({"cniVersion": "1.0.0", "ips": ips});
    let config = changed(network.config().clone(), &json!({"prevResult": prev}));
    network.call("CHECK", "c1").netns(pod.path()).config(&config).run()
}

#[test]
fn check_wants_the_gateways_that_it_has_given() {
    case(|bed| {
        let (network, pod) = (network(bed, &dual(), &json!({})), bed.sandbox("pod"));
        let mut others = network.add(&pod, "c1").result()["ips"].clone();
        check(&network, &pod, &others).silent();
        others[0]["gateway"] = json!("10.10.0.253");
        let error = check(&network, &pod, &others).error();
        assert!(error.msg.starts_with("static: Failed to match addr 10.10.0.1"), "{error:?}");
        assert!(error.msg.ends_with("on interface eth0"), "{error:?}");
    });
}

#[test]
fn check_wants_all_that_it_has_given_and_takes_more() {
    case(|bed| {
        let own = json!({"addresses": [{"address": "10.10.0.1/24"}, {"address": "fd00::1/64"}]});
        let (network, pod) = (network(bed, &own, &json!({})), bed.sandbox("pod"));
        let v4 = json!({"address": "10.10.0.1/24", "gateway": "10.10.0.254"});
        let (v6, more) = (json!({"address": "fd00::1/64"}), json!({"address": "10.20.0.1/24"}));
        check(&network, &pod, &json!([more, v6, v4])).silent();
        for lacking in [json!([v4]), json!([v6, more]), json!([v6, {"address": "10.10.0.1/16"}])] {
            let error = check(&network, &pod, &lacking).error();
            assert!(error.msg.contains("static: Failed to match addr"), "{error:?}");
        }
        let config = network.config();
        let error = network.call("CHECK", "c1").netns(pod.path()).config(config).run().error();
        assert_eq!(error.msg, "Required prevResult missing");
    });
}

#[test]
fn status_fails_for_what_add_refuses() {
    case(|bed| {
        let bad = json!({"addresses": [{"address": "10.1.2.3"}]});
        assert_eq!(network(bed, &bad, &json!({"cniVersion": "1.1.0"})).status().error_code(), 7);
    });
}

fn on_bridge(id: &str, address: &str) -> Value {
    let addresses = json!([{"address": address, "gateway": "10.1.0.1"}]);
    bridge(&json!({"name": id, "ipam": {"type": "static", "addresses": addresses}}))
}

#[test]
fn pods_with_addresses_of_their_own_reach_each_other() {
    case(|bed| {
        let networks = [("one", "10.1.0.5/24"), ("two", "10.1.0.6/24")]
            .map(|(id, address)| (id, bed.network(on_bridge(id, address))));
        let [one, two] = networks.map(|(id, network)| {
            let pod = bed.sandbox(id);
            let own = addresses(&network.add(&pod, id).result());
            network.check(&pod, id).silent();
            (pod, own)
        });
        assert_eq!(testbed::reach::seen(&one.0, &two.0, &two.1[0]), one.1[0]);
    });
}

#[test]
fn a_living_pod_keeps_its_address_to_itself() {
    case(|bed| {
        let network = bed.network(on_bridge("pods", "10.1.0.5/24"));
        let [one, two] = ["one", "two"].map(|id| bed.sandbox(id));
        network.add(&one, "one").success();
        let before = bed.snapshot();
        network.add(&two, "two").fails_with(11, "10.1.0.5");
        bed.assert_unchanged_since(&before);
        network.del(&one, "one").silent();
        network.add(&two, "two").success();
    });
}
