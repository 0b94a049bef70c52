//! The keys about links that several plugins have.

use crate::cni::{Call, Error, Result};
use crate::net::{self, Mac, Mode};
use serde::Deserialize;

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Keys {
    args: Args,
    runtime_config: Cni,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Args {
    cni: Cni,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Cni {
    mac: Option<String>,
}

/// The hardware address that is asked for: by `runtimeConfig`, or else by `args`, or else by
/// `CNI_ARGS`, or else by `own`, the value of the plugin's own key.
///
/// # Errors
/// Code 7 for an invalid address, 4 for invalid `CNI_ARGS`.
pub fn requested_mac(call: &Call, own: Option<&str>) -> Result<Option<Mac>> {
    let keys: Keys = call.network.config()?;
    let args = call.args()?;
    let sources =
        [keys.runtime_config.mac.as_deref(), keys.args.cni.mac.as_deref(), args.get("MAC"), own];
    let given = sources.into_iter().flatten().find(|mac| !mac.is_empty());
    given.map(mac).transpose()
}

/// The value of a key `mac`.
///
/// # Errors
/// Code 7 for what is no hardware address, or none that an interface can have.
pub fn mac(text: &str) -> Result<Mac> {
    let parsed = text.parse().map_err(|error: net::Error| Error::config(format!("mac: {error}")));
    let mac: Mac = parsed?;
    // The kernel refuses these (`is_valid_ether_addr` of linux/etherdevice.h).
    if mac.0[0] & 1 == 1 || mac.0 == [0; 6] {
        return Err(Error::config(format!(
            "mac: {mac} is a group's address, or nobody's, and no interface can have it"
        )));
    }
    Ok(mac)
}

/// The value of a key that is one of the words of ip-link(8); `default` if it is empty.
///
/// # Errors
/// Code 7 for another word.
pub fn mode<M: Mode>(key: &str, given: &str, default: M) -> Result<M> {
    if given.is_empty() {
        return Ok(default);
    }
    M::of(given).ok_or_else(|| {
        let words: Vec<_> = M::NAMES.iter().map(|(name, _)| *name).collect();
        Error::config(format!("unknown {key}: {given:?}"))
            .details(format!("there are {}", words.join(", ")))
    })
}

/// The value of a key `mtu` in bytes; `None` for the kernel's default.
///
/// # Errors
/// Code 7 for a size that no link can have.
pub fn mtu(given: i64) -> Result<Option<u32>> {
    match u32::try_from(given) {
        // The Go plugins ignore a negative size, so existing configurations may have one.
        Ok(0) => Ok(None),
        Err(_) if given < 0 => Ok(None),
        Ok(mtu) if mtu <= 65535 => Ok(Some(mtu)),
        _ => Err(Error::config(format!("invalid mtu {given}: a link takes at most 65535"))),
    }
}
