//! Whose a port is, and what is left of it: nothing after DEL, whatever DEL was told.

use std::{
    net::{SocketAddr, UdpSocket},
    thread,
    time::Instant,
};

use serde_json::{Value, json};
use testbed::{
    Sandbox, Snapshot, Testbed, config, config::mappings, portmap::Chain, reach::arrives,
    ruleset::census, until_so,
};

use crate::differences::case;

/// A chain on a host where the shared rules are there already, and what the host is like then.
fn settled(bed: &Testbed) -> (Chain<'_>, Snapshot) {
    let chain = Chain::new(bed);
    chain.add(&bed.sandbox("earlier"), "earlier", &mappings(&[(1, 1), (2, 3)], &json!({})));
    let before = bed.snapshot();
    (chain, before)
}

fn rules(snapshot: &Snapshot) -> Vec<String> {
    snapshot.lines("nft ").map(str::to_owned).collect()
}

fn ports() -> Value {
    mappings(&[(8080, 80), (9090, 9090)], &json!({}))
}

#[test]
fn del_needs_to_know_nothing() {
    case(|bed| {
        let (mut chain, before) = settled(bed);
        for what in ["everything", "no result", "no mappings", "nothing", "other name", "garbage"] {
            let pod = bed.sandbox(&what.replace(' ', "-"));
            let id = what.replace(' ', "-");
            chain.add(&pod, &id, &ports());
            assert_ne!(rules(&bed.snapshot()), rules(&before));
            let mut config = chain.config(&id, &ports());
            let keys = config.as_object_mut().unwrap();
            if what != "everything" {
                keys.remove("prevResult");
            }
            match what {
                "no mappings" | "nothing" => drop(keys.remove("runtimeConfig")),
                "other name" => keys["name"] = json!("renamed"),
                "garbage" => {
                    keys["runtimeConfig"] = json!({"portMappings": [{"hostPort": -1}]});
                    keys.insert("backend".into(), json!("unheard-of"));
                }
                _ => {}
            }
            let call = bed.call("DEL", &id, &config);
            let call = if what == "nothing" { call } else { call.netns(pod.path()) };
            call.clone().run().silent();
            call.run().silent();
            assert_eq!(rules(&bed.snapshot()), rules(&before), "{what}");
            chain.bridge.del(&pod, &id).silent();
            pod.destroy();
        }
        chain.keys = json!({});
        bed.assert_unchanged_since(&before);
    });
}

#[test]
fn without_mappings_nothing_is_touched() {
    case(|bed| {
        let (chain, pod) = (Chain::new(bed), bed.sandbox("pod"));
        chain.attach(&pod, "c1");
        let before = bed.snapshot();
        for none in [json!([]), Value::Null] {
            let result = chain.call("ADD", &pod, "c1", &none).result();
            assert_eq!(result, chain.bridge.result("c1").unwrap());
            chain.call("CHECK", &pod, "c1", &none).silent();
        }
        bed.assert_unchanged_since(&before);
        let mut config = chain.config("c1", &ports());
        config.as_object_mut().unwrap().remove("prevResult");
        let add = bed.call("ADD", "c1", &config).netns(pod.path()).run();
        add.fails_with(7, "must be called as chained");
    });
}

#[test]
fn a_port_has_one_owner() {
    case(|bed| {
        let (chain, _) = settled(bed);
        let pods = ["c1", "c2"].map(|id| bed.sandbox(id));
        let here = json!({"hostIP": "203.0.113.1"});
        let mut held = ports();
        for more in
            [mappings(&[(7000, 7000), (7001, 7001)], &json!({})), mappings(&[(6000, 80)], &here)]
        {
            held.as_array_mut().unwrap().extend(more.as_array().unwrap().clone());
        }
        chain.add(&pods[0], "c1", &held);
        chain.attach(&pods[1], "c2");
        let before = bed.snapshot();
        for taken in [
            ports(),
            mappings(&[(8080, 80)], &here),
            mappings(&[(9089, 9089), (9090, 9090)], &json!({})),
            mappings(&[(7001, 80)], &json!({})),
            mappings(&[(7000, 80)], &here),
            mappings(&[(6000, 80)], &json!({})),
            mappings(&[(5999, 5999), (6000, 6000)], &json!({})),
        ] {
            let outcome = chain.call("ADD", &pods[1], "c2", &taken);
            let error = outcome.error();
            assert!(error.msg.contains("taken by container \"c1\""), "{outcome}");
            bed.assert_unchanged_since(&before);
        }
        let free = json!([{"hostPort": 8080, "containerPort": 80, "protocol": "sctp"}]);
        chain.call("ADD", &pods[1], "c2", &free).success();
        // Again, as a runtime does that lost the answer.
        chain.call("ADD", &pods[0], "c1", &held).success();
    });
}

