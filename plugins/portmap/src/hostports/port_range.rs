//! Port mappings, as ranges of ports that take as few elements as possible.

use super::ruleset::{
    ACLS, PORTS, PORTS_AT, RANGE_OWNERS, RANGES, SOURCES, SOURCES_PREFIX, TARGETS, TARGETS_AT,
};
use common::cni::{Cidr, Error, Result};
use common::filter::elements::{OwnedElement, Shared, table};
use common::net::Family;
use common::net::ipproto::{self, SCTP, TCP, UDP};
use common::net::nft::{Data, Key, SetName, Verdict, address, concat, octets};
use ipnetwork::IpNetwork;
use std::net::{IpAddr, Ipv4Addr};

/// TCP, UDP, SCTP, as the packet has them.
pub(super) const PROTOCOLS: [u8; 3] = [TCP, UDP, SCTP];

/// The addresses of the host on which a port is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum At {
    /// All.
    Anywhere,
    /// All IPv4 addresses (`0.0.0.0`).
    AnyIpv4,
    /// All IPv6 addresses (`::`).
    AnyIpv6,
    /// This one.
    Address(IpAddr),
}

impl At {
    pub(super) fn has_family(self, family: Family) -> bool {
        match self {
            Self::Anywhere => true,
            Self::AnyIpv4 => family == Family::V4,
            Self::AnyIpv6 => family == Family::V6,
            Self::Address(address) => Family::of(address) == family,
        }
    }
}

/// A port of the host that leads to a port of the container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mapping {
    /// On which addresses.
    pub(crate) at: At,
    /// [`TCP`], [`UDP`] or [`SCTP`].
    pub(crate) protocol: u8,
    /// The host's.
    pub(crate) host_port: u16,
    /// The container's.
    pub(crate) container_port: u16,
}

/// Ports of one family that lead to one place.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct PortRange {
    pub(super) protocol: u8,
    pub(super) first: u16,
    pub(super) last: u16,
    /// Of the host. None for every address.
    pub(super) address: Option<IpAddr>,
    /// None if the port stays as it is.
    pub(super) to: Option<u16>,
}

/// The ranges of a family; neighbours whose ports stay as they are become one.
pub(super) fn ranges(mappings: &[Mapping], family: Family) -> Vec<PortRange> {
    let of_family = mappings.iter().filter(|mapping| mapping.at.has_family(family));
    let mut single: Vec<_> = of_family
        .map(|mapping| PortRange {
            protocol: mapping.protocol,
            first: mapping.host_port,
            last: mapping.host_port,
            address: match mapping.at {
                At::Address(address) => Some(address),
                _ => None,
            },
            to: (mapping.host_port != mapping.container_port).then_some(mapping.container_port),
        })
        .collect();
    single.sort_by_key(|range| (range.protocol, range.address, range.first, range.to));
    single.dedup();
    let mut ranges: Vec<PortRange> = Vec::new();
    for range in single {
        match ranges.last_mut() {
            Some(last)
                if (last.protocol, last.address) == (range.protocol, range.address)
                    && last.to.is_none()
                    && range.to.is_none()
                    && last.last.checked_add(1) == Some(range.first) =>
            {
                last.last = range.last;
            }
            _ => ranges.push(range),
        }
    }
    // What a range of every address contains, and leads to the same place, needs no element.
    let everywhere: Vec<_> =
        ranges.iter().filter(|range| range.address.is_none()).cloned().collect();
    ranges.retain(|range| {
        range.address.is_none()
            || !everywhere.iter().any(|wide| {
                (wide.protocol, wide.to) == (range.protocol, range.to)
                    && wide.first <= range.first
                    && range.last <= wide.last
            })
    });
    ranges
}

/// Refuses a port that is to lead to two places.
pub(super) fn refuse_overlaps(mappings: &[Mapping]) -> Result<()> {
    for family in Family::ALL {
        let mut ranges = ranges(mappings, family);
        ranges.sort();
        for (number, range) in ranges.iter().enumerate() {
            let later = ranges[number + 1..].iter();
            let mut near = later
                .take_while(|other| other.protocol == range.protocol && other.first <= range.last);
            if let Some(other) = near.find(|other| {
                other.address == range.address || other.address.is_none() || range.address.is_none()
            }) {
                let (port, protocol) = (other.first, ipproto::name(range.protocol));
                return Err(Error::config(format!("host port {port}/{protocol} is mapped twice"))
                    .details("one of the entries of portMappings has to go"));
            }
        }
    }
    Ok(())
}

