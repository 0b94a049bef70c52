//! The configuration: what its keys mean, and which of them conflict.

use common::cni::Call;
use common::net::Family;
use common::{Error, Result};
use serde::Deserialize;
use std::net::IpAddr;

/// The plugin's own keys of the network configuration.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Config {
    table: Option<i64>,
    gateways: Vec<String>,
    add_source_hints: bool,
}

/// What the configuration means.
#[derive(Debug)]
pub(crate) enum Plan {
    /// Somebody else takes care of the table of this number.
    GivenTable(u32),
    /// Each address gets a table of its own.
    OwnTables(OwnTables),
}

/// What the tables hold, beside the routes of the interface.
#[derive(Debug)]
pub(crate) struct OwnTables {
    /// At most one of each family, which counts more than those that IPAM tells.
    pub(crate) gateways: Vec<IpAddr>,
    /// Whether routes that need no gateway also stay in the main table, as what tells the source
    /// address to senders that have chosen none.
    pub(crate) source_hints: bool,
}

impl Plan {
    pub(crate) fn new(call: &Call) -> Result<Self> {
        let config: Config = call.network.config()?;
        let Some(table) = config.table else {
            let gateways = gateways(&config.gateways)?;
            let source_hints = config.add_source_hints;
            return Ok(Self::OwnTables(OwnTables { gateways, source_hints }));
        };
        match u32::try_from(table) {
            Ok(table) if table != 0 => Ok(Self::GivenTable(table)),
            _ => Err(Error::config(format!("table {table} is no routing table"))
                .details("tables are numbered from 1 to 4294967295")),
        }
    }
}

fn gateways(texts: &[String]) -> Result<Vec<IpAddr>> {
    if texts.len() > Family::ALL.len() {
        return Err(Error::config("gateways: more than 2 entries")
            .details("there is one default route for each address family"));
    }
    let parse = |text: &String| {
        text.parse().map_err(|_| {
            Error::config(format!("gateways: invalid static gateway IP address: {text:?}"))
                .details("an address without prefix length, as 10.1.0.1")
        })
    };
    let gateways: Vec<IpAddr> = texts.iter().map(parse).collect::<Result<_>>()?;
    for (family, name) in [(Family::V4, "IPv4"), (Family::V6, "IPv6")] {
        if gateways.iter().filter(|gateway| Family::of(**gateway) == family).count() > 1 {
            return Err(Error::config(format!("gateways: multiple {name} addresses"))
                .details("there is one default route for each address family"));
        }
    }
    Ok(gateways)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_one_gateway_for_each_family() {
        let try_these = |texts: &[&str]| {
            gateways(&texts.iter().map(ToString::to_string).collect::<Vec<_>>())
                .map_err(|error| error.to_string())
        };
        for good in [&[][..], &["10.1.0.1"], &["fd00::1"], &["fd00::1", "10.1.0.1"]] {
            assert_eq!(try_these(good).unwrap().len(), good.len());
        }
        for (bad, words) in [
            (&["10.1.0.1", "10.1.0.2"][..], "multiple IPv4 addresses"),
            (&["fd00::1", "fd00::2"], "multiple IPv6 addresses"),
            (&["10.1.0.1", "fd00::1", "10.1.0.2"], "more than 2 entries"),
            (&["10.1.0.1/24"], "invalid static gateway IP address: \"10.1.0.1/24\""),
        ] {
            assert!(try_these(bad).unwrap_err().contains(words), "{words}");
        }
    }
}
