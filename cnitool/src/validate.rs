//! Configurations read by somebody who knows the plugins. Nothing is touched, and of the plugins
//! nothing is run but VERSION.

//!
//! | file | what it looks at |
//! |---|---|
//! | `keys.rs` | what the plugins say of their keys themselves |
//! | `effect.rs` | keys that mean nothing without another one |
//! | `ranges.rs` | the address ranges of host-local |

mod effect;
mod keys;
mod ranges;

use crate::chain::Runtime;
use crate::directory;
use crate::finding::{Finding, Findings, Level};
use crate::list::{ConfigList, PluginConfig};
use crate::plugins::{self, Known, Role};
use common::cni::{Reading, Version, json};
use host_local::range::Range;
use keys::Readers;
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::rc::Rc;

/// Checks files, one after the other, each also against those before it.
#[derive(Debug)]
pub struct Validator<'a> {
    runtime: &'a Runtime,
    versions: BTreeMap<String, Result<Vec<String>, String>>,
    seen: Vec<Seen>,
}

/// What can clash with another file.
#[derive(Debug)]
struct Seen {
    file: PathBuf,
    network: String,
    segments: Vec<Segment>,
}

/// A VLAN of a bridge, and the ranges on it.
#[derive(Debug)]
struct Segment {
    place: (String, i64),
    ranges: Vec<Range>,
}

impl<'a> Validator<'a> {
    /// Looks for plugins where `runtime` does.
    pub fn new(runtime: &'a Runtime) -> Self {
        Self { runtime, versions: BTreeMap::new(), seen: Vec::new() }
    }

    /// Everything that there is to say about a file.
    pub fn file(&mut self, file: &Path) -> Vec<Finding> {
        let mut findings = Findings::default();
        match directory::load(file) {
            Ok(list) => {
                let is_list = file.extension().is_some_and(|extension| extension == "conflist");
                let segments = self.list(&list, is_list, &mut findings);
                let network = list.name.to_string();
                let seen = Seen { file: file.to_owned(), network, segments };
                self.compare(&seen, &mut findings);
                self.seen.push(seen);
            }
            Err(error) => {
                // The caller names the file already.
                let text = error.to_string();
                let mut text = text.trim_start_matches(&format!("{}: ", file.display()));
                for prefix in
                    ["error parsing configuration: ", "error parsing configuration list: "]
                {
                    text = text.trim_start_matches(prefix);
                }
                findings.add(Level::Error, "", text);
            }
        }
        findings.0
    }

    fn list(&mut self, list: &ConfigList, is_list: bool, findings: &mut Findings) -> Vec<Segment> {
        if let Ok(keys) = serde_json::from_slice(&list.bytes)
            && is_list
        {
            keys::of_list(keys, findings);
        }
        version(list, findings);
        if self.runtime.path.is_empty() {
            let text =
                "plugins are not looked for: set CNI_PATH, or --cni-path, to their directory";
            findings.add(Level::Warning, "", text);
        }
        let mut segments = Vec::new();
        for (index, plugin) in list.plugins.iter().enumerate() {
            let at = if is_list { format!("plugins[{index}]") } else { String::new() };
            let ranges = self.plugin(list, plugin, &at, findings);
            if index == 0 && has_role(&plugin.kind, Role::Chained) {
                let text = format!("{} works on what a plugin before it has made", plugin.kind);
                findings.add(Level::Error, join(&at, "type"), text);
            }
            if plugin.kind == "bridge" {
                let name = json::get(&plugin.keys, "bridge").and_then(Value::as_str);
                let vlan = json::get(&plugin.keys, "vlan").and_then(Value::as_i64);
                let place = (name.unwrap_or("cni0").to_owned(), vlan.unwrap_or(0));
                segments.push(Segment { place, ranges });
            }
        }
        segments
    }

