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
pub fn choose(
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
pub fn exhausted(set: &RangeSet, taken: &[IpAddr], code: Code) -> Error {
    let (used, total) = (used(set, taken), set.size());
    let msg = format!("no IP addresses available in range set: {set}: {used} of {total} in use");
    Error::new(code, msg)
        .details("an address becomes free by the DEL of its container or by GC; or add a range")
}

/// Whether the next ADD would fail.
pub fn is_exhausted(set: &RangeSet, taken: &[IpAddr]) -> bool {
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
    let total = set.size();
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Source;
    use crate::range::Limits;
    use std::collections::HashSet;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn set(subnets: &[&str]) -> RangeSet {
        let limits = |subnet: &&str| Limits { subnet: subnet.parse().ok(), ..Limits::default() };
        RangeSet::new(&subnets.iter().map(limits).collect::<Vec<_>>()).unwrap()
    }

    fn ips(list: &[&str]) -> Vec<IpAddr> {
        list.iter().map(|text| ip(text)).collect()
    }

    fn request(text: &str) -> Request {
        Request { ip: ip(text), source: Source::Config }
    }

    fn plan(sets: Vec<RangeSet>, requests: &[&str]) -> Plan {
        let requests = requests.iter().map(|text| request(text)).collect();
        Plan { sets, requests, ..Plan::default() }
    }

    #[test]
    fn loops_from_the_beginning_from_the_middle_and_from_the_end() {
        let set = set(&["192.168.1.0/29"]);
        for (last, order) in [
            (None, [2, 3, 4, 5, 6]),
            (Some("192.168.1.6"), [2, 3, 4, 5, 6]),
            (Some("192.168.1.3"), [4, 5, 6, 2, 3]),
        ] {
            let mut taken = Vec::new();
            while let Some(next) = next_free(&set, &taken, last.map(ip)) {
                taken.push(next);
            }
            let order = order.map(|end| ip(&format!("192.168.1.{end}")));
            assert_eq!(taken, order, "{last:?}");
        }
    }

    #[test]
    fn allocates_round_robin() {
        for (subnets, taken, last, expected) in [
            (&["10.0.0.0/29"][..], &[][..], None, "10.0.0.2"),
            (&["2001:db8:1::/64"], &[], None, "2001:db8:1::2"),
            (&["10.0.0.0/30"], &[], None, "10.0.0.2"),
            (&["10.0.0.0/29"], &["10.0.0.2"], None, "10.0.0.3"),
            (&["10.0.0.0/29"], &[], Some("10.0.0.2"), "10.0.0.3"),
            (&["10.0.0.0/29"], &["10.0.0.3"], Some("10.0.0.2"), "10.0.0.4"),
            (&["10.0.0.0/29"], &["10.0.0.4"], Some("10.0.0.3"), "10.0.0.5"),
            (&["10.0.0.0/29"], &["10.0.0.4", "10.0.0.5"], Some("10.0.0.6"), "10.0.0.2"),
            (&["10.0.0.0/29"], &[], Some("10.0.1.6"), "10.0.0.2"),
            (
                &["10.0.0.0/29"],
                &["10.0.0.2", "10.0.0.4", "10.0.0.5", "10.0.0.6"],
                Some("10.0.0.2"),
                "10.0.0.3",
            ),
            (&["10.0.0.0/30", "10.0.1.0/30"], &["10.0.0.2"], None, "10.0.1.2"),
            (&["10.0.0.0/30", "10.0.1.0/30"], &[], Some("10.0.0.2"), "10.0.1.2"),
            (&["10.0.0.0/30", "10.0.1.0/30"], &["10.0.1.2"], Some("10.0.1.2"), "10.0.0.2"),
        ] {
            let free = next_free(&set(subnets), &ips(taken), last.map(ip));
            assert_eq!(free, Some(ip(expected)), "{subnets:?} {taken:?} {last:?}");
        }
    }

    #[test]
    fn never_allocates_the_gateway_or_the_broadcast_address() {
        let set = set(&["192.168.1.0/24"]);
        let mut taken = Vec::new();
        while let Some(next) = next_free(&set, &taken, taken.last().copied()) {
            taken.push(next);
        }
        assert_eq!(taken.len(), 253);
        assert!(!taken.contains(&ip("192.168.1.1")) && !taken.contains(&ip("192.168.1.255")));
    }

    #[test]
    fn a_released_address_waits_until_the_range_has_wrapped() {
        let set = set(&["10.0.0.0/29"]);
        let mut last = None;
        let mut order = Vec::new();
        for _ in 0..7 {
            last = next_free(&set, &[], last);
            order.extend(last);
        }
        let expected = [2, 3, 4, 5, 6, 2, 3].map(|end| ip(&format!("10.0.0.{end}")));
        assert_eq!(order, expected);
    }

    #[test]
    fn grants_the_requested_address_or_says_why_not() {
        let plan = |requests: &[&str]| plan(vec![set(&["10.0.0.0/29"])], requests);
        let taken = ips(&["10.0.0.4"]);
        let choose = |plan: &Plan| choose(plan, &taken, |_| None);
        assert_eq!(choose(&plan(&["10.0.0.5"])).unwrap()[0].address.ip(), ip("10.0.0.5"));
        for (wanted, code, msg) in [
            (
                "10.0.0.4",
                Code::TryAgain,
                "failed to allocate for range 0: requested IP address 10.0.0.4 is not available in range set 10.0.0.1-10.0.0.6",
            ),
            (
                "10.0.0.1",
                Code::InvalidConfig,
                "failed to allocate for range 0: requested ip 10.0.0.1 is subnet's gateway",
            ),
            ("10.0.0.7", Code::InvalidConfig, "failed to allocate all requested IPs: 10.0.0.7"),
            ("10.0.0.0", Code::InvalidConfig, "failed to allocate all requested IPs: 10.0.0.0"),
        ] {
            let error = choose(&plan(&[wanted])).unwrap_err();
            assert_eq!(error.code(), code);
            assert!(error.to_string().starts_with(msg), "{error}");
        }
        let error = choose(&plan(&["10.0.0.5", "10.0.0.6", "10.9.9.9"])).unwrap_err().to_string();
        assert!(error.starts_with("failed to allocate all requested IPs: 10.0.0.6 10.9.9.9;"));
        let mut environment = plan(&["10.9.9.9"]);
        environment.requests[0].source = Source::Args;
        assert_eq!(choose(&environment).unwrap_err().code(), Code::BadEnvironment);
    }

    #[test]
    fn one_address_from_each_set() {
        let sets = vec![set(&["10.0.0.0/29"]), set(&["fd00::/64"]), set(&["10.0.1.0/29"])];
        let plan = plan(sets, &["10.0.1.5", "fd00::9"]);
        let ips = choose(&plan, &[], |_| None).unwrap();
        let ips: Vec<_> = ips.iter().map(|ip| ip.address.to_string()).collect();
        assert_eq!(ips, ["10.0.0.2/29", "fd00::9/64", "10.0.1.5/29"]);
    }

    #[test]
    fn an_exhausted_set_says_how_full_it_is() {
        for (subnets, taken, msg) in [
            (&["10.0.0.0/30"][..], &["10.0.0.2"][..], "10.0.0.1-10.0.0.2: 1 of 1 in use"),
            (
                &["10.0.0.0/30", "10.0.1.0/30"],
                &["10.0.0.2", "10.0.1.2", "10.7.0.1"],
                "10.0.0.1-10.0.0.2,10.0.1.1-10.0.1.2: 2 of 2 in use",
            ),
        ] {
            let plan = plan(vec![set(subnets)], &[]);
            let error = choose(&plan, &ips(taken), |_| None).unwrap_err();
            let msg = format!(
                "failed to allocate for range 0: no IP addresses available in range set: {msg}"
            );
            assert_eq!(error.code(), Code::TryAgain);
            assert!(error.to_string().starts_with(&msg), "{error}");
        }
    }

    #[test]
    fn huge_sets_cost_nothing() {
        let set = set(&["fd00::/16"]);
        let last = ip("fd00:ffff:ffff:ffff:ffff:ffff:ffff:ffff");
        assert_eq!(next_free(&set, &[ip("fd00::2")], Some(last)), Some(ip("fd00::3")));
        assert!(
            exhausted(&set, &[], Code::TryAgain)
                .to_string()
                .contains("0 of 51922968585348276285304963292200")
        );
    }

    /// A plain loop over all addresses, as slow and as obvious as can be.
    fn model(set: &RangeSet, taken: &HashSet<IpAddr>, last: Option<IpAddr>) -> Option<IpAddr> {
        let all: Vec<_> = (0..set.size()).map(|rank| set.at(rank).unwrap()).collect();
        let start = match last {
            Some(last) if set.contains(last) => {
                let at = all.iter().position(|ip| *ip == last);
                at.map_or_else(|| usize::try_from(set.rank_after(last)).unwrap(), |at| at + 1)
            }
            _ => 0,
        };
        (0..all.len()).map(|step| all[(start + step) % all.len()]).find(|ip| !taken.contains(ip))
    }

    #[test]
    fn agrees_with_a_plain_loop() {
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let mut random = move |below: u64| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state % below
        };
        for _ in 0..300 {
            let mut limits =
                vec![Limits { subnet: "10.0.0.0/28".parse().ok(), ..Limits::default() }];
            limits.push(Limits { subnet: "10.0.1.0/29".parse().ok(), ..Limits::default() });
            for _ in 0..random(4) {
                limits[0].exclude.push(ip(&format!("10.0.0.{}", random(16))).into());
            }
            let Ok(set) = RangeSet::new(&limits) else { continue };
            let (mut taken, mut last) = (HashSet::new(), None);
            for _ in 0..60 {
                if random(3) == 0 && !taken.is_empty() {
                    let victim = *taken.iter().min().unwrap();
                    taken.remove(&victim);
                    continue;
                }
                let list: Vec<_> = taken.iter().copied().collect();
                let chosen = next_free(&set, &list, last);
                assert_eq!(chosen, model(&set, &taken, last), "{set} {taken:?} {last:?}");
                assert_eq!(chosen.is_none(), is_exhausted(&set, &list));
                last = chosen.or(last);
                taken.extend(chosen);
            }
        }
    }
}
