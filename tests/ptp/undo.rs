//! What a pair leaves behind: after DEL, after GC and after an ADD that failed, nothing.

use serde_json::{Value, json};
use testbed::{Network, Sandbox, Snapshot, Testbed, attachment::ptp, config::changed};

use crate::differences::case;

/// Both families, masqueraded, on a host that has such a pod already: what is shared is made.
fn settled<'bed>(bed: &'bed Testbed, changes: &Value) -> (Network<'bed>, Sandbox, Snapshot) {
    let network = bed.network(changed(ptp(&json!({"ipMasq": true})), changes));
    network.add(&bed.sandbox("earlier"), "earlier").success();
    bed.settle();
    let before = bed.snapshot();
    (network, bed.sandbox("pod"), before)
}

/// An ADD with `changes` that must fail, and what it says. Nothing of it is left.
#[track_caller]
fn fail(bed: &Testbed, changes: &Value, what: &str) -> String {
    let (before, pod) = (bed.snapshot(), bed.sandbox("failing"));
    let error =
        bed.network(changed(ptp(&json!({"ipMasq": true})), changes)).add(&pod, "c9").error();
    bed.assert_unchanged_since(&before);
    assert!(pod.has_only_lo(), "{what}: {}", pod.ip("link"));
    pod.destroy();
    format!("{}; {}", error.msg, error.details)
}

#[test]
fn del_undoes_add() {
    case(|bed| {
        let (network, pod, before) = settled(bed, &json!({}));
        network.add(&pod, "c1").success();
        assert_ne!(bed.snapshot(), before);
        network.del(&pod, "c1").silent();
        bed.assert_unchanged_since(&before);
        assert!(pod.has_only_lo());
    });
}

#[test]
fn the_last_del_leaves_no_route_and_no_lease() {
    case(|bed| {
        let (network, pod) = (bed.network(ptp(&json!({}))), bed.sandbox("pod"));
        network.add(&pod, "c1").success();
        network.del(&pod, "c1").silent();
        assert_eq!(bed.route_lines("-4"), [""; 0]);
        assert!(bed.has_only_lo() && bed.leases("links").is_empty());
    });
}

#[test]
fn what_was_never_added_is_gone() {
    case(|bed| {
        let (pod, before) = (bed.sandbox("pod"), bed.snapshot());
        for changes in [json!({}), json!({"ipMasq": true}), json!({"cniVersion": "0.2.0"})] {
            bed.network(ptp(&changes)).del(&pod, "never-added").silent();
        }
        bed.assert_unchanged_since(&before);
    });
}

#[test]
fn del_succeeds_as_often_as_one_likes() {
    case(|bed| {
        let (network, pod, before) = settled(bed, &json!({}));
        network.add(&pod, "c1").success();
        let again = network.again("DEL", "c1").netns(pod.path());
        network.del(&pod, "c1").silent();
        again.clone().run().silent();
        again.clone().netns("").run().silent();
        again.netns("/run/netns/nowhere").run().silent();
        bed.assert_unchanged_since(&before);
    });
}

#[test]
fn nothing_is_left_when_the_namespace_is_gone() {
    case(|bed| {
        let (network, pod, before) = settled(bed, &json!({}));
        network.add(&pod, "c1").success();
        bed.destroy(&pod);
        network.del(&pod, "c1").silent();
        bed.assert_unchanged_since(&before);
    });
}

#[test]
fn nothing_is_left_when_neither_path_nor_result_is_told() {
    case(|bed| {
        let (network, pod, before) = settled(bed, &json!({}));
        network.add(&pod, "c1").success();
        network.call("DEL", "c1").run().silent();
        bed.assert_unchanged_since(&before);
        assert!(pod.has_only_lo(), "{}", pod.ip("link"));
    });
}

#[test]
fn nothing_is_left_when_the_link_is_gone_already() {
    case(|bed| {
        let (network, pod, before) = settled(bed, &json!({}));
        network.add(&pod, "c1").success();
        pod.ip("link del eth0");
        network.del(&pod, "c1").silent();
        bed.assert_unchanged_since(&before);
    });
}

#[test]
fn nothing_is_left_whatever_has_become_of_the_configuration() {
    case(|bed| {
        let (network, pod, before) = settled(bed, &json!({}));
        for changes in [
            json!({"ipMasq": null}),
            json!({"ipMasq": "perhaps"}),
            json!({"ipMasqBackend": "smoke"}),
            json!({"ipMasqExclude": [7]}),
            json!({"mtu": "large"}),
            json!({"dns": 7}),
        ] {
            network.add(&pod, "c1").success();
            let config = changed(network.config().clone(), &changes);
            network.call("DEL", "c1").netns(pod.path()).config(&config).run().silent();
            bed.assert_unchanged_since(&before);
            assert!(pod.has_only_lo(), "{changes}");
        }
    });
}

