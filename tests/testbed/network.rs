//! A network configuration, used as a runtime uses it.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
};

use serde_json::{Value, json};

use crate::{
    bed::Testbed,
    call::{Call, Outcome},
    place::Sandbox,
};

/// A network of one plugin. It remembers results, as a runtime does, and hands them back with
/// CHECK and DEL.
#[derive(Debug)]
pub struct Network<'bed> {
    bed: &'bed Testbed,
    config: Value,
    ifname: String,
    args: String,
    results: Mutex<BTreeMap<String, Value>>,
}

impl<'bed> Network<'bed> {
    pub(crate) fn new(bed: &'bed Testbed, config: Value) -> Self {
        let (ifname, args) = ("eth0".to_owned(), String::new());
        Self { bed, config, ifname, args, results: Mutex::default() }
    }

    /// The same network with another interface name than `eth0`.
    #[must_use]
    pub fn ifname(self, name: &str) -> Self {
        Self { ifname: name.into(), ..self }
    }

    /// The same network with `CNI_ARGS`.
    #[must_use]
    pub fn args(self, args: &str) -> Self {
        Self { args: args.into(), ..self }
    }

    /// The configuration.
    #[must_use]
    pub fn config(&self) -> &Value {
        &self.config
    }

    /// ADD.
    pub fn add(&self, sandbox: &Sandbox, container: &str) -> Outcome {
        let outcome = self.call("ADD", container).netns(sandbox.path()).run();
        if outcome.status.success() {
            self.results().insert(container.into(), outcome.result());
        }
        outcome
    }

    /// DEL, with the result of the ADD.
    pub fn del(&self, sandbox: &Sandbox, container: &str) -> Outcome {
        let outcome = self.again("DEL", container).netns(sandbox.path()).run();
        if outcome.status.success() {
            self.results().remove(container);
        }
        outcome
    }

    /// CHECK, with the result of the ADD.
    pub fn check(&self, sandbox: &Sandbox, container: &str) -> Outcome {
        self.again("CHECK", container).netns(sandbox.path()).run()
    }

    /// GC: only these containers still exist.
    pub fn gc(&self, valid: &[&str]) -> Outcome {
        let attachment = |id| json!({"containerID": id, "ifname": self.ifname});
        let mut config = self.config.clone();
        config["cni.dev/valid-attachments"] = valid.iter().map(attachment).collect();
        self.plain("GC").config(&config).run()
    }

    /// STATUS.
    pub fn status(&self) -> Outcome {
        self.plain("STATUS").config(&self.config).run()
    }

    /// A call as for ADD, to be changed before it is run. Its namespace is not set.
    pub fn call(&self, verb: &str, container: &str) -> Call<'bed> {
        let call = self.plain(verb).container(container).ifname(&self.ifname).config(&self.config);
        if self.args.is_empty() { call } else { call.args(&self.args) }
    }

    /// A call as for CHECK and DEL, to be changed before it is run. Its namespace is not set.
    pub fn again(&self, verb: &str, container: &str) -> Call<'bed> {
        let mut config = self.config.clone();
        if let Some(result) = self.results().get(container).filter(|_| self.carries_results()) {
            config["prevResult"] = result.clone();
        }
        self.call(verb, container).config(&config)
    }

    /// What ADD answered for a container that is still there.
    #[must_use]
    pub fn result(&self, container: &str) -> Option<Value> {
        self.results().get(container).cloned()
    }

    fn plain(&self, verb: &str) -> Call<'bed> {
        let plugin = self.config["type"].as_str().expect("a configuration names its plugin");
        self.bed.plugin(plugin).command(verb)
    }

    /// The specification has `prevResult` for CHECK and DEL since 0.4.0.
    fn carries_results(&self) -> bool {
        let version = self.config["cniVersion"].as_str().unwrap_or("0.1.0");
        !matches!(version, "0.1.0" | "0.2.0" | "0.3.0" | "0.3.1")
    }

    fn results(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Value>> {
        self.results.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
