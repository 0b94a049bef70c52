//! Ports of the host that lead to an attachment.
//!
//! ```text
//! table ip girder {
//!     set hostports {                       # who has which single port
//!         type inet_proto . inet_service
//!         elements = { tcp . 8080 comment "pods c1 eth0 veth 3" }
//!     }
//!     set hostports-at {                    # the same for one address of the host
//!         type ipv4_addr . inet_proto . inet_service
//!     }
//!     set hostport-spans {                  # who has which range
//!         type ipv4_addr . inet_proto . inet_service
//!         elements = { 0.0.0.0/0 . udp . 10000-19999 comment "pods c1 eth0 veth 3" }
//!     }
//!     map hostport-targets {                # where single ports lead to
//!         type inet_proto . inet_service : ipv4_addr . inet_service
//!         elements = { tcp . 8080 comment .. : 10.1.0.2 . 80 }
//!     }
//!     map hostport-targets-at {             # the same for one address of the host
//!         type ipv4_addr . inet_proto . inet_service : ipv4_addr . inet_service
//!     }
//!     map hostport-ranges {                 # where ranges lead to, port by port
//!         type ipv4_addr . inet_proto . inet_service : ipv4_addr
//!         elements = { 0.0.0.0/0 . udp . 10000-19999 comment .. : 10.1.0.2 }
//!     }
//!     map hostport-gates {                  # ports that not everybody may use
//!         type ipv4_addr . inet_proto . inet_service : verdict
//!         elements = { 0.0.0.0/0 . tcp . 8080 comment .. : jump hostports-if-4f2a.. }
//!     }
//!     map hostport-sources {                # pods whose clients may need masquerading
//!         type ipv4_addr : verdict
//!         elements = { 10.1.0.2 comment .. : goto hostport-sources-10.1.0.0/24 }
//!     }
//!     chain hostport-sources-10.1.0.0/24 {  # a chain per subnet
//!         ip saddr 10.1.0.0/24 masquerade
//!         ip saddr 127.0.0.1 masquerade
//!     }
//! }
//! ```
//!
//! and the same as `table ip6 girder`; the rules are in `ruleset`. Their number depends on neither
//! pods nor ports.

mod backend;
mod conditions;
mod conflicting_dnat;
mod conflicts;
mod flows;
pub(crate) mod iptables;
mod port_range;
mod ruleset;
mod siblings;

pub(crate) use conditions::Condition;
pub(crate) use port_range::{At, Mapping};

use crate::per_family::PerFamily;
use common::Undo;
use common::attach::Kept;
use common::attach::Owner;
use common::attach::sandbox::Host;
use common::cni::{Cidr, Error, Result};
use common::filter::elements::{Elements, FEW, OwnedElement, Shared, table};
use common::filter::{Backend, Legacy, legacy::port_chain};
use common::net::nft::{Data, Element, Key, SetName, Verdict};
use common::net::{Family, ipproto, sysctl};
use conditions::chain_name;
use conflicts::{HostPortRuleset, comment, count, has_veth};
use iptables::IptablesOptions;
use port_range::{PROTOCOLS, PortRange, address_of, ranges, sources_element, sources_key};
use ruleset::{ACLS, ALL, CONDITIONS_PREFIX, SOURCES, SOURCES_PREFIX};
use std::net::IpAddr;

/// What is to be reached through the host.
#[derive(Clone, Debug)]
pub(crate) struct PortMappings {
    /// The container's addresses, one of each family at most.
    pub(crate) addresses: Vec<Cidr>,
    /// Its ports.
    pub(crate) mappings: Vec<Mapping>,
    /// Whose source address is translated on the way, too.
    pub(crate) source_nat: SourceNat,
    /// What packets have to meet.
    pub(crate) conditions: PerFamily<Vec<Condition>>,
    /// Who does it.
    pub(crate) backend: Backend,
    /// What only iptables is told.
    pub(crate) iptables: IptablesOptions,
}

/// Whose source address is translated on the way to a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SourceNat {
    /// Nobody's: its neighbours, and the host by 127.0.0.1, do not get an answer.
    None,
    /// That of those who would not get an answer otherwise.
    Needed,
    /// Everybody's.
    All,
}

impl PortMappings {
    /// # Errors
    /// Code 7 when one port is to lead to two places.
    pub(crate) fn refuse_overlaps(mappings: &[Mapping]) -> Result<()> {
        port_range::refuse_overlaps(mappings)
    }

    fn ranges(&self) -> impl Iterator<Item = (Cidr, Vec<PortRange>)> {
        self.addresses.iter().map(|pod| (*pod, ranges(&self.mappings, Family::of(pod.ip()))))
    }

    fn elements(&self) -> Vec<OwnedElement> {
        let mut elements = Vec::new();
        for (pod, ranges) in self.ranges().filter(|(_, ranges)| !ranges.is_empty()) {
            elements.extend(ranges.iter().flat_map(|range| range.elements(pod.ip())));
            elements.extend(self.acls(&ranges, Family::of(pod.ip())));
            if self.source_nat != SourceNat::None {
                elements.push(sources_element(&pod, self.source_nat == SourceNat::All));
            }
        }
        elements
    }

