//! The address ranges of host-local: what works and may surprise. What does not work it says itself.

use super::{Findings, Level, join};
use common::cni::{Cidr, Network, Version, json};
use host_local::config::Plan;
use host_local::range::{Range, RangeSet};
use serde_json::{Map, Value};
use std::net::IpAddr;

/// The ranges of a plugin's object; none if they make no sense.
pub(super) fn of(document: &Value) -> Vec<Range> {
    let network = Network::parse(document.to_string().into_bytes());
    let plan = network.and_then(|network| Plan::read(&network, Version::V1_1_0));
    let sets = plan.map(|plan| plan.sets).unwrap_or_default();
    sets.iter().flat_map(RangeSet::ranges).cloned().collect()
}

/// Whether an `ipam` section says which addresses there are.
pub(super) fn are_given(ipam: &Map<String, Value>) -> bool {
    let ranges = json::get(ipam, "ranges").and_then(Value::as_array);
    json::get(ipam, "subnet").is_some() || ranges.is_some_and(|ranges| !ranges.is_empty())
}

/// Checks all ranges of an `ipam` section.
pub(super) fn check(ipam: &Map<String, Value>, at: &str, findings: &mut Findings) {
    range(ipam, at, findings);
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let sets = json::get(ipam, "ranges").map(list).unwrap_or_default();
    for (number, set) in sets.iter().map(list).enumerate() {
        for (index, keys) in set.iter().enumerate() {
            if let Some(keys) = keys.as_object() {
                range(keys, &format!("{}[{number}][{index}]", join(at, "ranges")), findings);
            }
        }
    }
}

fn range(keys: &Map<String, Value>, at: &str, findings: &mut Findings) {
    let text = |key| json::get(keys, key).and_then(Value::as_str);
    // What is no subnet has been reported as such.
    let Some(subnet) = text("subnet").and_then(|text| text.parse::<Cidr>().ok()) else { return };
    let gateway = text("gateway").and_then(|text| text.parse::<IpAddr>().ok());
    if let Some(gateway) = gateway.filter(|gateway| !subnet.contains(*gateway)) {
        let text = format!("{gateway} is not in {subnet}");
        findings.add(Level::Warning, join(at, "gateway"), text);
    }
    let bits = if subnet.is_ipv4() { 32 } else { 128 };
    if subnet.prefix() + 1 >= bits {
        let text = format!("{subnet} has no room for a gateway: the Go plugin refuses it");
        findings.add(Level::Note, join(at, "subnet"), text);
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
    fn ranges_that_may_surprise_are_named() {
        for (range, wrong) in [
            (
                json!({"subnet": "10.1.0.0/24", "gateway": "10.2.0.1"}),
                "warning: ipam.ranges[0][0].gateway: 10.2.0.1 is not in 10.1.0.0/24",
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
}
