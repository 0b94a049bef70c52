//! Connections that the kernel remembers are forgotten with the port that they came by.

use std::net::{SocketAddr, UdpSocket};

use serde_json::json;
use testbed::{Fault, Sandbox, Testbed, config::mappings, portmap::Chain, reach::arrives};

use crate::differences::case;

/// Sends something, in whose course it is found out which links lead there.
fn reached(neighbour: &Sandbox, server: &UdpSocket) {
    let mut tries = (0..3).map(|_| neighbour.udp("[2001:db8:ffff::1]:5353", server));
    assert!(tries.any(|outcome| outcome.is_ok()), "the pod is not reached at all");
}

#[test]
fn a_client_that_keeps_its_port_follows_over_ipv6() {
    case(|bed| {
        let neighbour = bed.neighbour();
        let chain = Chain::new(bed);
        let client = neighbour.enter(|| UdpSocket::bind("[2001:db8:ffff::2]:54321")).unwrap();
        client.connect("[2001:db8:ffff::1]:5353".parse::<SocketAddr>().unwrap()).unwrap();
        let pods = ["c1", "c2"].map(|id| bed.sandbox(id));
        // One port, and so many that the kernel is asked for all at once.
        let many: Vec<_> = (0..6).map(|number| (5351 + 2 * number, 53)).collect();
        for list in [mappings(&[(5353, 53)], &json!({})), mappings(&many, &json!({}))] {
            chain.add(&pods[0], "c1", &list);
            let server = pods[0].udp_server("[::]:53");
            reached(&neighbour, &server);
            arrives(&client, &server).unwrap();
            chain.call("DEL", &pods[0], "c1", &json!([])).silent();
            assert!(arrives(&client, &server).is_err(), "c1 is reached after its DEL");
            chain.add(&pods[1], "c2", &list);
            let server = pods[1].udp_server("[::]:53");
            reached(&neighbour, &server);
            arrives(&client, &server).unwrap();
            for (pod, id) in pods.iter().zip(["c1", "c2"]) {
                chain.call("DEL", pod, id, &list).silent();
                chain.bridge.del(pod, id).silent();
            }
        }
    });
}

/// How many connections are remembered that lead to a port.
fn remembered(bed: &Testbed) -> usize {
    let listed = bed.succeed("conntrack", &["-L", "-p", "udp", "--orig-port-dst", "5353"]);
    listed.lines().count()
}

#[test]
fn a_list_of_connections_that_loses_its_end_is_read_again() {
    case(|bed| {
        // More than one part of the kernel's answer.
        const FLOWS: u16 = 400;
        // The kernel's last answers are about one connection each.
        const ANSWERS: std::ops::Range<usize> = 20..80;
        let neighbour = bed.neighbour();
        let (chain, pod) = (Chain::new(bed), bed.sandbox("pod"));
        let list = mappings(&[(5353, 53)], &json!({}));
        chain.attach(&pod, "c1");
        for number in ANSWERS {
            chain.call("ADD", &pod, "c1", &list).success();
            neighbour.enter(|| {
                for port in 20_000..20_000 + FLOWS {
                    let client = UdpSocket::bind(("203.0.113.2", port)).unwrap();
                    client.send_to(b"ping", "203.0.113.1:5353").unwrap();
                }
            });
            assert_eq!(remembered(bed), usize::from(FLOWS));
            let del = bed.call("DEL", "c1", &chain.config("c1", &list)).netns(pod.path());
            let fault = Fault::new("recvfrom", "EAGAIN", number);
            let (outcome, was_there) = fault.strike_alone(bed, del);
            if outcome.status.success() {
                assert_eq!(remembered(bed), 0, "answer {number}: {outcome}");
            } else {
                assert!(!outcome.stdout.is_empty(), "{outcome}");
                bed.succeed("conntrack", &["-F"]);
            }
            chain.call("DEL", &pod, "c1", &list).silent();
            assert!(was_there, "there are only {number} answers");
        }
    });
}
