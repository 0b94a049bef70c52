//! The choice of an address.

use crate::config::{Plan, Request};
use crate::range::{Interval, RangeSet, address};
use common::attach::in_use::Use;
use common::cni::{Context as _, Ip};
use common::{Code, Error, Result};
use std::net::IpAddr;

/// What was chosen.
#[derive(Debug)]
pub enum Choice {
    /// One address from each range set, as the runtime gets it.
    Ips(Vec<Ip>),
    /// The range set of this index has no address left.
    Exhausted(usize),
}

/// What the choice depends on, beside the plan.
pub trait Known {
    /// Whether somebody holds an address.
    fn is_held(&self, address: IpAddr) -> bool;

    /// The first of these that nobody holds, and that is kept for nobody.
    fn first_free(&self, interval: Interval) -> Option<u128>;

    /// The address that was handed out last from the range set of this index.
    fn last(&self, index: usize) -> Option<IpAddr>;

    /// Who lives under an address that is thought to be free.
    fn find_use(&self, address: IpAddr) -> Option<Use>;

    /// Notes that an address was not chosen although it has no lease.
    fn pass_over(&mut self, address: IpAddr, found: &Use);
}

/// Chooses one address from each range set: a requested one if there is any in the set, else one
/// that is wished for and free, else the next free one after the one that was handed out last.
///
/// # Errors
/// Code 11 when a requested address is taken; the code of its source for a request that can never
/// be met.
pub fn choose(plan: &Plan, known: &mut impl Known, wishes: &[IpAddr]) -> Result<Choice> {
    let mut requests = plan.requests.clone();
    let mut ips = Vec::with_capacity(plan.sets.len());
    for (index, set) in plan.sets.iter().enumerate() {
        let request = requests.iter().position(|request| set.contains(request.ip));
        let address = match request.map(|found| requests.remove(found)) {
            Some(request) => grant(&request, set, known).map(Some),
            None => Ok(wished(set, known, wishes).or_else(|| next_free(set, known, index))),
        };
        let address = address.context(format_args!("failed to allocate for range {index}"))?;
        let Some(address) = address else { return Ok(Choice::Exhausted(index)) };
        ips.push(set.ip(address)?);
    }
    let Some(first) = requests.first() else { return Ok(Choice::Ips(ips)) };
    let left: Vec<_> = requests.iter().map(|request| request.ip.to_string()).collect();
    let msg = format!("failed to allocate all requested IPs: {}", left.join(" "));
    Err(Error::new(first.source.code(), msg)
        .details("each must be in a range set of its own, and is in none or in that of another"))
}

/// Whether the next ADD would find nothing.
pub fn is_exhausted(set: &RangeSet, known: &impl Known) -> bool {
    Free::new(set, None).next(known).is_none()
}

fn grant(request: &Request, set: &RangeSet, known: &mut impl Known) -> Result<IpAddr> {
    let ip = request.ip;
    if set.is_gateway(ip) {
        let msg = format!("requested ip {ip} is subnet's gateway");
        return Err(Error::new(request.source.code(), msg));
    }
    let msg = format!("requested IP address {ip} is not available in range set {set}");
    if !set.is_usable(ip) {
        return Err(Error::new(request.source.code(), msg).details("it is excluded"));
    }
    if known.is_held(ip) {
        return Err(Error::new(Code::TryAgain, msg).details("another container has it"));
    }
    match known.find_use(ip) {
        Some(found) => Err(Error::new(Code::TryAgain, msg).details(found.by)),
        None => Ok(ip),
    }
}

/// The first wish that can be met.
fn wished(set: &RangeSet, known: &impl Known, wishes: &[IpAddr]) -> Option<IpAddr> {
    let is_free = |ip: IpAddr| !known.is_held(ip) && known.find_use(ip).is_none();
    wishes.iter().copied().find(|ip| set.is_usable(*ip) && is_free(*ip))
}

