//! What `cnitool doctor` says of a node, compared with what packets say.

use serde_json::json;
use testbed::{
    REFERENCE, SYSTEM_PATH, Testbed, bin_dir, cnitool,
    config::{self, changed},
    dhcp::{LEASES, Server},
    node::Node,
};

use crate::differences::case;

/// Somebody's own packet filter, which is asked about what is forwarded as well.
fn foreign(bed: &Testbed, rules: &str) {
    let text = format!(
        "table inet mine {{\n chain pods {{\n iifname \"br*\" accept\n }}\n chain nobody {{\n \
         iifname \"docker0\" accept\n return\n }}\n chain fw {{\n type filter hook forward \
         priority 10; policy drop;\n {rules}\n }}\n}}\n"
    );
    let made = bed.feed("nft", &["-f", "-"], text.as_bytes());
    assert!(made.status.success(), "{text}: {made:?}");
}

/// Whether a new connection of a pod gets out, and its answer back.
fn reaches_the_lan(node: &Node<'_>) -> bool {
    let server = node.neighbour.tcp_server("203.0.113.2:0");
    let to = server.local_addr().unwrap().to_string();
    node.other.tcp_refused(&to, &server).is_ok()
}

/// What it says about the foreign chain: the level, and the way out.
fn about_the_chain(node: &Node<'_>) -> Option<(String, String)> {
    let text = cnitool::said(&cnitool::run(node.bed, &[], &["doctor"]));
    let mut lines = text.lines().skip_while(|line| !line.contains("chain fw of table"));
    let level = lines.next()?.split_whitespace().next()?.to_owned();
    Some((level, lines.next()?.trim().to_owned()))
}

const ANSWERS: &str = "ct state established,related accept";

#[test]
fn a_chain_that_lets_no_new_connection_through_is_a_problem_with_a_way_out() {
    case(|bed| {
        let node = Node::new(bed);
        for rules in [
            "",
            ANSWERS,
            "ct state { established, related } accept",
            "ct state vmap { established : accept, related : accept, invalid : drop }",
            "iifname \"docker0\" accept\n iifname { \"eth7\", \"eth8\" } accept",
            "ip saddr 192.0.2.0/24 accept\n ip saddr { 10.9.0.0/16 } accept\n ip6 saddr fd99::/64 accept",
            "jump nobody",
            "iifname \"br0\" ct state new counter drop\n accept",
            "meta mark and 0x4000 == 0x4000 accept\n reject",
        ] {
            foreign(bed, rules);
            assert!(!reaches_the_lan(&node), "{rules}");
            let (level, way_out) = about_the_chain(&node).unwrap_or_else(|| panic!("{rules}"));
            assert_eq!(level, "PROBLEM", "{rules}");
            node.fails(&["doctor"]);
            bed.succeed("sh", &["-c", &way_out]);
            assert!(reaches_the_lan(&node), "{rules}: {way_out}");
            assert!(node.succeeds(&[], &["doctor"]).ends_with("no problem was found\n"));
            bed.succeed("nft", &["delete", "table", "inet", "mine"]);
        }
    });
}

#[test]
fn a_chain_that_lets_pods_through_is_no_problem() {
    case(|bed| {
        let node = Node::new(bed);
        for (rules, is_mentioned) in [
            ("accept", false),
            ("iifname \"br0\" accept\n ct state established,related accept", false),
            (
                "meta nfproto ipv4 ip saddr 10.1.0.0/16 accept\n ip6 saddr fd00:1::/64 accept\n ct state established accept",
                false,
            ),
            ("ct state vmap { established : accept, related : accept, new : jump pods }", false),
            ("goto pods\n drop", true),
            ("oifname \"lan\" accept\n oifname \"br0\" accept", true),
            ("tcp dport 1-65535 accept\n tcp sport 1-65535 accept", true),
        ] {
            foreign(bed, &format!("{rules}\n {ANSWERS}"));
            if !rules.starts_with("goto") {
                assert!(reaches_the_lan(&node), "{rules}");
            }
            let found = about_the_chain(&node);
            let level = found.as_ref().map(|(level, _)| level.as_str());
            match rules {
                // What pods send passes. That answers do not is another chain's question.
                "goto pods\n drop" => assert_eq!(level, None, "{rules}"),
                _ => assert_eq!(level, is_mentioned.then_some("note"), "{rules}: {found:?}"),
            }
            assert!(node.succeeds(&[], &["doctor"]).ends_with("no problem was found\n"));
            bed.succeed("nft", &["delete", "table", "inet", "mine"]);
        }
    });
}

