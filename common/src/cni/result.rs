//! The result of an ADD, as of specification 1.1.0. Other versions are converted at the edge.

use super::ipam::empty_is_none;
use ipnetwork::IpNetwork;
use serde::{Deserialize, Serialize};
use std::fmt::{self, Display};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::Deref;
use std::str::FromStr;

/// A successful result (specification 1.1.0, section "Add Success").
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Success {
    /// Every interface that the attachment made or uses, on both sides.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub interfaces: Vec<Interface>,
    /// The addresses of the container.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ips: Vec<Ip>,
    /// Routes of the container.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub routes: Vec<Route>,
    /// Name servers for the container; the runtime applies them.
    #[serde(default, skip_serializing_if = "Dns::is_empty")]
    pub dns: Dns,
}

/// An interface of a result.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Interface {
    /// Its name in its namespace.
    pub name: String,
    /// Hardware address as text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mac: Option<String>,
    /// Maximum transmission unit, in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u32>,
    /// The network namespace's path; absent for an interface of the host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sandbox: Option<String>,
    /// Path of a socket (vhost-user devices).
    #[serde(default, rename = "socketPath", skip_serializing_if = "Option::is_none")]
    pub socket_path: Option<String>,
    /// PCI address (physical devices).
    #[serde(default, rename = "pciID", skip_serializing_if = "Option::is_none")]
    pub pci_id: Option<String>,
}

impl Interface {
    /// Whether it lives in a container; `""` and absent both mean the host.
    pub fn is_in_sandbox(&self) -> bool {
        self.sandbox.as_deref().is_some_and(|sandbox| !sandbox.is_empty())
    }
}

/// An address of a result.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ip {
    /// The address and the length of its subnet's prefix.
    pub address: Cidr,
    /// The subnet's gateway.
    #[serde(default, deserialize_with = "empty_is_none", skip_serializing_if = "Option::is_none")]
    pub gateway: Option<IpAddr>,
    /// Index into [`Success::interfaces`]; IPAM plugins leave it out, -1 is legal and means none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interface: Option<i64>,
}

/// A route of a result. What is absent is left to the plugin that sets it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    /// Destination.
    pub dst: Cidr,
    /// Next hop.
    #[serde(default, deserialize_with = "empty_is_none", skip_serializing_if = "Option::is_none")]
    pub gw: Option<IpAddr>,
    /// In bytes, 0 = not set.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub mtu: u32,
    /// Segment size to advertise, in bytes, 0 = not set.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub advmss: u32,
    /// Lower is preferred, 0 = not set.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub priority: u32,
    /// Routing table's number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub table: Option<u32>,
    /// 0 global, 253 link, 254 host (rtnetlink(7)).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<u8>,
}

impl Route {
    /// A route with nothing but a destination and a next hop.
    pub fn new(dst: Cidr, gw: Option<IpAddr>) -> Self {
        Self { dst, gw, mtu: 0, advmss: 0, priority: 0, table: None, scope: None }
    }

    /// Whether it is 0.0.0.0/0 or ::/0.
    pub fn is_default(&self) -> bool {
        self.dst.prefix() == 0
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature that serde calls")]
fn is_zero(number: &u32) -> bool {
    *number == 0
}

/// Name service for the container.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dns {
    /// Addresses, in order of preference.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub nameservers: Vec<String>,
    /// The local domain.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub domain: String,
    /// Search list for short names.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub search: Vec<String>,
    /// Resolver options.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub options: Vec<String>,
}

impl Dns {
    /// Whether nothing is set.
    pub(crate) fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// An address with the length of its prefix, which must be written out: `10.1.0.2/24`.
///
/// [`IpNetwork`] alone would read `10.1.0.2` as a /32, and a forgotten length as a host route.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Cidr(IpNetwork);

impl Cidr {
    /// The version of the Internet Protocol that it is an address of, as results up to 0.4.0 write it.
    pub(super) fn ip_version(&self) -> &'static str {
        if self.0.is_ipv4() { "4" } else { "6" }
    }

    /// The default route's destination in the family of `ip`.
    pub fn default_of(ip: IpAddr) -> Self {
        let unspecified = match ip {
            IpAddr::V4(_) => IpAddr::from(Ipv4Addr::UNSPECIFIED),
            IpAddr::V6(_) => IpAddr::from(Ipv6Addr::UNSPECIFIED),
        };
        // A length of 0 is valid for both families, so the fallback is never taken.
        Self(IpNetwork::new(unspecified, 0).unwrap_or_else(|_| unspecified.into()))
    }
}

impl Deref for Cidr {
    type Target = IpNetwork;
    fn deref(&self) -> &IpNetwork {
        &self.0
    }
}

impl From<IpNetwork> for Cidr {
    fn from(network: IpNetwork) -> Self {
        Self(network)
    }
}

impl Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for Cidr {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let invalid =
            || format!("invalid CIDR address: {text} (an address and a length, as 10.1.0.0/24)");
        let (_, length) = text.split_once('/').ok_or_else(invalid)?;
        // IpNetwork also accepts a netmask (10.1.0.0/255.255.0.0), which the Go library does not.
        if !length.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(invalid());
        }
        text.parse().map(Self).map_err(|_| invalid())
    }
}

impl Serialize for Cidr {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Cidr {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cidr_needs_its_length_and_keeps_its_host_bits() {
        assert_eq!("10.1.0.2/24".parse::<Cidr>().unwrap().to_string(), "10.1.0.2/24");
        for bad in ["10.1.0.2", "10.1.0.2/33", "10.1.0.2/255.0.0.0", "10.1.0.2/", "x/8", "", "/"] {
            assert!(bad.parse::<Cidr>().is_err(), "{bad}");
        }
        assert_eq!(Cidr::default_of("::1".parse().unwrap()).to_string(), "::/0");
        assert_eq!(Cidr::default_of("1.2.3.4".parse().unwrap()).to_string(), "0.0.0.0/0");
    }
}
