//! An attachment is made once: of several ADDs at the same time one succeeds, a refused one takes
//! nothing from who lives, and GC lets one that runs end.

use std::thread;

use serde_json::{Value, json};
use testbed::{
    Outcome, REFERENCE, SYSTEM_PATH, Sandbox, Snapshot, Testbed, bin_dir, config,
    reach::seen_by_tcp, result::addresses, step, until_so, warm::Warm,
};

use crate::differences::case;

/// What is nobody's but an attachment's: links, leases, elements.
fn own(snapshot: &Snapshot) -> Vec<String> {
    let is_own = |line: &&str| {
        ["link ", "lease ", "nft {\"element\"", "nft {\"map\"", "nft {\"set\"", "nft {\"rule\""]
            .iter()
            .any(|kind| line.starts_with(kind))
    };
    snapshot.lines("").filter(is_own).map(str::to_owned).collect()
}

/// Eight ADDs of c1 at the same time, into one sandbox or into eight.
fn add_eight(warm: &Warm<'_>, pods: &[Sandbox]) -> Vec<(usize, Outcome)> {
    thread::scope(|scope| {
        let add = |number: usize| {
            let pod = &pods[number % pods.len()];
            (number % pods.len(), warm.network.call("ADD", "c1").netns(pod.path()).run())
        };
        let running: Vec<_> = (0..8).map(|number| scope.spawn(move || add(number))).collect();
        running.into_iter().map(|add| add.join().unwrap()).collect()
    })
}

/// Forty rounds, or some of them.
fn rounds() -> std::iter::StepBy<std::ops::Range<usize>> {
    (0..40).step_by(step(5))
}

fn one_of_eight_succeeds(bed: &Testbed, sandboxes: usize) {
    let warm = Warm::new(bed, config::pods_with(&json!({"macspoofchk": true})));
    let before = bed.snapshot();
    for round in rounds() {
        let pods: Vec<_> = (0..sandboxes).map(|n| bed.sandbox(&format!("p{round}{n}"))).collect();
        let all = add_eight(&warm, &pods);
        let (good, bad): (Vec<_>, Vec<_>) =
            all.iter().partition(|(_, outcome)| outcome.status.success());
        for (_, refused) in bad {
            assert!([4, 11, 999].contains(&refused.error_code()), "round {round}: {refused}");
        }
        let [(winner, added)] = good[..] else {
            panic!("round {round}: {} succeed", good.len());
        };
        let (pod, result) = (&pods[*winner], added.result());
        let leases = bed.leases("pods");
        for address in addresses(&result) {
            let address = address.parse().unwrap();
            assert_eq!(leases.get(&address).map(String::as_str), Some("c1 eth0"), "{round}");
        }
        assert_eq!(leases.len(), 4, "round {round}: {leases:?}");
        for (number, other) in pods.iter().enumerate() {
            assert_eq!(other.has_only_lo(), number != *winner, "round {round}");
        }
        warm.assert_connected(pod);
        let mut known = warm.network.config().clone();
        known["prevResult"] = result;
        let call = |verb| warm.network.call(verb, "c1").netns(pod.path()).config(&known);
        call("CHECK").run().silent();
        call("DEL").run().silent();
        bed.assert_unchanged_since(&before);
    }
}

#[test]
fn one_of_eight_adds_at_once_succeeds() {
    case(|bed| one_of_eight_succeeds(bed, 1));
}

/// As when a runtime that has forgotten a pod makes it again.
#[test]
fn one_of_eight_adds_into_different_namespaces_succeeds() {
    case(|bed| one_of_eight_succeeds(bed, 8));
}

/// A pod that the Go plugins have made.
fn theirs(bed: &Testbed, config: &Value, pod: &Sandbox) -> Value {
    let call = bed.call("ADD", "c1", config).program(format!("{REFERENCE}/bridge"));
    call.netns(pod.path()).cni_path(REFERENCE).env("PATH", SYSTEM_PATH).run().result()
}

#[test]
fn an_attachment_of_the_go_plugins_is_not_made_again() {
    case(|bed| {
        let warm = Warm::new(bed, config::pods());
        let pods = ["pod", "other"].map(|name| bed.sandbox(name));
        theirs(bed, &config::pods(), &pods[0]);
        // Ours finds the leases of theirs, and takes them over.
        assert!(!warm.network.call("ADD", "c1").netns(pods[1].path()).run().status.success());
        let before = bed.snapshot();
        let files = bed.lease_files("pods");
        for round in rounds() {
            // Where it is, and where the runtime would have it now.
            for (_, refused) in add_eight(&warm, &pods[round % 2..]) {
                let code = refused.error_code();
                assert!([4, 11, 999].contains(&code), "round {round}: {refused}");
            }
            bed.assert_unchanged_since(&before);
            assert_eq!(bed.lease_files("pods"), files);
        }
        assert!(pods[1].has_only_lo());
        warm.assert_connected(&pods[0]);
    });
}

