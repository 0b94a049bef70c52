//! DEL and GC: whatever the runtime still knows, what an attachment had is gone, and nothing else.

use serde_json::{Value, json};
use testbed::{
    Call, Sandbox, Testbed,
    config::{self, changed},
    result::addresses,
    warm::Warm,
};

use crate::differences::{case, case_each};

/// What has become of the namespace by the time of DEL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Netns {
    Present,
    /// The path leads nowhere.
    Gone,
    /// An ordinary file is at its path.
    File,
    /// It is there, and the runtime does not say where.
    Untold,
    /// Another container's is at its path.
    Reused,
}

/// What the runtime still knows of the result.
#[derive(Clone, Copy, Debug)]
enum Memory {
    Full,
    Absent,
    Corrupt,
    /// Of a runtime that was set to an older version meanwhile.
    Older,
}

const MEMORIES: [Memory; 4] = [Memory::Full, Memory::Absent, Memory::Corrupt, Memory::Older];

fn remembered(config: &Value, result: &Value, memory: Memory) -> Value {
    match memory {
        Memory::Full => changed(config.clone(), &json!({"prevResult": result})),
        Memory::Absent => config.clone(),
        Memory::Corrupt => {
            let corrupt = json!({"cniVersion": "1.0.0", "ips": "none", "interfaces": [7]});
            changed(config.clone(), &json!({"prevResult": corrupt}))
        }
        Memory::Older => {
            let mut result = result.clone();
            result["cniVersion"] = json!("0.4.0");
            for ip in result["ips"].as_array_mut().into_iter().flatten() {
                let version = if ip["address"].as_str().unwrap().contains(':') { "6" } else { "4" };
                ip["version"] = json!(version);
            }
            changed(config.clone(), &json!({"cniVersion": "0.4.0", "prevResult": result}))
        }
    }
}

fn attach_and_detach(bed: &Testbed, netns: Netns, memories: &[Memory]) {
    let warm = Warm::new(bed, config::pods());
    let before = bed.snapshot();
    for memory in memories {
        println!("-- {netns:?}, {memory:?}");
        let pod = bed.sandbox("pod");
        let result = warm.network.add(&pod, "c1").result();
        if matches!(netns, Netns::Gone | Netns::File | Netns::Reused) {
            pod.destroy();
        }
        if netns == Netns::File {
            bed.write(pod.path(), "not a namespace");
        }
        let other = (netns == Netns::Reused).then(|| bed.sandbox("pod"));
        if let Some(other) = &other {
            warm.network.add(other, "c2").success();
        }
        let config = remembered(warm.network.config(), &result, *memory);
        let del = warm.network.call("DEL", "c1").config(&config);
        let path = if netns == Netns::Untold { "" } else { pod.path() };
        for _ in 0..2 {
            del.clone().netns(path).run().silent();
        }
        if let Some(other) = &other {
            warm.assert_connected(other);
            warm.network.del(other, "c2").silent();
        }
        match netns {
            Netns::Present | Netns::Untold => {
                assert_eq!(pod.ip_json("link show").as_array().map(Vec::len), Some(1), "only lo");
                pod.destroy();
            }
            Netns::Reused => pod.destroy(),
            Netns::File => drop(bed.succeed("rm", &[pod.path()])),
            Netns::Gone => {}
        }
        bed.assert_unchanged_since(&before);
    }
    warm.assert_connected(&warm.first);
    warm.network.check(&warm.first, "first").silent();
}

/// DEL of each plugin, whatever the runtime still knows and whatever has become of the namespace.
#[test]
fn whatever_is_known_of_it_nothing_is_left() {
    case_each(|first| {
        first.add().success();
        first.call_del().run().silent();
        let before = first.bed.snapshot();
        for memory in MEMORIES {
            for is_told in [true, false] {
                let it = first.another();
                let inside = it.inside();
                let config = remembered(&it.config, &it.add().result(), memory);
                let del = it.call("DEL").config(&config);
                if is_told {
                    del.clone().run().silent();
                    assert_eq!(it.inside(), inside, "{memory:?}");
                    del.clone().run().silent();
                    it.leave();
                } else {
                    it.pod.destroy();
                    del.clone().run().silent();
                    del.netns("").run().silent();
                    it.forget();
                }
                first.bed.assert_back_to(&before);
            }
        }
    });
}