/// Round robin: going on after the last one keeps a released address unused for as long as
/// possible, so that whoever still knows it does not reach a stranger.
fn next_free(set: &RangeSet, known: &mut impl Known, index: usize) -> Option<IpAddr> {
    let mut free = Free::new(set, known.last(index));
    while let Some(number) = free.next(known) {
        let ip = address(number);
        let Some(found) = known.find_use(ip) else { return Some(ip) };
        known.pass_over(ip, &found);
        // One route may make all of a network addresses of this host.
        free.skip(crate::range::number(found.last));
    }
    None
}

/// The free addresses of a set in the order in which they are handed out.
struct Free {
    intervals: std::vec::IntoIter<Interval>,
    rest: Option<Interval>,
}

impl Free {
    fn new(set: &RangeSet, last: Option<IpAddr>) -> Self {
        Self { intervals: set.after(last).into_iter(), rest: None }
    }

    fn next(&mut self, known: &impl Known) -> Option<u128> {
        loop {
            let interval = self.rest.take().or_else(|| self.intervals.next())?;
            if let Some(free) = known.first_free(interval) {
                self.rest =
                    (free < interval.last).then(|| Interval { first: free + 1, ..interval });
                return Some(free);
            }
        }
    }

    /// Goes on behind this one, as far as it is in the same row of addresses.
    fn skip(&mut self, last: u128) {
        self.rest = self.rest.take().and_then(|rest| match rest.first > last {
            true => Some(rest),
            false => (rest.last > last).then(|| Interval { first: last + 1, ..rest }),
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Source;
    use crate::range::{Limits, number};
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

    /// What is known about a list of addresses.
    struct List<'a> {
        taken: &'a [IpAddr],
        kept: &'a [IpAddr],
        last: Option<IpAddr>,
        users: &'a [IpAddr],
        /// The bits in which the addresses of a row differ that one of `users` begins.
        row: u128,
    }

    impl<'a> List<'a> {
        fn new(taken: &'a [IpAddr], last: Option<IpAddr>) -> Self {
            Self { taken, kept: &[], last, users: &[], row: 0 }
        }
    }

    impl Known for List<'_> {
        fn is_held(&self, address: IpAddr) -> bool {
            self.taken.contains(&address)
        }

        fn first_free(&self, interval: Interval) -> Option<u128> {
            let is_taken = |ip: &IpAddr| self.taken.contains(ip) || self.kept.contains(ip);
            (interval.first..=interval.last).find(|number| !is_taken(&address(*number)))
        }

        fn last(&self, _: usize) -> Option<IpAddr> {
            self.last
        }

        fn find_use(&self, address: IpAddr) -> Option<Use> {
            let by = self.users.contains(&address).then(|| "somebody".to_owned())?;
            Some(Use { by, last: crate::range::address(number(address) | self.row) })
        }

        fn pass_over(&mut self, _: IpAddr, _: &Use) {}
    }

    fn next_free(set: &RangeSet, taken: &[IpAddr], last: Option<IpAddr>) -> Option<IpAddr> {
        super::next_free(set, &mut List::new(taken, last), 0)
    }

    fn choose(plan: &Plan, taken: &[IpAddr]) -> Result<Vec<Ip>> {
        match super::choose(plan, &mut List::new(taken, None), &[])? {
            Choice::Ips(ips) => Ok(ips),
            Choice::Exhausted(index) => panic!("set {index} is exhausted"),
        }
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
        let choose = |plan: &Plan| choose(plan, &taken);
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
        let ips = choose(&plan, &[]).unwrap();
        let ips: Vec<_> = ips.iter().map(|ip| ip.address.to_string()).collect();
        assert_eq!(ips, ["10.0.0.2/29", "fd00::9/64", "10.0.1.5/29"]);
    }

    #[test]
    fn wishes_are_met_where_nobody_is_and_what_is_kept_is_spared() {
        let set = set(&["10.0.0.0/29"]);
        let plan = plan(vec![set.clone()], &[]);
        let (taken, kept, users) =
            (ips(&["10.0.0.2"]), ips(&["10.0.0.3", "10.0.0.6"]), ips(&["10.0.0.4"]));
        let mut list = List { kept: &kept, users: &users, ..List::new(&taken, None) };
        let mut choose = |wish: &str| match super::choose(&plan, &mut list, &ips(&[wish])).unwrap()
        {
            Choice::Ips(ips) => ips[0].address.ip().to_string(),
            Choice::Exhausted(index) => panic!("set {index} is exhausted"),
        };
        for (wish, expected) in [
            ("10.0.0.3", "10.0.0.3"),
            ("10.0.0.6", "10.0.0.6"),
            ("10.0.0.2", "10.0.0.5"),
            ("10.0.0.4", "10.0.0.5"),
            ("10.9.9.9", "10.0.0.5"),
        ] {
            assert_eq!(choose(wish), expected, "{wish}");
        }
        let taken = ips(&["10.0.0.2", "10.0.0.5"]);
        let mut list = List { taken: &taken, ..list };
        let choice = super::choose(&plan, &mut list, &[]).unwrap();
        assert!(matches!(choice, Choice::Exhausted(0)), "{choice:?}");
        let error = grant(&request("10.0.0.4"), &set, &mut list).unwrap_err().to_string();
        assert!(error.ends_with("somebody"), "{error}");
    }

    #[test]
    fn a_row_that_is_in_use_is_one_step_however_long() {
        let next = |subnets: &[&str], first: &str, row: u128, last: Option<IpAddr>| {
            let users = ips(&[first]);
            let mut list = List { users: &users, row, ..List::new(&[], last) };
            super::next_free(&set(subnets), &mut list, 0)
        };
        assert_eq!(next(&["10.0.0.0/29"], "10.0.0.2", 1, None), Some(ip("10.0.0.4")));
        assert_eq!(next(&["10.0.0.0/29"], "10.0.0.2", 7, None), None);
        assert_eq!(next(&["10.0.0.0/8"], "10.0.0.2", 0xff_ffff, None), None);
        assert_eq!(
            next(&["fd00::/64", "fd01::/64"], "fd00::2", (1 << 64) - 1, None),
            Some(ip("fd01::2"))
        );
        let end = ip("10.0.0.3");
        assert_eq!(next(&["10.0.0.0/29"], "10.0.0.4", 3, Some(end)), Some(ip("10.0.0.2")));
        assert_eq!(next(&["ffff::/16"], "ffff::2", u128::MAX, None), None);
    }

    #[test]
    fn huge_sets_cost_nothing() {
        let set = set(&["fd00::/16"]);
        let last = ip("fd00:ffff:ffff:ffff:ffff:ffff:ffff:ffff");
        assert_eq!(next_free(&set, &[ip("fd00::2")], Some(last)), Some(ip("fd00::3")));
    }

    /// A plain loop over all addresses, as slow and as obvious as can be.
    fn model(set: &RangeSet, taken: &HashSet<IpAddr>, last: Option<IpAddr>) -> Option<IpAddr> {
        let intervals = set.after(None).into_iter();
        let all: Vec<_> =
            intervals.flat_map(|interval| interval.first..=interval.last).map(address).collect();
        let start = match last.filter(|last| set.contains(*last)) {
            Some(last) => {
                let range = last.to_string().starts_with("10.0.1");
                let is_after = |ip: &IpAddr| {
                    let other = ip.to_string().starts_with("10.0.1");
                    (other == range && *ip > last) || (other && !range)
                };
                all.iter().position(is_after).unwrap_or(0)
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
                let list = List::new(&list, None);
                assert_eq!(chosen.is_none(), is_exhausted(&set, &list));
                last = chosen.or(last);
                taken.extend(chosen);
            }
        }
    }
}
