//! The configuration: of several sources of addresses, which one counts.

use common::cni::ipam::{OptionalIp, no_ipam, refuse_untellable};
use common::cni::{Cidr, CniArgs, Dns, Ip, Route};
use common::{Call, Code, Error, Result};
use serde::Deserialize;
use std::net::IpAddr;

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Config {
    ipam: Option<Ipam>,
    runtime_config: Requested,
    args: Args,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Ipam {
    addresses: Vec<Address>,
    routes: Vec<Route>,
    dns: Dns,
}

#[derive(Debug, Deserialize)]
struct Address {
    address: String,
    #[serde(default)]
    gateway: OptionalIp,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Args {
    cni: Requested,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Requested {
    ips: Vec<String>,
}

/// What the configuration means: the answer of an ADD.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) ips: Vec<Ip>,
    pub(crate) routes: Vec<Route>,
    pub(crate) dns: Dns,
}

impl Plan {
    pub(crate) fn new(call: &Call) -> Result<Self> {
        let config: Config = call.network.config()?;
        let args = call.args()?;
        let plan = Self::of(config, &args)?;
        let are_ipv4 = plan.ips.iter().map(|ip| ip.address.is_ipv4());
        refuse_untellable(call.version, are_ipv4).map(|()| plan)
    }

    /// The runtime's addresses count instead of those of `args`, and those instead of the
    /// configuration's and of `CNI_ARGS`. All are read, so that none is wrong unnoticed.
    fn of(config: Config, args: &CniArgs) -> Result<Self> {
        let Ipam { addresses, routes, dns } = config.ipam.ok_or_else(no_ipam)?;
        let mut own = addresses.into_iter().map(Address::ip).collect::<Result<Vec<_>>>()?;
        own.extend(of_environment(args)?);
        let [args, runtime] = [config.args.cni.ips, config.runtime_config.ips].map(requested);
        let replaced = |before: Vec<Ip>, ips: Vec<Ip>| if ips.is_empty() { before } else { ips };
        Ok(Self { ips: replaced(replaced(own, args?), runtime?), routes, dns })
    }
}

impl Address {
    fn ip(self) -> Result<Ip> {
        let what = "the 'address' field is expected to be in CIDR notation";
        let address = cidr(&self.address, what, Code::InvalidConfig)?;
        Ok(Ip { address, gateway: self.gateway.0, interface: None })
    }
}

fn requested(ips: Vec<String>) -> Result<Vec<Ip>> {
    let what = "an entry in the 'ips' field is NOT in CIDR notation";
    let read = |text: String| cidr(&text, what, Code::InvalidConfig).map(plain);
    ips.into_iter().map(read).collect()
}

/// The addresses of `IP` in `CNI_ARGS`, each with the one of `GATEWAY` that is in its network.
fn of_environment(args: &CniArgs) -> Result<Vec<Ip>> {
    let list = |key| {
        let texts = args.get(key).filter(|text| !text.is_empty()).into_iter();
        texts.flat_map(|text| text.split(',').map(str::trim))
    };
    let what = "the 'ip' field is expected to be in CIDR notation";
    let addresses = list("IP").map(|text| cidr(text, what, Code::BadEnvironment).map(plain));
    let mut ips = addresses.collect::<Result<Vec<_>>>()?;
    for text in list("GATEWAY") {
        let gateway: IpAddr = text.parse().map_err(|_| {
            Error::new(Code::BadEnvironment, format!("invalid gateway address: {text}"))
                .details("GATEWAY in CNI_ARGS is a list of addresses with , between")
        })?;
        for ip in ips.iter_mut().filter(|ip| ip.address.contains(gateway)) {
            ip.gateway = Some(gateway);
        }
    }
    Ok(ips)
}

fn plain(address: Cidr) -> Ip {
    Ip { address, gateway: None, interface: None }
}

fn cidr(text: &str, what: &str, code: Code) -> Result<Cidr> {
    text.parse().map_err(|_| {
        Error::new(code, format!("{what}, got: '{text}'"))
            .details("an address and the length of its network's prefix, as 10.1.0.5/24")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use common::Network;

    fn plan(keys: &str, args: &str) -> Result<Vec<String>> {
        let text = format!(r#"{{"name": "n", {keys}}}"#);
        let config = Network::parse(text.into())?.config()?;
        let ips = Plan::of(config, &args.parse()?)?.ips.into_iter();
        let text = |gateway: IpAddr| format!(" by {gateway}");
        let shown = |ip: Ip| format!("{}{}", ip.address, ip.gateway.map(text).unwrap_or_default());
        Ok(ips.map(shown).collect())
    }

    const OWN: &str = r#""ipam": {"addresses": [{"address": "10.1.0.5/24", "gateway": "10.1.0.1"},
        {"address": "fd00::5/64", "gateway": ""}]}"#;

    #[test]
    fn the_environment_adds_and_the_others_replace() {
        let environment = "IP=10.2.0.5/24, 10.3.0.5/24;GATEWAY=10.2.0.1,10.1.0.9";
        let all =
            ["10.1.0.5/24 by 10.1.0.1", "fd00::5/64", "10.2.0.5/24 by 10.2.0.1", "10.3.0.5/24"];
        assert_eq!(plan(OWN, environment).unwrap(), all);
        let args = format!(r#"{OWN}, "args": {{"cni": {{"ips": ["10.4.0.5/24"]}}}}"#);
        assert_eq!(plan(&args, environment).unwrap(), ["10.4.0.5/24"]);
        let runtime = |ips: &str| format!(r#"{args}, "RuntimeConfig": {{"ips": {ips}}}"#);
        assert_eq!(plan(&runtime(r#"["10.5.0.5/24"]"#), environment).unwrap(), ["10.5.0.5/24"]);
        assert_eq!(plan(&runtime("[]"), environment).unwrap(), ["10.4.0.5/24"]);
        assert_eq!(plan(r#""ipam": {}"#, "").unwrap(), [""; 0]);
    }

    #[test]
    fn what_is_no_address_is_quoted() {
        let address = r#""ipam": {"addresses": [{"address": "10.1.0.5"}]}"#;
        let ips = r#""ipam": {}, "args": {"cni": {"ips": ["10.1.0.5"]}}"#;
        for (keys, args, words) in [
            (
                address,
                "",
                "the 'address' field is expected to be in CIDR notation, got: '10.1.0.5'",
            ),
            (ips, "", "an entry in the 'ips' field is NOT in CIDR notation, got: '10.1.0.5'"),
            (OWN, "IP=x", "the 'ip' field is expected to be in CIDR notation, got: 'x'"),
            (OWN, "IP=10.1.0.5/24;GATEWAY=x", "invalid gateway address: x"),
            (r#""ipam": null"#, "", "IPAM config missing 'ipam' key"),
        ] {
            let error = plan(keys, args).unwrap_err().to_string();
            assert!(error.starts_with(words), "{error}");
        }
    }
}
