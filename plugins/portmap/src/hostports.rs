//! Ports of the host that lead to an attachment.
//!
//! ```text
//! table ip girder {
//!     set hostports {                       # who holds which single port
//!         type inet_proto . inet_service
//!         elements = { tcp . 8080 comment "pods c1 eth0 veth 3" }
//!     }
//!     set hostports-at {                    # the same for one address of the host
//!         type ipv4_addr . inet_proto . inet_service
//!     }
//!     set hostport-spans {                  # who holds which range
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
//!     map hostport-sources {                # who comes back by the host's address only
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
//! and the same as `table ip6 girder`; the rules are in `ruleset`. How many there are depends on
//! neither pods nor ports.

mod conditions;
mod conflicting_dnat;
mod conflicts;
mod flows;
pub(crate) mod iptables;
mod port_range;
mod ruleset;

pub(crate) use conditions::Condition;
pub(crate) use port_range::{At, Mapping};

use common::Undo;
use common::attach::Owner;
use common::attach::sandbox::Host;
use common::attach::{Kept, host_end};
use common::cni::{Cidr, Code, Error, Result};
use common::filter::elements::{Elements, FEW, OwnedElement, Shared, TABLES};
use common::filter::restore::{Expected, ExpectedElements};
use common::net::nft::{Batch, Data, Element, Key, SetName, Verdict};
use common::net::{ipproto, sysctl};
use conditions::chain_name;
use conflicts::{Ports, comment, count, has_veth};
use port_range::{PROTOCOLS, PortRange, address_of, ranges, sources_claim, sources_place};
use ruleset::{ACLS, ALL, PORTS, SOURCES};
use std::net::IpAddr;

/// What is to be reached through the host.
#[derive(Clone, Debug)]
pub(crate) struct PortMappings {
    /// The container's addresses, one of each family at most.
    pub(crate) addresses: Vec<Cidr>,
    /// Its ports.
    pub(crate) mappings: Vec<Mapping>,
    /// Whose source address is translated on the way, too.
    pub(crate) masquerade: Sources,
    /// What is asked of those who use them, over IPv4 and over IPv6. Empty: nothing.
    pub(crate) conditions: [Vec<Condition>; 2],
}

/// Whose source address is translated on the way to a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sources {
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
        self.addresses.iter().map(|pod| (*pod, ranges(&self.mappings, pod.is_ipv6())))
    }

    fn elements(&self) -> Vec<OwnedElement> {
        let mut elements = Vec::new();
        for (pod, ranges) in self.ranges().filter(|(_, ranges)| !ranges.is_empty()) {
            elements.extend(ranges.iter().flat_map(|range| range.elements(pod.ip())));
            elements.extend(self.acls(&ranges, pod.is_ipv6()));
            if self.masquerade != Sources::None {
                elements.push(sources_claim(&pod, self.masquerade == Sources::All));
            }
        }
        elements
    }

    fn conditions(&self, is_ipv6: bool) -> &[Condition] {
        &self.conditions[usize::from(is_ipv6)]
    }

    fn acls(&self, ranges: &[PortRange], is_ipv6: bool) -> impl Iterator<Item = OwnedElement> {
        let conditions = self.conditions(is_ipv6);
        let data = Data::Verdict(Verdict::Jump(chain_name(conditions)));
        let gated = ranges.iter().filter(|_| !conditions.is_empty());
        gated.map(move |range| {
            let (set, key) = range.acl(is_ipv6);
            OwnedElement { set, key, data: Some(data.clone()) }
        })
    }

    /// The pod that the host itself reaches by 127.0.0.1, if there is one. Over
    /// IPv6 it does not: the kernel has no such setting for `::1`.
    fn localhost(&self) -> Option<IpAddr> {
        let is_open = |range: &PortRange| range.address.is_none_or(|address| address.is_loopback());
        let mut open =
            self.ranges().filter(|(pod, ranges)| pod.is_ipv4() && ranges.iter().any(is_open));
        open.next().filter(|_| self.masquerade != Sources::None).map(|(pod, _)| pod.ip())
    }
}

/// The packet filter, for the ports of attachments.
pub(crate) struct HostPorts {
    elements: Elements,
    host: Host,
}

impl HostPorts {
    /// # Errors
    /// When the kernel has no nftables.
    pub(crate) fn open() -> Result<Self> {
        Ok(Self { elements: Elements::open()?, host: Host::open()? })
    }

    /// Makes the ports lead to the attachment, all of them or none.
    ///
    /// # Errors
    /// When another attachment holds one of them, and may be alive; when the kernel refuses.
    pub(crate) fn create(
        &mut self,
        ports: &PortMappings,
        owner: &Owner,
        undo: &mut Undo,
    ) -> Result<()> {
        let elements = ports.elements();
        if elements.is_empty() {
            return Ok(());
        }
        self.clear_conflicting_dnat(ports, owner)?;
        let comment = comment(owner, has_veth(&self.host.netlink, owner)?, &elements);
        let ruleset = Ports::new(ports, owner, &self.host.netlink);
        self.elements.create(&elements, &comment, &ruleset, undo)?;
        self.open_ways(ports)
    }

    /// What [`create`](Self::create) makes in the packet filter, for an attachment that lives.
    pub(crate) fn expected(ports: &PortMappings, owner: &Owner) -> Expected {
        let (elements, declaration) = (ports.elements(), conflicts::declare(ports));
        let has_veth = host_end::may_exist(owner);
        let comment = comment(owner, has_veth, &elements);
        Expected::Own(ExpectedElements::new(elements, comment, declaration))
    }

