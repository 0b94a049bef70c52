//! The plugins of this suite: one row each, and nobody else has a list of them. A plugin that is not
//! here is somebody else's, of which nothing is known but that it speaks the protocol.

use common::cni::{Attachment, Call, Reading, examine};
use common::filter::restore::{Expected, Filtering, expected_state};
use common::{Plugin, Result};
use std::rc::Rc;

/// Where a plugin stands in a configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// First in a chain: it makes the interface.
    Main,
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

/// See [`expected_state`].
pub type ExpectedState = fn(Vec<u8>, &Attachment) -> Result<(Vec<Expected>, bool)>;

const PLUGINS: &[Known] = &[
    plugin::<loopback::Loopback>(Role::Main, &[]),
    filtering::<bridge::Bridge>(Role::Main, &["mac"]),
    filtering::<ptp::Ptp>(Role::Main, &[]),
    plugin::<macvlan::Macvlan>(Role::Main, &["mac"]),
    filtering::<portmap::Portmap>(Role::Chained, &["portMappings"]),
    filtering::<firewall::Filter>(Role::Chained, &[]),
    Known {
        kind: "host-local",
        role: Role::Ipam,
        capabilities: &["ips", "ipRanges"],
        examine: |reading| host_local::config::load(&Call::examined(reading)?).map(drop),
        expected_state: None,
    },
];

const fn plugin<P: Plugin>(role: Role, capabilities: &'static [&'static str]) -> Known {
    Known { kind: P::NAME, role, capabilities, examine: examine::<P>, expected_state: None }
}

/// A plugin whose attachments have something in the packet filter.
const fn filtering<P: Filtering>(role: Role, capabilities: &'static [&'static str]) -> Known {
    Known { expected_state: Some(expected_state::<P>), ..plugin::<P>(role, capabilities) }
}

/// Every row.
pub fn all() -> &'static [Known] {
    PLUGINS
}

/// The row of a type.
pub fn find(kind: &str) -> Option<&'static Known> {
    PLUGINS.iter().find(|plugin| plugin.kind == kind)
}

/// For `--help`: which types there are.
pub fn kinds() -> String {
    PLUGINS.iter().map(|plugin| plugin.kind).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;
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
    }
}
