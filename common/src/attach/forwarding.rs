//! Whether the host forwards packets for its containers. The setting is shared by all attachments, so
//! DEL does not reset it.

use crate::cni::{Error, Result};
use crate::net::{Family, sysctl};
use std::net::IpAddr;

fn key(family: Family) -> &'static str {
    match family {
        Family::V4 => "net/ipv4/ip_forward",
        Family::V6 => "net/ipv6/conf/all/forwarding",
    }
}

/// The families of these addresses, without repetition.
fn families(addresses: impl Iterator<Item = IpAddr>) -> Vec<Family> {
    let found: Vec<_> = addresses.map(Family::of).collect();
    Family::ALL.into_iter().filter(|family| found.contains(family)).collect()
}

/// Makes the host forward packets of the families of these addresses.
///
/// # Errors
/// When the kernel refuses.
pub fn ensure(addresses: impl Iterator<Item = IpAddr>) -> Result<()> {
    families(addresses).into_iter().try_for_each(|family| {
        sysctl::set(key(family), "1")
            .map_err(|error| Error::internal(format!("failed to enable forwarding: {error}")))
    })
}

/// Every one of these families that the host does not forward.
///
/// # Errors
/// When the kernel cannot be asked.
pub fn verify(addresses: impl Iterator<Item = IpAddr>) -> Result<Vec<String>> {
    let mut differences = Vec::new();
    for key in families(addresses).into_iter().map(key) {
        if sysctl::read(key)?.as_deref() == Some("0") {
            differences.push(format!("{key} is 0: the host does not forward for its containers"));
        }
    }
    Ok(differences)
}
