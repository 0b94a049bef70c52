//! Pods at a pair of their own that are seen as the host: by whom, and with which backend.

use serde_json::{Value, json};
use testbed::{
    REFERENCE, SYSTEM_PATH, Sandbox, Testbed, attachment::ptp, reach::is_refused, reach::seen,
    result::addresses,
};

use crate::differences::case;

const BACKENDS: [Option<&str>; 3] = [None, Some("nftables"), Some("iptables")];

/// The neighbour's address and the host's on the LAN, of each family.
const LAN: [(&str, &str); 2] =
    [("203.0.113.2", "203.0.113.1"), ("2001:db8:ffff::2", "2001:db8:ffff::1")];

fn masqueraded(changes: &Value) -> Value {
    testbed::config::changed(ptp(&json!({"ipMasq": true})), changes)
}

/// All rules of both kinds, without counters.
fn rules(bed: &Testbed) -> String {
    bed.succeed("nft", &["-s", "list", "ruleset"])
}

/// Gives the neighbour the way back to the pods, so that they may be seen as themselves.
fn tell(neighbour: &Sandbox) {
    neighbour.ip("route add 10.1.0.0/24 via 203.0.113.1");
    neighbour.ip("route add fd00:1::/64 via 2001:db8:ffff::1");
}

/// Two pods are masqueraded, checked and deleted, with this backend; the rules meanwhile.
fn masquerade(bed: &Testbed, backend: Option<&str>) -> String {
    let neighbour = bed.neighbour();
    let network = bed.network(masqueraded(&json!({"ipMasqBackend": backend})));
    let pods = ["one", "two"].map(|id| bed.sandbox(id));
    let first = addresses(&network.add(&pods[0], "one").result());
    let before = rules(bed);
    let second = addresses(&network.add(&pods[1], "two").result());
    bed.settle();
    for (family, (at, host)) in LAN.into_iter().enumerate() {
        for pod in &pods {
            assert_eq!(seen(pod, &neighbour, at), host);
        }
        assert_eq!(seen(&pods[0], &pods[1], &second[family]), first[family]);
        assert_eq!(seen(&pods[1], bed, ["10.1.0.1", "fd00:1::1"][family]), second[family]);
    }
    let with_both = rules(bed);
    assert!(second.iter().all(|own| with_both.contains(own)), "{with_both}");
    network.check(&pods[1], "two").silent();
    network.del(&pods[1], "two").silent();
    assert_eq!(rules(bed), before);
    network.check(&pods[0], "one").silent();
    network.del(&pods[0], "one").silent();
    assert!(first.iter().all(|own| !rules(bed).contains(own)), "{}", rules(bed));
    with_both
}

#[test]
fn the_world_sees_the_host_and_pods_see_the_pod() {
    case(|bed| drop(masquerade(bed, None)));
}

#[test]
fn the_world_sees_the_host_by_iptables() {
    case(|bed| {
        let rules = masquerade(bed, Some("iptables"));
        assert!(rules.contains("table ip nat {\n\tchain CNI-"), "{rules}");
    });
}

#[test]
fn the_world_sees_the_host_by_nftables() {
    case(|bed| {
        let rules = masquerade(bed, Some("nftables"));
        assert!(!rules.contains("table ip nat "), "iptables was asked: {rules}");
    });
}

#[test]
fn the_rules_of_iptables_are_those_of_the_go_plugin() {
    case(|bed| {
        let network = bed.network(masqueraded(&json!({"ipMasqBackend": "iptables"})));
        let pod = bed.sandbox("pod");
        let saved = || {
            let script = "iptables-save -t nat; ip6tables-save -t nat";
            let text = bed.succeed("sh", &["-c", script]);
            let lines = text.lines().filter(|line| line.starts_with([':', '-']));
            lines.map(|line| line.split(" [").next().unwrap().to_owned()).collect::<Vec<_>>()
        };
        let theirs = network.call("ADD", "c1").netns(pod.path());
        let theirs = theirs.env("PATH", SYSTEM_PATH).cni_path(REFERENCE);
        theirs.program(format!("{REFERENCE}/ptp")).run().success();
        let expected = saved();
        assert!(expected.iter().any(|line| line.contains("MASQUERADE")), "{expected:?}");
        network.call("DEL", "c1").netns(pod.path()).run().silent();
        bed.succeed("nft", &["flush", "ruleset"]);
        // The same address again.
        bed.succeed("rm", &["-r", "/var/lib/cni/networks/links"]);
        network.add(&pod, "c1").success();
        assert_eq!(saved(), expected);
    });
}

#[test]
fn rules_go_although_the_interface_has_lost_its_addresses() {
    case(|bed| {
        for backend in BACKENDS {
            let network = bed.network(masqueraded(&json!({"ipMasqBackend": backend})));
            let (earlier, pod) = (bed.sandbox("earlier"), bed.sandbox("pod"));
            network.add(&earlier, "earlier").success();
            let before = rules(bed);
            network.add(&pod, "c1").success();
            pod.ip("addr flush dev eth0");
            network.del(&pod, "c1").silent();
            assert_eq!(rules(bed), before, "{backend:?}");
            network.del(&earlier, "earlier").silent();
            bed.succeed("nft", &["flush", "ruleset"]);
            bed.succeed("rm", &["-r", "/var/lib/cni/networks"]);
            earlier.destroy();
            pod.destroy();
        }
    });
}

