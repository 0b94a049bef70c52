//! The gateway of a VLAN: a link `<bridge>.<vlan>` of the host that has the gateways' addresses, because
//! those of the bridge itself would be in another VLAN. It is one end of a veth pair whose other end is
//! a port of the bridge. It is shared by all attachments, and never removed.

use crate::config::Plan;
use crate::vlan::Vlans;
use common::attach::veth::ignore_router_advertisements;
use common::cni::IfName;
use common::net::{Link, LinkKind, LinkSpec, Mac, Netlink, Netns, Peer, Vlan};
use common::{Error, Host, Result};

/// The gateway of a VLAN, as it is to be.
pub(crate) struct VlanGateway {
    name: IfName,
    vlan: u16,
    /// The VLANs of its port.
    vlans: Vlans,
}

/// What a link with the gateway's name is.
#[derive(Clone, Debug)]
enum Kind {
    /// One end of a pair, as this plugin and the Go plugin make it.
    Pair {
        /// The other end.
        port: Link,
        /// The VLANs of that end.
        vlans: Vec<Vlan>,
        /// The VLAN that the bridge gives to each new port.
        default: Option<u16>,
    },
    /// What an administrator makes by `ip link add link <bridge> name <bridge>.<vlan> type vlan id <vlan>`.
    Tagging {
        vlan: u16,
        /// The VLANs of the bridge itself.
        vlans: Vec<Vlan>,
    },
    /// A link whose other end is in another namespace.
    OtherNamespace,
    Other,
}

/// What has to be repaired in a link that can be the gateway.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Flaw {
    Detached,
    Vlans(Vec<String>),
    PortDown,
    Down,
}

impl VlanGateway {
    /// The gateway of a plan; `None` if the bridge itself is the gateway, or there is none.
    ///
    /// # Errors
    /// Code 7 when no link can have its name.
    pub(crate) fn of(plan: &Plan) -> Result<Option<Self>> {
        let keep_default = plan.vlans.as_ref().is_some_and(|vlans| vlans.keep_default);
        Ok(plan.vlan_gateway()?.map(|(name, vlan)| Self {
            name,
            vlan,
            vlans: Vlans { access: Some(vlan), trunk: Vec::new(), keep_default },
        }))
    }

    /// Refuses a link of that name that cannot be the gateway, before ADD changes anything.
    ///
    /// # Errors
    /// Code 7, with the reason why it cannot.
    pub(crate) fn refuse_foreign(&self, host: &Netlink, bridge: Option<&Link>) -> Result<()> {
        match host.find_link(self.name.as_str())? {
            Some(link) => self.examine(host, &link, bridge).map(drop),
            None => Ok(()),
        }
    }

    /// The link, made if it is missing, and repaired.
    ///
    /// # Errors
    /// Code 7 when a link of that name cannot be the gateway.
    pub(crate) fn ensure(&self, host: &Host, bridge: &Link) -> Result<Link> {
        let link = match host.netlink.find_link(self.name.as_str())? {
            Some(link) => link,
            None => self.create(host, bridge)?,
        };
        let (kind, flaws) = self.examine(&host.netlink, &link, Some(bridge))?;
        if flaws.is_empty() {
            return Ok(link);
        }
        if let Kind::Pair { port, .. } = kind {
            if flaws.contains(&Flaw::Detached) {
                host.netlink.set_master(port.index, Some(bridge.index))?;
            }
            // A port has lost its VLANs when it was detached from the bridge.
            if flaws.iter().any(|flaw| matches!(flaw, Flaw::Detached | Flaw::Vlans(_))) {
                self.vlans.apply(&host.netlink, port.index)?;
            }
            if flaws.contains(&Flaw::PortDown) {
                host.netlink.set_up(port.index)?;
            }
        }
        if flaws.contains(&Flaw::Down) {
            ignore_router_advertisements(&link.name);
            host.netlink.set_up(link.index)?;
        }
        Ok(link)
    }

