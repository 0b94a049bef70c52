//! What every network with addresses has in common: its keys, and how they change the answer of the
//! IPAM plugin.

use super::kept::GRACE_AGE;
use super::sandbox::{Ipv6Addresses, Routing};
use super::settings::Ipv6;
use super::{Site, in_use, ipam};
use crate::cni::{Call, Dns, Error, Interface, Result, Success, Timeout};
use crate::net::Link;
use serde::Deserialize;
use std::time::Duration;

/// The keys of the network configuration.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Keys {
    ipam: IpamKeys,
    dns: OptionalDns,
    enabledad: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct IpamKeys {
    r#type: String,
    grace_age: Option<Timeout>,
}

/// Any key that is present replaces the whole name service that IPAM gave, even if it is an empty
/// list; an empty domain does not, as in the Go plugins.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct OptionalDns {
    nameservers: Option<Vec<String>>,
    domain: Option<String>,
    search: Option<Vec<String>>,
    options: Option<Vec<String>>,
}

/// A network with addresses.
#[derive(Debug)]
pub struct Layer3 {
    ipam: String,
    grace_age: Duration,
    ipv6: Ipv6,
    dns: Option<Dns>,
}

impl Layer3 {
    /// `None` for a network without `ipam.type`, whose containers exchange frames only.
    ///
    /// # Errors
    /// Code 7 for invalid values.
    pub fn load(call: &Call) -> Result<Option<Self>> {
        Self::load_chained(call).map(|layer3| Some(layer3).filter(|layer3| !layer3.ipam.is_empty()))
    }

    /// The same of a plugin that may be chained: without `ipam.type`, its containers have the addresses
    /// that the plugin before it has given them, if there is one, or else none.
    ///
    /// # Errors
    /// Code 7 for invalid values.
    pub fn load_chained(call: &Call) -> Result<Self> {
        let keys: Keys = call.network.config()?;
        let probe = if keys.enabledad { Ipv6Addresses::Probed } else { Ipv6Addresses::Trusted };
        let has_routers = ipam::listens_to_routers(&call.network, &keys.ipam.r#type);
        Ok(Self {
            ipam: keys.ipam.r#type,
            grace_age: keys.ipam.grace_age.map_or(GRACE_AGE, |age| age.0),
            ipv6: Ipv6 { addresses: probe, has_routers },
            dns: keys.dns.into_dns(),
        })
    }

    /// For how long after its ADD GC leaves an attachment alone that is not listed as valid.
    pub fn grace_age(layer3: Option<&Self>) -> Duration {
        layer3.map_or(GRACE_AGE, |layer3| layer3.grace_age)
    }

    /// The `type` of the IPAM plugin, which is empty if there is none.
    pub(crate) fn ipam(&self) -> &str {
        &self.ipam
    }

    /// Whether IPv6 addresses are probed for duplicates before they are used.
    pub fn ipv6_addresses(&self) -> Ipv6Addresses {
        self.ipv6.addresses
    }

    /// Gives a link of the container the addresses and routes of the answer, and raises it.
    ///
    /// # Errors
    /// Naming the address or route that the kernel refused.
    pub fn configure(
        &self,
        site: &Site,
        link: &Link,
        success: &Success,
        routing: Routing,
    ) -> Result<()> {
        site.sandbox.configure(link, success, self.ipv6, routing)
    }
}

/// The result of an ADD: the links, and what IPAM answered, whose addresses are those of the link in
/// the container.
///
/// # Errors
/// When IPAM gave no address.
pub fn describe(
    layer3: Option<&Layer3>,
    answer: Option<Success>,
    interfaces: Vec<Interface>,
) -> Result<Success> {
    let own = interfaces.iter().position(Interface::is_in_sandbox);
    let own = own.and_then(|index| i64::try_from(index).ok());
    let mut success = Success { interfaces, ..answer.unwrap_or_default() };
    for ip in &mut success.ips {
        ip.interface = own;
    }
    let Some(layer3) = layer3 else { return Ok(success) };
    if success.ips.is_empty() && !layer3.ipam.is_empty() {
        return Err(Error::internal("IPAM plugin returned missing IP config")
            .details(format!("{:?} answered ADD without an address", layer3.ipam)));
    }
    if let Some(dns) = &layer3.dns {
        success.dns = dns.clone();
    }
    Ok(success)
}

/// Marks the host's end of a pair as the link behind which the addresses are in use: see [`in_use`].
///
/// # Errors
/// Code 11 when one of them is in use.
pub fn set_in_use(
    site: &Site,
    host_end: &Link,
    segment: Option<&str>,
    answer: Option<&Success>,
) -> Result<()> {
    let addresses = answer.iter().flat_map(|answer| &answer.ips).map(|ip| ip.address.ip());
    in_use::set(&site.host.netlink, host_end.index, segment, addresses)
}

impl OptionalDns {
    fn into_dns(self) -> Option<Dns> {
        let is_given = self.nameservers.is_some()
            || self.domain.as_ref().is_some_and(|domain| !domain.is_empty())
            || self.search.is_some()
            || self.options.is_some();
        is_given.then(|| Dns {
            nameservers: self.nameservers.unwrap_or_default(),
            domain: self.domain.unwrap_or_default(),
            search: self.search.unwrap_or_default(),
            options: self.options.unwrap_or_default(),
        })
    }
}
