//! A network that somebody has used before: what its attachments share is there already.

use serde_json::Value;

use crate::{
    bed::Testbed,
    network::Network,
    place::{Place, Sandbox},
    reach::seen_by_tcp,
};

/// A network whose shared parts are there already, with the attachment that made them.
#[derive(Debug)]
pub struct Warm<'bed> {
    /// The host.
    pub bed: &'bed Testbed,
    /// The network, which has the container `first`.
    pub network: Network<'bed>,
    /// The container that came first.
    pub first: Sandbox,
    /// A machine on the LAN.
    pub neighbour: Sandbox,
}

impl<'bed> Warm<'bed> {
    /// Attaches the first container to the network of this configuration.
    #[must_use]
    pub fn new(bed: &'bed Testbed, config: Value) -> Self {
        let (neighbour, first) = (bed.neighbour(), bed.sandbox("first"));
        let network = bed.network(config);
        network.add(&first, "first").success();
        // The reference has the gateway's address probed, which goes on after its answer.
        bed.settle();
        Self { bed, network, first, neighbour }
    }

    /// Asserts that packets of this pod flow: to its gateway and, as the host's, to the neighbour.
    #[track_caller]
    pub fn assert_connected(&self, pod: &Place) {
        seen_by_tcp(pod, self.bed, "10.1.0.1");
        for (at, host) in [("203.0.113.2", "203.0.113.1"), ("2001:db8:ffff::2", "2001:db8:ffff::1")]
        {
            assert_eq!(seen_by_tcp(pod, &self.neighbour, at), host, "to {at}");
        }
    }
}
