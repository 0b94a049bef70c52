//! Whose word counts for the hardware address of a macvlan, and what becomes of layer 2.

use serde_json::{Value, json};
use testbed::{Network, Testbed, attachment::macvlan, reach::seen};

use crate::differences::case;

const CONFIG: &str = "02:00:00:00:00:01";
const ARGS: &str = "c2:11:22:33:44:55";
const RUNTIME: &str = "02:00:00:00:00:03";

/// Addresses are of no interest here, and ADD is faster without.
fn layer_2(changes: &Value) -> Value {
    let config = macvlan(&json!({"ipam": {}}));
    testbed::config::changed(config, changes)
}

/// The hardware address that a pod gets, by the answer and by the kernel.
fn given(network: &Network<'_>, bed: &Testbed) -> String {
    let pod = bed.sandbox("pod");
    let result = network.add(&pod, "c1").result();
    let mac = pod.link("eth0")["address"].as_str().unwrap().to_owned();
    assert_eq!(result["interfaces"][0]["mac"], mac.as_str());
    network.check(&pod, "c1").silent();
    network.del(&pod, "c1").silent();
    pod.destroy();
    mac
}

#[test]
fn it_is_the_one_asked_for_by_the_channel_that_counts() {
    case(|bed| {
        let _neighbour = bed.neighbour();
        let args = format!("IgnoreUnknown=true;K8S_POD_NAME=pod;MAC={ARGS}");
        for (changes, args, expected) in [
            (json!({"mac": CONFIG}), "", CONFIG),
            (json!({}), &*args, ARGS),
            (json!({"mac": CONFIG}), &*args, ARGS),
            (json!({"runtimeConfig": {"mac": RUNTIME}}), "", RUNTIME),
            (json!({"mac": CONFIG, "runtimeConfig": {"mac": RUNTIME}}), &*args, RUNTIME),
            // As some runtimes write it.
            (
                json!({"capabilities": {"mac": true}, "RuntimeConfig": {"mac": RUNTIME}}),
                "",
                RUNTIME,
            ),
            (json!({"mac": CONFIG, "runtimeConfig": {"mac": ""}}), "", CONFIG),
        ] {
            let network = bed.network(layer_2(&changes)).args(args);
            assert_eq!(given(&network, bed), expected, "{changes} {args}");
        }
        // Nobody asks: the kernel draws, each time another one.
        let network = bed.network(layer_2(&json!({})));
        assert_ne!(given(&network, bed), given(&network, bed));
    });
}

#[test]
fn the_lan_sees_the_one_that_was_asked_for() {
    case(|bed| {
        let (neighbour, pod) = (bed.neighbour(), bed.sandbox("pod"));
        bed.network(macvlan(&json!({"mac": CONFIG}))).add(&pod, "c1").success();
        assert_eq!(seen(&neighbour, &pod, "203.0.113.10"), "203.0.113.2");
        let known = neighbour.ip_json("neigh show 203.0.113.10");
        assert_eq!(known[0]["lladdr"], CONFIG);
    });
}

#[test]
fn arguments_that_nobody_knows_are_refused_unless_told_otherwise() {
    case(|bed| {
        let (_neighbour, pod) = (bed.neighbour(), bed.sandbox("pod"));
        let before = bed.snapshot();
        for (args, object) in [("FOO=1", "FOO"), ("IgnoreUnknown=0;FOO=1", "FOO")] {
            let network = bed.network(layer_2(&json!({}))).args(args);
            let error = network.add(&pod, "c1").error();
            assert!(format!("{error:?}").contains(object), "{error:?}");
            // DEL and its arguments are none of ADD's business.
            network.del(&pod, "c1").silent();
            bed.assert_unchanged_since(&before);
            assert!(pod.has_only_lo());
        }
        pod.destroy();
        for args in ["IgnoreUnknown=1;FOO=1", "IgnoreUnknown=true", "IgnoreUnknown=TRUE;BAR=2"] {
            given(&bed.network(layer_2(&json!({}))).args(args), bed);
        }
    });
}

#[test]
fn what_is_no_hardware_address_is_refused() {
    case(|bed| {
        let (_neighbour, pod) = (bed.neighbour(), bed.sandbox("pod"));
        let before = bed.snapshot();
        // No address at all, a group's, nobody's, and one of InfiniBand's.
        for mac in
            ["no address", "01:00:5e:00:00:01", "00:00:00:00:00:00", "02:00:00:00:00:00:00:01"]
        {
            for changes in [json!({"mac": mac}), json!({"runtimeConfig": {"mac": mac}})] {
                let error = bed.network(layer_2(&changes)).add(&pod, "c1").error();
                assert!(format!("{error:?}").contains(mac), "{changes}: {error:?}");
                bed.assert_unchanged_since(&before);
                assert!(pod.has_only_lo(), "{changes}");
            }
        }
    });
}

#[test]
fn layer_2_is_a_link_without_addresses() {
    case(|bed| {
        let neighbour = bed.neighbour();
        for ipam in [json!({}), json!(null), json!({"type": ""})] {
            let (network, pod) = (bed.network(macvlan(&json!({"ipam": ipam}))), bed.sandbox("pod"));
            let result = network.add(&pod, "c1").result();
            assert!(result.get("ips").is_none_or(|ips| ips == &json!([])), "{result}");
            assert_eq!(pod.ip("-o addr show dev eth0 scope global"), "");
            let link = pod.link("eth0");
            assert!(link["flags"].as_array().unwrap().contains(&json!("UP")), "{link}");
            pod.ip("addr add 203.0.113.99/24 dev eth0");
            assert_eq!(seen(&pod, &neighbour, "203.0.113.2"), "203.0.113.99");
            network.check(&pod, "c1").silent();
            network.del(&pod, "c1").silent();
            assert!(pod.has_only_lo());
            pod.destroy();
        }
        assert!(bed.leases("segment").is_empty());
    });
}

#[test]
fn layer_2_has_no_answer_before_0_3_0_and_a_link_all_the_same() {
    case(|bed| {
        let _neighbour = bed.neighbour();
        for version in ["0.1.0", "0.2.0"] {
            for (changes, args) in [
                (json!({"mac": ARGS}), ""),
                (json!({}), "IgnoreUnknown=true;MAC=c2:11:22:33:44:55"),
                (json!({"RuntimeConfig": {"mac": ARGS}}), ""),
            ] {
                let mut config = layer_2(&changes);
                config["cniVersion"] = json!(version);
                let (network, pod) = (bed.network(config).args(args), bed.sandbox("pod"));
                let error = network.add(&pod, "c1").error();
                assert_eq!(error.msg, "cannot convert: no valid IP addresses");
                // Runtimes of that age ignored the error, and used the link.
                assert_eq!(pod.link("eth0")["address"], ARGS, "{version}");
                network.del(&pod, "c1").silent();
                assert!(pod.has_only_lo());
                pod.destroy();
            }
        }
    });
}
