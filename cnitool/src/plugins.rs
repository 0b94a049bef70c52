//! The plugins of this suite: one row each, and nobody else has a list of them. A plugin that is not
//! here is somebody else's, of which nothing is known but that it speaks the protocol.

use common::cni::{Attachment, Linked, Others, Reading, examine, run_among};
use common::filter::restore::{Expected, Filtering, expected_state};
use common::{Plugin, Result};
use std::process::ExitCode;
use std::rc::Rc;

/// Where a plugin stands in a configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// First in a chain: it makes the interface.
    Main,
    /// In the place of a main plugin, which it runs with a configuration that it makes: whatever is
    /// in `ipam` is completed.
    Meta,
    /// Behind a plugin that has made one.
    Chained,
    /// In the section `ipam`: it gives addresses.
    Ipam,
}

/// What this side of the protocol knows of a plugin.
#[derive(Debug)]
pub struct Known {
    /// The name of its executable, which is its `type`.
    pub kind: &'static str,
    /// Where it stands.
    pub role: Role,
    /// What of the runtime's data it takes.
    pub capabilities: &'static [&'static str],
    /// Has it understand a configuration as its ADD does.
    pub examine: fn(&Rc<Reading>) -> Result<()>,
    /// What an attachment should have in the packet filter, as [`expected_state`] tells; None for a
    /// plugin whose attachments have nothing there.
    pub expected_state: Option<ExpectedState>,
}

/// A plugin in an executable that holds them all.
#[derive(Debug)]
pub struct Program {
    kind: &'static str,
    /// Its `main`.
    pub main: fn(Others) -> ExitCode,
    /// As the delegate of another one.
    pub linked: Linked,
}

/// See [`expected_state`].
pub type ExpectedState = fn(Vec<u8>, &Attachment) -> Result<(Vec<Expected>, bool)>;

const PLUGINS: &[Known] = &[
    plugin::<loopback::Loopback>(Role::Main, &[]),
    filtering::<bridge::Bridge>(Role::Main, &["mac"]),
    filtering::<ptp::Ptp>(Role::Main, &[]),
    plugin::<macvlan::Macvlan>(Role::Main, &["mac"]),
    plugin::<host_device::HostDevice>(Role::Main, &["deviceID"]),
    plugin::<tap::Tap>(Role::Main, &["mac"]),
    Known {
        expected_state: Some(of_delegate),
        ..plugin::<flannel::Flannel>(Role::Meta, &["mac", "ips", "ipRanges"])
    },
    plugin::<ipvlan::Ipvlan>(Role::Main, &[]),
    plugin::<vlan::Vlan>(Role::Main, &[]),
    plugin::<dummy::Dummy>(Role::Main, &[]),
    filtering::<portmap::Portmap>(Role::Chained, &["portMappings"]),
    filtering::<firewall::Firewall>(Role::Chained, &[]),
    plugin::<tuning::Tuning>(Role::Chained, &["mac"]),
    plugin::<static_ipam::Static>(Role::Ipam, &["ips"]),
    plugin::<sbr::Sbr>(Role::Chained, &[]),
    plugin::<vrf::Vrf>(Role::Chained, &[]),
    plugin::<dhcp::Dhcp>(Role::Ipam, &[]),
    plugin::<bandwidth::Bandwidth>(Role::Chained, &["bandwidth"]),
    plugin::<host_local::HostLocal>(Role::Ipam, &["ips", "ipRanges"]),
];

/// The same as programs. Whatever names this table has all of them linked into it, as only `girder` wants.
const PROGRAMS: &[Program] = &[
    as_program::<loopback::Loopback>(),
    as_program::<bridge::Bridge>(),
    as_program::<ptp::Ptp>(),
    as_program::<macvlan::Macvlan>(),
    as_program::<host_device::HostDevice>(),
    as_program::<tap::Tap>(),
    as_program::<flannel::Flannel>(),
    as_program::<ipvlan::Ipvlan>(),
    as_program::<vlan::Vlan>(),
    as_program::<dummy::Dummy>(),
    as_program::<portmap::Portmap>(),
    as_program::<firewall::Firewall>(),
    as_program::<tuning::Tuning>(),
    as_program::<static_ipam::Static>(),
    as_program::<sbr::Sbr>(),
    as_program::<vrf::Vrf>(),
    as_program::<dhcp::Dhcp>(),
    as_program::<bandwidth::Bandwidth>(),
    as_program::<host_local::HostLocal>(),
];

const fn as_program<P: Plugin>() -> Program {
    Program { kind: P::NAME, main: run_among::<P>, linked: Linked::of::<P>() }
}

const fn plugin<P: Plugin>(role: Role, capabilities: &'static [&'static str]) -> Known {
    Known { kind: P::NAME, role, capabilities, examine: examine::<P>, expected_state: None }
}

