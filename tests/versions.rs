//! Every plugin in every version of the protocol: what ADD answers, and that DEL undoes it.

use serde_json::{Value, json};
use testbed::{Network, Testbed, ipam::DIR};

use crate::differences::{case, case_each};

/// How a version writes a result down.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Shape {
    /// `ip4` and `ip6`.
    PerFamily,
    /// `ips` that say their version.
    Labelled,
    /// `ips` that do not.
    Plain,
}
use Shape::{Labelled, PerFamily, Plain};

const VERSIONS: [(&str, Shape); 6] = [
    ("0.1.0", PerFamily),
    ("0.2.0", PerFamily),
    ("0.3.0", Labelled),
    ("0.3.1", Labelled),
    ("0.4.0", Labelled),
    ("1.0.0", Plain),
];
const NEWEST: (&str, Shape) = ("1.1.0", Plain);

/// The addresses of a result, each with its gateway; panics if it is not of this shape.
fn answered(result: &Value, shape: Shape) -> Vec<(String, Option<String>)> {
    let text = |value: &Value| value.as_str().map(str::to_owned);
    if shape == PerFamily {
        for key in ["ips", "interfaces", "routes"] {
            assert!(result.get(key).is_none(), "{key} is younger than 0.2.0: {result}");
        }
        let families = ["ip4", "ip6"].into_iter().filter_map(|family| result.get(family));
        return families.map(|ip| (text(&ip["ip"]).unwrap(), text(&ip["gateway"]))).collect();
    }
    for key in ["ip4", "ip6"] {
        assert!(result.get(key).is_none(), "{key} is older than 0.3.0: {result}");
    }
    let address = |ip: &Value| {
        let address = text(&ip["address"]).unwrap();
        let version = if address.contains(':') { "6" } else { "4" };
        let expected = if shape == Labelled { json!(version) } else { Value::Null };
        assert_eq!(ip["version"], expected, "{result}");
        (address, text(&ip["gateway"]))
    };
    result["ips"].as_array().unwrap().iter().map(address).collect()
}

fn dual(plugin: &str, version: &str) -> Value {
    json!({
        "cniVersion": version, "name": "net", "type": plugin, "bridge": "br0", "isGateway": true,
        "ipam": {
            "type": "host-local",
            "ranges": [[{"subnet": "10.1.0.0/24"}], [{"subnet": "fd00:1::/64"}]],
            "routes": [{"dst": "0.0.0.0/0"}, {"dst": "192.0.2.0/24", "gw": "10.1.0.9"}, {"dst": "::/0"}]
        }
    })
}

fn pair(address: &str, gateway: &str) -> (String, Option<String>) {
    (address.to_owned(), Some(gateway.to_owned()))
}

fn expected() -> Vec<(String, Option<String>)> {
    vec![pair("10.1.0.2/24", "10.1.0.1"), pair("fd00:1::2/64", "fd00:1::1")]
}

fn expected_routes(result: &Value, shape: Shape) {
    let v4 = json!([{"dst": "0.0.0.0/0"}, {"dst": "192.0.2.0/24", "gw": "10.1.0.9"}]);
    let v6 = json!({"dst": "::/0"});
    if shape == PerFamily {
        assert_eq!(result["ip4"]["routes"], v4, "{result}");
        assert_eq!(result["ip6"]["routes"], json!([v6]), "{result}");
    } else {
        assert_eq!(result["routes"], json!([v4[0], v4[1], v6]), "{result}");
    }
}

fn host_local(bed: &Testbed, (version, shape): (&str, Shape)) {
    let pod = bed.sandbox(&format!("ipam-{version}"));
    let network = bed.network(dual("host-local", version));
    let result = network.add(&pod, "c1").result();
    assert_eq!(result["cniVersion"], version);
    assert_eq!(answered(&result, shape), expected());
    expected_routes(&result, shape);
    assert!(result.get("interfaces").is_none());
    assert_eq!(bed.leases("net").len(), 2);
    network.del(&pod, "c1").silent();
    assert!(bed.leases("net").is_empty(), "{version}");
    forget_last(bed);
}

/// So that the next network starts from its first address again.
fn forget_last(bed: &Testbed) {
    bed.succeed("rm", &["-r", DIR]);
}

