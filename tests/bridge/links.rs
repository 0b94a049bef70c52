//! The links of a bridge: layer 2, and what a configuration says about each.

use serde_json::{Value, json};
use testbed::{Place, Sandbox, config};

use crate::differences::case;

/// The host's end of a pod's link, as `ip` sees it.
fn port(bed: &Place, result: &Value) -> Value {
    let name = result["interfaces"][1]["name"].as_str().unwrap();
    bed.ip_json(&format!("-d link show {name}"))[0].clone()
}

fn layer_2(changes: &Value) -> Value {
    config::changed(config::bridge(&json!({"isGateway": false, "ipam": {}})), changes)
}

/// Gives a layer 2 pod an address, as its owner would.
fn number(pod: &Sandbox, address: &str) {
    pod.ip(&format!("addr add {address}/24 dev eth0"));
}

#[test]
fn layer_2_is_a_link_without_addresses() {
    case(|bed| {
        let network = bed.network(layer_2(&json!({})));
        let (one, two) = (bed.sandbox("one"), bed.sandbox("two"));
        let result = network.add(&one, "c1").result();
        network.add(&two, "c2").success();
        assert_eq!(result["interfaces"].as_array().map(Vec::len), Some(3));
        assert_eq!((&result["ips"], &result["routes"]), (&Value::Null, &Value::Null));
        number(&one, "192.0.2.1");
        number(&two, "192.0.2.2");
        let server = two.tcp_server("192.0.2.2:7");
        assert_eq!(one.tcp("192.0.2.2:7", &server).unwrap().to_string(), "192.0.2.1");
        assert_eq!(bed.sysctl("net/ipv4/ip_forward").unwrap(), "0", "nobody asked for it");
        network.del(&one, "c1").silent();
        assert!(!one.has_link("eth0"));
    });
}

#[test]
fn layer_2_can_be_checked() {
    case(|bed| {
        let network = bed.network(layer_2(&json!({})));
        let pod = bed.sandbox("pod");
        network.add(&pod, "c1").success();
        network.check(&pod, "c1").silent();
    });
}

#[test]
fn isolated_ports_do_not_talk_to_each_other() {
    case(|bed| {
        for (isolation, bridge) in [(false, "br0"), (true, "br1")] {
            let changes = json!({"portIsolation": isolation, "bridge": bridge, "name": bridge});
            let network = bed.network(config::bridge(&changes));
            let pods = ["one", "two"].map(|name| bed.sandbox(&format!("{name}-{bridge}")));
            let [one, two] = &pods;
            let result = network.add(one, "c1").result();
            network.add(two, "c2").success();
            let (at, gateway) = ("10.1.0.3:7", "10.1.0.1:7");
            let (server, host) = (two.tcp_server(at), bed.tcp_server(gateway));
            assert_eq!(one.tcp_refused(at, &server).is_err(), isolation, "{result}");
            assert!(one.tcp(gateway, &host).is_ok(), "the gateway is for everyone");
            network.del(one, "c1").silent();
            network.del(two, "c2").silent();
            bed.ip(&format!("link del {bridge}"));
        }
    });
}

#[test]
fn hairpin_is_as_told() {
    case(|bed| {
        for (hairpin, name) in [(false, "one"), (true, "two")] {
            let network = bed.network(config::bridge(&json!({"hairpinMode": hairpin})));
            let result = network.add(&bed.sandbox(name), name).result();
            assert_eq!(port(bed, &result)["linkinfo"]["info_slave_data"]["hairpin"], hairpin);
        }
    });
}

#[test]
fn promiscuous_is_as_told_and_excludes_hairpin() {
    case(|bed| {
        let pod = bed.sandbox("pod");
        let both = json!({"promiscMode": true, "hairpinMode": true});
        let before = bed.snapshot();
        let error = bed.network(config::bridge(&both)).add(&pod, "c1").error();
        let expected = "cannot set hairpin mode and promiscuous mode at the same time";
        assert!(error.msg.contains(expected), "{error:?}");
        bed.assert_unchanged_since(&before);
        bed.network(config::bridge(&json!({"promiscMode": true}))).add(&pod, "c1").success();
        assert_eq!(bed.ip_json("-d link show br0")[0]["promiscuity"], 1);
    });
}

#[test]
fn the_mtu_is_of_the_bridge_and_both_ends() {
    case(|bed| {
        let pod = bed.sandbox("pod");
        let result = bed.network(config::bridge(&json!({"mtu": 1400}))).add(&pod, "c1").result();
        assert_eq!(bed.ip_json("link show br0")[0]["mtu"], 1400);
        assert_eq!(port(bed, &result)["mtu"], 1400);
        assert_eq!(pod.ip_json("link show eth0")[0]["mtu"], 1400);
    });
}

