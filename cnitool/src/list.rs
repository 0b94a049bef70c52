//! A network configuration list (specification, section "Network configuration format").

use common::cni::json::type_of;
use common::cni::{Version, json};
use common::{Code, Error, Result};
use serde_json::{Map, Value, json};
use std::fmt::{self, Display};
use std::str::FromStr;

/// A network: its name, its version, and the chain of plugins that makes it.
#[derive(Clone, Debug)]
pub struct ConfigList {
    /// Unique on the node.
    pub name: common::cni::NetworkName,
    /// The version that the plugins are called with, as written: it may be one that only they know.
    pub version: String,
    /// The runtime must not issue CHECK.
    pub disable_check: bool,
    /// The runtime must not issue GC.
    pub disable_gc: bool,
    /// Plugins come from this file only.
    pub only_inlined: bool,
    /// In the order of ADD.
    pub plugins: Vec<PluginConfig>,
    /// The list as it was written.
    pub bytes: Vec<u8>,
}

/// One plugin of a list.
#[derive(Clone, Debug)]
pub struct PluginConfig {
    /// The name of its executable.
    pub kind: String,
    /// The whole object.
    pub keys: Map<String, Value>,
}

impl PluginConfig {
    /// # Errors
    /// Code 7 when it is no object or has no `type`.
    pub fn new(value: Value) -> Result<Self> {
        let Value::Object(keys) = value else {
            return Err(Error::config("a plugin's configuration is a JSON object"));
        };
        match json::get(&keys, "type") {
            Some(Value::String(kind)) if !kind.is_empty() => Ok(Self { kind: kind.clone(), keys }),
            Some(Value::String(_)) | None => Err(Error::config("missing 'type'")),
            Some(_) => Err(Error::config("'type' must be a string")),
        }
    }

    /// The `type` of its section `ipam`, if it has one.
    pub fn ipam_kind(&self) -> Option<&Value> {
        json::get(json::get(&self.keys, "ipam")?.as_object()?, "type")
    }

    /// The capabilities that are switched on.
    pub fn capabilities(&self) -> impl Iterator<Item = &str> {
        let capabilities = json::get(&self.keys, "capabilities").and_then(Value::as_object);
        let capabilities = capabilities.into_iter().flatten();
        capabilities.filter(|(_, on)| **on == Value::Bool(true)).map(|(name, _)| name.as_str())
    }
}

impl ConfigList {
    /// Reads a list. Plugins from beside the file are not yet in it, so there may be none.
    ///
    /// # Errors
    /// Code 6 when it is not JSON, 7 when it is not a list.
    pub fn parse(bytes: Vec<u8>) -> Result<Self> {
        let keys = object(&bytes)?;
        let error =
            |what: String| Error::config(format!("error parsing configuration list: {what}"));
        let name = name(&keys).map_err(|e| error(e.to_string()))?;
        let flag = |key| flag(&keys, key).map_err(error);
        let only_inlined = flag("loadOnlyInlinedPlugins")?;
        let mut plugins = Vec::new();
        match json::get(&keys, "plugins") {
            None if only_inlined => {
                let what = "`loadOnlyInlinedPlugins` is true, and no 'plugins' key";
                return Err(error(what.into()));
            }
            None => {}
            Some(Value::Array(items)) if items.is_empty() => {
                return Err(error("no plugins in list".into()));
            }
            Some(Value::Array(items)) => {
                for (index, item) in items.iter().enumerate() {
                    let plugin = PluginConfig::new(item.clone());
                    plugins.push(plugin.map_err(|e| error(format!("plugins[{index}]: {e}")))?);
                }
            }
            Some(other) => {
                let found = type_of(other);
                return Err(error(format!("invalid 'plugins' type {found}: must be a list")));
            }
        }
        Ok(Self {
            name,
            version: version(&keys).map_err(error)?,
            disable_check: flag("disableCheck")?,
            disable_gc: flag("disableGC")?,
            only_inlined,
            plugins,
            bytes,
        })
    }

