//! What tuning sets: each attribute, from each source, and nothing where nobody asks for anything.

mod backup;
mod check;
mod sysctl;
mod undo;

use std::net::UdpSocket;

use serde_json::{Value, json};
use testbed::{
    attachment::ptp,
    chain::Chain,
    config::{bridge, changed},
    reach::seen,
    result::addresses,
    tuning::{DATA_DIR, config, state, tuning},
};

use crate::differences::case;

const MAC: &str = "02:00:00:00:00:77";

/// Each attribute with another value than it has.
fn attributes() -> [Value; 5] {
    [
        json!({"mac": MAC}),
        json!({"promisc": true}),
        json!({"mtu": 1454}),
        json!({"txQLen": 20000}),
        json!({"allmulti": true}),
    ]
}

/// What `ip` shows when these are set.
fn shown(before: &Value, attributes: &Value) -> Value {
    let mut state = changed(before.clone(), attributes);
    if state["promisc"] == true {
        state["promisc"] = json!(1);
    }
    state
}

#[test]
fn each_attribute_is_set_and_given_back() {
    case(|bed| {
        let (_, pod) = tuning(bed, &json!({}));
        let (before, host) = (state(&pod), bed.snapshot());
        let all = attributes().iter().fold(json!({}), changed);
        for wanted in attributes().iter().chain([&all]) {
            for keys in [wanted.clone(), json!({"args": {"cni": wanted}})] {
                let network = bed.network(config(&pod, &keys));
                let result = network.add(&pod, "c1").result();
                assert_eq!(state(&pod), shown(&before, wanted), "{keys}");
                let mac = wanted["mac"].as_str().unwrap_or("02:00:00:00:00:01");
                assert_eq!(result["interfaces"][1]["mac"], mac, "{keys}");
                network.check(&pod, "c1").silent();
                network.del(&pod, "c1").silent();
                assert_eq!(state(&pod), before, "{keys}");
                bed.assert_unchanged_since(&host);
            }
        }
    });
}

#[test]
fn what_is_written_in_every_version_is_read() {
    case(|bed| {
        let (_, pod) = tuning(bed, &json!({}));
        for version in ["0.3.0", "0.3.1", "0.4.0", "1.0.0"] {
            let keys = json!({"cniVersion": version, "mac": MAC, "dns": {}, "sysctl": null});
            let network = bed.network(config(&pod, &keys));
            let result = network.add(&pod, "c1").result();
            assert_eq!(result["cniVersion"], version);
            assert_eq!(result["interfaces"][1]["mac"], MAC, "{version}");
            network.del(&pod, "c1").silent();
        }
    });
}

#[test]
fn of_several_addresses_the_closest_to_the_container_counts() {
    case(|bed| {
        let (_, pod) = tuning(bed, &json!({}));
        let mac = |number: u8| format!("02:00:00:00:01:{number:02}");
        let mut keys = json!({});
        let environment = format!("IgnoreUnknown=1;MAC={}", mac(2));
        for (number, args) in [(1, ""), (2, &*environment), (3, &environment), (4, &environment)] {
            match number {
                1 => keys["mac"] = json!(mac(1)),
                3 => keys["RuntimeConfig"] = json!({"mac": mac(3)}),
                4 => keys["args"] = json!({"cni": {"mac": mac(4)}}),
                _ => {}
            }
            let network = bed.network(config(&pod, &keys)).args(args);
            network.add(&pod, "c1").success();
            assert_eq!(state(&pod)["mac"], mac(number));
            network.del(&pod, "c1").silent();
            assert_eq!(state(&pod)["mac"], "02:00:00:00:00:01");
        }
    });
}

#[test]
fn the_keys_of_the_container_count_most() {
    case(|bed| {
        let (_, pod) = tuning(bed, &json!({}));
        let before = state(&pod);
        let keys = json!({
            "mtu": 1300, "txQLen": 5, "allmulti": true,
            "args": {"cni": {"mtu": 1301, "txQLen": 1, "allmulti": false}}
        });
        bed.network(config(&pod, &keys)).add(&pod, "c1").success();
        let wanted = json!({"mtu": 1301, "txQLen": 1, "allmulti": false});
        assert_eq!(state(&pod), shown(&before, &wanted));
    });
}

#[test]
fn allmulti_can_be_switched_off_and_promisc_cannot() {
    case(|bed| {
        let (network, pod) = tuning(bed, &json!({"allmulti": false, "promisc": false}));
        pod.ip("link set eth0 allmulticast on promisc on");
        let before = state(&pod);
        network.add(&pod, "c1").success();
        assert_eq!(state(&pod), shown(&before, &json!({"allmulti": false})));
        network.del(&pod, "c1").silent();
        assert_eq!(state(&pod), before);
    });
}

#[test]
fn where_there_is_nothing_to_do_nothing_is_looked_at() {
    case(|bed| {
        let keys = json!({"promisc": false, "mtu": 0, "mac": "", "sysctl": {}, "ipam": {}});
        let (network, pod) = tuning(bed, &keys);
        let before = bed.snapshot();
        let call = || network.call("ADD", "c1").netns(pod.path());
        let result = call().run().result();
        let expected = &network.config()["prevResult"];
        assert_eq!(&result, expected);
        for verb in ["ADD", "CHECK", "DEL"] {
            let call = network.call(verb, "c1").netns(pod.path());
            let (outcome, asked) = bed.traced(call, "socket,setns");
            outcome.success();
            assert!(asked.iter().all(|line| line.contains("exited")), "{verb}: {asked:?}");
        }
        bed.assert_unchanged_since(&before);
    });
}

