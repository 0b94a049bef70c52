//! The address ranges of host-local.

use super::walk::join;
use super::{Findings, Level};
use common::cni::{Cidr, json};
use ipnetwork::IpNetwork;
use serde_json::{Map, Value};
use std::net::IpAddr;

/// The addresses from the first to the last, and where they are written.
#[derive(Clone, Debug)]
pub(super) struct Span {
    pub(super) subnet: Cidr,
    pub(super) gateway: Option<IpAddr>,
    first: u128,
    last: u128,
    at: String,
}

impl Span {
    pub(super) fn overlaps(&self, other: &Self) -> bool {
        self.subnet.is_ipv4() == other.subnet.is_ipv4()
            && self.first <= other.last
            && other.first <= self.last
    }
}

/// Checks all ranges of an `ipam` section; gives those that make sense.
pub(super) fn check(ipam: &Map<String, Value>, at: &str, findings: &mut Findings) -> Vec<Span> {
    let mut sets: Vec<Vec<Span>> = Vec::new();
    if json::get(ipam, "subnet").is_some() {
        sets.push(range(ipam, at, findings).into_iter().collect());
    }
    let ranges = json::get(ipam, "ranges").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    for (index, set) in ranges.iter().enumerate() {
        let at = format!("{}[{index}]", join(at, "ranges"));
        let Some(set) = set.as_array() else { continue };
        if set.is_empty() {
            findings.add(Level::Error, at.clone(), "empty range set");
        }
        let ranges = set.iter().enumerate().filter_map(|(index, item)| {
            range(item.as_object()?, &format!("{at}[{index}]"), findings)
        });
        let ranges: Vec<_> = ranges.collect();
        if ranges.windows(2).any(|pair| pair[0].subnet.is_ipv4() != pair[1].subnet.is_ipv4()) {
            let text = "mixed address families: a container gets one address of each set, so \
                        dual stack takes two sets";
            findings.add(Level::Error, at, text);
        }
        sets.push(ranges);
    }
    let spans: Vec<_> = sets.into_iter().flatten().collect();
    for (index, span) in spans.iter().enumerate() {
        if let Some(earlier) = spans[..index].iter().find(|earlier| span.overlaps(earlier)) {
            let text =
                format!("{} overlaps with {} at {}", span.subnet, earlier.subnet, earlier.at);
            findings.add(Level::Error, span.at.clone(), text);
        }
    }
    spans
}

fn range(keys: &Map<String, Value>, at: &str, findings: &mut Findings) -> Option<Span> {
    let Some(subnet) = json::get(keys, "subnet") else {
        findings.add(Level::Error, at.to_owned(), "a range needs a `subnet`");
        return None;
    };
    // What is no subnet has been reported as such.
    let subnet: Cidr = subnet.as_str()?.parse().ok()?;
    let span = whole(subnet, at, findings)?;
    let ip = |key| json::get(keys, key).and_then(Value::as_str)?.parse::<IpAddr>().ok();
    let is_inside = |ip: IpAddr| subnet.contains(ip);
    let mut span = Span { gateway: ip("gateway"), at: at.to_owned(), ..span };
    for (key, level) in
        [("rangeStart", Level::Error), ("rangeEnd", Level::Error), ("gateway", Level::Warning)]
    {
        if let Some(ip) = ip(key).filter(|ip| !is_inside(*ip)) {
            findings.add(level, join(at, key), format!("{ip} is not in {subnet}"));
        }
    }
    span.first = ip("rangeStart").filter(|ip| is_inside(*ip)).map_or(span.first, number);
    span.last = ip("rangeEnd").filter(|ip| is_inside(*ip)).map_or(span.last, number);
    if span.last < span.first {
        findings.add(Level::Error, join(at, "rangeEnd"), "it is before the range's start");
        return None;
    }
    let exclude = json::get(keys, "exclude").and_then(Value::as_array);
    for (index, entry) in exclude.into_iter().flatten().enumerate() {
        if let Some(wrong) = entry.as_str().and_then(|text| exclusion(text, subnet)) {
            findings.add(Level::Error, format!("{}[{index}]", join(at, "exclude")), wrong);
        }
    }
    Some(span)
}