fn bridge(bed: &Testbed, (version, shape): (&str, Shape)) {
    let pod = bed.sandbox(&format!("bridge-{version}"));
    let network = bed.network(dual("bridge", version));
    let result = network.add(&pod, "c1").result();
    assert_eq!(result["cniVersion"], version);
    assert_eq!(answered(&result, shape), expected());
    expected_routes(&result, shape);
    if shape != PerFamily {
        let interfaces = result["interfaces"].as_array().unwrap();
        assert_eq!(interfaces.len(), 3, "{result}");
        assert_eq!(interfaces[0]["name"], "br0");
        assert!(interfaces[1]["name"].as_str().unwrap().starts_with("veth"));
        let mac = &pod.ip_json("link show eth0")[0]["address"];
        let own = json!({"name": "eth0", "mac": mac, "sandbox": pod.path()});
        assert_eq!(interfaces[2], own);
        assert!(result["ips"].as_array().unwrap().iter().all(|ip| ip["interface"] == 2));
    }
    for (any, gateway, own) in
        [("0.0.0.0:7", "10.1.0.1:7", "10.1.0.2"), ("[::]:7", "[fd00:1::1]:7", "fd00:1::2")]
    {
        let server = bed.tcp_server(any);
        assert_eq!(pod.tcp(gateway, &server).unwrap().to_string(), own, "{version}");
    }
    if !matches!(version, "0.1.0" | "0.2.0" | "0.3.0" | "0.3.1") {
        network.check(&pod, "c1").silent();
    }
    network.del(&pod, "c1").silent();
    assert_eq!(pod.ip_json("link show").as_array().map(Vec::len), Some(1), "only lo is left");
    assert!(bed.leases("net").is_empty(), "{version}");
    forget_last(bed);
}

#[test]
fn host_local_answers_in_each_version() {
    case(|bed| VERSIONS.into_iter().for_each(|version| host_local(bed, version)));
}

#[test]
fn bridge_answers_in_each_version() {
    case(|bed| VERSIONS.into_iter().for_each(|version| bridge(bed, version)));
}

#[test]
fn host_local_answers_in_the_newest_version() {
    case(|bed| host_local(bed, NEWEST));
}

#[test]
fn bridge_answers_in_the_newest_version() {
    case(|bed| bridge(bed, NEWEST));
}

#[test]
fn loopback_answers_in_each_version() {
    case(|bed| {
        for (version, shape) in VERSIONS.into_iter().chain([NEWEST]) {
            let pod = bed.sandbox(&format!("lo-{version}"));
            let config = json!({"cniVersion": version, "name": "lo", "type": "loopback"});
            let network = bed.network(config);
            let result = network.add(&pod, "c1").result();
            assert_eq!(result["cniVersion"], version);
            let own = [("127.0.0.1/8".to_owned(), None), ("::1/128".to_owned(), None)];
            assert_eq!(answered(&result, shape), own);
            network.del(&pod, "c1").silent();
        }
    });
}

/// The result of the plugin before it, in the shape of the version, goes in and comes out.
fn firewall(bed: &Testbed, (version, shape): (&str, Shape)) {
    let pod = bed.sandbox(&format!("firewall-{version}"));
    let result = bed.network(dual("host-local", version)).add(&pod, "c1").result();
    let mut config = json!({"cniVersion": version, "name": "net", "type": "firewall"});
    config["prevResult"] = result.clone();
    let network = bed.network(config);
    let passed = network.add(&pod, "c1").result();
    assert_eq!(answered(&passed, shape), answered(&result, shape));
    expected_routes(&passed, shape);
    let set = || bed.snapshot().lines("firewall-pods").any(|line| line.contains("10.1.0.2"));
    assert!(set(), "{version}");
    network.del(&pod, "c1").silent();
    assert!(!set(), "{version}");
    forget_last(bed);
}

#[test]
fn firewall_passes_on_each_version() {
    case(|bed| VERSIONS.into_iter().chain([NEWEST]).for_each(|version| firewall(bed, version)));
}

/// A chained plugin gets the result of the one before it in the same version.
#[test]
fn each_plugin_answers_in_each_version() {
    case_each(|first| {
        for (version, shape) in VERSIONS.into_iter().chain([NEWEST]) {
            let it = first.in_version(version);
            let outcome = it.add();
            if shape == PerFamily && !outcome.status.success() {
                // Such a result has no interfaces, which it needs, or it has no addresses to tell.
                assert_eq!(outcome.error_code(), 7, "{outcome}");
            } else {
                assert_eq!(outcome.result()["cniVersion"], version, "{outcome}");
            }
            it.call_del().run().silent();
            it.leave();
        }
    });
}