/// podman tells the plugins of each of a container's networks about all of its ports.
#[test]
fn a_container_of_two_networks_has_its_ports_once() {
    case(|bed| {
        let neighbour = bed.neighbour();
        let (chain, _) = settled(bed);
        let pod = bed.sandbox("c1");
        chain.add(&pod, "c1", &ports());
        let mut config = chain.config("c1", &ports());
        config["name"] = json!("other");
        let result = &mut config["prevResult"];
        result["interfaces"] = json!([{"name": "eth1", "sandbox": pod.path()}]);
        result["ips"] = json!([{"address": "10.9.0.2/24", "interface": 0}]);
        let call = |verb| bed.call(verb, "c1", &config).ifname("eth1").netns(pod.path()).run();
        call("ADD").success();
        call("CHECK").silent();
        chain.call("CHECK", &pod, "c1", &ports()).silent();
        let server = pod.tcp_server("0.0.0.0:80");
        neighbour.tcp("203.0.113.1:8080", &server).unwrap();
        call("DEL").silent();
        neighbour.tcp("203.0.113.1:8080", &server).unwrap();
        // A port that only the second one asks for is the second one's.
        config["runtimeConfig"]["portMappings"] = mappings(&[(8080, 80), (7070, 70)], &json!({}));
        let call = |verb| bed.call(verb, "c1", &config).ifname("eth1").netns(pod.path()).run();
        call("ADD").success();
        call("CHECK").silent();
        let leads = |to| bed.succeed("nft", &["list", "ruleset"]).contains(to);
        assert!(leads("10.9.0.2 . 70") && !leads("10.9.0.2 . 80"));
        call("DEL").silent();
        assert!(!leads("10.9.0.2"));
        chain.call("CHECK", &pod, "c1", &ports()).silent();
    });
}

#[test]
fn of_two_at_the_same_time_one_gets_the_port() {
    case(|bed| {
        let (chain, _) = settled(bed);
        let pods = ["c1", "c2"].map(|id| bed.sandbox(id));
        let lists = [
            mappings(&[(8000, 8000), (8001, 8001), (8002, 8002)], &json!({})),
            mappings(&[(8001, 80)], &json!({})),
        ];
        let all: Vec<_> = ["c1", "c2"].into_iter().zip(&pods).zip(&lists).collect();
        for ((id, pod), _) in &all {
            chain.attach(pod, id);
        }
        let attached = bed.snapshot();
        for _ in 0..20 {
            let winners = thread::scope(|scope| {
                let add = |((id, pod), list): &((&str, &Sandbox), &Value)| {
                    chain.call("ADD", pod, id, list).status.success()
                };
                let running: Vec<_> = all.iter().map(|one| scope.spawn(move || add(one))).collect();
                running.into_iter().map(|add| usize::from(add.join().unwrap())).sum::<usize>()
            });
            assert!(winners <= 1, "both have port 8001");
            for ((id, pod), list) in &all {
                chain.call("DEL", pod, id, list).silent();
            }
            assert_eq!(rules(&bed.snapshot()), rules(&attached));
        }
    });
}

#[test]
fn a_dead_owner_is_replaced() {
    case(|bed| {
        let neighbour = bed.neighbour();
        let (chain, _) = settled(bed);
        let pods = ["c1", "c2"].map(|id| bed.sandbox(id));
        chain.add(&pods[0], "c1", &mappings(&[(8080, 8080)], &json!({})));
        // No DEL: its namespace vanishes, and its links with it, as soon as the kernel gets to it.
        pods[0].destroy();
        let links = || bed.ip("-o link show type veth").lines().count();
        until_so("the end of its links", || links() <= 2);
        chain.add(&pods[1], "c2", &ports());
        let server = pods[1].tcp_server("0.0.0.0:80");
        assert!(neighbour.tcp("203.0.113.1:8080", &server).is_ok());
        // Its ports are gone. What is keyed by its address waits for the address's next owner.
        let snapshot = bed.snapshot();
        let left = |line: &String| line.contains(" c1 ") && !line.contains("\"hostport-sources\"");
        assert_eq!(rules(&snapshot).into_iter().filter(left).collect::<Vec<_>>(), [""; 0]);
    });
}

