//! The configuration: what its keys mean.

use crate::options::{Options, Provided, Requested};
use crate::protocol::{Ipv6Source, SOCKET};
use common::attach::kept::GRACE_AGE;
use common::cni::Timeout;
use common::{Call, Error, Network, Result};
use serde::Deserialize;
use std::path::PathBuf;

#[derive(Debug, Deserialize)]
struct Config {
    ipam: Option<Ipam>,
}

/// The keys of `ipam`.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Ipam {
    daemon_socket_path: String,
    request: Vec<Requested>,
    provide: Vec<Provided>,
    priority: u32,
    grace_age: Option<Timeout>,
    ipv4: Option<bool>,
    ipv6: Option<Ipv6Source>,
}

/// What the configuration means.
#[derive(Debug)]
pub(crate) struct Plan {
    /// Where the daemon listens.
    pub(crate) socket: PathBuf,
    pub(crate) options: Options,
    /// Of every route; 0 leaves it to the kernel.
    pub(crate) priority: u32,
    pub(crate) ipv4: bool,
    pub(crate) ipv6: Option<Ipv6Source>,
}

impl Plan {
    pub(crate) fn new(call: &Call) -> Result<Self> {
        let config: Config = call.network.config()?;
        let ipam = config.ipam.ok_or_else(|| {
            Error::config("missing \"ipam\"")
                .details("dhcp is the \"type\" of the section \"ipam\"")
        })?;
        let (ipv4, ipv6) = (ipam.ipv4.unwrap_or(true), ipam.ipv6);
        if !ipv4 && ipv6.is_none() {
            return Err(Error::config("ipam asks for no address")
                .details("\"ipv4\": false needs an \"ipv6\" of \"dhcp\", \"slaac\" or \"auto\""));
        }
        Ok(Self {
            socket: socket_or_default(ipam.daemon_socket_path),
            options: Options::new(&ipam.request, &ipam.provide, call.raw_args())?,
            priority: ipam.priority,
            ipv4,
            ipv6,
        })
    }
}

/// Where the daemon listens, for DEL and GC.
pub(crate) fn socket(network: &Network) -> PathBuf {
    socket_or_default(network.tolerant(&["ipam", "daemonSocketPath"]).unwrap_or_default())
}

/// For how many seconds GC spares a lease that nobody lists.
pub(crate) fn grace_age(network: &Network) -> u64 {
    let age = network.tolerant::<Timeout>(&["ipam", "graceAge"]);
    age.map_or(GRACE_AGE, |age| age.0).as_secs()
}

fn socket_or_default(path: String) -> PathBuf {
    if path.is_empty() { SOCKET.into() } else { path.into() }
}
