//! What not every kernel has. A test that needs it is left to `make test-vm` where the kernel here
//! lacks it: its name goes into a list, from which the virtual machine's suite is made.

use std::{env, fs, io::Write as _, sync::OnceLock};

use crate::{
    bed::Testbed,
    place::Place,
    programs::{plugins, workspace},
    traffic::sctp_socket,
    trial::Trial,
};

/// The tests that were left to the virtual machine, a line each: the name, and the feature that it
/// needs or, of a test of all plugins, those that it could not try.
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
    /// Sockets of SCTP (CONFIG_IP_SCTP).
    Sctp,
    /// Links of the kind `vlan` (CONFIG_VLAN_8021Q).
    Vlan,
    /// Links of the kind `vrf` (CONFIG_NET_VRF).
    Vrf,
}

impl Feature {
    /// What `ip link add probe` is followed by to make such a link on top of `below` or of nothing.
    fn words(self) -> &'static str {
        match self {
            Self::BridgeVlans => "type bridge vlan_filtering 1",
            Self::Dummy => "type dummy",
            Self::Ipvlan => "link below type ipvlan",
            Self::Sctp => "",
            Self::Vlan => "link below type vlan id 9",
            Self::Vrf => "type vrf table 9",
        }
    }

    /// Whether the kernel under this host has it: the host is given such a link, and loses it.
    fn is_there(self, host: &Place) -> bool {
        if self == Self::Sctp {
            return sctp_socket().is_ok();
        }
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

/// Whether the kernel has this: asked once.
#[must_use]
pub fn has(feature: Feature) -> bool {
    static THERE: [OnceLock<bool>; 6] = [const { OnceLock::new() }; 6];
    *THERE[feature as usize].get_or_init(|| feature.is_there(&Testbed::new()))
}

/// Whether the kernel has all of these. Otherwise the test of this name is left to `make test-vm`.
///
/// # Panics
/// When the list of such tests cannot be written.
#[must_use]
pub fn has_or_leave(test: &str, features: &[Feature]) -> bool {
    let Some(lack) = features.iter().find(|feature| !has(**feature)) else { return true };
    leave(test, &format!("{lack:?}"));
    false
}

/// The plugins that a test of all of them tries here. For those whose links this kernel cannot make,
/// it is left to `make test-vm`, which has it try no others: their names are in `TRY`.
///
/// # Panics
/// When the list of such tests cannot be written.
#[must_use]
pub fn plugins_to_try(test: &str) -> Vec<String> {
    let (left, tried) = sorted();
    if !left.is_empty() {
        leave(test, &left.join(" "));
    }
    tried.clone()
}

/// Whether the kernel has the links of all these plugins. Otherwise the test of this name is left to
/// `make test-vm`, too.
///
/// # Panics
/// When the list of such tests cannot be written.
#[must_use]
pub fn has_links_or_leave<'a>(test: &str, mut plugins: impl Iterator<Item = &'a str>) -> bool {
    let (left, _) = sorted();
    let Some(lack) = plugins.find(|kind| left.iter().any(|one| one == kind)) else { return true };
    leave(test, lack);
    false
}

/// The plugins whose links this kernel cannot make, and the others: asked once.
fn sorted() -> &'static (Vec<String>, Vec<String>) {
    static ALL: OnceLock<(Vec<String>, Vec<String>)> = OnceLock::new();
    ALL.get_or_init(|| {
        let chosen = env::var("TRY").ok();
        let is_chosen = |plugin: &String| {
            chosen.as_ref().is_none_or(|words| words.split(' ').any(|word| word == plugin))
        };
        plugins().into_iter().filter(is_chosen).partition(|plugin| lacks(plugin))
    })
}

/// Whether an ADD of this plugin fails because the kernel lacks something, which the plugin says.
#[must_use]
pub fn lacks(plugin: &str) -> bool {
    let bed = Testbed::new();
    let outcome = Trial::new(&bed, plugin).add();
    ["this kernel has no", "operation not supported"].iter().any(|it| outcome.stdout.contains(it))
}

fn leave(test: &str, lack: &str) {
    println!("{test}: left to `make test-vm`, for {lack}");
    let list = workspace().join(LEFT);
    let opened = fs::OpenOptions::new().create(true).append(true).open(&list);
    // In one piece: others write as well.
    let line = format!("{test} {lack}\n");
    let written = opened.and_then(|mut list| list.write_all(line.as_bytes()));
    written.unwrap_or_else(|error| panic!("{}: {error}", list.display()));
}
