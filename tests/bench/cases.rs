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

    /// The plugins that it runs.
    pub(crate) fn kinds(&self) -> impl Iterator<Item = &str> {
        self.chain.iter().filter_map(|config| config["type"].as_str())
    }

    /// The same with another plugin behind it.
    fn then(mut self, kind: &str, keys: Value) -> Self {
        self.name = format!("{}, {kind}", self.name);
        self.chain.push(config(kind, keys));
        self
    }
}

/// The newest version of the protocol that all contenders speak.
const VERSION: &str = "1.0.0";

/// Of a plugin that makes a link. The goal of a DEL is not lower because most of it is the kernel,
/// waiting until nobody looks at the link any more.
const LINK: [Goal; 2] = [Goal::OfReference(0.35), Goal::OfReference(0.85)];

/// What is measured one after the other.
pub(crate) fn cases() -> Vec<Case> {
    [links(), ports_and_leases(), others()].into_iter().flatten().collect()
}

/// Plugins that make a link, and one behind them that changes it.
fn links() -> Vec<Case> {
    vec![
        bridge("bridge", false, LINK),
        bridge("bridge with ipMasq", true, [0.20, 0.40].map(Goal::OfReference)),
        ptp("ptp", false, LINK),
        ptp("ptp with ipMasq", true, [0.20, 0.40].map(Goal::OfReference)),
        on_lan("macvlan", json!({})),
        on_lan("ipvlan", json!({})),
        on_lan("vlan", json!({"vlanId": 5})),
        host_device(),
        link("dummy", json!({})),
        link("tap", json!({})),
        // A second interface, as it is used with Multus.
        on_lan("macvlan", json!({})).then("sbr", json!({})),
        on_lan("macvlan", json!({})).then("vrf", json!({"vrfname": "blue"})),
        // A pod whose traffic is limited in both directions.
        bridge("bridge", false, LINK).then(
            "bandwidth",
            json!({
                "ingressRate": 8_000_000, "ingressBurst": 8_000_000,
                "egressRate": 8_000_000, "egressBurst": 8_000_000,
            }),
        ),
    ]
}

/// What stays quick however much there is already.
fn ports_and_leases() -> Vec<Case> {
    vec![
        port(Load::Nothing, [0.15, 0.40].map(Goal::OfReference)),
        port(Load::Ports(5_000), [Goal::Of(PORT, 1.2); 2]),
        port(Load::Rules(200_000), [Goal::Of(PORT, 1.2); 2]),
        leases(0, Goal::OfReference(0.40)),
        leases(1_000, Goal::Of(EMPTY, 1.3)),
        leases(60_000, Goal::Above(EMPTY, 5.0)),
        leases(ALL_BUT_ONE, Goal::Above(EMPTY, 5.0)),
    ]
}

/// Plugins by themselves.
fn others() -> Vec<Case> {
    vec![
        alone(
            "eth0",
            config(
                "firewall",
                json!({"prevResult": {
                    "cniVersion": VERSION,
                    "interfaces": [{"name": "cni0"}],
                    "ips": [{"address": "10.85.0.2/16"}],
                }}),
            ),
        ),
        Case {
            goals: [0.35; 2].map(Goal::OfReference),
            ..alone(
                "eth0",
                config(
                    "static",
                    json!({"ipam": {"type": "static", "addresses": [{"address": "10.85.0.2/16"}]}}),
                ),
            )
        },
        // As podman and nerdctl write it into every network.
        Case {
            name: "tuning, nothing to do".into(),
            goals: [0.35; 2].map(Goal::OfReference),
            ..alone(
                "eth0",
                config(
                    "tuning",
                    json!({"prevResult": {
                        "cniVersion": VERSION, "ips": [{"address": "10.85.0.2/16"}],
                    }}),
                ),
            )
        },
        // What tuning does, with the least that can come before it.
        alone("lo", config("loopback", json!({}))).then(
            "tuning",
            json!({"mtu": 1400, "sysctl": {"net.ipv4.conf.IFNAME.arp_filter": "1"}}),
        ),
        alone("lo", config("loopback", json!({}))),
    ]
}

/// A plugin's configuration.
fn config(kind: &str, keys: Value) -> Value {
    let mut config = json!({"cniVersion": VERSION, "name": "bench", "type": kind});
    if let (Some(config), Value::Object(keys)) = (config.as_object_mut(), keys) {
        config.extend(keys);
    }
    config
}

/// A plugin that makes no veth pair.
fn alone(ifname: &'static str, config: Value) -> Case {
    Case {
        name: config["type"].as_str().unwrap_or_default().to_owned(),
        chain: vec![config],
        ifname,
        goals: [Goal::None; 2],
        has_link: false,
        load: Load::Nothing,
    }
}

/// A pod that is reached through the host.
fn port(load: Load, goals: [Goal; 2]) -> Case {
    let name = match load {
        Load::Ports(number) => format!("{PORT}, {number} others"),
        Load::Rules(number) => format!("{PORT}, {number} rules of others"),
        Load::Nothing | Load::Leases(_) | Load::Link(_) | Load::Dhcp(_) => PORT.to_owned(),
    };
    let ports = json!([{"hostPort": 8080, "containerPort": 80, "protocol": "tcp"}]);
    Case { name, load, ..bridge("", true, goals).then("portmap", port_mappings(&ports)) }
}

/// portmap's configuration.
pub(crate) fn portmap(ports: &Value) -> Value {
    config("portmap", port_mappings(ports))
}

fn port_mappings(ports: &Value) -> Value {
    json!({"runtimeConfig": {"portMappings": ports}})
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
    let config = config("host-local", json!({"ipam": ipam()}));
    Case { name, goals: [goal; 2], load: Load::Leases(leases), ..alone("eth0", config) }
}

fn bridge(name: &str, masquerades: bool, goals: [Goal; 2]) -> Case {
    let keys = json!({
        "bridge": "cni0", "isDefaultGateway": true, "ipMasq": masquerades, "ipam": ipam(),
    });
    Case { name: name.into(), goals, has_link: true, ..alone("eth0", config("bridge", keys)) }
}

fn ptp(name: &str, masquerades: bool, goals: [Goal; 2]) -> Case {
    let keys = json!({"ipMasq": masquerades, "ipam": ipam()});
    Case { name: name.into(), goals, has_link: true, ..alone("eth0", config("ptp", keys)) }
}

/// The link of the host that others are made on.
const MASTER: &str = "lan";

/// A plugin that makes a link of another kind, or takes one.
fn link(kind: &str, keys: Value) -> Case {
    let mut config = config(kind, keys);
    config["ipam"] = ipam();
    Case { goals: LINK, ..alone("eth0", config) }
}

/// What most of it waits for is the server, which dnsmasq is.
fn dhcp() -> Case {
    let mut case = on_lan("macvlan", json!({}));
    case.chain[0]["ipam"] = json!({"type": "dhcp"});
    Case {
        name: "dhcp by macvlan".into(),
        goals: [Goal::None; 2],
        load: Load::Dhcp(MASTER),
        ..case
    }
}

/// The same on one of the host.
fn on_lan(kind: &str, mut keys: Value) -> Case {
    keys["master"] = json!(MASTER);
    Case { load: Load::Link(MASTER), ..link(kind, keys) }
}

fn host_device() -> Case {
    const DEVICE: &str = "card";
    Case { load: Load::Link(DEVICE), ..link("host-device", json!({"device": DEVICE})) }
}

fn ipam() -> Value {
    json!({"type": "host-local", "ranges": [[{"subnet": "10.85.0.0/16"}]]})
}
