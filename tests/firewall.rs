//! What a host forwards for pods, by packets: where others drop, and between bridges.

mod firewalld;
mod iptables;
mod owners;
mod translated;

use serde_json::json;
use testbed::{
    Sandbox, Testbed,
    firewall::{Chain, neighbour, outside},
    iptables::drop_forwarded,
    reach::{assert_reaches, is_cut_off, reaches},
};

use crate::differences::case;

#[test]
fn where_iptables_drops_pods_are_let_through() {
    case(|bed| {
        let neighbour = neighbour(bed);
        drop_forwarded(bed);
        let chain = Chain::new(bed, json!({}));
        let (plain, pod) = (bed.sandbox("plain"), bed.sandbox("pod"));
        chain.bridge.add(&plain, "plain").success();
        let own = chain.add(&pod, "c1");
        reaches(&pod, &neighbour, &outside());
        reaches(&plain, bed, &["10.1.0.1".to_owned()]);
        is_cut_off(&plain, &neighbour, &outside());
        is_cut_off(&neighbour, &pod, &own);
        // The operator has the first word.
        for (tool, to) in [("iptables", "203.0.113.2"), ("ip6tables", "2001:db8:ffff::2")] {
            bed.succeed(tool, &["-A", "CNI-ADMIN", "-d", to, "-j", "DROP"]);
        }
        is_cut_off(&pod, &neighbour, &outside());
        for tool in ["iptables", "ip6tables"] {
            bed.succeed(tool, &["-F", "CNI-ADMIN"]);
            bed.succeed(tool, &["-A", "CNI-ADMIN", "-p", "udp", "-j", "ACCEPT"]);
            bed.succeed(tool, &["-A", "CNI-ADMIN", "-p", "tcp", "-j", "ACCEPT"]);
        }
        reaches(&neighbour, &pod, &own);
        for tool in ["iptables", "ip6tables"] {
            bed.succeed(tool, &["-F", "CNI-ADMIN"]);
            let listed = bed.succeed(tool, &["-S", "FORWARD"]);
            let jump =
                "-A FORWARD -m comment --comment \"CNI firewall plugin rules\" -j CNI-FORWARD";
            assert_eq!(listed.lines().nth(1), Some(jump), "{listed}");
            let listed = bed.succeed(tool, &["-S", "CNI-FORWARD"]);
            let jump = "-A CNI-FORWARD -m comment --comment \"CNI firewall plugin admin \
                        overrides\" -j CNI-ADMIN";
            assert_eq!(listed.lines().nth(1), Some(jump), "{listed}");
        }
        chain.run("DEL", &pod, "c1").silent();
        is_cut_off(&pod, &neighbour, &outside());
    });
}

#[test]
fn a_policy_that_comes_later_cuts_nobody_off() {
    case(|bed| {
        let neighbour = neighbour(bed);
        // Somebody uses iptables, and drops nothing so far.
        for tool in ["iptables", "ip6tables"] {
            bed.succeed(tool, &["-P", "FORWARD", "ACCEPT"]);
        }
        let (chain, pod) = (Chain::new(bed, json!({})), bed.sandbox("pod"));
        chain.add(&pod, "c1");
        drop_forwarded(bed);
        reaches(&pod, &neighbour, &outside());
        chain.run("CHECK", &pod, "c1").silent();
    });
}

#[test]
fn one_add_heals_all_pods() {
    case(|bed| {
        let neighbour = neighbour(bed);
        let (chain, pod) = (Chain::new(bed, json!({})), bed.sandbox("pod"));
        chain.add(&pod, "c1");
        drop_forwarded(bed);
        for tool in ["iptables", "ip6tables"] {
            bed.succeed(tool, &["-F"]);
        }
        is_cut_off(&pod, &neighbour, &outside());
        chain.add(&bed.sandbox("second"), "c2");
        reaches(&pod, &neighbour, &outside());
    });
}

