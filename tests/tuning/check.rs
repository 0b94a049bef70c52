//! CHECK of tuning finds each single thing that is not as it was set, and takes no offence at others.

use serde_json::json;
use testbed::{
    attachment::ptp,
    chain::{Chain, with_result},
    tuning::{config, tuning},
};

use crate::differences::case;

#[test]
fn it_finds_each_difference() {
    case(|bed| {
        let keys = json!({
            "mac": "02:00:00:00:00:77", "mtu": 1400, "promisc": true, "allmulti": true, "txQLen": 5,
            "sysctl": {"net.core.somaxconn": "500"}
        });
        let (network, pod) = tuning(bed, &keys);
        network.add(&pod, "c1").success();
        network.check(&pod, "c1").silent();
        for (breakage, repair, words) in [
            ("address 02:00:00:00:00:78", "address 02:00:00:00:00:77", "02:00:00:00:00:78"),
            ("mtu 1401", "mtu 1400", "1401"),
            ("promisc off", "promisc on", "promisc"),
            ("allmulticast off", "allmulticast on", "multi"),
            ("txqueuelen 6", "txqueuelen 5", "6"),
        ] {
            pod.ip(&format!("link set eth0 {breakage}"));
            let error = network.check(&pod, "c1").error();
            assert!(error.msg.contains(words), "{breakage}: {error:?}");
            pod.ip(&format!("link set eth0 {repair}"));
            network.check(&pod, "c1").silent();
        }
        pod.set_sysctl("net/core/somaxconn", "501");
        assert!(network.check(&pod, "c1").error().msg.contains("501"));
        pod.ip("link del eth0");
        assert_ne!(network.check(&pod, "c1").error_code(), 0);
    });
}

#[test]
fn it_names_all_differences_at_once() {
    case(|bed| {
        let keys = json!({"mtu": 1400, "sysctl": {"net.core.somaxconn": "500"}});
        let (network, pod) = tuning(bed, &keys);
        network.add(&pod, "c1").success();
        pod.set_sysctl("net/core/somaxconn", "501");
        pod.ip("link set eth0 mtu 1401");
        let error = network.check(&pod, "c1").error();
        for words in ["net.core.somaxconn", "501", "1401"] {
            assert!(error.msg.contains(words), "{error:?}");
        }
    });
}

#[test]
fn values_are_the_same_however_they_are_written() {
    case(|bed| {
        let (_, pod) = tuning(bed, &json!({}));
        for keys in [
            json!({"mac": "02:00:00:00:00:AB"}),
            json!({"mac": "02-00-00-00-00-ab"}),
            json!({"sysctl": {"net.ipv4.ip_local_port_range": "20000 60000"}}),
            json!({"sysctl": {"net.core.somaxconn": " 500 "}}),
            json!({"sysctl": {"net.core.somaxconn": "0x1f4"}}),
            json!({"sysctl": {"net.ipv4.ip_local_port_range": "0x4e20  60000"}}),
            json!({"sysctl": {"net.ipv4.ip_local_reserved_ports": "9001,8080,9000"}}),
        ] {
            let network = bed.network(config(&pod, &keys));
            network.add(&pod, "c1").success();
            network.check(&pod, "c1").silent();
            network.del(&pod, "c1").silent();
        }
    });
}

#[test]
fn null_is_absent() {
    case(|bed| {
        let keys = json!({"mtu": 1400});
        let (network, pod) = tuning(bed, &keys);
        network.add(&pod, "c1").success();
        let mut config = network.config().clone();
        for key in
            ["args", "sysctl", "mac", "promisc", "allmulti", "txQLen", "runtimeConfig", "dataDir"]
        {
            config[key] = json!(null);
        }
        network.call("CHECK", "c1").netns(pod.path()).config(&config).run().silent();
    });
}

#[test]
fn somebody_who_listens_is_no_difference() {
    case(|bed| {
        let (network, pod) = tuning(bed, &json!({"mtu": 1400, "promisc": false}));
        network.add(&pod, "c1").success();
        // As tcpdump does.
        pod.ip("link add br0 type bridge");
        pod.ip("link set eth0 master br0");
        assert_eq!(pod.link("eth0")["promiscuity"], 1);
        network.check(&pod, "c1").silent();
    });
}

#[test]
fn it_finds_the_hosts_end_changed() {
    case(|bed| {
        let chained =
            json!({"cniVersion": "1.0.0", "name": "links", "type": "tuning", "mtu": 1400});
        let (chain, pod) = (Chain::new(bed, [ptp(&json!({})), chained]), bed.sandbox("pod"));
        let result = chain.add(&pod, "c1");
        let end = result["interfaces"][0]["name"].as_str().unwrap();
        bed.ip(&format!("link set {end} mtu 1500"));
        let config = with_result(&chain.plugins[1], &result);
        let error = chain.run("CHECK", &config, &pod, "c1").error();
        assert!(error.msg.contains(end), "{error:?}");
    });
}