#[test]
fn an_attachment_is_added_once() {
    case(|bed| {
        let (network, pod, _) = settled(bed, &json!({}));
        network.add(&pod, "c1").success();
        bed.settle();
        let added = bed.snapshot();
        assert_ne!(network.add(&pod, "c1").error_code(), 0);
        bed.assert_unchanged_since(&added);
        // What is in the runtime's memory is still the first answer.
        network.check(&pod, "c1").silent();
    });
}

#[test]
fn two_interfaces_of_one_pod_go_one_by_one() {
    case(|bed| {
        let (network, pod, _) = settled(bed, &json!({}));
        network.add(&pod, "c1").success();
        // Without routes: the first has them.
        let ranges = json!([[{"subnet": "10.2.0.0/24"}], [{"subnet": "fd00:2::/64"}]]);
        let ipam = json!({"type": "host-local", "graceAge": 0, "ranges": ranges});
        let other = changed(network.config().clone(), &json!({"ipam": ipam}));
        let other = bed.network(other).ifname("eth1");
        // Somebody has what is shared by all of these subnets.
        other.add(&bed.sandbox("third"), "third").success();
        bed.settle();
        let one = bed.snapshot();
        other.add(&pod, "c1").success();
        assert!(pod.has_link("eth1"));
        other.del(&pod, "c1").silent();
        bed.assert_unchanged_since(&one);
        network.check(&pod, "c1").silent();
    });
}

#[test]
fn a_name_that_is_taken_is_refused_and_stays_whose_it_was() {
    case(|bed| {
        let (network, pod, _) = settled(bed, &json!({}));
        for link in ["type bridge", "type veth peer name eth9"] {
            pod.ip(&format!("link add eth0 {link}"));
            let (before, inside) = (bed.snapshot(), pod.ip("-o link"));
            let error = network.add(&pod, "c1").error();
            assert!(error.msg.contains("eth0"), "{error:?}");
            assert!(error.msg.contains("already exists"), "{error:?}");
            bed.assert_unchanged_since(&before);
            assert_eq!(pod.ip("-o link"), inside);
            pod.ip("link del eth0");
        }
    });
}

#[test]
fn del_after_a_refused_add_leaves_what_another_plugin_made() {
    case(|bed| {
        let (network, pod, _) = settled(bed, &json!({}));
        for link in ["type bridge", "type veth peer name eth9"] {
            pod.ip(&format!("link add eth0 {link}"));
            let before = bed.snapshot();
            assert_ne!(network.add(&pod, "c1").error_code(), 0);
            network.call("DEL", "c1").netns(pod.path()).run().silent();
            assert!(pod.has_link("eth0"), "{link}");
            bed.assert_unchanged_since(&before);
            pod.ip("link del eth0");
        }
        // A port of somebody's bridge, as another plugin makes it.
        bed.ip("link add br9 type bridge");
        bed.ip("link add port9 master br9 type veth peer name eth0 netns pod");
        assert_ne!(network.add(&pod, "c1").error_code(), 0);
        network.call("DEL", "c1").netns(pod.path()).run().silent();
        assert!(pod.has_link("eth0") && bed.has_link("port9"));
    });
}

#[test]
fn a_failed_add_leaves_nothing_whatever_it_failed_for() {
    case(|bed| {
        let _resident = settled(bed, &json!({}));
        let ipam = |route: Value| {
            let mut config = ptp(&json!({}));
            config["ipam"]["routes"] = json!([route]);
            json!({"ipam": config["ipam"]})
        };
        let full = json!({"type": "host-local", "subnet": "10.1.0.0/24", "rangeStart": "10.1.0.2",
            "rangeEnd": "10.1.0.2"});
        for (changes, words) in [
            (json!({"ipam": {"type": "nowhere"}}), "nowhere"),
            (json!({"ipam": full}), "no IP addresses available"),
            // A next hop that is nowhere near.
            (ipam(json!({"dst": "192.0.2.0/24", "gw": "198.51.100.1"})), "192.0.2.0"),
            (ipam(json!({"dst": "2001:db8:7::/64", "gw": "2001:db8:8::1"})), "2001:db8:7"),
            (json!({"mtu": 70_000}), ""),
            (json!({"mtu": 1000}), ""),
        ] {
            let said = fail(bed, &changes, words);
            assert!(said.contains(words), "{changes}: {said}");
        }
    });
}

