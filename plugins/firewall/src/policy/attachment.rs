//! What of an attachment is forwarded, understood from its result.

use super::ruleset::{self, HAIRPINS, PODS, PORT_HAIRPINS, PORTS, set_of};
use common::attach::Owner;
use common::cni::{Error, IfName, Result, Success};
use common::filter::elements::{Comment, OwnedElement, Shared, SharedRuleset, port_key};
use common::net::nft::{Batch, Element, Key, concat, octets};
use std::net::IpAddr;

/// From where a pod is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ingress {
    /// Everywhere.
    Open,
    /// Not from other bridges that are closed as well.
    SameBridge,
    /// Nor from other ports of its own bridge.
    Isolated,
}

/// Who lets a pod's connections through.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Accepted {
    /// We do.
    Here {
        /// The chain of iptables that is asked before, for an operator's own rules.
        admin_chain: String,
    },
    /// Somebody else does; we only remember which addresses the attachment has.
    External,
}

/// What of an attachment is forwarded.
#[derive(Clone, Debug)]
pub struct ForwardingPolicy {
    addresses: Vec<IpAddr>,
    /// The link of the host that leads to the pod: of a bridge, the bridge.
    pub(super) bridge: Option<String>,
    /// The ports of the bridge that lead to the pod.
    ports: Vec<String>,
    pub(super) ingress: Ingress,
    pub(super) accepted: Accepted,
    /// The zone of firewalld whose sources the addresses become.
    pub(super) zone: Option<String>,
}

/// What the comment of an address begins the name of its zone with.
pub(super) const ZONE: &str = "zone=";

impl ForwardingPolicy {
    /// Of an attachment with this result.
    ///
    /// # Errors
    /// Code 7 when pods are to be kept apart by their bridges, and there is no bridge.
    pub fn new(success: &Success, ingress: Ingress, accepted: Accepted) -> Result<Self> {
        let host: Vec<_> =
            success.interfaces.iter().map(|one| (one, one.is_in_sandbox())).collect();
        let is_link = |name: &str| name.parse::<IfName>().is_ok();
        let first = host.first().filter(|(one, inside)| !inside && is_link(&one.name));
        let bridge = first.map(|(one, _)| one.name.clone());
        if bridge.is_none() && ingress != Ingress::Open {
            let msg = "ingressPolicy needs a bridge, and prevResult has none of the host's as its \
                       first interface";
            return Err(Error::config(msg).details("put firewall behind bridge, or leave it open"));
        }
        let ports = host.iter().skip(1).filter(|(one, inside)| !inside && is_link(&one.name));
        Ok(Self {
            addresses: addresses(success),
            bridge,
            ports: ports.map(|(one, _)| one.name.clone()).collect(),
            ingress,
            accepted,
            zone: None,
        })
    }

    /// The same with addresses that are sources of a zone of firewalld: so it is remembered, for
    /// the configuration may name another one when they are to go.
    #[must_use]
    pub fn in_zone(self, zone: &str) -> Self {
        let is_word = !zone.is_empty() && !zone.contains(char::is_whitespace);
        Self { zone: is_word.then(|| zone.to_owned()), ..self }
    }

    pub(super) fn comment(&self, owner: &Owner) -> Comment {
        let notes = self.zone.iter().map(|zone| format!("{ZONE}{zone}")).collect();
        Comment { owner: owner.clone(), notes }
    }

    /// The pod's.
    pub fn addresses(&self) -> &[IpAddr] {
        &self.addresses
    }

    /// Where the pod is connected.
    pub fn bridge(&self) -> Option<&str> {
        self.bridge.as_deref()
    }

    /// From where the pod is reached.
    pub fn ingress(&self) -> Ingress {
        self.ingress
    }

    /// Whether it has addresses of the family.
    fn has(&self, is_ipv6: bool) -> bool {
        self.addresses.iter().any(|ip| ip.is_ipv6() == is_ipv6)
    }

    pub(super) fn families(&self) -> impl Iterator<Item = bool> {
        [false, true].into_iter().filter(|is_ipv6| self.has(*is_ipv6))
    }

