//! The configuration: what is to be set, and which of several values counts.

use crate::attributes::Attributes;
use crate::sysctls::{Sysctl, in_order};
use common::attach::link_keys;
use common::{Call, Error, Result};
use serde::Deserialize;
use std::collections::BTreeMap;

/// What is to be set: keys of the configuration, and of `args.cni`, where they count most.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Keys {
    sysctl: BTreeMap<String, String>,
    mac: Option<String>,
    promisc: bool,
    mtu: i64,
    allmulti: Option<bool>,
    #[serde(rename = "txQLen")]
    tx_queue_len: Option<u32>,
}

/// The other keys of the configuration.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Config {
    data_dir: Option<String>,
    runtime_config: RuntimeConfig,
    args: Args,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct RuntimeConfig {
    mac: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Args {
    cni: Keys,
}

/// What the configuration means.
#[derive(Debug)]
pub(crate) struct Plan {
    /// In the order in which they are set.
    pub(crate) sysctls: Vec<Sysctl>,
    pub(crate) attributes: Attributes,
    /// Where backups are; `None` for the default.
    pub(crate) data_dir: Option<String>,
}

impl Plan {
    pub(crate) fn new(call: &Call) -> Result<Self> {
        let (own, config): (Keys, Config) = (call.network.config()?, call.network.config()?);
        for path in [&["sysctl"][..], &["args", "cni", "sysctl"]] {
            if let Some(key) = call.network.repeated_key(path) {
                return Err(Error::config("duplicated sysctl keys are not allowed")
                    .details(format!("{key:?} stands there twice")));
            }
        }
        let args = call.args()?;
        let asked = config.args.cni;
        let mac = [
            asked.mac.as_deref(),
            config.runtime_config.mac.as_deref(),
            args.get("MAC"),
            own.mac.as_deref(),
        ];
        let mac = mac.into_iter().flatten().find(|mac| !mac.is_empty());
        let mac = mac.map(link_keys::mac).transpose()?;
        let attributes = Attributes {
            mac: mac.map(|mac| mac.to_string()),
            promisc: (asked.promisc || own.promisc).then_some(true),
            mtu: link_keys::mtu(if asked.mtu == 0 { own.mtu } else { asked.mtu })?,
            allmulti: asked.allmulti.or(own.allmulti),
            tx_queue_len: asked.tx_queue_len.or(own.tx_queue_len),
        };
        let sysctls = in_order(&own.sysctl, &asked.sysctl)?;
        Ok(Self { sysctls, attributes, data_dir: config.data_dir })
    }

    /// Whether there is nothing to do.
    pub(crate) fn is_idle(&self) -> bool {
        self.sysctls.is_empty() && self.attributes.is_empty()
    }
}
