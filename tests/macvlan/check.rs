//! CHECK of a macvlan finds each single thing that is missing or different.

use serde_json::{Value, json};
use testbed::{Network, Sandbox, Testbed, attachment::macvlan, config::changed};

use crate::differences::case;

const MAC: &str = "02:00:00:00:00:11";

/// A pod that is attached, with default routes.
fn attached<'bed>(bed: &'bed Testbed, changes: &Value) -> (Network<'bed>, Sandbox) {
    let mut config = changed(macvlan(&json!({"mac": MAC})), changes);
    config["ipam"]["routes"] = json!([{"dst": "0.0.0.0/0"}, {"dst": "::/0"}]);
    let (network, pod) = (bed.network(config), bed.sandbox("pod"));
    network.add(&pod, "c1").success();
    network.check(&pod, "c1").silent();
    (network, pod)
}

/// For each breakage a new attachment, which CHECK must reject, naming `object`.
fn find(bed: &Testbed, breakages: &[(&str, &str)]) {
    for (breakage, object) in breakages {
        let (network, pod) = attached(bed, &json!({}));
        let own = network.result("c1").unwrap()["ips"][0]["address"].clone();
        let own = own.as_str().unwrap().split('/').next().unwrap().to_owned();
        let fill = |text: &str| text.replace("OWN", &own);
        pod.ip(&fill(breakage));
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
        let _neighbour = bed.neighbour();
        let breakages = [
            ("link del eth0", "eth0"),
            ("link set eth0 address 02:00:00:00:00:77", "02:00:00:00:00:77"),
            ("addr del OWN/24 dev eth0", "OWN"),
            ("route del default", "Expected Route"),
            ("-6 route del default", "Expected Route"),
        ];
        find(bed, &breakages);
    });
}

#[test]
fn it_finds_another_mode() {
    case(|bed| {
        let _neighbour = bed.neighbour();
        find(bed, &[("link set dev eth0 type macvlan mode private", "private")]);
    });
}

#[test]
fn it_finds_an_interface_that_is_down() {
    case(|bed| {
        let _neighbour = bed.neighbour();
        find(bed, &[("link set eth0 down", "eth0")]);
    });
}

#[test]
fn it_finds_a_link_of_another_kind() {
    case(|bed| {
        let _neighbour = bed.neighbour();
        let (network, pod) = attached(bed, &json!({}));
        pod.ip("link del eth0");
        pod.ip(&format!("link add eth0 address {MAC} type bridge"));
        let error = network.check(&pod, "c1").error();
        assert!(error.msg.contains("eth0"), "{error:?}");
    });
}

#[test]
fn it_finds_a_link_of_another_master() {
    case(|bed| {
        let _neighbour = bed.neighbour();
        bed.ip("link add other type veth peer name other-peer");
        bed.ip("link set other up");
        bed.ip("link set other-peer up");
        let (network, pod) = attached(bed, &json!({"ipam": {"type": ""}}));
        pod.ip("link del eth0");
        let again = "link add link other name eth0 netns pod";
        bed.ip(&format!("{again} address {MAC} type macvlan mode bridge"));
        pod.ip("link set eth0 up");
        let error = network.check(&pod, "c1").error();
        assert!(error.msg.contains("\"lan\""), "{error:?}");
        pod.ip("link del eth0");
        bed.ip(&format!("{again} address {MAC} type macvlan mode bridge").replace("other", "lan"));
        pod.ip("link set eth0 up");
        network.check(&pod, "c1").silent();
    });
}

#[test]
fn it_finds_a_master_that_is_gone_or_another_one_than_configured() {
    case(|bed| {
        let _neighbour = bed.neighbour();
        let (network, pod) = attached(bed, &json!({}));
        let check = |changes: Value| {
            let result = json!({"prevResult": network.result("c1")});
            let config = changed(changed(network.config().clone(), &result), &changes);
            network.call("CHECK", "c1").netns(pod.path()).config(&config).run()
        };
        check(json!({})).silent();
        assert_ne!(check(json!({"master": "nowhere0"})).error_code(), 0);
        assert_ne!(check(json!({"mode": "vepa"})).error_code(), 0);
        bed.ip("link del lan");
        assert_ne!(check(json!({})).error_code(), 0);
    });
}

#[test]
fn it_finds_a_lost_lease() {
    case(|bed| {
        let _neighbour = bed.neighbour();
        let (network, pod) = attached(bed, &json!({}));
        bed.succeed("sh", &["-c", "rm /var/lib/cni/networks/segment/2*"]);
        assert_ne!(network.check(&pod, "c1").error_code(), 0);
    });
}

#[test]
fn it_needs_a_result_of_this_sandbox() {
    case(|bed| {
        let _neighbour = bed.neighbour();
        let (network, pod) = attached(bed, &json!({}));
        let error = network.call("CHECK", "c1").netns(pod.path()).run().error();
        assert!(error.msg.contains("prevResult"), "{error:?}");
        let mut result = network.result("c1").unwrap();
        result["interfaces"][0]["sandbox"] = json!("/run/netns/other");
        let config = changed(network.config().clone(), &json!({"prevResult": result}));
        let check = network.call("CHECK", "c1").netns(pod.path()).config(&config);
        assert_ne!(check.run().error_code(), 0);
    });
}

#[test]
fn it_does_not_mind_what_others_have_added() {
    case(|bed| {
        let _neighbour = bed.neighbour();
        let (network, pod) = attached(bed, &json!({}));
        pod.ip("addr add 192.0.2.7/24 dev eth0");
        pod.ip("route add 198.51.100.0/24 via 203.0.113.2");
        network.check(&pod, "c1").silent();
    });
}

#[test]
fn another_path_to_the_namespace_leads_there_too() {
    case(|bed| {
        let _neighbour = bed.neighbour();
        let (network, pod) = attached(bed, &json!({}));
        let bind = "touch /run/test/alias && mount --bind /run/netns/pod /run/test/alias";
        bed.succeed("sh", &["-c", bind]);
        network.again("CHECK", "c1").netns("/run/test/alias").run().silent();
        network.del(&pod, "c1").silent();
    });
}
