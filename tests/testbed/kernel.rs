//! What not every kernel has. A test that needs it is left to `make test-vm` where the kernel here
//! lacks it: its name goes into a list, from which the virtual machine's suite is made.

use std::{fs, io::Write as _};

use crate::{bed::Testbed, place::Place, programs::workspace};

/// The names of the tests that were left to the virtual machine, a line each.
pub const LEFT: &str = "target/left-to-the-vm";

/// Something that a kernel may have been built without.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Feature {
    /// VLANs on bridges (CONFIG_BRIDGE_VLAN_FILTERING).
    BridgeVlans,
    /// Links of the kind `dummy` (CONFIG_DUMMY).
    Dummy,
    /// Links of the kind `ipvlan` (CONFIG_IPVLAN).
    Ipvlan,
    /// Links of the kind `vlan` (CONFIG_VLAN_8021Q).
    Vlan,
    /// Links of the kind `vrf` (CONFIG_NET_VRF).
    Vrf,
}

impl Feature {
    /// What `ip link add probe` is followed by to make such a link on top of `lo` or of nothing.
    fn words(self) -> &'static str {
        match self {
            Self::BridgeVlans => "type bridge vlan_filtering 1",
            Self::Dummy => "type dummy",
            Self::Ipvlan => "link below type ipvlan",
            Self::Vlan => "link below type vlan id 9",
            Self::Vrf => "type vrf table 9",
        }
    }

    /// Whether the kernel under this host has it: the host is given such a link, and loses it.
    fn is_there(self, host: &Place) -> bool {
        host.ip("link add below type veth peer name above");
        let words = format!("link add probe {}", self.words());
        let made = host.run("ip", &words.split(' ').collect::<Vec<_>>()).status.success();
        if made {
            host.ip("link del probe");
        }
        host.ip("link del below");
        made
    }
}

/// Whether the kernel has all of these. Otherwise the test of this name is left to `make test-vm`.
///
/// # Panics
/// When the list of such tests cannot be written.
#[must_use]
pub fn has_or_leave(test: &str, features: &[Feature]) -> bool {
    let probe = Testbed::new();
    let Some(lack) = features.iter().find(|feature| !feature.is_there(&probe)) else {
        return true;
    };
    println!("{test}: left to `make test-vm`: this kernel lacks {lack:?}");
    let list = workspace().join(LEFT);
    let opened = fs::OpenOptions::new().create(true).append(true).open(&list);
    let written = opened.and_then(|mut list| writeln!(list, "{test}"));
    written.unwrap_or_else(|error| panic!("{}: {error}", list.display()));
    false
}