#[test]
fn check_and_gc_look_at_every_port() {
    case(|bed| {
        let (chain, _) = settled(bed);
        let pod = bed.sandbox("pod");
        chain.add(&pod, "c1", &ports());
        chain.call("CHECK", &pod, "c1", &ports()).silent();
        let less = mappings(&[(8080, 80)], &json!({}));
        chain.call("CHECK", &pod, "c1", &less).silent();
        let more = mappings(&[(8081, 80)], &json!({}));
        chain.call("CHECK", &pod, "c1", &more).fails_with(999, "8081/tcp does not lead");
        let gone = "delete element ip girder hostport-targets { tcp . 8080 }";
        bed.succeed("nft", &[gone]);
        chain.call("CHECK", &pod, "c1", &ports()).fails_with(999, "8080/tcp does not lead");
        let mut config = chain.config("c1", &json!([]));
        config["cniVersion"] = json!("1.1.0");
        config.as_object_mut().unwrap().remove("prevResult");
        config["cni.dev/valid-attachments"] = json!([{"containerID": "earlier", "ifname": "eth0"}]);
        let call = |verb| bed.plugin("portmap").command(verb).config(&config).run();
        call("GC").silent();
        call("STATUS").silent();
        let snapshot = bed.snapshot();
        let left = |owner: &str| rules(&snapshot).iter().any(|line| line.contains(owner));
        assert!(left("net earlier eth0") && !left("net c1 eth0"));
    });
}

/// A client that keeps its port, as a UDP client does.
fn client(neighbour: &Sandbox) -> UdpSocket {
    let socket = neighbour.enter(|| UdpSocket::bind("203.0.113.2:54321")).unwrap();
    socket.connect("203.0.113.1:5353".parse::<SocketAddr>().unwrap()).unwrap();
    socket
}

#[test]
fn a_client_that_keeps_its_port_follows() {
    case(|bed| {
        let neighbour = bed.neighbour();
        let (chain, _) = settled(bed);
        let list = mappings(&[(5353, 53)], &json!({}));
        let client = client(&neighbour);
        // Before anybody listens, the host itself is remembered as the one who answers.
        client.send(b"ping").unwrap();
        // Other people's connections, of which none may be lost.
        let others = "for i in $(seq 5000); do echo -I -p udp -s 10.9.$((i / 250)).$((i % 250)) \
                      -d 203.0.113.7 --sport 5353 --dport $((i + 1000)) --timeout 600; \
                      echo -I -p udp -s 203.0.113.2 -d 203.0.113.7 --sport $((i + 1000)) \
                      --dport 5353 --timeout 600; done | conntrack -R -";
        bed.succeed("sh", &["-c", others]);
        let count = || bed.succeed("conntrack", &["-L", "-d", "203.0.113.7"]).lines().count();
        assert_eq!(count(), 10_000);
        let pods = ["c1", "c2"].map(|id| bed.sandbox(id));
        chain.add(&pods[0], "c1", &list);
        let server = pods[0].udp_server("0.0.0.0:53");
        arrives(&client, &server).unwrap();
        chain.call("DEL", &pods[0], "c1", &json!([])).silent();
        // Nobody is there any more: it must not be c1.
        assert!(arrives(&client, &server).is_err());
        chain.add(&pods[1], "c2", &list);
        let server = pods[1].udp_server("0.0.0.0:53");
        arrives(&client, &server).unwrap();
        assert_eq!(count(), 10_000);
    });
}

