//! A bridge and portmap, and every way in which a client may reach a host port.

use serde_json::{Value, json};

use crate::{
    bed::Testbed,
    call::Outcome,
    chain::behind,
    config::{bridge, changed, dual_stack, mappings},
    network::Network,
    place::{Place, Sandbox},
    reach::knock,
};

/// A chain of a bridge and portmap.
#[derive(Debug)]
pub struct Chain<'bed> {
    bed: &'bed Testbed,
    /// The bridge's network.
    pub bridge: Network<'bed>,
    /// portmap's own configuration.
    pub keys: Value,
}

impl<'bed> Chain<'bed> {
    /// A network of both address families, whose pods may reach themselves by a host port.
    #[must_use]
    pub fn new(bed: &'bed Testbed) -> Self {
        Self::with(bed, json!({}))
    }

    /// The same with keys for portmap.
    #[must_use]
    pub fn with(bed: &'bed Testbed, keys: Value) -> Self {
        let changes = changed(dual_stack(), &json!({"hairpinMode": true}));
        Self { bed, bridge: bed.network(bridge(&changes)), keys }
    }

    /// portmap's configuration for a container, with the bridge's result if it is known.
    #[must_use]
    pub fn config(&self, id: &str, mappings: &Value) -> Value {
        let mut config = behind(&self.bridge, "portmap", &self.keys, id);
        config["runtimeConfig"] = json!({"portMappings": mappings});
        config
    }

    /// Runs a verb of portmap for a container.
    pub fn call(&self, verb: &str, pod: &Sandbox, id: &str, mappings: &Value) -> Outcome {
        let config = self.config(id, mappings);
        self.bed.call(verb, id, &config).netns(pod.path()).run()
    }

    /// Both plugins' ADD. `localnet` of the reference is left to itself.
    pub fn add(&self, pod: &Sandbox, id: &str, mappings: &Value) {
        let result = self.attach(pod, id);
        assert_eq!(self.call("ADD", pod, id, mappings).result()["ips"], result["ips"]);
    }

    /// The bridge's ADD.
    pub fn attach(&self, pod: &Sandbox, id: &str) -> Value {
        pod.ip("link set lo up");
        self.bridge.add(pod, id).result()
    }
}

/// Where a client is, and by which address of the host it asks. (`::1` leads nowhere.)
const CLIENTS: [(&str, &str); 9] = [
    ("neighbour", "203.0.113.1"),
    ("neighbour", "[2001:db8:ffff::1]"),
    ("host", "127.0.0.1"),
    ("host", "203.0.113.1"),
    ("host", "[2001:db8:ffff::1]"),
    ("itself", "203.0.113.1"),
    ("itself", "[2001:db8:ffff::1]"),
    ("other", "203.0.113.1"),
    ("other", "[2001:db8:ffff::1]"),
];

/// Whether a mapping with this host address is reached by that one.
fn is_open(host_ip: &str, at: &str) -> bool {
    match host_ip {
        "" => true,
        "0.0.0.0" => !at.starts_with('['),
        "::" => at.starts_with('['),
        own => own == at.trim_matches(['[', ']']),
    }
}

/// Every way to every kind of mapping; what differs from what the table above says.
#[must_use]
pub fn matrix(bed: &Testbed, keys: Value) -> Vec<String> {
    let neighbour = bed.neighbour();
    let chain = Chain::with(bed, keys);
    let other = bed.sandbox("other");
    chain.attach(&other, "other");
    let mut wrong = Vec::new();
    for (number, host_ip) in
        ["", "203.0.113.1", "0.0.0.0", "::", "127.0.0.1", "2001:db8:ffff::1"].iter().enumerate()
    {
        let pod = bed.sandbox(&format!("pod{number}"));
        let id = format!("c{number}");
        let more = if host_ip.is_empty() { json!({}) } else { json!({"hostIP": host_ip}) };
        let list = mappings(&[(8080, 80), (9090, 9090)], &more);
        chain.add(&pod, &id, &list);
        for (client, at) in CLIENTS {
            let from: &Place = match client {
                "neighbour" => &neighbour,
                "host" => bed,
                "itself" => &pod,
                _ => &other,
            };
            let reaches = is_open(host_ip, at);
            for (host, container) in [(8080, 80), (9090, 9090)] {
                let outcome = knock(from, &format!("{at}:{host}"), &pod, container, reaches);
                for (protocol, outcome) in ["tcp", "udp"].into_iter().zip(outcome) {
                    if outcome.is_ok() != reaches {
                        wrong.push(format!(
                            "{host_ip:?} {client} {at}:{host}/{protocol}: {outcome:?}"
                        ));
                    }
                    let is_neighbour = client == "neighbour" && reaches;
                    if is_neighbour && !outcome.is_ok_and(|seen| seen.to_string().ends_with('2')) {
                        wrong.push(format!("{host_ip:?}: the neighbour is not seen as itself"));
                    }
                }
            }
        }
        chain.call("DEL", &pod, &id, &list).silent();
        chain.bridge.del(&pod, &id).silent();
        pod.destroy();
    }
    wrong
}
