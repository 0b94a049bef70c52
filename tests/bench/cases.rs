//! What is measured.

use serde_json::{Value, json};

/// An attachment that is made and undone.
#[derive(Debug)]
pub(crate) struct Case {
    pub(crate) name: String,
    /// What the plugins read, one after the other.
    pub(crate) chain: Vec<Value>,
    /// The interface in the container.
    pub(crate) ifname: &'static str,
    /// Of ADD and of DEL.
    pub(crate) goals: [Goal; 2],
    /// Whether it makes a veth pair, which the bare kernel does too.
    pub(crate) has_link: bool,
    /// What is there already, on the hosts where this is measured.
    pub(crate) load: Load,
}

/// What others have on a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Load {
    Nothing,
    /// So many addresses.
    Leases(u32),
    /// So many ports of the host.
    Ports(u16),
    /// So many rules of nft's, in tables that are nobody's of us.
    Rules(u32),
    /// A link of this name, with a carrier.
    Link(&'static str),
    /// A link of this name to a DHCP server, and a daemon that asks it.
    Dhcp(&'static str),
}

/// What our median is to be at most.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Goal {
    None,
    /// This part of the reference's.
    OfReference(f64),
    /// So many times our own of another case.
    Of(&'static str, f64),
    /// So many milliseconds more than our own of another case.
    Above(&'static str, f64),
}

/// The cases that others are compared with.
const EMPTY: &str = "host-local";
const PORT: &str = "bridge, ipMasq, a host port";

/// Of 10.85.0.2 to 10.85.255.254.
const ALL_BUT_ONE: u32 = 65_532;

/// More than this, and the reference needs a second and more for each call.
const MANY: u32 = 10_000;

impl Case {
    /// How many of so many rounds are enough.
    pub(crate) fn rounds(&self, rounds: usize) -> usize {
        match self.load {
            Load::Leases(leases) if leases > MANY => rounds.div_ceil(5),
            _ => rounds,
        }
    }
}

/// The newest version of the protocol that all contenders speak.
const VERSION: &str = "1.0.0";

/// What is measured one after the other. The goal of a DEL is not lower because most of it is the
/// kernel, waiting until nobody looks at the link any more.
pub(crate) fn cases() -> Vec<Case> {
    vec![
        bridge("bridge", false, [0.35, 0.85].map(Goal::OfReference)),
        bridge("bridge with ipMasq", true, [0.20, 0.40].map(Goal::OfReference)),
        ptp("ptp", false, [0.35, 0.85].map(Goal::OfReference)),
        ptp("ptp with ipMasq", true, [0.20, 0.40].map(Goal::OfReference)),
        macvlan([0.35, 0.85].map(Goal::OfReference)),
        host_device([0.35, 0.85].map(Goal::OfReference)),
        sbr([0.35, 0.85].map(Goal::OfReference)),
        limited([0.35, 0.85].map(Goal::OfReference)),
        port(Load::Nothing, [0.15, 0.40].map(Goal::OfReference)),
        port(Load::Ports(5_000), [Goal::Of(PORT, 1.2); 2]),
        port(Load::Rules(200_000), [Goal::Of(PORT, 1.2); 2]),
        leases(0, Goal::OfReference(0.40)),
        leases(1_000, Goal::Of(EMPTY, 1.3)),
        leases(60_000, Goal::Above(EMPTY, 5.0)),
        leases(ALL_BUT_ONE, Goal::Above(EMPTY, 5.0)),
        alone(
            "firewall",
            "eth0",
            json!({
                "cniVersion": VERSION,
                "name": "bench-firewall",
                "type": "firewall",
                "prevResult": {
                    "cniVersion": VERSION,
                    "interfaces": [{"name": "cni0"}],
                    "ips": [{"address": "10.85.0.2/16"}],
                },
            }),
        ),
        alone(
            "static",
            "eth0",
            json!({
                "cniVersion": VERSION,
                "name": "bench-static",
                "type": "static",
                "ipam": {"type": "static", "addresses": [{"address": "10.85.0.2/16"}]},
            }),
        ),
        // As podman and nerdctl write it into every network.
        alone(
            "tuning, nothing to do",
            "eth0",
            json!({
                "cniVersion": VERSION,
                "name": "bench-tuning",
                "type": "tuning",
                "prevResult": {"cniVersion": VERSION, "ips": [{"address": "10.85.0.2/16"}]},
            }),
        ),
        tuned("loopback, an MTU and a sysctl"),
        alone(
            "loopback",
            "lo",
            json!({
                "cniVersion": VERSION, "name": "bench-lo", "type": "loopback"
            }),
        ),
    ]
}

/// A plugin that makes no link.
fn alone(name: &str, ifname: &'static str, config: Value) -> Case {
    Case {
        name: name.to_owned(),
        chain: vec![config],
        ifname,
        goals: [Goal::None; 2],
        has_link: false,
        load: Load::Nothing,
    }
}

/// What tuning does, with the least that can come before it.
fn tuned(name: &str) -> Case {
    let common = json!({"cniVersion": VERSION, "name": "bench-tuned"});
    let with = |keys: Value| {
        let mut config = common.clone();
        config.as_object_mut().into_iter().for_each(|all| {
            all.extend(keys.as_object().cloned().unwrap_or_default());
        });
        config
    };
    let chain = vec![
        with(json!({"type": "loopback"})),
        with(json!({
            "type": "tuning", "mtu": 1400, "sysctl": {"net.ipv4.conf.IFNAME.arp_filter": "1"}
        })),
    ];
    Case { chain, ..alone(name, "lo", Value::Null) }
}

/// A pod that is reached through the host.
fn port(load: Load, goals: [Goal; 2]) -> Case {
    let name = match load {
        Load::Ports(number) => format!("{PORT}, {number} others"),
        Load::Rules(number) => format!("{PORT}, {number} rules of others"),
        Load::Nothing | Load::Leases(_) | Load::Link(_) | Load::Dhcp(_) => PORT.to_owned(),
    };
    let Case { mut chain, .. } = bridge("", true, goals);
    let ports = json!([{"hostPort": 8080, "containerPort": 80, "protocol": "tcp"}]);
    chain.push(portmap(&chain[0]["name"], &ports));
    Case { name, chain, ifname: "eth0", goals, has_link: true, load }
}

/// portmap's configuration on a network.
pub(crate) fn portmap(network: &Value, ports: &Value) -> Value {
    json!({
        "cniVersion": VERSION,
        "name": network,
        "type": "portmap",
        "runtimeConfig": {"portMappings": ports},
    })
}

/// What is measured all at once: pods after a reboot, and on a node that is full of them.
pub(crate) fn parallel(number: usize) -> Vec<Case> {
    let at_once = |case: Case, goal| Case {
        name: format!("{number} parallel {}", case.name),
        goals: [goal; 2],
        has_link: false,
        ..case
    };
    vec![
        at_once(bridge("bridge", false, [Goal::None; 2]), Goal::None),
        at_once(leases(1_000, Goal::None), Goal::OfReference(0.15)),
        at_once(dhcp(), Goal::None),
    ]
}

/// Addresses and nothing else, on a network that has leases already.
fn leases(leases: u32, goal: Goal) -> Case {
    let name = match leases {
        0 => EMPTY.to_owned(),
        ALL_BUT_ONE => format!("{EMPTY}, a /16 full but for one"),
        _ => format!("{EMPTY}, {leases} leases"),
    };
    let config = json!({
        "cniVersion": VERSION,
        "name": "bench",
        "type": "host-local",
        "ipam": ipam(),
    });
    Case { goals: [goal; 2], load: Load::Leases(leases), ..alone(&name, "eth0", config) }
}

fn bridge(name: &str, masquerades: bool, goals: [Goal; 2]) -> Case {
    let config = json!({
        "cniVersion": VERSION,
        "name": "bench",
        "type": "bridge",
        "bridge": "cni0",
        "isDefaultGateway": true,
        "ipMasq": masquerades,
        "ipam": ipam(),
    });
    Case { goals, has_link: true, ..alone(name, "eth0", config) }
}

fn ptp(name: &str, masquerades: bool, goals: [Goal; 2]) -> Case {
    let config = json!({
        "cniVersion": VERSION,
        "name": "bench",
        "type": "ptp",
        "ipMasq": masquerades,
        "ipam": ipam(),
    });
    Case { goals, has_link: true, ..alone(name, "eth0", config) }
}

/// What most of it waits for is the server, which dnsmasq is.
fn dhcp() -> Case {
    const MASTER: &str = "lan";
    let Case { mut chain, .. } = macvlan([Goal::None; 2]);
    chain[0]["ipam"] = json!({"type": "dhcp"});
    Case { chain, load: Load::Dhcp(MASTER), ..alone("dhcp by macvlan", "eth0", Value::Null) }
}

fn macvlan(goals: [Goal; 2]) -> Case {
    const MASTER: &str = "lan";
    let config = json!({
        "cniVersion": VERSION,
        "name": "bench",
        "type": "macvlan",
        "master": MASTER,
        "ipam": ipam(),
    });
    Case { goals, load: Load::Link(MASTER), ..alone("macvlan", "eth0", config) }
}

fn host_device(goals: [Goal; 2]) -> Case {
    const DEVICE: &str = "card";
    let config = json!({
        "cniVersion": VERSION,
        "name": "bench",
        "type": "host-device",
        "device": DEVICE,
        "ipam": ipam(),
    });
    Case { goals, load: Load::Link(DEVICE), ..alone("host-device", "eth0", config) }
}

/// A second interface, as it is used with Multus.
fn sbr(goals: [Goal; 2]) -> Case {
    let Case { mut chain, load, .. } = macvlan(goals);
    chain.push(json!({"cniVersion": VERSION, "name": "bench", "type": "sbr"}));
    Case { chain, goals, load, ..alone("macvlan, sbr", "eth0", Value::Null) }
}

/// A pod whose traffic is limited in both directions.
fn limited(goals: [Goal; 2]) -> Case {
    let Case { mut chain, .. } = bridge("", false, goals);
    chain.push(json!({
        "cniVersion": VERSION, "name": "bench", "type": "bandwidth",
        "ingressRate": 8_000_000, "ingressBurst": 8_000_000,
        "egressRate": 8_000_000, "egressBurst": 8_000_000,
    }));
    Case { chain, goals, has_link: true, ..alone("bridge, bandwidth", "eth0", Value::Null) }
}

fn ipam() -> Value {
    json!({"type": "host-local", "ranges": [[{"subnet": "10.85.0.0/16"}]]})
}