#[test]
fn without_it_the_world_sees_the_pod() {
    case(|bed| {
        let (neighbour, pod) = (bed.neighbour(), bed.sandbox("pod"));
        bed.network(ptp(&json!({"ipMasq": false}))).add(&pod, "c1").success();
        bed.settle();
        assert!(is_refused(&pod, &neighbour, "203.0.113.2"), "it has no way back");
        tell(&neighbour);
        assert_eq!(seen(&pod, &neighbour, "203.0.113.2"), "10.1.0.2");
        assert_eq!(seen(&pod, &neighbour, "2001:db8:ffff::2"), "fd00:1::2");
    });
}

#[test]
fn it_may_be_for_one_family_and_have_exceptions() {
    case(|bed| {
        let neighbour = bed.neighbour();
        tell(&neighbour);
        let pods = ["10.1.0.", "fd00:1::"];
        for (number, (changes, masqueraded)) in [
            (json!({"ipMasq": true}), [true, true]),
            (json!({"ipMasq": "v4"}), [true, false]),
            (json!({"ipMasq": "v6"}), [false, true]),
            (json!({"ipMasq": true, "ipMasqExclude": ["203.0.113.0/24"]}), [false, true]),
            (json!({"ipMasq": true, "ipMasqExclude": ["198.51.100.0/24"]}), [true, true]),
            (
                json!({
                    "ipMasq": "v6", "ipMasqBackend": "iptables",
                    "ipMasqExclude": ["2001:db8:eeee::/64"]
                }),
                [false, true],
            ),
        ]
        .into_iter()
        .enumerate()
        {
            let (network, id) = (bed.network(ptp(&changes)), format!("c{number}"));
            let pod = bed.sandbox(&id);
            network.add(&pod, &id).success();
            bed.settle();
            network.check(&pod, &id).silent();
            for (family, (at, host)) in LAN.into_iter().enumerate() {
                let expected = if masqueraded[family] { host } else { pods[family] };
                let seen = seen(&pod, &neighbour, at);
                assert!(seen.starts_with(expected), "{changes}: {seen}");
            }
            network.del(&pod, &id).silent();
        }
    });
}

#[test]
fn what_cannot_be_meant_is_refused_before_anything_is_touched() {
    case(|bed| {
        let (pod, before) = (bed.sandbox("pod"), bed.snapshot());
        for (changes, words) in [
            (json!({"ipMasq": true, "ipMasqBackend": "smoke"}), "unknown ipmasq backend \"smoke\""),
            (json!({"ipMasq": "v5"}), "ipMasq"),
            (json!({"ipMasq": 4}), "ipMasq"),
            (json!({"ipMasq": true, "ipMasqExclude": ["nowhere"]}), "ipMasqExclude"),
        ] {
            bed.network(ptp(&changes)).add(&pod, "c1").fails_with(7, words);
            bed.assert_unchanged_since(&before);
            assert!(pod.has_only_lo(), "{changes}");
        }
    });
}

#[test]
fn an_unknown_backend_is_named() {
    case(|bed| {
        let network = bed.network(masqueraded(&json!({"ipMasqBackend": "smoke"})));
        let error = network.add(&bed.sandbox("pod"), "c1").error();
        assert!(error.msg.contains("unknown ipmasq backend \"smoke\""), "{error:?}");
    });
}

#[test]
fn rules_that_somebody_has_flushed_are_missed_by_check() {
    case(|bed| {
        for backend in BACKENDS {
            let network = bed.network(masqueraded(&json!({"ipMasqBackend": backend})));
            let pod = bed.sandbox("pod");
            network.add(&pod, "c1").success();
            network.check(&pod, "c1").silent();
            bed.succeed("nft", &["flush", "ruleset"]);
            let error = network.check(&pod, "c1").error();
            assert!(format!("{error:?}").contains("10.1.0."), "{backend:?}: {error:?}");
            network.del(&pod, "c1").silent();
            pod.destroy();
        }
    });
}

#[test]
fn after_a_flush_the_next_add_and_del_succeed() {
    case(|bed| {
        let (neighbour, network) = (bed.neighbour(), bed.network(masqueraded(&json!({}))));
        let [one, two] = ["one", "two"].map(|id| bed.sandbox(id));
        network.add(&one, "one").success();
        bed.succeed("nft", &["flush", "ruleset"]);
        network.add(&two, "two").success();
        bed.settle();
        assert_eq!(seen(&two, &neighbour, "203.0.113.2"), "203.0.113.1");
        network.del(&one, "one").silent();
        assert_eq!(seen(&two, &neighbour, "203.0.113.2"), "203.0.113.1");
    });
}
