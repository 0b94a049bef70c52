//! The configuration: what its keys mean, and which of them conflict.

use common::attach::site::Side;
use common::attach::{Layer3, link_keys};
use common::cni::Call;
use common::net::{Mac, MacvlanMode};
use common::{Error, Result};
use serde::Deserialize;

/// The plugin's own keys of the network configuration.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Config {
    master: String,
    mode: String,
    mtu: i64,
    mac: Option<String>,
    link_in_container: bool,
    bcqueuelen: u32,
}

/// What the configuration means.
#[derive(Debug)]
pub(crate) struct Plan {
    /// `None` for the link of the default route.
    pub(crate) master: Option<String>,
    /// The side that the master is on.
    pub(crate) side: Side,
    pub(crate) mode: MacvlanMode,
    /// In bytes, as given: ADD compares it with that of the master.
    pub(crate) mtu: i64,
    pub(crate) mac: Option<Mac>,
    /// In packets; `None` for the kernel's default.
    pub(crate) bc_queue_len: Option<u32>,
    /// `None` for a link without addresses.
    pub(crate) layer3: Option<Layer3>,
}

impl Plan {
    pub(crate) fn new(call: &Call) -> Result<Self> {
        let config: Config = call.network.config()?;
        let mode = match config.mode.as_str() {
            "" => MacvlanMode::Bridge,
            name => MacvlanMode::of(name).ok_or_else(|| {
                Error::config(format!("unknown macvlan mode: {name:?}"))
                    .details("there are bridge, private, vepa and passthru")
            })?,
        };
        Ok(Self {
            master: (!config.master.is_empty()).then_some(config.master),
            side: if config.link_in_container { Side::Container } else { Side::Host },
            mode,
            mtu: config.mtu,
            mac: link_keys::requested_mac(call, config.mac.as_deref())?,
            bc_queue_len: (config.bcqueuelen != 0).then_some(config.bcqueuelen),
            layer3: Layer3::load(call)?,
        })
    }
}
