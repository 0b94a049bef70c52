//! From JSON to what it means. A value that the plugin does not know is refused here, before anything is touched.

use crate::policy::Ingress;
use common::cni::Call;
use common::filter::Backend;
use common::filter::backend::refuse_bad_chain;
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
        refuse_bad_chain("iptablesAdminChainName", &admin_chain)?;
        Ok(Plan { backend, admin_chain, zone: or(self.firewalld_zone.clone(), TRUSTED), ingress })
    }
}

/// An empty text stands for a key that is not there.
fn or(text: String, default: &str) -> String {
    if text.is_empty() { default.to_owned() } else { text }
}
