//! Attachments that are gone without a DEL: the ADD that comes again, GC, and an ADD without room.

use std::{
    os::linux::net::SocketAddrExt as _,
    os::unix::net::{SocketAddr, UnixDatagram},
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use serde_json::{Value, json};
use testbed::{
    Outcome, Testbed, config,
    ipam::{Ipam, held},
    result::{addresses, cidrs},
};

use crate::differences::case;

/// A network as of today, whose leases are young for as long as a test takes.
fn newest<'bed>(bed: &'bed Testbed, subnet: &str, more: &Value) -> Ipam<'bed> {
    let ipam = config::changed(json!({"subnet": subnet}), more);
    let mut config = config::host_local("net", &ipam);
    config["cniVersion"] = json!("1.1.0");
    Ipam::of(bed, config)
}

/// ADD through a plugin that makes this link of the host.
fn add(ipam: &Ipam<'_>, container: &str, link: &str) -> Outcome {
    ipam.call(container).env("GIRDER_LINK", link).run()
}

fn ip(outcome: &Outcome) -> String {
    cidrs(&outcome.result()).remove(0)
}

/// What an ADD holds while it runs.
fn running(bed: &Testbed, link: &str) -> UnixDatagram {
    let name = SocketAddr::from_abstract_name(format!("girder/{link}")).unwrap();
    bed.enter(|| UnixDatagram::bind_addr(&name).unwrap())
}

/// Ends it: nobody has the name any more, nor has a process that another test is just starting.
fn end(bed: &Testbed, socket: UnixDatagram, link: &str) {
    drop(socket);
    let name = SocketAddr::from_abstract_name(format!("girder/{link}")).unwrap();
    bed.enter(|| while UnixDatagram::bind_addr(&name).is_err() {});
}

fn owners(bed: &Testbed) -> Vec<String> {
    held(bed).into_iter().map(|(_, owner)| owner).collect()
}

const DUPLICATE: &str = "duplicate allocation is not allowed";

#[test]
fn after_a_reboot_a_container_gets_its_address_again() {
    case(|bed| {
        let before = newest(bed, "10.1.2.0/24", &json!({}));
        for container in ["c1", "c2", "c3"] {
            before.add(container).success();
        }
        before.add("c2").fails_with(999, DUPLICATE);
        bed.reboot();
        let ipam = newest(bed, "10.1.2.0/24", &json!({}));
        assert_eq!(ip(&ipam.add("c2")), "10.1.2.3/24");
        ipam.add("c2").fails_with(999, DUPLICATE);
        assert_eq!(owners(bed), ["c1 eth0", "c2 eth0", "c3 eth0"]);
        assert_eq!(bed.leases("net"), bed.lease_files("net"));
        ipam.network.check(&ipam.pod, "c2").silent();
        ipam.del("c2");
        assert_eq!(owners(bed), ["c1 eth0", "c3 eth0"]);
    });
}

#[test]
fn only_a_living_one_is_refused_when_its_link_is_known() {
    case(|bed| {
        let ipam = newest(bed, "10.1.2.0/24", &json!({"reclaim": "never"}));
        bed.ip("link add veth-c1 type bridge");
        assert_eq!(ip(&add(&ipam, "c1", "veth-c1")), "10.1.2.2/24");
        add(&ipam, "c2", "veth-c2").success();
        add(&ipam, "c1", "veth-c1").fails_with(999, DUPLICATE);
        // Neither an ADD that tells no link nor one that tells another proves anything.
        ipam.add("c1").fails_with(999, DUPLICATE);
        add(&ipam, "c1", "veth-new").fails_with(999, DUPLICATE);
        bed.ip("link del veth-c1");
        let again = add(&ipam, "c1", "veth-c1");
        assert_eq!(ip(&again), "10.1.2.2/24");
        assert!(again.stderr.contains("its link veth-c1 is gone"), "{again}");
        // The ADD that asks holds the socket of its link itself, and may have made the link by now;
        // that of another is alive by it.
        let socket = running(bed, "veth-c1");
        assert_eq!(ip(&add(&ipam, "c1", "veth-c1")), "10.1.2.2/24");
        bed.ip("link add veth-c1 type bridge");
        assert_eq!(ip(&add(&ipam, "c1", "veth-c1")), "10.1.2.2/24");
        bed.ip("link del veth-c1");
        add(&ipam, "c1", "veth-new").fails_with(999, DUPLICATE);
        drop(socket);
        assert_eq!(ip(&add(&ipam, "c1", "veth-new")), "10.1.2.2/24");
        assert_eq!(owners(bed), ["c1 eth0", "c2 eth0"]);
        assert_eq!(bed.leases("net"), bed.lease_files("net"));
    });
}

