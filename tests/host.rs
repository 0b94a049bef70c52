//! The test host is what it promises.

use std::time::Instant;

use crate::differences::case;

#[test]
fn a_host_is_made_quickly() {
    let start = Instant::now();
    case(|bed| {
        println!("made in {:?}", start.elapsed());
        assert_eq!(bed.succeed("sh", &["-c", "echo $$"]).trim().len(), 1, "few processes");
        let links = bed.ip("-o link");
        assert!(links.lines().count() == 1 && links.contains("UP"), "{links}");
        assert_eq!(bed.sysctl("net/ipv4/ip_forward").unwrap(), "0");
        let server = bed.tcp_server("127.0.0.1:0");
        let at = server.local_addr().unwrap().to_string();
        assert!(bed.tcp(&at, &server).unwrap().is_loopback());
    });
}

#[test]
fn nothing_is_written_to_the_machine() {
    case(|bed| {
        for dir in ["/etc/cni", "/var/lib/cni", "/run", "/etc", "/var/lib"] {
            let path = format!("{dir}/girder-was-here");
            bed.write(&path, "x");
            assert_eq!(bed.read(&path), "x");
            assert!(!std::path::Path::new(&path).exists(), "{path} is on the machine");
        }
    });
}

#[test]
fn a_sandbox_is_seen_as_a_runtime_makes_it() {
    case(|bed| {
        let pod = bed.sandbox("pod");
        assert!(bed.ip("netns list").contains("pod"));
        assert_ne!(pod.inode(), bed.sandbox("other").inode());
        pod.ip("link add inside type bridge");
        assert!(pod.ip("-o link").contains("inside") && !bed.ip("-o link").contains("inside"));
        pod.destroy();
        assert!(!bed.ip("netns list").contains("pod"));
    });
}

#[test]
fn a_neighbour_is_reached_and_sees_who_calls() {
    case(|bed| {
        let neighbour = bed.neighbour();
        for (host, at) in
            [("203.0.113.1", "203.0.113.2:7"), ("2001:db8:ffff::1", "[2001:db8:ffff::2]:7")]
        {
            let tcp = neighbour.tcp_server(at);
            assert_eq!(bed.tcp(at, &tcp).unwrap().to_string(), host);
            let udp = neighbour.udp_server(at);
            assert_eq!(bed.udp(at, &udp).unwrap().to_string(), host);
        }
        let nobody = bed.tcp_server("127.0.0.1:0");
        assert!(neighbour.tcp_refused("203.0.113.9:7", &nobody).is_err());
    });
}

#[test]
fn a_snapshot_notices() {
    case(|bed| {
        let mut before = bed.snapshot();
        bed.assert_unchanged_since(&before);
        for change in [
            "link add br0 type bridge",
            "addr add 192.0.2.1/32 dev lo",
            "route add 198.51.100.0/24 dev lo table 77",
            "rule add fwmark 7 table 77",
        ] {
            bed.ip(change);
            let after = bed.snapshot();
            assert_ne!(before, after, "{change}");
            before = after;
        }
        bed.succeed("nft", &["add", "table", "ip", "x"]);
        assert_eq!(bed.snapshot().lines("nft").count(), 1);
        bed.write("/var/lib/cni/networks/net/10.0.0.2", "c1\r\neth0");
        assert_eq!(bed.snapshot().lines("lease net 10.0.0.2 c1 eth0").count(), 1);
    });
}

#[test]
fn a_log_of_leases_is_replayed() {
    case(|bed| {
        let log = "girder leases 1\n\
                   00000000 leased 10.0.0.2,fd00::2 c1 eth0 more=words\n\
                   00000000 leased 10.0.0.3 c2 eth0\n\
                   00000000 released 10.0.0.2,fd00::2 c1 eth0\n";
        bed.write("/var/lib/cni/networks/net/leases", log);
        let held = bed.leases("net");
        assert_eq!(held.len(), 1, "{held:?}");
        assert_eq!(held[&"10.0.0.3".parse::<std::net::IpAddr>().unwrap()], "c2 eth0");
    });
}

#[test]
fn a_double_is_called_first() {
    case(|bed| {
        bed.recorder("bridge", &serde_json::json!({"cniVersion": "1.1.0"}));
        let call = bed.plugin("bridge").command("ADD").stdin("{\n\"a\": 1}\n");
        assert_eq!(call.run().result()["cniVersion"], "1.1.0");
        let [(verb, config)] = &bed.recorded("bridge")[..] else { panic!("one call") };
        assert!(verb == "ADD" && config["a"] == 1);
    });
}

#[test]
fn only_its_own_processes_are_seen() {
    case(|bed| {
        let seen =
            bed.succeed("sh", &["-c", "cat /proc/1/comm; readlink /proc/self/ns/pid; echo $$"]);
        let words: Vec<_> = seen.split_whitespace().collect();
        let own = std::fs::read_link("/proc/self/ns/pid").unwrap();
        assert_eq!(words[0], "cat", "{seen}");
        assert_ne!(words[1], own.to_str().unwrap());
        assert!(words[2].len() < 3, "{seen}");
    });
}
