//! What the host forwards for an attachment, as its result tells.

use super::ruleset::{self, HAIRPINS, PODS, PORT_HAIRPINS, PORTS, set_of};
use common::attach::Owner;
use common::cni::{Error, IfName, Result, Success};
use common::filter::elements::{Comment, OwnedElement, Shared, SharedRuleset, port_key};
use common::net::Family;
use common::net::nft::{Batch, Element, Key, concat, octets};
use std::net::IpAddr;

/// From where a pod can be reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ingress {
    /// Everywhere.
    Open,
    /// Not from other bridges whose pods are not open.
    SameBridge,
    /// Nor from other ports of its own bridge.
    Isolated,
}

/// Who lets a pod's connections through.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Accepted {
    /// Our own tables, by a mark that iptables is told to accept.
    Here {
        /// The chain of iptables that is asked before, for an operator's own rules.
        admin_chain: String,
    },
    /// iptables or firewalld. Our own tables only tell which addresses the attachment has.
    External,
}

/// What the host forwards for an attachment.
#[derive(Clone, Debug)]
pub(crate) struct ForwardingPolicy {
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

/// What the note of a zone begins with in the comment of an address.
pub(super) const ZONE: &str = "zone=";

impl ForwardingPolicy {
    /// That of an attachment with this result.
    ///
    /// # Errors
    /// Code 7 when `ingress` needs a bridge, and there is none.
    pub(crate) fn new(success: &Success, ingress: Ingress, accepted: Accepted) -> Result<Self> {
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

    /// The same with addresses that are sources of a zone of firewalld. The zone stands beside them:
    /// the configuration may name another one at the time of DEL.
    #[must_use]
    pub(crate) fn in_zone(self, zone: &str) -> Self {
        let is_word = !zone.is_empty() && !zone.contains(char::is_whitespace);
        Self { zone: is_word.then(|| zone.to_owned()), ..self }
    }

    pub(super) fn comment(&self, owner: &Owner) -> Comment {
        let notes = self.zone.iter().map(|zone| format!("{ZONE}{zone}")).collect();
        Comment { owner: owner.clone(), notes }
    }

    /// The pod's.
    pub(crate) fn addresses(&self) -> &[IpAddr] {
        &self.addresses
    }

    /// The link of the host that leads to the pod.
    pub(crate) fn bridge(&self) -> Option<&str> {
        self.bridge.as_deref()
    }

    /// From where the pod can be reached.
    pub(crate) fn ingress(&self) -> Ingress {
        self.ingress
    }

    /// Those that it has addresses of.
    pub(super) fn families(&self) -> impl Iterator<Item = Family> {
        let has = |family| self.addresses.iter().any(|ip| Family::of(*ip) == family);
        Family::ALL.into_iter().filter(move |family| has(*family))
    }

    pub(super) fn elements(&self) -> Vec<OwnedElement> {
        let pods = self.addresses.iter().map(|ip| pod_key(*ip));
        let isolated = self.ingress == Ingress::Isolated && !self.addresses.is_empty();
        let ports = self.ports.iter().filter(|_| isolated).flat_map(|name| port_keys(name));
        let hairpins = self.addresses.iter().filter(|_| isolated).map(|ip| hairpin_key(*ip));
        pods.chain(hairpins)
            .chain(ports)
            .map(|(set, key)| OwnedElement { set, key, data: None })
            .collect()
    }
}

/// The addresses of a result.
pub(crate) fn addresses(success: &Success) -> Vec<IpAddr> {
    let mut all: Vec<_> = success.ips.iter().map(|ip| ip.address.ip()).collect();
    all.sort();
    all.dedup();
    all
}

/// The key of an address that is let through.
pub(super) fn pod_key(ip: IpAddr) -> (Shared, Key) {
    (set_of(PODS, Family::of(ip)), octets(ip).into())
}

/// The key of an isolated pod's address, as a pair with itself.
pub(super) fn hairpin_key(ip: IpAddr) -> (Shared, Key) {
    (set_of(HAIRPINS, Family::of(ip)), concat(&[&octets(ip), &octets(ip)]).into())
}

/// The keys of an isolated pod's port, alone and as a pair with itself.
pub(super) fn port_keys(name: &str) -> [(Shared, Key); 2] {
    let key = port_key(name);
    let pair = concat(&[&key, &key]);
    [(PORTS, key.into()), (PORT_HAIRPINS, pair.into())]
}

impl SharedRuleset for ForwardingPolicy {
    fn declare(&self) -> Result<Batch> {
        let mut batch = Batch::new();
        for family in self.families() {
            if self.accepted != Accepted::External || self.ingress != Ingress::Open {
                ruleset::declare(&mut batch, family);
            } else {
                ruleset::declare_record(&mut batch, family);
            }
        }
        if self.ingress == Ingress::Isolated && !self.addresses.is_empty() {
            ruleset::declare_ports(&mut batch);
        }
        Ok(batch)
    }

    /// IPAM says whose address it is now, and the kernel has no two links of one name: another
    /// owner's elements are left over.
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
    fn an_ingress_policy_needs_a_bridge() {
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
    fn without_addresses_there_are_no_elements() {
        let bridge = [("br0", false), ("veth1", false)];
        let policy =
            ForwardingPolicy::new(&success(&bridge, &[]), Ingress::Isolated, Accepted::External)
                .unwrap();
        assert!(policy.elements().is_empty());
        let twice = success(&bridge, &["fd00::2/64", "10.1.0.2/24", "10.1.0.2/32"]);
        assert_eq!(addresses(&twice).len(), 2);
    }
}