#[test]
fn without_a_link_a_path_that_is_gone_proves_nothing() {
    case(|bed| {
        let ipam = newest(bed, "10.1.2.0/24", &json!({}));
        let first = bed.sandbox("first");
        ipam.network.add(&first, "c1").success();
        first.destroy();
        ipam.add("c1").fails_with(999, DUPLICATE);
        let second = bed.sandbox("first");
        ipam.network.add(&second, "c1").fails_with(999, DUPLICATE);
        assert_eq!(owners(bed), ["c1 eth0"]);
    });
}

#[test]
fn another_address_that_is_asked_for_is_given_and_the_lost_one_is_free() {
    case(|bed| {
        let ipam = newest(bed, "10.1.2.0/29", &json!({}));
        add(&ipam, "c1", "veth-c1").success();
        add(&ipam, "c2", "veth-c2").success();
        let mut config = ipam.network.config().clone();
        config["runtimeConfig"] = json!({"ips": ["10.1.2.5"]});
        let wish = ipam.call("c1").env("GIRDER_LINK", "veth-c1").config(&config);
        assert_eq!(ip(&wish.run()), "10.1.2.5/29");
        let expected = [("10.1.2.3", "c2 eth0"), ("10.1.2.5", "c1 eth0")];
        assert_eq!(held(bed), expected.map(|(ip, owner)| (ip.to_owned(), owner.to_owned())));
        assert_eq!(bed.leases("net"), bed.lease_files("net"));
    });
}

#[test]
fn a_pod_whose_interface_or_namespace_was_lost_gets_its_addresses_again() {
    case(|bed| {
        let (network, pod) = (bed.network(config::pods()), bed.sandbox("pod"));
        let first = bed.sandbox("first");
        network.add(&first, "first").success();
        let expected = addresses(&network.add(&pod, "c1").result());
        // The same namespace.
        pod.ip("link del eth0");
        assert_eq!(addresses(&network.add(&pod, "c1").result()), expected);
        network.check(&pod, "c1").silent();
        assert!(!network.add(&pod, "c1").status.success(), "it lives");
        network.check(&pod, "c1").silent();
        // Another one.
        bed.destroy(&pod);
        let pod = bed.sandbox("pod");
        assert_eq!(addresses(&network.add(&pod, "c1").result()), expected);
        network.check(&pod, "c1").silent();
        network.check(&first, "first").silent();
        network.del(&pod, "c1").silent();
        assert_eq!(bed.leases("pods").len(), 2);
    });
}

#[test]
fn gc_ends_at_any_age_what_has_lost_its_link_but_not_an_add_that_runs() {
    case(|bed| {
        let ipam = newest(bed, "10.1.2.0/24", &json!({}));
        bed.ip("link add veth-up type bridge");
        add(&ipam, "up", "veth-up").success();
        add(&ipam, "begins", "veth-begins").success();
        add(&ipam, "listed", "veth-listed").success();
        ipam.add("no-link").success();
        let socket = running(bed, "veth-begins");
        add(&ipam, "lost", "veth-lost").success();
        ipam.network.gc(&["listed"]).silent();
        assert_eq!(owners(bed), ["up eth0", "begins eth0", "listed eth0", "no-link eth0"]);
        end(bed, socket, "veth-begins");
        ipam.network.gc(&["listed"]).silent();
        assert_eq!(owners(bed), ["up eth0", "listed eth0", "no-link eth0"]);
        bed.ip("link del veth-up");
        ipam.network.gc(&[]).silent();
        assert_eq!(owners(bed), ["no-link eth0"]);
    });
}

