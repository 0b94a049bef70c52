//! Pods on two nodes, between which there is what flanneld makes: vxlan links, or routes.

use std::{net::UdpSocket, time::Duration};

use serde_json::{Value, json};
use testbed::{
    Network, Place, Sandbox, Testbed,
    chain::with_result,
    config::{changed, mappings},
    flannel::{Backend, ClusterNode, SUBNET_ENV, flannel, fragments},
    reach::{knock, seen},
    result::addresses,
    traffic::uninterrupted,
};

use crate::differences::case;

const BACKENDS: [Backend; 2] = [Backend::Vxlan, Backend::HostGw];

/// Where the neighbour is, and as whom it sees what is masqueraded.
const OUTSIDE: [(&str, &str); 2] =
    [("203.0.113.2", "203.0.113.1"), ("2001:db8:ffff::2", "2001:db8:ffff::1")];

/// Two nodes with the subnets 1 and 2, where flanneld masquerades or does not.
fn cluster<'bed>(
    backend: Backend,
    beds: [&'bed Testbed; 2],
    ip_masq: bool,
) -> [ClusterNode<'bed>; 2] {
    let nodes = ClusterNode::pair(backend, beds);
    for (node, subnet) in nodes.iter().zip([1, 2]) {
        node.lease(subnet, ip_masq);
        if ip_masq {
            node.masquerade(subnet);
        }
    }
    nodes[0].peer(&nodes[1], 2);
    nodes[1].peer(&nodes[0], 1);
    nodes
}

/// A pod of a node.
struct Pod<'bed> {
    network: Network<'bed>,
    sandbox: Sandbox,
    addresses: Vec<String>,
}

impl<'bed> Pod<'bed> {
    fn new(bed: &'bed Testbed, name: &str) -> Self {
        let (network, sandbox) = (bed.network(flannel(&json!({}))), bed.sandbox(name));
        let addresses = addresses(&network.add(&sandbox, name).result());
        Self { network, sandbox, addresses }
    }

    /// Both see each other by their own addresses.
    #[track_caller]
    fn assert_reaches(&self, other: &Self) {
        for (own, others) in self.addresses.iter().zip(&other.addresses) {
            assert_eq!(&seen(&self.sandbox, &other.sandbox, others), own);
            assert_eq!(&seen(&other.sandbox, &self.sandbox, own), others);
        }
    }
}

/// Sends a datagram that makes an IP packet of `length` bytes.
#[track_caller]
fn send(from: &Place, to: &Place, at: &str, length: usize) {
    let (header, any, to_any) = if at.contains(':') {
        (48, "[::]:0", format!("[{at}]:0"))
    } else {
        (28, "0.0.0.0:0", format!("{at}:0"))
    };
    let server = to.udp_server(&to_any);
    let client = from.enter(|| UdpSocket::bind(any)).unwrap();
    client.connect(server.local_addr().unwrap()).unwrap();
    server.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    client.send(&vec![7; length - header]).unwrap();
    let received = uninterrupted(|| server.recv(&mut [0; 2000])).unwrap();
    assert_eq!(received, length - header, "to {at}");
}

#[test]
fn full_size_packets_get_there_in_one_piece() {
    for backend in BACKENDS {
        case(|bed| {
            let two = Testbed::new();
            let nodes = cluster(backend, [bed, &two], true);
            let (one, two) = (Pod::new(bed, "one"), Pod::new(&two, "two"));
            let mtu = if backend == Backend::Vxlan { 1450 } else { 1500 };
            let pieces = || -> u64 {
                let places: [&Place; 4] = [nodes[0].bed, nodes[1].bed, &one.sandbox, &two.sandbox];
                places.into_iter().map(fragments).sum()
            };
            for pod in [&one, &two] {
                assert_eq!(pod.sandbox.link("eth0")["mtu"], mtu);
            }
            let before = pieces();
            for at in &two.addresses {
                send(&one.sandbox, &two.sandbox, at, mtu);
            }
            for at in &one.addresses {
                send(&two.sandbox, &one.sandbox, at, mtu);
            }
            assert_eq!(pieces(), before, "{backend:?}");
            // One byte more does not fit.
            send(&one.sandbox, &two.sandbox, &two.addresses[0], mtu + 1);
            assert!(pieces() > before);
        });
    }
}

#[test]
fn only_what_leaves_the_cluster_is_masqueraded() {
    for backend in BACKENDS {
        for by_flanneld in [true, false] {
            case(|bed| {
                let (neighbour, two) = (bed.neighbour(), Testbed::new());
                let _nodes = cluster(backend, [bed, &two], by_flanneld);
                let (one, two) = (Pod::new(bed, "one"), Pod::new(&two, "two"));
                one.assert_reaches(&two);
                for (at, host) in OUTSIDE {
                    assert_eq!(
                        seen(&one.sandbox, &neighbour, at),
                        host,
                        "by flanneld: {by_flanneld}"
                    );
                }
            });
        }
    }
}