#[test]
fn it_comes_behind_another_plugin() {
    case(|bed| {
        for keys in
            [json!({}), json!({"mtu": 1400}), json!({"sysctl": {"net.ipv4.ip_forward": "1"}})]
        {
            let keys = changed(keys, &json!({"prevResult": null}));
            let pod = bed.sandbox("pod");
            let own =
                changed(json!({"cniVersion": "1.0.0", "name": "net", "type": "tuning"}), &keys);
            let error = bed.network(own).add(&pod, "c1").error();
            assert_eq!(error.msg, "Required prevResult missing");
            pod.destroy();
        }
    });
}

#[test]
fn what_makes_no_sense_is_refused_before_anything_is_touched() {
    case(|bed| {
        let (_, pod) = tuning(bed, &json!({}));
        let (before, host) = (state(&pod), bed.snapshot());
        for keys in [
            json!({"mac": "no address"}),
            json!({"mac": "01:00:5e:00:00:01"}),
            json!({"mtu": 70_000}),
            json!({"mtu": "1400"}),
            json!({"txQLen": -1}),
            json!({"promisc": "yes"}),
            json!({"sysctl": ["net.ipv4.ip_forward=1"]}),
            json!({"sysctl": {"net.ipv4.ip_forward": 1}}),
        ] {
            let keys = changed(keys, &json!({"allmulti": true}));
            let error = bed.network(config(&pod, &keys)).add(&pod, "c1").error();
            assert_eq!(error.code, 7, "{keys}: {error:?}");
            assert_eq!(state(&pod), before, "{keys}");
        }
        let outcome =
            bed.network(config(&pod, &json!({"mtu": 1400}))).args("MAC=x").add(&pod, "c1");
        assert_eq!(outcome.error_code(), 7);
        bed.assert_unchanged_since(&host);
    });
}

#[test]
fn both_ends_of_a_pair_have_the_mtu() {
    case(|bed| {
        let chained =
            json!({"cniVersion": "1.0.0", "name": "links", "type": "tuning", "mtu": 1400});
        let chain = Chain::new(bed, [ptp(&json!({})), chained]);
        let pod = bed.sandbox("pod");
        chain.add(&bed.sandbox("earlier"), "earlier");
        let before = bed.snapshot();
        let result = chain.add(&pod, "c1");
        let end = result["interfaces"][0]["name"].as_str().unwrap();
        assert_eq!((&pod.link("eth0")["mtu"], &bed.link(end)["mtu"]), (&json!(1400), &json!(1400)));
        chain.check(&pod, "c1", &result);
        // What the host sends is cut to the size that the pod's end takes.
        let to = &addresses(&result)[0];
        let server = pod.enter(|| UdpSocket::bind((&**to, 9)).unwrap());
        let sent =
            bed.enter(|| UdpSocket::bind("0.0.0.0:0").unwrap().send_to(&[7; 1460], (&**to, 9)));
        assert_eq!(sent.unwrap(), 1460);
        server.set_read_timeout(Some(std::time::Duration::from_secs(5))).unwrap();
        assert_eq!(server.recv(&mut [0; 2000]).unwrap(), 1460);
        chain.run("DEL", &chain.plugins[1], &pod, "c1").silent();
        assert_eq!((&pod.link("eth0")["mtu"], &bed.link(end)["mtu"]), (&json!(1500), &json!(1500)));
        chain.del(&pod, "c1", &result);
        bed.assert_unchanged_since(&before);
    });
}

#[test]
fn a_pod_with_a_new_hardware_address_is_reached_at_once() {
    case(|bed| {
        let neighbour = bed.sandbox("one");
        let chained = json!({"cniVersion": "1.0.0", "name": "net", "type": "tuning", "mac": MAC});
        let network = bridge(&json!({}));
        let chain = Chain::new(bed, [network.clone(), chained]);
        let one = Chain::new(bed, [network]).add(&neighbour, "one");
        let pod = bed.sandbox("pod");
        let result = chain.add(&pod, "c1");
        chain.check(&pod, "c1", &result);
        assert_eq!(pod.link("eth0")["address"], MAC);
        assert_eq!(seen(&neighbour, &pod, &addresses(&result)[0]), addresses(&one)[0]);
    });
}

#[test]
fn the_file_is_the_go_plugins() {
    case(|bed| {
        for (keys, dir) in [
            (json!({}), DATA_DIR),
            (json!({"dataDir": ""}), DATA_DIR),
            (json!({"dataDir": "/run/test/deep/down"}), "/run/test/deep/down"),
        ] {
            let (_, pod) = tuning(bed, &json!({}));
            let keys =
                changed(keys, &json!({"mac": MAC, "promisc": true, "mtu": 1400, "txQLen": 3}));
            let network = bed.network(config(&pod, &keys));
            network.add(&pod, "c1").success();
            let file = format!("{dir}/c1_eth0.json");
            let mut written: Value = serde_json::from_str(&bed.read(&file)).unwrap();
            written.as_object_mut().unwrap().remove("girder");
            let former = json!({
                "mac": "02:00:00:00:00:01", "promisc": false, "mtu": 1500, "txQLen": 1000
            });
            assert_eq!(written, former);
            assert!(bed.succeed("stat", &["-c", "%a", &file]).starts_with("600"));
            network.del(&pod, "c1").silent();
            assert!(!bed.file(&file).exists());
            pod.destroy();
        }
    });
}