#[test]
fn without_room_what_has_lost_its_link_goes_first_at_any_age() {
    case(|bed| {
        let ipam = newest(bed, "10.1.2.0/30", &json!({}));
        let socket = running(bed, "veth-1");
        add(&ipam, "c1", "veth-1").success();
        ipam.add("c2").fails_with(11, "1 of 1 in use, 0 of them look leaked");
        bed.ip("link add veth-1 type bridge");
        drop(socket);
        ipam.add("c2").fails_with(11, "1 of 1 in use, 0 of them look leaked");
        bed.ip("link del veth-1");
        let mut never = ipam.network.config().clone();
        never["ipam"]["reclaim"] = json!("never");
        ipam.call("c2").config(&never).run().fails_with(11, "1 of them look leaked");
        // One of many gets what there is.
        let ipam = &ipam;
        let won: Vec<_> = thread::scope(|scope| {
            let add = |number| scope.spawn(move || ipam.add(&format!("n{number}")));
            let running: Vec<_> = (0..8).map(add).collect();
            running.into_iter().map(|add| add.join().unwrap()).collect()
        });
        let (won, lost): (Vec<_>, Vec<_>) = won.iter().partition(|one| one.status.success());
        assert_eq!((won.len(), held(bed).len()), (1, 1));
        assert_eq!(ip(won[0]), "10.1.2.2/30");
        assert!(lost.iter().all(|one| one.error_code() == 11));
        assert_eq!(bed.leases("net"), bed.lease_files("net"));
    });
}

/// An ADD holds its socket before it has a lease, and until its link is there: whenever GC comes,
/// one of the two is there.
#[test]
fn no_gc_comes_between_a_lease_and_its_link() {
    case(|bed| {
        let ipam = &newest(bed, "10.1.0.0/16", &json!({}));
        let is_over = &AtomicBool::new(false);
        thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    while !is_over.load(Ordering::Relaxed) {
                        ipam.network.gc(&[]).silent();
                    }
                });
            }
            let rounds = scope.spawn(move || {
                for round in 0..60 {
                    let (container, link) = (format!("c{round}"), format!("veth-{round}"));
                    let socket = running(bed, &link);
                    add(ipam, &container, &link).success();
                    bed.ip(&format!("link add {link} type bridge"));
                    drop(socket);
                }
            });
            let outcome = rounds.join();
            is_over.store(true, Ordering::Relaxed);
            outcome.unwrap();
        });
        assert_eq!(held(bed).len(), 60, "{:?}", held(bed));
        assert_eq!(bed.leases("net"), bed.lease_files("net"));
    });
}

/// It is looked for where it was when it was recorded.
#[test]
fn in_another_network_namespace_a_missing_link_proves_nothing() {
    case(|bed| {
        let ipam = newest(bed, "10.1.2.0/30", &json!({}));
        bed.ip("link add veth-c1 type bridge");
        add(&ipam, "c1", "veth-c1").success();
        let other = bed.sandbox("other");
        let nsenter = format!("/usr/bin/nsenter --net={} --", other.path());
        let elsewhere = |container: &str, link: &str| {
            ipam.call(container).env("GIRDER_LINK", link).under(&nsenter).run()
        };
        elsewhere("c2", "veth-c2").fails_with(11, "1 of 1 in use");
        elsewhere("c1", "veth-c1").fails_with(999, DUPLICATE);
        let gc = ipam.network.call("GC", "").config(&with_valid(&ipam, &[])).under(&nsenter);
        gc.run().silent();
        assert_eq!(owners(bed), ["c1 eth0"]);
        // Nor does one of that name there.
        other.ip("link add veth-c1 type bridge");
        bed.ip("link del veth-c1");
        elsewhere("c2", "veth-c2").fails_with(11, "1 of 1 in use");
        // Where it was, it does.
        assert_eq!(ip(&add(&ipam, "c2", "veth-c2")), "10.1.2.2/30");
        assert_eq!(owners(bed), ["c2 eth0"]);
    });
}

fn with_valid(ipam: &Ipam<'_>, valid: &[Value]) -> Value {
    let mut config = ipam.network.config().clone();
    config["cni.dev/valid-attachments"] = json!(valid);
    config
}
