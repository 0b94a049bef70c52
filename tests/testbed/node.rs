//! A node whose pods `cnitool` has attached.

use serde_json::{Value, json};

use crate::{
    bed::Testbed,
    cnitool,
    config::{changed, pods_with},
    place::Sandbox,
};

/// A network with everything that the packet filter does for pods, and two of them.
#[derive(Debug)]
pub struct Node<'bed> {
    /// The host.
    pub bed: &'bed Testbed,
    /// A machine on the LAN.
    pub neighbour: Sandbox,
    /// The pod that has the host's port 8080 on its port 80, if the network has host ports.
    pub web: Sandbox,
    /// A pod without one.
    pub other: Sandbox,
}

impl<'bed> Node<'bed> {
    /// A network of bridge, portmap and firewall.
    #[must_use]
    pub fn new(bed: &'bed Testbed) -> Self {
        Self::with(bed, [json!({}), json!({}), json!({})])
    }

    /// With more keys for each plugin.
    #[must_use]
    pub fn with(bed: &'bed Testbed, keys: [Value; 3]) -> Self {
        let bridge = pods_with(&json!({"macspoofchk": true, "hairpinMode": true}));
        let portmap = json!({"type": "portmap", "capabilities": {"portMappings": true}});
        let firewall = json!({"type": "firewall", "ingressPolicy": "same-bridge"});
        let plugins = [bridge, portmap, firewall].into_iter().zip(keys);
        let plugins: Vec<_> = plugins.map(|(plugin, keys)| changed(plugin, &keys)).collect();
        Self::of(bed, &json!({"cniVersion": "1.0.0", "name": "pods", "plugins": plugins}))
    }

    /// Of this network. If it has host ports, the first pod has one.
    #[must_use]
    pub fn of(bed: &'bed Testbed, list: &Value) -> Self {
        bed.write("/etc/cni/net.d/10-pods.conflist", list.to_string());
        let node = Self {
            bed,
            neighbour: bed.neighbour(),
            web: bed.sandbox("web"),
            other: bed.sandbox("other"),
        };
        let ports = r#"CAP_ARGS={"portMappings": [{"hostPort": 8080, "containerPort": 80, "protocol": "tcp"}]}"#;
        node.succeeds(&[ports], &["add", "pods", node.web.path()]);
        node.succeeds(&[], &["add", "pods", node.other.path()]);
        node
    }

    /// Runs `cnitool`, which succeeds: everything that it says.
    pub fn succeeds(&self, variables: &[&str], words: &[&str]) -> String {
        cnitool::succeeds(self.bed, variables, words)
    }

    /// Runs `cnitool`, which fails: everything that it says.
    pub fn fails(&self, words: &[&str]) -> String {
        cnitool::fails(self.bed, words)
    }
}
