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
    /// Of the reference's median, what ours is to be at most: of ADD and of DEL.
    pub(crate) goals: [Option<f64>; 2],
    /// Whether it makes a veth pair, which the bare kernel does too.
    pub(crate) has_link: bool,
}

/// The newest version of the protocol that all contenders speak.
const VERSION: &str = "1.0.0";

/// What is measured one after the other. The goal of a DEL is not lower because most of it is the
/// kernel, waiting until nobody looks at the link any more.
pub(crate) fn cases() -> Vec<Case> {
    vec![
        bridge("bridge", false, [0.35, 0.85].map(Some)),
        bridge("bridge with ipMasq", true, [0.20, 0.40].map(Some)),
        Case {
            name: "host-local".into(),
            plugin: "host-local",
            config: json!({
                "cniVersion": VERSION,
                "name": "bench-addresses",
                "type": "host-local",
                "ipam": ipam(),
            }),
            ifname: "eth0",
            goals: [None; 2],
            has_link: false,
        },
        Case {
            name: "loopback".into(),
            plugin: "loopback",
            config: json!({"cniVersion": VERSION, "name": "bench-lo", "type": "loopback"}),
            ifname: "lo",
            goals: [None; 2],
            has_link: false,
        },
    ]
}

/// What is measured all at once: pods after a reboot.
pub(crate) fn parallel(number: usize) -> Case {
    let case = bridge("bridge", false, [None; 2]);
    Case { name: format!("{number} parallel bridge"), has_link: false, ..case }
}

fn bridge(name: &str, masquerades: bool, goals: [Option<f64>; 2]) -> Case {
    let config = json!({
        "cniVersion": VERSION,
        "name": if masquerades { "bench-masquerade" } else { "bench" },
        "type": "bridge",
        "bridge": if masquerades { "cni1" } else { "cni0" },
        "isDefaultGateway": true,
        "ipMasq": masquerades,
        "ipam": ipam(),
    });
    Case { name: name.into(), plugin: "bridge", config, ifname: "eth0", goals, has_link: true }
}

fn ipam() -> Value {
    json!({"type": "host-local", "ranges": [[{"subnet": "10.85.0.0/16"}]]})
}
