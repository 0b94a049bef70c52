//! Masquerading's other backend: the same packets get through, by the rules of the Go plugin.

use serde_json::json;
use testbed::{
    REFERENCE, SYSTEM_PATH, config,
    iptables::{nat_rules, path_without_ip6tables},
    reach::seen,
    warm::Warm,
};

use crate::differences::case;

#[test]
fn pods_are_seen_as_the_host_and_leave_no_rule() {
    case(|bed| {
        let warm = Warm::new(bed, config::pods_with(&json!({"ipMasqBackend": "iptables"})));
        let saved = nat_rules(bed);
        assert_eq!(saved.matches("MASQUERADE").count(), 2, "{saved}");
        for known in [true, false] {
            let pod = bed.sandbox("pod");
            warm.network.add(&pod, "c1").success();
            warm.assert_connected(&pod);
            warm.network.check(&pod, "c1").silent();
            bed.succeed("sh", &["-c", "iptables -t nat -F POSTROUTING"]);
            assert!(!warm.network.check(&pod, "c1").status.success());
            if known {
                warm.network.del(&pod, "c1").silent();
            } else {
                warm.network.call("DEL", "c1").netns(pod.path()).run().silent();
            }
            assert!(!nat_rules(bed).contains("c1"), "{}", nat_rules(bed));
            // What the test has flushed of the other one.
            warm.network.del(&warm.first, "first").silent();
            warm.network.add(&warm.first, "first").success();
            pod.destroy();
        }
        assert_eq!(nat_rules(bed).lines().count(), saved.lines().count());
    });
}

#[test]
fn the_rules_are_those_of_the_go_plugin() {
    case(|bed| {
        let network = bed.network(config::pods_with(&json!({"ipMasqBackend": "iptables"})));
        let pod = bed.sandbox("pod");
        let theirs = network.call("ADD", "c1").netns(pod.path()).env("PATH", SYSTEM_PATH);
        let theirs = theirs.program(format!("{REFERENCE}/bridge")).cni_path(REFERENCE);
        theirs.run().success();
        let expected = nat_rules(bed);
        network.call("DEL", "c1").netns(pod.path()).run().silent();
        bed.succeed("nft", &["flush", "ruleset"]);
        // The same address again.
        bed.succeed("rm", &["-r", "/var/lib/cni/networks/pods"]);
        network.add(&pod, "c1").success();
        assert_eq!(nat_rules(bed), expected);
    });
}

#[test]
fn networks_that_are_excluded_see_the_pod() {
    case(|bed| {
        let keys = json!({"ipMasqBackend": "iptables", "ipMasqExclude": ["203.0.113.0/24"]});
        let network = bed.network(config::pods_with(&keys));
        let (pod, neighbour) = (bed.sandbox("pod"), bed.neighbour());
        network.add(&pod, "c1").success();
        neighbour.ip("route add 10.1.0.0/24 via 203.0.113.1");
        assert_eq!(seen(&pod, &neighbour, "203.0.113.2"), "10.1.0.2");
    });
}

#[test]
fn an_add_that_fails_leaves_the_container_its_other_interface() {
    case(|bed| {
        let config = config::pods_with(&json!({"ipMasqBackend": "iptables"}));
        let network = bed.network(config.clone());
        let (pod, other) = (bed.sandbox("pod"), bed.sandbox("other"));
        network.add(&pod, "c1").success();
        let path = path_without_ip6tables(bed);
        let (before, saved) = (bed.snapshot(), nat_rules(bed));
        let second = bed.network(config).ifname("net1");
        // The chain is one for all interfaces of the container.
        for call in [
            second.call("ADD", "c1").netns(pod.path()),
            network.call("ADD", "c2").netns(other.path()),
        ] {
            call.env("PATH", &path).run().fails_with(999, "ip6tables-save");
            assert_eq!(nat_rules(bed), saved);
            bed.assert_unchanged_since(&before);
        }
    });
}
