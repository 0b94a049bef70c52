//! Ranges: which addresses there are, in which order, and which of them are never handed out.
//!
//! Nothing here walks over addresses. A range is a handful of spans, and an address is known by
//! its *rank*: how many usable addresses come before it in its range set. So a /64 costs as much
//! as a /30.

use common::cni::{Cidr, Ip};
use common::{Error, Result};
use ipnetwork::IpNetwork;
use std::fmt::{self, Display};
use std::net::{IpAddr, Ipv6Addr};

/// Both families on one line of numbers: IPv4 stands where `::ffff:0:0/96` has it, a block that
/// no IPv6 range may touch.
fn number(ip: IpAddr) -> u128 {
    match ip {
        IpAddr::V4(ip) => ip.to_ipv6_mapped().to_bits(),
        IpAddr::V6(ip) => ip.to_bits(),
    }
}

fn address(number: u128) -> IpAddr {
    Ipv6Addr::from_bits(number).to_canonical()
}

/// From the first to the last one, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Span {
    first: u128,
    last: u128,
}

impl Span {
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
        let mut spans = Vec::new();
        let mut first = self.first;
        for hole in holes {
            if hole.first > first {
                spans.push(Self { first, last: hole.first - 1 });
            }
            if hole.last >= self.last {
                return spans;
            }
            first = first.max(hole.last + 1);
        }
        spans.push(Self { first, last: self.last });
        spans
    }
}

/// The keys of a range, as they are in a configuration.
#[derive(Clone, Debug, Default)]
pub(crate) struct Limits {
    /// The network that the addresses belong to.
    pub(crate) subnet: Option<Cidr>,
    /// The first address to hand out.
    pub(crate) start: Option<IpAddr>,
    /// The last one.
    pub(crate) end: Option<IpAddr>,
    /// Told to the containers and never handed out. It may be outside of the subnet.
    pub(crate) gateway: Option<IpAddr>,
    /// Never handed out either.
    pub(crate) exclude: Vec<IpNetwork>,
}

/// A part of a subnet to hand out addresses from.
#[derive(Clone, Debug)]
pub(crate) struct Range {
    subnet: Cidr,
    span: Span,
    gateway: Option<IpAddr>,
    /// `span` without the gateway and without what is excluded.
    usable: Vec<Span>,
}

impl Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", address(self.span.first), address(self.span.last))
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
    pub(crate) fn new(limits: &Limits) -> Result<Self> {
        let Some(subnet) = limits.subnet else {
            return Err(Error::config("IP <nil> not v4 nor v6")
                .details("every range needs a subnet, as \"subnet\": \"10.1.0.0/24\""));
        };
        let whole = check_subnet(subnet)?;
        let is_tiny = whole.len() <= 2;
        let gateway = limits.gateway.or_else(|| (!is_tiny).then(|| address(whole.first + 1)));
        let default = match (is_tiny, subnet.is_ipv4()) {
            (true, _) => whole,
            (false, true) => Span { first: whole.first + 1, last: whole.last - 1 },
            (false, false) => Span { first: whole.first + 1, last: whole.last },
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
        let span = Span { first, last };
        if subnet.is_ipv6() && span.overlaps(Span::V4) {
            let msg = format!("subnet {subnet} contains IPv4-mapped addresses");
            return Err(Error::config(msg).details("::ffff:0:0/96 cannot be handed out"));
        }
        let mut holes = exclusions(&limits.exclude, subnet, whole)?;
        holes.extend(gateway.map(number).map(|only| Span { first: only, last: only }));
        let range = Self { subnet, span, gateway, usable: span.without(holes) };
        if range.usable.is_empty() {
            return Err(Error::config(format!("range {range} has no address to hand out"))
                .details("all of it is the gateway or excluded"));
        }
        Ok(range)
    }

    fn contains(&self, ip: IpAddr) -> bool {
        self.span.contains(number(ip))
    }

    fn overlaps(&self, other: &Self) -> bool {
        self.span.overlaps(other.span)
    }

    fn len(&self) -> u128 {
        self.usable.iter().map(|span| span.len()).sum()
    }

    /// The address as the runtime gets it.
    fn ip(&self, address: IpAddr) -> Result<Ip> {
        let address = IpNetwork::new(address, self.subnet.prefix())
            .map_err(|error| Error::internal(format!("{address} in {}: {error}", self.subnet)))?;
        Ok(Ip { address: address.into(), gateway: self.gateway, interface: None })
    }
}

