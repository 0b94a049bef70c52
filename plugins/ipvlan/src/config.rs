//! The configuration: what its keys mean, and which of them conflict.

use common::Result;
use common::attach::{Layer3, Master, link_keys};
use common::cni::Call;
use common::net::{IpvlanFlag, IpvlanMode};
use serde::Deserialize;

/// The plugin's own keys of the network configuration.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Config {
    mode: String,
    flag: String,
    mtu: i64,
}

/// What the configuration means.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) master: Master,
    pub(crate) mode: IpvlanMode,
    pub(crate) flag: IpvlanFlag,
    /// In bytes; `None` for that of the master.
    pub(crate) mtu: Option<u32>,
    pub(crate) layer3: Layer3,
}

impl Plan {
    pub(crate) fn new(call: &Call) -> Result<Self> {
        let config: Config = call.network.config()?;
        let (master, layer3) = (Master::load(call)?, Layer3::load_chained(call)?);
        Ok(Self {
            master,
            mode: link_keys::mode("ipvlan mode", &config.mode, IpvlanMode::L2)?,
            flag: link_keys::mode("ipvlan flag", &config.flag, IpvlanFlag::Bridge)?,
            mtu: link_keys::mtu(config.mtu)?,
            layer3,
        })
    }
}
