//! Configurations read by somebody who knows the plugins. Nothing is touched, and of the plugins
//! nothing is run but VERSION.

mod bridge;
mod ranges;
mod schema;
mod walk;

use crate::chain::Runtime;
use crate::directory;
use crate::list::{ConfigList, PluginConfig};
use crate::request;
use common::cni::{Version, examine, json};
use ranges::Span;
use schema::{Plugin, Role};
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::fmt::{self, Display};
use std::path::{Path, PathBuf};
use walk::{join, suggestion};

/// How bad something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Good to know.
    Note,
    /// Works, and does something else than it says.
    Warning,
    /// Does not work.
    Error,
}

/// Something to say about a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// How bad it is.
    pub level: Level,
    /// Where, as `plugins[0].ipam.subnet`; empty when it is about the whole file.
    pub path: String,
    /// What, as a sentence.
    pub text: String,
}

impl Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let level = match self.level {
            Level::Note => "note",
            Level::Warning => "warning",
            Level::Error => "error",
        };
        match self.path.as_str() {
            "" => write!(f, "{level}: {}", self.text),
            path => write!(f, "{level}: {path}: {}", self.text),
        }
    }
}

#[derive(Debug, Default)]
struct Findings(Vec<Finding>);

impl Findings {
    fn add(&mut self, level: Level, path: impl Into<String>, text: impl Into<String>) {
        self.0.push(Finding { level, path: path.into(), text: text.into() });
    }
}

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
    /// Bridge and VLAN, with the ranges on it.
    bridges: Vec<((String, i64), Vec<Span>)>,
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
                let bridges = self.list(&list, is_list, &mut findings);
                let network = list.name.to_string();
                let seen = Seen { file: file.to_owned(), network, bridges };
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

    fn list(
        &mut self,
        list: &ConfigList,
        is_list: bool,
        findings: &mut Findings,
    ) -> Vec<((String, i64), Vec<Span>)> {
        if is_list && let Ok(Value::Object(keys)) = serde_json::from_slice(&list.bytes) {
            walk::object(&keys, &[schema::LIST], "a list", "", findings);
        }
        version(list, findings);
        if self.runtime.path.is_empty() {
            let text =
                "plugins are not looked for: set CNI_PATH, or --cni-path, to their directory";
            findings.add(Level::Warning, "", text);
        }
        let mut bridges = Vec::new();
        for (index, plugin) in list.plugins.iter().enumerate() {
            let at = if is_list { format!("plugins[{index}]") } else { String::new() };
            let spans = self.plugin(list, plugin, &at, findings);
            if index == 0 && schema::plugin(&plugin.kind).is_some_and(|p| p.role == Role::Chained) {
                let text = format!("{} works on what a plugin before it has made", plugin.kind);
                findings.add(Level::Error, join(&at, "type"), text);
            }
            if plugin.kind == "bridge" {
                let name = json::get(&plugin.keys, "bridge").and_then(Value::as_str);
                let vlan = json::get(&plugin.keys, "vlan").and_then(Value::as_i64);
                bridges.push(((name.unwrap_or("cni0").to_owned(), vlan.unwrap_or(0)), spans));
            }
        }
        bridges
    }

    /// One plugin of the chain, with the one in its `ipam`; gives the ranges of that.
    fn plugin(
        &mut self,
        list: &ConfigList,
        plugin: &PluginConfig,
        at: &str,
        findings: &mut Findings,
    ) -> Vec<Span> {
        let keys = &plugin.keys;
        self.executable(list, &plugin.kind, &join(at, "type"), findings);
        let row = schema::plugin(&plugin.kind);
        match row {
            Some(row) => {
                let ipam: &[_] = match row.role {
                    Role::Interface(_) => &[schema::IPAM],
                    _ => &[],
                };
                let known = [row.keys, schema::COMMON, ipam];
                walk::object(keys, &known, &plugin.kind, at, findings);
                role(row, keys, at, findings);
            }
            None => {
                let is_common = |key: &str| schema::COMMON.iter().any(|(name, _)| *name == key);
                let common = keys.iter().filter(|(key, _)| is_common(key));
                let common = common.map(|(key, value)| (key.clone(), value.clone())).collect();
                walk::object(&common, &[schema::COMMON], &plugin.kind, at, findings);
            }
        }
        if plugin.kind == "bridge" {
            bridge::check(keys, at, findings);
        }
        capabilities(plugin, at, findings);
        refusal(list, plugin, at, findings);
        let ipam = ipam_section(keys);
        ipam.map(|ipam| self.ipam(list, ipam, at, findings)).unwrap_or_default()
    }

    /// The section `ipam`.
    fn ipam(
        &mut self,
        list: &ConfigList,
        ipam: &Map<String, Value>,
        at: &str,
        findings: &mut Findings,
    ) -> Vec<Span> {
        let at = join(at, "ipam");
        let kind = json::get(ipam, "type").and_then(Value::as_str).unwrap_or_default();
        self.executable(list, kind, &join(&at, "type"), findings);
        match schema::plugin(kind) {
            Some(row) if row.role == Role::Ipam => {
                const TYPE: &[schema::Key] = &[("type", schema::Kind::Text)];
                walk::object(ipam, &[row.keys, TYPE], kind, &at, findings);
            }
            Some(_) => {
                let text = format!("{kind} gives no addresses: it belongs into the chain");
                findings.add(Level::Error, join(&at, "type"), text);
            }
            None => {}
        }
        if kind != "host-local" {
            return Vec::new();
        }
        let spans = ranges::check(ipam, &at, findings);
        let has = |key: &str| json::get(ipam, key).is_some();
        if !has("subnet") && !has("ranges") {
            let text = "there are no `ranges`: addresses must come with each request (capability \
                        `ipRanges`)";
            findings.add(Level::Warning, at, text);
        }
        spans
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
                let is_known = schema::plugin(kind).is_some();
                let hint = if is_known { String::new() } else { suggestion(kind, schema::kinds()) };
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
                new.bridges.iter().flat_map(|new| old.bridges.iter().map(move |old| (new, old)));
            for ((place, spans), (_, others)) in pairs.filter(|(new, old)| new.0 == old.0) {
                let clash = spans.iter().find_map(|span| {
                    Some((span, others.iter().find(|other| span.overlaps(other))?))
                });
                let Some((span, other)) = clash else { continue };
                let (bridge, subnet, network) = (&place.0, span.subnet, &old.network);
                let why = if span.gateway == other.gateway {
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

/// The section `ipam`, if it names a plugin.
fn ipam_section(keys: &Map<String, Value>) -> Option<&Map<String, Value>> {
    let ipam = json::get(keys, "ipam")?.as_object()?;
    let kind = json::get(ipam, "type")?.as_str()?;
    (!kind.is_empty()).then_some(ipam)
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

/// What the plugin itself finds wrong, unless something was found that it would trip over.
fn refusal(list: &ConfigList, plugin: &PluginConfig, at: &str, findings: &mut Findings) {
    let is_wrong = |finding: &Finding| finding.level == Level::Error;
    if findings.0.iter().any(|finding| is_wrong(finding) && finding.path.starts_with(at)) {
        return;
    }
    let stdin = request::of_network(list, plugin).to_string().into_bytes();
    let outcome = match plugin.kind.as_str() {
        "bridge" => examine::<::bridge::Bridge>(stdin),
        "firewall" => examine::<firewall::Filter>(stdin),
        "portmap" => examine::<portmap::Portmap>(stdin),
        _ => Ok(()),
    };
    if let Err(error) = outcome {
        findings.add(Level::Error, at, error.to_string());
    }
}

/// Whether the plugin is where it can work.
fn role(row: &Plugin, keys: &Map<String, Value>, at: &str, findings: &mut Findings) {
    match row.role {
        Role::Ipam => {
            let text = format!("{} gives addresses: it belongs into `ipam` of a plugin", row.kind);
            findings.add(Level::Error, join(at, "type"), text);
        }
        Role::Interface(true) if ipam_section(keys).is_none() => {
            let text = format!("{} needs an `ipam` with a `type`", row.kind);
            findings.add(Level::Error, join(at, "ipam"), text);
        }
        Role::Interface(false) if ipam_section(keys).is_none() => {
            let is_empty = |ipam: &Value| ipam.as_object().is_none_or(Map::is_empty);
            if json::get(keys, "ipam").is_some_and(|ipam| !is_empty(ipam)) {
                findings.add(Level::Error, join(at, "ipam"), "missing 'type'");
            }
        }
        _ => {}
    }
}

/// Capabilities that are switched on and that neither the plugin nor its IPAM plugin takes.
fn capabilities(plugin: &PluginConfig, at: &str, findings: &mut Findings) {
    let ipam = ipam_section(&plugin.keys);
    let ipam_kind = ipam.and_then(|ipam| json::get(ipam, "type")).and_then(Value::as_str);
    let rows: Option<Vec<&Plugin>> =
        std::iter::once(plugin.kind.as_str()).chain(ipam_kind).map(schema::plugin).collect();
    // A plugin that we do not know may take anything.
    let Some(rows) = rows else { return };
    let is_taken = |name: &str| rows.iter().any(|row| row.capabilities.contains(&name));
    for name in plugin.capabilities().filter(|name| !is_taken(name)) {
        let hint = match schema::taker(name) {
            Some(taker) => format!("; {taker} does"),
            None => suggestion(name, schema::capabilities().filter(|known| *known != name)),
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
        assert_eq!(check(&bed, &[("a.conflist", &text)]), [""; 0]);
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
        assert_eq!(found[1], "error: plugins[0].vlan: 4095 is not between 0 and 4094");
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
