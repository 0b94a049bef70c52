//! Connections whose destination somebody has translated, as a service of Kubernetes is, among pods
//! that are kept apart.

use serde_json::json;
use testbed::{Place, Sandbox, Testbed, firewall::Chain};

use crate::differences::case;

/// Has iptables lead an address that is nobody's to a pod, as kube-proxy does: what a pod sends to
/// itself in this way comes back with the host's address.
fn service(bed: &Testbed, tool: &str, address: &str, pod: &str) {
    let nat = |words: &str| {
        let words = format!("-t nat {words}");
        bed.succeed(tool, &words.split(' ').collect::<Vec<_>>());
    };
    let to = if pod.contains(':') { format!("[{pod}]:8080") } else { format!("{pod}:8080") };
    for protocol in ["tcp", "udp"] {
        let way = format!("-A PREROUTING -d {address} -p {protocol} --dport 80");
        nat(&format!("{way} -s {pod} -j MARK --set-mark 0x4000"));
        nat(&format!("{way} -j DNAT --to-destination {to}"));
    }
    nat("-I POSTROUTING -m mark --mark 0x4000/0x4000 -j MASQUERADE");
}

fn works(from: &Place, at: &str, pod: &Sandbox, expected: bool) {
    let any = if at.contains('[') { "[::]:8080" } else { "0.0.0.0:8080" };
    let (tcp, udp) = (pod.tcp_server(any), pod.udp_server(any));
    let outcomes = match expected {
        true => [from.tcp(at, &tcp), from.udp(at, &udp)],
        false => [from.tcp_refused(at, &tcp), from.udp_refused(at, &udp)],
    };
    for outcome in outcomes {
        assert_eq!(outcome.is_ok(), expected, "{at}: {outcome:?}");
    }
}

/// Two pods that are kept apart, each with a service: over both families.
fn services(bed: &Testbed, are_frames_filtered: bool) {
    for key in ["iptables", "ip6tables"] {
        let value = if are_frames_filtered { "1" } else { "0" };
        bed.set_sysctl(&format!("net/bridge/bridge-nf-call-{key}"), value);
    }
    let mut chain = Chain::new(bed, json!({"ingressPolicy": "isolated"}));
    let mut config = chain.bridge.config().clone();
    config["hairpinMode"] = json!(true);
    chain.bridge = bed.network(config);
    let pods = ["one", "two"].map(|id| bed.sandbox(id));
    let own = [chain.add(&pods[0], "c1"), chain.add(&pods[1], "c2")];
    for (number, own) in own.iter().enumerate() {
        service(bed, "iptables", &format!("10.96.0.{number}"), &own[0]);
        service(bed, "ip6tables", &format!("fd00:96::{number}"), &own[1]);
    }
    for (number, pod) in pods.iter().enumerate() {
        for at in [format!("10.96.0.{number}:80"), format!("[fd00:96::{number}]:80")] {
            works(pod, &at, pod, true);
            // What is a neighbour's stays a neighbour's, by whatever name.
            works(&pods[1 - number], &at, pod, false);
        }
        works(pod, &format!("{}:8080", own[1 - number][0]), &pods[1 - number], false);
    }
    for (pod, id) in pods.iter().zip(["c1", "c2"]) {
        chain.run("CHECK", pod, id).silent();
        chain.run("DEL", pod, id).silent();
    }
    let left = bed.snapshot();
    let owned = |line: &&str| line.contains(" c1 ") || line.contains(" c2 ");
    assert_eq!(left.lines("nft ").find(owned), None);
}

#[test]
fn a_pod_that_is_kept_apart_reaches_its_own_service() {
    case(|bed| services(bed, false));
}

#[test]
fn a_pod_that_is_kept_apart_reaches_its_own_service_where_frames_are_filtered() {
    case(|bed| services(bed, true));
}
