//! An ADD that does not hear what the kernel has done: whatever that was is taken back.

use serde_json::{Value, json};
use testbed::{Sandbox, Testbed};

use crate::{
    bridge::{config, dual},
    differences::case,
    faults::failing,
    pods::changed,
};

/// All faults of a kind take their time; a test by itself tries some of them.
fn step() -> usize {
    if std::env::var_os("TORTURE").is_some() { 1 } else { 3 }
}

/// Loses each answer in turn, and has the runtime do what it does: nothing after a failed ADD.
fn lose_answers(bed: &Testbed, pod: &Sandbox, config: &Value) {
    let before = bed.snapshot();
    for error in ["ENOBUFS", "ENOMEM"] {
        let (mut failures, mut number) = (0, 1);
        loop {
            let fault = ("recvfrom", error, number);
            let (output, was_lost) = failing(bed, ("ADD", pod.path(), config), fault);
            if output.status.success() {
                let call = bed.plugin(config["type"].as_str().unwrap()).command("DEL");
                let call = call.container("c1").ifname("eth0").netns(pod.path()).config(config);
                call.run().silent();
            } else {
                failures += 1;
                assert!(!output.stdout.is_empty(), "{fault:?}: {output:?}");
            }
            before.assert_same(&bed.snapshot());
            if !was_lost {
                break;
            }
            number += step();
        }
        println!("{}, {error}: {number} answers, {failures} failures", config["type"]);
        assert!(error == "ENOBUFS" || failures > 2, "it hardly ever failed");
    }
}

fn chained(plugin: &Value, result: &Value) -> Value {
    changed(plugin.clone(), &json!({"cniVersion": "1.0.0", "name": "net", "prevResult": result}))
}

fn ports(first: u16) -> Value {
    let port = |host: u16| json!({"hostPort": host, "containerPort": 80, "protocol": "tcp"});
    json!({"type": "portmap", "runtimeConfig": {"portMappings": [
        port(first), port(first + 1),
        {"hostPort": first + 10, "containerPort": first + 10, "protocol": "udp", "hostIP": "10.1.0.1"}
    ]}})
}

/// A host where what is shared is there, with an attachment, and another one to be completed by
/// the chained plugins.
fn complete(bed: &Testbed, plugin: &Value, other: &Value) {
    let network = bed.network(config(&dual()));
    let add = |id: &str, plugin: &Value| {
        let pod = bed.sandbox(id);
        let config = chained(plugin, &network.add(&pod, id).result());
        (pod, config)
    };
    let (first, config) = add("first", other);
    let call = bed.plugin(config["type"].as_str().unwrap()).command("ADD").container("first");
    call.ifname("eth0").netns(first.path()).config(&config).run().success();
    let (pod, config) = add("c1", plugin);
    lose_answers(bed, &pod, &config);
}

#[test]
fn of_a_bridge() {
    case(|bed| {
        let keys = changed(dual(), &json!({"ipMasq": true, "macspoofchk": true}));
        let network = bed.network(config(&keys));
        network.add(&bed.sandbox("first"), "first").success();
        lose_answers(bed, &bed.sandbox("pod"), &config(&keys));
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
        let network = bed.network(config(&dual()));
        let pod = bed.sandbox("pod");
        let result = network.add(&pod, "c1").result();
        let firewall = json!({"type": "firewall", "ingressPolicy": "isolated"});
        for plugin in [ports(8080), firewall] {
            let config = chained(&plugin, &result);
            let kind = config["type"].as_str().unwrap();
            let call = bed.plugin(kind).container("c1").ifname("eth0").netns(pod.path());
            call.clone().command("ADD").config(&config).run().success();
            let before = bed.snapshot();
            let own = testbed::bin_dir().join(kind);
            bed.script(kind, &format!("#!/bin/sh\nexec {} >/dev/full\n", own.display()));
            let double = bed.plugin(kind).container("c1").ifname("eth0").netns(pod.path());
            let unheard = double.command("ADD").config(&config).run();
            assert!(!unheard.status.success(), "{unheard}");
            bed.succeed("rm", &[&format!("/run/test/plugins/{kind}")]);
            bed.assert_unchanged_since(&before);
            call.command("CHECK").config(&config).run().silent();
        }
    });
}