#[test]
fn nothing_is_left_when_the_namespace_is_there() {
    case(|bed| attach_and_detach(bed, Netns::Present, &MEMORIES));
}

#[test]
fn nothing_is_left_when_the_namespace_is_gone() {
    case(|bed| attach_and_detach(bed, Netns::Gone, &MEMORIES));
}

#[test]
fn nothing_is_left_when_the_path_is_no_namespace() {
    case(|bed| attach_and_detach(bed, Netns::File, &MEMORIES));
}

#[test]
fn nothing_is_left_when_the_path_is_not_told() {
    case(|bed| attach_and_detach(bed, Netns::Untold, &MEMORIES));
}

#[test]
fn nobody_is_cut_off_when_the_path_is_used_again() {
    case(|bed| attach_and_detach(bed, Netns::Reused, &MEMORIES));
}

/// DEL of a container with the result of another one.
fn detach_with_a_wrong_result(warm: &Warm<'_>) {
    let pod = warm.bed.sandbox("pod");
    warm.network.add(&pod, "c1").success();
    let result = warm.network.result("first").unwrap();
    let config = changed(config::pods(), &json!({"prevResult": result}));
    warm.network.call("DEL", "c1").netns(pod.path()).config(&config).run().silent();
    pod.destroy();
}

#[test]
fn nobody_is_cut_off_by_a_wrong_result() {
    case(|bed| {
        let warm = Warm::new(bed, config::pods());
        detach_with_a_wrong_result(&warm);
        warm.assert_connected(&warm.first);
        warm.network.check(&warm.first, "first").silent();
    });
}

#[test]
fn nothing_is_left_when_the_result_is_wrong() {
    case(|bed| {
        let warm = Warm::new(bed, config::pods());
        let before = bed.snapshot();
        detach_with_a_wrong_result(&warm);
        bed.assert_unchanged_since(&before);
    });
}

#[test]
fn nobody_is_cut_off_by_a_late_del() {
    case(|bed| {
        // One address for all: whoever comes next has it.
        let only =
            |ip: &str| json!([{"subnet": format!("{ip}/120"), "rangeStart": ip, "rangeEnd": ip}]);
        let v4 =
            json!([{"subnet": "10.1.0.0/24", "rangeStart": "10.1.0.9", "rangeEnd": "10.1.0.9"}]);
        let mut v6 = only("fd00:1::99");
        v6[0]["subnet"] = json!("fd00:1::/64");
        let ipam = json!({"type": "host-local", "ranges": [v4, v6]});
        let warm = Warm::new(bed, config::pods_with(&json!({"ipam": ipam})));
        let result = warm.network.result("first").unwrap();
        assert_eq!(addresses(&result), ["10.1.0.9", "fd00:1::99"]);
        // The lease ends without the bridge's knowledge, as by pools that heal and by people.
        let release = bed.plugin("host-local").command("DEL").container("first").ifname("eth0");
        release.config(warm.network.config()).run().silent();
        bed.destroy(&warm.first);
        let pod = bed.sandbox("pod");
        assert_eq!(addresses(&warm.network.add(&pod, "c2").result()), addresses(&result));
        warm.assert_connected(&pod);
        warm.network.del(&warm.first, "first").silent();
        warm.assert_connected(&pod);
        warm.network.check(&pod, "c2").silent();
        assert!(bed.leases("pods").values().all(|owner| owner == "c2 eth0"));
    });
}

#[test]
fn ten_lost_namespaces_leave_nothing() {
    case(|bed| {
        let warm = Warm::new(bed, config::pods());
        let before = bed.snapshot();
        for round in 0..10 {
            let pod = bed.sandbox("pod");
            let container = format!("c{round}");
            warm.network.add(&pod, &container).success();
            pod.destroy();
            warm.network.call("DEL", &container).netns("").run().silent();
        }
        bed.assert_unchanged_since(&before);
    });
}

