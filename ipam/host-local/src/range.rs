//! Ranges: which addresses there are, in which order, and which of them are never handed out.
//!
//! Nothing here walks over addresses. A range is a handful of intervals of [`number`]s, so a /64 costs
//! as much as a /30.

use common::cni::{Cidr, Ip};
use common::{Error, Result};
use ipnetwork::IpNetwork;
use std::fmt::{self, Display};
use std::net::{IpAddr, Ipv6Addr};

/// Both families on one line of numbers: IPv4 stands where `::ffff:0:0/96` has it, a block that
/// no IPv6 range may touch.
pub fn number(ip: IpAddr) -> u128 {
    match ip {
        IpAddr::V4(ip) => ip.to_ipv6_mapped().to_bits(),
        IpAddr::V6(ip) => ip.to_bits(),
    }
}

/// The address of a [`number`].
pub fn address(number: u128) -> IpAddr {
    Ipv6Addr::from_bits(number).to_canonical()
}

/// From the first to the last one, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interval {
    /// Included.
    pub first: u128,
    /// Included.
    pub last: u128,
}

impl Interval {
    /// Where the IPv4 addresses are.
    const V4: Self = Self { first: 0xffff_0000_0000, last: 0xffff_ffff_ffff };

    fn of(network: IpNetwork) -> Self {
        let first = number(network.network());
        let width = if network.is_ipv4() { 32 } else { 128 };
        let hosts = u128::MAX.checked_shr(128 - width + u32::from(network.prefix())).unwrap_or(0);
        Self { first, last: first | hosts }
    }

    fn contains(self, number: u128) -> bool {
        self.first <= number && number <= self.last
    }

    fn overlaps(self, other: Self) -> bool {
        self.first <= other.last && other.first <= self.last
    }

    /// How many of its numbers are not above `number`.
    fn up_to(self, number: u128) -> u128 {
        if number < self.first { 0 } else { (number.min(self.last) - self.first).saturating_add(1) }
    }

    fn len(self) -> u128 {
        self.up_to(self.last)
    }

    /// What remains of it without `holes`.
    fn without(self, mut holes: Vec<Self>) -> Vec<Self> {
        holes.retain(|hole| hole.overlaps(self));
        holes.sort_unstable_by_key(|hole| hole.first);
        let mut intervals = Vec::new();
        let mut first = self.first;
        for hole in holes {
            if hole.first > first {
                intervals.push(Self { first, last: hole.first - 1 });
            }
            if hole.last >= self.last {
                return intervals;
            }
            first = first.max(hole.last + 1);
        }
        intervals.push(Self { first, last: self.last });
        intervals
    }
}

/// The keys of a range, as they are in a configuration.
#[derive(Clone, Debug, Default)]
pub struct Limits {
    /// The network that the addresses belong to.
    pub subnet: Option<Cidr>,
    /// The first address to hand out.
    pub start: Option<IpAddr>,
    /// The last one.
    pub end: Option<IpAddr>,
    /// Told to the containers and never handed out. It may be outside of the subnet.
    pub gateway: Option<IpAddr>,
    /// Never handed out either.
    pub exclude: Vec<IpNetwork>,
}

/// A part of a subnet to hand out addresses from.
#[derive(Clone, Debug)]
pub struct Range {
    subnet: Cidr,
    interval: Interval,
    gateway: Option<IpAddr>,
    /// `interval` without the gateway and without what is excluded.
    usable: Vec<Interval>,
}

impl Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", address(self.interval.first), address(self.interval.last))
    }
}

