//! CHECK of a pair finds each single thing that is missing or different.

use serde_json::{Value, json};
use testbed::{Network, Sandbox, Testbed, attachment::ptp, config::changed};

use crate::differences::case;

/// A pod that is attached, and the name of the host's end.
fn attached<'bed>(bed: &'bed Testbed, changes: &Value) -> (Network<'bed>, Sandbox, String) {
    let (network, pod) = (bed.network(ptp(changes)), bed.sandbox("pod"));
    let result = network.add(&pod, "c1").result();
    bed.settle();
    network.check(&pod, "c1").silent();
    (network, pod, result["interfaces"][0]["name"].as_str().unwrap().to_owned())
}

/// For each breakage a new attachment, which CHECK must reject, naming `object`.
fn find(bed: &Testbed, breakages: &[(&str, &str)], in_pod: bool) {
    for (breakage, object) in breakages {
        let (network, pod, veth) = attached(bed, &json!({}));
        let place = if in_pod { &*pod } else { &**bed };
        let own = network.result("c1").unwrap()["ips"][0]["address"].clone();
        let own = own.as_str().unwrap().split('/').next().unwrap().to_owned();
        let fill = |text: &str| text.replace("VETH", &veth).replace("OWN", &own);
        place.ip(&fill(breakage));
        let error = network.check(&pod, "c1").error();
        let text = format!("{}; {}", error.msg, error.details);
        assert!(text.contains(&fill(object)), "{breakage}: {error:?}");
        network.del(&pod, "c1").silent();
        pod.destroy();
    }
}

#[test]
fn it_finds_what_is_wrong_in_the_container() {
    case(|bed| {
        let breakages = [
            ("link del eth0", "eth0"),
            ("link set eth0 address 02:00:00:00:00:77", "02:00:00:00:00:77"),
            ("addr del OWN/24 dev eth0", "OWN"),
            ("route del default", "Expected Route"),
            ("-6 route del default", "Expected Route"),
        ];
        find(bed, &breakages, true);
    });
}

#[test]
fn it_finds_a_link_of_another_kind() {
    case(|bed| {
        let (network, pod, _) = attached(bed, &json!({}));
        pod.ip("link del eth0");
        pod.ip("link add eth0 type bridge");
        let error = network.check(&pod, "c1").error();
        assert!(error.msg.contains("eth0"), "{error:?}");
    });
}

#[test]
fn it_finds_that_the_way_to_the_gateway_is_missing() {
    case(|bed| {
        find(
            bed,
            &[("route del 10.1.0.0/24", "10.1.0."), ("route del 10.1.0.1", "10.1.0.1")],
            true,
        );
    });
}

#[test]
fn it_finds_an_interface_that_is_down() {
    case(|bed| find(bed, &[("link set eth0 down", "eth0")], true));
}

#[test]
fn it_finds_what_is_wrong_on_the_host() {
    case(|bed| {
        let breakages = [
            ("route del OWN dev VETH", "OWN"),
            ("addr del 10.1.0.1/32 dev VETH", "10.1.0.1"),
            ("-6 addr del fd00:1::1/128 dev VETH", "fd00:1::1"),
            ("link set VETH down", "VETH"),
            ("link set VETH address 02:00:00:00:00:77", "02:00:00:00:00:77"),
        ];
        find(bed, &breakages, false);
    });
}

#[test]
fn it_finds_that_nothing_is_forwarded() {
    case(|bed| {
        let (network, pod, _) = attached(bed, &json!({}));
        bed.set_sysctl("net/ipv4/ip_forward", "0");
        assert!(!network.check(&pod, "c1").status.success());
    });
}

#[test]
fn it_finds_a_lost_lease() {
    case(|bed| {
        let (network, pod, _) = attached(bed, &json!({}));
        bed.succeed("sh", &["-c", "rm /var/lib/cni/networks/links/10.1.0.2"]);
        bed.succeed("sh", &["-c", "rm /var/lib/cni/networks/links/fd00*"]);
        assert_ne!(network.check(&pod, "c1").error_code(), 0);
    });
}

#[test]
fn it_finds_a_result_of_another_sandbox() {
    case(|bed| {
        let (network, pod, _) = attached(bed, &json!({}));
        let mut result = network.result("c1").unwrap();
        result["interfaces"][1]["sandbox"] = json!("/run/netns/other");
        let config = changed(network.config().clone(), &json!({"prevResult": result}));
        let check = network.call("CHECK", "c1").netns(pod.path()).config(&config);
        assert_ne!(check.run().error_code(), 0);
    });
}

#[test]
fn it_needs_a_result() {
    case(|bed| {
        let (network, pod, _) = attached(bed, &json!({}));
        let check = network.call("CHECK", "c1").netns(pod.path());
        let error = check.run().error();
        assert!(error.msg.contains("prevResult"), "{error:?}");
    });
}

#[test]
fn it_does_not_mind_what_others_have_added() {
    case(|bed| {
        let (network, pod, veth) = attached(bed, &json!({"ipMasq": true}));
        pod.ip("addr add 192.0.2.7/24 dev eth0");
        pod.ip("route add 198.51.100.0/24 via 10.1.0.1");
        bed.ip(&format!("addr add 192.0.2.1/24 dev {veth}"));
        network.check(&pod, "c1").silent();
    });
}

#[test]
fn another_path_to_the_namespace_leads_there_too() {
    case(|bed| {
        let (network, pod, _) = attached(bed, &json!({}));
        bed.succeed(
            "sh",
            &["-c", "touch /run/test/alias && mount --bind /run/netns/pod /run/test/alias"],
        );
        network.again("CHECK", "c1").netns("/run/test/alias").run().silent();
        network.del(&pod, "c1").silent();
    });
}