#[test]
fn a_refused_add_takes_no_lease_from_who_lives() {
    case(|bed| {
        let warm = Warm::new(bed, config::pods());
        let pods = ["pod", "other"].map(|name| bed.sandbox(name));
        let own = addresses(&theirs(bed, &config::pods(), &pods[0]));
        for pod in &pods {
            let refused = warm.network.call("ADD", "c1").netns(pod.path()).run();
            assert!(!refused.status.success(), "{refused}");
            for address in &own {
                let held = bed.lease_files("pods").get(&address.parse().unwrap()).cloned();
                assert_eq!(held.as_deref(), Some("c1 eth0"), "{refused}");
            }
        }
        // Nobody else gets its address.
        let next = bed.sandbox("next");
        let others = addresses(&warm.network.add(&next, "next").result());
        assert!(others.iter().all(|address| !own.contains(address)), "{others:?}");
        warm.assert_connected(&pods[0]);
    });
}

/// An IPAM plugin that has its addresses and does not say so before it is told to.
const SLOW: &str = "#!/bin/sh\n\
    [ $CNI_COMMAND = ADD ] || exec REAL\n\
    answer=$(REAL) || { status=$?; echo \"$answer\"; exit $status; }\n\
    echo ready > /run/test/ready\n\
    read word < /run/test/go\n\
    echo \"$answer\"\n";

/// A network whose ADD waits in the midst.
struct Slow<'bed> {
    warm: Warm<'bed>,
    bed: &'bed Testbed,
}

impl<'bed> Slow<'bed> {
    fn new(bed: &'bed Testbed, grace_age: Option<u32>) -> Self {
        let real = bin_dir().join("host-local").display().to_string();
        bed.script("slow", &SLOW.replace("REAL", &real));
        bed.succeed("mkfifo", &["/run/test/ready", "/run/test/go"]);
        let mut config = config::pods_with(&json!({"cniVersion": "1.1.0", "macspoofchk": true}));
        match grace_age {
            Some(age) => config["ipam"]["graceAge"] = json!(age),
            None => drop(config["ipam"].as_object_mut().unwrap().remove("graceAge")),
        }
        let warm = Warm::new(bed, config);
        Self { warm, bed }
    }

    /// Runs `meanwhile` while an ADD of c1 runs, which is told to go on after that.
    fn add(&self, pod: &Sandbox, meanwhile: impl FnOnce()) -> Value {
        let mut config = self.warm.network.config().clone();
        config["ipam"]["type"] = json!("slow");
        let call = self.warm.network.call("ADD", "c1").netns(pod.path()).config(&config);
        thread::scope(|scope| {
            let running = scope.spawn(|| call.run());
            assert_eq!(self.bed.succeed("cat", &["/run/test/ready"]), "ready\n");
            meanwhile();
            self.bed.succeed("sh", &["-c", "echo go > /run/test/go"]);
            running.join().unwrap().result()
        })
    }

    fn check(&self, pod: &Sandbox, result: &Value) {
        let mut known = self.warm.network.config().clone();
        known["prevResult"] = result.clone();
        self.warm.network.call("CHECK", "c1").netns(pod.path()).config(&known).run().silent();
        self.warm.assert_connected(pod);
    }
}

#[test]
fn gc_lets_an_add_end_that_it_is_told_of() {
    case(|bed| {
        for (number, grace) in [None, Some(0)].into_iter().enumerate() {
            let bed = if number == 0 { bed } else { &Testbed::new() };
            let (slow, pod) = (Slow::new(bed, grace), bed.sandbox("pod"));
            let result = slow.add(&pod, || slow.warm.network.gc(&["first", "c1"]).silent());
            slow.check(&pod, &result);
        }
    });
}

#[test]
fn gc_lets_an_add_end_that_it_is_not_told_of() {
    case(|bed| {
        for (number, grace) in [None, Some(0)].into_iter().enumerate() {
            let bed = if number == 0 { bed } else { &Testbed::new() };
            let (slow, pod) = (Slow::new(bed, grace), bed.sandbox("pod"));
            let result = slow.add(&pod, || slow.warm.network.gc(&["first"]).silent());
            slow.check(&pod, &result);
        }
    });
}

/// It has its addresses before there is a bridge, and its link after that.
#[test]
fn gc_lets_an_add_end_that_has_no_link_yet() {
    case(|bed| {
        for (number, grace) in [None, Some(0)].into_iter().enumerate() {
            let bed = if number == 0 { bed } else { &Testbed::new() };
            let (slow, pod) = (Slow::new(bed, grace), bed.sandbox("pod"));
            bed.ip("link del br0");
            let result = slow.add(&pod, || {
                assert!(!bed.has_link("br0"));
                slow.warm.network.gc(&["first"]).silent();
            });
            slow.check(&pod, &result);
        }
    });
}

#[test]
fn gc_leaves_what_is_young() {
    case(|bed| {
        for backend in ["nftables", "iptables"] {
            let bed = if backend == "nftables" { bed } else { &Testbed::new() };
            let keys =
                json!({"cniVersion": "1.1.0", "macspoofchk": true, "ipMasqBackend": backend});
            let mut config = config::pods_with(&keys);
            config["ipam"].as_object_mut().unwrap().remove("graceAge");
            let (warm, pod) = (Warm::new(bed, config), bed.sandbox("pod"));
            warm.network.add(&pod, "c1").success();
            let added = bed.snapshot();
            warm.network.gc(&["first"]).silent();
            bed.assert_unchanged_since(&added);
            warm.network.check(&pod, "c1").silent();
            warm.network.del(&pod, "c1").silent();
        }
    });
}

