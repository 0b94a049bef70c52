//! From JSON to what it means. A value that the plugin does not know is refused here, before anything is touched.

use crate::policy::Ingress;
use common::cni::Call;
use common::filter::Backend;
use common::{Error, Network, Result};
use serde::Deserialize;

/// The plugin's keys, as they stand in the file.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Config {
    backend: String,
    iptables_admin_chain_name: String,
    firewalld_zone: String,
    ingress_policy: String,
}

/// The key `backend`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BackendKey {
    /// firewalld if it runs, else nftables, or iptables on a kernel whose nftables cannot.
    Any,
    Nftables,
    Iptables,
    Firewalld,
}

/// What the configuration means.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) backend: BackendKey,
    pub(crate) admin_chain: String,
    pub(crate) zone: String,
    pub(crate) ingress: Ingress,
}

impl Plan {
    pub(crate) fn new(call: &Call) -> Result<Self> {
        call.network.config::<Config>()?.plan()
    }

    /// Who does it where firewalld does not. What keeps the pods of a bridge apart has no stand-in:
    /// iptables sees their frames only where `br_netfilter` shows them.
    pub(crate) fn backend(&self) -> Backend {
        match (self.backend, self.ingress) {
            (BackendKey::Any, Ingress::Open | Ingress::SameBridge) => Backend::Any,
            (BackendKey::Iptables, _) => Backend::Iptables,
            _ => Backend::Nftables,
        }
    }
}

/// The zone of firewalld that DEL and GC look at where none stands beside the addresses.
pub(crate) fn zone_hint(network: &Network) -> String {
    or(network.tolerant(&["firewalldZone"]).unwrap_or_default(), TRUSTED)
}

/// The zone in which firewalld lets everything through.
const TRUSTED: &str = "trusted";

impl Config {
    fn plan(&self) -> Result<Plan> {
        let backend = match self.backend.as_str() {
            "" => BackendKey::Any,
            "nftables" => BackendKey::Nftables,
            "iptables" => BackendKey::Iptables,
            "firewalld" => BackendKey::Firewalld,
            other => {
                return Err(Error::config(format!("unknown firewall backend: {other:?}")).details(
                    "backend is nftables, iptables or firewalld; without it, firewalld is used \
                     where it runs, and nftables everywhere else",
                ));
            }
        };
        let ingress = match self.ingress_policy.as_str() {
            "" | "open" => Ingress::Open,
            "same-bridge" => Ingress::SameBridge,
            "isolated" => Ingress::Isolated,
            other => {
                return Err(Error::config(format!("unknown ingress policy: {other:?}"))
                    .details("ingressPolicy is open, same-bridge or isolated"));
            }
        };
        let admin_chain = or(self.iptables_admin_chain_name.clone(), "CNI-ADMIN");
        refuse_bad_chain(&admin_chain)?;
        Ok(Plan { backend, admin_chain, zone: or(self.firewalld_zone.clone(), TRUSTED), ingress })
    }
}

/// An empty text stands for a key that is not there.
fn or(text: String, default: &str) -> String {
    if text.is_empty() { default.to_owned() } else { text }
}

/// What iptables takes for the name of a chain, and nothing that it would read differently.
fn refuse_bad_chain(name: &str) -> Result<()> {
    const LONGEST: usize = 28;
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:".contains(&byte);
    if name.len() <= LONGEST && name.bytes().all(is_plain) && !name.starts_with('-') {
        return Ok(());
    }
    Err(Error::config(format!("iptablesAdminChainName {name:?} is no name for a chain")).details(
        "up to 28 letters, digits, dots, colons, hyphens and underscores, not beginning with a \
         hyphen",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chains_name_is_one_word() {
        for name in ["CNI-ADMIN", "DOCKER-USER", "x", &"n".repeat(28)] {
            assert!(refuse_bad_chain(name).is_ok(), "{name}");
        }
        for name in ["-x", "a b", "a\n-F", "a\"b", &"n".repeat(29)] {
            assert!(refuse_bad_chain(name).is_err(), "{name}");
        }
    }
}
