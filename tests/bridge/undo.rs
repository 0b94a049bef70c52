//! What a bridge leaves behind: after DEL, after GC and after an ADD that failed, nothing.

use serde_json::{Value, json};
use testbed::{Network, Sandbox, Snapshot, Testbed, config};

use crate::differences::case;

/// Both families, masqueraded, on a host that has such a pod already: what is shared is made.
fn settled<'bed>(bed: &'bed Testbed, version: &str) -> (Network<'bed>, Sandbox, Snapshot) {
    let mut changes = config::dual_stack();
    changes["ipMasq"] = json!(true);
    changes["cniVersion"] = json!(version);
    // What is as young as everything in a test is spared by GC.
    changes["ipam"]["graceAge"] = json!(0);
    let network = bed.network(config::bridge(&changes));
    network.add(&bed.sandbox("earlier"), "earlier").success();
    let before = bed.snapshot();
    (network, bed.sandbox("pod"), before)
}

fn leases(bed: &Testbed) -> Vec<String> {
    bed.leases("net").into_values().collect()
}

#[test]
fn del_undoes_add() {
    case(|bed| {
        let (network, pod, before) = settled(bed, "1.0.0");
        network.add(&pod, "c1").success();
        assert_ne!(bed.snapshot(), before);
        network.del(&pod, "c1").silent();
        bed.assert_unchanged_since(&before);
        assert!(!pod.has_link("eth0"));
    });
}

#[test]
fn del_succeeds_as_often_as_one_likes() {
    case(|bed| {
        let (network, pod, before) = settled(bed, "1.0.0");
        network.del(&pod, "never-added").silent();
        network.add(&pod, "c1").success();
        let again = network.again("DEL", "c1").netns(pod.path());
        network.del(&pod, "c1").silent();
        again.clone().run().silent();
        again.netns("").run().silent();
        bed.assert_unchanged_since(&before);
    });
}

#[test]
fn del_releases_the_address_when_the_namespace_is_gone() {
    case(|bed| {
        let (network, pod, _) = settled(bed, "1.0.0");
        network.add(&pod, "c1").success();
        pod.destroy();
        network.del(&pod, "c1").silent();
        assert!(!leases(bed).iter().any(|owner| owner.starts_with("c1 ")));
    });
}

#[test]
fn del_without_namespace_and_result_leaves_nothing() {
    case(|bed| {
        let (network, pod, before) = settled(bed, "1.0.0");
        network.add(&pod, "c1").success();
        // The runtime knows nothing any more. The link is still there: so is the namespace.
        network.call("DEL", "c1").run().silent();
        assert_eq!(leases(bed).len(), 2);
        let rules =
            |snapshot: &Snapshot| snapshot.lines("nft ").map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(rules(&bed.snapshot()), rules(&before));
    });
}

#[test]
fn an_attachment_is_added_once() {
    case(|bed| {
        let (network, pod, _) = settled(bed, "1.0.0");
        network.add(&pod, "c1").success();
        let added = bed.snapshot();
        assert_ne!(network.add(&pod, "c1").error_code(), 0);
        assert!(pod.has_link("eth0"), "it is the first one's");
        bed.assert_unchanged_since(&added);
        network.ifname("eth1").add(&pod, "c1").success();
    });
}

#[test]
fn a_name_that_is_taken_is_refused() {
    case(|bed| {
        let (network, pod, before) = settled(bed, "1.0.0");
        pod.ip("link add eth0 type bridge");
        let error = network.add(&pod, "c1").error();
        assert!(error.msg.contains("already exists"), "{error:?}");
        bed.assert_unchanged_since(&before);
        assert_eq!(pod.ip_json("-d link show eth0")[0]["linkinfo"]["info_kind"], "bridge");
    });
}

#[test]
fn del_after_a_refused_add_leaves_what_another_plugin_made() {
    case(|bed| {
        let (network, pod, _) = settled(bed, "1.0.0");
        for link in ["type bridge", "type veth peer name eth9"] {
            pod.ip(&format!("link add eth0 {link}"));
            let before = bed.snapshot();
            assert_ne!(network.add(&pod, "c1").error_code(), 0);
            network.call("DEL", "c1").netns(pod.path()).run().silent();
            assert!(pod.has_link("eth0"), "{link}");
            bed.assert_unchanged_since(&before);
            pod.ip("link del eth0");
        }
        // As `ptp` makes them: no bridge is at the other end.
        bed.ip("link add other type veth peer name eth0 netns pod");
        assert_ne!(network.add(&pod, "c1").error_code(), 0);
        network.call("DEL", "c1").netns(pod.path()).run().silent();
        assert!(pod.has_link("eth0"));
    });
}

/// A configuration that fails when the addresses are there: the bridge has another one.
fn conflicting(bed: &Testbed) -> Network<'_> {
    // With an address of its own, which does not follow its ports', and as every ADD leaves it.
    bed.ip("link add br0 address 02:00:00:00:00:99 type bridge");
    bed.set_sysctl("net/ipv6/conf/br0/accept_ra", "0");
    bed.ip("link set br0 up");
    bed.ip("addr add 10.9.0.1/24 dev br0");
    bed.network(config::bridge(&json!({})))
}

