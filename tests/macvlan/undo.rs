//! What a macvlan leaves behind: after DEL, after GC and after an ADD that failed, nothing.

use serde_json::{Value, json};
use testbed::{Network, Sandbox, Snapshot, Testbed, attachment::macvlan, config::changed};

use crate::differences::case;

/// A LAN on which such a pod is already.
fn settled<'bed>(bed: &'bed Testbed, changes: &Value) -> (Network<'bed>, Sandbox, Snapshot) {
    let _neighbour = bed.neighbour();
    let network = bed.network(macvlan(changes));
    network.add(&bed.sandbox("earlier"), "earlier").success();
    let before = bed.snapshot();
    (network, bed.sandbox("pod"), before)
}

fn owners(bed: &Testbed) -> Vec<String> {
    bed.leases("segment").into_values().collect()
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
fn the_last_del_leaves_the_master_as_it_was() {
    case(|bed| {
        let _neighbour = bed.neighbour();
        let before = bed.snapshot();
        for mode in ["bridge", "private", "passthru"] {
            let (network, pod) = (bed.network(macvlan(&json!({"mode": mode}))), bed.sandbox("pod"));
            network.add(&pod, "c1").success();
            network.del(&pod, "c1").silent();
            bed.assert_unchanged_since(&before);
            pod.destroy();
        }
    });
}

#[test]
fn what_was_never_added_is_gone() {
    case(|bed| {
        // Not even the master is there.
        let (pod, before) = (bed.sandbox("pod"), bed.snapshot());
        for changes in [
            json!({}),
            json!({"ipam": {}}),
            json!({"master": null}),
            json!({"cniVersion": "0.2.0"}),
        ] {
            bed.network(macvlan(&changes)).del(&pod, "never-added").silent();
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
fn the_address_is_free_when_the_namespace_is_gone_or_not_told() {
    case(|bed| {
        let (network, pod, _) = settled(bed, &json!({}));
        network.add(&pod, "c1").success();
        network.call("DEL", "c1").run().silent();
        assert_eq!(owners(bed), ["earlier eth0"; 2]);
        pod.destroy();
        let pod = bed.sandbox("pod");
        network.add(&pod, "c1").success();
        pod.destroy();
        network.del(&pod, "c1").silent();
        assert_eq!(owners(bed), ["earlier eth0"; 2]);
    });
}

#[test]
fn nothing_is_left_when_link_or_master_are_gone_already() {
    case(|bed| {
        let (network, pod, before) = settled(bed, &json!({}));
        network.add(&pod, "c1").success();
        pod.ip("link del eth0");
        network.del(&pod, "c1").silent();
        bed.assert_unchanged_since(&before);
        network.add(&pod, "c1").success();
        bed.ip("link del lan");
        network.del(&pod, "c1").silent();
        assert_eq!(owners(bed), ["earlier eth0"; 2]);
    });
}

#[test]
fn nothing_is_left_whatever_has_become_of_the_configuration() {
    case(|bed| {
        let (network, pod, before) = settled(bed, &json!({}));
        for changes in [
            json!({"master": "nowhere0"}),
            json!({"master": null}),
            json!({"mode": "x"}),
            json!({"mtu": -5}),
            json!({"mac": "no address"}),
            json!({"runtimeConfig": {"mac": "no address"}}),
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
fn nothing_is_left_when_a_key_cannot_be_read_any_more() {
    case(|bed| {
        let (network, pod, before) = settled(bed, &json!({}));
        for changes in [json!({"master": 7}), json!({"mtu": "large"}), json!({"bcqueuelen": -1})] {
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
        let (added, inside) = (bed.snapshot(), pod.ip("-o link"));
        let error = network.add(&pod, "c1").error();
        assert!(error.msg.contains("eth0"), "{error:?}");
        bed.assert_unchanged_since(&added);
        assert_eq!(pod.ip("-o link"), inside);
        network.check(&pod, "c1").silent();
        network.ifname("eth1").add(&pod, "c1").success();
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
    });
}

#[test]
fn a_failed_add_leaves_nothing_whatever_it_failed_for() {
    case(|bed| {
        let (_, pod, before) = settled(bed, &json!({}));
        let ipam = |route: Value| {
            let mut config = macvlan(&json!({}));
            config["ipam"]["routes"] = json!([route]);
            json!({"ipam": config["ipam"]})
        };
        let full = json!({"type": "host-local", "subnet": "203.0.113.0/24",
            "rangeStart": "203.0.113.10", "rangeEnd": "203.0.113.10"});
        for (changes, words) in [
            (json!({"ipam": {"type": "nowhere"}}), "nowhere"),
            (json!({"ipam": full}), "no IP addresses available"),
            (ipam(json!({"dst": "192.0.2.0/24", "gw": "198.51.100.1"})), "192.0.2.0"),
            (ipam(json!({"dst": "2001:db8:7::/64", "gw": "2001:db8:8::1"})), "2001:db8:7"),
        ] {
            let error = bed.network(macvlan(&changes)).add(&pod, "c9").error();
            assert!(format!("{error:?}").contains(words), "{changes}: {error:?}");
            bed.assert_unchanged_since(&before);
            assert!(pod.has_only_lo(), "{changes}: {}", pod.ip("link"));
        }
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
fn an_ipam_plugin_without_addresses_is_asked_to_clean_up() {
    case(|bed| {
        let (_, pod, before) = settled(bed, &json!({}));
        bed.ipam(&[]);
        let error =
            bed.network(macvlan(&json!({"ipam": {"type": "ipam"}}))).add(&pod, "c1").error();
        assert_eq!(error.msg, "IPAM plugin returned missing IP config");
        let verbs: Vec<_> = bed.recorded("ipam").into_iter().map(|(verb, _)| verb).collect();
        assert_eq!(verbs, ["ADD", "DEL"]);
        bed.assert_unchanged_since(&before);
        assert!(pod.has_only_lo());
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
        let network = bed.network(macvlan(&json!({"ipam": {"type": "ipam"}})));
        network.add(&pod, "c1").fails_with(142, "out of luck");
        bed.assert_unchanged_since(&before);
        assert!(pod.has_only_lo());
    });
}

#[test]
fn the_ipam_plugin_reads_what_we_read() {
    case(|bed| {
        let _neighbour = bed.neighbour();
        bed.ipam(&[("203.0.113.9/24", "203.0.113.2")]);
        let ipam = json!({"type": "ipam", "own": {"key": 1}});
        let network = bed.network(macvlan(&json!({"ipam": ipam, "unknown": [1, 2]})));
        let pod = bed.sandbox("pod");
        network.add(&pod, "c1").success();
        network.check(&pod, "c1").silent();
        network.del(&pod, "c1").silent();
        let calls = bed.recorded("ipam");
        let verbs: Vec<_> = calls.iter().map(|(verb, _)| verb.as_str()).collect();
        assert_eq!(verbs, ["ADD", "CHECK", "DEL"]);
        assert_eq!(&calls[0].1, network.config());
        assert_eq!(calls[1].1["prevResult"]["ips"][0]["address"], "203.0.113.9/24");
    });
}

#[test]
fn gc_frees_what_is_not_listed() {
    case(|bed| {
        let (network, pod, _) = settled(bed, &json!({"cniVersion": "1.1.0"}));
        network.add(&pod, "c1").success();
        let both = bed.snapshot();
        network.gc(&["earlier", "c1"]).silent();
        bed.assert_unchanged_since(&both);
        pod.ip("link del eth0");
        network.gc(&["earlier"]).silent();
        assert_eq!(owners(bed), ["earlier eth0"; 2]);
    });
}

#[test]
fn without_addresses_gc_has_nothing_to_do() {
    case(|bed| {
        let (network, pod, _) = settled(bed, &json!({"cniVersion": "1.1.0", "ipam": null}));
        network.add(&pod, "c1").success();
        let both = bed.snapshot();
        network.gc(&["earlier"]).silent();
        bed.assert_unchanged_since(&both);
        network.status().silent();
    });
}

#[test]
fn status_is_that_of_the_ipam_plugin() {
    case(|bed| {
        let _neighbour = bed.neighbour();
        let version = json!({"cniVersion": "1.1.0"});
        bed.network(macvlan(&version)).status().silent();
        let refusal = "echo '{\"cniVersion\": \"1.1.0\", \"code\": 50, \"msg\": \"full\"}'; exit 1";
        bed.script("full", &format!("#!/bin/sh\n{refusal}\n"));
        let full = changed(macvlan(&version), &json!({"ipam": {"type": "full"}}));
        assert_eq!(bed.network(full).status().error_code(), 50);
        let missing = changed(macvlan(&version), &json!({"ipam": {"type": "nowhere"}}));
        assert_ne!(bed.network(missing).status().error_code(), 0);
    });
}

#[test]
fn status_misses_a_master() {
    case(|bed| {
        let network = bed.network(macvlan(&json!({"cniVersion": "1.1.0"})));
        // It is "not available": ADD would fail, and not for lack of memory or time.
        network.status().fails_with(50, "\"lan\"");
        // Without a name it may be what the plugin before this one has found.
        bed.network(macvlan(&json!({"cniVersion": "1.1.0", "master": null}))).status().silent();
        let _neighbour = bed.neighbour();
        network.status().silent();
    });
}

#[test]
fn del_after_a_refused_add_leaves_a_link_that_somebody_gave_an_alias() {
    case(|bed| {
        let (network, pod, _) = settled(bed, &json!({}));
        bed.ip("link add eth0 link lan netns pod type macvlan mode bridge");
        pod.ip("link set eth0 alias uplink");
        network.add(&pod, "c1").fails_with(4, "eth0");
        network.del(&pod, "c1").silent();
        assert!(pod.has_link("eth0"));
    });
}