impl PortRange {
    /// Its key in sets that have addresses and intervals.
    pub(super) fn key(&self, family: Family) -> Key {
        let (first, last) = match (self.address, family) {
            (Some(address), _) => (octets(address), octets(address)),
            (None, Family::V4) => (vec![0; 4], vec![255; 4]),
            (None, Family::V6) => (vec![0; 16], vec![255; 16]),
        };
        let end =
            |address: &[u8], port: u16| concat(&[address, &[self.protocol], &port.to_be_bytes()]);
        Key::interval(end(&first, self.first), end(&last, self.last))
    }

    /// Its key in sets that have no addresses.
    pub(super) fn port_key(&self) -> Key {
        let end = |port: u16| concat(&[&[self.protocol], &port.to_be_bytes()]);
        if self.first == self.last {
            return end(self.first).into();
        }
        Key::interval(end(self.first), end(self.last))
    }

    /// The ports that a key of any of the sets means.
    pub(super) fn from_key(key: &Key) -> Option<Self> {
        let parts = |bytes: &[u8]| -> Option<(Option<IpAddr>, u8, u16)> {
            let (address, rest) = bytes.split_at_checked(bytes.len().checked_sub(8)?)?;
            let [protocol, _, _, _, high, low, ..] = *rest else { return None };
            Some((address_of(address), protocol, u16::from_be_bytes([high, low])))
        };
        let ((from, protocol, first), (until, _, last)) = (parts(key.first())?, parts(key.last())?);
        let address = from.filter(|_| from == until);
        Some(Self { protocol, first, last, address, to: None })
    }

    /// The keys of its elements: in the map that tells where it leads, and in the set that tells who
    /// has it.
    pub(super) fn keys(&self, family: Family) -> [(Shared, Key); 2] {
        let set = |name| SetName { table: table(family), name };
        let (key, port) = (self.key(family), self.port_key());
        match self.address {
            _ if self.first != self.last => [(set(RANGES), key.clone()), (set(RANGE_OWNERS), key)],
            None => [(set(TARGETS), port.clone()), (set(PORTS), port)],
            Some(_) => [TARGETS_AT, PORTS_AT].map(|name| (set(name), key.first().to_vec().into())),
        }
    }

    /// Its key in the map that tells who may use it.
    pub(super) fn acl_key(&self, family: Family) -> (Shared, Key) {
        (SetName { table: table(family), name: ACLS }, self.key(family))
    }

    /// Its elements, if it leads to `pod`.
    pub(super) fn elements(&self, pod: IpAddr) -> [OwnedElement; 2] {
        let [(map, key), (set, range)] = self.keys(Family::of(pod));
        let mut value = octets(pod);
        if map.name != RANGES {
            let port = self.to.unwrap_or(self.first);
            value = concat(&[&value, &port.to_be_bytes()]);
        }
        [
            OwnedElement { set, key: range, data: None },
            OwnedElement { set: map, key, data: Some(Data::Value(value)) },
        ]
    }
}

/// The address at the beginning of a key or of a value.
pub(super) fn address_of(value: &[u8]) -> Option<IpAddr> {
    address(value.get(..16).or_else(|| value.get(..4))?)
}

/// The name of a chain, and the networks whose connections to a pod it masquerades: the pod's own
/// subnet, for an answer to a neighbour would not come back through the host, and 127.0.0.1, which
/// the pod would answer to itself. (What is sent from `::1` leaves no host.)
pub(super) fn sources(pod: &Cidr, all: bool) -> (String, Vec<IpNetwork>) {
    if all {
        return (format!("{SOURCES_PREFIX}all"), vec![*Cidr::default_of(pod.ip())]);
    }
    // nft(8) could not read back a name with a colon.
    let name = format!("{SOURCES_PREFIX}{}/{}", pod.network(), pod.prefix()).replace(':', "_");
    let loopback = pod.is_ipv4().then(|| IpAddr::from(Ipv4Addr::LOCALHOST).into());
    (name, std::iter::once(**pod).chain(loopback).collect())
}

/// The key of a pod in the map that leads to such a chain.
pub(super) fn sources_key(pod: IpAddr) -> (Shared, Key) {
    (SetName { table: table(Family::of(pod)), name: SOURCES }, octets(pod).into())
}

