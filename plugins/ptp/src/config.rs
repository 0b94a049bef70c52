//! From JSON to what it means.

use common::Result;
use common::attach::{Layer3, link_keys};
use common::cni::Call;
use common::filter::masquerade::Scope;
use serde::Deserialize;

/// The plugin's own keys, as they stand in the file.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Config {
    mtu: i64,
}

/// What the configuration means.
#[derive(Debug)]
pub(crate) struct Plan {
    /// Bytes, of both ends; the kernel's default without it.
    pub(crate) mtu: Option<u32>,
    /// None for a pair that carries frames only.
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
