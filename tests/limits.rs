//! Every plugin without a privilege or a resource: it answers, with an error if it must, and
//! a failed ADD leaves nothing.

use serde_json::{Value, json};
use testbed::{
    Call, Fault, Outcome, Sandbox, Testbed, bin_dir,
    config::{self, changed},
    step,
};

use crate::differences::case;

/// A host on which everything that is shared is there, and the least and the most that a plugin
/// can be asked for.
struct Node<'bed> {
    bed: &'bed Testbed,
    /// Each with what a runtime would give it.
    plugins: Vec<Value>,
    pod: Sandbox,
}

fn chained(result: &Value, port: u16) -> [Value; 2] {
    let keys = json!({"cniVersion": "1.1.0", "name": "net", "prevResult": result});
    let port = config::mapping(port, 80, "tcp");
    [
        json!({"type": "firewall", "ingressPolicy": "isolated"}),
        json!({"type": "portmap", "runtimeConfig": {"portMappings": [port]}}),
    ]
    .map(|plugin| changed(plugin, &keys))
}

impl<'bed> Node<'bed> {
    fn new(bed: &'bed Testbed) -> Self {
        let keys = json!({"cniVersion": "1.1.0", "ipMasq": true, "macspoofchk": true});
        let network = bed.network(config::bridge(&changed(config::dual_stack(), &keys)));
        let first = bed.sandbox("first");
        let result = network.add(&first, "first").result();
        for config in chained(&result, 8080) {
            bed.call("ADD", "first", &config).netns(first.path()).run().success();
        }
        // For chained plugins c1 is attached already, by another network.
        let other = json!({
            "name": "other", "bridge": "br1", "cniVersion": "1.1.0",
            "ipam": {"type": "host-local", "subnet": "10.2.0.0/24"}
        });
        let other = bed.network(config::bridge(&other)).ifname("eth1");
        let inner = bed.sandbox("inner");
        let result = other.add(&inner, "c1").result();
        let [firewall, portmap] = chained(&result, 9080);
        let ipam = changed(network.config().clone(), &json!({"type": "host-local"}));
        let loopback = json!({"cniVersion": "1.1.0", "name": "net", "type": "loopback"});
        let plugins = vec![network.config().clone(), ipam, loopback, firewall, portmap];
        let node = Self { bed, plugins, pod: bed.sandbox("pod") };
        // What the first of all makes, and leaves to the others.
        for config in &node.plugins {
            node.call("ADD", config).run().success();
            node.call("DEL", config).run().silent();
        }
        node
    }

    fn call(&self, verb: &str, config: &Value) -> Call<'bed> {
        let ifname = if config["type"] == "loopback" { "lo" } else { "eth0" };
        self.bed.call(verb, "c1", config).ifname(ifname).netns(self.pod.path())
    }

    /// Runs every verb of every plugin in this way. It answers; what it did not do it has undone;
    /// and what it began can be ended.
    fn each(&self, run: impl Fn(Call<'bed>) -> Outcome) {
        for config in &self.plugins {
            let plugin = config["type"].as_str().unwrap();
            let before = self.bed.snapshot();
            if is_refused(&run(self.call("ADD", config))) {
                self.bed.assert_unchanged_since(&before);
            } else {
                self.call("DEL", config).run().silent();
            }
            let result = self.call("ADD", config).run().result();
            let known = changed(config.clone(), &json!({"prevResult": result}));
            let added = self.bed.snapshot();
            for verb in ["CHECK", "STATUS"] {
                is_refused(&run(self.call(verb, &known)));
                self.bed.assert_unchanged_since(&added);
            }
            let valid = ["first", "c1"].map(|id| json!({"containerID": id, "ifname": "eth0"}));
            let listed = json!({"cni.dev/valid-attachments": valid});
            is_refused(&run(self.call("GC", &changed(config.clone(), &listed))));
            self.bed.assert_unchanged_since(&added);
            is_refused(&run(self.call("DEL", &known)));
            self.call("DEL", &known).run().silent();
            // loopback's DEL lowers what an ADD of another plugin's may want.
            if plugin != "loopback" {
                self.bed.assert_unchanged_since(&before);
            }
        }
    }
}

