//! Pods with a link that leads nowhere: their addresses are their own.

use serde_json::json;
use testbed::{
    attachment::{dummy, ptp},
    kernel::Feature,
    reach::seen,
    result::addresses,
};

use crate::differences::{case, case_on};

const DUMMY: [Feature; 1] = [Feature::Dummy];

#[test]
fn a_pod_has_addresses_of_its_own() {
    case_on(&DUMMY, |bed| {
        let pods = ["one", "two"].map(|name| bed.sandbox(name));
        let network = bed.network(dummy(&json!({})));
        for (pod, id) in pods.iter().zip(["c1", "c2"]) {
            pod.ip("link set lo up");
            let result = network.add(pod, id).result();
            let link = pod.link("eth0");
            let own = json!({"name": "eth0", "mac": link["address"], "sandbox": pod.path()});
            assert_eq!(result["interfaces"], json!([own]));
            assert_eq!(link["linkinfo"]["info_kind"], "dummy");
            for address in addresses(&result) {
                assert_eq!(seen(pod, pod, &address), address);
            }
            network.check(pod, id).silent();
        }
    });
}

#[test]
fn without_ipam_it_is_good_for_nothing() {
    case(|bed| {
        // That is said before the namespace is looked for.
        let add = bed.network(dummy(&json!({"ipam": null})));
        let error = add.call("ADD", "c1").netns("/run/netns/nowhere").run().error();
        assert_eq!(error.msg, "dummy interface requires an IPAM configuration");
        let empty = dummy(&json!({"ipam": {}, "prevResult": {"ips": []}}));
        let network = bed.network(empty);
        let error = network.call("CHECK", "c1").netns("/run/netns/nowhere").run().error();
        assert_eq!(error.msg, "dummy interface requires an IPAM configuration");
    });
}

#[test]
fn check_finds_what_is_different() {
    case_on(&DUMMY, |bed| {
        let pod = bed.sandbox("pod");
        let network = bed.network(dummy(&json!({})));
        network.add(&pod, "c1").success();
        for (breakage, repair, words) in [
            ("link set eth0 down", "link set eth0 up", "eth0"),
            (
                "addr del 198.51.100.10/24 dev eth0",
                "addr add 198.51.100.10/24 dev eth0",
                "198.51.100.10",
            ),
            ("link del eth0", "link add eth0 type bridge", "eth0"),
        ] {
            network.check(&pod, "c1").silent();
            pod.ip(breakage);
            let error = network.check(&pod, "c1").error();
            assert!(error.msg.contains(words), "{breakage}: {error:?}");
            pod.ip(repair);
        }
        let error = network.check(&pod, "c1").error();
        assert!(error.msg.contains("not of type dummy"), "{error:?}");
    });
}

#[test]
fn the_name_service_is_ipams_or_the_configurations() {
    case_on(&DUMMY, |bed| {
        let pod = bed.sandbox("pod");
        let ips = json!([{"address": "198.51.100.10/24"}]);
        let of_ipam = json!({"nameservers": ["192.0.2.53"]});
        bed.recorder("ipam", &json!({"cniVersion": "1.0.0", "ips": ips, "dns": of_ipam}));
        let own = json!({"nameservers": ["192.0.2.1"]});
        for (told, is) in [(json!(null), &of_ipam), (own.clone(), &own)] {
            let network = bed.network(dummy(&json!({"ipam": {"type": "ipam"}, "dns": told})));
            assert_eq!(&network.add(&pod, "c1").result()["dns"], is);
            network.del(&pod, "c1").silent();
        }
    });
}

#[test]
fn an_address_may_also_be_a_pods_that_the_host_routes() {
    case_on(&DUMMY, |bed| {
        let [one, two] = ["one", "two"].map(|name| bed.sandbox(name));
        bed.network(ptp(&json!({}))).add(&one, "c1").success();
        let ipam = json!({"type": "host-local", "graceAge": 0, "subnet": "10.1.0.0/24",
                          "rangeStart": "10.1.0.2", "rangeEnd": "10.1.0.2"});
        let network = bed.network(dummy(&json!({"ipam": ipam})));
        assert_eq!(addresses(&network.add(&two, "c2").result()), ["10.1.0.2"]);
    });
}
