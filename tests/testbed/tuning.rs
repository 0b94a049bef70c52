//! An interface for tuning, with nothing around it.

use serde_json::{Value, json};

use crate::{bed::Testbed, config::changed, network::Network, place::Sandbox};

/// Where the Go plugin has what there was before.
pub const DATA_DIR: &str = "/run/cni/tuning";

/// A pod that has an interface `eth0`, whose other end it has as well, and the network of tuning with
/// these keys.
#[must_use]
pub fn tuning<'bed>(bed: &'bed Testbed, keys: &Value) -> (Network<'bed>, Sandbox) {
    let pod = bed.sandbox("pod");
    pod.ip("link add eth0 address 02:00:00:00:00:01 type veth peer name peer0");
    (bed.network(config(&pod, keys)), pod)
}

/// The configuration of tuning for the interface `eth0` of a pod.
#[must_use]
pub fn config(pod: &Sandbox, keys: &Value) -> Value {
    let interfaces = json!([{"name": "br0"}, {"name": "eth0", "mac": "02:00:00:00:00:01", "sandbox": pod.path()}]);
    let ips = json!([{"address": "10.1.0.2/24", "interface": 1}]);
    let own = json!({
        "cniVersion": "1.0.0", "name": "net", "type": "tuning",
        "prevResult": {"cniVersion": "1.0.0", "interfaces": interfaces, "ips": ips}
    });
    let config = changed(own, keys);
    if config["cniVersion"] == "1.0.0" {
        return config;
    }
    let mut config = config;
    config["prevResult"]["cniVersion"] = config["cniVersion"].clone();
    config
}

/// What of `eth0` can be tuned, as `ip` sees it.
#[must_use]
pub fn state(pod: &Sandbox) -> Value {
    let link = pod.link("eth0");
    let is_all = link["flags"].as_array().is_some_and(|flags| flags.contains(&json!("ALLMULTI")));
    json!({
        "mac": link["address"], "mtu": link["mtu"], "promisc": link["promiscuity"],
        "txQLen": link["txqlen"], "allmulti": is_all
    })
}

/// All that the tests of tuning change of a pod.
#[must_use]
pub fn tuned(pod: &Sandbox) -> (Value, Option<String>) {
    (state(pod), pod.sysctl("net/core/somaxconn"))
}

/// As [`tuning`], with what asserts that pod and host are as they are now.
pub fn restored<'bed>(
    bed: &'bed Testbed,
    keys: &Value,
) -> (Network<'bed>, Sandbox, impl Fn(&str) + use<'bed>) {
    let (network, pod) = tuning(bed, keys);
    let (before, host, place) = (tuned(&pod), bed.snapshot(), pod.clone());
    let assert_restored = move |what: &str| {
        assert_eq!(tuned(&place), before, "{what}");
        bed.assert_unchanged_since(&host);
    };
    (network, pod, assert_restored)
}
