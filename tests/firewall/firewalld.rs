//! firewall where firewalld decides, or should.

use std::os::unix::net::UnixListener;

use serde_json::json;
use testbed::{
    bus::{Bus, Firewalld, SOCKET},
    firewall::Chain,
    ipam::DIR,
};

use crate::differences::case;

const SOURCES: [&str; 2] = ["10.1.0.2/32", "fd00:1::2/128"];

#[test]
fn where_firewalld_runs_it_is_asked() {
    case(|bed| {
        let firewalld = Firewalld::start(bed);
        for keys in [json!({}), json!({"backend": "firewalld"})] {
            let (chain, pod) = (Chain::new(bed, keys), bed.sandbox("pod"));
            chain.add(&pod, "c1");
            assert_eq!(firewalld.sources("trusted"), SOURCES);
            chain.run("CHECK", &pod, "c1").silent();
            // What is there already is as good.
            chain.run("ADD", &pod, "c1").success();
            chain.run("DEL", &pod, "c1").silent();
            assert!(firewalld.sources("trusted").is_empty());
            chain.run("DEL", &pod, "c1").silent();
            chain.bridge.del(&pod, "c1").silent();
            pod.destroy();
            bed.succeed("rm", &["-r", DIR]);
        }
    });
}

#[test]
fn sources_go_into_the_zone_of_the_configuration() {
    case(|bed| {
        let firewalld = Firewalld::start(bed);
        let keys = json!({"firewalldZone": "pods", "zone": "ignored"});
        let (chain, pod) = (Chain::new(bed, keys), bed.sandbox("pod"));
        chain.add(&pod, "c1");
        assert_eq!(firewalld.sources("pods"), SOURCES);
        assert!(firewalld.sources("trusted").is_empty() && firewalld.sources("ignored").is_empty());
    });
}

#[test]
fn the_bus_may_be_somewhere_else() {
    case(|bed| {
        let firewalld = Firewalld::start_at(bed, "/run/dbus/elsewhere");
        let (chain, pod) = (Chain::new(bed, json!({})), bed.sandbox("pod"));
        chain.bridge.add(&pod, "c1").success();
        let call = |verb: &str| {
            let address = "unix:path=/run/dbus/elsewhere";
            chain.call(verb, &pod, "c1").env("DBUS_SYSTEM_BUS_ADDRESS", address).run()
        };
        call("ADD").success();
        assert_eq!(firewalld.sources("trusted"), SOURCES);
        call("DEL").silent();
        assert!(firewalld.sources("trusted").is_empty());
    });
}

#[test]
fn a_source_that_firewalld_forgot_is_noticed() {
    case(|bed| {
        let firewalld = Firewalld::start(bed);
        let (chain, pod) = (Chain::new(bed, json!({})), bed.sandbox("pod"));
        chain.add(&pod, "c1");
        firewalld.forget();
        let check = chain.run("CHECK", &pod, "c1");
        check.fails_with(999, "10.1.0.2/32 is no source of firewalld's zone trusted");
        chain.run("DEL", &pod, "c1").silent();
    });
}

#[test]
fn del_and_gc_find_sources_without_a_result() {
    case(|bed| {
        let firewalld = Firewalld::start(bed);
        let chain = Chain::new(bed, json!({"cniVersion": "1.1.0"}));
        for verb in ["DEL", "GC"] {
            let pod = bed.sandbox(verb);
            chain.add(&pod, verb);
            assert_eq!(firewalld.sources("trusted").len(), 2);
            let mut config = chain.config(verb);
            config.as_object_mut().unwrap().remove("prevResult");
            let call = bed.plugin("firewall").command(verb).config(&config);
            call.container(verb).ifname("eth0").run().silent();
            assert!(firewalld.sources("trusted").is_empty(), "{verb}");
        }
    });
}

#[test]
fn what_firewalld_refuses_is_rolled_back() {
    case(|bed| {
        let firewalld = Firewalld::start(bed);
        let (chain, pod) = (Chain::new(bed, json!({})), bed.sandbox("pod"));
        chain.add(&bed.sandbox("earlier"), "earlier");
        chain.bridge.add(&pod, "c1").success();
        let (before, sources) = (bed.snapshot(), firewalld.sources("trusted"));
        firewalld.refuse("fd00:1::3/128");
        let outcome = chain.run("ADD", &pod, "c1");
        outcome.fails_with(999, "add source fd00:1::3/128 to firewalld's zone trusted");
        assert_eq!(firewalld.sources("trusted"), sources);
        bed.assert_unchanged_since(&before);
    });
}

#[test]
fn a_repeated_add_that_firewalld_refuses_leaves_what_was_there() {
    case(|bed| {
        let firewalld = Firewalld::start(bed);
        let (chain, pod) = (Chain::new(bed, json!({})), bed.sandbox("pod"));
        chain.add(&pod, "c1");
        let before = bed.snapshot();
        firewalld.refuse(SOURCES[1]);
        let outcome = chain.run("ADD", &pod, "c1");
        assert!(outcome.error().msg.contains(SOURCES[1]), "{outcome}");
        assert_eq!(firewalld.sources("trusted")[..1], SOURCES[..1]);
        bed.assert_unchanged_since(&before);
    });
}

#[test]
fn without_firewalld_a_bus_changes_nothing() {
    case(|bed| {
        let _bus = Bus::start(bed);
        let mut chain = Chain::new(bed, json!({}));
        let pod = bed.sandbox("pod");
        chain.add(&pod, "c1");
        assert!(bed.snapshot().lines("firewall-pods").any(|line| line.contains("10.1.0.2")));
        chain.run("CHECK", &pod, "c1").silent();
        chain.run("DEL", &pod, "c1").silent();
        chain.keys = json!({"backend": "firewalld", "cniVersion": "1.1.0"});
        chain.run("ADD", &pod, "c1").fails_with(50, "firewalld does not run");
        let status = bed.plugin("firewall").command("STATUS").config(&chain.config("")).run();
        status.fails_with(50, "firewalld does not run");
        chain.run("DEL", &pod, "c1").silent();
    });
}

#[test]
fn a_bus_that_does_not_answer_is_no_firewalld() {
    case(|bed| {
        bed.succeed("mkdir", &["-p", "/run/dbus"]);
        let socket = bed.file(SOCKET);
        let bus = UnixListener::bind(&socket).unwrap();
        let mut chain = Chain::new(bed, json!({}));
        let pod = bed.sandbox("pod");
        chain.bridge.add(&pod, "c1").success();
        let added = chain.run("ADD", &pod, "c1");
        assert!(added.success().stderr.contains("no answer within"), "{added}");
        chain.keys = json!({"backend": "firewalld"});
        chain.run("ADD", &pod, "c1").fails_with(11, "connect to the system's bus");
        drop(bus);
        // Nobody listens any more.
        chain.run("ADD", &pod, "c1").fails_with(999, "connect to the system's bus");
        let deleted = chain.run("DEL", &pod, "c1");
        deleted.silent();
        assert!(!bed.snapshot().lines("firewall-pods").any(|line| line.contains("10.1.0.2")));
    });
}
