//! What a server has granted: an address, and for how long.

use super::message::{Answer, Granted};
use crate::lease::Term;
use common::Success;
use common::cni::Ip;
use common::net::since_boot;
use ipnetwork::IpNetwork;
use serde::{Deserialize, Serialize};
use std::net::Ipv6Addr;
use std::time::Duration;

/// What stands for ever (RFC 8415, 7.7).
const FOREVER: u32 = u32::MAX;

/// A lease.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Lease {
    pub(crate) address: Ipv6Addr,
    /// The DUID of who granted it.
    pub(crate) server: Vec<u8>,
    pub(crate) term: Term,
}

impl Lease {
    /// Of a Reply; `None` if it grants nothing.
    pub(crate) fn new(answer: &Answer) -> Option<Self> {
        let granted = answer.granted?;
        Some(Self { address: granted.address, server: answer.server.clone(), term: term(granted) })
    }

    /// As an IPAM plugin answers. Which other addresses are on the link, and where a router is, only
    /// routers tell.
    pub(crate) fn success(&self) -> Success {
        let address = IpNetwork::V6(self.address.into()).into();
        let ip = Ip { address, gateway: None, interface: None };
        Success { ips: vec![ip], ..Success::default() }
    }
}

/// RFC 8415, 14.2 and 21.4: where the server leaves it to the client, or says nonsense, half and four
/// fifths of the time in which the address is preferred.
fn term(granted: Granted) -> Term {
    let Granted { preferred, valid, renewal, rebinding, .. } = granted;
    let base =
        Duration::from_secs(if preferred == 0 { valid } else { preferred.min(valid) }.into());
    let given = |time: u32| {
        let is_usable = time != 0 && time < valid && (renewal <= rebinding || rebinding == 0);
        is_usable.then(|| Duration::from_secs(time.into()))
    };
    let rebinding = given(rebinding).unwrap_or(base * 4 / 5);
    let renewal = given(renewal).unwrap_or(base / 2).min(rebinding);
    let now = since_boot();
    Term {
        renewal: now + renewal,
        rebinding: now + rebinding,
        expiry: (valid != FOREVER).then_some(now + Duration::from_secs(valid.into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn assert_times(times: [u32; 4], expected: (u64, u64)) {
        let [preferred, valid, renewal, rebinding] = times;
        let address = Ipv6Addr::LOCALHOST;
        let before = since_boot();
        let term = term(Granted { address, preferred, valid, renewal, rebinding });
        let of = |time: Duration| (time - before).as_secs();
        assert_eq!((of(term.renewal), of(term.rebinding)), expected);
    }

    #[test]
    fn times_that_are_missing_or_in_disorder_are_half_and_four_fifths() {
        assert_times([100, 200, 0, 0], (50, 80));
        assert_times([100, 200, 10, 20], (10, 20));
        assert_times([100, 200, 20, 10], (50, 80));
        assert_times([100, 200, 70, 0], (70, 80));
        assert_times([100, 200, 300, 400], (50, 80));
        assert_times([0, 200, 0, 0], (100, 160));
        assert_times([u32::MAX, 100, 0, 0], (50, 80));
    }
}
