//! What IPAM plugins have in common.

use super::{Error, Result, Version};
use serde::{Deserialize, Deserializer, de};
use std::net::IpAddr;
use std::str::FromStr;

/// An address; an empty text is none, as templates leave it behind.
#[derive(Clone, Copy, Debug, Default)]
pub struct OptionalIp(pub Option<IpAddr>);

impl FromStr for OptionalIp {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Ok(Self(None));
        }
        let ip: IpAddr = text.parse().map_err(|_| format!("invalid IP address: {text}"))?;
        Ok(Self(Some(ip.to_canonical())))
    }
}

impl<'de> Deserialize<'de> for OptionalIp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

/// Reads an address that may be missing, as [`OptionalIp`] does: so an address of Go's library reads.
pub(super) fn empty_is_none<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<IpAddr>, D::Error> {
    let ip = Option::<OptionalIp>::deserialize(deserializer)?;
    Ok(ip.and_then(|ip| ip.0))
}

/// The error of a configuration without the section `ipam`.
pub fn no_ipam() -> Error {
    Error::config("IPAM config missing 'ipam' key")
}

/// Refuses more addresses than a result can tell; `are_ipv4` has one item for each.
///
/// # Errors
/// Code 7 for two of one family before 0.3.0.
pub fn refuse_untellable(version: Version, are_ipv4: impl Iterator<Item = bool>) -> Result<()> {
    let (v4, v6): (Vec<bool>, Vec<bool>) = are_ipv4.partition(|is_ipv4| *is_ipv4);
    if version < Version::V0_3_0 && v4.len().max(v6.len()) > 1 {
        let msg = format!("CNI version {version} does not support more than 1 address per family");
        return Err(Error::config(msg).details("use cniVersion 0.3.0 or later"));
    }
    Ok(())
}
