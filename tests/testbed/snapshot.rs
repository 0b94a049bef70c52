//! Everything that a plugin could have changed on a host, as lines that can be compared.
//!
//! Taken with `ip`, `nft` and the file system, never with code of the plugins'. Left out is what
//! the kernel does by itself and in its own time: link-local addresses, carrier, counters.

use std::{
    collections::BTreeSet,
    fmt, fs,
    path::Path,
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::{bed::Testbed, leases::DATA_DIR};

/// The sysctls that plugins touch, of the host and of each of its links.
const SYSCTLS: [&str; 2] = ["net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding"];
const LINK_SYSCTLS: [&str; 9] = [
    "ipv4/conf/*/route_localnet",
    "ipv4/conf/*/rp_filter",
    "ipv4/conf/*/proxy_arp",
    "ipv4/conf/*/arp_notify",
    "ipv4/conf/*/forwarding",
    "ipv6/conf/*/accept_ra",
    "ipv6/conf/*/disable_ipv6",
    "ipv6/conf/*/accept_dad",
    "ipv6/conf/*/forwarding",
];

/// Nothing that the kernel does in its own time takes longer.
const PATIENCE: Duration = Duration::from_secs(10);

/// The state of a host.
#[derive(Clone, PartialEq, Eq)]
pub struct Snapshot(BTreeSet<String>);

impl fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|line| writeln!(f, "{line}"))
    }
}

impl Snapshot {
    /// Panics with the lines that came and went, unless there are none.
    #[track_caller]
    pub fn assert_same(&self, now: &Self) {
        let gone = self.0.difference(&now.0).map(|line| format!("- {line}\n"));
        let come = now.0.difference(&self.0).map(|line| format!("+ {line}\n"));
        let difference: String = gone.chain(come).collect();
        assert!(difference.is_empty(), "the host is not what it was:\n{difference}");
    }

    /// The lines that contain `words`.
    pub fn lines<'a>(&'a self, words: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().map(String::as_str).filter(move |line| line.contains(words))
    }
}