impl Range {
    /// Fills in what is not given.
    ///
    /// A subnet of one or two addresses (/32, /31, /128, /127) has neither a network address nor a
    /// broadcast address (RFC 3021, RFC 6164), and no gateway unless one is given.
    ///
    /// # Errors
    /// Code 7.
    pub fn new(limits: &Limits) -> Result<Self> {
        let Some(subnet) = limits.subnet else {
            return Err(Error::config("IP <nil> not v4 nor v6")
                .details("every range needs a subnet, as \"subnet\": \"10.1.0.0/24\""));
        };
        let whole = check_subnet(subnet)?;
        let is_tiny = whole.len() <= 2;
        let gateway = limits.gateway.or_else(|| (!is_tiny).then(|| address(whole.first + 1)));
        let default = match (is_tiny, subnet.is_ipv4()) {
            (true, _) => whole,
            (false, true) => Interval { first: whole.first + 1, last: whole.last - 1 },
            (false, false) => Interval { first: whole.first + 1, last: whole.last },
        };
        let last = limits.end.map(number);
        let first = limits.start.map_or(default.first, number);
        if !whole.contains(first) || (limits.start.is_some() && last.is_some_and(|l| l < first)) {
            return Err(Error::config(format!(
                "RangeStart {} not in network {subnet}",
                address(first)
            )));
        }
        let last = last.unwrap_or(default.last);
        if !whole.contains(last) || last < first {
            let msg = format!("RangeEnd {} not in network {subnet}", address(last));
            return Err(Error::config(msg));
        }
        let interval = Interval { first, last };
        if subnet.is_ipv6() && interval.overlaps(Interval::V4) {
            let msg = format!("subnet {subnet} contains IPv4-mapped addresses");
            return Err(Error::config(msg).details("::ffff:0:0/96 cannot be handed out"));
        }
        let mut holes = exclusions(&limits.exclude, subnet, whole)?;
        holes.extend(gateway.map(number).map(|only| Interval { first: only, last: only }));
        let range = Self { subnet, interval, gateway, usable: interval.without(holes) };
        if range.usable.is_empty() {
            return Err(Error::config(format!("range {range} has no address to hand out"))
                .details("all of it is the gateway or excluded"));
        }
        Ok(range)
    }

    fn contains(&self, ip: IpAddr) -> bool {
        self.interval.contains(number(ip))
    }

    /// Whether some address is in both, usable or not.
    pub fn overlaps(&self, other: &Self) -> bool {
        self.interval.overlaps(other.interval)
    }

    /// The network that its addresses belong to.
    pub fn subnet(&self) -> Cidr {
        self.subnet
    }

    /// What the containers are told as their gateway, which may be outside of the subnet.
    pub fn gateway(&self) -> Option<IpAddr> {
        self.gateway
    }

    fn len(&self) -> u128 {
        self.usable.iter().map(|interval| interval.len()).sum()
    }

    /// The address as the runtime gets it.
    fn ip(&self, address: IpAddr) -> Result<Ip> {
        let address = IpNetwork::new(address, self.subnet.prefix())
            .map_err(|error| Error::internal(format!("{address} in {}: {error}", self.subnet)))?;
        Ok(Ip { address: address.into(), gateway: self.gateway, interface: None })
    }
}

fn check_subnet(subnet: Cidr) -> Result<Interval> {
    let whole = Interval::of(*subnet);
    if subnet.is_ipv6() && number(subnet.ip()) != 0 && Interval::V4.contains(number(subnet.ip())) {
        return Err(Error::config("IPNet IP and Mask version mismatch")
            .details(format!("{subnet} is an IPv4 address with the mask of an IPv6 one")));
    }
    if subnet.ip() != subnet.network() {
        return Err(Error::config(format!(
            "Network has host bits set. For a subnet mask of length {} the network address is {}",
            subnet.prefix(),
            subnet.network()
        )));
    }
    Ok(whole)
}

/// An entry that has nothing to do with the subnet is a typing error that would otherwise show
/// only when the address that should have been spared is handed out.
fn exclusions(exclude: &[IpNetwork], subnet: Cidr, whole: Interval) -> Result<Vec<Interval>> {
    let mut holes = Vec::with_capacity(exclude.len() + 1);
    for entry in exclude {
        if entry.ip() != entry.network() {
            return Err(Error::config(format!("exclude {entry} has host bits set"))
                .details(format!("it begins at {}", entry.network())));
        }
        let hole = Interval::of(*entry);
        if !hole.overlaps(whole) {
            return Err(Error::config(format!("exclude {entry} is not in network {subnet}")));
        }
        holes.push(hole);
    }
    Ok(holes)
}

