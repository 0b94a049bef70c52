//! The file in which flanneld says what this node has of the cluster's network.

use common::cni::{Cidr, Context as _};
use common::{Code, Error, Result, file};
use ipnetwork::IpNetwork;
use std::path::Path;

/// The file has some hundred bytes.
const LIMIT: u64 = 64 << 10;

/// What it says.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct SubnetEnv {
    /// All addresses of the cluster's pods: those of IPv4 first.
    pub(crate) networks: Vec<Cidr>,
    /// Those of this node's pods: at most one network of each family, that of IPv4 first.
    pub(crate) subnets: Vec<Cidr>,
    /// The largest packet that gets to another node's pods, in bytes.
    pub(crate) mtu: u32,
    /// Whether flanneld masquerades, so that nobody else has to.
    pub(crate) ip_masq: bool,
}

impl SubnetEnv {
    /// # Errors
    /// Code 11, because flanneld writes the file when it has the node's subnet.
    pub(crate) fn load(path: &Path) -> Result<Self> {
        let text = file::open_named(path).and_then(|file| file::read(file, LIMIT));
        let read = text.context(path.display()).and_then(|text| {
            Self::parse(&String::from_utf8_lossy(&text))
                .map_err(|reason| Error::internal(format!("{} {reason}", path.display())))
        });
        read.map_err(|error| {
            let msg = format!("failed to load flannel 'subnet.env' file: {error}");
            let way_out = "Check the flannel pod log for this node.";
            Error::new(Code::TryAgain, format!("{msg}. {way_out}")).details(format!(
                "flanneld writes {} once it has a subnet for this node: is it running, and is the \
                 directory the one that it writes to?",
                path.display()
            ))
        })
    }

    /// What is wrong completes "the file ..".
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let [mut networks, mut subnets] = [[Vec::new(), Vec::new()], [Vec::new(), Vec::new()]];
        let (mut mtu, mut ip_masq) = (None, None);
        for line in text.lines() {
            let (key, value) = line.split_once('=').unwrap_or((line, ""));
            let (key, value) = (key.trim(), value.trim().trim_matches('"'));
            let wrong = |reason: &str| format!("has a line {:?}: {reason}", line.trim());
            // What is empty is as good as missing.
            let list = value.split(',').map(str::trim).filter(|word| !word.is_empty());
            let list = list.map(|word| word.parse::<Cidr>().map(masked).map_err(|e| wrong(&e)));
            match key {
                "FLANNEL_NETWORK" => networks[0] = list.collect::<Result<_, _>>()?,
                "FLANNEL_IPV6_NETWORK" => networks[1] = list.collect::<Result<_, _>>()?,
                "FLANNEL_SUBNET" => subnets[0] = list.collect::<Result<_, _>>()?,
                "FLANNEL_IPV6_SUBNET" => subnets[1] = list.collect::<Result<_, _>>()?,
                "FLANNEL_MTU" if !value.is_empty() => {
                    mtu = Some(value.parse().map_err(|_| wrong("that is no number of bytes"))?);
                }
                "FLANNEL_IPMASQ" if !value.is_empty() => ip_masq = Some(value == "true"),
                _ => {}
            }
        }
        let mut missing = Vec::new();
        if networks.iter().all(Vec::is_empty) {
            missing.extend(["FLANNEL_NETWORK", "FLANNEL_IPV6_NETWORK"]);
        }
        if subnets.iter().all(Vec::is_empty) {
            missing.extend(["FLANNEL_SUBNET", "FLANNEL_IPV6_SUBNET"]);
        }
        missing.extend(mtu.is_none().then_some("FLANNEL_MTU"));
        missing.extend(ip_masq.is_none().then_some("FLANNEL_IPMASQ"));
        let (Some(mtu), Some(ip_masq), []) = (mtu, ip_masq, &missing[..]) else {
            return Err(format!("is missing {}", missing.join(", ")));
        };
        if subnets.iter().any(|family| family.len() > 1) {
            return Err("gives the node two subnets of one family".to_owned());
        }
        Ok(Self { networks: distinct(networks), subnets: distinct(subnets), mtu, ip_masq })
    }
}

/// The network that an address is in.
fn masked(address: Cidr) -> Cidr {
    IpNetwork::new(address.network(), address.prefix()).map_or(address, Cidr::from)
}