#[test]
fn ten_thousand_ports_are_one_interval() {
    case(|bed| {
        let (chain, pod) = (Chain::new(bed), bed.sandbox("pod"));
        let entry = |port: u32| json!({"hostPort": port, "containerPort": port, "protocol": "udp"});
        let list: Value = (20_000..30_000).map(entry).collect();
        chain.attach(&pod, "c1");
        chain.call("ADD", &pod, "c1", &json!([entry(1)])).success();
        chain.call("DEL", &pod, "c1", &json!([entry(1)])).silent();
        let (_, before) = census(bed);
        let start = Instant::now();
        chain.call("ADD", &pod, "c1", &list).success();
        let took = start.elapsed();
        println!("10,000 ports: {took:?}");
        // Of each family: who holds them, where they lead, and who needs the host's address.
        assert_eq!(census(bed).1 - before, 2 * 3);
        for port in [20_000, 25_000, 29_999] {
            let server = pod.udp_server(&format!("0.0.0.0:{port}"));
            assert!(bed.udp(&format!("10.1.0.1:{port}"), &server).is_ok(), "{port}");
        }
        chain.call("DEL", &pod, "c1", &list).silent();
        assert_eq!(census(bed).1, before);
    });
}

#[test]
fn thousands_of_ports_of_one_address_go_at_once() {
    case(|bed| {
        let ports = std::env::var("PORTS").map_or(2_000, |ports| ports.parse().unwrap());
        let (chain, pod) = (Chain::new(bed), bed.sandbox("pod"));
        let entry = |number: u32| {
            let port = 10_000 + 2 * number;
            json!({"hostPort": port, "containerPort": 80, "protocol": "tcp", "hostIP": "10.1.0.1"})
        };
        let list: Value = (0..ports).map(entry).collect();
        chain.attach(&pod, "c1");
        for told in [&list, &json!([])] {
            chain.call("ADD", &pod, "c1", &list).success();
            assert!(census(bed).1 > 2 * usize::try_from(ports).unwrap());
            let start = Instant::now();
            chain.call("DEL", &pod, "c1", told).silent();
            println!("DEL of {ports} ports: {:?}", start.elapsed());
            assert_eq!(census(bed).1, 0);
        }
    });
}

#[test]
fn what_cannot_be_meant_is_refused() {
    case(|bed| {
        let (mut chain, pod) = (Chain::new(bed), bed.sandbox("pod"));
        chain.attach(&pod, "c1");
        let before = bed.snapshot();
        let one = |key: &str, value: Value| {
            let mut entry = config::mapping(80, 80, "tcp");
            entry[key] = value;
            json!([entry])
        };
        for (list, words) in [
            (one("hostPort", json!(0)), "Invalid host port number: 0"),
            (one("containerPort", json!(-1)), "Invalid container port number: -1"),
            (one("hostPort", json!(65536)), "Invalid host port number: 65536"),
            (one("protocol", json!("icmp")), "unknown protocol \"icmp\""),
            (one("hostIP", json!("example.org")), "is no IP address"),
            (mappings(&[(80, 80), (80, 81)], &json!({})), "mapped twice"),
        ] {
            chain.call("ADD", &pod, "c1", &list).fails_with(7, words);
        }
        for (keys, words) in [
            (json!({"backend": "ebpf"}), "unrecognized backend \"ebpf\""),
            (json!({"markMasqBit": 32}), "MasqMarkBit must be between 0 and 31"),
            (json!({"markMasqBit": 1, "externalSetMarkChain": "x"}), "Cannot specify"),
            (json!({"externalSetMarkChain": "X\nCOMMIT"}), "is no name for a chain"),
            (json!({"conditionsV4": ["-s", "10.0.0.0/8\t-j"]}), "is no word of iptables"),
            (
                json!({"backend": "nftables", "conditionsV4": ["-s", "x"]}),
                "iptables-specific options [conditionsV4]",
            ),
            (
                json!({"conditionsV6": ["ip6", "saddr", "1.2.3.4"]}),
                "conditionsV6: \"ip6 saddr 1.2.3.4\" is not",
            ),
            (json!({"conditionsV4": ["tcp", "dport", "80"]}), "\"tcp dport 80\" is not understood"),
        ] {
            chain.keys = keys;
            chain.call("ADD", &pod, "c1", &one("hostPort", json!(80))).fails_with(7, words);
            chain.call("DEL", &pod, "c1", &one("hostPort", json!(80))).silent();
        }
        bed.assert_unchanged_since(&before);
        chain.keys =
            json!({"SNAT": true, "markMasqBit": 5, "conditionsV4": [], "CONDITIONSV6": null});
        let capital =
            json!([{"HostPort": 80, "ContainerPort": 80, "Protocol": "TCP", "HostIP": ""}]);
        chain.call("ADD", &pod, "c1", &capital).success();
    });
}
