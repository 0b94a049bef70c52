//! Network configurations: the least that a plugin accepts, and those that many tests share.
//!
//! The age below which GC spares what nobody lists is zero wherever host-local is configured here:
//! no test waits for a minute.

use serde_json::{Value, json};

use crate::programs::is_reference;

/// The three keys that every configuration has.
fn plain(plugin: &str) -> Value {
    json!({"cniVersion": "1.0.0", "name": "net", "type": plugin})
}

/// The least that a plugin accepts, with a result of the plugin before it where it needs one.
#[must_use]
pub fn least(plugin: &str) -> Value {
    let mut config = plain(plugin);
    match plugin {
        "loopback" | "bridge" => {}
        // The Go plugin does not work without addresses.
        "ptp" if is_reference() => {
            config["ipam"] = json!({"type": "host-local", "subnet": "10.1.0.0/24"});
        }
        "ptp" => {}
        "macvlan" => config["master"] = json!("lan"),
        "host-local" => config["ipam"] = json!({"type": plugin, "subnet": "10.1.0.0/24"}),
        "portmap" | "firewall" | "bandwidth" => {
            let ips = json!([{"address": "10.1.0.2/24"}]);
            config["prevResult"] = json!({"cniVersion": "1.0.0", "ips": ips});
        }
        other => {
            panic!("there is a plugin {other}, and no line here says what it needs for an ADD")
        }
    }
    config
}

/// A configuration with other keys; null removes one.
#[must_use]
pub fn changed(mut config: Value, changes: &Value) -> Value {
    for (key, value) in changes.as_object().expect("changes are an object") {
        config[key] = value.clone();
    }
    let keys = config.as_object_mut().expect("a configuration is an object");
    keys.retain(|_, value| !value.is_null());
    config
}

/// The network `net`: a bridge that is the gateway of one IPv4 range, with other keys.
#[must_use]
pub fn bridge(changes: &Value) -> Value {
    let ipam = json!({"type": "host-local", "subnet": "10.1.0.0/24", "graceAge": 0});
    let own = json!({"bridge": "br0", "isGateway": true, "ipam": ipam});
    changed(changed(plain("bridge"), &own), changes)
}

/// Changes to [`bridge`]: one address of each family, and a default route.
#[must_use]
pub fn dual_stack() -> Value {
    let ranges = json!([[{"subnet": "10.1.0.0/24"}], [{"subnet": "fd00:1::/64"}]]);
    json!({"ipam": {"type": "host-local", "ranges": ranges, "graceAge": 0}, "isDefaultGateway": true})
}

/// The network `pods`, as most people have it: a bridge with two address families, a default route
/// and masquerading.
#[must_use]
pub fn pods() -> Value {
    let own = json!({"name": "pods", "isGateway": null, "ipMasq": true});
    changed(bridge(&dual_stack()), &own)
}

/// The same with other keys.
#[must_use]
pub fn pods_with(changes: &Value) -> Value {
    changed(pods(), changes)
}

/// A configuration as host-local reads it.
#[must_use]
pub fn host_local(name: &str, ipam: &Value) -> Value {
    let mut config = changed(plain("host-local"), &json!({"name": name, "ipam": ipam}));
    config["ipam"]["type"] = json!("host-local");
    config
}

/// An `ipam` section of two ranges, one of each family.
#[must_use]
pub fn dual_ipam() -> Value {
    let ranges = json!([[{"subnet": "10.1.2.0/24"}], [{"subnet": "2001:db8:1::/64"}]]);
    json!({"graceAge": 0, "ranges": ranges})
}

/// A mapping of a host port to a container's, of one protocol.
#[must_use]
pub fn mapping(host: u16, container: u16, protocol: &str) -> Value {
    json!({"hostPort": host, "containerPort": container, "protocol": protocol})
}

/// Mappings from port to port, of TCP and of UDP, with `more` in each.
#[must_use]
pub fn mappings(ports: &[(u16, u16)], more: &Value) -> Value {
    let pairs = ports.iter().flat_map(|pair| ["tcp", "udp"].map(|protocol| (pair, protocol)));
    let one = |((host, container), protocol): (&(u16, u16), &str)| {
        changed(mapping(*host, *container, protocol), more)
    };
    pairs.map(one).collect()
}