    /// Reads the configuration of a single plugin, as 0.4.0 and older had it, as a list of one.
    ///
    /// # Errors
    /// Code 6 when it is not JSON, 7 when it is not a plugin's configuration.
    pub fn parse_single(bytes: &[u8]) -> Result<Self> {
        let keys = object(bytes)?;
        let error = |what: &str| Error::config(format!("error parsing configuration: {what}"));
        if json::get(&keys, "type").is_none() && json::get(&keys, "plugins").is_some() {
            return Err(error("missing 'type'").details(
                "the file holds a list: runtimes read lists from files that end in .conflist",
            ));
        }
        let plugin = PluginConfig::new(Value::Object(keys)).map_err(|e| error(&e.to_string()))?;
        let name = name(&plugin.keys).map_err(|e| error(&e.to_string()))?;
        let version = match json::get(&plugin.keys, "cniVersion") {
            None => "",
            Some(Value::String(version)) => version,
            Some(_) => return Err(error("invalid cniVersion type: must be a string")),
        };
        let list = json!({
            "name": name.as_str(), "cniVersion": version, "plugins": [plugin.keys],
        });
        Self::parse(list.to_string().into_bytes())
    }

    /// Whether the list's version is `version` or newer.
    ///
    /// # Errors
    /// Code 6 when the list's version is no version.
    pub fn is_at_least(&self, version: Version) -> Result<bool> {
        let parse = |text: &str| text.parse::<Release>().map_err(|e| Error::new(Code::Decode, e));
        Ok(parse(&self.version)? >= parse(version.as_str())?)
    }
}

fn object(bytes: &[u8]) -> Result<Map<String, Value>> {
    let value = serde_json::from_slice(bytes)
        .map_err(|e| Error::new(Code::Decode, format!("error parsing configuration: {e}")))?;
    match value {
        Value::Object(keys) => Ok(keys),
        other => {
            let found = type_of(&other);
            let msg = format!("error parsing configuration: must be a JSON object, not {found}");
            Err(Error::new(Code::Decode, msg))
        }
    }
}

fn name(keys: &Map<String, Value>) -> Result<common::cni::NetworkName> {
    match json::get(keys, "name") {
        None => Err(Error::config("no name")),
        Some(Value::String(name)) if name.is_empty() => Err(Error::config("no name")),
        Some(Value::String(name)) => name.parse(),
        Some(other) => Err(Error::config(format!("invalid name type {}", type_of(other)))),
    }
}

/// A boolean; 0.4.0 documented one of them as a string.
fn flag(keys: &Map<String, Value>, key: &str) -> Result<bool, String> {
    match json::get(keys, key) {
        None => Ok(false),
        Some(Value::Bool(value)) => Ok(*value),
        Some(Value::String(text)) if text.eq_ignore_ascii_case("true") => Ok(true),
        Some(Value::String(text)) if text.eq_ignore_ascii_case("false") => Ok(false),
        Some(Value::String(text)) => Err(format!("invalid value {text:?} for {key}")),
        Some(other) => Err(format!("invalid value {other} for {key}")),
    }
}

