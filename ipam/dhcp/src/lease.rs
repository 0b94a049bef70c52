//! What a server has granted: an address, for how long, and the way to other networks.

use crate::message::Answer;
use common::cni::{Cidr, Ip, Route};
use common::net::{Mac, since_boot};
use common::{Error, Result, Success};
use ipnetwork::IpNetwork;
use serde::{Deserialize, Serialize};
use std::net::Ipv4Addr;
use std::time::Duration;

/// For how long an address is leased by a server that does not say: one hour.
const DEFAULT: u32 = 3600;
/// Less would be renewed without end.
const SHORTEST: u32 = 1;
/// What stands for ever (RFC 2131, 3.3).
const FOREVER: u32 = u32::MAX;
/// The scope of a route whose destination is on the link (`RT_SCOPE_LINK` of linux/rtnetlink.h).
const ON_LINK: u8 = 253;

/// When what is to be done about a lease. Its times are those of [`since_boot`], which a setting of the
/// clock does not change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Term {
    /// When the server is asked to extend it.
    pub(crate) renewal: Duration,
    /// When any server is asked.
    pub(crate) rebinding: Duration,
    /// When it ends. `None` for never.
    pub(crate) expiry: Option<Duration>,
}

impl Term {
    /// Its end is now.
    pub(crate) fn end(&mut self) {
        let now = since_boot();
        *self = Self { renewal: now, rebinding: now, expiry: Some(now) };
    }
}

/// A lease.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Lease {
    pub(crate) address: Ipv4Addr,
    prefix: u8,
    /// Who granted it.
    pub(crate) server: Ipv4Addr,
    /// By which hardware address the server, or the relay in between, is reached.
    mac: [u8; 6],
    routers: Vec<Ipv4Addr>,
    /// Destination and router; 0.0.0.0 for what is on the link.
    routes: Vec<(Cidr, Ipv4Addr)>,
    /// Whether they are all that there are, so that the router is not the default one.
    is_classless: bool,
    pub(crate) term: Term,
}

impl Lease {
    /// Of a DHCPACK that came from `mac`.
    ///
    /// # Errors
    /// When it does not say what an address needs.
    pub(crate) fn new(answer: &Answer, mac: Mac) -> Result<Self> {
        let refuse = |msg: &str| Err(Error::internal(msg));
        let Some(address) = answer.address else {
            return refuse("there is no address in DHCPACK");
        };
        let Some(mask) = answer.subnet_mask else {
            return refuse("DHCP option Subnet Mask not found in DHCPACK");
        };
        let Ok(prefix) = ipnetwork::ipv4_mask_to_prefix(mask) else {
            return refuse(&format!("the DHCP server gave {mask} as subnet mask"));
        };
        let seconds = answer.lease_time.unwrap_or(DEFAULT).max(SHORTEST);
        let length = Duration::from_secs(seconds.into());
        // Zero would be renewed without end.
        let given = |time: Option<u32>| {
            time.filter(|time| *time != 0).map(|time| Duration::from_secs(time.into()))
        };
        // RFC 2131, 4.4.5: in this order, and where they are not, as if they had not been given.
        let rebinding = given(answer.rebinding_time).filter(|time| *time < length);
        let rebinding = rebinding.unwrap_or(length * 7 / 8);
        let renewal = given(answer.renewal_time).filter(|time| *time < rebinding);
        let renewal = renewal.unwrap_or((length / 2).min(rebinding));
        let now = since_boot();
        Ok(Self {
            address,
            prefix,
            server: answer.server.unwrap_or(Ipv4Addr::UNSPECIFIED),
            mac: mac.0,
            routers: answer.routers.clone(),
            routes: answer.classless_routes.clone().unwrap_or_else(|| answer.static_routes.clone()),
            is_classless: answer.classless_routes.is_some(),
            term: Term {
                renewal: now + renewal,
                rebinding: now + rebinding,
                expiry: (seconds != FOREVER).then_some(now + length),
            },
        })
    }

    /// The same after a DHCPACK that extends it. What a server leaves out then is as it was: some tell
    /// no more than the times.
    ///
    /// # Errors
    /// As [`Lease::new`].
    pub(crate) fn extended(&self, answer: Answer, mac: Mac) -> Result<Self> {
        let mask = ipnetwork::Ipv4Network::new(self.address, self.prefix);
        let mut answer = Answer {
            server: answer.server.or(Some(self.server)),
            subnet_mask: answer.subnet_mask.or(mask.ok().map(|own| own.mask())),
            ..answer
        };
        if !answer.has_routes() {
            answer.routers.clone_from(&self.routers);
            if self.is_classless {
                answer.classless_routes = Some(self.routes.clone());
            } else {
                answer.static_routes.clone_from(&self.routes);
            }
        }
        Self::new(&answer, mac)
    }

