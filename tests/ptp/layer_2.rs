//! A pair and nothing else: somebody else's addresses, or none.

use serde_json::{Value, json};
use testbed::{Testbed, attachment::ptp, reach::seen};

use crate::differences::case;

/// Without addresses: with no `ipam`, and with an empty one.
fn pairs() -> [Value; 2] {
    [json!({"ipam": null}), json!({"ipam": {}})].map(|changes| ptp(&changes))
}

fn host_end(result: &Value) -> &str {
    result["interfaces"][0]["name"].as_str().unwrap()
}

#[test]
fn it_is_a_link_without_addresses() {
    case(|bed| {
        for config in pairs() {
            let (network, pod, before) = (bed.network(config), bed.sandbox("pod"), bed.snapshot());
            let result = network.add(&pod, "c1").result();
            assert_eq!(result["interfaces"].as_array().map(Vec::len), Some(2), "{result}");
            assert!(result.get("ips").is_none_or(|ips| ips == &json!([])), "{result}");
            let links = [bed.link(host_end(&result)), pod.link("eth0")];
            for link in links {
                assert!(link["flags"].as_array().unwrap().contains(&json!("UP")), "{link}");
            }
            assert_eq!(pod.ip("-o addr show dev eth0 scope global"), "");
            assert_eq!(bed.ip(&format!("-o addr show dev {} scope global", host_end(&result))), "");
            assert_eq!(bed.sysctl("net/ipv4/ip_forward").as_deref(), Some("0"));
            network.check(&pod, "c1").silent();
            network.del(&pod, "c1").silent();
            bed.assert_unchanged_since(&before);
            assert!(pod.has_only_lo());
            pod.destroy();
        }
    });
}

#[test]
fn frames_get_through() {
    case(|bed| {
        let (network, pod) = (bed.network(ptp(&json!({"ipam": null}))), bed.sandbox("pod"));
        let result = network.add(&pod, "c1").result();
        bed.ip(&format!("addr add 192.0.2.1/24 dev {}", host_end(&result)));
        pod.ip("addr add 192.0.2.2/24 dev eth0");
        assert_eq!(seen(&pod, bed, "192.0.2.1"), "192.0.2.2");
        assert_eq!(seen(bed, &pod, "192.0.2.2"), "192.0.2.1");
        // What others have added is no reason to complain.
        network.check(&pod, "c1").silent();
    });
}

#[test]
fn it_needs_no_ipam_plugin_for_any_verb() {
    case(|bed| {
        let network = bed.network(ptp(&json!({"ipam": null, "cniVersion": "1.1.0"})));
        network.status().silent();
        let (earlier, pod) = (bed.sandbox("earlier"), bed.sandbox("pod"));
        network.add(&earlier, "earlier").success();
        let before = bed.snapshot();
        network.add(&pod, "c1").success();
        network.gc(&["earlier", "c1"]).silent();
        network.check(&pod, "c1").silent();
        network.call("DEL", "c1").run().silent();
        bed.assert_unchanged_since(&before);
        network.check(&earlier, "earlier").silent();
    });
}

fn old(bed: &Testbed, version: &str) {
    let (network, pod) = (
        bed.network(ptp(&json!({"ipam": null, "cniVersion": version}))),
        bed.sandbox(&format!("pod-{version}")),
    );
    let before = bed.snapshot();
    let error = network.add(&pod, "c1").error();
    assert!(error.msg.contains("cannot convert: no valid IP addresses"), "{error:?}");
    bed.assert_unchanged_since(&before);
    assert!(pod.has_only_lo(), "{version}");
    network.del(&pod, "c1").silent();
}

#[test]
fn it_has_no_answer_before_0_3_0_and_leaves_nothing() {
    case(|bed| ["0.1.0", "0.2.0"].into_iter().for_each(|version| old(bed, version)));
}
