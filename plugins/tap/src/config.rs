//! The configuration: what its keys mean.

use common::Result;
use common::attach::{Layer3, link_keys};
use common::cni::Call;
use common::net::{Mac, Tap};
use serde::Deserialize;

/// The plugin's own keys of the network configuration.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Config {
    multi_queue: bool,
    mtu: i64,
    mac: Option<String>,
    owner: Option<u32>,
    group: Option<u32>,
    selinux_context: String,
    bridge: String,
}

/// What the configuration means.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) tap: Tap,
    pub(crate) mac: Option<Mac>,
    /// In bytes; `None` for the kernel's default.
    pub(crate) mtu: Option<u32>,
    /// A bridge of the container.
    pub(crate) bridge: Option<String>,
    /// The SELinux label of the tap.
    pub(crate) label: Option<String>,
    pub(crate) layer3: Layer3,
}

impl Plan {
    pub(crate) fn new(call: &Call) -> Result<Self> {
        let config: Config = call.network.config()?;
        let given = |text: String| (!text.is_empty()).then_some(text);
        Ok(Self {
            tap: Tap { owner: config.owner, group: config.group, multi_queue: config.multi_queue },
            mac: link_keys::requested_mac(call, config.mac.as_deref())?,
            mtu: link_keys::mtu(config.mtu)?,
            bridge: given(config.bridge),
            label: given(config.selinux_context),
            layer3: Layer3::load_chained(call)?,
        })
    }
}