fn check_subnet(subnet: Cidr) -> Result<Span> {
    let whole = Span::of(*subnet);
    if subnet.is_ipv6() && number(subnet.ip()) != 0 && Span::V4.contains(number(subnet.ip())) {
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
fn exclusions(exclude: &[IpNetwork], subnet: Cidr, whole: Span) -> Result<Vec<Span>> {
    let mut holes = Vec::with_capacity(exclude.len() + 1);
    for entry in exclude {
        if entry.ip() != entry.network() {
            return Err(Error::config(format!("exclude {entry} has host bits set"))
                .details(format!("it begins at {}", entry.network())));
        }
        let hole = Span::of(*entry);
        if !hole.overlaps(whole) {
            return Err(Error::config(format!("exclude {entry} is not in network {subnet}")));
        }
        holes.push(hole);
    }
    Ok(holes)
}

/// Ranges that one address is taken from; the next one serves when the first is exhausted.
#[derive(Clone, Debug)]
pub(crate) struct RangeSet(Vec<Range>);

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
    pub(crate) fn new(ranges: &[Limits]) -> Result<Self> {
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

    /// Whether it gives IPv4 addresses.
    pub(crate) fn is_ipv4(&self) -> bool {
        self.0.first().is_some_and(|range| range.subnet.is_ipv4())
    }

    /// Whether some address is in both.
    pub(crate) fn overlaps(&self, other: &Self) -> bool {
        self.0.iter().any(|one| other.0.iter().any(|another| one.overlaps(another)))
    }

    /// Whether the address is in one of the ranges, usable or not.
    pub(crate) fn contains(&self, ip: IpAddr) -> bool {
        self.range_of(ip).is_some()
    }

    fn range_of(&self, ip: IpAddr) -> Option<&Range> {
        self.0.iter().find(|range| range.contains(ip))
    }

    /// Whether it is the gateway of the very range that it is in.
    pub(crate) fn is_gateway(&self, ip: IpAddr) -> bool {
        self.range_of(ip).is_some_and(|range| range.gateway == Some(ip))
    }

    /// How many addresses it can hand out.
    pub(crate) fn len(&self) -> u128 {
        self.0.iter().map(Range::len).sum()
    }

    fn usable(&self) -> impl Iterator<Item = Span> {
        self.0.iter().flat_map(|range| range.usable.iter().copied())
    }

    /// How many usable addresses come before this one; none if it is not usable itself.
    pub(crate) fn rank(&self, ip: IpAddr) -> Option<u128> {
        let number = number(ip);
        let mut before = 0;
        for span in self.usable() {
            if span.contains(number) {
                return Some(before + (number - span.first));
            }
            before += span.len();
        }
        None
    }

    /// The rank of the usable address that follows this one, which need not be usable; that of the
    /// first after the last one, and for an address that is not in the set.
    pub(crate) fn rank_after(&self, ip: IpAddr) -> u128 {
        let mut before = 0;
        for range in &self.0 {
            if range.contains(ip) {
                before += range.usable.iter().map(|span| span.up_to(number(ip))).sum::<u128>();
                return if before == self.len() { 0 } else { before };
            }
            before += range.len();
        }
        0
    }

    /// The usable address of this rank.
    pub(crate) fn at(&self, rank: u128) -> Option<IpAddr> {
        let mut before = 0;
        for span in self.usable() {
            if rank - before < span.len() {
                return Some(address(span.first + (rank - before)));
            }
            before += span.len();
        }
        None
    }

    /// The address with the prefix and the gateway of its range.
    ///
    /// # Errors
    /// Code 999 for an address that is not in the set.
    pub(crate) fn ip(&self, address: IpAddr) -> Result<Ip> {
        match self.range_of(address) {
            Some(range) => range.ip(address),
            None => Err(Error::internal(format!("{address} is not in range set {self}"))),
        }
    }
}
