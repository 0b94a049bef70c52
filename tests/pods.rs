//! The network that most people have, for tests of whole attachments.

use std::{
    net::{IpAddr, SocketAddr},
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use testbed::{Network, Place, Sandbox, Testbed};

/// Two address families, a default route, masquerading.
pub(crate) fn config() -> Value {
    json!({
        "cniVersion": "1.0.0", "name": "pods", "type": "bridge", "bridge": "br0",
        "isDefaultGateway": true, "ipMasq": true,
        "ipam": {
            "type": "host-local", "graceAge": 0,
            "ranges": [[{"subnet": "10.1.0.0/24"}], [{"subnet": "fd00:1::/64"}]]
        }
    })
}

/// The same with other keys.
pub(crate) fn with(changes: &Value) -> Value {
    changed(config(), changes)
}

/// A configuration with other keys; null removes one.
pub(crate) fn changed(mut config: Value, changes: &Value) -> Value {
    for (key, value) in changes.as_object().unwrap() {
        config[key] = value.clone();
    }
    config.as_object_mut().unwrap().retain(|_, value| !value.is_null());
    config
}

/// A network whose shared parts are there already, with the attachment that made them.
pub(crate) struct Warm<'bed> {
    pub(crate) bed: &'bed Testbed,
    pub(crate) network: Network<'bed>,
    pub(crate) first: Sandbox,
    pub(crate) neighbour: Sandbox,
}

impl<'bed> Warm<'bed> {
    pub(crate) fn new(bed: &'bed Testbed, config: Value) -> Self {
        let (neighbour, first) = (bed.neighbour(), bed.sandbox("first"));
        let network = bed.network(config);
        network.add(&first, "first").success();
        // The reference has the gateway's address probed, which goes on after its answer.
        let start = Instant::now();
        while !bed.ip("-6 -o addr show scope global tentative").is_empty() {
            assert!(start.elapsed() < Duration::from_secs(10), "an address stays tentative");
        }
        Self { bed, network, first, neighbour }
    }

    /// Asserts that packets of this pod flow: to its gateway and, as the host's, to the neighbour.
    pub(crate) fn assert_connected(&self, pod: &Place) {
        seen_by_tcp(pod, self.bed, "10.1.0.1");
        for (at, host) in [("203.0.113.2", "203.0.113.1"), ("2001:db8:ffff::2", "2001:db8:ffff::1")]
        {
            assert_eq!(seen_by_tcp(pod, &self.neighbour, at), host, "to {at}");
        }
    }
}

/// Whether nothing is left of an attachment.
pub(crate) fn has_only_lo(pod: &Place) -> bool {
    pod.ip_json("link show").as_array().map(Vec::len) == Some(1)
}

/// Removes a sandbox, and waits for the kernel, which removes its links in its own time.
pub(crate) fn destroy(bed: &Testbed, pod: &Sandbox) {
    let links = || bed.ip("-o link").lines().count();
    let (all, start) = (links(), Instant::now());
    let has_pair = !has_only_lo(pod);
    pod.destroy();
    while has_pair && links() == all {
        assert!(start.elapsed() < Duration::from_secs(10), "the link stays");
    }
}

/// As whom a server at the address `at` of `place` sees a caller.
pub(crate) fn seen_by_tcp(from: &Place, place: &Place, at: &str) -> String {
    let at: IpAddr = at.parse().unwrap();
    // Any free port: one that was used a moment ago may be held by a process that is being started.
    let server = place.tcp_server(if at.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" });
    let to = SocketAddr::new(at, server.local_addr().unwrap().port()).to_string();
    let seen = from.tcp(&to, &server).unwrap_or_else(|error| panic!("tcp to {to}: {error}"));
    seen.to_canonical().to_string()
}

/// The same by TCP and by UDP.
pub(crate) fn seen(from: &Place, place: &Place, at: &str) -> String {
    let seen = seen_by_tcp(from, place, at);
    let server = place.udp_server(&SocketAddr::new(at.parse().unwrap(), 0).to_string());
    let to = server.local_addr().unwrap().to_string();
    let by_udp = from.udp(&to, &server).unwrap_or_else(|error| panic!("udp to {to}: {error}"));
    assert_eq!(by_udp.to_canonical().to_string(), seen, "udp to {to}");
    seen
}

/// The addresses of a result, without their lengths.
pub(crate) fn addresses(result: &Value) -> Vec<String> {
    let bare = |ip: &Value| Some(ip["address"].as_str()?.split('/').next()?.to_owned());
    result["ips"].as_array().into_iter().flatten().filter_map(bare).collect()
}
