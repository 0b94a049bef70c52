//! flannel: what its delegate gets of the node's subnet, and who is asked for what.

mod node;
mod state;
mod subnet;
mod two_nodes;
mod undo;

use serde_json::{Value, json};
use testbed::{
    Testbed,
    flannel::{LEASE, SUBNET_ENV, flannel},
    reach::seen,
    result::addresses,
};

use crate::differences::case;

/// What a delegate answers.
fn reply() -> Value {
    json!({"cniVersion": "1.0.0", "ips": [{"address": "10.1.17.2/24"}]})
}

/// The configuration that a delegate in the place of `kind` gets with ADD.
fn delegated(bed: &Testbed, kind: &str, config: &Value) -> Value {
    bed.recorder(kind, &reply());
    let pod = bed.sandbox("pod");
    bed.network(config.clone()).add(&pod, "c1").success();
    pod.destroy();
    let (verb, config) = bed.recorded(kind).pop().unwrap();
    assert_eq!(verb, "ADD");
    config
}

const V4: &str = "FLANNEL_NETWORK=10.1.0.0/16\nFLANNEL_SUBNET=10.1.17.1/24\n";
const V6: &str = "FLANNEL_IPV6_NETWORK=fc00::/48\nFLANNEL_IPV6_SUBNET=fc00:0:0:1::1/64\n";
const REST: &str = "FLANNEL_MTU=1472\nFLANNEL_IPMASQ=true\n";

#[test]
fn the_delegate_gets_the_nodes_subnets_and_the_way_to_the_cluster() {
    case(|bed| {
        let [v4_range, v6_range] =
            ["10.1.17.0/24", "fc00:0:0:1::/64"].map(|subnet| json!([{"subnet": subnet}]));
        let [v4, v6] = ["10.1.0.0/16", "fc00::/48"].map(|dst| json!({"dst": dst}));
        let many = V4.replace("/16", "/16,10.2.0.0/16,10.1.0.0/16");
        for (file, ranges, routes) in [
            (V4.to_owned(), json!([v4_range]), json!([v4])),
            (V6.to_owned(), json!([v6_range]), json!([v6])),
            (format!("{V6}{V4}"), json!([v4_range, v6_range]), json!([v4, v6])),
            (many, json!([v4_range]), json!([v4, {"dst": "10.2.0.0/16"}])),
        ] {
            bed.write(SUBNET_ENV, format!("{file}{REST}"));
            let plain = json!({"name": "cni-flannel", "type": "flannel"});
            let ipam = json!({"type": "host-local", "ranges": ranges, "routes": routes});
            let expected = json!({
                "name": "cni-flannel", "type": "bridge", "ipMasq": false, "isGateway": true,
                "mtu": 1472, "ipam": ipam
            });
            assert_eq!(delegated(bed, "bridge", &plain), expected, "{file}");
        }
    });
}

#[test]
fn what_the_delegate_is_told_by_name_stays() {
    case(|bed| {
        bed.write(SUBNET_ENV, format!("{V4}{REST}"));
        let delegate = json!({"type": "other", "ipMasq": true, "MTU": 1400, "own": {"a": 1}});
        let ipam = json!({
            "type": "else", "dataDir": "/x", "Ranges": [[{"subnet": "10.9.0.0/24"}]],
            "routes": [{"dst": "10.8.0.0/16", "gw": "10.1.17.9"}]
        });
        let config = flannel(&json!({
            "delegate": delegate, "ipam": ipam, "runtimeConfig": {"mac": "02:00:00:00:00:01"},
            "dns": {"domain": "x"}, "args": {"cni": {}}, "capabilities": {"mac": true}
        }));
        let expected = json!({
            "cniVersion": "1.1.0", "name": "cbr0", "type": "other",
            "ipMasq": true, "ipMasqExclude": ["10.1.0.0/16"], "MTU": 1400, "own": {"a": 1},
            "runtimeConfig": {"mac": "02:00:00:00:00:01"},
            "ipam": {
                "type": "else", "dataDir": "/x", "ranges": [[{"subnet": "10.1.17.0/24"}]],
                "routes": [{"dst": "10.8.0.0/16", "gw": "10.1.17.9"}, {"dst": "10.1.0.0/16"}]
            }
        });
        assert_eq!(delegated(bed, "other", &config), expected);
    });
}

