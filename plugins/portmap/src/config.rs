//! From JSON to what it means. Conflicts between keys are found here, before anything is touched.

use crate::conditions;
use crate::hostports::iptables::{IptablesOptions, MasqueradeMark};
use crate::hostports::{At, Condition, Mapping, PortMappings, SourceNat};
use crate::per_family::PerFamily;
use common::cni::Call;
use common::filter::Backend;
use common::filter::backend::refuse_bad_chain;
use common::net::{Family, ipproto};
use common::{Error, Network, Result};
use serde::Deserialize;
use std::net::IpAddr;

/// The plugin's keys, as they stand in the file.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Config {
    backend: String,
    snat: Option<bool>,
    masq_all: bool,
    mark_masq_bit: Option<i64>,
    external_set_mark_chain: Option<String>,
    conditions_v4: Vec<String>,
    conditions_v6: Vec<String>,
    runtime_config: RuntimeConfig,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct RuntimeConfig {
    port_mappings: Vec<PortMapping>,
}

/// An entry of `portMappings`.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct PortMapping {
    host_port: i64,
    container_port: i64,
    protocol: String,
    #[serde(rename = "hostIP")]
    host_ip: String,
}

/// What the configuration means.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) mappings: Vec<Mapping>,
    pub(crate) source_nat: SourceNat,
    /// Empty where iptables has them.
    pub(crate) conditions: PerFamily<Vec<Condition>>,
    /// The keys that only one backend understands choose it, where `backend` does not.
    pub(crate) backend: Backend,
    pub(crate) iptables: IptablesOptions,
}

fn name(backend: Backend) -> &'static str {
    match backend {
        Backend::Any | Backend::Nftables => "nftables",
        Backend::Iptables => "iptables",
    }
}

impl Plan {
    pub(crate) fn new(call: &Call) -> Result<Self> {
        let config: Config = call.network.config()?;
        let (backend, iptables) = (config.backend()?, config.iptables());
        let conditions = match backend {
            Backend::Any | Backend::Nftables => config.conditions()?,
            Backend::Iptables => Default::default(),
        };
        let entries = &config.runtime_config.port_mappings;
        let mappings = entries.iter().map(PortMapping::mapping).collect::<Result<Vec<_>>>()?;
        PortMappings::refuse_overlaps(&mappings)?;
        let source_nat = match config.snat.unwrap_or(true) {
            false => SourceNat::None,
            true if config.masq_all => SourceNat::All,
            true => SourceNat::Needed,
        };
        Ok(Self { mappings, source_nat, conditions, backend, iptables })
    }
}

/// The mappings that can still be understood, by which DEL finds elements without listing all.
pub(crate) fn mapping_hints(network: &Network) -> Vec<Mapping> {
    let entries = network.tolerant::<Vec<PortMapping>>(&["runtimeConfig", "portMappings"]);
    entries.unwrap_or_default().iter().filter_map(|entry| entry.mapping().ok()).collect()
}

impl Config {
    /// Refuses what the Go plugin refuses, in its words: users search for them.
    fn backend(&self) -> Result<Backend> {
        if self.external_set_mark_chain.is_some() && self.mark_masq_bit.is_some() {
            return Err(Error::config("Cannot specify externalSetMarkChain and markMasqBit"));
        }
        if let Some(chain) = &self.external_set_mark_chain {
            refuse_bad_chain("externalSetMarkChain", chain)?;
        }
        if self.mark_masq_bit.is_some_and(|bit| !(0..=31).contains(&bit)) {
            return Err(Error::config("MasqMarkBit must be between 0 and 31"));
        }
        let options = self.options();
        let asked = match self.backend.as_str() {
            "" => options.first().map_or(Backend::Any, |(_, backend)| *backend),
            "nftables" => Backend::Nftables,
            "iptables" => Backend::Iptables,
            other => return Err(Error::config(format!("unrecognized backend {other:?}"))),
        };
        let others: Vec<_> = options.iter().filter(|(_, backend)| *backend != asked).collect();
        if let Some((_, other)) = others.first() {
            let keys: Vec<_> = others.iter().map(|(key, _)| *key).collect();
            return Err(Error::config(format!(
                "{} backend was requested but configuration contains {}-specific options [{}]",
                name(asked),
                name(*other),
                keys.join(" "),
            )));
        }
        let ends_word = |c: char| c.is_whitespace() || c.is_control() || "\"'\\".contains(c);
        let is_word = |word: &String| !word.contains(ends_word);
        let mut words = self.conditions_v4.iter().chain(&self.conditions_v6);
        if asked == Backend::Iptables
            && let Some(word) = words.find(|word| !is_word(word))
        {
            return Err(Error::config(format!("conditions: {word:?} is no word of iptables"))
                .details("each word is an item of its own, without blanks and quotes"));
        }
        Ok(asked)
    }