    /// One plugin of the chain, with the one in its `ipam`; gives the ranges of that.
    fn plugin(
        &mut self,
        list: &ConfigList,
        plugin: &PluginConfig,
        at: &str,
        findings: &mut Findings,
    ) -> Vec<Range> {
        let (kind, keys) = (plugin.kind.as_str(), &plugin.keys);
        let known = self.look(list, kind, &join(at, "type"), findings);
        if has_role(kind, Role::Ipam) {
            let text = format!("{kind} gives addresses: it belongs into `ipam` of a plugin");
            findings.add(Level::Error, join(at, "type"), text);
        }
        let section = ipam_section(keys).filter(|_| !has_role(kind, Role::Chained));
        let ipam = section.map(|(kind, section)| {
            let at = join(at, "ipam");
            let known = self.look(list, kind, &join(&at, "type"), findings);
            if known.is_some_and(|known| known.role != Role::Ipam) {
                let text = format!("{kind} gives no addresses: it belongs into the chain");
                findings.add(Level::Error, join(&at, "type"), text);
            }
            (kind, known.filter(|known| known.role == Role::Ipam), section, at)
        });
        let is_on = |name| plugin.capabilities().any(|other| other == name);
        let is_given = is_on("ipRanges") || has_role(kind, Role::Meta);
        let gets_ranges = |ipam| is_given && !ranges::are_given(ipam);
        let readers = Readers {
            plugin: (kind, known.filter(|known| known.role != Role::Ipam)),
            ipam: ipam.as_ref().map(|(kind, known, ..)| (*kind, *known)),
            is_completed: ipam.as_ref().is_some_and(|(_, _, section, _)| gets_ranges(section)),
        };
        let document = document(list, plugin);
        let reading = readers.examine(document.clone(), at, findings);
        if let Some(keys) = reading.document().as_object() {
            let is_asked = |ipam: &Map<String, Value>| reading.known(ipam).is_some();
            let ipam = json::get(keys, "ipam").and_then(Value::as_object);
            if section.is_none() && ipam.is_some_and(|ipam| is_asked(ipam) && !ipam.is_empty()) {
                findings.add(Level::Error, join(at, "ipam"), "missing 'type'");
            }
            effect::check(keys, &reading.known(keys).unwrap_or_default(), at, findings);
        }
        capabilities(plugin, &readers, at, findings);
        if kind == "flannel" {
            self.delegate(list, &reading, at, findings);
        }
        match ipam {
            Some(("host-local", Some(_), section, at)) => {
                ranges::check(section, &at, findings);
                ranges::of(&document)
            }
            _ => Vec::new(),
        }
    }

    /// What flannel hands on. The delegate's `ipam` is made of what stands beside `delegate`.
    fn delegate(
        &mut self,
        list: &ConfigList,
        reading: &Rc<Reading>,
        at: &str,
        findings: &mut Findings,
    ) {
        let keys = flannel::Flannel::delegated(reading).map(Value::Object);
        let Some(Ok(delegate)) = keys.map(PluginConfig::new) else { return };
        let (mut own, within) = (Findings::default(), join(at, "delegate"));
        self.plugin(list, &delegate, &within, &mut own);
        for finding in own.0 {
            let rest = finding.path.strip_prefix(&join(&within, "ipam"));
            let path = match rest.filter(|rest| rest.is_empty() || rest.starts_with(['.', '['])) {
                Some(rest) => format!("{}{rest}", join(at, "ipam")),
                None => finding.path.clone(),
            };
            let finding = Finding { path, ..finding };
            if !findings.0.contains(&finding) {
                findings.0.push(finding);
            }
        }
    }

    /// Whether a plugin is there, and what we know of it.
    fn look(
        &mut self,
        list: &ConfigList,
        kind: &str,
        at: &str,
        findings: &mut Findings,
    ) -> Option<&'static Known> {
        let before = findings.0.len();
        self.executable(list, kind, at, findings);
        let known = plugins::find(kind);
        if known.is_none() && findings.0.len() == before {
            let text = format!("{kind} is not one of ours, so its keys are not looked at");
            findings.add(Level::Note, at, text);
        }
        known
    }

    /// Whether the plugin is there, and speaks the list's version.
    fn executable(&mut self, list: &ConfigList, kind: &str, at: &str, findings: &mut Findings) {
        if self.runtime.path.is_empty() {
            return;
        }
        let runtime = self.runtime;
        let versions = self
            .versions
            .entry(kind.to_owned())
            .or_insert_with(|| runtime.versions(kind).map_err(|error| error.to_string()));
        let wanted = if list.version.is_empty() { "0.1.0" } else { &list.version };
        match versions {
            Err(error) => {
                let kinds = plugins::all().iter().map(|plugin| plugin.kind);
                let is_known = plugins::find(kind).is_some();
                let hint = if is_known { String::new() } else { suggestion(kind, kinds) };
                findings.add(Level::Error, at, format!("{error}{hint}"));
            }
            Ok(versions) if !versions.iter().any(|version| version == wanted) => {
                let known = versions.join(", ");
                let text = format!(
                    "plugin {kind} does not support config version {wanted:?}, but {known}"
                );
                findings.add(Level::Error, at, text);
            }
            Ok(_) => {}
        }
    }

    /// What clashes with the files before it.
    fn compare(&self, new: &Seen, findings: &mut Findings) {
        for old in &self.seen {
            let file = old.file.display();
            if old.network == new.network {
                let text = format!("{:?} is the name of the network in {file} too", new.network);
                findings.add(Level::Warning, "name", text);
                continue;
            }
            let pairs =
                new.segments.iter().flat_map(|new| old.segments.iter().map(move |old| (new, old)));
            for (new, other) in pairs.filter(|(new, old)| new.place == old.place) {
                let clash = new.ranges.iter().find_map(|range| {
                    Some((range, other.ranges.iter().find(|other| range.overlaps(other))?))
                });
                let Some((range, other)) = clash else { continue };
                let (bridge, subnet, network) = (&new.place.0, range.subnet(), &old.network);
                let why = if range.gateway() == other.gateway() {
                    "both would hand out the same addresses"
                } else {
                    "with another gateway, and both would hand out the same addresses"
                };
                let text = format!(
                    "{subnet} on {bridge} overlaps with network {network:?} in {file}: {why}"
                );
                findings.add(Level::Warning, "", text);
            }
        }
    }
}