/// What host-local hands out of a subnet if nothing else is said.
fn whole(subnet: Cidr, at: &str, findings: &mut Findings) -> Option<Span> {
    if subnet.ip() != subnet.network() {
        let (given, network, length) = (subnet.ip(), subnet.network(), subnet.prefix());
        let text = format!("{given} has host bits set: the network is {network}/{length}");
        findings.add(Level::Error, join(at, "subnet"), text);
        return None;
    }
    let (first, last) = (number(subnet.network()), number(subnet.broadcast()));
    if last - first < 3 {
        let text = format!("{subnet} has no room for a gateway: the Go plugin refuses it");
        findings.add(Level::Note, join(at, "subnet"), text);
        return Some(Span { subnet, gateway: None, first, last, at: String::new() });
    }
    let last = if subnet.is_ipv4() { last - 1 } else { last };
    Some(Span { subnet, gateway: None, first: first + 1, last, at: String::new() })
}

fn exclusion(text: &str, subnet: Cidr) -> Option<String> {
    let block: IpNetwork = match text.parse::<IpAddr>() {
        Ok(ip) => ip.into(),
        Err(_) => match text.parse::<Cidr>() {
            Ok(block) => *block,
            Err(wrong) => return Some(wrong),
        },
    };
    if block.ip() != block.network() {
        return Some(format!("{block} has host bits set: it begins at {}", block.network()));
    }
    let overlaps = subnet.contains(block.network()) || block.contains(subnet.network());
    (!overlaps).then(|| format!("{block} is not in {subnet}"))
}

fn number(ip: IpAddr) -> u128 {
    match ip {
        IpAddr::V4(ip) => u32::from(ip).into(),
        IpAddr::V6(ip) => ip.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn findings(ipam: &Value) -> Vec<String> {
        let mut findings = Findings::default();
        check(ipam.as_object().unwrap(), "ipam", &mut findings);
        findings.0.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn ranges_that_fit_are_silent() {
        for ipam in [
            json!({}),
            json!({"subnet": "10.1.0.0/24", "gateway": "10.1.0.1", "exclude": ["10.1.0.8/29"]}),
            json!({"ranges": [[{"subnet": "10.1.0.0/24"}], [{"subnet": "fd00::/64"}]]}),
            json!({"ranges": [[
                {"subnet": "10.1.0.0/24", "rangeEnd": "10.1.0.99"},
                {"subnet": "10.1.0.0/24", "rangeStart": "10.1.0.100"}]]}),
        ] {
            assert_eq!(findings(&ipam), [""; 0], "{ipam}");
        }
    }

    #[test]
    fn ranges_that_do_not_fit_are_named() {
        for (range, wrong) in [
            (json!({}), "error: ipam.ranges[0][0]: a range needs a `subnet`"),
            (
                json!({"subnet": "10.1.0.1/24"}),
                "error: ipam.ranges[0][0].subnet: 10.1.0.1 has host bits set: the network is \
                 10.1.0.0/24",
            ),
            (
                json!({"subnet": "10.1.0.0/24", "rangeStart": "10.2.0.1"}),
                "error: ipam.ranges[0][0].rangeStart: 10.2.0.1 is not in 10.1.0.0/24",
            ),
            (
                json!({"subnet": "10.1.0.0/24", "rangeStart": "10.1.0.9", "rangeEnd": "10.1.0.8"}),
                "error: ipam.ranges[0][0].rangeEnd: it is before the range's start",
            ),
            (
                json!({"subnet": "10.1.0.0/24", "gateway": "10.2.0.1"}),
                "warning: ipam.ranges[0][0].gateway: 10.2.0.1 is not in 10.1.0.0/24",
            ),
            (
                json!({"subnet": "10.1.0.0/24", "exclude": ["10.2.0.1"]}),
                "error: ipam.ranges[0][0].exclude[0]: 10.2.0.1/32 is not in 10.1.0.0/24",
            ),
            (
                json!({"subnet": "10.1.0.0/31"}),
                "note: ipam.ranges[0][0].subnet: 10.1.0.0/31 has no room for a gateway: the Go \
                 plugin refuses it",
            ),
        ] {
            assert_eq!(findings(&json!({"ranges": [[range]]})), [wrong]);
        }
    }

    #[test]
    fn sets_are_of_one_family_and_do_not_overlap() {
        let mixed = json!({"ranges": [[{"subnet": "10.1.0.0/24"}, {"subnet": "fd00::/64"}]]});
        assert!(findings(&mixed)[0].starts_with("error: ipam.ranges[0]: mixed address families"));
        let overlap = json!({"subnet": "10.0.0.0/8", "ranges": [[{"subnet": "10.1.0.0/24"}]]});
        assert_eq!(
            findings(&overlap),
            ["error: ipam.ranges[0][0]: 10.1.0.0/24 overlaps with 10.0.0.0/8 at ipam"]
        );
        assert_eq!(findings(&json!({"ranges": [[]]})), ["error: ipam.ranges[0]: empty range set"]);
    }
}