/// Ranges that one address is taken from; the next one serves when the first is exhausted.
#[derive(Clone, Debug)]
pub struct RangeSet(Vec<Range>);

impl Display for RangeSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, range) in self.0.iter().enumerate() {
            write!(f, "{}{range}", if index == 0 { "" } else { "," })?;
        }
        Ok(())
    }
}

impl RangeSet {
    /// At least one range, all of one family, none overlapping another.
    ///
    /// # Errors
    /// Code 7.
    pub fn new(ranges: &[Limits]) -> Result<Self> {
        let ranges = ranges.iter().map(Range::new).collect::<Result<Vec<_>>>()?;
        let Some(first) = ranges.first() else { return Err(Error::config("empty range set")) };
        if ranges.iter().any(|range| range.subnet.is_ipv4() != first.subnet.is_ipv4()) {
            return Err(Error::config("mixed address families").details(
                "a range set gives one address: list IPv4 and IPv6 ranges in sets of their own",
            ));
        }
        for (index, one) in ranges.iter().enumerate() {
            if let Some(other) = ranges.iter().skip(index + 1).find(|other| one.overlaps(other)) {
                return Err(Error::config(format!("subnets {one} and {other} overlap")));
            }
        }
        Ok(Self(ranges))
    }

    /// In the order in which they serve.
    pub fn ranges(&self) -> &[Range] {
        &self.0
    }

    /// Whether it gives IPv4 addresses.
    pub fn is_ipv4(&self) -> bool {
        self.0.first().is_some_and(|range| range.subnet.is_ipv4())
    }

    /// Whether some address is in both.
    pub fn overlaps(&self, other: &Self) -> bool {
        self.0.iter().any(|one| other.0.iter().any(|another| one.overlaps(another)))
    }

    /// Whether the address is in one of the ranges, usable or not.
    pub fn contains(&self, ip: IpAddr) -> bool {
        self.range_of(ip).is_some()
    }

    fn range_of(&self, ip: IpAddr) -> Option<&Range> {
        self.0.iter().find(|range| range.contains(ip))
    }

    /// Whether it is the gateway of the very range that it is in.
    pub fn is_gateway(&self, ip: IpAddr) -> bool {
        self.range_of(ip).is_some_and(|range| range.gateway == Some(ip))
    }

    /// How many addresses it can hand out.
    pub fn size(&self) -> u128 {
        self.0.iter().map(Range::len).sum()
    }

    fn usable(&self) -> impl Iterator<Item = Interval> {
        self.0.iter().flat_map(|range| range.usable.iter().copied())
    }

    /// Whether it can be handed out.
    pub fn is_usable(&self, ip: IpAddr) -> bool {
        let number = number(ip);
        self.usable().any(|interval| interval.contains(number))
    }

    /// All usable addresses in the order in which they are handed out when this one, which need
    /// not be usable, was the last: those after it, then from the first one on.
    pub fn after(&self, last: Option<IpAddr>) -> Vec<Interval> {
        let last = last.filter(|last| self.contains(*last)).map(number);
        let Some(last) = last else { return self.usable().collect() };
        let (mut after, mut until): (Vec<Interval>, Vec<Interval>) = (Vec::new(), Vec::new());
        let mut is_passed = false;
        for range in &self.0 {
            let is_here = range.interval.contains(last);
            for interval in &range.usable {
                if is_here && interval.first <= last {
                    until.push(Interval { last: interval.last.min(last), ..*interval });
                    if interval.last > last {
                        after.push(Interval { first: last + 1, ..*interval });
                    }
                } else if is_here || is_passed {
                    after.push(*interval);
                } else {
                    until.push(*interval);
                }
            }
            is_passed |= is_here;
        }
        after.append(&mut until);
        after
    }

