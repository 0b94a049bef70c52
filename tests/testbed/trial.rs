//! A plugin as its example in `conf/` uses it, for what all plugins have in common: the plugins
//! before it in the chain have run, and the next call is its own.

use std::{
    collections::BTreeSet,
    fs,
    rc::Rc,
    sync::atomic::{AtomicU32, Ordering},
};

use serde_json::{Value, json};

use crate::{
    bed::Testbed,
    call::{Call, Outcome},
    chain::{Chain, with_result},
    config::changed,
    dhcp::Served,
    place::Sandbox,
    programs::{SYSTEM_PATH, workspace},
};

/// Where the examples are, seen from the workspace.
const EXAMPLES: &str = "conf";

/// A plugin that is about to attach a container.
#[derive(Debug, Clone)]
pub struct Trial<'bed> {
    /// The host, as its example needs it.
    pub bed: &'bed Testbed,
    /// Which plugin it is.
    pub plugin: String,
    /// The container.
    pub pod: Sandbox,
    /// What the plugin is told, with the result of those before it.
    pub config: Value,
    container: String,
    before: Chain<'bed>,
    own: Value,
    surroundings: Rc<Surroundings<'bed>>,
}

/// What is around the host.
#[derive(Debug)]
struct Surroundings<'bed> {
    gateway: Sandbox,
    _served: Option<Served<'bed>>,
}

/// The plugins of every example, each with the keys that it has from its list.
fn examples() -> Vec<Vec<Value>> {
    let folder = fs::read_dir(workspace().join(EXAMPLES)).expect("there are examples");
    let files = folder.map(|entry| entry.expect("a file can be listed").path());
    let mut files: Vec<_> =
        files.filter(|path| path.extension().is_some_and(|own| own == "conflist")).collect();
    files.sort();
    let read = |path| {
        let text = fs::read(path).expect("an example can be read");
        let list: Value = serde_json::from_slice(&text).expect("an example is JSON");
        let common = json!({"cniVersion": "1.0.0", "name": list["name"]});
        let plugins = list["plugins"].as_array().expect("an example is a list");
        plugins.iter().map(|own| with_runtime_config(&changed(own.clone(), &common))).collect()
    };
    files.iter().map(read).collect()
}

/// As a runtime hands it in: only what the plugin asks for.
fn with_runtime_config(plugin: &Value) -> Value {
    let mut given = json!({
        "portMappings": [{"hostPort": 8080, "containerPort": 80, "protocol": "tcp"}],
        "bandwidth": {
            "ingressRate": 8_000_000, "ingressBurst": 8_000_000,
            "egressRate": 8_000_000, "egressBurst": 8_000_000
        }
    });
    let wanted = &plugin["capabilities"];
    let object = given.as_object_mut().expect("an object");
    object.retain(|capability, _| wanted[capability] == true);
    let is_none = object.is_empty();
    changed(plugin.clone(), &json!({"runtimeConfig": (!is_none).then_some(given)}))
}

/// What runs before the plugin in the first example that it is in, and its own configuration. An
/// IPAM plugin gets that of the plugin that runs it, which has made its link without addresses.
fn part_of(plugin: &str) -> (Vec<Value>, Value) {
    for list in examples() {
        if let Some(at) = list.iter().position(|own| own["type"] == plugin) {
            return (list[..at].to_vec(), list[at].clone());
        }
        if let Some(main) = list.iter().find(|main| main["ipam"]["type"] == plugin) {
            return (vec![changed(main.clone(), &json!({"ipam": null}))], main.clone());
        }
    }
    panic!("there is a plugin {plugin}, and no example in {EXAMPLES}/ has it")
}

impl<'bed> Trial<'bed> {
    /// The plugin on a new host, with a container `pod`.
    #[must_use]
    pub fn new(bed: &'bed Testbed, plugin: &str) -> Self {
        let (before, own) = part_of(plugin);
        let gateway = bed.lan();
        let uses_dhcp = before.iter().chain([&own]).any(|own| own["ipam"]["type"] == "dhcp");
        let served = uses_dhcp.then(|| Served::on_lan(bed, &gateway));
        let surroundings = Rc::new(Surroundings { gateway, _served: served });
        Self::attach(bed, plugin, Chain::new(bed, before), own, surroundings)
    }

    /// The same with another container.
    #[must_use]
    pub fn another(&self) -> Self {
        self.like(self.before.clone(), self.own.clone())
    }

    /// The same in another version of the protocol, with another container.
    #[must_use]
    pub fn in_version(&self, version: &str) -> Self {
        let version = json!({"cniVersion": version});
        let mut before = self.before.clone();
        // Without addresses a main plugin has no answer in the oldest versions.
        if !self.is_ipam() {
            before.plugins.iter_mut().for_each(|own| *own = changed(own.take(), &version));
        }
        self.like(before, changed(self.own.clone(), &version))
    }