/// `cniVersion` as written; with `cniVersions` the newest of both that we know.
fn version(keys: &Map<String, Value>) -> Result<String, String> {
    let single = match json::get(keys, "cniVersion") {
        None => "",
        Some(Value::String(version)) => version,
        Some(other) => return Err(format!("invalid cniVersion type {}", type_of(other))),
    };
    let several = match json::get(keys, "cniVersions") {
        None => return Ok(single.to_owned()),
        Some(Value::Array(several)) => several,
        Some(other) => return Err(format!("invalid type for cniVersions: {}", type_of(other))),
    };
    let mut candidates = Vec::new();
    if !single.is_empty() {
        candidates.push(single);
    }
    for entry in several {
        let invalid = || format!("invalid type for cniVersions: {entry} is no string");
        candidates.push(entry.as_str().ok_or_else(invalid)?);
    }
    let newest: Release = Version::V1_1_0.as_str().parse()?;
    let mut best: Option<(Release, &str)> = None;
    for text in candidates {
        let release = text.parse().map_err(|e: String| format!("cniVersions: {e}"))?;
        if release <= newest && best.is_none_or(|(known, _)| release > known) {
            best = Some((release, text));
        }
    }
    match best {
        Some((_, text)) => Ok(text.to_owned()),
        None if several.is_empty() => Ok(String::new()),
        None => Err(format!("no version in cniVersions is {} or older", Version::V1_1_0)),
    }
}

/// Three numbers that compare; missing ones are 0, and no text at all is 0.1.0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Release([u32; 3]);

impl FromStr for Release {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Ok(Self([0, 1, 0]));
        }
        let invalid = || format!("invalid version {text:?} (three numbers, as 1.1.0)");
        let mut numbers = [0; 3];
        let mut parts = text.split('.');
        for (number, part) in numbers.iter_mut().zip(parts.by_ref()) {
            *number = part.parse().map_err(|_| invalid())?;
        }
        if parts.next().is_some() { Err(invalid()) } else { Ok(Self(numbers)) }
    }
}

