//! A bridge and firewall, and a neighbour who knows the way to their pods.

use serde_json::{Value, json};

use crate::{
    bed::Testbed,
    call::{Call, Outcome},
    chain::behind,
    config::{bridge, dual_stack},
    network::Network,
    place::Sandbox,
    programs::SYSTEM_PATH,
    reach::reaches,
    result::addresses,
};

/// A chain of a bridge and firewall.
#[derive(Debug)]
pub struct Chain<'bed> {
    bed: &'bed Testbed,
    /// The bridge's network.
    pub bridge: Network<'bed>,
    /// firewall's own configuration.
    pub keys: Value,
}

impl<'bed> Chain<'bed> {
    /// A network of both address families, and firewall's own configuration.
    #[must_use]
    pub fn new(bed: &'bed Testbed, keys: Value) -> Self {
        Self { bed, bridge: bed.network(bridge(&dual_stack())), keys }
    }

    /// Another network, on another bridge.
    #[must_use]
    pub fn second(bed: &'bed Testbed, keys: Value) -> Self {
        let ranges = json!([[{"subnet": "10.2.0.0/24"}], [{"subnet": "fd00:2::/64"}]]);
        let ipam = json!({"type": "host-local", "ranges": ranges});
        let changes =
            json!({"name": "other", "bridge": "br1", "isDefaultGateway": true, "ipam": ipam});
        Self { bed, bridge: bed.network(bridge(&changes)), keys }
    }

    /// firewall's configuration for a container, with the bridge's result if it is known.
    #[must_use]
    pub fn config(&self, id: &str) -> Value {
        behind(&self.bridge, "firewall", &self.keys, id)
    }

    /// A call of firewall for a container.
    pub fn call(&self, verb: &str, pod: &Sandbox, id: &str) -> Call<'bed> {
        let call = self.bed.call(verb, id, &self.config(id)).netns(pod.path());
        // The host's tools, where a runtime has them.
        call.env("PATH", SYSTEM_PATH)
    }

    /// Runs a verb of firewall for a container.
    pub fn run(&self, verb: &str, pod: &Sandbox, id: &str) -> Outcome {
        self.call(verb, pod, id).run()
    }

    /// Both plugins' ADD: the pod's addresses.
    pub fn add(&self, pod: &Sandbox, id: &str) -> Vec<String> {
        let result = self.bridge.add(pod, id).result();
        let prev_result = &self.config(id)["prevResult"];
        assert_eq!(&self.run("ADD", pod, id).result(), prev_result, "it is passed on as it came");
        // A link needs its time to come up: who is cut off later is so for another reason.
        let gateway = |ip: &Value| ip["gateway"].as_str().map(str::to_owned);
        let gateways = result["ips"].as_array().into_iter().flatten().filter_map(gateway);
        reaches(pod, self.bed, &gateways.collect::<Vec<_>>());
        addresses(&result)
    }
}

/// A neighbour who knows the way to pods.
#[must_use]
pub fn neighbour(bed: &Testbed) -> Sandbox {
    let neighbour = bed.neighbour();
    for net in ["10.1.0.0/24", "10.2.0.0/24"] {
        neighbour.ip(&format!("route add {net} via 203.0.113.1"));
    }
    for net in ["fd00:1::/64", "fd00:2::/64"] {
        neighbour.ip(&format!("route add {net} via 2001:db8:ffff::1"));
    }
    neighbour
}

/// The neighbour's addresses.
#[must_use]
pub fn outside() -> [String; 2] {
    ["203.0.113.2", "2001:db8:ffff::2"].map(str::to_owned)
}
