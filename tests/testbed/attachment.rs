//! Plugins that give each pod one link: their networks, and what is seen of the link.

use serde_json::{Value, json};

use crate::{
    bed::Testbed,
    config::changed,
    place::{Place, Sandbox},
    wait::until_so,
};

/// A ptp network of two address families with default routes, and whatever `changes` says.
#[must_use]
pub fn ptp(changes: &Value) -> Value {
    let config = json!({
        "cniVersion": "1.0.0", "name": "links", "type": "ptp",
        "ipam": {
            "type": "host-local", "graceAge": 0,
            "ranges": [[{"subnet": "10.1.0.0/24"}], [{"subnet": "fd00:1::/64"}]],
            "routes": [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}]
        }
    });
    changed(config, changes)
}

/// A macvlan network on the link `lan` of [`Testbed::neighbour`], with addresses of that LAN, and
/// whatever `changes` says.
#[must_use]
pub fn macvlan(changes: &Value) -> Value {
    let config = json!({
        "cniVersion": "1.0.0", "name": "segment", "type": "macvlan", "master": "lan",
        "ipam": {
            "type": "host-local", "graceAge": 0,
            "ranges": [
                [{"subnet": "203.0.113.0/24", "rangeStart": "203.0.113.10", "gateway": "203.0.113.2"}],
                [{
                    "subnet": "2001:db8:ffff::/64", "rangeStart": "2001:db8:ffff::10",
                    "gateway": "2001:db8:ffff::2"
                }]
            ]
        }
    });
    changed(config, changes)
}

/// A host-device network with the link `card` of [`Testbed::card`], with addresses of its wire, and
/// whatever `changes` says.
#[must_use]
pub fn host_device(changes: &Value) -> Value {
    let config = json!({
        "cniVersion": "1.0.0", "name": "cards", "type": "host-device", "device": "card",
        "ipam": {
            "type": "host-local", "graceAge": 0,
            "ranges": [
                [{"subnet": "198.51.100.0/24", "rangeStart": "198.51.100.10"}],
                [{"subnet": "2001:db8:2::/64", "rangeStart": "2001:db8:2::10"}]
            ]
        }
    });
    changed(config, changes)
}

/// A tap network with addresses, and whatever `changes` says.
#[must_use]
pub fn tap(changes: &Value) -> Value {
    let ipam = json!({"type": "host-local", "subnet": "10.1.0.0/24", "graceAge": 0});
    let config = json!({"cniVersion": "1.0.0", "name": "machines", "type": "tap", "ipam": ipam});
    changed(config, changes)
}

/// An ipvlan network with the same master and addresses.
#[must_use]
pub fn ipvlan(changes: &Value) -> Value {
    changed(macvlan(&json!({"type": "ipvlan"})), changes)
}

/// A network of the VLAN 33 of that link.
#[must_use]
pub fn vlan(changes: &Value) -> Value {
    let own = json!({"type": "vlan", "vlanId": 33, "ipam": own_addresses()});
    changed(macvlan(&own), changes)
}

/// A network of links that lead nowhere, with the same addresses.
#[must_use]
pub fn dummy(changes: &Value) -> Value {
    let own = json!({"type": "dummy", "master": null, "ipam": own_addresses()});
    changed(macvlan(&own), changes)
}

/// Addresses that neither the host nor the LAN has.
fn own_addresses() -> Value {
    let ranges = json!([
        [{"subnet": "198.51.100.0/24", "rangeStart": "198.51.100.10"}],
        [{"subnet": "2001:db8:33::/64", "rangeStart": "2001:db8:33::10"}]
    ]);
    json!({"type": "host-local", "graceAge": 0, "ranges": ranges})
}

impl Place {
    /// All that `ip -d` knows of a link.
    #[must_use]
    pub fn link(&self, name: &str) -> Value {
        self.ip_json(&format!("-d link show dev {name}"))[0].clone()
    }

    /// The routes of the main table with these words, as `ip` prints them.
    #[must_use]
    pub fn route_lines(&self, words: &str) -> Vec<String> {
        self.ip(&format!("{words} route show")).lines().map(|line| line.trim().to_owned()).collect()
    }

    /// Waits until no global address of here is probed any more: the Go plugins have those of the
    /// host probed, which goes on after their answer.
    pub fn settle(&self) {
        let tentative = || self.ip("-6 -o addr show scope global tentative");
        until_so("the end of the probes", || tentative().is_empty());
    }
}

impl Testbed {
    /// A link `card` of the host, which has an alias, addresses and an MTU of its own, and a machine on
    /// its wire: 198.51.100.2 and 2001:db8:2::2.
    #[must_use]
    pub fn card(&self) -> Sandbox {
        let wire = self.sandbox("wire");
        self.ip("link add card mtu 1400 type veth peer name wire netns wire");
        self.ip("link set card alias uplink-7");
        for (place, link, host) in [(&**self, "card", 1), (&*wire, "wire", 2)] {
            place.ip(&format!("addr add 198.51.100.{host}/24 dev {link}"));
            place.ip(&format!("addr add 2001:db8:2::{host}/64 dev {link} nodad"));
            place.ip(&format!("link set {link} up"));
        }
        wire
    }

    /// An IPAM plugin that answers every ADD with these addresses, `(address, gateway)`, and a
    /// default route for each.
    pub fn ipam(&self, ips: &[(&str, &str)]) {
        let ip = |(address, gateway): &(&str, &str)| {
            if gateway.is_empty() {
                json!({"address": address})
            } else {
                json!({"address": address, "gateway": gateway})
            }
        };
        let has = |mark: &str| ips.iter().any(|(address, _)| address.contains(mark));
        let routes = [("0.0.0.0/0", has(".")), ("::/0", has(":"))];
        let routes = routes.iter().filter(|(_, wanted)| *wanted);
        let routes: Vec<Value> = routes.map(|(dst, _)| json!({"dst": dst})).collect();
        let ips: Vec<Value> = ips.iter().map(ip).collect();
        self.recorder("ipam", &json!({"cniVersion": "1.0.0", "ips": ips, "routes": routes}));
    }
}
