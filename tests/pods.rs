//! The network that most people have, for tests of whole attachments.

use serde_json::{Value, json};
use testbed::{Network, Place, Sandbox, Testbed};

/// Two address families, a default route, masquerading.
pub(crate) fn config() -> Value {
    json!({
        "cniVersion": "1.0.0", "name": "pods", "type": "bridge", "bridge": "br0",
        "isDefaultGateway": true, "ipMasq": true,
        "ipam": {
            "type": "host-local",
            "ranges": [[{"subnet": "10.1.0.0/24"}], [{"subnet": "fd00:1::/64"}]]
        }
    })
}

/// The same with other keys.
pub(crate) fn with(changes: &Value) -> Value {
    changed(config(), changes)
}

/// A configuration with other keys; null removes one.
pub(crate) fn changed(mut config: Value, changes: &Value) -> Value {
    for (key, value) in changes.as_object().unwrap() {
        config[key] = value.clone();
    }
    config.as_object_mut().unwrap().retain(|_, value| !value.is_null());
    config
}

/// A network whose shared parts are there already, with the attachment that made them.
pub(crate) struct Warm<'bed> {
    pub(crate) bed: &'bed Testbed,
    pub(crate) network: Network<'bed>,
    pub(crate) first: Sandbox,
    pub(crate) neighbour: Sandbox,
}

impl<'bed> Warm<'bed> {
    pub(crate) fn new(bed: &'bed Testbed, config: Value) -> Self {
        let (neighbour, first) = (bed.neighbour(), bed.sandbox("first"));
        let network = bed.network(config);
        network.add(&first, "first").success();
        Self { bed, network, first, neighbour }
    }

    /// Asserts that packets of this pod flow: to its gateway and, as the host's, to the neighbour.
    pub(crate) fn assert_connected(&self, pod: &Place) {
        let server = self.bed.tcp_server("0.0.0.0:7");
        assert!(pod.tcp("10.1.0.1:7", &server).is_ok(), "the gateway is out of reach");
        for (at, host) in
            [("203.0.113.2:7", "203.0.113.1"), ("[2001:db8:ffff::2]:7", "2001:db8:ffff::1")]
        {
            let server = self.neighbour.tcp_server(at);
            let seen = pod.tcp(at, &server).unwrap_or_else(|error| panic!("to {at}: {error}"));
            assert_eq!(seen.to_string(), host, "to {at}");
        }
    }
}

/// The addresses of a result, without their lengths.
pub(crate) fn addresses(result: &Value) -> Vec<String> {
    let bare = |ip: &Value| Some(ip["address"].as_str()?.split('/').next()?.to_owned());
    result["ips"].as_array().into_iter().flatten().filter_map(bare).collect()
}