/// Both families' networks, each once.
fn distinct(families: [Vec<Cidr>; 2]) -> Vec<Cidr> {
    let mut all = Vec::new();
    for network in families.into_iter().flatten() {
        if !all.contains(&network) {
            all.push(network);
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cidrs(texts: &[&str]) -> Vec<Cidr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn every_form_of_the_file_is_read() {
        let v4 = "FLANNEL_NETWORK=10.1.0.0/16\nFLANNEL_SUBNET=10.1.17.1/24\n";
        let v6 = "FLANNEL_IPV6_NETWORK=fd00:1::/48\nFLANNEL_IPV6_SUBNET=fd00:1:0:17::1/64\n";
        let rest = "FLANNEL_MTU=1450\nFLANNEL_IPMASQ=true\n";
        for (text, networks, subnets) in [
            (v4.to_owned(), &["10.1.0.0/16"][..], &["10.1.17.0/24"][..]),
            (v6.to_owned(), &["fd00:1::/48"], &["fd00:1:0:17::/64"]),
            (
                format!("{v6}{v4}"),
                &["10.1.0.0/16", "fd00:1::/48"],
                &["10.1.17.0/24", "fd00:1:0:17::/64"],
            ),
            (
                v4.replace("/16", "/16,10.2.0.0/16,10.1.0.0/16"),
                &["10.1.0.0/16", "10.2.0.0/16"],
                &["10.1.17.0/24"],
            ),
            (v4.replace('\n', "\r\n"), &["10.1.0.0/16"], &["10.1.17.0/24"]),
            (v4.replace('=', "=\"").replace('\n', "\"\n"), &["10.1.0.0/16"], &["10.1.17.0/24"]),
            (format!("\n# by hand\nOTHER\nX=\n=\n{v4}"), &["10.1.0.0/16"], &["10.1.17.0/24"]),
            (format!("{v4}FLANNEL_IPV6_NETWORK=\n"), &["10.1.0.0/16"], &["10.1.17.0/24"]),
        ] {
            let read = SubnetEnv::parse(&format!("{text}{rest}")).unwrap();
            let (networks, subnets) = (cidrs(networks), cidrs(subnets));
            assert_eq!(read, SubnetEnv { networks, subnets, mtu: 1450, ip_masq: true }, "{text:?}");
        }
        let read = SubnetEnv::parse(&format!("{v4}FLANNEL_MTU=1\nFLANNEL_IPMASQ=TRUE")).unwrap();
        assert!(!read.ip_masq, "only the exact word is");
    }

    #[test]
    fn what_is_missing_or_wrong_is_named() {
        let good = "FLANNEL_NETWORK=10.1.0.0/16\nFLANNEL_SUBNET=10.1.17.1/24\n\
                    FLANNEL_MTU=1450\nFLANNEL_IPMASQ=true\n";
        let without = |key: &str| {
            let kept = good.lines().filter(|line| !line.starts_with(key));
            kept.collect::<Vec<_>>().join("\n")
        };
        for (text, reason) in [
            (without("FLANNEL_NETWORK"), "is missing FLANNEL_NETWORK, FLANNEL_IPV6_NETWORK"),
            (without("FLANNEL_SUBNET"), "is missing FLANNEL_SUBNET, FLANNEL_IPV6_SUBNET"),
            (without("FLANNEL_MTU"), "is missing FLANNEL_MTU"),
            (without("FLANNEL_IPMASQ"), "is missing FLANNEL_IPMASQ"),
            (
                String::new(),
                "is missing FLANNEL_NETWORK, FLANNEL_IPV6_NETWORK, FLANNEL_SUBNET, \
                 FLANNEL_IPV6_SUBNET, FLANNEL_MTU, FLANNEL_IPMASQ",
            ),
            (good.replace("MTU=", "MTU "), "is missing FLANNEL_MTU"),
            (good.replace("1450", "-1"), "has a line \"FLANNEL_MTU=-1\""),
            (good.replace("/24", ""), "has a line \"FLANNEL_SUBNET=10.1.17.1\": invalid CIDR"),
            (good.replace("/16", "/99"), "has a line \"FLANNEL_NETWORK=10.1.0.0/99\""),
            (good.replace("/24", "/24,10.1.18.0/24"), "gives the node two subnets"),
        ] {
            let found = SubnetEnv::parse(&text).unwrap_err();
            assert!(found.starts_with(reason), "{text:?}: {found}");
        }
    }
}
