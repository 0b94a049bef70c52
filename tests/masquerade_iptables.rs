//! Masquerading's other backend: the same packets get through, by the rules of the Go plugin.

use serde_json::json;
use testbed::REFERENCE;

use crate::{
    differences::case,
    pods::{Warm, with},
    portmap_iptables::{PROGRAMS, rules},
};

#[test]
fn pods_are_seen_as_the_host_and_leave_no_rule() {
    case(|bed| {
        let warm = Warm::new(bed, with(&json!({"ipMasqBackend": "iptables"})));
        let saved = rules(bed);
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
            assert!(!rules(bed).contains("c1"), "{}", rules(bed));
            // What the test has flushed of the other one.
            warm.network.del(&warm.first, "first").silent();
            warm.network.add(&warm.first, "first").success();
            pod.destroy();
        }
        assert_eq!(rules(bed).lines().count(), saved.lines().count());
    });
}

#[test]
fn the_rules_are_those_of_the_go_plugin() {
    case(|bed| {
        let network = bed.network(with(&json!({"ipMasqBackend": "iptables"})));
        let pod = bed.sandbox("pod");
        let theirs = network.call("ADD", "c1").netns(pod.path()).env("PATH", PROGRAMS);
        let theirs = theirs.program(format!("{REFERENCE}/bridge")).cni_path(REFERENCE);
        theirs.run().success();
        let expected = rules(bed);
        network.call("DEL", "c1").netns(pod.path()).run().silent();
        bed.succeed("nft", &["flush", "ruleset"]);
        // The same address again.
        bed.succeed("rm", &["-r", "/var/lib/cni/networks/pods"]);
        network.add(&pod, "c1").success();
        assert_eq!(rules(bed), expected);
    });
}

#[test]
fn networks_that_are_excluded_see_the_pod() {
    case(|bed| {
        let keys = json!({"ipMasqBackend": "iptables", "ipMasqExclude": ["203.0.113.0/24"]});
        let network = bed.network(with(&keys));
        let (pod, neighbour) = (bed.sandbox("pod"), bed.neighbour());
        network.add(&pod, "c1").success();
        neighbour.ip("route add 10.1.0.0/24 via 203.0.113.1");
        assert_eq!(crate::pods::seen(&pod, &neighbour, "203.0.113.2"), "10.1.0.2");
    });
}
