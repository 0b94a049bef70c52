//! `ipMasq` and the keys beside it.

use crate::cni::{Call, Cidr, Error, Result};
use crate::filter::Backend;
use crate::net::Family;
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
    /// What it sends from its addresses of these families.
    pub(super) families: &'static [Family],
    /// But nothing that it sends to these networks.
    pub(super) exclude: Vec<Cidr>,
    /// Who does it.
    pub(super) backend: Backend,
}

impl Scope {
    /// `None` where nothing is masqueraded.
    ///
    /// # Errors
    /// Code 7 for a backend that there is not, and for values of a wrong type.
    pub fn load(call: &Call) -> Result<Option<Self>> {
        let keys: Keys = call.network.config()?;
        let families: &[Family] = match keys.ip_masq {
            IpMasq::None => return Ok(None),
            IpMasq::All => &Family::ALL,
            IpMasq::V4 => &[Family::V4],
            IpMasq::V6 => &[Family::V6],
        };
        let backend = match keys.ip_masq_backend.as_deref() {
            None | Some("") => Backend::Any,
            Some("nftables") => Backend::Nftables,
            Some("iptables") => Backend::Iptables,
            Some(other) => {
                return Err(Error::config(format!("unknown ipmasq backend {other:?}"))
                    .details("choose \"nftables\" or \"iptables\""));
            }
        };
        Ok(Some(Self { families, exclude: keys.ip_masq_exclude, backend }))
    }

    pub(super) fn has(&self, address: &Cidr) -> bool {
        self.families.contains(&Family::of(address.ip()))
    }
}
