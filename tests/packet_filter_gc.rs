//! What the packet filter has for whole subnets goes when nobody needs it, and never from under
//! somebody who is just coming.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use serde_json::{Value, json};
use testbed::{Sandbox, Testbed};

use crate::{
    differences::case,
    faults::traced,
    pods::{changed, config, destroy},
    portmap::knock,
};

/// A bridge that masquerades, and ports of the host with conditions, on a subnet of their own.
struct Chain<'bed> {
    bed: &'bed Testbed,
    plugins: [Value; 2],
}

impl<'bed> Chain<'bed> {
    fn new(bed: &'bed Testbed, number: usize) -> Self {
        let name = format!("net{number}");
        let ranges = json!([
            [{"subnet": format!("10.{number}.0.0/24")}], [{"subnet": format!("fd00:{number}::/64")}]
        ]);
        let ipam = json!({"type": "host-local", "graceAge": 0, "ranges": ranges});
        let common = json!({"cniVersion": "1.1.0", "name": name});
        let bridge = changed(config(), &json!({"bridge": format!("br{number}"), "ipam": ipam}));
        let port = json!({"hostPort": 8000 + number, "containerPort": 80, "protocol": "tcp"});
        let portmap = json!({
            "type": "portmap", "conditionsV4": [format!("ip saddr != 192.0.2.{number}")],
            "runtimeConfig": {"portMappings": [port]}
        });
        Self { bed, plugins: [changed(bridge, &common), changed(portmap, &common)] }
    }

    fn run(&self, verb: &str, plugin: &Value, pod: Option<&Sandbox>, id: &str) -> testbed::Outcome {
        let call = self.bed.plugin(plugin["type"].as_str().unwrap()).command(verb).config(plugin);
        let call = call.container(id).ifname("eth0");
        pod.map_or(call.clone(), |pod| call.netns(pod.path())).run()
    }

    /// Both plugins' ADD and CHECK.
    fn add(&self, pod: &Sandbox, id: &str) {
        let result = self.run("ADD", &self.plugins[0], Some(pod), id).result();
        let known = json!({"prevResult": result});
        let plugins = self.plugins.clone().map(|plugin| changed(plugin, &known));
        self.run("ADD", &plugins[1], Some(pod), id).success();
        for plugin in &plugins {
            self.run("CHECK", plugin, Some(pod), id).silent();
        }
    }

    fn del(&self, pod: &Sandbox, id: &str) {
        for plugin in self.plugins.iter().rev() {
            self.run("DEL", plugin, Some(pod), id).silent();
        }
    }

    fn gc(&self, valid: &[&str]) {
        let attachment = |id: &&str| json!({"containerID": id, "ifname": "eth0"});
        let valid: Value = valid.iter().map(attachment).collect();
        for plugin in &self.plugins {
            let plugin = changed(plugin.clone(), &json!({"cni.dev/valid-attachments": valid}));
            self.run("GC", &plugin, None, "").silent();
        }
    }
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
        let [one, two] = [1, 2].map(|number| Chain::new(bed, number));
        let pods = ["one", "two"].map(|id| bed.sandbox(id));
        one.add(&pods[0], "c1");
        two.add(&pods[1], "c2");
        // Of each network: masquerading and sources for two families, and one condition.
        assert_eq!(chains(bed).len(), 2 * 5);
        two.del(&pods[1], "c2");
        for _ in 0..2 {
            two.gc(&[]);
            let left = chains(bed);
            assert_eq!(left.len(), 5, "{left:?}");
            assert!(!left.iter().any(|name| name.contains("10.2") || name.contains("fd00_2")));
        }
        for outcome in &knock(&neighbour, "203.0.113.1:8001", &pods[0], 80, true)[..1] {
            assert!(outcome.is_ok(), "{outcome:?}");
        }
        two.add(&pods[1], "c2");
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
        let chain = Chain::new(bed, 1);
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
                    chain.add(&pod, "c1");
                    chain.del(&pod, "c1");
                }
                // Slowly, with time for a GC between any two steps.
                let slow = "-e trace=sendto -e inject=sendto:delay_enter=20000";
                let mut known = json!({});
                for plugin in &chain.plugins {
                    let plugin = changed(plugin.clone(), &known);
                    let output = traced(bed, "ADD", pod.path(), &plugin, slow);
                    assert!(output.status.success(), "{output:?}");
                    known["prevResult"] = serde_json::from_slice(&output.stdout).unwrap();
                    chain.run("CHECK", &changed(plugin, &known), Some(&pod), "c1").silent();
                }
                chain.del(&pod, "c1");
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
        let (neighbour, chain) = (bed.neighbour(), Chain::new(bed, 1));
        let nobody = bed.sandbox("nobody");
        for (number, verb) in [(2, "GC"), (6, "GC"), (10, "GC"), (4, "DEL"), (8, "DEL")] {
            let dead = bed.sandbox("dead");
            chain.add(&dead, "c1");
            destroy(bed, &dead);
            let valid = ["c2"].map(|id| json!({"containerID": id, "ifname": "eth0"}));
            let plugin =
                changed(chain.plugins[1].clone(), &json!({"cni.dev/valid-attachments": valid}));
            let slow = format!("-e trace=sendto -e inject=sendto:delay_enter=300000:when={number}");
            let living = bed.sandbox("living");
            thread::scope(|scope| {
                let late = scope.spawn(|| traced(bed, verb, "", &plugin, &slow));
                chain.add(&living, "c2");
                let output = late.join().unwrap();
                assert!(output.status.success(), "{output:?}");
            });
            for outcome in &knock(&neighbour, "203.0.113.1:8001", &living, 80, true)[..1] {
                assert!(outcome.is_ok(), "{verb} {number}: {outcome:?}");
            }
            chain.del(&living, "c2");
            destroy(bed, &living);
            chain.del(&nobody, "c1");
        }
    });
}