    /// What comes last: only now is there what makes a way for 127.0.0.1 safe, and where
    /// connections are to lead.
    fn open_ways(&self, ports: &PortMappings) -> Result<()> {
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

    /// The setting that lets 127.0.0.1 through to the attachment, on the one link there.
    fn localnet(&self, ports: &PortMappings) -> Result<Option<String>> {
        let Some(pod) = ports.localhost() else { return Ok(None) };
        let route = self.host.netlink.find_route_to(pod)?;
        let Some(index) = route.and_then(|route| route.oif) else { return Ok(None) };
        let link = self.host.netlink.read_link(index)?;
        Ok(Some(format!("net/ipv4/conf/{}/route_localnet", link.name)))
    }

    /// Removes what the container's interface has, whatever its network is called by now. What
    /// the mappings name saves a look at all elements; they need not be true, nor all.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub(crate) fn delete(&mut self, mappings: &[Mapping], owner: &Owner) -> Result<()> {
        let ours = |comment: &str| owner.is_same_interface(comment);
        let mut found = self.find_known(mappings, &ours)?;
        let counted = |(_, one): &(Shared, Element)| count(one.comment.as_deref()?);
        if found.is_empty() || found.iter().any(|one| counted(one) != Some(found.len())) {
            found = self.elements.list_where(&all_sets(), ours)?;
        }
        self.elements.delete_judged(&found, ours)?;
        flows::forget_after(&found);
        Ok(())
    }

    /// None of them, where a list of everything is cheaper than a question for each.
    fn find_known(
        &mut self,
        mappings: &[Mapping],
        ours: &impl Fn(&str) -> bool,
    ) -> Result<Vec<(Shared, Element)>> {
        let ranges = [false, true].map(|is_ipv6| (is_ipv6, ranges(mappings, is_ipv6)));
        if ranges.iter().map(|(_, ranges)| ranges.len()).sum::<usize>() > FEW {
            return Ok(Vec::new());
        }
        let (mut found, mut pods) = (Vec::new(), Vec::new());
        for (is_ipv6, ranges) in ranges {
            for range in ranges {
                for (set, key) in range.places(is_ipv6).into_iter().chain([range.acl(is_ipv6)]) {
                    self.note(set, &key, ours, &mut found)?;
                }
            }
        }
        for (_, element) in &found {
            pods.extend(pod_of(element).filter(|pod| !pods.contains(pod)));
        }
        for pod in pods {
            let (set, key) = sources_place(pod);
            self.note(set, &key, ours, &mut found)?;
        }
        Ok(found)
    }

    fn note(
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

    /// Removes what belongs to nobody who is kept, and chains that nobody's elements lead to.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub(crate) fn sweep(&mut self, kept: &Kept<'_>) -> Result<()> {
        self.elements.sweep(&all_sets(), kept)?;
        let (sources, conditions) = (format!("{SOURCES}-"), format!("{PORTS}-if-"));
        self.elements.delete_unused_chains(|name| {
            name.starts_with(&sources) || name.starts_with(&conditions)
        })
    }

    /// Every port that does not lead where it should.
    ///
    /// # Errors
    /// When the kernel cannot be asked.
    pub(crate) fn verify(&mut self, ports: &PortMappings, owner: &Owner) -> Result<Vec<String>> {
        let elements = ports.elements();
        let missing = self.elements.missing(&elements, owner)?;
        let mut differences: Vec<_> = missing.into_iter().map(describe).collect();
        differences.dedup();
        let ruleset = Ports::new(ports, owner, &self.host.netlink);
        if !elements.is_empty() && !self.elements.is_whole(&ruleset)? {
            differences.push("rules that ask for host ports are missing".to_owned());
        }
        differences.extend(self.localhost_difference(ports)?);
        Ok(differences)
    }

    /// Whether ports could be published at all.
    ///
    /// # Errors
    /// Code 50 when the kernel has no nftables, or none that is young enough.
    pub(crate) fn probe() -> Result<()> {
        let probed = Elements::open().and_then(|mut elements| {
            // Where it was made once, it can be made.
            if elements.nft().find_chain(TABLES[0], PORTS)?.is_some() {
                return Ok(());
            }
            let mut batch = Batch::new();
            ruleset::declare(&mut batch, TABLES[0]);
            Ok(elements.nft().rehearse(TABLES[0], batch)?)
        });
        probed.map_err(|error| Error::new(Code::Unavailable, error.to_string()))
    }
}

fn all_sets() -> Vec<Shared> {
    let of_table = |table| ALL.map(|name| SetName { table, name });
    TABLES.into_iter().flat_map(of_table).collect()
}

/// Where an element of a map leads to.
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
    fn only_ipv4_needs_a_way_for_localhost() {
        let ports = |pod: &str, at, masquerade| PortMappings {
            addresses: vec![pod.parse().unwrap()],
            mappings: vec![Mapping {
                at,
                protocol: ipproto::TCP,
                host_port: 80,
                container_port: 80,
            }],
            masquerade,
            conditions: Default::default(),
        };
        let pod = "10.1.0.2/24";
        let needed = Sources::Needed;
        assert!(ports(pod, At::Anywhere, needed).localhost().is_some());
        assert!(ports(pod, At::Address(Ipv4Addr::LOCALHOST.into()), needed).localhost().is_some());
        for ports in [
            ports(pod, At::Anywhere, Sources::None),
            ports(pod, At::Address("10.0.0.1".parse().unwrap()), needed),
            ports("fd00::2/64", At::Anywhere, needed),
        ] {
            assert!(ports.localhost().is_none());
        }
    }
}
