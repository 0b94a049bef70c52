//! What the packet filter has for whole subnets goes when nobody needs it, and never from under
//! somebody who is just coming.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use serde_json::{Value, json};
use testbed::{
    Sandbox, Testbed,
    chain::{Chain, with_result, with_valid},
    config::{self, changed, mapping},
    reach::knock,
};

use crate::differences::case;

/// A bridge that masquerades, and a port of the host with conditions, on a subnet of their own.
fn chain(bed: &Testbed, number: u16) -> Chain<'_> {
    let ranges = json!([
        [{"subnet": format!("10.{number}.0.0/24")}], [{"subnet": format!("fd00:{number}::/64")}]
    ]);
    let ipam = json!({"type": "host-local", "graceAge": 0, "ranges": ranges});
    let common = json!({"cniVersion": "1.1.0", "name": format!("net{number}")});
    let bridge = config::pods_with(&json!({"bridge": format!("br{number}"), "ipam": ipam}));
    let portmap = json!({
        "type": "portmap", "conditionsV4": [format!("ip saddr != 192.0.2.{number}")],
        "runtimeConfig": {"portMappings": [mapping(8000 + number, 80, "tcp")]}
    });
    Chain::new(bed, [bridge, portmap].map(|plugin| changed(plugin, &common)))
}

/// Both plugins' ADD and CHECK.
fn add(chain: &Chain<'_>, pod: &Sandbox, id: &str) {
    let result = chain.add(pod, id);
    chain.check(pod, id, &result);
}

/// Both plugins' DEL, which are not told the result of ADD.
fn del(chain: &Chain<'_>, pod: &Sandbox, id: &str) {
    chain.del(pod, id, &Value::Null);
}

/// The names of chains that are not there for everybody.
fn chains(bed: &Testbed) -> Vec<String> {
    let listed = bed.succeed("nft", &["list", "chains"]);
    let names = listed.lines().filter_map(|line| line.trim().strip_prefix("chain "));
    let names = names.map(|name| name.trim_end_matches(" {").to_owned());
    let is_meant = |name: &String| {
        ["masquerade-", "hostport-sources-", "hostports-if-"]
            .iter()
            .any(|one| name.starts_with(one))
    };
    names.filter(is_meant).collect()
}

#[test]
fn chains_that_nobody_needs_go_with_gc() {
    case(|bed| {
        let neighbour = bed.neighbour();
        let [one, two] = [1, 2].map(|number| chain(bed, number));
        let pods = ["one", "two"].map(|id| bed.sandbox(id));
        add(&one, &pods[0], "c1");
        add(&two, &pods[1], "c2");
        // Of each network: masquerading and sources for two families, and one condition.
        assert_eq!(chains(bed).len(), 2 * 5);
        del(&two, &pods[1], "c2");
        for _ in 0..2 {
            two.gc(&[]);
            let left = chains(bed);
            assert_eq!(left.len(), 5, "{left:?}");
            assert!(!left.iter().any(|name| name.contains("10.2") || name.contains("fd00_2")));
        }
        for outcome in &knock(&neighbour, "203.0.113.1:8001", &pods[0], 80, true)[..1] {
            assert!(outcome.is_ok(), "{outcome:?}");
        }
        add(&two, &pods[1], "c2");
        one.gc(&[]);
        assert_eq!(chains(bed).len(), 5);
        for outcome in &knock(&neighbour, "203.0.113.1:8002", &pods[1], 80, true)[..1] {
            assert!(outcome.is_ok(), "{outcome:?}");
        }
    });
}

#[test]
fn gc_takes_no_chain_from_who_is_just_coming() {
    case(|bed| {
        let chain = chain(bed, 1);
        let pod = bed.sandbox("pod");
        let is_over = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| {
                while !is_over.load(Ordering::Relaxed) {
                    chain.gc(&["c1"]);
                }
            });
            let rounds = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                for _ in 0..30 {
                    add(&chain, &pod, "c1");
                    del(&chain, &pod, "c1");
                }
                // Slowly, with time for a GC between any two steps.
                let mut result = Value::Null;
                for plugin in &chain.plugins {
                    let config = with_result(plugin, &result);
                    let slow = bed.call("ADD", "c1", &config).netns(pod.path());
                    result = bed.slowly(slow, 20_000, None).result();
                    let config = with_result(plugin, &result);
                    chain.run("CHECK", &config, &pod, "c1").silent();
                }
                del(&chain, &pod, "c1");
            }));
            is_over.store(true, Ordering::Relaxed);
            rounds.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        });
        chain.gc(&[]);
        assert_eq!(chains(bed), [""; 0]);
    });
}

/// The port and the address of a pod that is dead go to another one between the look and the
/// deletion: what was judged is what goes.
#[test]
fn who_comes_to_have_what_the_dead_had_keeps_it() {
    case(|bed| {
        let (neighbour, chain) = (bed.neighbour(), chain(bed, 1));
        let nobody = bed.sandbox("nobody");
        for (number, verb) in [(2, "GC"), (6, "GC"), (10, "GC"), (4, "DEL"), (8, "DEL")] {
            let dead = bed.sandbox("dead");
            add(&chain, &dead, "c1");
            bed.destroy(&dead);
            let config = with_valid(&chain.plugins[1], &["c2"]);
            let living = bed.sandbox("living");
            thread::scope(|scope| {
                let slow = bed.call(verb, "c1", &config).netns("");
                let late = scope.spawn(|| bed.slowly(slow, 300_000, Some(number)));
                add(&chain, &living, "c2");
                late.join().unwrap().success();
            });
            for outcome in &knock(&neighbour, "203.0.113.1:8001", &living, 80, true)[..1] {
                assert!(outcome.is_ok(), "{verb} {number}: {outcome:?}");
            }
            del(&chain, &living, "c2");
            bed.destroy(&living);
            del(&chain, &nobody, "c1");
        }
    });
}
