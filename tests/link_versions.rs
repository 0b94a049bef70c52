//! Plugins that make one link for each pod, in every version of the protocol: what ADD answers, and
//! that CHECK and DEL understand it.

use serde_json::{Value, json};
use testbed::{Testbed, attachment::macvlan, attachment::ptp, config::changed, reach::seen};

use crate::differences::case;

const VERSIONS: [&str; 6] = ["0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0"];
const NEWEST: &str = "1.1.0";

/// An address and its gateway, of each family.
type Ips = [(&'static str, &'static str); 2];

/// What is to be answered, but for the interfaces. `interface` is the number of the pod's.
fn expected(version: &str, ips: &Ips, interface: u32) -> Value {
    let (v4, v6) = (json!({"dst": "0.0.0.0/0"}), json!({"dst": "::/0"}));
    let [(address, gateway), (address6, gateway6)] = ips;
    if version < "0.3.0" {
        return json!({
            "cniVersion": version,
            "ip4": {"ip": address, "gateway": gateway, "routes": [v4]},
            "ip6": {"ip": address6, "gateway": gateway6, "routes": [v6]},
        });
    }
    let ip = |(address, gateway): &(&str, &str)| {
        let family = if address.contains(':') { "6" } else { "4" };
        let label = if version < "1.0.0" { json!(family) } else { Value::Null };
        let ip = json!({"address": address, "gateway": gateway, "interface": interface});
        changed(ip, &json!({"version": label}))
    };
    json!({"cniVersion": version, "ips": ips.each_ref().map(ip), "routes": [v4, v6]})
}

/// ADD, CHECK where there is one, packets, and DEL twice.
fn live(bed: &Testbed, config: &Value, ips: &Ips, interface: u32) {
    let version = config["cniVersion"].as_str().unwrap();
    let (network, pod) = (bed.network(config.clone()), bed.sandbox(&format!("v{version}")));
    let mut result = network.add(&pod, "c1").result();
    bed.settle();
    let interfaces = result.as_object_mut().unwrap().remove("interfaces");
    result.as_object_mut().unwrap().remove("dns");
    assert_eq!(result, expected(version, ips, interface));
    let number = usize::try_from(interface).unwrap();
    let own = json!({"name": "eth0", "mac": pod.link("eth0")["address"], "sandbox": pod.path()});
    match interfaces {
        Some(interfaces) => {
            assert_eq!(interfaces[number], own);
            assert_eq!(interfaces.as_array().unwrap().len(), number + 1);
        }
        None => assert!(version < "0.3.0"),
    }
    if version >= "0.4.0" {
        network.check(&pod, "c1").silent();
    } else {
        let check = network.call("CHECK", "c1").netns(pod.path()).run();
        check.fails_with(1, "config version does not allow CHECK");
    }
    let bare = |text: &str| text.split('/').next().unwrap().to_owned();
    if config["type"] == "ptp" {
        for (address, gateway) in ips {
            assert_eq!(seen(&pod, bed, gateway), bare(address), "{version}");
        }
    }
    network.del(&pod, "c1").silent();
    network.call("DEL", "c1").netns(pod.path()).run().silent();
    assert!(pod.has_only_lo(), "{version}");
    let name = config["name"].as_str().unwrap();
    assert!(bed.leases(name).is_empty(), "{version}");
    // The next one gets the same addresses again.
    bed.succeed("rm", &["-r", &format!("/var/lib/cni/networks/{name}")]);
    pod.destroy();
}

fn ptp_in(bed: &Testbed, version: &str) {
    let ips = [("10.1.0.2/24", "10.1.0.1"), ("fd00:1::2/64", "fd00:1::1")];
    live(bed, &ptp(&json!({"cniVersion": version})), &ips, 1);
    assert!(bed.has_only_lo(), "{version}");
}

fn macvlan_in(bed: &Testbed, version: &str) {
    let ips = [("203.0.113.10/24", "203.0.113.2"), ("2001:db8:ffff::10/64", "2001:db8:ffff::2")];
    let mut config = macvlan(&json!({"cniVersion": version}));
    config["ipam"]["routes"] = json!([{"dst": "0.0.0.0/0"}, {"dst": "::/0"}]);
    live(bed, &config, &ips, 0);
}

#[test]
fn ptp_answers_in_each_version() {
    case(|bed| VERSIONS.into_iter().for_each(|version| ptp_in(bed, version)));
}

#[test]
fn ptp_answers_in_the_newest_version() {
    case(|bed| ptp_in(bed, NEWEST));
}

#[test]
fn macvlan_answers_in_each_version() {
    case(|bed| {
        let _neighbour = bed.neighbour();
        VERSIONS.into_iter().for_each(|version| macvlan_in(bed, version));
    });
}

#[test]
fn macvlan_answers_in_the_newest_version() {
    case(|bed| {
        let _neighbour = bed.neighbour();
        macvlan_in(bed, NEWEST);
    });
}
