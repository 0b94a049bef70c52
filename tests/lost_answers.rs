//! An ADD that does not hear what the kernel has done: whatever that was is rolled back.

use serde_json::{Value, json};
use testbed::{
    Fault, Sandbox, Testbed, bin_dir,
    config::{self, changed},
    step,
};

use crate::differences::case;

/// Loses each answer in turn, and has the runtime do what it does: nothing after a failed ADD.
fn lose_answers(bed: &Testbed, pod: &Sandbox, config: &Value) {
    let before = bed.snapshot();
    for error in ["ENOBUFS", "ENOMEM"] {
        let mut failures = 0;
        let number = Fault::each("recvfrom", error, step(3), |fault| {
            let call = |verb: &str| bed.call(verb, "c1", config).netns(pod.path());
            let (outcome, was_lost) = fault.strike_alone(bed, call("ADD"));
            if outcome.status.success() {
                call("DEL").run().silent();
            } else {
                failures += 1;
                assert!(!outcome.stdout.is_empty(), "{fault:?}: {outcome}");
            }
            before.assert_same(&bed.snapshot());
            was_lost
        });
        println!("{}, {error}: {number} answers, {failures} failures", config["type"]);
        assert!(error == "ENOBUFS" || failures > 2, "it hardly ever failed");
    }
}

fn chained(plugin: &Value, result: &Value) -> Value {
    changed(plugin.clone(), &json!({"cniVersion": "1.0.0", "name": "net", "prevResult": result}))
}

fn ports(first: u16) -> Value {
    let port = |host: u16| config::mapping(host, 80, "tcp");
    json!({"type": "portmap", "runtimeConfig": {"portMappings": [
        port(first), port(first + 1),
        {"hostPort": first + 10, "containerPort": first + 10, "protocol": "udp", "hostIP": "10.1.0.1"}
    ]}})
}

/// A host where what is shared is there, with an attachment, and another one to be completed by
/// the chained plugins.
fn complete(bed: &Testbed, plugin: &Value, other: &Value) {
    let network = bed.network(config::bridge(&config::dual_stack()));
    let add = |id: &str, plugin: &Value| {
        let pod = bed.sandbox(id);
        let config = chained(plugin, &network.add(&pod, id).result());
        (pod, config)
    };
    let (first, config) = add("first", other);
    bed.call("ADD", "first", &config).netns(first.path()).run().success();
    let (pod, config) = add("c1", plugin);
    lose_answers(bed, &pod, &config);
}

#[test]
fn of_a_bridge() {
    case(|bed| {
        let keys = changed(config::dual_stack(), &json!({"ipMasq": true, "macspoofchk": true}));
        let network = bed.network(config::bridge(&keys));
        network.add(&bed.sandbox("first"), "first").success();
        lose_answers(bed, &bed.sandbox("pod"), &config::bridge(&keys));
    });
}

#[test]
fn of_host_ports() {
    case(|bed| complete(bed, &ports(8080), &ports(9080)));
}

#[test]
fn of_a_firewall() {
    case(|bed| {
        let firewall = json!({"type": "firewall", "ingressPolicy": "isolated"});
        complete(bed, &firewall, &firewall);
    });
}

/// What an ADD has made does not go with another ADD of the same attachment that fails.
#[test]
fn an_add_that_is_refused_takes_nothing_from_the_one_before() {
    case(|bed| {
        let network = bed.network(config::bridge(&config::dual_stack()));
        let pod = bed.sandbox("pod");
        let result = network.add(&pod, "c1").result();
        let firewall = json!({"type": "firewall", "ingressPolicy": "isolated"});
        for plugin in [ports(8080), firewall] {
            let config = chained(&plugin, &result);
            let kind = config["type"].as_str().unwrap();
            let call = |verb: &str| bed.call(verb, "c1", &config).netns(pod.path());
            call("ADD").run().success();
            let before = bed.snapshot();
            let own = bin_dir().join(kind);
            bed.script(kind, &format!("#!/bin/sh\nexec {} >/dev/full\n", own.display()));
            let unheard = call("ADD").run();
            assert!(!unheard.status.success(), "{unheard}");
            bed.succeed("rm", &[&format!("/run/test/plugins/{kind}")]);
            bed.assert_unchanged_since(&before);
            call("CHECK").run().silent();
        }
    });
}
