//! What the plugins themselves say of their keys: a configuration is read by the structs that they
//! read it with.

use super::{Findings, Level, join, suggestion};
use crate::plugins::Known;
use common::Error;
use common::cni::json::{self, get};
use common::cni::{Dns, Reading};
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::rc::Rc;

/// Who reads the object of a plugin: it, and the IPAM plugin that it runs. A plugin that is not ours
/// has a name only.
#[derive(Debug)]
pub(super) struct Readers<'a> {
    pub(super) plugin: (&'a str, Option<&'static Known>),
    pub(super) ipam: Option<(&'a str, Option<&'static Known>)>,
    /// Whether the IPAM plugin gets from the runtime, with each ADD, what it cannot do without.
    pub(super) is_completed: bool,
}

/// The keys that any plugin may have (specification, section "Plugin configuration objects"). Those
/// that are maps are the runtime's and other plugins' affair as well.
#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Common {
    r#type: String,
    name: String,
    cni_version: String,
    capabilities: BTreeMap<String, Option<bool>>,
    args: Map<String, Value>,
    runtime_config: Map<String, Value>,
    prev_result: Map<String, Value>,
    dns: Dns,
}

/// The one key of an IPAM section that is its reader's who runs the IPAM plugin.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Delegating {
    ipam: Delegate,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Delegate {
    r#type: String,
}

/// The keys of a list (specification, section "Configuration format"). What they hold was looked at
/// when the list was parsed.
#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct List {
    cni_version: Option<IgnoredAny>,
    cni_versions: Option<IgnoredAny>,
    name: Option<IgnoredAny>,
    disable_check: Option<IgnoredAny>,
    #[serde(rename = "disableGC")]
    disable_gc: Option<IgnoredAny>,
    load_only_inlined_plugins: Option<IgnoredAny>,
    plugins: Option<IgnoredAny>,
}

/// Names the keys of a list that no list has.
pub(super) fn of_list(document: Value, findings: &mut Findings) {
    let reading = Reading::new(document);
    drop(reading.read::<List>());
    Comparison { reading: &reading, bare: &reading, section: None, ipam: None, findings }.value(
        reading.document(),
        None,
        Some("a list"),
        "",
    );
}

/// As many wrong values of a plugin are named: for each, everything is read once more.
const MOST: usize = 50;

impl Readers<'_> {
    /// Has the plugins read their object, and tells what they do not know, cannot read, or refuse.
    /// What they know is in the reading that it gives.
    pub(super) fn examine(
        &self,
        mut document: Value,
        at: &str,
        findings: &mut Findings,
    ) -> Rc<Reading> {
        let mut misread: Vec<json::Error> = Vec::new();
        loop {
            let reading = Reading::new(document.clone());
            let refusals = self.read(&reading);
            let error = reading.misread();
            // A reader stops at the first value that it cannot read. Without that value it comes to
            // the next one.
            let is_enough = misread.len() == MOST;
            if !is_enough && error.as_ref().is_some_and(|error| forget(&mut document, error.path()))
            {
                misread.extend(error);
                continue;
            }
            misread.extend(error);
            let is_wrong = !misread.is_empty();
            for (index, error) in misread.iter().enumerate() {
                // A value was left out because it cannot be read: what then misses it is no other fault.
                let mut earlier = misread[..index].iter();
                if !earlier.any(|earlier| earlier.path().starts_with(error.path())) {
                    findings.add(Level::Error, join(at, error.path()), error.sentence());
                }
            }
            if is_enough {
                let text = format!("more than {MOST} values cannot be read: these are the first");
                findings.add(Level::Note, at.to_owned(), text);
            }
            self.unknown(&reading, at, findings);
            for (key, error) in refusals.into_iter().filter(|_| !is_wrong) {
                findings.add(Level::Error, join(at, key), error.to_string());
            }
            return reading;
        }
    }

    /// Gives what they refuse, with the key that it is under.
    fn read(&self, reading: &Rc<Reading>) -> Vec<(&'static str, Error)> {
        let mut refusals = Vec::new();
        // An error is kept in the reading.
        drop(reading.read::<Common>());
        if let Some((_, ipam)) = self.ipam {
            drop(reading.read::<Delegating>());
            let refused = ipam.and_then(|known| (known.examine)(reading).err());
            refusals.extend(refused.filter(|_| !self.is_completed).map(|error| ("ipam", error)));
        }
        let refused = self.plugin.1.and_then(|known| (known.examine)(reading).err());
        refusals.extend(refused.map(|error| ("", error)));
        refusals
    }

    fn unknown(&self, reading: &Reading, at: &str, findings: &mut Findings) {
        let (name, known) = self.plugin;
        let document = reading.document();
        let section = document.as_object().and_then(|keys| get(keys, "ipam"));
        let ipam = self.ipam.filter(|(_, known)| known.is_some()).map(|(name, _)| name);
        let bare = Reading::new(bare(document, 1).unwrap_or_default());
        drop(self.read(&bare));
        let mut comparison = Comparison { reading, bare: &bare, section, ipam, findings };
        comparison.value(document, Some(bare.document()), known.map(|_| name), at);
    }
}