    /// The hardware address by which the server is reached.
    pub(crate) fn mac(&self) -> Mac {
        Mac(self.mac)
    }

    /// As an IPAM plugin answers; `priority` is that of every route, and 0 is none.
    pub(crate) fn success(&self, priority: u32) -> Success {
        let cidr = |ip: Ipv4Addr, prefix| {
            IpNetwork::new(ip.into(), prefix).unwrap_or(IpNetwork::V4(ip.into()))
        };
        let router = self.routers.first().copied().map(Into::into);
        let address = cidr(self.address, self.prefix).into();
        let mut routes: Vec<_> = self
            .routes
            .iter()
            .map(|(dst, hop)| {
                let scope = hop.is_unspecified().then_some(ON_LINK);
                Route { scope, ..Route::new(*dst, Some((*hop).into())) }
            })
            .collect();
        // RFC 3442: with classless routes, option 3 is not looked at.
        if let Some(router) = router.filter(|_| !self.is_classless) {
            routes.push(Route::new(Cidr::default_of(router), Some(router)));
        }
        for route in &mut routes {
            route.priority = priority;
        }
        let ip = Ip { address, gateway: router, interface: None };
        Success { ips: vec![ip], routes, ..Success::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer() -> Answer {
        Answer {
            address: Some("10.1.0.5".parse().unwrap()),
            server: Some("10.1.0.1".parse().unwrap()),
            subnet_mask: Some("255.255.255.0".parse().unwrap()),
            routers: vec!["10.1.0.1".parse().unwrap(), "10.1.0.2".parse().unwrap()],
            lease_time: Some(100),
            ..Answer::default()
        }
    }

    fn lease(answer: &Answer) -> Lease {
        Lease::new(answer, Mac([2; 6])).unwrap()
    }

    #[track_caller]
    fn assert_times(answer: &Answer, renewal: u64, rebinding: u64) {
        let (before, lease) = (since_boot(), lease(answer));
        let of = |time: Duration| (time - before).as_secs();
        assert_eq!((of(lease.term.renewal), of(lease.term.rebinding)), (renewal, rebinding));
    }

    #[test]
    fn times_that_are_missing_or_in_disorder_are_half_and_seven_eighths() {
        assert_times(&answer(), 50, 87);
        let given =
            |renewal_time, rebinding_time| Answer { renewal_time, rebinding_time, ..answer() };
        assert_times(&given(Some(10), Some(20)), 10, 20);
        assert_times(&given(Some(20), Some(10)), 10, 10);
        assert_times(&given(Some(10), Some(200)), 10, 87);
        assert_times(&given(Some(90), None), 50, 87);
        assert_times(&given(Some(0), Some(0)), 50, 87);
        assert_times(&given(Some(0), Some(20)), 20, 20);
        assert_times(&Answer { lease_time: None, ..answer() }, 1800, 3150);
        assert_times(&Answer { lease_time: Some(0), ..answer() }, 0, 0);
    }

    #[test]
    fn a_lease_may_be_for_ever() {
        let forever = lease(&Answer { lease_time: Some(u32::MAX), ..answer() });
        assert_eq!(forever.term.expiry, None);
    }

    #[test]
    fn a_lease_without_a_mask_is_none() {
        let refused = Lease::new(&Answer { subnet_mask: None, ..answer() }, Mac([2; 6]));
        let msg = "DHCP option Subnet Mask not found in DHCPACK";
        assert_eq!(refused.unwrap_err().to_string(), msg);
        let mask = "255.0.255.0".parse().unwrap();
        assert!(Lease::new(&Answer { subnet_mask: Some(mask), ..answer() }, Mac([2; 6])).is_err());
    }

    #[test]
    fn classless_routes_replace_all_others() {
        let routes = |lease: &Lease| -> Vec<String> {
            let one = |route: &Route| format!("{} {:?} {:?}", route.dst, route.gw, route.scope);
            lease.success(7).routes.iter().map(one).collect()
        };
        let route = |dst: &str, hop: &str| (dst.parse().unwrap(), hop.parse().unwrap());
        let fixed = vec![route("10.0.0.0/8", "10.1.0.9")];
        let both = Answer { static_routes: fixed.clone(), ..answer() };
        let default = "0.0.0.0/0 Some(10.1.0.1) None";
        assert_eq!(routes(&lease(&both)), ["10.0.0.0/8 Some(10.1.0.9) None", default]);
        let on_link = Some(vec![route("192.168.7.0/24", "0.0.0.0")]);
        let all = lease(&Answer { classless_routes: on_link, ..both });
        assert_eq!(routes(&all), ["192.168.7.0/24 Some(0.0.0.0) Some(253)"]);
        assert_eq!(all.success(7).routes[0].priority, 7);
        assert_eq!(all.success(0).ips[0].gateway, Some("10.1.0.1".parse().unwrap()));
    }
}
