//! The configuration: what its keys mean, and which of them conflict.

use common::Result;
use common::attach::{Layer3, Master, link_keys};
use common::cni::Call;
use common::net::{Mac, MacvlanMode};
use serde::Deserialize;

/// The plugin's own keys of the network configuration.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Config {
    mode: String,
    mtu: i64,
    mac: Option<String>,
    bcqueuelen: u32,
}

/// What the configuration means.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) master: Master,
    pub(crate) mode: MacvlanMode,
    /// In bytes, as given: ADD compares it with that of the master.
    pub(crate) mtu: i64,
    pub(crate) mac: Option<Mac>,
    /// In packets; `None` for the kernel's default.
    pub(crate) bc_queue_len: Option<u32>,
    pub(crate) layer3: Layer3,
}

impl Plan {
    pub(crate) fn new(call: &Call) -> Result<Self> {
        let config: Config = call.network.config()?;
        let (master, layer3) = (Master::load(call)?, Layer3::load_chained(call)?);
        Ok(Self {
            master,
            mac: link_keys::requested_mac(call, config.mac.as_deref())?,
            mode: link_keys::mode("macvlan mode", &config.mode, MacvlanMode::Bridge)?,
            mtu: config.mtu,
            bc_queue_len: (config.bcqueuelen != 0).then_some(config.bcqueuelen),
            layer3,
        })
    }
}