#[test]
fn what_was_never_added_is_gone() {
    case(|bed| {
        let (network, pod) = (bed.network(config::pods()), bed.sandbox("pod"));
        let before = bed.snapshot();
        let del = |call: Call<'_>| {
            call.clone().netns(pod.path()).run().silent();
            call.clone().netns("/run/netns/none").run().silent();
            call.netns("").run().silent();
        };
        del(network.call("DEL", "c1"));
        bed.assert_unchanged_since(&before);
        let warm = Warm::new(bed, config::pods());
        let before = bed.snapshot();
        del(warm.network.call("DEL", "c1"));
        // An interface of that name which is none of ours.
        pod.ip("link add eth0 type bridge");
        warm.network.call("DEL", "c1").netns("").run().silent();
        assert!(pod.ip("link").contains("eth0"));
        bed.assert_unchanged_since(&before);
        warm.assert_connected(&warm.first);
    });
}

#[test]
fn a_second_interface_stays() {
    case(|bed| {
        let warm = Warm::new(bed, config::pods());
        let second = bed.network(config::pods()).ifname("net1");
        let before = bed.snapshot();
        let add = |name| {
            second.call("ADD", name).netns(warm.first.path()).config(&config::pods_with(
                // One default route is enough.
                &json!({"isDefaultGateway": false, "isGateway": true}),
            ))
        };
        add("first").run().success();
        second.call("DEL", "first").netns(warm.first.path()).run().silent();
        bed.assert_unchanged_since(&before);
        warm.assert_connected(&warm.first);
    });
}

fn newest(changes: &Value) -> Value {
    changed(config::pods_with(&json!({"cniVersion": "1.1.0"})), changes)
}

#[test]
fn gc_removes_what_lost_containers_had() {
    case(|bed| {
        let warm = Warm::new(bed, newest(&json!({})));
        let add = |name: &str| {
            let pod = bed.sandbox(name);
            warm.network.add(&pod, name).success();
            pod
        };
        let kept: Vec<Sandbox> = ["a", "b", "c"].map(add).into();
        let before = bed.snapshot();
        let lost: Vec<Sandbox> = ["x", "y", "z"].map(add).into();
        lost[0].destroy();
        warm.network.gc(&["first", "a", "b", "c", "never-added"]).silent();
        for pod in &lost[1..] {
            assert_eq!(pod.ip_json("link show").as_array().map(Vec::len), Some(1), "only lo");
            pod.destroy();
        }
        bed.assert_unchanged_since(&before);
        for (pod, name) in kept.iter().zip(["a", "b", "c"]) {
            warm.assert_connected(pod);
            warm.network.check(pod, name).silent();
        }
        // Twice is once; and late DELs find nothing to do.
        warm.network.gc(&["first", "a", "b", "c"]).silent();
        for name in ["x", "y", "z"] {
            warm.network.call("DEL", name).netns("").run().silent();
        }
        bed.assert_unchanged_since(&before);
    });
}

#[test]
fn gc_of_nobody_leaves_what_is_shared() {
    case(|bed| {
        let warm = Warm::new(bed, newest(&json!({})));
        warm.network.del(&warm.first, "first").silent();
        // What is of a subnet goes with its last pod.
        warm.network.gc(&[]).silent();
        let before = bed.snapshot();
        assert!(before.lines("\"postrouting\"").count() > 0);
        let lost = ["x", "y", "z"].map(|name| {
            let pod = bed.sandbox(name);
            warm.network.add(&pod, name).success();
            pod
        });
        warm.network.gc(&[]).silent();
        lost.iter().for_each(Sandbox::destroy);
        bed.assert_unchanged_since(&before);
    });
}

#[test]
fn gc_touches_no_other_network() {
    case(|bed| {
        let warm = Warm::new(bed, newest(&json!({})));
        // Names that begin alike, on the same bridge, with the same container.
        let others = [("pod", 7), ("pods2", 8), ("pods-x", 9)].map(|(name, number)| {
            let subnet = format!("10.{number}.0.0/16");
            let ipam = json!({"type": "host-local", "subnet": subnet});
            let changes = json!({"name": name, "isDefaultGateway": null, "ipam": ipam});
            let (network, pod) = (bed.network(newest(&changes)), bed.sandbox(name));
            network.add(&pod, "first").success();
            (network, pod)
        });
        let before = bed.snapshot();
        let lost = bed.sandbox("lost");
        warm.network.add(&lost, "lost").success();
        lost.destroy();
        warm.network.gc(&["first"]).silent();
        bed.assert_unchanged_since(&before);
        for (network, pod) in &others {
            network.check(pod, "first").silent();
        }
        warm.assert_connected(&warm.first);
    });
}
