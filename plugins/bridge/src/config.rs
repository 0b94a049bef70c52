//! The configuration: what its keys mean, and which of them conflict.

use crate::vlan::{TrunkEntry, Vlans};
use common::attach::sandbox::Ipv6Addresses;
use common::attach::{Layer3, link_keys};
use common::cni::{Call, IfName};
use common::filter::masquerade::Scope;
use common::net::Mac;
use common::{Error, Result};
use serde::Deserialize;

/// The plugin's own keys of the network configuration.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct Config {
    bridge: Option<String>,
    is_gateway: bool,
    is_default_gateway: bool,
    force_address: bool,
    mtu: i64,
    hairpin_mode: bool,
    promisc_mode: bool,
    vlan: i64,
    vlan_trunk: Option<Vec<TrunkEntry>>,
    preserve_default_vlan: bool,
    macspoofchk: bool,
    disable_container_interface: bool,
    port_isolation: bool,
    group_fwd_mask: Option<u16>,
    uplink_interface: Option<String>,
}

/// What the configuration means.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) bridge: IfName,
    /// In bytes; `None` for the kernel's default.
    pub(crate) mtu: Option<u32>,
    pub(crate) mac: Option<Mac>,
    pub(crate) hairpin: Hairpin,
    pub(crate) isolated: bool,
    /// Whether the container may send with its own hardware address only.
    pub(crate) spoof_check: bool,
    pub(crate) vlans: Option<Vlans>,
    /// `None` for a network without addresses.
    pub(crate) layer3: Option<Layer3>,
    /// Whether the container's end is raised, even where it gets no address.
    pub(crate) raise: bool,
    pub(crate) gateway: Gateway,
    pub(crate) masquerade: Option<Scope>,
    /// Which group addresses the bridge forwards; `None` leaves that as it is.
    pub(crate) group_forwarding: Option<u16>,
    /// The link of the host that becomes a port of the bridge.
    pub(crate) uplink: Option<IfName>,
}

/// Group addresses that the kernel lets no bridge forward: of STP, of pause frames and of LACP.
const NEVER_FORWARDED: u16 = 0b111;

/// How a frame can get back to the port that it came in by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hairpin {
    None,
    /// The port is in hairpin mode.
    Port,
    /// The bridge is promiscuous, so that its own IP stack gets the frame and sends it back.
    PromiscuousBridge,
}

/// What the bridge is for the containers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Gateway {
    /// It only switches frames.
    None,
    /// It has the gateways' addresses.
    Address {
        /// Whether a conflicting address of the bridge is removed.
        force: bool,
        /// Whether it is the containers' default route.
        is_default: bool,
    },
}

impl Plan {
    pub(crate) fn new(call: &Call) -> Result<Self> {
        let config: Config = call.network.config()?;
        let bridge = config.bridge.as_deref().unwrap_or("cni0");
        let bridge = bridge.parse::<IfName>().map_err(|error| {
            Error::config(format!("failed to create bridge {bridge:?}: {error}"))
        })?;
        let hairpin = match (config.hairpin_mode, config.promisc_mode) {
            (true, true) => {
                let msg = "cannot set hairpin mode and promiscuous mode at the same time";
                return Err(Error::config(msg));
            }
            (true, false) => Hairpin::Port,
            (false, true) => Hairpin::PromiscuousBridge,
            (false, false) => Hairpin::None,
        };
        let layer3 = Layer3::load(call)?;
        if layer3.is_some() && config.disable_container_interface {
            let msg = "cannot use IPAM when DisableContainerInterface flag is set";
            return Err(Error::config(msg));
        }
        let masquerade = Scope::load(call)?.filter(|_| layer3.is_some());
        let plan = Self {
            bridge,
            mtu: link_keys::mtu(config.mtu)?,
            mac: link_keys::requested_mac(call, None)?,
            hairpin,
            isolated: config.port_isolation,
            spoof_check: config.macspoofchk,
            vlans: config.vlans()?,
            raise: !config.disable_container_interface,
            gateway: config.gateway(layer3.is_some()),
            group_forwarding: config.group_forwarding()?,
            uplink: config.uplink()?,
            layer3,
            masquerade,
        };
        plan.vlan_gateway().map(|_| plan)
    }

    /// The name of the link that has the gateways' addresses, and its VLAN, if the containers are in a
    /// VLAN: the bridge's own addresses would be in another one.
    ///
    /// # Errors
    /// Code 7 when no link can have the name.
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

    /// The segment, a bridge or a VLAN of it, within which addresses must be unique. `None` if they must
    /// be unique on the host, because the host routes them.
    pub(crate) fn segment(&self) -> Option<String> {
        if self.layer3.is_none() || self.is_gateway() || self.masquerade.is_some() {
            return None;
        }
        let vlan = self.vlans.as_ref().and_then(|vlans| vlans.access);
        Some(vlan.map_or_else(|| self.bridge.to_string(), |vlan| format!("{} {vlan}", self.bridge)))
    }

    /// Whether IPv6 addresses are used without duplicate address detection.
    pub(crate) fn is_trusted(&self) -> bool {
        let addresses = self.layer3.as_ref().map(Layer3::ipv6_addresses);
        addresses != Some(Ipv6Addresses::Probed)
    }

    pub(crate) fn is_gateway(&self) -> bool {
        self.gateway != Gateway::None
    }
}

impl Config {
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

    fn group_forwarding(&self) -> Result<Option<u16>> {
        match self.group_fwd_mask {
            Some(mask) if mask & NEVER_FORWARDED != 0 => {
                let msg =
                    format!("invalid groupFwdMask {mask}: no bridge forwards its bits 0 to 2");
                Err(Error::config(msg).details("16384 is LLDP, 8 is 802.1X; add the numbers up"))
            }
            mask => Ok(mask),
        }
    }

    fn uplink(&self) -> Result<Option<IfName>> {
        let given = self.uplink_interface.as_deref().filter(|name| !name.is_empty());
        let name: Option<IfName> = given
            .map(str::parse)
            .transpose()
            .map_err(|error: Error| Error::config(format!("uplinkInterface: {error}")))?;
        Ok(name)
    }

    fn gateway(&self, has_addresses: bool) -> Gateway {
        if has_addresses && (self.is_gateway || self.is_default_gateway) {
            Gateway::Address { force: self.force_address, is_default: self.is_default_gateway }
        } else {
            Gateway::None
        }
    }
}