#[test]
fn a_host_port_is_reached_from_the_other_node() {
    for backend in BACKENDS {
        case(|bed| {
            let two = Testbed::new();
            let _nodes = cluster(backend, [bed, &two], false);
            let (web, client) = (Pod::new(bed, "web"), Pod::new(&two, "client"));
            let ports = mappings(&[(8080, 80)], &json!({}));
            let portmap = json!({"type": "portmap", "runtimeConfig": {"portMappings": ports}});
            let portmap = changed(flannel(&portmap), &json!({"delegate": null, "ipam": null}));
            let portmap = with_result(&portmap, &web.network.result("web").unwrap());
            let call = |verb| bed.call(verb, "web", &portmap).netns(web.sandbox.path());
            call("ADD").run().success();
            for at in ["192.0.2.1:8080", "[2001:db8:2::1]:8080"] {
                for outcome in knock(&client.sandbox, at, &web.sandbox, 80, true) {
                    outcome.unwrap_or_else(|error| panic!("{backend:?} {at}: {error}"));
                }
            }
            call("DEL").run().silent();
            let [tcp, udp] = knock(&client.sandbox, "192.0.2.1:8080", &web.sandbox, 80, false);
            assert!(tcp.is_err() && udp.is_err());
        });
    }
}

#[test]
fn a_node_is_started_anew() {
    case(|bed| {
        let second = Testbed::new();
        let nodes = cluster(Backend::Vxlan, [bed, &second], false);
        let (old, two) = (Pod::new(bed, "old"), Pod::new(&second, "two"));
        old.assert_reaches(&two);
        bed.reboot();
        // Of /run nothing is left.
        std::fs::remove_file(bed.file(SUBNET_ENV)).unwrap();
        let waiting = bed.sandbox("new");
        old.network.add(&waiting, "new").fails_with(11, "flannel pod log");
        waiting.destroy();
        nodes[0].connect(&nodes[1]);
        for (node, subnet) in nodes.iter().zip([1, 2]) {
            node.lease(subnet, false);
        }
        nodes[0].peer(&nodes[1], 2);
        nodes[1].peer(&nodes[0], 1);
        let new = Pod::new(bed, "new");
        new.assert_reaches(&two);
        // The runtime comes late to what was there before.
        old.network.del(&old.sandbox, "old").silent();
        assert!(bed.leases("cbr0").values().all(|owner| owner == "new eth0"));
        assert!(!bed.file("/var/lib/cni/flannel/old").exists());
        new.network.check(&new.sandbox, "new").silent();
        new.assert_reaches(&two);
        new.network.del(&new.sandbox, "new").silent();
        assert!(new.sandbox.has_only_lo() && bed.leases("cbr0").is_empty());
    });
}

#[test]
fn subnets_go_from_node_to_node() {
    for backend in BACKENDS {
        case(|bed| {
            let second = Testbed::new();
            let nodes = cluster(backend, [bed, &second], false);
            let (old, older) = (Pod::new(bed, "old"), Pod::new(&second, "older"));
            old.assert_reaches(&older);
            // The first node has lost its lease, and the second one gets its subnet.
            for (node, subnet) in nodes.iter().zip([3, 1]) {
                for (family, route) in [
                    ("-4", "10.5.1.0/24"),
                    ("-4", "10.5.2.0/24"),
                    ("-6", "fd00:5:0:1::/64"),
                    ("-6", "fd00:5:0:2::/64"),
                ] {
                    // flanneld takes back what leads to nodes that are gone.
                    for link in ["wire", "flannel.1", "flannel-v6.1"] {
                        node.bed.run("ip", &[family, "route", "del", route, "dev", link]);
                    }
                }
                node.lease(subnet, false);
            }
            let (new, newer) = (Pod::new(bed, "new"), Pod::new(&second, "newer"));
            // As long as the bridge has an address of the other node's subnet, the kernel takes the
            // gateway of this route for its own.
            nodes[0].peer(&nodes[1], 1);
            nodes[1].peer(&nodes[0], 3);
            assert_eq!(new.addresses, ["10.5.3.2", "fd00:5:0:3::2"]);
            assert_eq!(newer.addresses[0].rsplit_once('.').unwrap().0, "10.5.1");
            new.assert_reaches(&newer);
            old.network.del(&old.sandbox, "old").silent();
            older.network.del(&older.sandbox, "older").silent();
            assert!(old.sandbox.has_only_lo() && older.sandbox.has_only_lo());
            for (bed, own) in [(bed, "new eth0"), (&second, "newer eth0")] {
                let held: Vec<Value> = bed.leases("cbr0").into_values().map(Value::from).collect();
                assert_eq!(held, [own, own]);
            }
            new.assert_reaches(&newer);
        });
    }
}