#[test]
fn either_flanneld_masquerades_or_the_delegate() {
    case(|bed| {
        for (by_flanneld, exclude) in [(true, Value::Null), (false, json!(["10.1.0.0/16"]))] {
            let file = format!("{V4}FLANNEL_MTU=1450\nFLANNEL_IPMASQ={by_flanneld}\n");
            bed.write(SUBNET_ENV, file);
            let config = delegated(bed, "bridge", &flannel(&json!({})));
            assert_eq!(config["ipMasq"], !by_flanneld);
            assert_eq!(config["ipMasqExclude"], exclude);
        }
    });
}

#[test]
fn a_delegate_that_cannot_be_is_refused() {
    case(|bed| {
        bed.lease_subnet();
        let (pod, before) = (bed.sandbox("pod"), bed.snapshot());
        let wanted = "'delegate' dictionary, if present, must have (string) 'type' field";
        let own = |key| format!("must not have '{key}' field, it'll be set by flannel");
        for (changes, words) in [
            (json!({"delegate": {"type": 5}}), wanted.to_owned()),
            (json!({"delegate": {"name": "x"}}), own("name")),
            (json!({"delegate": {"Ipam": {}}}), own("ipam")),
            (json!({"delegate": {"type": "flannel"}}), "'type' flannel itself".to_owned()),
            (json!({"delegate": []}), "delegate".to_owned()),
            (json!({"ipam": {"routes": [{"dst": "x"}]}}), "failed to parse ipam.routes".to_owned()),
            (json!({"delegate": {"type": "nowhere"}}), "failed to find plugin".to_owned()),
        ] {
            bed.network(flannel(&changes)).add(&pod, "c1").fails_with(7, &words);
            bed.assert_unchanged_since(&before);
        }
    });
}

#[test]
fn a_main_plugin_cannot_take_it_for_ipam() {
    case(|bed| {
        bed.lease_subnet();
        let (pod, before) = (bed.sandbox("pod"), bed.snapshot());
        let ipam = json!({"type": "flannel"});
        let bridge = json!({"cniVersion": "1.0.0", "name": "n", "type": "bridge", "ipam": ipam});
        bed.network(bridge).add(&pod, "c1").fails_with(7, "hands out no addresses");
        assert!(pod.has_only_lo());
        let files = |snapshot: &testbed::Snapshot| snapshot.lines("file ").count();
        assert_eq!(files(&bed.snapshot()), files(&before));
    });
}

#[test]
fn the_delegate_runs_for_the_runtime_and_not_for_whoever_runs_flannel() {
    case(|bed| {
        bed.lease_subnet();
        let log = "/run/test/environment";
        let reply = reply();
        bed.script("bridge", &format!(
            "#!/bin/sh\ncat >/dev/null\n\
             echo \"$CNI_COMMAND $CNI_CONTAINERID $CNI_IFNAME $CNI_ARGS [$GIRDER_LINK$GIRDER_SEGMENT] $GIRDER_DEPTH\" >>{log}\n\
             [ $CNI_COMMAND != ADD ] || printf '%s' '{reply}'\n"
        ));
        let pod = bed.sandbox("pod");
        let network = bed.network(flannel(&json!({}))).args("IgnoreUnknown=1;K8S_POD_NAME=web");
        network.add(&pod, "c1").success();
        network.check(&pod, "c1").silent();
        network.del(&pod, "c1").silent();
        let line = |verb| format!("{verb} c1 eth0 IgnoreUnknown=1;K8S_POD_NAME=web [] 1\n");
        assert_eq!(bed.read(log), ["ADD", "CHECK", "DEL"].map(line).concat());
    });
}

