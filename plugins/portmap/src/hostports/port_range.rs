//! What is to lead where: from single mappings to as few elements as possible.

use super::ruleset::{ACLS, HELD_RANGES, PORTS, PORTS_AT, RANGES, SOURCES, TARGETS, TARGETS_AT};
use common::cni::{Cidr, Error, Result};
use common::filter::elements::{OwnedElement, Shared, TABLES};
use common::net::ipproto::{self, SCTP, TCP, UDP};
use common::net::nft::{Data, Key, SetName, Verdict, concat, octets};
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
    pub(super) fn has_family(self, is_ipv6: bool) -> bool {
        match self {
            Self::Anywhere => true,
            Self::AnyIpv4 => !is_ipv6,
            Self::AnyIpv6 => is_ipv6,
            Self::Address(address) => address.is_ipv6() == is_ipv6,
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
    /// None for every address.
    pub(super) address: Option<IpAddr>,
    /// None if the port stays as it is.
    pub(super) to: Option<u16>,
}

/// The ranges of a family; neighbours whose ports stay as they are become one.
pub(super) fn ranges(mappings: &[Mapping], is_ipv6: bool) -> Vec<PortRange> {
    let of_family = mappings.iter().filter(|mapping| mapping.at.has_family(is_ipv6));
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
    // A port of one address that every address has already, and that leads to the same place.
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
    for is_ipv6 in [false, true] {
        let mut ranges = ranges(mappings, is_ipv6);
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
    /// Its key in the sets of a family that have addresses and intervals.
    pub(super) fn key(&self, is_ipv6: bool) -> Key {
        let (first, last) = match self.address {
            Some(address) => (octets(address), octets(address)),
            None if is_ipv6 => (vec![0; 16], vec![255; 16]),
            None => (vec![0; 4], vec![255; 4]),
        };
        let end =
            |address: &[u8], port: u16| concat(&[address, &[self.protocol], &port.to_be_bytes()]);
        Key::interval(end(&first, self.first), end(&last, self.last))
    }

    /// Its key where every address is meant.
    pub(super) fn port_key(&self) -> Key {
        let end = |port: u16| concat(&[&[self.protocol], &port.to_be_bytes()]);
        if self.first == self.last {
            return end(self.first).into();
        }
        Key::interval(end(self.first), end(self.last))
    }

    /// What a key says, of whichever set.
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

    /// Where its elements are: what says where it leads, and who holds it.
    pub(super) fn places(&self, is_ipv6: bool) -> [(Shared, Key); 2] {
        let set = |name| SetName { table: TABLES[usize::from(is_ipv6)], name };
        let (key, port) = (self.key(is_ipv6), self.port_key());
        match self.address {
            _ if self.first != self.last => [(set(RANGES), key.clone()), (set(HELD_RANGES), key)],
            None => [(set(TARGETS), port.clone()), (set(PORTS), port)],
            Some(_) => [TARGETS_AT, PORTS_AT].map(|name| (set(name), key.first().to_vec().into())),
        }
    }

    /// Where it is said who may use it.
    pub(super) fn acl(&self, is_ipv6: bool) -> (Shared, Key) {
        let set = SetName { table: TABLES[usize::from(is_ipv6)], name: ACLS };
        (set, self.key(is_ipv6))
    }

    /// Its elements, if it leads to `pod`.
    pub(super) fn elements(&self, pod: IpAddr) -> [OwnedElement; 2] {
        let [(map, key), (held, range)] = self.places(pod.is_ipv6());
        let mut value = octets(pod);
        if map.name != RANGES {
            let port = self.to.unwrap_or(self.first);
            value = concat(&[&value, &port.to_be_bytes()]);
        }
        [
            OwnedElement { set: held, key: range, data: None },
            OwnedElement { set: map, key, data: Some(Data::Value(value)) },
        ]
    }
}

/// The address at the beginning of a key or of a value.
pub(super) fn address_of(value: &[u8]) -> Option<IpAddr> {
    if let Some(octets) = value.get(..16) {
        return <[u8; 16]>::try_from(octets).ok().map(IpAddr::from);
    }
    <[u8; 4]>::try_from(value.get(..4)?).ok().map(IpAddr::from)
}

/// Who is masqueraded on the way to a pod through a host port, and what the chain about them is
/// called: its own subnet, for an answer there would not come back through the host, and the
/// host's loopback, which is nobody's to answer to. (`::1` cannot be sent from over a wire at all.)
pub(super) fn sources(pod: &Cidr, all: bool) -> (String, Vec<IpNetwork>) {
    if all {
        return (format!("{SOURCES}-all"), vec![*Cidr::default_of(pod.ip())]);
    }
    // nft's own language knows no colon in a name.
    let name = format!("{SOURCES}-{}/{}", pod.network(), pod.prefix()).replace(':', "_");
    let loopback = pod.is_ipv4().then(|| IpAddr::from(Ipv4Addr::LOCALHOST).into());
    (name, std::iter::once(**pod).chain(loopback).collect())
}

/// Where the sources of a pod are.
pub(super) fn sources_place(pod: IpAddr) -> (Shared, Key) {
    let set = SetName { table: TABLES[usize::from(pod.is_ipv6())], name: SOURCES };
    (set, octets(pod).into())
}

/// The element about the sources of a pod.
pub(super) fn sources_claim(pod: &Cidr, all: bool) -> OwnedElement {
    let (set, key) = sources_place(pod.ip());
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
        let ends = |is_ipv6| -> Vec<_> {
            ranges(&mappings, is_ipv6).iter().map(|s| (s.first, s.last, s.to)).collect()
        };
        assert_eq!(ends(true), [(1000, 1999, None), (2000, 2000, Some(80)), (2001, 2001, None)]);
        assert_eq!(ends(false)[2], (2001, 2002, None));
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
            let is_ipv6 = address.is_some_and(|address: IpAddr| address.is_ipv6());
            assert_eq!(PortRange::from_key(&range.key(is_ipv6)), Some(range));
        }
        assert_eq!(PortRange::from_key(&vec![1, 2].into()), None);
    }

    #[test]
    fn single_ports_need_no_interval() {
        let places = |at, ports: &[u16]| -> Vec<_> {
            let mappings: Vec<_> = ports.iter().map(|port| mapping(at, *port, *port)).collect();
            let ranges = ranges(&mappings, false);
            let place = |range: &PortRange| range.places(false)[0].clone();
            ranges.iter().map(place).map(|(set, key)| (set.name, key.first().len())).collect()
        };
        let here = At::Address("10.0.0.1".parse().unwrap());
        assert_eq!(places(At::Anywhere, &[80]), [(TARGETS, 8)]);
        assert_eq!(places(here, &[80]), [(TARGETS_AT, 12)]);
        assert_eq!(places(At::Anywhere, &[80, 81]), [(RANGES, 12)]);
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