#[test]
fn an_ipam_plugin_without_addresses_is_asked_to_clean_up() {
    case(|bed| {
        let _resident = settled(bed, &json!({}));
        bed.ipam(&[]);
        let said = fail(bed, &json!({"ipam": {"type": "ipam"}}), "no addresses");
        assert!(said.contains("IPAM plugin returned missing IP config"), "{said}");
        let verbs: Vec<_> = bed.recorded("ipam").into_iter().map(|(verb, _)| verb).collect();
        assert_eq!(verbs, ["ADD", "DEL"]);
    });
}

#[test]
fn an_ipam_plugin_that_refuses_is_quoted() {
    case(|bed| {
        let (_, pod, before) = settled(bed, &json!({}));
        let refusal = "echo '{\"cniVersion\": \"1.0.0\", \"code\": 142, \"msg\": \"out of luck\"}'";
        bed.script(
            "ipam",
            &format!("#!/bin/sh\n[ $CNI_COMMAND = DEL ] && exit 0\n{refusal}\nexit 1\n"),
        );
        let network = bed.network(ptp(&json!({"ipam": {"type": "ipam"}})));
        network.add(&pod, "c1").fails_with(142, "out of luck");
        bed.assert_unchanged_since(&before);
        assert!(pod.has_only_lo());
    });
}

#[test]
fn a_failed_add_can_be_repeated_at_once() {
    case(|bed| {
        let (network, pod, before) = settled(bed, &json!({}));
        let mut broken = network.config().clone();
        broken["ipam"]["routes"] = json!([{"dst": "192.0.2.0/24", "gw": "198.51.100.1"}]);
        for _ in 0..3 {
            let add = network.call("ADD", "c1").netns(pod.path()).config(&broken);
            assert_ne!(add.run().error_code(), 0);
        }
        network.add(&pod, "c1").success();
        network.del(&pod, "c1").silent();
        bed.assert_unchanged_since(&before);
    });
}

#[test]
fn the_ipam_plugin_reads_what_we_read() {
    case(|bed| {
        bed.ipam(&[("10.1.0.9/24", "10.1.0.1")]);
        let ipam = json!({"type": "ipam", "own": {"key": 1}});
        let network = bed.network(ptp(&json!({"ipam": ipam, "unknown": [1, 2]})));
        let pod = bed.sandbox("pod");
        network.add(&pod, "c1").success();
        network.check(&pod, "c1").silent();
        network.del(&pod, "c1").silent();
        let calls = bed.recorded("ipam");
        let verbs: Vec<_> = calls.iter().map(|(verb, _)| verb.as_str()).collect();
        assert_eq!(verbs, ["ADD", "CHECK", "DEL"]);
        assert_eq!(&calls[0].1, network.config());
        assert_eq!(calls[1].1["prevResult"]["ips"][0]["address"], "10.1.0.9/24");
    });
}

#[test]
fn gc_removes_what_is_not_listed() {
    case(|bed| {
        let (network, pod, before) = settled(bed, &json!({"cniVersion": "1.1.0"}));
        network.add(&pod, "c1").success();
        bed.settle();
        let both = bed.snapshot();
        network.gc(&["earlier", "c1"]).silent();
        bed.assert_unchanged_since(&both);
        network.gc(&["earlier"]).silent();
        bed.assert_unchanged_since(&before);
        assert!(pod.has_only_lo());
    });
}

#[test]
fn gc_touches_no_other_network_and_no_other_plugin() {
    case(|bed| {
        let (network, pod, _) = settled(bed, &json!({"cniVersion": "1.1.0"}));
        let ipam = json!({"type": "host-local", "subnet": "10.2.0.0/24", "graceAge": 0});
        let other = ptp(&json!({"name": "other", "ipMasq": true, "ipam": ipam}));
        bed.network(other).add(&pod, "c1").success();
        // An administrator's pair.
        bed.ip("link add cable0 type veth peer name cable1");
        bed.settle();
        let before = bed.snapshot();
        network.gc(&["earlier"]).silent();
        bed.assert_unchanged_since(&before);
        assert!(pod.has_link("eth0"));
    });
}

#[test]
fn status_is_that_of_the_ipam_plugin() {
    case(|bed| {
        let version = json!({"cniVersion": "1.1.0"});
        bed.network(ptp(&version)).status().silent();
        let refusal = "echo '{\"cniVersion\": \"1.1.0\", \"code\": 50, \"msg\": \"full\"}'; exit 1";
        bed.script("full", &format!("#!/bin/sh\n{refusal}\n"));
        let full = changed(ptp(&version), &json!({"ipam": {"type": "full"}}));
        assert_eq!(bed.network(full).status().error_code(), 50);
        let missing = changed(ptp(&version), &json!({"ipam": {"type": "nowhere"}}));
        assert_ne!(bed.network(missing).status().error_code(), 0);
    });
}
