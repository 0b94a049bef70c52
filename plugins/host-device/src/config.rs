//! The configuration: what its keys mean, and which of them are missing.

use crate::selector::{BusDevice, Selector};
use common::attach::{Layer3, Records};
use common::cni::Call;
use common::{Error, Result};
use serde::Deserialize;

/// The plugin's own keys of the network configuration.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Config {
    device: String,
    hwaddr: String,
    kernelpath: String,
    #[serde(rename = "pciBusID")]
    pci_bus_id: String,
    data_dir: String,
    runtime_config: RuntimeConfig,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct RuntimeConfig {
    #[serde(rename = "deviceID")]
    device_id: String,
}

/// What the configuration means.
#[derive(Debug)]
pub(crate) struct Plan {
    /// `None` where only the runtime says which device is meant, and has not said it.
    selector: Option<Selector>,
    /// Where the state of links that containers have is kept.
    pub(crate) records: Records,
    /// `None` for a link without addresses.
    pub(crate) layer3: Option<Layer3>,
}

impl Plan {
    pub(crate) fn new(call: &Call) -> Result<Self> {
        let config: Config = call.network.config()?;
        let given = |text: String| (!text.is_empty()).then_some(text);
        let id = given(config.runtime_config.device_id).map(BusDevice::Runtime);
        let bus = id.or_else(|| given(config.pci_bus_id).map(BusDevice::Pci));
        let selector = if let Some(name) = given(config.device) {
            Some(Selector::Name(name, bus))
        } else if let Some(mac) = given(config.hwaddr) {
            let mac = mac.parse().map_err(|error| Error::config(format!("hwaddr: {error}")))?;
            Some(Selector::Mac(mac, bus))
        } else if let Some(path) = given(config.kernelpath) {
            if !path.starts_with("/sys/devices/") {
                return Err(Error::config(format!("invalid kernelpath {path:?}")).details(
                    "it is the directory of a device, as /sys/devices/pci0000:00/0000:00:1f.6",
                ));
            }
            Some(Selector::Path(path, bus))
        } else {
            bus.map(Selector::Bus)
        };
        let plan =
            Self { selector, records: Records::at(&config.data_dir), layer3: Layer3::load(call)? };
        // STATUS and validate come before the runtime has named the device.
        let is_told_later = call.network.tolerant(&["capabilities", "deviceID"]) == Some(true);
        if !is_told_later {
            plan.selector()?;
        }
        Ok(plan)
    }

    pub(crate) fn selector(&self) -> Result<&Selector> {
        self.selector.as_ref().ok_or_else(|| {
            let msg = r#"specify either "device", "hwaddr", "kernelpath" or "pciBusID""#;
            Error::config(msg)
                .details("or \"capabilities\": {\"deviceID\": true}, if the runtime does")
        })
    }
}