/// The document without what a plugin could refuse, down to `depth`. One that refuses reads no
/// further, and its other keys would look as if it did not know them.
fn bare(document: &Value, depth: u8) -> Option<Value> {
    let keys = document.as_object()?.iter();
    let kept = keys.filter_map(|(key, value)| match key.as_str() {
        "name" | "cniVersion" | "type" => Some((key.clone(), value.clone())),
        _ if depth > 0 => Some((key.clone(), bare(value, depth - 1)?)),
        _ => None,
    });
    Some(Value::Object(kept.collect()))
}

/// A document compared with what its readers ask for. Without an owner, who would not know it, a key
/// is not looked at.
struct Comparison<'a> {
    reading: &'a Reading,
    bare: &'a Reading,
    /// The value of `ipam`, and who owns what is in it.
    section: Option<&'a Value>,
    ipam: Option<&'a str>,
    findings: &'a mut Findings,
}

impl Comparison<'_> {
    /// `bare` is the same place in the bare document, if it is there.
    fn value(&mut self, given: &Value, bare: Option<&Value>, owner: Option<&str>, at: &str) {
        let is_section = self.section.is_some_and(|section| std::ptr::eq(section, given));
        let owner = if is_section { self.ipam } else { owner };
        match given {
            Value::Object(keys) => {
                self.object(keys, bare.and_then(Value::as_object), owner, at);
            }
            Value::Array(items) => {
                for (index, item) in items.iter().enumerate() {
                    self.value(item, None, owner, &format!("{at}[{index}]"));
                }
            }
            _ => {}
        }
    }

    fn object(
        &mut self,
        keys: &Map<String, Value>,
        bare: Option<&Map<String, Value>>,
        owner: Option<&str>,
        at: &str,
    ) {
        let Some(mut known) = self.reading.known(keys) else { return };
        known.extend(bare.and_then(|keys| self.bare.known(keys)).unwrap_or_default());
        for (key, value) in keys {
            let path = join(at, key);
            // The runtime's own, and what people write because JSON has no comments.
            if key.starts_with("cni.dev/") || key.starts_with("//") {
                continue;
            }
            let name = known.iter().find(|name| *name == key);
            let name = name.or_else(|| known.iter().find(|name| name.eq_ignore_ascii_case(key)));
            match (name, owner) {
                (Some(name), Some(_)) if name != key => {
                    let text = format!("it is usually written `{name}`");
                    self.findings.add(Level::Note, &path, text);
                }
                (None, Some(owner)) => {
                    let hint = suggestion(key, known.iter().copied());
                    let text = format!("{owner} does not know this key{hint}");
                    self.findings.add(Level::Warning, &path, text);
                }
                _ => {}
            }
            self.value(value, bare.and_then(|keys| keys.get(key)), owner, &path);
        }
    }
}

