//! After somebody has flushed the packet filter: who notices, who makes it anew, and what is said
//! about a node.

use std::net::SocketAddr;

use serde_json::{Value, json};
use testbed::{bin_dir, bus::Firewalld, cnitool, config::changed, node::Node, reach::seen};

use crate::differences::case;

/// From the LAN by the host's port, and to the LAN as the host.
fn is_connected(node: &Node<'_>) -> bool {
    let server = node.web.tcp_server("0.0.0.0:80");
    let by_port = node.neighbour.tcp("203.0.113.1:8080", &server).is_ok();
    let server = node.neighbour.tcp_server("203.0.113.2:0");
    let to = SocketAddr::to_string(&server.local_addr().unwrap());
    let as_host = node.other.tcp(&to, &server);
    by_port && as_host.is_ok_and(|seen| seen.to_canonical().to_string() == "203.0.113.1")
}

#[test]
fn a_flushed_packet_filter_is_noticed_and_made_anew() {
    case(|bed| {
        let node = Node::new(bed);
        assert!(is_connected(&node));
        let before = bed.snapshot();
        assert!(node.succeeds(&[], &["restore"]).contains("nothing is missing of 2 attachments"));
        bed.assert_unchanged_since(&before);
        bed.succeed("nft", &["flush", "ruleset"]);
        assert!(!is_connected(&node));
        let check = node.fails(&["check", "pods", node.other.path()]);
        for words in ["10.1.0.3/24 is not masqueraded", "source addresses of veth"] {
            assert!(check.contains(words), "{words}: {check}");
        }
        let doctor = node.fails(&["doctor"]);
        assert!(doctor.contains("PROBLEM") && doctor.contains("cnitool restore"), "{doctor}");
        let dry = node.succeeds(&[], &["restore", "--dry-run"]);
        assert!(dry.contains("are missing of 2 attachments"), "{dry}");
        assert!(!is_connected(&node));
        let text = node.succeeds(&[], &["restore"]);
        assert!(text.contains("are back of 2 attachments"), "{text}");
        assert!(is_connected(&node));
        for pod in [&node.web, &node.other] {
            node.succeeds(&[], &["check", "pods", pod.path()]);
        }
        bed.assert_unchanged_since(&before);
    });
}

#[test]
fn whatever_is_missing_comes_back_and_what_is_there_stays() {
    case(|bed| {
        let node = Node::new(bed);
        let before = bed.snapshot();
        for loss in [
            "flush chain ip girder postrouting",
            "flush chain ip girder hostports",
            "flush map ip girder hostport-targets",
            "flush map ip girder masqueraded",
            "flush set bridge girder checked-macs",
            "delete table bridge girder",
            "delete table ip6 girder",
            "flush set ip girder firewall-pods",
            "delete table ip girder",
        ] {
            bed.succeed("nft", &loss.split(' ').collect::<Vec<_>>());
            let text = node.succeeds(&[], &["restore"]);
            assert!(text.contains(" back of 2 attachments"), "{loss}: {text}");
            bed.assert_unchanged_since(&before);
            assert!(is_connected(&node), "{loss}");
        }
    });
}

#[test]
fn rules_of_iptables_come_back_too() {
    case(|bed| {
        let asked = |key: &str| json!({key: "iptables"});
        let node = Node::with(bed, [asked("ipMasqBackend"), asked("backend"), asked("backend")]);
        assert!(is_connected(&node));
        let before = bed.snapshot();
        bed.succeed("nft", &["flush", "ruleset"]);
        assert!(!is_connected(&node));
        let dry = node.succeeds(&[], &["restore", "--dry-run"]);
        assert!(dry.contains("are missing of 2 attachments"), "{dry}");
        node.succeeds(&[], &["restore"]);
        assert!(is_connected(&node));
        for pod in [&node.web, &node.other] {
            node.succeeds(&[], &["check", "pods", pod.path()]);
        }
        assert!(node.succeeds(&[], &["restore"]).contains("nothing is missing"));
        bed.assert_unchanged_since(&before);
    });
}