    fn acls(&self, ranges: &[PortRange], family: Family) -> impl Iterator<Item = OwnedElement> {
        let conditions = self.conditions.of(family);
        let data = Data::Verdict(Verdict::Jump(chain_name(conditions)));
        let restricted = ranges.iter().filter(|_| !conditions.is_empty());
        restricted.map(move |range| {
            let (set, key) = range.acl_key(family);
            OwnedElement { set, key, data: Some(data.clone()) }
        })
    }

    /// The pod that the host itself reaches by 127.0.0.1, if there is one. By `::1` it reaches none:
    /// IPv6 has no setting like `route_localnet`.
    fn localhost(&self) -> Option<IpAddr> {
        let is_open = |range: &PortRange| range.address.is_none_or(|address| address.is_loopback());
        let mut open =
            self.ranges().filter(|(pod, ranges)| pod.is_ipv4() && ranges.iter().any(is_open));
        open.next().filter(|_| self.source_nat != SourceNat::None).map(|(pod, _)| pod.ip())
    }
}

/// The packet filter, for the ports of attachments.
pub(crate) struct HostPorts {
    elements: Elements,
    host: Host,
}

impl HostPorts {
    /// # Errors
    /// When there is no room for a socket.
    pub(crate) fn open() -> Result<Self> {
        Ok(Self { elements: Elements::open()?, host: Host::open()? })
    }

    /// What the Go plugin has made, by the same socket.
    pub(crate) fn legacy(&self) -> Legacy {
        Legacy::new(self.elements.nft())
    }

    /// Makes the ports lead to the attachment in our own tables. What an earlier ADD has made by
    /// iptables stays until then: the kernel may refuse ours.
    fn create_here(&mut self, ports: &PortMappings, owner: &Owner, undo: &mut Undo) -> Result<()> {
        let elements = ports.elements();
        if elements.is_empty() {
            return Ok(());
        }
        let is_repeated = self.clear_conflicting_dnat(ports, owner, Some(&port_chain(owner)))?;
        let comment = comment(owner, has_veth(&self.host.netlink, owner)?, &elements);
        let ruleset = HostPortRuleset::new(ports, owner, &self.host.netlink);
        if let Err(error) = self.elements.create(&elements, &comment, &ruleset, undo) {
            let Some(left) = self.left_by_siblings(ports, owner)? else { return Err(error) };
            return self.create_here(&left, owner, undo);
        }
        if is_repeated {
            self.clear_conflicting_dnat(ports, owner, None)?;
        }
        self.complete(ports)
    }

    /// What has to wait for the rules: those that drop 127.0.0.0/8 from outside are there before
    /// `route_localnet` is set, and a connection that is forgotten is translated by them.
    fn complete(&self, ports: &PortMappings) -> Result<()> {
        if let Some(key) = self.localnet(ports)? {
            sysctl::set(&key, "1").map_err(|error| {
                Error::internal(format!("unable to enable route_localnet: {error}"))
            })?;
        }
        for (pod, ranges) in ports.ranges() {
            flows::forget_before(&self.host.netlink, pod.ip(), &ranges);
        }
        Ok(())
    }

    fn localhost_difference(&self, ports: &PortMappings) -> Result<Option<String>> {
        let Some(key) = self.localnet(ports)? else { return Ok(None) };
        let is_open = sysctl::read(&key)?.as_deref() == Some("1");
        let difference = || format!("{key} is not 1: 127.0.0.1 does not lead to the container");
        Ok((!is_open).then(difference))
    }

    /// The sysctl that lets packets from 127.0.0.1 out by the link to the attachment.
    fn localnet(&self, ports: &PortMappings) -> Result<Option<String>> {
        let Some(pod) = ports.localhost() else { return Ok(None) };
        let route = self.host.netlink.find_route_to(pod)?;
        let Some(index) = route.and_then(|route| route.oif) else { return Ok(None) };
        let link = self.host.netlink.read_link(index)?;
        Ok(Some(format!("net/ipv4/conf/{}/route_localnet", link.name)))
    }

