//! From JSON to what it means: every conflict between keys is found here, before anything is
//! touched.

use crate::vlan::Vlans;
use common::cni::{Call, Cidr, CniArgs, Dns, IfName, Timeout, Verb};
use common::kept::GRACE_AGE;
use common::masquerade::{Backend, Scope};
use common::net::Mac;
use common::{Error, Result};
use serde::Deserialize;
use serde::de::{Deserializer, Unexpected, Visitor};
use std::fmt;
use std::time::Duration;

/// The keys of a bridge network, as they stand in the file.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct Config {
    bridge: Option<String>,
    is_gateway: bool,
    is_default_gateway: bool,
    force_address: bool,
    ip_masq: IpMasq,
    ip_masq_exclude: Vec<Cidr>,
    ip_masq_backend: Option<String>,
    mtu: i64,
    hairpin_mode: bool,
    promisc_mode: bool,
    vlan: i64,
    vlan_trunk: Option<Vec<TrunkEntry>>,
    preserve_default_vlan: bool,
    macspoofchk: bool,
    enabledad: bool,
    disable_container_interface: bool,
    port_isolation: bool,
    ipam: Ipam,
    dns: OptionalDns,
    args: Args,
    runtime_config: Cni,
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

/// An entry of `vlanTrunk`: a range, a single VLAN, or both.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct TrunkEntry {
    #[serde(rename = "minID")]
    pub(crate) min_id: Option<i64>,
    #[serde(rename = "maxID")]
    pub(crate) max_id: Option<i64>,
    pub(crate) id: Option<i64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Ipam {
    r#type: String,
    grace_age: Option<Timeout>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Args {
    cni: Cni,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Cni {
    mac: Option<String>,
}

/// Any member that is there, even an empty one, replaces the name service that IPAM gave.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct OptionalDns {
    nameservers: Option<Vec<String>>,
    domain: Option<String>,
    search: Option<Vec<String>>,
    options: Option<Vec<String>>,
}

/// What the configuration means.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) bridge: IfName,
    /// Bytes; the kernel's default without it.
    pub(crate) mtu: Option<u32>,
    pub(crate) mac: Option<Mac>,
    pub(crate) echo: Echo,
    pub(crate) isolated: bool,
    /// Whether the container may send with its own hardware address only.
    pub(crate) spoof_check: bool,
    pub(crate) vlans: Option<Vlans>,
    /// How long GC spares an attachment that is not listed as valid.
    pub(crate) grace_age: Duration,
    pub(crate) layer: Layer,
}

/// How a frame gets back to the port that it came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Echo {
    None,
    /// The port sends it back.
    Hairpin,
    /// The bridge takes everything in.
    Promiscuous,
}

/// How far up the stack the network reaches.
#[derive(Debug)]
pub(crate) enum Layer {
    /// Frames only.
    Two {
        /// Whether the container's end is raised.
        raise: bool,
    },
    /// Addresses too.
    Three(Layer3),
}

/// What a network with addresses is.
#[derive(Debug)]
pub(crate) struct Layer3 {
    /// The IPAM plugin's name.
    pub(crate) ipam: String,
    pub(crate) gateway: Gateway,
    pub(crate) masquerade: Option<Scope>,
    /// Whether IPv6 addresses are probed for duplicates (RFC 4862, section 5.4).
    pub(crate) probe: bool,
    /// Replaces the one that IPAM gave.
    pub(crate) dns: Option<Dns>,
}

/// What the bridge is for the containers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Gateway {
    /// A switch, no more.
    None,
    /// It has the gateways' addresses.
    Address {
        /// Whether an address that is in the way is removed.
        force: bool,
        /// Whether it is the containers' default route.
        is_default: bool,
    },
}

impl Plan {
    pub(crate) fn new(call: &Call) -> Result<Self> {
        let config: Config = call.network.config()?;
        config.refuse_unsupported()?;
        let bridge = config.bridge.as_deref().unwrap_or("cni0");
        let bridge = bridge.parse::<IfName>().map_err(|error| {
            Error::config(format!("failed to create bridge {bridge:?}: {error}"))
        })?;
        let mac = match config.mac(call)? {
            Some(text) => {
                Some(text.parse().map_err(|error| Error::config(format!("mac: {error}")))?)
            }
            None => None,
        };
        let echo = match (config.hairpin_mode, config.promisc_mode) {
            (true, true) => {
                let msg = "cannot set hairpin mode and promiscuous mode at the same time";
                return Err(Error::config(msg));
            }
            (true, false) => Echo::Hairpin,
            (false, true) => Echo::Promiscuous,
            (false, false) => Echo::None,
        };
        let plan = Self {
            bridge,
            mtu: config.mtu()?,
            mac,
            echo,
            isolated: config.port_isolation,
            spoof_check: config.macspoofchk,
            vlans: config.vlans()?,
            grace_age: config.ipam.grace_age.map_or(GRACE_AGE, |age| age.0),
            layer: config.layer()?,
        };
        plan.vlan_gateway().map(|_| plan)
    }