impl Testbed {
    /// The state of this host now.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        let mut lines = BTreeSet::new();
        let links = self.ip_json("-d link show");
        let links: Vec<&Value> = links.as_array().into_iter().flatten().collect();
        lines.extend(links.iter().map(|link| describe_link(link)));
        lines.extend(self.addresses());
        lines.extend(self.routes());
        lines.extend(self.filter_rules());
        let names = links.iter().filter_map(|link| link["ifname"].as_str());
        lines.extend(self.sysctls(&names.collect::<Vec<_>>()));
        self.enter(|| list_files(Path::new("/run"), &mut lines));
        self.enter(|| list_files(Path::new("/var/lib/cni"), &mut lines));
        lines.extend(self.all_leases());
        Snapshot(lines)
    }

    /// Panics with what is different from `before`.
    #[track_caller]
    pub fn assert_unchanged_since(&self, before: &Snapshot) {
        before.assert_same(&self.snapshot());
    }

    /// The same when the kernel has removed what was in a namespace that is gone, in its own time.
    #[track_caller]
    pub fn assert_back_to(&self, before: &Snapshot) {
        let start = Instant::now();
        while self.snapshot() != *before && start.elapsed() < PATIENCE {}
        self.assert_unchanged_since(before);
    }

    fn addresses(&self) -> Vec<String> {
        let mut lines = Vec::new();
        for link in self.ip_json("addr show").as_array().into_iter().flatten() {
            for address in link["addr_info"].as_array().into_iter().flatten() {
                if address["scope"] != "link" {
                    let (name, ip, length) =
                        (&link["ifname"], &address["local"], &address["prefixlen"]);
                    lines.push(format!("address {name} {ip}/{length}"));
                }
            }
        }
        lines
    }

    fn routes(&self) -> Vec<String> {
        let mut lines = Vec::new();
        for family in ["-4", "-6"] {
            for what in ["route show table all", "rule show"] {
                let listed = self.ip_json(&format!("{family} {what}"));
                for entry in listed.as_array().into_iter().flatten() {
                    let mut entry = entry.clone();
                    // Local routes follow addresses, once the kernel trusts them.
                    let own = entry["table"] == "local" && entry["protocol"] == "kernel"
                        || ["fe80", "ff00", "multicast"].iter().any(|kernel| {
                            entry["dst"].as_str().is_some_and(|dst| dst.starts_with(kernel))
                        });
                    if !own {
                        // `linkdown` comes and goes with the carrier.
                        forget(&mut entry, &["flags", "expires"]);
                        lines.push(format!("{what} {entry}"));
                    }
                }
            }
        }
        lines
    }

    fn filter_rules(&self) -> Vec<String> {
        let text = self.succeed("nft", &["-j", "list", "ruleset"]);
        let mut ruleset: Value = serde_json::from_str(&text).expect("nft prints JSON");
        forget(&mut ruleset, &["handle", "index", "expires", "packets", "bytes"]);
        let mut lines = Vec::new();
        for object in ruleset["nftables"].as_array_mut().into_iter().flatten() {
            if object.get("metainfo").is_some() {
                continue;
            }
            // The order in a hash table is no property of the rules.
            for kind in ["set", "map"] {
                let elements = object.get_mut(kind).and_then(|set| set.get_mut("elem"));
                if let Some(elements) = elements.and_then(Value::as_array_mut) {
                    elements.sort_by_key(Value::to_string);
                }
            }
            lines.push(format!("nft {object}"));
        }
        // Two equal rules are not one rule.
        for number in 1..lines.len() {
            let same = lines[..number].iter().filter(|line| **line == lines[number]).count();
            if same > 0 {
                lines[number] = format!("{} (again {same})", lines[number]);
            }
        }
        lines
    }

    fn sysctls(&self, links: &[&str]) -> Vec<String> {
        let mut keys: Vec<String> = SYSCTLS.iter().map(ToString::to_string).collect();
        for link in links {
            keys.extend(LINK_SYSCTLS.iter().map(|key| format!("net/{}", key.replace('*', link))));
        }
        self.enter(|| {
            let read = |key: String| {
                let value = fs::read_to_string(format!("/proc/sys/{key}")).ok()?;
                Some(format!("sysctl {key} = {}", value.trim()))
            };
            keys.into_iter().filter_map(read).collect()
        })
    }

    fn all_leases(&self) -> Vec<String> {
        let Ok(networks) = fs::read_dir(self.file(DATA_DIR)) else { return Vec::new() };
        let mut lines = Vec::new();
        for network in networks {
            let name = network.expect("read a data directory").file_name();
            let name = name.to_string_lossy();
            for (address, owner) in self.leases(&name) {
                lines.push(format!("lease {name} {address} {owner}"));
            }
        }
        lines
    }
}

fn describe_link(link: &Value) -> String {
    let info = &link["linkinfo"];
    let bridge = |key: &str| &info["info_data"][key];
    let port = |key: &str| &info["info_slave_data"][key];
    let up = link["flags"].as_array().is_some_and(|flags| flags.contains(&"UP".into()));
    format!(
        "link {} kind={} up={up} mac={} mtu={} master={} promisc={} vlans={} hairpin={} isolated={}",
        link["ifname"],
        info["info_kind"],
        link["address"],
        link["mtu"],
        link["master"],
        link["promiscuity"],
        bridge("vlan_filtering"),
        port("hairpin"),
        port("isolated"),
    )
}

/// Drops keys, wherever they are.
fn forget(value: &mut Value, keys: &[&str]) {
    match value {
        Value::Object(object) => {
            object.retain(|key, _| !keys.contains(&key.as_str()));
            object.values_mut().for_each(|inner| forget(inner, keys));
        }
        Value::Array(array) => array.iter_mut().for_each(|inner| forget(inner, keys)),
        _ => {}
    }
}

/// Names of files. Directories, locks and what host-local keeps on purpose are no state, and
/// sandboxes are the runtime's.
fn list_files(dir: &Path, lines: &mut BTreeSet<String>) {
    let Ok(entries) = fs::read_dir(dir) else { return };
    for entry in entries.map(|entry| entry.expect("read a directory")) {
        let (path, name) = (entry.path(), entry.file_name());
        let name = name.to_string_lossy();
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            if !matches!(path.to_str(), Some("/run/test" | "/run/.layers" | "/run/netns")) {
                list_files(&path, lines);
            }
        } else if !matches!(&*name, "leases" | "leases.index" | "lock" | "xtables.lock")
            && !name.starts_with("last_reserved_ip.")
        {
            lines.insert(format!("file {}", path.display()));
        }
    }
}
