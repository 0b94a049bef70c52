//! A configuration that somebody has edited since ADD: DEL and GC find what ADD has made all the
//! same, and leave nothing.

use serde_json::{Value, json};
use testbed::{
    bus::Firewalld,
    chain::Chain,
    config::{self, changed},
    edits::{Edit, behind_bridge, broken, edit, set, survive_edits},
};

use crate::differences::case;

fn ports(first: u16) -> Value {
    let port = |host: u16, protocol: &str| config::mapping(host, 80, protocol);
    let one =
        json!({"hostPort": first + 9, "containerPort": 1, "protocol": "tcp", "hostIP": "10.1.0.1"});
    json!([port(first, "tcp"), port(first + 1, "udp"), one])
}

fn portmap(keys: &Value) -> Vec<Value> {
    let portmap = json!({"type": "portmap", "runtimeConfig": {"portMappings": ports(8080)}});
    behind_bridge(&changed(portmap, keys))
}

#[test]
fn portmap_is_found_by_its_owner() {
    case(|bed| {
        let conditions = json!(["ip saddr != 192.0.2.1"]);
        let keys = json!({"snat": true, "masqAll": false, "conditionsV4": conditions});
        let mappings = ports(8080);
        let less = json!([[mappings[0]], [], ports(9090), [{"hostPort": 8080}]]);
        let edits = [
            edit(&["runtimeConfig", "portMappings"], &less),
            edit(&["runtimeConfig"], &json!([])),
            edit(&["conditionsV4"], &json!([["ip saddr 192.0.2.7"], ["-s", "192.0.2.1"]])),
            edit(&["conditionsV6"], &json!([["ip6 saddr ::1"]])),
            edit(&["backend"], &json!(["iptables", "nftables"])),
            edit(&["markMasqBit"], &json!([5])),
            edit(&["externalSetMarkChain"], &json!(["CHAIN"])),
            edit(&["snat"], &json!([false])),
            edit(&["masqAll"], &json!([true])),
            edit(&["capabilities"], &json!([{"portMappings": false}])),
        ];
        let earlier = json!({"runtimeConfig": {"portMappings": ports(7070)}});
        survive_edits(bed, &portmap(&keys), ("portmap", &earlier), &edits);
    });
}

#[test]
fn portmap_by_iptables_is_found_by_its_owner() {
    case(|bed| {
        let edits = [
            edit(&["runtimeConfig", "portMappings"], &json!([[ports(8080)[0]], ports(9090)])),
            edit(&["backend"], &json!(["nftables"])),
            edit(&["markMasqBit"], &json!([5])),
            edit(&["conditionsV4"], &json!([["-s", "192.0.2.1"]])),
        ];
        let earlier = json!({"runtimeConfig": {"portMappings": ports(7070)}});
        let keys = json!({"backend": "iptables"});
        survive_edits(bed, &portmap(&keys), ("portmap", &earlier), &edits);
    });
}

fn firewall(keys: &Value) -> Vec<Value> {
    behind_bridge(&changed(json!({"type": "firewall"}), keys))
}

#[test]
fn firewall_is_found_by_its_owner() {
    case(|bed| {
        let edits = [
            edit(&["ingressPolicy"], &json!(["open", "same-bridge"])),
            edit(&["backend"], &json!(["iptables", "nftables", "firewalld"])),
            edit(&["iptablesAdminChainName"], &json!(["OTHER"])),
            edit(&["firewalldZone"], &json!(["other"])),
        ];
        let keys = json!({"ingressPolicy": "isolated"});
        survive_edits(bed, &firewall(&keys), ("firewall", &json!({})), &edits);
    });
}

#[test]
fn firewall_by_iptables_is_found_by_its_owner() {
    case(|bed| {
        let edits = [
            edit(&["ingressPolicy"], &json!(["open", "isolated"])),
            edit(&["backend"], &json!(["nftables", "firewalld"])),
            edit(&["iptablesAdminChainName"], &json!(["OTHER"])),
        ];
        let keys = json!({"backend": "iptables", "ingressPolicy": "same-bridge"});
        survive_edits(bed, &firewall(&keys), ("firewall", &json!({})), &edits);
    });
}