/// The path of a key inside what is at `at`.
fn join(at: &str, key: &str) -> String {
    let dot = if at.is_empty() || key.is_empty() { "" } else { "." };
    format!("{at}{dot}{key}")
}

/// `; did you mean ..?`, if something is close enough to be meant.
fn suggestion(given: &str, known: impl Iterator<Item = &'static str>) -> String {
    let given = given.to_ascii_lowercase();
    let distance = |name: &str| strsim::damerau_levenshtein(&given, &name.to_ascii_lowercase());
    let closest = known.map(|name| (distance(name), name)).min();
    match closest {
        Some((distance, name)) if distance <= (name.len() / 3).max(1) => {
            format!("; did you mean `{name}`?")
        }
        _ => String::new(),
    }
}

fn has_role(kind: &str, role: Role) -> bool {
    plugins::find(kind).is_some_and(|known| known.role == role)
}

/// The section `ipam`, if it names a plugin, and that name.
fn ipam_section(keys: &Map<String, Value>) -> Option<(&str, &Map<String, Value>)> {
    let ipam = json::get(keys, "ipam")?.as_object()?;
    let kind = json::get(ipam, "type")?.as_str()?;
    (!kind.is_empty()).then_some((kind, ipam))
}

/// What the plugin would read, and what is the runtime's. A version that nobody knows has been
/// reported as such.
fn document(list: &ConfigList, plugin: &PluginConfig) -> Value {
    let version: Version = list.version.parse().unwrap_or(Version::V1_1_0);
    let mut keys = plugin.keys.clone();
    keys.retain(|key, _| !["name", "cniVersion"].iter().any(|own| own.eq_ignore_ascii_case(key)));
    keys.insert("name".to_owned(), list.name.as_str().into());
    keys.insert("cniVersion".to_owned(), version.as_str().into());
    Value::Object(keys)
}

fn version(list: &ConfigList, findings: &mut Findings) {
    let at = "cniVersion";
    if list.version.is_empty() {
        findings.add(Level::Warning, at, "it is missing, and means 0.1.0");
    }
    let version = if list.version.is_empty() { "0.1.0" } else { &list.version };
    let Ok(version) = version.parse::<Version>() else {
        let known = Version::ALL.map(Version::as_str).join(", ");
        return findings.add(Level::Error, at, format!("{version:?} is none of {known}"));
    };
    if version < Version::V0_3_0 && list.plugins.len() > 1 {
        findings.add(Level::Warning, at, format!("{version} knows no chains of plugins"));
    }
    if version < Version::V0_4_0 {
        let text = format!("{version} has no CHECK, GC and STATUS: {} has", Version::V1_1_0);
        findings.add(Level::Note, at, text);
    } else if version < Version::V1_1_0 {
        let text = format!("{version} has no GC and STATUS: {} has", Version::V1_1_0);
        findings.add(Level::Note, at, text);
    }
}