    /// The pair alone, detached and down: [`VlanGateway::ensure`] then repairs it like any other.
    fn create(&self, host: &Host, bridge: &Link) -> Result<Link> {
        let (here, port) = (Netns::current()?, Mac::random()?);
        let spec = LinkSpec {
            name: self.name.as_str(),
            mac: Some(Mac::random()?),
            mtu: Some(bridge.mtu),
            master: None,
            group: 0,
            kind: LinkKind::Veth(Peer { name: &port_name(port), mac: port, netns: &here }),
        };
        match host.netlink.create_link(&spec) {
            Ok(link) => Ok(link),
            // The ADD of another attachment has made it meanwhile.
            Err(error) if error.is_exists() => {
                host.netlink.find_link(self.name.as_str())?.ok_or_else(|| error.into())
            }
            Err(error) => Err(error.into()),
        }
    }

    /// The link, if it exists, and every difference from what it should be.
    ///
    /// # Errors
    /// When the kernel cannot be asked.
    pub(crate) fn verify(&self, host: &Host, bridge: &Link) -> Result<(Option<Link>, Vec<String>)> {
        let name = &self.name;
        let Some(link) = host.netlink.find_link(name.as_str())? else {
            return Ok((None, vec![format!("gateway interface {name} not found")]));
        };
        let kind = self.read_kind(&host.netlink, &link, Some(bridge))?;
        let differences = match self.judge(&link, &kind, Some(bridge)) {
            Ok(flaws) => flaws.iter().flat_map(|flaw| self.describe(flaw, bridge)).collect(),
            Err(reason) => {
                vec![format!("{name} is not the gateway of VLAN {}: {reason}", self.vlan)]
            }
        };
        Ok((Some(link), differences))
    }

    fn describe(&self, flaw: &Flaw, bridge: &Link) -> Vec<String> {
        let name = &self.name;
        match flaw {
            Flaw::Detached => vec![format!("gateway {name} is not attached to {}", bridge.name)],
            Flaw::Vlans(differences) => differences
                .iter()
                .map(|what| format!("the port of gateway {name} {what}"))
                .collect(),
            Flaw::PortDown => vec![format!("the port of gateway {name} is down")],
            Flaw::Down => vec![format!("gateway {name} is down")],
        }
    }

    fn examine(
        &self,
        host: &Netlink,
        link: &Link,
        bridge: Option<&Link>,
    ) -> Result<(Kind, Vec<Flaw>)> {
        let kind = self.read_kind(host, link, bridge)?;
        match self.judge(link, &kind, bridge) {
            Ok(flaws) => Ok((kind, flaws)),
            Err(reason) => {
                let (name, vlan) = (&self.name, self.vlan);
                let msg =
                    format!("{name:?} already exists and cannot be the gateway of VLAN {vlan}");
                Err(Error::config(format!("{msg}: {reason}"))
                    .details("give the network another \"bridge\", or remove that link"))
            }
        }
    }

    fn read_kind(&self, host: &Netlink, link: &Link, bridge: Option<&Link>) -> Result<Kind> {
        let default = |bridge: &Link| host.read_default_vlan(bridge.index);
        Ok(match (link.kind.as_deref(), link.peer) {
            (Some("veth" | "vlan"), _) if link.peer_netns.is_some() => Kind::OtherNamespace,
            (Some("veth"), Some(port)) => Kind::Pair {
                port: host.read_link(port)?,
                vlans: host.list_vlans(port)?,
                default: bridge.map(default).transpose()?.flatten(),
            },
            (Some("vlan"), Some(below)) => Kind::Tagging {
                vlan: host.read_tag(link.index)?.unwrap_or_default(),
                vlans: host.list_vlans(below)?,
            },
            _ => Kind::Other,
        })
    }