#[test]
fn without_the_plugin_firewall_the_way_out_is_another_one() {
    case(|bed| {
        let list = json!({"cniVersion": "1.0.0", "name": "pods", "plugins": [config::pods()]});
        let node = Node::of(bed, &list);
        for (trouble, way_back) in [
            ("nft -f -", "nft delete table inet mine"),
            ("iptables -P FORWARD DROP", "iptables -P FORWARD ACCEPT; iptables -F FORWARD"),
            ("iptables -A FORWARD -j REJECT", "iptables -F FORWARD"),
        ] {
            match trouble {
                "nft -f -" => foreign(bed, ANSWERS),
                command => drop(bed.succeed("sh", &["-c", command])),
            }
            assert!(!reaches_the_lan(&node), "{trouble}");
            let text = node.fails(&["doctor"]);
            let mut lines = text.lines().skip_while(|line| !line.contains("drops what pods send"));
            let way_out = lines.nth(1).unwrap_or_else(|| panic!("{text}")).trim();
            bed.succeed("sh", &["-c", way_out]);
            assert!(reaches_the_lan(&node), "{trouble}: {way_out}");
            bed.succeed("sh", &["-c", way_back]);
        }
    });
}

#[test]
fn a_node_without_pods_is_judged_for_those_who_will_come() {
    case(|bed| {
        let node = Node::new(bed);
        for pod in [&node.web, &node.other] {
            node.succeeds(&[], &["del", "pods", pod.path()]);
        }
        foreign(bed, ANSWERS);
        let (level, way_out) = about_the_chain(&node).unwrap();
        assert!(level == "PROBLEM" && way_out.contains("meta mark"), "{level} {way_out}");
    });
}

#[test]
fn loopback_needs_nobody_to_forward() {
    case(|bed| {
        let only = json!({"type": "host-local", "ranges": [[{"subnet": "10.1.0.0/24"}]]});
        let bridge = changed(config::pods(), &json!({"ipam": only}));
        let list = json!({"cniVersion": "1.0.0", "name": "pods", "plugins": [bridge]});
        let node = Node::of(bed, &list);
        let lo = json!({"cniVersion": "1.0.0", "name": "lo", "plugins": [{"type": "loopback"}]});
        bed.write("/etc/cni/net.d/99-lo.conflist", lo.to_string());
        let text = node.succeeds(&[], &["add", "lo", node.web.path(), "--ifname", "lo"]);
        assert!(text.contains("::1/128"), "{text}");
        assert_eq!(bed.sysctl("net/ipv6/conf/all/forwarding").unwrap(), "0");
        let text = node.succeeds(&[], &["doctor"]);
        assert!(!text.contains("forwarding"), "{text}");
        bed.set_sysctl("net/ipv4/ip_forward", "0");
        let text = node.fails(&["doctor"]);
        assert!(text.contains("net.ipv4.ip_forward is 0: 2 pod addresses"), "{text}");
    });
}

#[test]
fn a_full_range_is_a_problem() {
    case(|bed| {
        let range =
            json!({"subnet": "10.1.0.0/24", "rangeStart": "10.1.0.2", "rangeEnd": "10.1.0.3"});
        let ipam = json!({"type": "host-local", "ranges": [[range]]});
        let bridge = changed(config::pods(), &json!({"ipam": ipam}));
        let list = json!({"cniVersion": "1.1.0", "name": "pods", "plugins": [bridge]});
        let node = Node::of(bed, &list);
        let text = node.fails(&["doctor"]);
        assert!(text.contains("range set 0: all 2 addresses are in use"), "{text}");
        node.succeeds(&[], &["del", "pods", node.web.path()]);
        assert!(node.succeeds(&[], &["doctor"]).ends_with("no problem was found\n"));
    });
}

/// Elements whose comment names this container.
fn elements(bed: &Testbed, container: &str) -> usize {
    let ruleset = bed.succeed("nft", &["list", "ruleset"]);
    ruleset.matches(&format!("comment \"pods {container} eth0")).count()
}

