//! Connections that would lead to the wrong container, or nowhere, if the kernel remembered them.
//!
//! A UDP client may send from one port for ever: all that it sends belongs to one connection, whose
//! destination was translated, or not, with its first packet. TCP ends by itself.

use super::pod_of;
use super::port_range::{PROTOCOLS, PortRange};
use common::cni::{Errors, Result, report};
use common::filter::elements::Shared;
use common::net::conntrack::{Conntrack, Flow, FlowFilter};
use common::net::ipproto::TCP;
use common::net::nft::Element;
use common::net::{Family, Netlink};
use std::collections::BTreeMap;
use std::net::IpAddr;

/// Makes the kernel forget what was sent to these ports before they led to `pod`: a client
/// that keeps its port would not reach it otherwise.
pub(super) fn forget_before(netlink: &Netlink, pod: IpAddr, ranges: &[PortRange]) {
    let mut errors = Errors::default();
    for protocol in PROTOCOLS.into_iter().filter(|protocol| *protocol != TCP) {
        let own = ranges.iter().filter(|range| range.protocol == protocol);
        for (first, last) in questions(own.clone()) {
            let filter = FlowFilter {
                family: Family::of(pod),
                protocol,
                destination: None,
                ports: Some((first, last)),
                answered_by: None,
            };
            errors.note(forget(&filter, |flow| {
                flow.answered_by != pod
                    && own.clone().any(|range| range.contains(flow.destination, flow.port))
                    && is_own(netlink, flow.destination)
            }));
        }
    }
    if let Err(error) = errors.into_result() {
        report(format_args!("old connections may still lead to another container: {error}"));
    }
}

fn is_own(netlink: &Netlink, address: IpAddr) -> bool {
    matches!(netlink.find_route_to(address), Ok(None))
}

/// One question for each range, or, if those are many, one for all.
fn questions<'a>(ranges: impl Iterator<Item = &'a PortRange>) -> Vec<(u16, u16)> {
    // The kernel goes through its whole hash table for each: 5 ms where that has 262,144 buckets.
    const FEW: usize = 4;
    let each: Vec<_> = ranges.map(|range| (range.first, range.last)).collect();
    if each.len() <= FEW {
        return each;
    }
    let first = each.iter().map(|(first, _)| *first).min().unwrap_or_default();
    vec![(first, each.iter().map(|(_, last)| *last).max().unwrap_or(first))]
}

/// Makes the kernel forget what still leads to a pod by the ports that it had.
pub(super) fn forget_after(deleted: &[(Shared, Element)]) {
    let mut errors = Errors::default();
    let mut pods: BTreeMap<(IpAddr, u8), Vec<PortRange>> = BTreeMap::new();
    for (_, element) in deleted {
        let (pod, range) = (pod_of(element), PortRange::from_key(&element.key));
        if let (Some(pod), Some(range)) = (pod, range.filter(|range| range.protocol != TCP)) {
            pods.entry((pod, range.protocol)).or_default().push(range);
        }
    }
    for ((pod, protocol), own) in pods {
        let ends = own.iter().map(|range| (range.first, range.last));
        let ports = ends.reduce(|one, other| (one.0.min(other.0), one.1.max(other.1)));
        let (family, answered_by) = (Family::of(pod), Some(pod));
        let filter = FlowFilter { family, protocol, destination: None, ports, answered_by };
        errors.note(forget(&filter, |flow| {
            own.iter().any(|range| range.contains(flow.destination, flow.port))
        }));
    }
    if let Err(error) = errors.into_result() {
        report(format_args!("connections to the container may be remembered: {error}"));
    }
}

fn forget(filter: &FlowFilter, mut is_meant: impl FnMut(&Flow) -> bool) -> Result<()> {
    let (mut conntrack, mut errors) = (Conntrack::open()?, Errors::default());
    for flow in conntrack.list(filter)? {
        if is_meant(&flow) {
            errors.note(conntrack.delete(&flow));
        }
    }
    errors.into_result()
}

impl PortRange {
    fn contains(&self, address: IpAddr, port: u16) -> bool {
        self.address.is_none_or(|own| own == address) && (self.first..=self.last).contains(&port)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use common::net::ipproto::UDP;

    #[test]
    fn many_ranges_are_one_question() {
        let range =
            |first| PortRange { protocol: UDP, first, last: first, address: None, to: None };
        let ranges: Vec<_> = (0..40).map(|number| range(100 + 2 * number)).collect();
        assert_eq!(questions(ranges[..2].iter()), [(100, 100), (102, 102)]);
        assert_eq!(questions(ranges.iter()), [(100, 178)]);
    }
}
