//! `lo` is usable after ADD and not after DEL.

use serde_json::{Value, json};
use testbed::{Network, Sandbox, Testbed};

use crate::differences::case;

fn network<'bed>(bed: &'bed Testbed, version: &str) -> Network<'bed> {
    bed.network(json!({"cniVersion": version, "name": "lo", "type": "loopback"}))
}

/// Whether a container can talk to itself.
fn talks(pod: &Sandbox, address: &str) -> bool {
    let served = pod.enter(|| std::net::TcpListener::bind(address)).is_ok();
    served && {
        let (tcp, udp) = (pod.tcp_server(address), pod.udp_server(address));
        pod.tcp(address, &tcp).is_ok() && pod.udp(address, &udp).is_ok()
    }
}

fn is_up(pod: &Sandbox) -> bool {
    pod.ip_json("link show lo")[0]["flags"].as_array().unwrap().contains(&json!("UP"))
}

#[test]
fn packets_flow_after_add_and_not_after_del() {
    case(|bed| {
        for version in ["0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0"] {
            let pod = bed.sandbox(&format!("pod-{version}"));
            let network = network(bed, version);
            assert!(!is_up(&pod));
            network.add(&pod, "c1").success();
            assert!(is_up(&pod));
            assert!(talks(&pod, "127.0.0.1:7") && talks(&pod, "[::1]:7"), "{version}");
            network.del(&pod, "c1").silent();
            assert!(!is_up(&pod));
            assert!(!talks(&pod, "[::1]:7"), "{version}");
        }
    });
}

#[test]
fn the_version_of_today_works_too() {
    case(|bed| {
        let pod = bed.sandbox("pod");
        let network = network(bed, "1.1.0");
        network.add(&pod, "c1").success();
        assert!(talks(&pod, "127.0.0.1:7"));
        network.check(&pod, "c1").silent();
        network.status().silent();
        network.gc(&[]).silent();
        assert!(talks(&pod, "127.0.0.1:7"), "a GC takes no loopback away");
        network.del(&pod, "c1").silent();
    });
}

#[test]
fn twice_is_as_good_as_once() {
    case(|bed| {
        let pod = bed.sandbox("pod");
        let network = network(bed, "1.0.0");
        let first = network.add(&pod, "c1").result();
        assert_eq!(network.add(&pod, "c1").result(), first);
        for _ in 0..2 {
            network.del(&pod, "c1").silent();
            assert!(!is_up(&pod));
        }
    });
}

#[test]
fn the_result_is_lo_and_its_addresses() {
    case(|bed| {
        let pod = bed.sandbox("pod");
        let result = network(bed, "1.0.0").add(&pod, "c1").result();
        let lo = json!({"name": "lo", "mac": "00:00:00:00:00:00", "sandbox": pod.path()});
        assert_eq!(result["interfaces"], json!([lo]));
        let ips = json!([
            {"address": "127.0.0.1/8", "interface": 0},
            {"address": "::1/128", "interface": 0}
        ]);
        assert_eq!(result["ips"], ips);
    });
}

#[test]
fn a_result_from_before_is_passed_through() {
    case(|bed| {
        let pod = bed.sandbox("pod");
        let before = json!({
            "cniVersion": "1.0.0",
            "interfaces": [{"name": "eth0", "mac": "02:00:00:00:00:01", "sandbox": pod.path()}],
            "ips": [{"address": "10.1.2.3/24", "gateway": "10.1.2.1", "interface": 0}],
            "routes": [{"dst": "0.0.0.0/0", "gw": "10.1.2.1"}],
            "dns": {"nameservers": ["10.1.2.1"]}
        });
        let network = network(bed, "1.0.0");
        let mut config = network.config().clone();
        config["prevResult"] = before.clone();
        let call = network.call("ADD", "c1").netns(pod.path()).config(&config);
        let result = call.run().result();
        for key in ["interfaces", "ips", "routes", "dns"] {
            assert_eq!(result[key], before[key]);
        }
        assert!(is_up(&pod));
    });
}

#[test]
fn the_name_of_the_interface_and_cni_args_do_not_matter() {
    case(|bed| {
        let pod = bed.sandbox("pod");
        let network = network(bed, "1.0.0").ifname("net7").args("none");
        network.add(&pod, "c1").success();
        assert!(talks(&pod, "127.0.0.1:7"));
        assert_eq!(pod.ip_json("link show").as_array().map(Vec::len), Some(1));
        network.del(&pod, "c1").silent();
    });
}

#[test]
fn check_tells_whether_it_is_up() {
    case(|bed| {
        let pod = bed.sandbox("pod");
        let network = network(bed, "1.0.0");
        network.add(&pod, "c1").success();
        network.check(&pod, "c1").silent();
        let check = network.again("CHECK", "c1").netns(pod.path());
        network.del(&pod, "c1").silent();
        let error = check.run().error();
        assert!(error.msg.contains("down") || error.details.contains("down"), "{error:?}");
    });
}

#[test]
fn without_a_namespace_add_and_check_fail_and_del_does_not() {
    case(|bed| {
        let pod = bed.sandbox("pod");
        let network = network(bed, "1.0.0");
        network.add(&pod, "c1").success();
        pod.destroy();
        assert_ne!(network.check(&pod, "c1").error_code(), 0);
        network.del(&pod, "c1").silent();
        network.del(&pod, "never-added").silent();
        assert_ne!(network.add(&pod, "c1").error_code(), 0);
        network.call("DEL", "c1").run().silent();
        network.call("DEL", "c1").netns("").run().silent();
    });
}

#[test]
fn the_host_is_not_touched() {
    case(|bed| {
        let (pod, network) = (bed.sandbox("pod"), network(bed, "1.0.0"));
        let before = bed.snapshot();
        network.add(&pod, "c1").success();
        bed.assert_unchanged_since(&before);
        network.del(&pod, "c1").silent();
        bed.assert_unchanged_since(&before);
        assert!(bed.ip_json("link show lo")[0]["flags"] != Value::Null);
    });
}