impl Display for Release {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [major, minor, micro] = self.0;
        write!(f, "{major}.{minor}.{micro}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(keys: &str) -> Result<ConfigList> {
        ConfigList::parse(format!(r#"{{"name": "n", {keys}}}"#).into_bytes())
    }

    fn with_plugin(keys: &str) -> Result<ConfigList> {
        parse(&format!(r#""plugins": [{{"type": "p"}}], {keys}"#))
    }

    fn refusal(outcome: Result<ConfigList>) -> String {
        outcome.unwrap_err().to_string()
    }

    #[test]
    fn what_is_no_list_is_refused_with_a_reason() {
        let list = |text: &str| refusal(ConfigList::parse(text.as_bytes().to_vec()));
        assert!(list("nonsense").starts_with("error parsing configuration: "));
        assert!(list("[]").contains("must be a JSON object"));
        for (text, reason) in [
            ("{}", "no name"),
            (r#"{"name": ""}"#, "no name"),
            (r#"{"name": 1}"#, "invalid name type a number"),
            (r#"{"name": "a/b"}"#, "invalid characters found in network name"),
            (r#"{"name": "n", "cniVersion": 1}"#, "invalid cniVersion type a number"),
            (r#"{"name": "n", "plugins": {}}"#, "invalid 'plugins' type an object"),
            (r#"{"name": "n", "plugins": []}"#, "no plugins in list"),
            (r#"{"name": "n", "plugins": [{}]}"#, "plugins[0]: missing 'type'"),
            (r#"{"name": "n", "plugins": [5]}"#, "plugins[0]: a plugin's configuration"),
        ] {
            let prefix = "error parsing configuration list: ";
            let error = list(text);
            assert!(error.starts_with(&format!("{prefix}{reason}")), "{text}: {error}");
        }
    }

    #[test]
    fn booleans_may_be_strings() {
        for (value, wanted) in [("true", true), (r#""TRUE""#, true), (r#""false""#, false)] {
            let list = with_plugin(&format!(r#""disableCheck": {value}"#)).unwrap();
            assert_eq!(list.disable_check, wanted);
        }
        assert!(!with_plugin(r#""disableGC": null"#).unwrap().disable_gc);
        assert!(with_plugin(r#""disableGC": true"#).unwrap().disable_gc);
        let error = refusal(with_plugin(r#""disableCheck": "adsf""#));
        assert!(error.contains(r#"invalid value "adsf" for disableCheck"#), "{error}");
    }

    #[test]
    fn only_inlined_plugins_need_to_be_there() {
        assert!(with_plugin(r#""loadOnlyInlinedPlugins": true"#).unwrap().only_inlined);
        assert!(!with_plugin(r#""x": 1"#).unwrap().only_inlined);
        assert!(parse(r#""loadOnlyInlinedPlugins": false"#).unwrap().plugins.is_empty());
        let error = refusal(parse(r#""loadOnlyInlinedPlugins": true"#));
        assert!(error.ends_with("`loadOnlyInlinedPlugins` is true, and no 'plugins' key"));
        let error = refusal(with_plugin(r#""loadOnlyInlinedPlugins": "sfas""#));
        assert!(error.contains("for loadOnlyInlinedPlugins"), "{error}");
    }

    #[test]
    fn the_newest_version_that_we_know_is_chosen() {
        for (keys, version) in [
            (r#""cniVersion": "1.2.3""#, "1.2.3"),
            (r#""cniVersions": ["0.1.0", "0.4.0", "0.3.0"]"#, "0.4.0"),
            (r#""cniVersions": ["0.4.0", "1.0.0", "9.0.0"]"#, "1.0.0"),
            (r#""cniVersion": "1.1.0", "cniVersions": ["0.4.0"]"#, "1.1.0"),
            (r#""cniVersion": "0.3.1", "cniVersions": ["1.0.0"]"#, "1.0.0"),
            (r#""cniVersion": "0.3.1", "cniVersions": []"#, "0.3.1"),
            (r#""cniVersions": []"#, ""),
            (r#""x": 1"#, ""),
        ] {
            assert_eq!(with_plugin(keys).unwrap().version, version, "{keys}");
        }
        assert!(refusal(with_plugin(r#""cniVersions": ["1.1.0", "nope"]"#)).contains("\"nope\""));
        assert!(refusal(with_plugin(r#""cniVersions": [1]"#)).contains("invalid type for"));
        assert!(refusal(with_plugin(r#""cniVersions": "1.1.0""#)).contains("invalid type for"));
    }

    #[test]
    fn versions_compare_as_numbers() {
        let at_least = |text: &str, version| {
            with_plugin(&format!(r#""cniVersion": "{text}""#)).unwrap().is_at_least(version)
        };
        assert!(at_least("1.10.0", Version::V1_1_0).unwrap());
        assert!(at_least("1.1", Version::V1_1_0).unwrap());
        assert!(!at_least("", Version::V0_2_0).unwrap());
        assert!(at_least("1.0.0.0", Version::V0_4_0).is_err());
        assert!(at_least("x", Version::V0_4_0).is_err());
    }

    #[test]
    fn a_single_plugin_becomes_a_list_of_one() {
        let list = ConfigList::parse_single(
            br#"{"name": "n", "type": "p", "cniVersion": "0.3.1", "k": 1}"#,
        )
        .unwrap();
        assert_eq!((list.name.as_str(), list.version.as_str()), ("n", "0.3.1"));
        assert_eq!(list.plugins[0].kind, "p");
        assert_eq!(list.plugins[0].keys["k"], 1);
        let written: Value = serde_json::from_slice(&list.bytes).unwrap();
        assert_eq!(written["plugins"][0]["type"], "p");
        let single = |text: &str| refusal(ConfigList::parse_single(text.as_bytes()));
        assert_eq!(single(r#"{"name": "n"}"#), "error parsing configuration: missing 'type'");
        assert!(single(r#"{"name": "n", "plugins": []}"#).contains(".conflist"));
        assert!(single(r#"{"type": "p"}"#).ends_with("no name"));
    }

    #[test]
    fn capabilities_are_those_that_are_true() {
        let list = parse(
            r#""plugins": [{"type": "p", "capabilities": {"a": true, "b": false, "c": "true"}}]"#,
        );
        let list = list.unwrap();
        assert_eq!(list.plugins[0].capabilities().collect::<Vec<_>>(), ["a"]);
    }
}