#[test]
fn a_configuration_without_a_version_is_of_0_1_0() {
    case(|bed| {
        let mut config = dual("host-local", "0.1.0");
        config.as_object_mut().unwrap().remove("cniVersion");
        let result = bed.network(config).add(&bed.sandbox("pod"), "c1").result();
        assert_eq!(answered(&result, PerFamily), expected());
    });
}

fn layer_2<'bed>(bed: &'bed Testbed, version: &str) -> Network<'bed> {
    let config = json!({"cniVersion": version, "name": "l2", "type": "bridge", "bridge": "br0"});
    bed.network(config)
}

#[test]
fn layer_2_has_no_answer_before_0_3_0() {
    case(|bed| {
        for version in ["0.1.0", "0.2.0"] {
            let pod = bed.sandbox(&format!("pod-{version}"));
            let error = layer_2(bed, version).add(&pod, "c1").error();
            assert!(error.msg.contains("cannot convert: no valid IP addresses"), "{error:?}");
            layer_2(bed, version).del(&pod, "c1").silent();
            assert_eq!(pod.ip_json("link show").as_array().map(Vec::len), Some(1));
        }
    });
}

#[test]
fn layer_2_leaves_nothing_when_it_has_no_answer() {
    case(|bed| {
        let (other, pod) = (bed.sandbox("other"), bed.sandbox("pod"));
        layer_2(bed, "1.0.0").add(&other, "c0").success();
        let before = bed.snapshot();
        for version in ["0.1.0", "0.2.0"] {
            assert_ne!(layer_2(bed, version).add(&pod, "c1").error_code(), 0);
            bed.assert_unchanged_since(&before);
            assert_eq!(pod.ip_json("link show").as_array().map(Vec::len), Some(1));
        }
    });
}

#[test]
fn one_address_of_each_family_is_all_that_0_2_0_can_say() {
    case(|bed| {
        for version in ["0.1.0", "0.2.0"] {
            let mut config = dual("host-local", version);
            config["ipam"]["ranges"] =
                json!([[{"subnet": "10.1.0.0/24"}], [{"subnet": "10.2.0.0/24"}]]);
            let error = bed.network(config).add(&bed.sandbox(version), "c1").error();
            let expected =
                format!("CNI version {version} does not support more than 1 address per family");
            assert!(error.msg.contains(&expected), "{error:?}");
            assert!(bed.leases("net").is_empty());
        }
    });
}

/// What Go's semver packages take for a version: three numbers, and build metadata of words.
fn is_semver(token: &str) -> bool {
    let token = token.strip_prefix('v').unwrap_or(token);
    let (version, metadata) = token.split_once('+').map_or((token, None), |(v, m)| (v, Some(m)));
    let numbers: Vec<_> = version.split('.').collect();
    let is_number = |text: &&str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let is_word = |text: &str| {
        !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
    };
    numbers.len() == 3
        && numbers.iter().all(is_number)
        && metadata.is_none_or(|metadata| metadata.split('.').all(is_word))
}

/// nerdctl (`guessFirewallPluginVersion`): on stderr, what follows the name is the version and
/// nothing else, at least 1.7.1 of the Go plugins'. Nomad (`detectOnePlugin`): of both outputs
/// together, the first word that is a version; the plugin ends well.
#[test]
fn runtimes_understand_the_version_that_a_plugin_says() {
    case_each(|it| {
        let said = it.program().without("CNI_PATH").run();
        said.silent();
        let prefix = format!("CNI {} plugin ", it.plugin);
        let own = said.stderr.lines().find_map(|line| line.strip_prefix(&prefix));
        let own = own.unwrap_or_else(|| panic!("{said}"));
        assert!(is_semver(own), "{own:?}");
        let number = |text: &str| text.parse::<u32>().ok();
        let bare = own.trim_start_matches('v').split('+').next().unwrap();
        let numbers: Vec<_> = bare.split('.').filter_map(number).collect();
        assert!(numbers >= vec![1, 7, 1], "{own}");
        let both = format!("{}{}", said.stdout, said.stderr);
        let first = both.split_whitespace().find(|token| is_semver(token));
        assert_eq!(first, Some(own), "{both}");
    });
}
