//! The choice of an address.

use crate::config::{Plan, Request};
use crate::range::RangeSet;
use common::cni::{Context as _, Ip};
use common::{Code, Error, Result};
use std::net::IpAddr;

/// Chooses one address from each range set: a requested one if there is any in the set, else the
/// next free one after the one that was handed out last.
///
/// # Errors
/// Code 11 when a set is exhausted or a requested address is taken; the code of its source for a
/// request that can never be met.
pub(crate) fn choose(
    plan: &Plan,
    taken: &[IpAddr],
    last: impl Fn(&RangeSet) -> Option<IpAddr>,
) -> Result<Vec<Ip>> {
    let mut requests = plan.requests.clone();
    let mut ips = Vec::with_capacity(plan.sets.len());
    for (index, set) in plan.sets.iter().enumerate() {
        let request = requests.iter().position(|request| set.contains(request.ip));
        let address = match request.map(|found| requests.remove(found)) {
            Some(request) => grant(&request, set, taken),
            None => next_free(set, taken, last(set))
                .ok_or_else(|| exhausted(set, taken, Code::TryAgain)),
        };
        let ip = address.and_then(|address| set.ip(address));
        ips.push(ip.context(format_args!("failed to allocate for range {index}"))?);
    }
    let Some(first) = requests.first() else { return Ok(ips) };
    let left: Vec<_> = requests.iter().map(|request| request.ip.to_string()).collect();
    let msg = format!("failed to allocate all requested IPs: {}", left.join(" "));
    Err(Error::new(first.source.code(), msg)
        .details("each must be in a range set of its own, and is in none or in that of another"))
}

/// The error of a range set that has no free address, for ADD and for STATUS.
pub(crate) fn exhausted(set: &RangeSet, taken: &[IpAddr], code: Code) -> Error {
    let (used, total) = (used(set, taken), set.len());
    let msg = format!("no IP addresses available in range set: {set}: {used} of {total} in use");
    Error::new(code, msg)
        .details("an address becomes free by the DEL of its container or by GC; or add a range")
}

/// Whether the next ADD would fail.
pub(crate) fn is_exhausted(set: &RangeSet, taken: &[IpAddr]) -> bool {
    next_free(set, taken, None).is_none()
}

/// How many of the set's usable addresses are taken.
fn used(set: &RangeSet, taken: &[IpAddr]) -> usize {
    taken.iter().filter(|ip| set.rank(**ip).is_some()).count()
}

fn grant(request: &Request, set: &RangeSet, taken: &[IpAddr]) -> Result<IpAddr> {
    let ip = request.ip;
    if set.is_gateway(ip) {
        let msg = format!("requested ip {ip} is subnet's gateway");
        return Err(Error::new(request.source.code(), msg));
    }
    let msg = format!("requested IP address {ip} is not available in range set {set}");
    if set.rank(ip).is_none() {
        return Err(Error::new(request.source.code(), msg).details("it is excluded"));
    }
    if taken.contains(&ip) {
        return Err(Error::new(Code::TryAgain, msg).details("another container has it"));
    }
    Ok(ip)
}

/// Round robin: going on after the last one keeps a released address unused for as long as
/// possible, so that whoever still knows it does not reach a stranger.
fn next_free(set: &RangeSet, taken: &[IpAddr], last: Option<IpAddr>) -> Option<IpAddr> {
    let total = set.len();
    let start = last.map_or(0, |last| set.rank_after(last));
    let ranks: Vec<u128> = taken.iter().filter_map(|ip| set.rank(*ip)).collect();
    // Of n + 1 addresses in a row, n leases leave one free: no need to look further, whatever
    // the size of the set.
    let mut is_taken = vec![false; ranks.len() + 1];
    for rank in ranks {
        let distance = if rank >= start { rank - start } else { total - start + rank };
        let slot = usize::try_from(distance).ok().and_then(|slot| is_taken.get_mut(slot));
        if let Some(slot) = slot {
            *slot = true;
        }
    }
    let distance = is_taken.iter().position(|taken| !taken)?;
    let distance = u128::try_from(distance).ok().filter(|distance| *distance < total)?;
    let to_end = total - start;
    set.at(if distance < to_end { start + distance } else { distance - to_end })
}