#[test]
fn what_go_plugins_leave_of_our_pods_is_seen_and_collected() {
    case(|bed| {
        let node = Node::new(bed);
        let results = bed.succeed("sh", &["-c", "cd /var/lib/cni/results; grep -l 8080 *"]);
        let container = results.trim().trim_start_matches("pods-").trim_end_matches("-eth0");
        assert!(elements(bed, container) > 4);
        assert!(!node.succeeds(&[], &["doctor"]).contains(" left of "));
        // A node that has been swapped back: what we keep in nftables is unknown there.
        let go = [&*format!("CNI_PATH={REFERENCE}"), &*format!("PATH={SYSTEM_PATH}")];
        let del = ["del", "pods", node.web.path()];
        let first = cnitool::run(bed, &go, &del);
        assert!(
            cnitool::said(&first).contains("does not exist")
                || cnitool::said(&first).contains("No chain"),
            "{first:?}"
        );
        assert!(!first.status.success() && node.web.has_only_lo());
        assert!(!bed.lease_files("pods").into_values().any(|owner| owner.contains(container)));
        node.succeeds(&go, &del);
        assert!(elements(bed, container) > 2);
        let text = node.succeeds(&[], &["doctor"]);
        assert!(text.contains(&format!("are gone: pods {container} eth0")), "{text}");
        let before = elements(bed, container);
        let text = node.succeeds(&go, &["gc", "pods", "--gone"]);
        assert!(text.contains("knows the protocol up to 1.0.0"), "{text}");
        assert_eq!(elements(bed, container), before);
        // The list is older than GC, and our plugins are not.
        let way_out = format!("CNI_PATH={0} {0}/cnitool gc pods --gone", bin_dir().display());
        bed.succeed("sh", &["-c", &way_out]);
        assert_eq!(elements(bed, container), 0);
        node.succeeds(&[], &["check", "pods", node.other.path()]);
        assert!(reaches_the_lan(&node));
        assert!(!node.succeeds(&[], &["doctor"]).contains(" left of "));
    });
}

#[test]
fn gc_of_the_gone_spares_who_lives_and_who_may() {
    case(|bed| {
        let node = Node::new(bed);
        // Another runtime, which keeps no results.
        bed.succeed("rm", &["-r", "/var/lib/cni/results"]);
        let before = bed.snapshot();
        let lost = bed.sandbox("lost");
        node.succeeds(&[], &["gc", "pods", "--gone"]);
        bed.assert_unchanged_since(&before);
        node.succeeds(&[], &["add", "pods", lost.path()]);
        bed.destroy(&lost);
        node.succeeds(&[], &["gc", "pods", "--gone"]);
        bed.assert_unchanged_since(&before);
        // Its namespace lives, but its interface was removed there.
        let bare = bed.sandbox("bare");
        node.succeeds(&[], &["add", "pods", bare.path()]);
        bare.ip("link del eth0");
        node.succeeds(&[], &["gc", "pods", "--gone"]);
        bed.assert_unchanged_since(&before);
        let both = cnitool::run(bed, &[], &["gc", "pods", "--gone", "--valid", "c1:eth0"]);
        assert!(!both.status.success());
        let list = bed.read("/etc/cni/net.d/10-pods.conflist");
        let disabled = list.replacen('{', r#"{"disableGC": true,"#, 1);
        bed.write("/etc/cni/net.d/10-pods.conflist", disabled);
        let text = node.succeeds(&[], &["gc", "pods"]);
        assert!(text.contains("nothing was collected"), "{text}");
        bed.assert_unchanged_since(&before);
    });
}

#[test]
fn a_dead_dhcp_daemon_and_a_lost_lease_are_problems() {
    case(|bed| {
        let (neighbour, pod) = (bed.neighbour(), bed.sandbox("pod"));
        let _server = Server::new(&neighbour);
        let plugin = json!({"type": "macvlan", "master": "lan", "ipam": {"type": "dhcp"}});
        let list = json!({"cniVersion": "1.0.0", "name": "lan", "plugins": [plugin]});
        bed.write("/etc/cni/net.d/10-lan.conflist", list.to_string());
        let daemon = bed.dhcp_daemon("");
        cnitool::succeeds(bed, &[], &["add", "lan", pod.path()]);
        cnitool::succeeds(bed, &[], &["doctor"]);
        drop(daemon);
        let text = cnitool::fails(bed, &["doctor"]);
        assert!(text.contains("no lease is made or renewed: error dialing DHCP daemon"), "{text}");
        bed.succeed("rm", &[LEASES]);
        let _daemon = bed.dhcp_daemon("");
        let text = cnitool::fails(bed, &["doctor"]);
        assert!(text.contains("the DHCP daemon keeps no lease for eth0 of cnitool-"), "{text}");
        cnitool::succeeds(bed, &[], &["del", "lan", pod.path()]);
        cnitool::succeeds(bed, &[], &["doctor"]);
    });
}