/// Capabilities that are switched on and that neither the plugin nor its IPAM plugin takes.
fn capabilities(plugin: &PluginConfig, readers: &Readers<'_>, at: &str, findings: &mut Findings) {
    let of_ipam = readers.ipam.iter().map(|(_, known)| *known);
    let all: Option<Vec<_>> = [readers.plugin.1].into_iter().chain(of_ipam).collect();
    // A plugin that we do not know may take anything.
    let Some(all) = all else { return };
    let takes = |known: &Known, name: &str| known.capabilities.contains(&name);
    for name in plugin.capabilities() {
        if all.iter().any(|known| takes(known, name)) {
            continue;
        }
        // Those of the specification's conventions that no plugin of ours takes can be meant, too.
        let others = ["bandwidth", "dns", "deviceID", "infinibandGUID", "aliases", "cgroupPath"];
        let ours = plugins::all().iter().flat_map(|known| known.capabilities).copied();
        let hint = match plugins::all().iter().find(|known| takes(known, name)) {
            Some(taker) => format!("; {} does", taker.kind),
            None => suggestion(name, ours.chain(others).filter(|known| *known != name)),
        };
        let text = format!("{} does not take this capability{hint}", plugin.kind);
        findings.add(Level::Warning, join(&join(at, "capabilities"), name), text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testbed::{Bed, Temp};

    const ALL: [&str; 5] = ["bridge", "host-local", "portmap", "loopback", "other"];

    fn check(bed: &Bed, files: &[(&str, &str)]) -> Vec<String> {
        let mut validator = Validator::new(&bed.runtime);
        let temp = Temp::new();
        let mut found = Vec::new();
        for (name, text) in files {
            temp.write(name, text);
            let findings = validator.file(&temp.path().join(name));
            let directory = format!("{}/", temp.path().display());
            let path = bed.temp.path().display().to_string();
            let texts = findings.iter().map(ToString::to_string);
            found.extend(texts.map(|text| text.replace(&directory, "").replace(&path, "PATH")));
        }
        found
    }

    fn list(plugins: &str) -> String {
        format!(r#"{{"name": "n", "cniVersion": "1.1.0", "plugins": [{plugins}]}}"#)
    }

    fn on_bridge(name: &str, ipam: &str) -> String {
        format!(
            r#"{{"name": "{name}", "cniVersion": "1.1.0", "plugins": [
                {{"type": "bridge", "ipam": {{"type": "host-local", {ipam}}}}}]}}"#
        )
    }

    #[test]
    fn a_good_list_is_silent_and_only_versions_are_asked() {
        let bed = Bed::new(&ALL);
        let text = list(
            r#"{"type": "bridge", "isGateway": true, "capabilities": {"ips": true, "mac": true},
                "ipam": {"type": "host-local", "ranges": [[{"subnet": "10.1.0.0/24"}]],
                         "routes": [{"dst": "0.0.0.0/0"}]}},
               {"type": "portmap", "capabilities": {"portMappings": true}},
               {"type": "other", "whatever": 1, "capabilities": {"strange": true}}"#,
        );
        assert_eq!(
            check(&bed, &[("a.conflist", &text)]),
            ["note: plugins[2].type: other is not one of ours, so its keys are not looked at"]
        );
        let calls = bed.calls();
        assert!(calls.iter().all(|call| call.ends_with(".VERSION")) && calls.len() == 4);
    }

    #[test]
    fn mistakes_are_named_with_their_place() {
        let bed = Bed::new(&ALL);
        for (text, wrong) in [
            ("{", "error: EOF while parsing"),
            (
                &list(r#"{"type": "bridge", "mtu": "1500"}"#),
                "error: plugins[0].mtu: must be a number, not a string",
            ),
            (
                &list(r#"{"type": "bridge", "ipam": {"type": "host-local", "subnett": "x"}}"#),
                "warning: plugins[0].ipam.subnett: host-local does not know this key; did you mean \
                 `subnet`?",
            ),
            (
                &list(r#"{"type": "bridge", "capabilities": {"portMappings": true}}"#),
                "warning: plugins[0].capabilities.portMappings: bridge does not take this \
                 capability; portmap does",
            ),
            (
                &list(
                    r#"{"type": "loopback"}, {"type": "portmap", "capabilities": {"portMapings": true}}"#,
                ),
                "warning: plugins[1].capabilities.portMapings: portmap does not take this \
                 capability; did you mean `portMappings`?",
            ),
            (
                &list(r#"{"type": "portmap"}"#),
                "error: plugins[0].type: portmap works on what a plugin before it has made",
            ),
            (
                &list(r#"{"type": "bridg"}"#),
                "error: plugins[0].type: failed to find plugin \"bridg\" in path [PATH]; did you mean \
                 `bridge`?",
            ),
            (
                &list(r#"{"type": "host-local"}"#),
                "error: plugins[0].type: host-local gives addresses",
            ),
            (
                &list(r#"{"type": "bridge", "ipam": {"subnet": "x"}}"#),
                "error: plugins[0].ipam: missing 'type'",
            ),
            (
                r#"{"name": "n", "plugin": [], "cniVersion": "1.1.0", "plugins": [{"type": "bridge"}]}"#,
                "warning: plugin: a list does not know this key; did you mean `plugins`?",
            ),
            (
                r#"{"name": "n", "cniVersion": "1.0.0", "plugins": [{"type": "bridge"}]}"#,
                "note: cniVersion: 1.0.0 has no GC and STATUS: 1.1.0 has",
            ),
        ] {
            let found = check(&bed, &[("a.conflist", text)]);
            assert!(found.first().is_some_and(|f| f.starts_with(wrong)), "{text}: {found:?}");
        }
    }

    #[test]
    fn plugins_of_ours_say_themselves_what_they_refuse() {
        let bed = Bed::new(&ALL);
        let both = list(r#"{"type": "bridge", "hairpinMode": true, "promiscMode": true}"#);
        let odd =
            list(r#"{"type": "bridge"}, {"type": "portmap", "conditionsV4": ["tcp", "dport"]}"#);
        for (text, wrong) in [
            (both, "error: plugins[0]: cannot set hairpin mode and promiscuous mode"),
            (odd, "error: plugins[1]: conditionsV4: \"tcp dport\" is not understood"),
        ] {
            let found = check(&bed, &[("a.conflist", &text)]);
            assert!(found.len() == 1 && found[0].starts_with(wrong), "{text}: {found:?}");
        }
    }

    #[test]
    fn of_many_wrong_values_the_first_are_named() {
        let bed = Bed::new(&ALL);
        let wrong = vec![r#"{"hostPort": "x"}"#; 4000].join(", ");
        let text = list(&format!(
            r#"{{"type": "bridge"}},
               {{"type": "portmap", "runtimeConfig": {{"portMappings": [{wrong}]}}}}"#
        ));
        let found = check(&bed, &[("a.conflist", &text)]);
        assert_eq!(found.iter().filter(|line| line.starts_with("error: ")).count(), 51);
        assert!(found.iter().any(|line| line.contains("more than 50")), "{found:?}");
    }

    #[test]
    fn ranges_may_come_with_each_request() {
        let bed = Bed::new(&ALL);
        let with = |capabilities: &str, keys: &str| {
            let text = list(&format!(
                r#"{{"type": "bridge", "capabilities": {{{capabilities}}},
                     "ipam": {{"type": "host-local", "dataDir": "/x"{keys}}}}}"#
            ));
            check(&bed, &[("a.conflist", &text)])
        };
        let refused = "error: plugins[0].ipam: no IP ranges specified";
        assert!(with("", "").len() == 1 && with("", "")[0].starts_with(refused));
        assert!(with(r#""ipRanges": false"#, r#", "ranges": []"#)[0].starts_with(refused));
        assert_eq!(with(r#""ipRanges": true"#, ""), [""; 0]);
        assert_eq!(
            with(r#""ipRanges": true"#, r#", "subnets": []"#),
            ["warning: plugins[0].ipam.subnets: host-local does not know this key; did you mean \
              `subnet`?"]
        );
        let excluded = r#", "ranges": [[{"subnet": "10.1.0.0/24", "exclude": ["10.1.0.0/24"]}]]"#;
        let refused = "error: plugins[0].ipam: invalid range set 0: range 10.1.0.1-10.1.0.254 has \
                       no address to hand out";
        for capabilities in ["", r#""ipRanges": true"#] {
            assert!(with(capabilities, excluded)[0].starts_with(refused));
        }
    }

    #[test]
    fn what_somebody_else_makes_is_told_once_and_not_judged() {
        let bed = Bed::new(&["bridge", "sriov-cni", "whereabouts"]);
        let text = list(
            r#"{"type": "bridge", "ipam": {"type": "whereabouts", "range": "10.1.0.0/24"}},
               {"type": "sriov-cni", "trust": "on", "capabilities": {"mac": true}}"#,
        );
        assert_eq!(
            check(&bed, &[("a.conflist", &text)]),
            [
                "note: plugins[0].ipam.type: whereabouts is not one of ours, so its keys are not looked at",
                "note: plugins[1].type: sriov-cni is not one of ours, so its keys are not looked at",
            ]
        );
    }

    #[test]
    fn what_flannel_hands_on_is_looked_at() {
        let bed = Bed::new(&["flannel", "bridge", "host-local"]);
        let with = |keys: &str| {
            let text = list(&format!(r#"{{"type": "flannel", {keys}}}"#));
            check(&bed, &[("a.conflist", &text)])
        };
        let good = r#""delegate": {"hairpinMode": true, "ipMasqExclude": ["10.0.0.0/8"]},
            "ipam": {"dataDir": "/x", "routes": [{"dst": "10.9.0.0/16"}]}"#;
        assert_eq!(with(good), [""; 0]);
        for (keys, wrong) in [
            (
                r#""delegate": {"hairpinMod": true}"#,
                "warning: plugins[0].delegate.hairpinMod: bridge does not know this key; did you \
                 mean `hairpinMode`?",
            ),
            (
                r#""delegate": {"mtu": "1400"}"#,
                "error: plugins[0].delegate.mtu: must be a number, not a string",
            ),
            (
                r#""delegate": {"hairpinMode": true, "promiscMode": true}"#,
                "error: plugins[0].delegate: cannot set hairpin mode and promiscuous mode at the \
                 same time",
            ),
            (
                r#""ipam": {"type": "host-local", "graceage": 5, "stiky": "pod"}"#,
                "note: plugins[0].ipam.graceage: it is usually written `graceAge`",
            ),
            (
                r#""ipam": {"stiky": "pod"}"#,
                "warning: plugins[0].ipam.stiky: host-local does not know this key; did you mean \
                 `sticky`?",
            ),
            (
                r#""delegate": {"type": "brige"}"#,
                "error: plugins[0].delegate.type: failed to find plugin \"brige\" in path [PATH]; \
                 did you mean `bridge`?",
            ),
        ] {
            let found = with(keys);
            assert_eq!(found[0], wrong, "{found:?}");
            let distinct: std::collections::BTreeSet<_> = found.iter().collect();
            assert_eq!(distinct.len(), found.len(), "{found:?}");
        }
    }

    #[test]
    fn versions_are_known_to_us_and_to_the_plugins() {
        let bed = Bed::new(&ALL);
        let with = |version: &str| {
            let text = format!(r#"{{"name": "n", "type": "bridge"{version}}}"#);
            check(&bed, &[("a.conf", &text)])
        };
        assert_eq!(with(r#", "cniVersion": "1.1.0""#), [""; 0]);
        let old = with("");
        assert_eq!(old[0], "warning: cniVersion: it is missing, and means 0.1.0");
        assert_eq!(
            old[2],
            "error: type: plugin bridge does not support config version \"0.1.0\", but 0.4.0, \
             1.0.0, 1.1.0"
        );
        assert!(with(r#", "cniVersion": "1.2.0""#)[0].starts_with("error: cniVersion: \"1.2.0\""));
    }

    #[test]
    fn without_a_path_the_rest_is_checked() {
        let mut bed = Bed::new(&[]);
        bed.runtime.path.clear();
        let found = check(&bed, &[("a.conflist", &list(r#"{"type": "bridge", "vlan": 4095}"#))]);
        assert!(found[0].starts_with("warning: plugins are not looked for: set CNI_PATH"));
        assert_eq!(
            found[1],
            "error: plugins[0]: invalid VLAN ID 4095 (must be between 0 and 4094)"
        );
    }

    #[test]
    fn files_are_compared_with_each_other() {
        let bed = Bed::new(&ALL);
        let one = on_bridge("one", r#""subnet": "10.1.0.0/24""#);
        let two = on_bridge("two", r#""subnet": "10.1.0.0/16", "gateway": "10.1.9.9""#);
        let three = on_bridge("three", r#""subnet": "10.2.0.0/24""#);
        assert_eq!(
            check(&bed, &[("1.conflist", &one), ("2.conflist", &one)]),
            ["warning: name: \"one\" is the name of the network in 1.conflist too"]
        );
        assert_eq!(
            check(&bed, &[("1.conflist", &one), ("2.conflist", &two), ("3.conflist", &three)]),
            ["warning: 10.1.0.0/16 on cni0 overlaps with network \"one\" in 1.conflist: with \
              another gateway, and both would hand out the same addresses"]
        );
    }
}