/// Takes the innermost key of a path away, so that the rest can be read; false if there is none.
fn forget(document: &mut Value, path: &str) -> bool {
    match document {
        Value::Object(keys) => {
            // A reader names keys as they are usually written.
            let begins = |key: &&String| {
                let rest = path.get(key.len()..).unwrap_or("?");
                let head = path.get(..key.len()).unwrap_or_default();
                head.eq_ignore_ascii_case(key) && (rest.is_empty() || rest.starts_with(['.', '[']))
            };
            let Some(key) = keys.keys().filter(begins).max_by_key(|key| key.len()).cloned() else {
                return false;
            };
            let rest = path.get(key.len()..).unwrap_or_default().trim_start_matches('.');
            keys.get_mut(&key).is_some_and(|inner| forget(inner, rest))
                || keys.remove(&key).is_some()
        }
        Value::Array(items) => {
            let step = path.strip_prefix('[').and_then(|path| path.split_once(']'));
            let Some((index, rest)) = step else { return false };
            let item = index.parse::<usize>().ok().and_then(|index| items.get_mut(index));
            item.is_some_and(|item| forget(item, rest.trim_start_matches('.')))
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plugins;
    use serde_json::json;

    fn found(document: Value) -> Vec<String> {
        let name = |keys: &Value| keys["type"].as_str().unwrap_or_default().to_owned();
        let (plugin, ipam) = (name(&document), name(&document["ipam"]));
        let readers = Readers {
            plugin: (&plugin, plugins::find(&plugin)),
            ipam: (!ipam.is_empty()).then(|| (ipam.as_str(), plugins::find(&ipam))),
            is_completed: false,
        };
        let mut findings = Findings::default();
        let Value::Object(mut keys) = document else { panic!("an object") };
        keys.extend([("name".to_owned(), "n".into()), ("cniVersion".to_owned(), "1.1.0".into())]);
        readers.examine(keys.into(), "x", &mut findings);
        findings.0.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn unknown_keys_are_compared_with_known_ones() {
        assert_eq!(
            found(json!({
                "type": "bridge", "isGatway": true, "hairpinmode": true, "somethingElse": 1,
                "cni.dev/x": 1, "//": "a comment", "mtu": null, "args": {"cni": {"labels": []}},
                "vlanTrunk": [{"id": 2, "Id": 3, "ix": 4}], "dns": {"nameserver": []},
                "ipam": {"type": "host-local", "ranges": [[{"subnet": "10.1.0.0/24", "gatway": ""}]],
                    "routes": [{"dst": "0.0.0.0/0", "metric": 5}]},
            })),
            [
                "warning: x.dns.nameserver: bridge does not know this key; did you mean \
                 `nameservers`?",
                "note: x.hairpinmode: it is usually written `hairpinMode`",
                "warning: x.ipam.ranges[0][0].gatway: host-local does not know this key; did you \
                 mean `gateway`?",
                "warning: x.ipam.routes[0].metric: host-local does not know this key",
                "warning: x.isGatway: bridge does not know this key; did you mean `isGateway`?",
                "warning: x.somethingElse: bridge does not know this key",
                "note: x.vlanTrunk[0].Id: it is usually written `id`",
                "warning: x.vlanTrunk[0].ix: bridge does not know this key; did you mean `id`?",
            ]
        );
    }

    #[test]
    fn a_key_belongs_to_whoever_reads_it() {
        for (document, wrong) in [
            (json!({"type": "bridge", "ranges": []}), "warning: x.ranges: bridge does not"),
            (json!({"type": "portmap", "ipam": {}}), "warning: x.ipam: portmap does not"),
            (
                json!({"type": "bridge", "ipam": {"type": "host-local", "subnet": "10.1.0.0/24",
                    "bridge": "br0"}}),
                "warning: x.ipam.bridge: host-local does not know this key",
            ),
            // Of somebody else's plugin, what is ours is looked at.
            (
                json!({"type": "calico", "mtu": "x", "ipam": {"type": "host-local", "sticky": "pod",
                    "subnet": "10.1.0.0/24", "graceage": 2}}),
                "note: x.ipam.graceage: it is usually written `graceAge`",
            ),
            (
                json!({"type": "bridge", "forceAdress": true, "ipam": {"type": "whereabouts", "x": 1}}),
                "warning: x.forceAdress: bridge does not know this key; did you mean `forceAddress`?",
            ),
        ] {
            let found = found(document);
            assert!(found.len() == 1 && found[0].starts_with(wrong), "{found:?}");
        }
    }

    #[test]
    fn every_value_that_cannot_be_read_is_named_at_once() {
        let mut found = found(json!({
            "type": "bridge", "isGateway": "true", "MTU": 1.5, "vlan": "5", "ipMasq": "v5",
            "vlanTrunk": [{"id": 1}, {"id": [], "minID": {}}], "capabilities": {"mac": "on"},
            "odd": 1,
            "ipam": {"type": "host-local", "ranges": {}, "reclaim": "often",
                "routes": [{"dst": 5}], "subnet": "10.1.0.0"},
        }));
        found.sort_unstable();
        assert_eq!(
            found,
            [
                "error: x.capabilities.mac: must be true or false, not a string",
                "error: x.ipMasq: invalid value: string \"v5\", expected true, false, \"v4\" or \
                 \"v6\"",
                "error: x.ipam.ranges: must be a list, not an object",
                "error: x.ipam.reclaim: unknown variant `often`, expected one of `boot`, `netns`, \
                 `never`",
                "error: x.ipam.routes[0].dst: must be a string, not 5",
                "error: x.ipam.subnet: invalid CIDR address: 10.1.0.0 (an address and a length, as \
                 10.1.0.0/24)",
                "error: x.isGateway: must be true or false, not a string",
                "error: x.mtu: must be a whole number, not 1.5",
                "error: x.vlan: must be a number, not a string",
                "error: x.vlanTrunk[1].id: must be a number, not a list",
                "error: x.vlanTrunk[1].minID: must be a number, not an object",
                "warning: x.odd: bridge does not know this key",
            ]
        );
    }

    #[test]
    fn what_is_well_formed_and_makes_no_sense_is_refused_by_the_plugin() {
        let both = json!({"type": "bridge", "hairpinMode": true, "promiscMode": true});
        assert!(
            found(both)[0].starts_with("error: x: cannot set hairpin mode and promiscuous mode")
        );
        for (ranges, wrong) in [
            (
                json!([[{"subnet": "10.1.0.0/24", "exclude": ["10.1.0.0/24"]}]]),
                "invalid range set 0: range 10.1.0.1-10.1.0.254 has no address to hand out",
            ),
            (json!([[]]), "invalid range set 0: empty range set"),
            (json!([]), "no IP ranges specified"),
            (json!([[{}]]), "invalid range set 0: IP <nil> not v4 nor v6"),
            (
                json!([[{"subnet": "10.1.0.1/24"}]]),
                "invalid range set 0: Network has host bits set",
            ),
            (
                json!([[{"subnet": "10.1.0.0/24"}], [{"subnet": "10.0.0.0/8"}]]),
                "range set 0 overlaps with 1",
            ),
        ] {
            let ipam = json!({"type": "host-local", "ranges": ranges});
            let found = found(json!({"type": "bridge", "ipam": ipam}));
            assert!(found.len() == 1, "{found:?}");
            assert!(found[0].starts_with(&format!("error: x.ipam: {wrong}")), "{found:?}");
        }
    }

    #[test]
    fn what_a_plugin_refuses_does_not_hide_its_keys() {
        let all = json!({
            "type": "bridge", "isGateway": true, "ipMasq": true, "ipMasqBackend": "", "dns": {},
            "enabledad": true, "mtu": 1500, "portIsolation": true, "vlanTrunk": [{"id": 5}],
            "args": {"cni": {}}, "runtimeConfig": {}, "oddd": 1,
            "ipam": {"type": "host-local", "graceAge": 1, "dataDir": "/x", "sticky": "pod",
                "exclude": [], "resolvConf": "", "statusOnFull": "fail", "routes": [], "oddd": 1},
        });
        for refused in [
            json!({"hairpinMode": true, "promiscMode": true}),
            json!({"vlan": 5000}),
            json!({"bridge": "a/b"}),
            json!({"ipMasqBackend": "x"}),
            json!({"mtu": 1_000_000}),
            json!({"runtimeConfig": {"mac": "x"}}),
            json!({"disableContainerInterface": true}),
        ] {
            let mut document = all.clone();
            document.as_object_mut().unwrap().extend(refused.as_object().unwrap().clone());
            let found = found(document);
            assert!(found[0].starts_with("warning: x.ipam.oddd: host-local does"), "{found:?}");
            assert!(found[1].starts_with("warning: x.oddd: bridge does not know"), "{found:?}");
            assert!(found[2].starts_with("error: x.ipam: no IP ranges specified"), "{found:?}");
            assert!(found[3].starts_with("error: x: ") && found.len() == 4, "{found:?}");
        }
        for (kind, refused) in [("portmap", "snat"), ("firewall", "ingressPolicy")] {
            let found = found(json!({"type": kind, "backend": "x", refused: null, "oddd": 1}));
            assert!(found[0].starts_with("warning: x.oddd: ") && found.len() == 2, "{found:?}");
        }
    }
}
