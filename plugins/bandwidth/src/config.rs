//! The configuration: how fast the container may send and receive, and which of two places tells.

use common::cni::{Call, Cidr};
use common::net::tc::{Remote, Shaped, Shaper};
use common::{Error, Result};
use ipnetwork::IpNetwork;
use serde::Deserialize;

/// How fast. The keys stand in the configuration itself, or in what the runtime hands in.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Keys {
    ingress_rate: Option<u64>,
    ingress_burst: Option<u64>,
    egress_rate: Option<u64>,
    egress_burst: Option<u64>,
    shaped_subnets: Vec<String>,
    unshaped_subnets: Vec<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Runtime {
    runtime_config: RuntimeConfig,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct RuntimeConfig {
    bandwidth: Keys,
}

/// The bursts by which runtimes say that they have been told none: kubelet's for Docker, and that of
/// containerd and CRI-O.
const NO_BURST: [u64; 2] = [0x7fff_ffff, 0xffff_ffff];

/// The burst that serves a rate well: a twentieth of a second, in bits. One packet of TCP may come as 64
/// KiB, and none that is larger than the burst gets through.
fn burst_of(rate: u64) -> u64 {
    const LEAST: u64 = 8 * (64 << 10);
    (rate / 20).max(LEAST)
}

/// What the configuration means.
#[derive(Debug)]
pub(crate) struct Plan {
    /// What the container receives.
    pub(crate) ingress: Option<Shaper>,
    /// What it sends.
    pub(crate) egress: Option<Shaper>,
}

impl Plan {
    pub(crate) fn new(call: &Call) -> Result<Self> {
        let (own, runtime): (Keys, Runtime) = (call.network.config()?, call.network.config()?);
        let handed = runtime.runtime_config.bandwidth;
        let subnets = if own.names_subnets() { &own } else { &handed };
        // Rates are those of one place, as in the Go plugin: a 0 of the operator's beats a runtime.
        let mut limits = if own.has_limits() { own.limits() } else { handed.limits() };
        if !own.has_limits() {
            for (rate, burst) in &mut limits {
                if NO_BURST.contains(burst) {
                    *burst = burst_of(*rate);
                }
            }
        }
        let [ingress, egress] = limits;
        Ok(Self {
            ingress: shaper("ingress", ingress, subnets.shaped(Remote::Source)?)?,
            egress: shaper("egress", egress, subnets.shaped(Remote::Destination)?)?,
        })
    }

    /// Whether there is nothing to do.
    pub(crate) fn is_idle(&self) -> bool {
        self.ingress.is_none() && self.egress.is_none()
    }
}

impl Keys {
    fn has_limits(&self) -> bool {
        [self.ingress_rate, self.ingress_burst, self.egress_rate, self.egress_burst]
            .iter()
            .any(Option::is_some)
    }

    fn names_subnets(&self) -> bool {
        !self.shaped_subnets.is_empty() || !self.unshaped_subnets.is_empty()
    }

    /// Rate and burst of what the container receives, and of what it sends.
    fn limits(&self) -> [(u64, u64); 2] {
        let or_none = Option::unwrap_or_default;
        [
            (or_none(self.ingress_rate), or_none(self.ingress_burst)),
            (or_none(self.egress_rate), or_none(self.egress_burst)),
        ]
    }

    fn shaped(&self, remote: Remote) -> Result<Shaped> {
        let networks = |texts: &[String]| -> Result<Vec<IpNetwork>> {
            let network = |text: &String| match text.parse::<Cidr>() {
                Ok(network) => Ok(*network),
                Err(error) => {
                    Err(Error::config(format!("bad subnet {text:?} provided, details {error}"))
                        .details("a network with the length of its prefix, as 10.1.0.0/16"))
                }
            };
            texts.iter().map(network).collect()
        };
        match (&self.shaped_subnets[..], &self.unshaped_subnets[..]) {
            ([], []) => Ok(Shaped::All),
            ([], texts) => Ok(Shaped::Except(networks(texts)?, remote)),
            (texts, []) => Ok(Shaped::Only(networks(texts)?, remote)),
            _ => Err(Error::config(
                "unshapedSubnets and shapedSubnets cannot be both specified, one of them should be discarded",
            )
            .details("they stand in the configuration, or in runtimeConfig.bandwidth")),
        }
    }
}

/// From bits to bytes. The conflicts are those of the Go plugin, in its words.
fn shaper(key: &str, (rate, burst): (u64, u64), shaped: Shaped) -> Result<Option<Shaper>> {
    let refuse = |msg: String, details: &str| Err(Error::config(msg).details(details.to_owned()));
    match (rate, burst) {
        (0, 0) => return Ok(None),
        (_, 0) => {
            let details = format!(
                "{key}Burst is how many bits may pass at once after a pause: {} serve well",
                burst_of(rate)
            );
            return refuse("if rate is set, burst must also be set".to_owned(), &details);
        }
        (0, _) => {
            let details = format!("{key}Rate is missing, in bits a second");
            return refuse("if burst is set, rate must also be set".to_owned(), &details);
        }
        _ => {}
    }
    let Some(bytes) = u32::try_from(burst / 8).ok().filter(|bytes| *bytes < u32::MAX) else {
        let details = format!("{key}Burst is a number of bits: {burst}");
        return refuse("burst cannot be more than 4GB".to_owned(), &details);
    };
    if rate < 8 || bytes == 0 {
        let msg = format!("{key}Rate {rate} and {key}Burst {burst} must be at least 8");
        return refuse(msg, "they are numbers of bits, and the kernel counts in bytes");
    }
    Ok(Some(Shaper { rate: rate / 8, burst: bytes, shaped }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(rate: u64, burst: u64) -> Result<Option<Shaper>> {
        shaper("ingress", (rate, burst), Shaped::All)
    }

    #[test]
    fn rates_and_bursts_need_each_other() {
        assert_eq!(of(0, 0).unwrap(), None);
        let one = of(15, 8).unwrap().unwrap();
        assert_eq!((one.rate, one.burst), (1, 1));
        let largest = (4 << 30) * 8 - 16;
        assert_eq!(of(8, largest).unwrap().unwrap().burst, u32::MAX - 1);
        assert!(of(u64::MAX, largest).is_ok());
        for (rate, burst, words) in [
            (0, 1, "if burst is set, rate must also be set"),
            (1, 0, "if rate is set, burst must also be set"),
            (8, (4 << 30) * 8, "burst cannot be more than 4GB"),
            (8, u64::MAX, "burst cannot be more than 4GB"),
            (7, 8, "must be at least 8"),
            (8, 7, "must be at least 8"),
        ] {
            let error = of(rate, burst).unwrap_err();
            assert!(error.to_string().contains(words), "{rate} {burst}: {error}");
            assert_eq!(error.code(), common::Code::InvalidConfig);
        }
    }
}