/// The element that leads a pod's connections to such a chain.
pub(super) fn sources_element(pod: &Cidr, all: bool) -> OwnedElement {
    let (set, key) = sources_key(pod.ip());
    let data = Some(Data::Verdict(Verdict::Goto(sources(pod, all).0)));
    OwnedElement { set, key, data }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mapping(at: At, host_port: u16, container_port: u16) -> Mapping {
        Mapping { at, protocol: TCP, host_port, container_port }
    }

    #[test]
    fn neighbours_become_one() {
        let mut mappings: Vec<_> = (1000..2000).map(|p| mapping(At::Anywhere, p, p)).collect();
        mappings.push(mapping(At::Anywhere, 2000, 80));
        mappings.push(mapping(At::Anywhere, 2001, 2001));
        mappings.push(mapping(At::AnyIpv4, 2002, 2002));
        let ends = |family| -> Vec<_> {
            ranges(&mappings, family).iter().map(|s| (s.first, s.last, s.to)).collect()
        };
        assert_eq!(
            ends(Family::V6),
            [(1000, 1999, None), (2000, 2000, Some(80)), (2001, 2001, None)]
        );
        assert_eq!(ends(Family::V4)[2], (2001, 2002, None));
    }

    #[test]
    fn a_port_leads_to_one_place() {
        let here = At::Address("10.0.0.1".parse().unwrap());
        let there = At::Address("10.0.0.2".parse().unwrap());
        let refused = |one: Mapping, other: Mapping| refuse_overlaps(&[one, other]).is_err();
        assert!(refused(mapping(At::Anywhere, 80, 80), mapping(At::Anywhere, 80, 81)));
        assert!(refused(mapping(here, 80, 80), mapping(At::Anywhere, 80, 81)));
        assert!(!refused(mapping(here, 80, 80), mapping(At::Anywhere, 80, 80)));
        assert!(!refused(mapping(here, 80, 80), mapping(there, 80, 81)));
        assert!(!refused(mapping(At::AnyIpv6, 80, 80), mapping(At::AnyIpv4, 80, 81)));
        assert!(!refused(mapping(At::Anywhere, 80, 80), mapping(At::Anywhere, 80, 80)));
    }

    #[test]
    fn a_key_says_which_ports() {
        for address in [None, Some("10.0.0.1".parse().unwrap()), Some("fd00::1".parse().unwrap())] {
            let range = PortRange { protocol: UDP, first: 53, last: 60, address, to: None };
            let family = address.map_or(Family::V4, Family::of);
            assert_eq!(PortRange::from_key(&range.key(family)), Some(range));
        }
        assert_eq!(PortRange::from_key(&vec![1, 2].into()), None);
    }

    #[test]
    fn single_ports_need_no_interval() {
        let keys = |at, ports: &[u16]| -> Vec<_> {
            let mappings: Vec<_> = ports.iter().map(|port| mapping(at, *port, *port)).collect();
            let ranges = ranges(&mappings, Family::V4);
            let key = |range: &PortRange| range.keys(Family::V4)[0].clone();
            ranges.iter().map(key).map(|(set, key)| (set.name, key.first().len())).collect()
        };
        let here = At::Address("10.0.0.1".parse().unwrap());
        assert_eq!(keys(At::Anywhere, &[80]), [(TARGETS, 8)]);
        assert_eq!(keys(here, &[80]), [(TARGETS_AT, 12)]);
        assert_eq!(keys(At::Anywhere, &[80, 81]), [(RANGES, 12)]);
        let range = PortRange { protocol: UDP, first: 53, last: 53, address: None, to: None };
        assert_eq!(PortRange::from_key(&range.port_key()), Some(range));
    }

    #[test]
    fn the_own_subnet_and_loopback_come_back_by_the_host() {
        let of = |pod: &str, all| {
            let (name, networks) = sources(&pod.parse().unwrap(), all);
            (name, networks.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "))
        };
        let expected = |name: &str, networks: &str| (name.to_owned(), networks.to_owned());
        assert_eq!(
            of("10.1.0.2/24", false),
            expected("hostport-sources-10.1.0.0/24", "10.1.0.2/24 127.0.0.1/32")
        );
        assert_eq!(of("10.1.0.2/24", true), expected("hostport-sources-all", "0.0.0.0/0"));
        assert_eq!(of("fd00::2/64", false).0, "hostport-sources-fd00__/64");
    }
}