    /// What has to be repaired, or the reason why the link cannot be the gateway.
    fn judge(&self, link: &Link, kind: &Kind, bridge: Option<&Link>) -> Result<Vec<Flaw>, String> {
        let down = (!link.is_up).then_some(Flaw::Down);
        let index = bridge.map(|bridge| bridge.index);
        match kind {
            Kind::Pair { port, vlans, default } => {
                let detached = port.master.is_none().then_some(Flaw::Detached);
                if port.master.is_some() && port.master != index {
                    return Err(format!(
                        "its other end, {}, is a port of another bridge",
                        port.name
                    ));
                }
                // An alias names the owner of an attachment's end. A detached pair whose other end has
                // no name as `create` chooses it was made for another purpose.
                if port.alias.is_some() || detached.is_some() && !port.name.starts_with("veth") {
                    return Err(format!("its other end, {}, is somebody's own", port.name));
                }
                let differences = match detached {
                    None => self.port_differences(vlans, *default),
                    Some(_) => Vec::new(),
                };
                let vlans = (!differences.is_empty()).then_some(Flaw::Vlans(differences));
                let port_down = (!port.is_up).then_some(Flaw::PortDown);
                Ok([detached, vlans, port_down, down].into_iter().flatten().collect())
            }
            Kind::Tagging { vlan, .. } if *vlan != self.vlan => {
                Err(format!("it tags frames of VLAN {vlan}"))
            }
            Kind::Tagging { .. } if link.peer != index => Err("it is on another link".into()),
            Kind::Tagging { vlan, vlans } => {
                let tagged = vlans.iter().any(|found| found.vid == *vlan && !found.untagged);
                let on = bridge.map_or("", |bridge| &bridge.name);
                let way = format!("`bridge vlan add dev {on} vid {vlan} self` lets it in");
                if tagged {
                    Ok(down.into_iter().collect())
                } else {
                    Err(format!("the bridge itself takes no tagged frames of that VLAN; {way}"))
                }
            }
            Kind::OtherNamespace => Err("it leads into another network namespace".into()),
            Kind::Other => Err(match &link.kind {
                Some(kind) => format!("it is a {kind}"),
                None => "it is neither a veth nor a vlan".to_owned(),
            }),
        }
    }

    /// Networks that share the gateway may differ in `preserveDefaultVlan`, so the default VLAN is no
    /// difference, whether the port has it or not.
    fn port_differences(&self, found: &[Vlan], default: Option<u16>) -> Vec<String> {
        Vlans { keep_default: true, ..self.vlans.clone() }.differences(found, default)
    }
}