#[test]
fn a_late_failure_releases_the_address() {
    case(|bed| {
        let network = conflicting(bed);
        assert_ne!(network.add(&bed.sandbox("pod"), "c1").error_code(), 0);
        assert!(leases(bed).is_empty());
    });
}

#[test]
fn a_late_failure_leaves_nothing() {
    case(|bed| {
        let (network, pod) = (conflicting(bed), bed.sandbox("pod"));
        let before = bed.snapshot();
        assert_ne!(network.add(&pod, "c1").error_code(), 0);
        bed.assert_unchanged_since(&before);
        assert!(!pod.has_link("eth0"));
        // Nothing is in the way of another try.
        bed.ip("addr flush dev br0");
        network.add(&pod, "c1").success();
    });
}

#[test]
fn an_ipam_plugin_that_dies_is_told_to_delete_and_one_that_refuses_is_not() {
    case(|bed| {
        let refusal = "echo '{\"cniVersion\": \"1.0.0\", \"code\": 11, \"msg\": \"no\"}'; exit 1";
        let pod = bed.sandbox("pod");
        for (name, end, words, calls) in [
            ("refuses", refusal, "no", "ADD\n"),
            ("dies", "kill -9 $$", "signal: 9", "ADD\nDEL\n"),
            ("mumbles", "echo oops; exit 1", "oops", "ADD\nDEL\n"),
            ("answers-nonsense", "echo oops", "nonsense", "ADD\nDEL\n"),
        ] {
            let log = format!(
                "#!/bin/sh\necho $CNI_COMMAND >> /run/test/{name}\ncat > /dev/null\n\
                 [ $CNI_COMMAND = DEL ] && exit 0\n{end}\n"
            );
            bed.script(name, &log);
            let network = bed.network(config::bridge(&json!({"ipam": {"type": name}})));
            let error = network.add(&pod, "c1").error();
            assert!(error.msg.contains(words), "{name}: {error:?}");
            assert_eq!(bed.read(&format!("/run/test/{name}")), calls, "{name}");
            assert!(!pod.has_link("eth0"), "{name}");
        }
    });
}

#[test]
fn the_ipam_plugin_reads_what_we_read() {
    case(|bed| {
        let ips = json!([{"address": "10.1.0.9/24", "gateway": "10.1.0.1"}]);
        bed.recorder("recorder", &json!({"cniVersion": "1.0.0", "ips": ips}));
        let pod = bed.sandbox("pod");
        let changes = json!({"ipam": {"type": "recorder", "own": {"key": 1}}, "unknown": [1, 2]});
        let network = bed.network(config::bridge(&changes));
        network.add(&pod, "c1").success();
        network.check(&pod, "c1").silent();
        network.del(&pod, "c1").silent();
        let calls = bed.recorded("recorder");
        let verbs: Vec<_> = calls.iter().map(|(verb, _)| verb.as_str()).collect();
        assert_eq!(verbs, ["ADD", "CHECK", "DEL"]);
        assert_eq!(&calls[0].1, network.config());
        assert_eq!(calls[1].1["prevResult"]["ips"][0]["address"], "10.1.0.9/24");
    });
}

#[test]
fn check_sees_what_is_broken() {
    case(|bed| {
        for (number, breakage) in [
            "addr del 10.1.0.2/24 dev eth0",
            "route del default",
            "link set eth0 address 02:00:00:00:00:77",
        ]
        .into_iter()
        .enumerate()
        {
            let name = format!("br{number}");
            let changes = json!({"bridge": name, "name": name, "isDefaultGateway": true});
            let (network, pod) = (bed.network(config::bridge(&changes)), bed.sandbox(&name));
            network.add(&pod, "c1").success();
            network.check(&pod, "c1").silent();
            pod.ip(breakage);
            assert_ne!(network.check(&pod, "c1").error_code(), 0, "{breakage}");
            network.del(&pod, "c1").silent();
            bed.ip(&format!("link del {name}"));
        }
    });
}

#[test]
fn gc_removes_what_is_not_listed() {
    case(|bed| {
        let (network, pod, before) = settled(bed, "1.1.0");
        network.status().silent();
        network.add(&pod, "c1").success();
        let both = bed.snapshot();
        network.gc(&["earlier", "c1"]).silent();
        bed.assert_unchanged_since(&both);
        network.gc(&["earlier"]).silent();
        let state = |snapshot: &Snapshot| {
            snapshot
                .lines("")
                .filter(|line| line.starts_with("nft") || line.starts_with("lease"))
                .map(str::to_owned)
                .collect::<Vec<_>>()
        };
        assert_eq!(state(&bed.snapshot()), state(&before));
    });
}

#[test]
fn status_fails_when_the_ipam_plugin_does() {
    case(|bed| {
        let script = "#!/bin/sh\necho '{\"cniVersion\": \"1.1.0\", \"code\": 50, \"msg\": \"full\"}'\nexit 1\n";
        bed.script("full", script);
        let changes = json!({"cniVersion": "1.1.0", "ipam": {"type": "full"}});
        assert_eq!(bed.network(config::bridge(&changes)).status().error_code(), 50);
        let missing: Value = json!({"cniVersion": "1.1.0", "ipam": {"type": "nowhere"}});
        assert_ne!(bed.network(config::bridge(&missing)).status().error_code(), 0);
    });
}
