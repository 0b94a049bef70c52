//! `ipMasq` and the keys beside it.

use crate::cni::{Call, Cidr, Error, Result};
use serde::Deserialize;
use serde::de::{Deserializer, Unexpected, Visitor};
use std::fmt;

/// The keys, as they stand in the file.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Keys {
    ip_masq: IpMasq,
    ip_masq_exclude: Vec<Cidr>,
    ip_masq_backend: Option<String>,
}

/// `ipMasq`: all, nothing, or one family.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum IpMasq {
    #[default]
    None,
    All,
    V4,
    V6,
}

impl<'de> Deserialize<'de> for IpMasq {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Words;
        impl Visitor<'_> for Words {
            type Value = IpMasq;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("true, false, \"v4\" or \"v6\"")
            }
            fn visit_bool<E>(self, all: bool) -> Result<IpMasq, E> {
                Ok(if all { IpMasq::All } else { IpMasq::None })
            }
            fn visit_str<E: serde::de::Error>(self, family: &str) -> Result<IpMasq, E> {
                match family {
                    "v4" => Ok(IpMasq::V4),
                    "v6" => Ok(IpMasq::V6),
                    other => Err(E::invalid_value(Unexpected::Str(other), &self)),
                }
            }
        }
        deserializer.deserialize_any(Words)
    }
}

/// What of a pod's traffic is masqueraded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scope {
    /// What it sends from its IPv4 addresses.
    pub(super) ipv4: bool,
    /// What it sends from its IPv6 addresses.
    pub(super) ipv6: bool,
    /// But nothing that it sends to these networks.
    pub(super) exclude: Vec<Cidr>,
    /// Who does it.
    pub(super) backend: Backend,
}

/// Who masquerades.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Backend {
    /// Our own tables.
    #[default]
    Nftables,
    /// The tables of iptables, by its programs.
    Iptables,
}

impl Scope {
    /// `None` where nothing is masqueraded.
    ///
    /// # Errors
    /// Code 7 for values that are none.
    pub fn load(call: &Call) -> Result<Option<Self>> {
        let keys: Keys = call.network.config()?;
        if keys.ip_masq == IpMasq::None {
            return Ok(None);
        }
        let backend = match keys.ip_masq_backend.as_deref() {
            None | Some("" | "nftables") => Backend::Nftables,
            Some("iptables") => Backend::Iptables,
            Some(other) => {
                return Err(Error::config(format!("unknown ipmasq backend {other:?}")));
            }
        };
        Ok(Some(Self {
            ipv4: keys.ip_masq != IpMasq::V6,
            ipv6: keys.ip_masq != IpMasq::V4,
            exclude: keys.ip_masq_exclude,
            backend,
        }))
    }

    pub(super) fn has(&self, address: &Cidr) -> bool {
        if address.is_ipv4() { self.ipv4 } else { self.ipv6 }
    }
}
