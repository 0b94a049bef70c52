//! The configuration.

use common::cni::{Call, IfName};
use common::{Error, Result};
use serde::Deserialize;

/// The plugin's own keys of the network configuration.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Config {
    vrfname: String,
    table: u32,
}

/// What the configuration means.
#[derive(Debug)]
pub(crate) struct Plan {
    /// The name of the VRF.
    pub(crate) vrf: IfName,
    /// The number of its table; `None` for that of the VRF that is there, or a free one.
    pub(crate) table: Option<u32>,
}

impl Plan {
    pub(crate) fn new(call: &Call) -> Result<Self> {
        let config: Config = call.network.config()?;
        let vrf = config.vrfname.parse().map_err(|_| {
            Error::config("configuration is expected to have a valid vrf name")
                .details(format!("\"vrfname\" is {:?}: it is the name of a link", config.vrfname))
        })?;
        Ok(Self { vrf, table: (config.table != 0).then_some(config.table) })
    }
}