#[test]
fn the_mac_is_the_one_asked_for_by_the_channel_that_counts() {
    case(|bed| {
        let by_args = "IgnoreUnknown=1;MAC=02:00:00:00:00:01";
        let by_config = json!({"args": {"cni": {"mac": "02:00:00:00:00:02"}}});
        // As some runtimes write it.
        let mut by_runtime = by_config.clone();
        by_runtime["RuntimeConfig"] = json!({"mac": "02:00:00:00:00:03"});
        let rows = [(json!({}), 1), (by_config, 2), (by_runtime, 3)];
        for (changes, number) in rows {
            let pod = bed.sandbox(&format!("pod{number}"));
            let network = bed.network(config::bridge(&changes)).args(by_args);
            let result = network.add(&pod, &format!("c{number}")).result();
            let mac = format!("02:00:00:00:00:0{number}");
            assert_eq!(pod.ip_json("link show eth0")[0]["address"], mac);
            assert_eq!(result["interfaces"][2]["mac"], mac);
            assert_eq!(result["interfaces"][1]["mac"], port(bed, &result)["address"]);
        }
    });
}

#[test]
fn the_bridge_keeps_its_mac_while_ports_come_and_go() {
    case(|bed| {
        let network = bed.network(config::bridge(&json!({})));
        let mac = || bed.ip_json("link show br0")[0]["address"].clone();
        let first = bed.sandbox("first");
        network.add(&first, "c0").success();
        let before = mac();
        for number in 1..6 {
            let pod = bed.sandbox(&format!("pod{number}"));
            network.add(&pod, &format!("c{number}")).success();
            assert_eq!(mac(), before);
        }
        network.del(&first, "c0").silent();
        assert_eq!(mac(), before);
    });
}

#[test]
fn a_container_interface_may_stay_down() {
    case(|bed| {
        let pod = bed.sandbox("pod");
        let down = json!({"disableContainerInterface": true});
        bed.network(layer_2(&down)).add(&pod, "c1").success();
        let link = pod.ip_json("link show eth0")[0].clone();
        assert!(!link["flags"].as_array().unwrap().contains(&json!("UP")), "{link}");
        let network = bed.network(config::bridge(&down));
        let error = network.add(&bed.sandbox("other"), "c2").error();
        let expected = "cannot use IPAM when DisableContainerInterface flag is set";
        assert!(error.msg.contains(expected), "{error:?}");
    });
}

/// The Go plugins' ADD has accepted both keys together, and a file may be edited after ADD.
#[test]
fn what_add_refuses_is_no_reason_for_del_and_gc_to_fail() {
    case(|bed| {
        let ipam = json!({"type": "host-local", "subnet": "10.1.0.0/24", "graceAge": 0});
        let network = bed.network(config::bridge(&json!({"cniVersion": "1.1.0", "ipam": ipam})));
        network.add(&bed.sandbox("first"), "first").success();
        let (before, pod) = (bed.snapshot(), bed.sandbox("pod"));
        let mut edited = config::bridge(&json!({"cniVersion": "1.1.0", "ipam": ipam}));
        edited["disableContainerInterface"] = json!(true);
        let call = |verb: &str, config: &Value| {
            network.call(verb, "c1").netns(pod.path()).config(config).run()
        };
        network.add(&pod, "c1").success();
        assert!(!call("ADD", &edited).status.success());
        call("DEL", &edited).silent();
        bed.assert_unchanged_since(&before);
        network.add(&pod, "c1").success();
        edited["cni.dev/valid-attachments"] = json!([{"containerID": "first", "ifname": "eth0"}]);
        call("GC", &edited).silent();
        bed.assert_unchanged_since(&before);
    });
}

#[test]
fn impossible_vlans_are_refused() {
    case(|bed| {
        let pod = bed.sandbox("pod");
        let before = bed.snapshot();
        for vlan in [-100, 5000] {
            let error = bed.network(layer_2(&json!({"vlan": vlan}))).add(&pod, "c1").error();
            let expected = format!("invalid VLAN ID {vlan} (must be between 0 and 4094)");
            assert!(error.msg.contains(&expected), "{error:?}");
        }
        bed.assert_unchanged_since(&before);
    });
}

#[test]
fn impossible_trunks_are_refused() {
    case(|bed| {
        let pod = bed.sandbox("pod");
        let before = bed.snapshot();
        for (trunk, expected) in [
            (
                json!({"minID": 1}),
                "minID and maxID should be configured simultaneously, maxID is missing",
            ),
            (
                json!({"maxID": 1}),
                "minID and maxID should be configured simultaneously, minID is missing",
            ),
            (json!({"minID": -1, "maxID": 4}), "incorrect trunk minID parameter"),
            (json!({"minID": 5000, "maxID": 4}), "incorrect trunk minID parameter"),
            (json!({"minID": 1, "maxID": 4095}), "incorrect trunk maxID parameter"),
            (json!({"minID": 1, "maxID": -4}), "incorrect trunk maxID parameter"),
            (json!({"id": 4095}), "incorrect trunk id parameter"),
            (json!({"id": -1}), "incorrect trunk id parameter"),
            (json!({"minID": 9, "maxID": 4}), "minID is greater than maxID in trunk parameter"),
        ] {
            let config = layer_2(&json!({"vlanTrunk": [trunk]}));
            let error = bed.network(config).add(&pod, "c1").error();
            assert!(error.msg.contains(expected), "{error:?}");
        }
        bed.assert_unchanged_since(&before);
    });
}