#[test]
fn check_and_status_are_those_of_the_delegate() {
    case(|bed| {
        bed.lease_subnet();
        bed.recorder("bridge", &reply());
        let (network, pod) = (bed.network(flannel(&json!({}))), bed.sandbox("pod"));
        network.status().silent();
        let result = network.add(&pod, "c1").result();
        network.check(&pod, "c1").silent();
        let calls = bed.recorded("bridge");
        let verbs: Vec<_> = calls.iter().map(|(verb, _)| verb.as_str()).collect();
        assert_eq!(verbs, ["STATUS", "ADD", "CHECK"]);
        let (added, checked) = (&calls[1].1, &calls[2].1);
        assert_eq!(&calls[0].1, added);
        assert_eq!(checked["prevResult"], result);
        assert_eq!(checked["ipam"], added["ipam"]);
        bed.script(
            "bridge",
            "#!/bin/sh\ncat >/dev/null\n\
             echo '{\"cniVersion\": \"1.1.0\", \"code\": 53, \"msg\": \"not now\"}'; exit 1\n",
        );
        network.status().fails_with(53, "not now");
        network.check(&pod, "c1").fails_with(53, "not now");
    });
}

#[test]
fn pods_of_a_node_reach_each_other_and_the_world() {
    case(|bed| {
        let neighbour = bed.neighbour();
        for (number, (families, count)) in
            [(V4.to_owned(), 1), (V6.to_owned(), 1), (format!("{V4}{V6}"), 2)]
                .into_iter()
                .enumerate()
        {
            bed.write(SUBNET_ENV, format!("{families}FLANNEL_MTU=1450\nFLANNEL_IPMASQ=false\n"));
            let network = bed.network(flannel(&json!({})));
            network.add(&bed.sandbox(&format!("earlier{number}")), "earlier").success();
            let before = bed.snapshot();
            let pods = ["one", "two"].map(|name| bed.sandbox(name));
            let [one, two] = [0, 1].map(|pod| {
                let id = format!("c{pod}");
                let own = addresses(&network.add(&pods[pod], &id).result());
                network.check(&pods[pod], &id).silent();
                assert_eq!(pods[pod].link("eth0")["mtu"], 1450);
                own
            });
            assert_eq!(one.len(), count);
            for (own, other) in one.iter().zip(&two) {
                assert_eq!(&seen(&pods[0], &pods[1], other), own);
                let is_v6 = own.contains(':');
                let (at, host) = if is_v6 {
                    ("2001:db8:ffff::2", "2001:db8:ffff::1")
                } else {
                    ("203.0.113.2", "203.0.113.1")
                };
                assert_eq!(seen(&pods[0], &neighbour, at), host);
            }
            for (pod, sandbox) in pods.iter().enumerate() {
                let id = format!("c{pod}");
                network.del(sandbox, &id).silent();
                network.del(sandbox, &id).silent();
                sandbox.destroy();
            }
            bed.assert_unchanged_since(&before);
            bed.network(flannel(&json!({})))
                .del(&bed.sandbox(&format!("x{number}")), "earlier")
                .silent();
            bed.ip("link del cni0");
        }
    });
}

#[test]
fn every_version_is_spoken() {
    case(|bed| {
        bed.write(SUBNET_ENV, LEASE);
        for version in ["0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"] {
            let pod = bed.sandbox("pod");
            let network = bed.network(flannel(&json!({"cniVersion": version})));
            let result = network.add(&pod, "c1").result();
            assert_eq!(result["cniVersion"], version);
            let has_old_shape = version < "0.3.0";
            assert_eq!(result["ip4"].is_object(), has_old_shape, "{result}");
            network.del(&pod, "c1").silent();
            assert!(pod.has_only_lo());
            pod.destroy();
        }
    });
}