/// A plugin whose attachments have something in the packet filter.
const fn filtering<P: Filtering>(role: Role, capabilities: &'static [&'static str]) -> Known {
    Known { expected_state: Some(expected_state::<P>), ..plugin::<P>(role, capabilities) }
}

/// What the plugin that flannel has run should have there.
fn of_delegate(stdin: Vec<u8>, attachment: &Attachment) -> Result<(Vec<Expected>, bool)> {
    let (kind, config) = flannel::Flannel::delegate_of(stdin, attachment)?;
    let known = find(&kind).filter(|known| known.role != Role::Meta);
    match known.and_then(|known| known.expected_state) {
        Some(expected_state) => expected_state(config, attachment),
        None => Ok((Vec::new(), false)),
    }
}

/// Every row.
pub fn all() -> &'static [Known] {
    PLUGINS
}

/// The row of a type.
pub fn find(kind: &str) -> Option<&'static Known> {
    PLUGINS.iter().find(|plugin| plugin.kind == kind)
}

/// The plugin that an executable of this name is: its last words are the plugin's name, as in
/// `buildkit-cni-bridge`.
pub fn program(name: &str) -> Option<&'static Program> {
    let is_it = |program: &&Program| {
        name.strip_suffix(program.kind).is_some_and(|rest| rest.is_empty() || rest.ends_with('-'))
    };
    PROGRAMS.iter().find(is_it)
}

/// For `--help`: which types there are.
pub fn kinds() -> String {
    PLUGINS.iter().map(|plugin| plugin.kind).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use std::collections::{BTreeMap, BTreeSet};
    use std::path::Path;

    #[test]
    fn every_folder_of_a_plugin_has_one_row() {
        let mut folders = BTreeMap::new();
        for parent in ["plugins", "ipam"] {
            let parent = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(parent);
            for entry in parent.read_dir().unwrap() {
                let path = entry.unwrap().path();
                if path.join("Cargo.toml").is_file() {
                    let is_ipam = parent.ends_with("ipam");
                    folders.insert(path.file_name().unwrap().to_str().unwrap().to_owned(), is_ipam);
                }
            }
        }
        let row = |known: &Known| (known.kind.to_owned(), known.role == Role::Ipam);
        assert_eq!(PLUGINS.iter().map(row).collect::<BTreeMap<_, _>>(), folders);
        assert_eq!(PLUGINS.len(), folders.len());
        let kinds = |kind: &mut dyn Iterator<Item = &'static str>| kind.collect::<BTreeSet<_>>();
        let programs = kinds(&mut PROGRAMS.iter().map(|program| program.kind));
        assert_eq!(programs, kinds(&mut PLUGINS.iter().map(|known| known.kind)));
    }

    /// The keys that a plugin asks of the object that is its own: the whole configuration, or `ipam`.
    fn keys(known: &Known) -> BTreeSet<String> {
        let ipam = json!({"type": "host-local", "ranges": [[{"subnet": "10.1.0.0/24"}]]});
        let document = json!({
            "cniVersion": "1.0.0", "name": "net", "type": known.kind, "ipam": ipam
        });
        let reading = Reading::new(document);
        // What it says of the values does not matter here.
        drop((known.examine)(&reading));
        let root = reading.document();
        let own = if known.role == Role::Ipam { &root["ipam"] } else { root };
        let asked = reading.known(own.as_object().unwrap()).unwrap_or_default();
        asked.into_iter().map(str::to_owned).collect()
    }

    /// What stands in backticks in the first column of the first table of a plugin's page, whose head
    /// is `key`.
    fn keys_of_page(path: &Path) -> BTreeSet<String> {
        let page = std::fs::read_to_string(path).unwrap();
        let rows = page.lines().skip_while(|line| !line.starts_with("| key ")).skip(2);
        let rows = rows.take_while(|line| line.starts_with('|'));
        let cells = rows.map(|row| row.split('|').nth(1).unwrap_or_default().to_owned());
        let words = |cell: String| cell.split('`').skip(1).step_by(2).map(str::to_owned).collect();
        cells.flat_map(|cell| -> Vec<String> { words(cell) }).collect()
    }

    #[test]
    fn every_key_is_on_the_page_of_its_plugin_and_no_other() {
        let of_every_network = keys(find("loopback").unwrap());
        for known in PLUGINS {
            let parent = if known.role == Role::Ipam { "ipam" } else { "plugins" };
            let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
            let page = root.join(parent).join(known.kind).join("README.md");
            let mut own = keys(known);
            if known.role == Role::Ipam {
                own.remove("type");
            } else {
                own.retain(|key| !of_every_network.contains(key));
            }
            assert_eq!(keys_of_page(&page), own, "{}", page.display());
        }
    }
}
