//! The configuration: what its keys mean, and which of them conflict.

use common::attach::{Layer3, Master};
use common::cni::Call;
use common::{Error, Result};
use serde::Deserialize;

/// The highest number of a VLAN; the one above it is reserved (IEEE 802.1Q, 9.6).
const LAST: u16 = 4094;

/// The plugin's own keys of the network configuration.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Config {
    vlan_id: i64,
    mtu: i64,
}

/// What the configuration means.
#[derive(Debug)]
pub(crate) struct Plan {
    /// It has a name.
    pub(crate) master: Master,
    pub(crate) id: u16,
    /// In bytes, as given: ADD compares it with that of the master.
    pub(crate) mtu: i64,
    pub(crate) layer3: Layer3,
}

impl Plan {
    pub(crate) fn new(call: &Call) -> Result<Self> {
        let Config { vlan_id, mtu } = call.network.config()?;
        let (master, layer3) = (Master::load(call)?, Layer3::load_chained(call)?);
        if master.name.is_none() {
            return Err(Error::config("\"master\" field is required")
                .details("it names the link that carries the VLAN: \"master\": \"eth0\""));
        }
        let id = u16::try_from(vlan_id).ok().filter(|id| *id <= LAST).ok_or_else(|| {
            // The Go plugin says so, and means 4094.
            let msg = format!("invalid VLAN ID {vlan_id} (must be between 0 and 4095 inclusive)");
            Error::config(msg).details("4095 is reserved: the last one is 4094")
        })?;
        Ok(Self { master, id, mtu, layer3 })
    }
}