#[test]
fn a_reload_of_firewalld_is_made_good() {
    case(|bed| {
        let firewalld = Firewalld::start(bed);
        let node = Node::new(bed);
        let sources = firewalld.sources("trusted");
        firewalld.forget();
        node.fails(&["check", "pods", node.web.path()]);
        node.succeeds(&[], &["restore"]);
        assert_eq!(firewalld.sources("trusted"), sources);
        node.succeeds(&[], &["check", "pods", node.web.path()]);
        // It ends while the pods stay: then our own tables say who is let through.
        drop(firewalld);
        node.succeeds(&[], &["restore"]);
    });
}

#[test]
fn who_is_gone_does_not_come_back() {
    case(|bed| {
        let node = Node::new(bed);
        bed.destroy(&node.web);
        bed.succeed("nft", &["flush", "ruleset"]);
        let text = node.succeeds(&[], &["restore"]);
        assert!(text.contains("of 1 attachments"), "{text}");
        let ruleset = bed.succeed("nft", &["list", "ruleset"]);
        assert!(!ruleset.contains("8080") && ruleset.contains("10.1.0.3"), "{ruleset}");
    });
}

/// DEL deletes what is there; what comes after it nobody would.
#[test]
fn who_goes_meanwhile_does_not_come_back_either() {
    case(|bed| {
        let node = Node::new(bed);
        let tool = bin_dir().join("cnitool").display().to_string();
        let path = format!("CNI_PATH={}", bin_dir().display());
        let restore = |inject: &[&str]| {
            let strace =
                ["strace", "-o", "/run/test/trace", "-e", "trace=sendto", "-e", "signal=none"];
            let variables = ["-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", &path];
            let output =
                bed.run("env", &[&variables[..], &strace, inject, &[&tool, "restore"]].concat());
            assert!(output.status.success(), "{output:?}");
        };
        bed.write("/run/test/trace", "");
        bed.succeed("nft", &["flush", "ruleset"]);
        restore(&[]);
        let trace = bed.read("/run/test/trace");
        let number = trace.lines().position(|line| line.contains("BATCH_BEGIN")).unwrap();
        node.succeeds(&[], &["del", "pods", node.other.path()]);
        let without = bed.snapshot();
        node.succeeds(&[], &["add", "pods", node.other.path()]);
        bed.succeed("nft", &["flush", "ruleset"]);
        bed.write("/run/test/trace", "");
        let late = format!("inject=sendto:delay_enter=3000000:when={}", number + 1);
        std::thread::scope(|scope| {
            let restored = scope.spawn(|| restore(&["-e", &late]));
            // It knows by then who lives, and is about to make what they have.
            let is_asking = || bed.read("/run/test/trace").lines().count() < number;
            while is_asking() && !restored.is_finished() {
                std::thread::yield_now();
            }
            node.succeeds(&[], &["del", "pods", node.other.path()]);
            restored.join().unwrap();
        });
        bed.assert_unchanged_since(&without);
    });
}

#[test]
fn a_stale_record_does_not_get_what_is_a_living_pods() {
    case(|bed| {
        let node = Node::new(bed);
        // An old container had this link and address, and its runtime has forgotten to say so.
        let results = "/var/lib/cni/results";
        let own = bed.succeed("sh", &["-c", &format!("cd {results}; grep -l 8080 *")]);
        let record: Value =
            serde_json::from_str(&bed.read(&format!("{results}/{}", own.trim()))).unwrap();
        let stale = changed(record, &json!({"containerId": "a-stale"}));
        bed.write(&format!("{results}/pods-a-stale-eth0"), stale.to_string());
        let before = bed.snapshot();
        assert!(node.succeeds(&[], &["restore"]).contains("nothing is missing of 2 attachments"));
        bed.succeed("nft", &["flush", "ruleset"]);
        let text = node.succeeds(&[], &["restore"]);
        assert!(text.contains("are back of 2 attachments"), "{text}");
        node.succeeds(&[], &["check", "pods", node.web.path()]);
        bed.assert_unchanged_since(&before);
        assert!(is_connected(&node));
    });
}