    /// Deletes what the container's interface has, whatever its network is called by now. The
    /// mappings save a look at all elements; they need be neither right nor complete.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub(crate) fn delete(&mut self, mappings: &[Mapping], owner: &Owner) -> Result<()> {
        let ours = |comment: &str| owner.is_same_interface(comment);
        let generation = self.elements.nft().read_generation()?;
        let mut found = self.find_known(mappings, &ours)?;
        let counted = |(_, one): &(Shared, Element)| count(one.comment.as_deref()?);
        if found.is_empty() || found.iter().any(|one| counted(one) != Some(found.len())) {
            found = self.elements.list_where(&all_sets(), ours)?;
        }
        self.elements.delete_found(generation, &found, ours)?;
        flows::forget_after(&found);
        Ok(())
    }

    /// The elements of these mappings. None of them, where a list of all elements is cheaper than to
    /// look up each.
    fn find_known(
        &mut self,
        mappings: &[Mapping],
        ours: &impl Fn(&str) -> bool,
    ) -> Result<Vec<(Shared, Element)>> {
        let ranges = Family::ALL.map(|family| (family, ranges(mappings, family)));
        if ranges.iter().map(|(_, ranges)| ranges.len()).sum::<usize>() > FEW {
            return Ok(Vec::new());
        }
        let (mut found, mut pods) = (Vec::new(), Vec::new());
        for (family, ranges) in ranges {
            for range in ranges {
                for (set, key) in range.keys(family).into_iter().chain([range.acl_key(family)]) {
                    self.find_own(set, &key, ours, &mut found)?;
                }
            }
        }
        for (_, element) in &found {
            pods.extend(pod_of(element).filter(|pod| !pods.contains(pod)));
        }
        for pod in pods {
            let (set, key) = sources_key(pod);
            self.find_own(set, &key, ours, &mut found)?;
        }
        Ok(found)
    }

    fn find_own(
        &mut self,
        set: Shared,
        key: &Key,
        ours: &impl Fn(&str) -> bool,
        found: &mut Vec<(Shared, Element)>,
    ) -> Result<()> {
        let element = self.elements.find(set, key)?;
        let element = element.filter(|one| one.comment.as_deref().is_some_and(ours));
        found.extend(element.map(|element| (set, element)).filter(|one| !found.contains(one)));
        Ok(())
    }

    /// Deletes what belongs to nobody who is kept, and chains that no element leads to any more.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub(crate) fn sweep(&mut self, kept: &Kept<'_>) -> Result<()> {
        self.elements.sweep(&all_sets(), kept)?;
        self.elements.delete_unused_chains(|name| {
            name.starts_with(SOURCES_PREFIX) || name.starts_with(CONDITIONS_PREFIX)
        })
    }

    /// Every port that does not lead where it should by our own tables.
    fn verify_here(&mut self, ports: &PortMappings, owner: &Owner) -> Result<Vec<String>> {
        let elements = ports.elements();
        let missing = self.elements.missing(&elements, owner)?;
        if !missing.is_empty()
            && let Some(left) = self.left_by_siblings(ports, owner)?
        {
            return self.verify_here(&left, owner);
        }
        let mut differences: Vec<_> = missing.into_iter().map(describe).collect();
        differences.dedup();
        let ruleset = HostPortRuleset::new(ports, owner, &self.host.netlink);
        if !elements.is_empty() && !self.elements.is_whole(&ruleset)? {
            differences.push("rules that ask for host ports are missing".to_owned());
        }
        differences.extend(self.localhost_difference(ports)?);
        Ok(differences)
    }
}

fn all_sets() -> Vec<Shared> {
    let of_table = |table| ALL.map(|name| SetName { table, name });
    Family::ALL.map(table).into_iter().flat_map(of_table).collect()
}

/// The pod that an element of a map leads to.
fn pod_of(element: &Element) -> Option<IpAddr> {
    match &element.data {
        Some(Data::Value(value)) => address_of(value),
        _ => None,
    }
}

fn describe(element: &OwnedElement) -> String {
    match PortRange::from_key(&element.key) {
        Some(range) if element.set.name == ACLS => {
            format!("host port {} lacks its conditions", range_text(&range))
        }
        Some(range) if element.set.name != SOURCES => {
            format!("host port {} does not lead to the container", range_text(&range))
        }
        _ => format!("connections of {} are not masqueraded", element.key),
    }
}

fn range_text(range: &PortRange) -> String {
    let at = range.address.map_or_else(String::new, |address| format!(" of {address}"));
    let protocol = ipproto::name(range.protocol);
    if range.first == range.last {
        return format!("{}/{protocol}{at}", range.first);
    }
    format!("{}-{}/{protocol}{at}", range.first, range.last)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    #[test]
    fn only_ipv4_needs_a_setting_for_localhost() {
        let ports = |pod: &str, at, source_nat| PortMappings {
            addresses: vec![pod.parse().unwrap()],
            mappings: vec![Mapping {
                at,
                protocol: ipproto::TCP,
                host_port: 80,
                container_port: 80,
            }],
            source_nat,
            conditions: Default::default(),
            backend: Backend::Any,
            iptables: Default::default(),
        };
        let pod = "10.1.0.2/24";
        let needed = SourceNat::Needed;
        assert!(ports(pod, At::Anywhere, needed).localhost().is_some());
        assert!(ports(pod, At::Address(Ipv4Addr::LOCALHOST.into()), needed).localhost().is_some());
        for ports in [
            ports(pod, At::Anywhere, SourceNat::None),
            ports(pod, At::Address("10.0.0.1".parse().unwrap()), needed),
            ports("fd00::2/64", At::Anywhere, needed),
        ] {
            assert!(ports.localhost().is_none());
        }
    }
}