#[test]
fn where_nobody_drops_everybody_is_reached() {
    case(|bed| {
        let neighbour = neighbour(bed);
        let (chain, other) = (Chain::new(bed, json!({})), Chain::second(bed, json!({})));
        let pods = ["one", "two", "three"].map(|id| bed.sandbox(id));
        let own = [chain.add(&pods[0], "c1"), chain.add(&pods[1], "c2"), other.add(&pods[2], "c3")];
        for to in 1..3 {
            reaches(&pods[0], &pods[to], &own[to]);
        }
        reaches(&pods[0], &neighbour, &outside());
        reaches(&neighbour, &pods[0], &own[0]);
        chain.run("CHECK", &pods[0], "c1").silent();
    });
}

/// Has pods ask their gateway for the way to each other, which forwards from the bridge to the
/// same bridge.
fn by_the_host(pods: &[Sandbox]) {
    for pod in pods {
        pod.ip("route replace 10.1.0.1 dev eth0 scope link");
        pod.ip("route del 10.1.0.0/24");
        pod.ip("route replace default via 10.1.0.1");
        for link in ["all", "eth0"] {
            pod.set_sysctl(&format!("net/ipv4/conf/{link}/accept_redirects"), "0");
        }
    }
}

/// Pods of two networks with this policy: whether they reach each other on one bridge, by way of
/// the host to the same bridge, and between bridges.
fn matrix(bed: &Testbed, policy: &str, [bridged, routed, between]: [bool; 3]) {
    let neighbour = neighbour(bed);
    let keys = json!({"ingressPolicy": policy});
    let (chain, other) = (Chain::new(bed, keys.clone()), Chain::second(bed, keys));
    let pods = ["one", "two", "three"].map(|id| bed.sandbox(id));
    let own = [chain.add(&pods[0], "c1"), chain.add(&pods[1], "c2"), other.add(&pods[2], "c3")];
    for (pod, id) in pods.iter().zip(["c1", "c2"]) {
        chain.run("CHECK", pod, id).silent();
    }
    // The world and the host are nobody's bridge.
    reaches(&pods[0], &neighbour, &outside());
    reaches(&neighbour, &pods[0], &own[0]);
    reaches(bed, &pods[0], &own[0]);
    assert_reaches(&pods[0], &pods[1], &own[1], bridged);
    assert_reaches(&pods[2], &pods[0], &own[0], between);
    assert_reaches(&pods[0], &pods[2], &own[2], between);
    by_the_host(&pods[..2]);
    assert_reaches(&pods[0], &pods[1], &own[1][..1], routed);
}

#[test]
fn open_keeps_nobody_apart() {
    case(|bed| matrix(bed, "open", [true; 3]));
}

#[test]
fn same_bridge_keeps_bridges_apart() {
    case(|bed| matrix(bed, "same-bridge", [true, true, false]));
}

#[test]
fn isolated_keeps_pods_of_one_bridge_apart_too() {
    case(|bed| matrix(bed, "isolated", [false; 3]));
}

#[test]
fn an_open_bridge_is_reached_from_a_closed_one() {
    case(|bed| {
        let closed = Chain::new(bed, json!({"ingressPolicy": "same-bridge"}));
        let open = Chain::second(bed, json!({}));
        let pods = ["one", "two"].map(|id| bed.sandbox(id));
        let own = [closed.add(&pods[0], "c1"), open.add(&pods[1], "c2")];
        reaches(&pods[0], &pods[1], &own[1]);
        reaches(&pods[1], &pods[0], &own[0]);
    });
}

#[test]
fn a_policy_lasts_until_the_configuration_has_another() {
    case(|bed| {
        let mut chain = Chain::new(bed, json!({"ingressPolicy": "isolated"}));
        let other = Chain::second(bed, json!({"ingressPolicy": "same-bridge"}));
        let pods = ["one", "two", "three", "four"].map(|id| bed.sandbox(id));
        let first = chain.add(&pods[0], "c1");
        let third = other.add(&pods[2], "c3");
        is_cut_off(&pods[2], &pods[0], &first);
        chain.keys = json!({"ingressPolicy": "same-bridge"});
        let second = chain.add(&pods[1], "c2");
        is_cut_off(&pods[2], &pods[1], &second);
        // Who came as an isolated one stays it.
        is_cut_off(&pods[1], &pods[0], &first);
        chain.run("ADD", &pods[0], "c1").success();
        chain.keys = json!({});
        let fourth = chain.add(&pods[3], "c4");
        reaches(&pods[1], &pods[3], &fourth);
        reaches(&pods[3], &pods[2], &third);
        reaches(&pods[2], &pods[3], &fourth);
    });
}