    /// The name of the host's own end of the VLAN, which has the gateways' addresses in place of the
    /// bridge: that would be in another VLAN.
    ///
    /// # Errors
    /// Code 7 when no link can have it.
    pub(crate) fn vlan_gateway(&self) -> Result<Option<(IfName, u16)>> {
        let access = self.vlans.as_ref().and_then(|vlans| vlans.access);
        let Some(vlan) = access.filter(|_| self.is_gateway()) else { return Ok(None) };
        let name = format!("{}.{vlan}", self.bridge);
        match name.parse() {
            Ok(parsed) => Ok(Some((parsed, vlan))),
            Err(error) => {
                let msg = format!("VLAN {vlan} cannot have a gateway: link {name:?}: {error}");
                Err(Error::config(msg).details("give the network a \"bridge\" with a shorter name"))
            }
        }
    }

    pub(crate) fn layer3(&self) -> Option<&Layer3> {
        match &self.layer {
            Layer::Two { .. } => None,
            Layer::Three(layer3) => Some(layer3),
        }
    }

    /// Where an address need not be unique on the host, because the host does not route it: the
    /// bridge, or a VLAN of it.
    pub(crate) fn segment(&self) -> Option<String> {
        let layer3 = self.layer3()?;
        if layer3.gateway != Gateway::None || layer3.masquerade.is_some() {
            return None;
        }
        let vlan = self.vlans.as_ref().and_then(|vlans| vlans.access);
        Some(vlan.map_or_else(|| self.bridge.to_string(), |vlan| format!("{} {vlan}", self.bridge)))
    }

    pub(crate) fn is_gateway(&self) -> bool {
        self.layer3().is_some_and(|layer3| layer3.gateway != Gateway::None)
    }
}

impl Config {
    fn refuse_unsupported(&self) -> Result<()> {
        match self.ip_masq_backend.as_deref() {
            _ if self.ip_masq == IpMasq::None => Ok(()),
            None | Some("" | "nftables" | "iptables") => Ok(()),
            Some(other) => Err(Error::config(format!("unknown ipmasq backend {other:?}"))),
        }
    }

    /// `runtimeConfig` beats `args`, which beats `CNI_ARGS`.
    fn mac(&self, call: &Call) -> Result<Option<String>> {
        // Only an attachment has arguments: STATUS is not about one.
        let args = if call.verb == Verb::Status { CniArgs::default() } else { call.args()? };
        let given = self.runtime_config.mac.as_deref().or(self.args.cni.mac.as_deref());
        Ok(given.or(args.get("MAC")).filter(|mac| !mac.is_empty()).map(str::to_owned))
    }

    fn mtu(&self) -> Result<Option<u32>> {
        match u32::try_from(self.mtu) {
            // Below zero has always meant nothing, too.
            Ok(0) => Ok(None),
            Err(_) if self.mtu < 0 => Ok(None),
            Ok(mtu) if mtu <= 65535 => Ok(Some(mtu)),
            _ => {
                Err(Error::config(format!("invalid mtu {}: a link takes at most 65535", self.mtu)))
            }
        }
    }

    fn vlans(&self) -> Result<Option<Vlans>> {
        let access = match u16::try_from(self.vlan) {
            Ok(0) => None,
            Ok(vlan) if vlan <= Vlans::MAX => Some(vlan),
            _ => {
                let msg = format!("invalid VLAN ID {} (must be between 0 and 4094)", self.vlan);
                return Err(Error::config(msg));
            }
        };
        if access.is_none() && self.vlan_trunk.is_none() {
            return Ok(None);
        }
        let trunk = Vlans::collect_trunk(self.vlan_trunk.as_deref().unwrap_or_default())?;
        Ok(Some(Vlans { access, trunk, keep_default: self.preserve_default_vlan }))
    }

    fn layer(self) -> Result<Layer> {
        if self.ipam.r#type.is_empty() {
            return Ok(Layer::Two { raise: !self.disable_container_interface });
        }
        if self.disable_container_interface {
            let msg = "cannot use IPAM when DisableContainerInterface flag is set";
            return Err(Error::config(msg));
        }
        let gateway = if self.is_gateway || self.is_default_gateway {
            Gateway::Address { force: self.force_address, is_default: self.is_default_gateway }
        } else {
            Gateway::None
        };
        let masquerade = (self.ip_masq != IpMasq::None).then_some(Scope {
            ipv4: self.ip_masq != IpMasq::V6,
            ipv6: self.ip_masq != IpMasq::V4,
            exclude: self.ip_masq_exclude,
            backend: match self.ip_masq_backend.as_deref() {
                Some("iptables") => Backend::Iptables,
                _ => Backend::Nftables,
            },
        });
        Ok(Layer::Three(Layer3 {
            ipam: self.ipam.r#type,
            gateway,
            masquerade,
            probe: self.enabledad,
            dns: self.dns.into_dns(),
        }))
    }
}

impl OptionalDns {
    fn into_dns(self) -> Option<Dns> {
        let is_given = self.nameservers.is_some()
            || self.domain.is_some()
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