    /// Of nftables, in the words of nft(8).
    fn conditions(&self) -> Result<PerFamily<Vec<Condition>>> {
        Ok(PerFamily {
            v4: conditions::parse("conditionsV4", &self.conditions_v4, Family::V4)?,
            v6: conditions::parse("conditionsV6", &self.conditions_v6, Family::V6)?,
        })
    }

    fn iptables(&self) -> IptablesOptions {
        let bit = self.mark_masq_bit.and_then(|bit| u8::try_from(bit).ok());
        let mark = match (&self.external_set_mark_chain, bit) {
            (Some(chain), _) => MasqueradeMark::Chain(chain.clone()),
            (None, Some(bit)) => MasqueradeMark::Bit(bit),
            (None, None) => MasqueradeMark::default(),
        };
        let (v4, v6) = (self.conditions_v4.clone(), self.conditions_v6.clone());
        IptablesOptions { mark, conditions: PerFamily { v4, v6 } }
    }

    /// The keys that only one backend understands, each with that one.
    fn options(&self) -> Vec<(&'static str, Backend)> {
        let mut options = Vec::new();
        if self.external_set_mark_chain.is_some() {
            options.push(("externalSetMarkChain", Backend::Iptables));
        }
        for (key, conditions) in
            [("conditionsV4", &self.conditions_v4), ("conditionsV6", &self.conditions_v6)]
        {
            match conditions.first().and_then(|condition| condition.chars().next()) {
                None => {}
                Some('-' | '!') => options.push((key, Backend::Iptables)),
                Some(_) => options.push((key, Backend::Nftables)),
            }
        }
        options
    }
}

impl PortMapping {
    fn mapping(&self) -> Result<Mapping> {
        let port = |number: i64, whose: &str| match u16::try_from(number) {
            Ok(port) if port > 0 => Ok(port),
            _ => Err(Error::config(format!("Invalid {whose} port number: {number}"))
                .details("ports are numbers from 1 to 65535")),
        };
        let container_port = port(self.container_port, "container")?;
        let host_port = port(self.host_port, "host")?;
        let name = self.protocol.to_ascii_lowercase();
        let protocol = ipproto::number(&name).ok_or_else(|| {
            let msg = format!("unknown protocol {name:?} of host port {host_port}");
            Error::config(msg).details("there are tcp, udp and sctp")
        })?;
        Ok(Mapping { at: self.at()?, protocol, host_port, container_port })
    }

    fn at(&self) -> Result<At> {
        if self.host_ip.is_empty() {
            return Ok(At::Anywhere);
        }
        match self.host_ip.parse() {
            Ok(IpAddr::V4(address)) if address.is_unspecified() => Ok(At::AnyIpv4),
            Ok(IpAddr::V6(address)) if address.is_unspecified() => Ok(At::AnyIpv6),
            Ok(address) => Ok(At::Address(address)),
            Err(_) => Err(Error::config(format!("hostIP {:?} is no IP address", self.host_ip))),
        }
    }
}