#[test]
fn gc_removes_what_is_old() {
    case(|bed| {
        let keys = json!({"cniVersion": "1.1.0", "macspoofchk": true});
        let warm = Warm::new(bed, config::pods_with(&keys));
        let (before, pod) = (bed.snapshot(), bed.sandbox("pod"));
        warm.network.add(&pod, "c1").success();
        warm.network.gc(&["first"]).silent();
        assert!(!pod.has_link("eth0"));
        assert_eq!(own(&bed.snapshot()), own(&before));
    });
}

/// The namespace is gone, and its link with it: that ends the grace of everything.
#[test]
fn gc_removes_what_is_young_and_dead() {
    case(|bed| {
        let keys = json!({"cniVersion": "1.1.0", "macspoofchk": true});
        let mut config = config::pods_with(&keys);
        config["ipam"].as_object_mut().unwrap().remove("graceAge");
        let warm = Warm::new(bed, config);
        let (before, pod) = (bed.snapshot(), bed.sandbox("pod"));
        warm.network.add(&pod, "c1").success();
        seen_by_tcp(&pod, bed, "10.1.0.1");
        bed.destroy(&pod);
        warm.network.gc(&["first"]).silent();
        bed.assert_unchanged_since(&before);
    });
}

/// An ADD has ended when its answer is written, and not before: until then it may still be rolled back,
/// and with it what another ADD of the same attachment would have made meanwhile.
#[test]
fn no_add_begins_before_the_one_before_it_is_answered() {
    let ipam = json!({"type": "host-local", "graceAge": 0, "subnet": "10.1.0.0/24",
                      "routes": [{"dst": "0.0.0.0/0"}]});
    for keys in [
        json!({"type": "bridge", "bridge": "br0"}),
        json!({"type": "ptp"}),
        json!({"type": "macvlan", "master": "lan"}),
    ] {
        case(|bed| {
            let _neighbour = bed.neighbour();
            let pod = bed.sandbox("pod");
            let config = json!({"cniVersion": "1.0.0", "name": "pods", "ipam": ipam});
            let network = bed.network(config::changed(config, &keys));
            let call = |verb: &str| network.call(verb, "c1").netns(pod.path());
            // What the first one makes stays, and the second one writes less.
            call("ADD").run().success();
            call("DEL").run().silent();
            let (first, writes) = bed.strace(call("ADD"), "-qq -e trace=write -e signal=none");
            first.success();
            call("DEL").run().silent();
            let last =
                format!("-e inject=write:delay_enter=1000000:when={}", writes.lines().count());
            thread::scope(|threads| {
                let slow = threads.spawn(|| bed.strace(call("ADD"), &last).0);
                until_so("a route", || pod.ip("route show default").contains("default"));
                call("DEL").run().silent();
                call("ADD").run().fails_with(11, "another ADD or DEL of this attachment");
                slow.join().unwrap().success();
            });
            call("DEL").run().silent();
            assert!(pod.has_only_lo());
        });
    }
}

/// An IPAM plugin that is told when to release what it has.
const RELUCTANT: &str = "#!/bin/sh\n\
    [ $CNI_COMMAND = DEL ] || exec REAL\n\
    echo ready > /run/test/ready\n\
    read word < /run/test/go\n\
    exec REAL\n";

/// Between the deletion of the link and that of the lease there is none: it would have an address that
/// is free a moment later.
#[test]
fn no_add_begins_before_a_del_has_ended() {
    case(|bed| {
        let _neighbour = bed.neighbour();
        let pod = bed.sandbox("pod");
        let real = bin_dir().join("host-local").display().to_string();
        bed.script("slow", &RELUCTANT.replace("REAL", &real));
        bed.succeed("mkfifo", &["/run/test/ready", "/run/test/go"]);
        for keys in [
            json!({"type": "bridge", "bridge": "br0"}),
            json!({"type": "ptp"}),
            json!({"type": "macvlan", "master": "lan"}),
        ] {
            let ipam = json!({"type": "slow", "graceAge": 0, "subnet": "10.1.0.0/24"});
            let config = json!({"cniVersion": "1.0.0", "name": "pods", "ipam": ipam});
            let network = bed.network(config::changed(config, &keys));
            let call = |verb: &str| network.call(verb, "c1").netns(pod.path());
            call("ADD").run().success();
            thread::scope(|scope| {
                let del = scope.spawn(|| call("DEL").run());
                assert_eq!(bed.succeed("cat", &["/run/test/ready"]), "ready\n");
                call("ADD").run().fails_with(11, "another ADD or DEL of this attachment");
                bed.succeed("sh", &["-c", "echo go > /run/test/go"]);
                del.join().unwrap().silent();
            });
            assert!(pod.has_only_lo() && bed.leases("pods").is_empty());
        }
    });
}