fn port_name(mac: Mac) -> String {
    let [_, _, bytes @ ..] = mac.0;
    bytes.iter().fold("veth".to_owned(), |name, byte| format!("{name}{byte:02x}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(index: u32, name: &str, kind: &str) -> Link {
        Link {
            index,
            name: name.to_owned(),
            kind: Some(kind.to_owned()),
            mac: None,
            mtu: 1500,
            is_up: true,
            operstate: "up".to_owned(),
            is_promiscuous: false,
            is_set_promiscuous: false,
            is_set_all_multicast: false,
            tx_queue_len: 0,
            master: None,
            peer: None,
            peer_netns: None,
            alias: None,
            group: 0,
        }
    }

    const BRIDGE: u32 = 3;
    const ACCESS: Vlan = Vlan { vid: 9, pvid: true, untagged: true };
    const TAGGED: Vlan = Vlan { vid: 9, pvid: false, untagged: false };

    fn judge(link: &Link, kind: &Kind, has_bridge: bool) -> Result<Vec<Flaw>, String> {
        let vlans = Vlans { access: Some(9), trunk: Vec::new(), keep_default: false };
        let gateway = VlanGateway { name: "br0.9".parse().unwrap(), vlan: 9, vlans };
        let bridge = self::link(BRIDGE, "br0", "bridge");
        gateway.judge(link, kind, has_bridge.then_some(&bridge))
    }

    fn pair(port: Link, vlans: &[Vlan]) -> Kind {
        Kind::Pair { port, vlans: vlans.to_vec(), default: Some(1) }
    }

    fn port() -> Link {
        Link { master: Some(BRIDGE), ..link(7, "veth01020304", "veth") }
    }

    #[test]
    fn a_pair_on_this_bridge_is_the_gateway_and_is_repaired() {
        let (gateway, port) = (link(8, "br0.9", "veth"), port());
        let flaws = |link: &Link, kind: &Kind| judge(link, kind, true).unwrap();
        assert_eq!(flaws(&gateway, &pair(port.clone(), &[ACCESS])), []);
        let down = Link { is_up: false, ..gateway.clone() };
        assert_eq!(flaws(&down, &pair(port.clone(), &[ACCESS])), [Flaw::Down]);
        let down = Link { is_up: false, ..port.clone() };
        assert_eq!(flaws(&gateway, &pair(down, &[ACCESS])), [Flaw::PortDown]);
        let outside = Flaw::Vlans(vec!["is not in VLAN 9".to_owned()]);
        assert_eq!(flaws(&gateway, &pair(port.clone(), &[])), [outside]);
        let leak = Vlan { vid: 8, ..TAGGED };
        assert!(matches!(
            &flaws(&gateway, &pair(port.clone(), &[leak, ACCESS]))[..],
            [Flaw::Vlans(_)]
        ));
        // Another network of the bridge may keep the default VLAN.
        let default = Vlan { vid: 1, pvid: false, untagged: true };
        assert_eq!(flaws(&gateway, &pair(port.clone(), &[default, ACCESS])), []);
        // The bridge was deleted and made again.
        let detached = pair(Link { master: None, ..port }, &[]);
        assert_eq!(flaws(&gateway, &detached), [Flaw::Detached]);
        assert_eq!(judge(&gateway, &detached, false).unwrap(), [Flaw::Detached]);
    }

    #[test]
    fn what_is_somebody_elses_is_refused() {
        let gateway = link(8, "br0.9", "veth");
        let refused = |link: &Link, kind: &Kind, words: &str| {
            let reason = judge(link, kind, true).unwrap_err();
            assert!(reason.contains(words), "{reason}");
        };
        let other = pair(Link { master: Some(4), ..port() }, &[ACCESS]);
        refused(&gateway, &other, "veth01020304, is a port of another bridge");
        assert!(
            judge(&gateway, &pair(port(), &[ACCESS]), false).is_err(),
            "there is no bridge yet"
        );
        let uplink = Link { master: None, ..link(7, "uplink", "veth") };
        refused(&gateway, &pair(uplink, &[]), "uplink, is somebody's own");
        let owned = Link { alias: Some("net c1 eth0".to_owned()), ..port() };
        refused(&gateway, &pair(owned, &[ACCESS]), "is somebody's own");
        refused(&gateway, &Kind::OtherNamespace, "another network namespace");
        refused(&link(8, "br0.9", "dummy"), &Kind::Other, "it is a dummy");
    }

    #[test]
    fn an_administrators_own_vlan_link_is_the_gateway_where_it_works() {
        let on = |below| Link { peer: Some(below), ..link(8, "br0.9", "vlan") };
        let tagging = |vlan, vlans: &[Vlan]| Kind::Tagging { vlan, vlans: vlans.to_vec() };
        assert_eq!(judge(&on(BRIDGE), &tagging(9, &[TAGGED]), true).unwrap(), []);
        let down = Link { is_up: false, ..on(BRIDGE) };
        assert_eq!(judge(&down, &tagging(9, &[TAGGED]), true).unwrap(), [Flaw::Down]);
        for (link, kind, words) in [
            (on(BRIDGE), tagging(8, &[TAGGED]), "tags frames of VLAN 8"),
            (on(4), tagging(9, &[TAGGED]), "on another link"),
            (on(BRIDGE), tagging(9, &[]), "`bridge vlan add dev br0 vid 9 self`"),
            (on(BRIDGE), tagging(9, &[ACCESS]), "takes no tagged frames"),
        ] {
            let reason = judge(&link, &kind, true).unwrap_err();
            assert!(reason.contains(words), "{reason}");
        }
    }
}
