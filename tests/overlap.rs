//! Networks whose subnets overlap: what this host routes has an address once; where it routes
//! nothing, each bridge, and each VLAN of one, is a world of its own.

use std::io;

use serde_json::{Value, json};
use testbed::{Network, Place, Sandbox, Testbed, config};

use crate::differences::case;

/// A network of 10.1.0.0/24 on a bridge, with addresses that are asked for.
fn network<'bed>(bed: &'bed Testbed, name: &str, changes: &Value) -> Network<'bed> {
    let own = json!({
        "name": name, "bridge": format!("br-{name}"),
        "ipam": {"type": "host-local", "subnet": "10.1.0.0/24", "graceAge": 0}
    });
    bed.network(config::bridge(&config::changed(own, changes)))
}

fn frames_only() -> Value {
    json!({"isGateway": false})
}

/// Whether datagrams of a pod get to another place, and back: the address it is seen by.
fn seen(pod: &Sandbox, at: &Place, to: &str) -> io::Result<String> {
    let server = at.udp_server(&format!("{to}:0"));
    let to = server.local_addr().unwrap().to_string();
    pod.udp(&to, &server).map(|address| address.to_string())
}

#[test]
fn what_is_not_routed_may_overlap() {
    case(|bed| {
        let [red, blue] = ["red", "blue"].map(|name| network(bed, name, &frames_only()));
        let pods = ["red1", "red2", "blue1", "blue2"].map(|name| bed.sandbox(name));
        for (network, pods) in [(&red, &pods[..2]), (&blue, &pods[2..])] {
            for (pod, id, address) in [(&pods[0], "c1", "10.1.0.2"), (&pods[1], "c2", "10.1.0.3")] {
                let result = network.add(pod, id).result();
                assert_eq!(result["ips"][0]["address"], format!("{address}/24"));
            }
        }
        let [red1, red2, blue1, blue2] = &pods;
        assert_eq!(seen(red1, red2, "10.1.0.3").unwrap(), "10.1.0.2");
        red.del(red2, "c2").silent();
        assert_eq!(seen(blue1, blue2, "10.1.0.3").unwrap(), "10.1.0.2");
        blue.check(blue2, "c2").silent();
    });
}

#[test]
fn in_one_segment_nobody_gets_an_address_that_lives_there() {
    case(|bed| {
        let red = network(bed, "red", &frames_only());
        let [one, two] = ["one", "two"].map(|name| bed.sandbox(name));
        red.add(&one, "c1").success();
        // Somebody has removed the leases.
        bed.succeed("rm", &["-r", "/var/lib/cni/networks/red"]);
        let result = red.add(&two, "c2").result();
        assert_eq!(result["ips"][0]["address"], "10.1.0.3/24");
        assert_eq!(seen(&one, &two, "10.1.0.3").unwrap(), "10.1.0.2");
    });
}

#[test]
fn what_is_routed_has_an_address_once() {
    case(|bed| {
        let masq = json!({"ipMasq": true});
        let red = network(bed, "red", &masq);
        let pods = ["red1", "blue1", "blue2"].map(|name| bed.sandbox(name));
        red.add(&pods[0], "c1").success();
        let before = bed.snapshot();
        // Asked for by an IPAM plugin that knows nothing of it.
        let ips = json!([{"address": "10.1.0.2/24", "gateway": "10.1.0.1"}]);
        bed.recorder("fixed", &json!({"cniVersion": "1.0.0", "ips": ips}));
        let fixed = json!({"ipMasq": true, "ipam": {"type": "fixed"}});
        let blue = network(bed, "blue", &fixed);
        bed.ip("link add br-blue address 02:00:00:00:00:02 type bridge");
        bed.ip("link set br-blue up");
        blue.add(&pods[1], "c1").fails_with(11, "10.1.0.2 is in use already");
        assert_eq!(seen(&pods[0], bed, "10.1.0.1").unwrap(), "10.1.0.2");
        assert_eq!(before.lines("nft ").count(), bed.snapshot().lines("nft ").count());
        // Ours passes it over.
        let other = network(bed, "other", &masq);
        let result = other.add(&pods[2], "c1").result();
        assert_eq!(result["ips"][0]["address"], "10.1.0.3/24");
        other.del(&pods[2], "c1").silent();
        let after: Vec<_> = bed.snapshot().lines("nft ").map(str::to_owned).collect();
        assert!(after.iter().any(|line| line.contains("red c1 eth0")), "{after:?}");
        red.check(&pods[0], "c1").silent();
    });
}

#[test]
fn the_second_network_of_an_address_does_not_unmasquerade_the_first() {
    case(|bed| {
        let neighbour = bed.neighbour();
        let red = network(bed, "red", &json!({"ipMasq": true, "isDefaultGateway": true}));
        let pod = bed.sandbox("red1");
        red.add(&pod, "c1").success();
        assert_eq!(seen(&pod, &neighbour, "203.0.113.2").unwrap(), "203.0.113.1");
        // As a kernel without alternative names lets it come to pass: what is marked is unmarked.
        let result = red.result("c1").unwrap();
        let link = result["interfaces"][1]["name"].as_str().unwrap();
        bed.ip(&format!("link property del dev {link} altname ip-0a010002"));
        let ips = json!([{"address": "10.1.0.2/24", "gateway": "10.1.0.1"}]);
        bed.recorder("fixed", &json!({"cniVersion": "1.0.0", "ips": ips}));
        let blue = network(bed, "blue", &json!({"ipMasq": true, "ipam": {"type": "fixed"}}));
        let other = bed.sandbox("blue1");
        blue.add(&other, "c2").fails_with(11, "red c1 eth0");
        blue.del(&other, "c2").silent();
        assert_eq!(seen(&pod, &neighbour, "203.0.113.2").unwrap(), "203.0.113.1");
        red.check(&pod, "c1").silent();
    });
}

#[test]
fn no_gateway_gets_the_address_of_a_pod() {
    for (plugin, keys) in [("bridge", json!({"isGateway": true})), ("ptp", json!({}))] {
        case(|bed| {
            let of = |name: &str, gateway: &str, first: &str| {
                let range =
                    json!({"subnet": "10.1.0.0/24", "gateway": gateway, "rangeStart": first});
                let own = json!({
                    "cniVersion": "1.0.0", "name": name, "type": plugin,
                    "ipam": {"type": "host-local", "graceAge": 0, "ranges": [[range]]}
                });
                let bridge =
                    if plugin == "bridge" { json!(format!("br-{name}")) } else { json!(null) };
                let own = config::changed(own, &json!({"bridge": bridge}));
                bed.network(config::changed(own, &keys))
            };
            let [one, two] = ["one", "two"].map(|name| bed.sandbox(name));
            of("red", "10.1.0.1", "10.1.0.5").add(&one, "c1").success();
            let error = of("blue", "10.1.0.5", "10.1.0.50").add(&two, "c2").error();
            assert_eq!((error.code, error.msg.as_str()), (11, "10.1.0.5 is in use already"));
            assert!(error.details.contains("red c1 eth0"), "{error:?}");
            assert_eq!(seen(&one, bed, "10.1.0.1").unwrap(), "10.1.0.5");
        });
    }
}