    fn like(&self, before: Chain<'bed>, own: Value) -> Self {
        Self::attach(self.bed, &self.plugin, before, own, Rc::clone(&self.surroundings))
    }

    fn attach(
        bed: &'bed Testbed,
        plugin: &str,
        before: Chain<'bed>,
        own: Value,
        surroundings: Rc<Surroundings<'bed>>,
    ) -> Self {
        static PODS: AtomicU32 = AtomicU32::new(0);
        let container = format!("pod{}", PODS.fetch_add(1, Ordering::Relaxed));
        let pod = bed.sandbox(&container);
        let result = before.add(&pod, &container);
        let plugin = plugin.to_owned();
        let mut it =
            Self { bed, plugin, pod, container, config: own.clone(), before, own, surroundings };
        if !it.is_ipam() {
            it.config = with_result(&it.own, &result);
        }
        it
    }

    /// Whether it gives addresses to the main plugin before it.
    fn is_ipam(&self) -> bool {
        self.own["ipam"]["type"] == *self.plugin
    }

    /// Whether it makes the container's interface.
    #[must_use]
    pub fn is_first(&self) -> bool {
        self.before.plugins.is_empty()
    }

    /// Its configuration with another key.
    #[must_use]
    pub fn with(&self, key: &str, value: impl Into<Value>) -> Value {
        let mut config = self.config.clone();
        config[key] = value.into();
        config
    }

    /// A call without a verb.
    pub fn program(&self) -> Call<'bed> {
        self.bed.plugin(&self.plugin)
    }

    /// A verb for the container.
    pub fn call(&self, verb: &str) -> Call<'bed> {
        let call = self.program().command(verb).container(&self.container).ifname("eth0");
        call.netns(self.pod.path()).env("PATH", SYSTEM_PATH).config(&self.config)
    }

    /// DEL of a runtime that does not have the result.
    pub fn call_del(&self) -> Call<'bed> {
        self.call("DEL").config(&self.own)
    }

    /// ADD.
    pub fn add(&self) -> Outcome {
        self.call("ADD").run()
    }

    /// What is in the container, as lines.
    #[must_use]
    pub fn inside(&self) -> BTreeSet<String> {
        let mut lines = BTreeSet::new();
        for words in ["-d -o link show", "-o addr show", "rule show", "-6 rule show"] {
            lines.extend(self.pod.ip(words).lines().map(str::to_owned));
        }
        for words in ["route show table all", "-6 route show table all"] {
            let routes = self.pod.ip(words);
            // What the kernel adds and removes in its own time.
            let own = routes.lines().filter(|line| !line.contains("proto kernel"));
            lines.extend(own.map(|line| line.trim().to_owned()));
        }
        // Addresses become valid, and links get their carrier, in their own time.
        let mut settled = BTreeSet::new();
        for line in lines {
            let line = ["NO-CARRIER,", ",LOWER_UP", " tentative"]
                .iter()
                .fold(line, |line, own| line.replace(own, ""));
            let words: Vec<_> = line.split_whitespace().collect();
            let is_own = |at: &usize| *at == 0 || !["state", "qdisc"].contains(&words[at - 1]);
            let kept: Vec<_> = (0..words.len()).filter(is_own).map(|at| words[at]).collect();
            let is_kernels = ["fe80::", "ff00::", " lo ", " lo: ", "l3mdev"]
                .iter()
                .any(|own| line.contains(own));
            if !is_kernels {
                settled.insert(kept.join(" "));
            }
        }
        settled
    }

    /// DEL of the plugins before it, and the end of the container.
    pub fn leave(self) {
        self.before.del(&self.pod, &self.container, &Value::Null);
        let left = self.pod.ip_json("link show");
        let left: Vec<_> = left.as_array().into_iter().flatten().map(|it| &it["ifname"]).collect();
        assert_eq!(left, [&json!("lo")], "what DEL leaves in the container");
        self.pod.destroy();
    }

    /// The end of the container, and then DEL of the plugin and of those before it, without a path.
    pub fn vanish(self) {
        self.pod.destroy();
        self.call_del().netns("").run().silent();
        self.forget();
    }

    /// DEL of the plugins before it when the container has ended.
    pub fn forget(self) {
        for own in self.before.plugins.iter().rev() {
            self.bed.call("DEL", &self.container, own).env("PATH", SYSTEM_PATH).run().silent();
        }
        self.bed.replug(&self.surroundings.gateway);
    }
}