#[test]
fn del_after_a_restore_leaves_nothing() {
    case(|bed| {
        let node = Node::new(bed);
        node.succeeds(&[], &["del", "pods", node.web.path()]);
        let before = bed.snapshot();
        node.succeeds(
            &[r#"CAP_ARGS={"portMappings": [{"hostPort": 53, "containerPort": 53, "protocol": "udp"}]}"#],
            &["add", "pods", node.web.path()],
        );
        bed.succeed("nft", &["flush", "ruleset"]);
        node.succeeds(&["PATH="], &["restore"]);
        node.succeeds(&["PATH="], &["del", "pods", node.web.path()]);
        bed.assert_unchanged_since(&before);
    });
}

#[test]
fn a_healthy_node_has_no_problem_and_each_trouble_has_its_sentence() {
    case(|bed| {
        let node = Node::new(bed);
        assert_eq!(seen(&node.other, &node.neighbour, "203.0.113.2"), "203.0.113.1");
        let healthy = node.succeeds(&[], &["doctor"]);
        assert!(healthy.ends_with("no problem was found\n"), "{healthy}");
        let troubles: [(&str, &str, &str); 7] = [
            (
                "sysctl -w net.ipv6.conf.all.forwarding=0",
                "net.ipv6.conf.all.forwarding is 0",
                "sysctl -w net.ipv6.conf.all.forwarding=1",
            ),
            (
                "sysctl -w net.ipv4.ip_forward=0",
                "net.ipv4.ip_forward is 0",
                "sysctl -w net.ipv4.ip_forward=1",
            ),
            ("ip link set br0 down", "bridge br0 is down", "ip link set br0 up"),
            ("nft delete table ip girder", "are missing", "true"),
            (
                "nft add table inet filter; nft add chain inet filter forward '{ type filter hook forward priority 0; policy drop; }'",
                "chain forward of table inet filter drops",
                "nft delete table inet filter",
            ),
            (
                "mv /etc/cni/net.d/10-pods.conflist /run/x; sed 's/br0/br9/' /run/x > /etc/cni/net.d/10-pods.conflist; ip link add br9 type bridge; ip link set br9 up",
                "bridge br9 has no ports",
                "mv /run/x /etc/cni/net.d/10-pods.conflist; ip link del br9",
            ),
            (
                "mv /etc/cni/net.d/10-pods.conflist /run/x; sed 's/br0/br9/' /run/x > /etc/cni/net.d/10-pods.conflist; ip link add br9 type bridge; ip link set br9 up",
                "the hardware address of bridge br9 moves",
                "mv /run/x /etc/cni/net.d/10-pods.conflist; ip link del br9",
            ),
        ];
        for (trouble, words, way_out) in troubles {
            bed.succeed("sh", &["-c", trouble]);
            let text = cnitool::said(&cnitool::run(bed, &[], &["doctor"]));
            assert!(text.contains(words), "{trouble}: {text}");
            bed.succeed("sh", &["-c", way_out]);
            cnitool::run(bed, &[], &["restore"]);
        }
        let text = cnitool::said(&cnitool::run(bed, &[], &["doctor"]));
        assert!(text.contains("no problem was found"), "{text}");
        bed.destroy(&node.web);
        let text = cnitool::said(&cnitool::run(bed, &[], &["doctor"]));
        assert!(text.contains("1 of 2 addresses in use look leaked"), "{text}");
        // Last: once there, the table of iptables-legacy stays.
        let both = "iptables-legacy -t nat -N x; iptables-nft -t nat -A POSTROUTING -s 192.0.2.1";
        bed.succeed("sh", &["-c", both]);
        let text = node.fails(&["doctor"]);
        assert!(text.contains("iptables has rules in two tables nat"), "{text}");
    });
}
