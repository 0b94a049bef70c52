//! The configuration, and the one that it and the node's subnet make for the delegate.

use crate::subnet_env::SubnetEnv;
use common::cni::{Call, Context as _, Route, json};
use common::{Error, Result};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use std::path::PathBuf;

/// Where state is, unless `dataDir` says otherwise.
pub(crate) const DATA_DIR: &str = "/var/lib/cni/flannel";

/// A JSON object.
pub(crate) type Object = Map<String, Value>;

/// The plugin's own keys of the network configuration.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Config {
    subnet_file: String,
    data_dir: String,
    delegate: Object,
    ipam: Object,
    runtime_config: Option<Object>,
}

/// The routes of `ipam`, to which those of the cluster are added.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Routed {
    ipam: Routes,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Routes {
    routes: Vec<Route>,
}

/// What the configuration means.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) subnet_file: PathBuf,
    pub(crate) data_dir: PathBuf,
    delegate: Object,
    ipam: Object,
    routes: Vec<Route>,
    runtime_config: Option<Object>,
    /// `name` and `cniVersion`, which the delegate has in common with this network.
    common: Object,
}

impl Plan {
    pub(crate) fn new(call: &Call) -> Result<Self> {
        let config: Config = call.network.config()?;
        let routes: Result<Routed> = call.network.config();
        let delegate = &config.delegate;
        if json::get(delegate, "type").is_some_and(|kind| !kind.is_string()) {
            let msg = "'delegate' dictionary, if present, must have (string) 'type' field";
            return Err(Error::config(msg));
        }
        for key in ["name", "ipam"] {
            if json::get(delegate, key).is_some() {
                let msg = format!("'delegate' dictionary must not have '{key}' field");
                return Err(Error::config(format!("{msg}, it'll be set by flannel")));
            }
        }
        if kind_of(delegate) == "flannel" {
            return Err(Error::config("'delegate' dictionary has the 'type' flannel itself")
                .details(
                    "it names the plugin that makes the interface: bridge, ptp, ..; default bridge",
                ));
        }
        let routes = routes.context("failed to parse ipam.routes")?.ipam.routes;
        Ok(Self::of(call, config, routes))
    }

    /// For DEL and GC, which do not care what has become of the keys since ADD.
    pub(crate) fn tolerant(call: &Call) -> Self {
        let object = |key| call.network.tolerant::<Object>(&[key]).unwrap_or_default();
        let (mut delegate, mut ipam) = (object("delegate"), object("ipam"));
        for section in [&mut delegate, &mut ipam] {
            section.retain(|key, value| !key.eq_ignore_ascii_case("type") || value.is_string());
        }
        let data_dir = call.network.tolerant(&["dataDir"]).unwrap_or_default();
        Self::of(call, Config { data_dir, delegate, ipam, ..Config::default() }, Vec::new())
    }

    fn of(call: &Call, config: Config, routes: Vec<Route>) -> Self {
        let Config { subnet_file, data_dir, delegate, ipam, runtime_config } = config;
        let mut common = Object::new();
        set(&mut common, "name", call.network.name.as_str().into());
        let version = call.network.tolerant::<String>(&["cniVersion"]);
        if let Some(version) = version.filter(|version| !version.is_empty()) {
            set(&mut common, "cniVersion", version.into());
        }
        let path = |given: String, default: &str| {
            PathBuf::from(if given.is_empty() { default.to_owned() } else { given })
        };
        Self {
            subnet_file: path(subnet_file, "/run/flannel/subnet.env"),
            data_dir: path(data_dir, DATA_DIR),
            delegate,
            ipam,
            routes,
            runtime_config,
            common,
        }
    }

    /// The delegate's configuration. Without a subnet it does for DEL and GC.
    pub(crate) fn delegate(&self, subnet: Option<&SubnetEnv>) -> Object {
        let (mut config, mut ipam) = (self.delegate.clone(), self.ipam.clone());
        for (key, value) in &self.common {
            set(&mut config, key, value.clone());
        }
        if let Some(runtime_config) = &self.runtime_config {
            set(&mut config, "runtimeConfig", runtime_config.clone().into());
        }
        set_default(&mut config, "type", || "bridge".into());
        set_default(&mut ipam, "type", || "host-local".into());
        if kind_of(&config) == "bridge" {
            set_default(&mut config, "isGateway", || true.into());
        }
        if let Some(subnet) = subnet {
            set_default(&mut config, "ipMasq", || (!subnet.ip_masq).into());
            set_default(&mut config, "mtu", || subnet.mtu.into());
            if json::get(&config, "ipMasq") == Some(&Value::Bool(true)) {
                // Other nodes' pods, too, see a pod's own address.
                set_default(&mut config, "ipMasqExclude", || json!(subnet.networks));
            }
            let ranges = subnet.subnets.iter().map(|subnet| json!([{"subnet": subnet}]));
            set(&mut ipam, "ranges", ranges.collect());
            let cluster = subnet.networks.iter().map(|network| Route::new(*network, None));
            let routes: Vec<_> = self.routes.iter().cloned().chain(cluster).collect();
            set(&mut ipam, "routes", json!(routes));
        }
        set(&mut config, "ipam", ipam.into());
        config
    }
}

/// The `type` of a configuration.
pub(crate) fn kind_of(config: &Object) -> &str {
    json::get(config, "type").and_then(Value::as_str).unwrap_or_default()
}

/// Sets a key, however it is written.
pub(crate) fn set(object: &mut Object, key: &str, value: Value) {
    object.retain(|other, _| !other.eq_ignore_ascii_case(key));
    object.insert(key.to_owned(), value);
}

/// Sets a key that is missing.
fn set_default(object: &mut Object, key: &str, value: impl FnOnce() -> Value) {
    if json::get(object, key).is_none() {
        set(object, key, value());
    }
}