#[test]
fn a_source_of_firewalld_is_found_by_its_owner() {
    case(|bed| {
        let firewalld = Firewalld::start(bed);
        let plugins = firewall(&json!({"backend": "firewalld", "firewalldZone": "pods"}));
        let (list, pod) = (Chain::new(bed, plugins), bed.sandbox("pod"));
        for (key, more) in [
            ("firewalldZone", json!(["other"])),
            ("backend", json!(["nftables", "iptables"])),
            ("ingressPolicy", json!(["isolated"])),
        ] {
            for value in broken().iter().chain(more.as_array().unwrap()) {
                let mut edited = list.clone();
                set(&mut edited.plugins[1], &[key], value);
                for is_gc in [false, true] {
                    let result = list.add(&pod, "c1");
                    assert_eq!(firewalld.sources("pods").len(), 2);
                    if is_gc {
                        edited.gc(&["earlier"]);
                    } else {
                        edited.del(&pod, "c1", &result);
                    }
                    assert_eq!(firewalld.sources("pods"), [""; 0], "{key} edited to {value}");
                }
            }
        }
    });
}

/// What says where to look is not among the keys: `name`, `ipam.type` and `ipam.dataDir`.
fn keys_of_bridge() -> Vec<Edit> {
    let flags = [
        "isGateway",
        "isDefaultGateway",
        "forceAddress",
        "hairpinMode",
        "promiscMode",
        "preserveDefaultVlan",
        "macspoofchk",
        "enabledad",
        "disableContainerInterface",
        "portIsolation",
    ];
    let paths = flags.map(|flag| [flag]).map(|path| &*Box::leak(Box::new(path)));
    let flags = paths.into_iter().map(|path| edit(path, &json!([true, false])));
    flags
        .chain([
            edit(&["bridge"], &json!(["br9", "no bridge has such a name"])),
            edit(&["ipMasq"], &json!([false, "v4", "v5"])),
            edit(&["ipMasqExclude"], &json!([["192.0.2.0/24"], ["x"]])),
            edit(&["ipMasqBackend"], &json!(["iptables", "nftables"])),
            edit(&["mtu"], &json!([70_000])),
            edit(&["vlan"], &json!([9, 5000])),
            edit(&["vlanTrunk"], &json!([[{"minID": 9}]])),
            edit(&["dns"], &json!([{"nameservers": 1}])),
            edit(&["args"], &json!([{"cni": {"mac": "x"}}])),
            edit(&["runtimeConfig"], &json!([{"mac": "x", "ips": ["x"]}])),
            edit(&["ipam", "ranges"], &json!([[[{"subnet": "10.9.0.0/24"}]]])),
            edit(&["ipam", "routes"], &json!([[{"dst": "x"}]])),
            edit(&["ipam", "resolvConf"], &json!(["/nowhere"])),
            edit(&["ipam", "lockTimeout"], &json!(["9h"])),
            edit(&["ipam", "reclaim"], &json!(["never"])),
            edit(&["ipam", "graceAge"], &json!(["1m"])),
            edit(&["ipam", "sticky"], &json!(["pod"])),
        ])
        .collect()
}

#[test]
fn bridge_is_found_by_its_owner() {
    case(|bed| {
        let keys = json!({
            "cniVersion": "1.1.0", "name": "pods", "ipMasq": true, "macspoofchk": true,
            "mtu": 1400
        });
        let plugins = [changed(config::pods(), &keys)];
        survive_edits(bed, &plugins, ("bridge", &json!({})), &keys_of_bridge());
    });
}

#[test]
fn bridge_by_iptables_is_found_by_its_owner() {
    case(|bed| {
        let keys = json!({
            "cniVersion": "1.1.0", "name": "pods", "ipMasq": true, "ipMasqBackend": "iptables"
        });
        let edits = [
            edit(&["ipMasq"], &json!([false, "v6"])),
            edit(&["ipMasqBackend"], &json!(["nftables"])),
            edit(&["isGateway"], &json!([false])),
        ];
        survive_edits(bed, &[changed(config::pods(), &keys)], ("bridge", &json!({})), &edits);
    });
}
