//! A chain of a plugin that makes a veth pair and bandwidth, and what tc(8) shows of it.

use serde_json::{Value, json};

use crate::{
    attachment::ptp,
    chain::Chain,
    config::{bridge, changed, dual_stack},
    place::Place,
    rate::burst,
};

/// bandwidth's own keys, from rates in bits a second.
#[must_use]
pub fn rates(ingress: u64, egress: u64) -> Value {
    json!({
        "ingressRate": ingress, "ingressBurst": burst(ingress),
        "egressRate": egress, "egressBurst": burst(egress)
    })
}

/// bandwidth's configuration on a network.
#[must_use]
pub fn bandwidth(network: &Value, keys: &Value) -> Value {
    let own = json!({
        "cniVersion": network["cniVersion"], "name": network["name"], "type": "bandwidth"
    });
    changed(own, keys)
}

/// Pods on a bridge, of both address families.
pub fn on_bridge<'bed>(bed: &'bed crate::Testbed, keys: &Value) -> Chain<'bed> {
    let network = bridge(&dual_stack());
    let own = bandwidth(&network, keys);
    Chain::new(bed, [network, own])
}

/// Pods that the host routes for.
pub fn on_ptp<'bed>(bed: &'bed crate::Testbed, keys: &Value) -> Chain<'bed> {
    let network = ptp(&json!({}));
    let own = bandwidth(&network, keys);
    Chain::new(bed, [network, own])
}

/// The name of the link of a result that packets are redirected to, if it lists one.
#[must_use]
pub fn ifb(result: &Value) -> Option<String> {
    let name = result["interfaces"].as_array()?.last()?["name"].as_str()?;
    name.starts_with("bwp").then(|| name.to_owned())
}

/// The name of the host's end of `eth0`, of a result.
#[must_use]
pub fn host_end(result: &Value) -> String {
    let interfaces = result["interfaces"].as_array().expect("interfaces");
    let names = interfaces.iter().filter(|one| one["sandbox"].is_null() || one["sandbox"] == "");
    let name = names.filter_map(|one| one["name"].as_str()).find(|name| name.starts_with("veth"));
    name.expect("a host's end").to_owned()
}

impl Place {
    /// `tc -j` with the words of `command`.
    pub fn tc(&self, command: &str) -> Vec<Value> {
        let words: Vec<_> = ["-j"].into_iter().chain(command.split_whitespace()).collect();
        let text = self.succeed("tc", &words);
        let text = if text.trim().is_empty() { "[]" } else { &text };
        serde_json::from_str(text).unwrap_or_else(|error| panic!("tc {command}: {error}: {text}"))
    }

    /// Runs `tc` with the words of `command`, which changes something.
    pub fn tc_quiet(&self, command: &str) {
        self.succeed("tc", &command.split_whitespace().collect::<Vec<_>>());
    }

    /// The queueing disciplines of a link that somebody has given it, the first one first: their kinds.
    #[must_use]
    pub fn qdiscs(&self, link: &str) -> Vec<String> {
        let listed = self.tc(&format!("qdisc show dev {link}"));
        let kinds = listed.iter().filter_map(|one| one["kind"].as_str());
        kinds.filter(|kind| *kind != "noqueue").map(str::to_owned).collect()
    }

    /// What a link's token bucket is told, in bytes: rate and burst.
    #[must_use]
    pub fn bucket(&self, link: &str) -> Option<[u64; 2]> {
        let listed = self.tc(&format!("qdisc show dev {link} root"));
        let bucket = listed.into_iter().find(|one| one["kind"] == "tbf")?;
        Some(["rate", "burst"].map(|key| bucket["options"][key].as_u64().expect("a number")))
    }

    /// The links that packets received by this one are redirected to.
    #[must_use]
    pub fn redirects(&self, link: &str) -> Vec<String> {
        let listed = self.tc(&format!("filter show dev {link} ingress"));
        let actions = listed.iter().filter_map(|one| one["options"]["actions"].as_array());
        let targets = actions.flatten().filter_map(|action| action["to_dev"].as_str());
        targets.map(str::to_owned).collect()
    }
}
