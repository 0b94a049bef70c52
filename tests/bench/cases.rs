//! What is measured.

use serde_json::{Value, json};

/// An attachment that is made and undone.
#[derive(Debug)]
pub(crate) struct Case {
    pub(crate) name: String,
    /// The plugin, and what it reads.
    pub(crate) plugin: &'static str,
    pub(crate) config: Value,
    /// The interface in the container.
    pub(crate) ifname: &'static str,
    /// Of ADD and of DEL.
    pub(crate) goals: [Goal; 2],
    /// Whether it makes a veth pair, which the bare kernel does too.
    pub(crate) has_link: bool,
    /// Addresses that are held by others all along.
    pub(crate) leases: u32,
}

/// What our median is to be at most.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Goal {
    None,
    /// This part of the reference's.
    OfReference(f64),
    /// So many times our own without leases.
    OfEmpty(f64),
    /// So many milliseconds more than our own without leases.
    AboveEmpty(f64),
}

/// The case that the others with leases are compared with.
pub(crate) const EMPTY: &str = "host-local";

/// Of 10.85.0.2 to 10.85.255.254.
const ALL_BUT_ONE: u32 = 65_532;

/// More than this, and the reference needs a second and more for each call.
const MANY: u32 = 10_000;

impl Case {
    /// How many of so many rounds are enough.
    pub(crate) fn rounds(&self, rounds: usize) -> usize {
        if self.leases > MANY { rounds.div_ceil(5) } else { rounds }
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
        leases(0, Goal::OfReference(0.40)),
        leases(1_000, Goal::OfEmpty(1.3)),
        leases(60_000, Goal::AboveEmpty(5.0)),
        leases(ALL_BUT_ONE, Goal::AboveEmpty(5.0)),
        Case {
            name: "firewall".into(),
            plugin: "firewall",
            config: json!({
                "cniVersion": VERSION,
                "name": "bench-firewall",
                "type": "firewall",
                "prevResult": {
                    "cniVersion": VERSION,
                    "interfaces": [{"name": "cni0"}],
                    "ips": [{"address": "10.85.0.2/16"}],
                },
            }),
            ifname: "eth0",
            goals: [Goal::None; 2],
            has_link: false,
            leases: 0,
        },
        Case {
            name: "loopback".into(),
            plugin: "loopback",
            config: json!({"cniVersion": VERSION, "name": "bench-lo", "type": "loopback"}),
            ifname: "lo",
            goals: [Goal::None; 2],
            has_link: false,
            leases: 0,
        },
    ]
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
        "name": format!("bench-{leases}"),
        "type": "host-local",
        "ipam": ipam(),
    });
    let (plugin, ifname, goals) = ("host-local", "eth0", [goal; 2]);
    Case { name, plugin, config, ifname, goals, has_link: false, leases }
}

fn bridge(name: &str, masquerades: bool, goals: [Goal; 2]) -> Case {
    let config = json!({
        "cniVersion": VERSION,
        "name": if masquerades { "bench-masquerade" } else { "bench" },
        "type": "bridge",
        "bridge": if masquerades { "cni1" } else { "cni0" },
        "isDefaultGateway": true,
        "ipMasq": masquerades,
        "ipam": ipam(),
    });
    let (plugin, ifname) = ("bridge", "eth0");
    Case { name: name.into(), plugin, config, ifname, goals, has_link: true, leases: 0 }
}

fn ipam() -> Value {
    json!({"type": "host-local", "ranges": [[{"subnet": "10.85.0.0/16"}]]})
}