#[test]
fn a_bridge_of_two_networks_has_the_stricter_policy() {
    case(|bed| {
        let strict = Chain::new(bed, json!({"ingressPolicy": "same-bridge"}));
        let lax = Chain::new(bed, json!({"name": "lax"}));
        let other = Chain::second(bed, json!({"ingressPolicy": "same-bridge"}));
        let pods = ["one", "two", "three"].map(|id| bed.sandbox(id));
        let own = [strict.add(&pods[0], "c1"), lax.add(&pods[1], "c2")];
        other.add(&pods[2], "c3");
        for (pod, own) in pods.iter().zip(&own) {
            is_cut_off(&pods[2], pod, own);
        }
        reaches(&pods[0], &pods[1], &own[1]);
    });
}

#[test]
fn who_comes_with_a_laxer_policy_opens_nothing() {
    case(|bed| {
        let lax = Chain::new(bed, json!({"name": "lax", "ingressPolicy": "same-bridge"}));
        let strict = Chain::new(bed, json!({"ingressPolicy": "isolated"}));
        let pods = ["one", "two", "three"].map(|id| bed.sandbox(id));
        lax.add(&pods[0], "c1");
        let own = strict.add(&pods[1], "c2");
        lax.add(&pods[2], "c3");
        strict.run("CHECK", &pods[1], "c2").silent();
        is_cut_off(&pods[0], &pods[1], &own);
        by_the_host(&pods[..2]);
        is_cut_off(&pods[0], &pods[1], &own[..1]);
    });
}

/// Somebody's own packet filter, which is asked as well.
fn foreign(bed: &Testbed, rules: &str) {
    let text = format!(
        "table inet filter {{\n chain forward {{\n type filter hook forward priority 0; policy \
         drop;\n {rules}\n }}\n}}\n"
    );
    assert!(bed.feed("nft", &["-f", "-"], text.as_bytes()).status.success());
}

#[test]
fn who_drops_in_a_table_of_its_own_is_named_with_the_way_out() {
    case(|bed| {
        let neighbour = neighbour(bed);
        foreign(bed, "");
        let chain = Chain::new(bed, json!({"cniVersion": "1.1.0"}));
        let status = || bed.plugin("firewall").command("STATUS").config(&chain.config("")).run();
        let said = status();
        said.silent();
        assert!(said.stderr.contains("chain forward of table inet filter drops"), "{said}");
        let pod = bed.sandbox("pod");
        chain.bridge.add(&pod, "c1").success();
        let said = chain.run("ADD", &pod, "c1");
        said.success();
        reaches(&pod, bed, &["10.1.0.1".to_owned()]);
        is_cut_off(&pod, &neighbour, &outside());
        // Word by word what it says.
        let (_, command) = said.stderr.split_once("with nft ").unwrap();
        bed.succeed("nft", &command.split_whitespace().collect::<Vec<_>>());
        reaches(&pod, &neighbour, &outside());
        is_cut_off(&neighbour, &pod, &["10.1.0.2".to_owned()]);
        let said = chain.run("ADD", &pod, "c1");
        assert_eq!(said.success().stderr, "");
        assert_eq!(status().success().stderr, "");
    });
}

#[test]
fn who_may_have_rules_for_pods_is_mentioned_only() {
    case(|bed| {
        let neighbour = neighbour(bed);
        foreign(bed, "ip saddr 10.1.0.0/16 accept\n ct state established,related accept");
        let chain = Chain::new(bed, json!({"cniVersion": "1.1.0"}));
        let status = bed.plugin("firewall").command("STATUS").config(&chain.config("")).run();
        status.silent();
        assert!(status.stderr.contains("table inet filter drops what it does not accept"));
        let pod = bed.sandbox("pod");
        chain.add(&pod, "c1");
        reaches(&pod, &neighbour, &outside()[..1]);
    });
}