    /// The address with the prefix and the gateway of its range.
    ///
    /// # Errors
    /// Code 999 for an address that is not in the set.
    pub fn ip(&self, address: IpAddr) -> Result<Ip> {
        match self.range_of(address) {
            Some(range) => range.ip(address),
            None => Err(Error::internal(format!("{address} is not in range set {self}"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    /// `subnet start end gateway exclude,exclude`, `-` for what is not given.
    fn limits(text: &str) -> Limits {
        let mut words = text.split(' ').map(|word| Some(word).filter(|word| *word != "-"));
        let mut next = || words.next().flatten();
        let mut limits = Limits { subnet: next().map(|w| w.parse().unwrap()), ..Limits::default() };
        limits.start = next().map(ip);
        limits.end = next().map(ip);
        limits.gateway = next().map(ip);
        let exclude = next().into_iter().flat_map(|list| list.split(','));
        limits.exclude = exclude.map(|entry| entry.parse().unwrap()).collect();
        limits
    }

    fn range(text: &str) -> Range {
        Range::new(&limits(text)).unwrap()
    }

    fn refusal(text: &str) -> String {
        let error = Range::new(&limits(text)).unwrap_err();
        assert_eq!(error.code(), common::Code::InvalidConfig);
        error.to_string()
    }

    fn set(ranges: &[&str]) -> RangeSet {
        RangeSet::new(&ranges.iter().map(|text| limits(text)).collect::<Vec<_>>()).unwrap()
    }

    fn parts(range: &Range) -> (String, Option<String>) {
        (range.to_string(), range.gateway.map(|ip| ip.to_string()))
    }

    #[test]
    fn generates_sane_defaults() {
        for (subnet, interval, gateway) in [
            ("192.0.2.0/24", "192.0.2.1-192.0.2.254", "192.0.2.1"),
            ("192.0.2.0/25", "192.0.2.1-192.0.2.126", "192.0.2.1"),
            ("192.0.2.12/30", "192.0.2.13-192.0.2.14", "192.0.2.13"),
            ("2001:db8:1::/64", "2001:db8:1::1-2001:db8:1:0:ffff:ffff:ffff:ffff", "2001:db8:1::1"),
            ("2001:db8:1::/126", "2001:db8:1::1-2001:db8:1::3", "2001:db8:1::1"),
        ] {
            let gateway = Some(gateway.to_owned());
            assert_eq!(parts(&range(subnet)), (interval.to_owned(), gateway), "{subnet}");
        }
    }

    #[test]
    fn hands_out_every_address_of_a_tiny_subnet() {
        for (text, interval, gateway, len) in [
            ("10.1.0.0/31", "10.1.0.0-10.1.0.1", None, 2),
            ("10.1.0.0/31 - - 10.1.0.0", "10.1.0.0-10.1.0.1", Some("10.1.0.0"), 1),
            ("10.1.0.7/32", "10.1.0.7-10.1.0.7", None, 1),
            ("10.1.0.7/32 - - 169.254.1.1", "10.1.0.7-10.1.0.7", Some("169.254.1.1"), 1),
            ("fd00::2/127", "fd00::2-fd00::3", None, 2),
            ("fd00::9/128", "fd00::9-fd00::9", None, 1),
        ] {
            let range = range(text);
            assert_eq!(parts(&range), (interval.to_owned(), gateway.map(str::to_owned)), "{text}");
            assert_eq!(range.len(), len, "{text}");
        }
        assert!(refusal("10.1.0.7/32 - - 10.1.0.7").contains("no address to hand out"));
    }

    #[test]
    fn rejects_host_bits_and_masked_addresses() {
        assert_eq!(
            refusal("192.0.2.12/24"),
            "Network has host bits set. For a subnet mask of length 24 the network address is \
             192.0.2.0"
        );
        assert!(refusal("2001:db8:1::2/64").starts_with("Network has host bits set."));
        assert!(refusal("::ffff:10.1.0.0/112").starts_with("IPNet IP and Mask version mismatch"));
        assert!(refusal("::/0").contains("IPv4-mapped"));
        assert!(refusal("-").starts_with("IP <nil> not v4 nor v6"));
    }

    #[test]
    fn rejects_invalid_range_start_and_range_end() {
        for (text, msg) in [
            ("192.0.2.0/24 192.0.3.0", "RangeStart 192.0.3.0 not in network 192.0.2.0/24"),
            ("192.0.2.0/24 - 192.0.4.0", "RangeEnd 192.0.4.0 not in network 192.0.2.0/24"),
            (
                "192.0.2.0/24 192.0.2.50 192.0.2.40",
                "RangeStart 192.0.2.50 not in network 192.0.2.0/24",
            ),
            ("192.0.2.0/24 fd00::1", "RangeStart fd00::1 not in network 192.0.2.0/24"),
            ("192.0.2.0/24 - 192.0.2.0", "RangeEnd 192.0.2.0 not in network 192.0.2.0/24"),
        ] {
            assert_eq!(refusal(text), msg, "{text}");
        }
    }

    #[test]
    fn keeps_all_fields() {
        let range = range("192.0.2.0/24 192.0.2.40 192.0.2.50 192.0.2.254");
        assert_eq!(range.to_string(), "192.0.2.40-192.0.2.50");
        assert_eq!(range.gateway, Some(ip("192.0.2.254")));
        assert_eq!(range.len(), 11);
        let edges = self::range("192.0.2.0/24 192.0.2.0 192.0.2.255");
        assert_eq!(edges.len(), 255);
    }

    #[test]
    fn accepts_addresses_in_range_only() {
        let v4 = range("192.0.2.0/24 192.0.2.40 192.0.2.50");
        for (text, is_in) in [
            ("192.0.2.39", false),
            ("192.0.2.40", true),
            ("192.0.2.50", true),
            ("192.0.2.51", false),
            ("192.0.3.45", false),
            ("fd00::1", false),
        ] {
            assert_eq!(v4.contains(ip(text)), is_in, "{text}");
        }
        let v6 = range("2001:db8:1::/64 2001:db8:1::40 2001:db8:1::50");
        assert!(v6.contains(ip("2001:db8:1::45")) && !v6.contains(ip("2001:db8:1::51")));
        assert!(!v6.contains(ip("192.0.2.45")));
    }

    #[test]
    fn detects_overlap() {
        for (one, other, overlaps) in [
            ("10.0.0.0/24", "10.0.1.0/24", false),
            ("10.0.0.0/24", "2001:db8::/64", false),
            ("10.0.0.0/24", "10.0.0.0/24", true),
            ("10.0.0.0/20", "10.0.1.0/24", true),
            ("10.0.0.0/24 10.0.0.2 10.0.0.5", "10.0.0.0/24 10.0.0.6 10.0.0.9", false),
            ("10.0.0.0/24 10.0.0.2 10.0.0.6", "10.0.0.0/24 10.0.0.6 10.0.0.9", true),
        ] {
            let (one, other) = (range(one), range(other));
            assert_eq!(one.overlaps(&other), overlaps, "{one} {other}");
            assert_eq!(other.overlaps(&one), overlaps, "{other} {one}");
        }
    }

    #[test]
    fn excludes_are_holes_and_must_be_of_the_subnet() {
        let with = range("10.1.0.0/24 - - - 10.1.0.0/28,10.1.0.100,10.1.0.8/29,10.1.0.240/28");
        assert_eq!(with.len(), 254 - 15 - 1 - 15);
        let set = RangeSet(vec![with]);
        assert!(set.is_usable(ip("10.1.0.16")) && !set.is_usable(ip("10.1.0.100")));
        let next = |last: &str| address(set.after(Some(ip(last)))[0].first);
        assert_eq!(next("10.1.0.100"), ip("10.1.0.101"));
        assert_eq!(next("10.1.0.239"), ip("10.1.0.16"));
        assert_eq!(
            refusal("10.1.0.0/24 - - - 10.2.0.0/28"),
            "exclude 10.2.0.0/28 is not in network 10.1.0.0/24"
        );
        assert!(
            refusal("10.1.0.0/24 - - - 10.1.0.5/28").contains("exclude 10.1.0.5/28 has host bits")
        );
        assert!(refusal("10.1.0.0/24 - - - 10.0.0.0/8").contains("no address to hand out"));
        assert!(refusal("10.1.0.0/24 - - - fd00::/8").contains("is not in network"));
        let end = "ffff::/16 - - - ffff:ffff:ffff:ffff:ffff:ffff:ffff:ff00/120";
        assert_eq!(range(end).usable.len(), 1);
    }

    #[test]
    fn detects_set_membership() {
        let set = set(&["192.168.0.0/24", "192.168.1.0/24"]);
        assert!(set.contains(ip("192.168.1.55")) && !set.contains(ip("192.168.2.0")));
        assert!(set.is_gateway(ip("192.168.1.1")) && !set.is_gateway(ip("192.168.1.2")));
        assert_eq!(set.to_string(), "192.168.0.1-192.168.0.254,192.168.1.1-192.168.1.254");
        assert_eq!(set.ip(ip("192.168.1.9")).unwrap().address.to_string(), "192.168.1.9/24");
        assert!(set.ip(ip("10.0.0.1")).is_err());
    }

    #[test]
    fn discovers_overlaps_within_a_set_and_outside() {
        let both = [limits("192.168.0.0/20"), limits("192.168.2.0/24")];
        let error = RangeSet::new(&both).unwrap_err().to_string();
        let msg = "subnets 192.168.0.1-192.168.15.254 and 192.168.2.1-192.168.2.254 overlap";
        assert_eq!(error, msg);
        assert!(set(&["192.168.0.0/20"]).overlaps(&set(&["10.0.0.0/8", "192.168.2.0/24"])));
        assert!(!set(&["192.168.0.0/24"]).overlaps(&set(&["192.168.1.0/24"])));
        let mixed = [limits("192.168.0.0/20"), limits("fd00::/64")];
        assert!(
            RangeSet::new(&mixed).unwrap_err().to_string().starts_with("mixed address families")
        );
        assert_eq!(RangeSet::new(&[]).unwrap_err().to_string(), "empty range set");
    }

    #[test]
    fn after_any_address_come_all_others_once() {
        let limits = |subnet: &str| Limits { subnet: subnet.parse().ok(), ..Limits::default() };
        let mut first = limits("10.0.0.0/27");
        first.exclude = vec![ip("10.0.0.8").into(), "10.0.0.20/31".parse().unwrap()];
        let set = RangeSet::new(&[first, limits("10.0.2.0/29"), limits("10.0.1.0/30")]).unwrap();
        let expand = |last: Option<&IpAddr>| -> Vec<IpAddr> {
            let intervals = set.after(last.copied()).into_iter();
            intervals.flat_map(|interval| interval.first..=interval.last).map(address).collect()
        };
        let all = expand(None);
        assert_eq!(u128::try_from(all.len()).unwrap(), set.size());
        for (place, ip) in all.iter().enumerate() {
            assert!(set.is_usable(*ip));
            let mut rotated = all.clone();
            rotated.rotate_left(place + 1);
            assert_eq!(expand(Some(ip)), rotated, "{ip}");
        }
        assert_eq!(expand(Some(&ip("10.9.9.9"))), all);
        assert_eq!(expand(Some(&ip("10.0.0.8")))[0], ip("10.0.0.9"));
    }
}
