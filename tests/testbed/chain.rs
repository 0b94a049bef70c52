//! A network of several plugins, used as a runtime uses it.

use serde_json::{Value, json};

use crate::{
    bed::Testbed, call::Outcome, config::changed, network::Network, place::Sandbox,
    programs::SYSTEM_PATH,
};

/// A chain of plugins. It remembers no result.
#[derive(Debug, Clone)]
pub struct Chain<'bed> {
    bed: &'bed Testbed,
    /// The plugins' configurations, in the order of ADD.
    pub plugins: Vec<Value>,
}

impl<'bed> Chain<'bed> {
    /// A chain of these plugins.
    pub fn new(bed: &'bed Testbed, plugins: impl Into<Vec<Value>>) -> Self {
        Self { bed, plugins: plugins.into() }
    }

    /// Runs a verb of one plugin for `eth0` of a container.
    pub fn run(&self, verb: &str, plugin: &Value, pod: &Sandbox, id: &str) -> Outcome {
        let call = self.bed.call(verb, id, plugin).netns(pod.path());
        call.env("PATH", SYSTEM_PATH).run()
    }

    /// Every plugin's ADD, in turn: the last result.
    pub fn add(&self, pod: &Sandbox, id: &str) -> Value {
        let add = |result, plugin: &Value| {
            self.run("ADD", &with_result(plugin, &result), pod, id).result()
        };
        self.plugins.iter().fold(Value::Null, add)
    }

    /// Every plugin's CHECK, with the result of ADD.
    pub fn check(&self, pod: &Sandbox, id: &str, result: &Value) {
        for plugin in &self.plugins {
            self.run("CHECK", &with_result(plugin, result), pod, id).silent();
        }
    }

    /// Every plugin's DEL, last one first, with the result of ADD or (null) without.
    pub fn del(&self, pod: &Sandbox, id: &str, result: &Value) {
        for plugin in self.plugins.iter().rev() {
            self.run("DEL", &with_result(plugin, result), pod, id).silent();
        }
    }

    /// Every plugin's GC: only these containers still exist.
    pub fn gc(&self, valid: &[&str]) {
        for plugin in &self.plugins {
            let config = with_valid(plugin, valid);
            let kind = config["type"].as_str().expect("a configuration names its plugin");
            self.bed.plugin(kind).command("GC").config(&config).run().silent();
        }
    }
}

/// A plugin's configuration with the result of those before it; null for none.
#[must_use]
pub fn with_result(plugin: &Value, result: &Value) -> Value {
    changed(plugin.clone(), &json!({"prevResult": result}))
}

/// A plugin's configuration for GC: `eth0` of each of these containers is still attached.
#[must_use]
pub fn with_valid(plugin: &Value, containers: &[&str]) -> Value {
    let attachment = |id: &&str| json!({"containerID": id, "ifname": "eth0"});
    let valid: Value = containers.iter().map(attachment).collect();
    changed(plugin.clone(), &json!({"cni.dev/valid-attachments": valid}))
}

/// The configuration of a plugin that is chained behind a bridge, with the bridge's result for a
/// container if it is known. `keys` are its own; version and name are the bridge's unless it has
/// others.
#[must_use]
pub fn behind(bridge: &Network<'_>, plugin: &str, keys: &Value, id: &str) -> Value {
    let mut config = keys.clone();
    for key in ["cniVersion", "name"] {
        if config[key].is_null() {
            config[key] = bridge.config()[key].clone();
        }
    }
    config["type"] = json!(plugin);
    if let Some(mut result) = bridge.result(id) {
        // As a runtime converts it.
        result["cniVersion"] = config["cniVersion"].clone();
        config["prevResult"] = result;
    }
    config
}
