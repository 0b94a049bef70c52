//! From JSON to what it means: every conflict between keys is found here, before anything is touched.

use common::attach::{Layer3, link::Side, link_keys};
use common::cni::Call;
use common::net::{Mac, MacvlanMode};
use common::{Error, Result};
use serde::Deserialize;

/// The plugin's own keys, as they stand in the file.
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
    /// None for the link of the default route.
    pub(crate) master: Option<String>,
    /// Where that is.
    pub(crate) side: Side,
    pub(crate) mode: MacvlanMode,
    /// As it is given: how large it may be tells the master.
    pub(crate) mtu: i64,
    pub(crate) mac: Option<Mac>,
    /// Packets; the kernel's default without it.
    pub(crate) bc_queue_len: Option<u32>,
    /// None for a link that carries frames only.
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