    pub(super) fn elements(&self) -> Vec<OwnedElement> {
        let pods = self.addresses.iter().map(|ip| place(*ip));
        let isolated = self.ingress == Ingress::Isolated && !self.addresses.is_empty();
        let ports = self.ports.iter().filter(|_| isolated).flat_map(|name| port(name));
        let own = self.addresses.iter().filter(|_| isolated).map(|ip| hairpin(*ip));
        pods.chain(own)
            .chain(ports)
            .map(|(set, key)| OwnedElement { set, key, data: None })
            .collect()
    }
}

/// The addresses of a result.
pub fn addresses(success: &Success) -> Vec<IpAddr> {
    let mut all: Vec<_> = success.ips.iter().map(|ip| ip.address.ip()).collect();
    all.sort();
    all.dedup();
    all
}

pub(super) fn place(ip: IpAddr) -> (Shared, Key) {
    (set_of(PODS, ip.is_ipv6()), octets(ip).into())
}

/// An address whose pod is kept apart, as a pair with itself.
pub(super) fn hairpin(ip: IpAddr) -> (Shared, Key) {
    (set_of(HAIRPINS, ip.is_ipv6()), concat(&[&octets(ip), &octets(ip)]).into())
}

/// What is said of a port whose pod is kept apart.
pub(super) fn port(name: &str) -> [(Shared, Key); 2] {
    let key = port_key(name);
    let pair = concat(&[&key, &key]);
    [(PORTS, key.into()), (PORT_HAIRPINS, pair.into())]
}

impl SharedRuleset for ForwardingPolicy {
    fn declare(&self) -> Result<Batch> {
        let mut batch = Batch::new();
        for is_ipv6 in self.families() {
            if self.accepted != Accepted::External || self.ingress != Ingress::Open {
                ruleset::declare(&mut batch, is_ipv6);
            } else {
                ruleset::declare_record(&mut batch, is_ipv6);
            }
        }
        if self.ingress == Ingress::Isolated && !self.addresses.is_empty() {
            ruleset::declare_ports(&mut batch);
        }
        Ok(batch)
    }

    /// IPAM says whose address it is now, and the kernel knows no two links of one name.
    fn may_replace(&self, _: &OwnedElement, _: &Element) -> Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use common::cni::{Interface, Ip};

    fn success(interfaces: &[(&str, bool)], ips: &[&str]) -> Success {
        let interface = |(name, inside): &(&str, bool)| Interface {
            name: (*name).to_owned(),
            sandbox: inside.then(|| "/run/netns/pod".to_owned()),
            ..Interface::default()
        };
        let ip = |address: &&str| Ip {
            address: address.parse().unwrap(),
            gateway: None,
            interface: None,
        };
        Success {
            interfaces: interfaces.iter().map(interface).collect(),
            ips: ips.iter().map(ip).collect(),
            ..Success::default()
        }
    }

    #[test]
    fn who_keeps_pods_apart_needs_a_bridge() {
        let of = |interfaces: &[(&str, bool)], ingress| {
            ForwardingPolicy::new(
                &success(interfaces, &["10.1.0.2/24"]),
                ingress,
                Accepted::External,
            )
        };
        let bridge = [("br0", false), ("veth1", false), ("eth0", true)];
        let policy = of(&bridge, Ingress::Isolated).unwrap();
        assert_eq!((policy.bridge(), policy.ports.len()), (Some("br0"), 1));
        assert_eq!(policy.elements().len(), 4);
        assert_eq!(of(&bridge, Ingress::SameBridge).unwrap().elements().len(), 1);
        for interfaces in
            [&[][..], &[("eth0", true)][..], &[("", false)][..], &[("b r", false)][..]]
        {
            assert!(of(interfaces, Ingress::Open).is_ok());
            assert!(of(interfaces, Ingress::SameBridge).is_err());
        }
    }

    #[test]
    fn without_addresses_nothing_is_claimed() {
        let bridge = [("br0", false), ("veth1", false)];
        let policy =
            ForwardingPolicy::new(&success(&bridge, &[]), Ingress::Isolated, Accepted::External)
                .unwrap();
        assert!(policy.elements().is_empty());
        let twice = success(&bridge, &["fd00::2/64", "10.1.0.2/24", "10.1.0.2/32"]);
        assert_eq!(addresses(&twice).len(), 2);
    }
}