/// Whether it is an error: it is one of JSON then, and no signal.
#[track_caller]
fn is_refused(outcome: &Outcome) -> bool {
    let is_refused = !outcome.status.success();
    if is_refused {
        let error = outcome.error();
        assert!(error.code > 0 && !error.msg.is_empty(), "{outcome}");
        assert!(!outcome.stderr.contains("panicked"), "{outcome}");
    }
    is_refused
}

#[test]
fn without_a_privilege_it_answers() {
    case(|bed| {
        let node = Node::new(bed);
        for privilege in ["sys_admin", "net_admin", "dac_override"] {
            println!("-- without {privilege}");
            let setpriv =
                format!("/usr/bin/setpriv --bounding-set -{privilege} --inh-caps -{privilege} --");
            node.each(|call| call.under(&setpriv).run());
        }
    });
}

#[test]
fn where_files_cannot_grow_it_answers() {
    case(|bed| {
        let node = Node::new(bed);
        for bytes in [0, 1, 100] {
            println!("-- {bytes} bytes");
            node.each(|call| call.under(&format!("/usr/bin/prlimit --fsize={bytes}")).run());
        }
    });
}

#[test]
fn with_few_files_open_it_answers() {
    case(|bed| {
        let node = Node::new(bed);
        for files in (3..=16).step_by(step(2)) {
            println!("-- {files} files");
            node.each(|call| call.under(&format!("/usr/bin/prlimit --nofile={files}")).run());
        }
    });
}

/// A thread that cannot return to the host's namespace, or cannot leave it.
#[test]
fn when_the_way_into_a_namespace_or_back_is_barred_it_answers() {
    case(|bed| {
        let node = Node::new(bed);
        for config in &node.plugins {
            let calls = Fault::each("setns", "EPERM", 1, |fault| {
                let before = bed.snapshot();
                let (outcome, was_barred) = fault.strike(bed, node.call("ADD", config));
                if !is_refused(&outcome) {
                    assert!(!was_barred, "{fault:?}: {outcome}");
                }
                // A thread that is astray touches nothing more.
                node.call("DEL", config).run().silent();
                bed.assert_unchanged_since(&before);
                was_barred
            });
            let result = node.call("ADD", config).run().result();
            let known = changed(config.clone(), &json!({"prevResult": result}));
            for verb in ["CHECK", "DEL"] {
                Fault::each("setns", "EPERM", 1, |fault| {
                    let (outcome, was_barred) = fault.strike(bed, node.call(verb, &known));
                    is_refused(&outcome);
                    was_barred
                });
            }
            node.call("DEL", &known).run().silent();
            println!("{}: {} calls", config["type"], calls - 1);
        }
    });
}

/// How many programs a call starts.
fn started(trace: &[String]) -> usize {
    trace.iter().filter(|line| line.contains("execve(") && line.ends_with("= 0")).count()
}

#[test]
fn a_plugin_that_delegates_is_no_ipam_plugin() {
    case(|bed| {
        let pod = bed.sandbox("pod");
        let real = bin_dir().join("bridge").display().to_string();
        bed.script("wrapper", &format!("#!/bin/sh\nexec {real}\n"));
        bed.ip("link add br0 address 02:00:00:00:00:99 type bridge");
        bed.set_sysctl("net/ipv6/conf/br0/accept_ra", "0");
        bed.ip("link set br0 up");
        let before = bed.snapshot();
        for kind in ["bridge", "wrapper"] {
            let keys = json!({
                "cniVersion": "1.1.0", "isGateway": false, "ipam": {"type": kind},
                "prevResult": {"cniVersion": "1.1.0", "ips": []}, "cni.dev/valid-attachments": []
            });
            let config = config::bridge(&keys);
            for verb in ["ADD", "CHECK", "DEL", "GC", "STATUS"] {
                let call = bed.call(verb, "c1", &config).netns(pod.path());
                let (outcome, trace) = bed.traced(call, "execve");
                let error = outcome.error();
                assert_eq!(error.code, 7, "{kind} {verb}: {outcome}");
                let is_named = ["names it as its \"type\"", "without end", "\"type\" of \"ipam\""]
                    .iter()
                    .any(|words| error.msg.contains(words) || error.details.contains(words));
                assert!(is_named, "{kind} {verb}: {outcome}");
                // Each of the wrapper's is two programs.
                assert!((1..=20).contains(&started(&trace)), "{kind} {verb}: {}", trace.len());
                bed.assert_unchanged_since(&before);
            }
        }
    });
}
