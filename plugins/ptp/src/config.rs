//! The configuration: what its keys mean.

use common::Result;
use common::attach::{Layer3, link_keys};
use common::cni::Call;
use common::filter::masquerade::Scope;
use serde::Deserialize;

/// The plugin's own keys of the network configuration.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Config {
    mtu: i64,
}

/// What the configuration means.
#[derive(Debug)]
pub(crate) struct Plan {
    /// Of both ends, in bytes; `None` for the kernel's default.
    pub(crate) mtu: Option<u32>,
    /// `None` for a pair without addresses.
    pub(crate) layer3: Option<Layer3>,
    pub(crate) masquerade: Option<Scope>,
}

impl Plan {
    pub(crate) fn new(call: &Call) -> Result<Self> {
        let config: Config = call.network.config()?;
        let layer3 = Layer3::load(call)?;
        let masquerade = Scope::load(call)?.filter(|_| layer3.is_some());
        Ok(Self { mtu: link_keys::mtu(config.mtu)?, layer3, masquerade })
    }
}
