//! The keys that every network configuration has.

use super::examine::Reading;
use super::json;
use super::{Attachment, Code, Error, NetworkName, Result, Success, Version};
use serde::de::{Deserialize, DeserializeOwned, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::ops::Range;
use std::rc::Rc;

/// A JSON object that is to be a network configuration: its bytes, and where in them the value of
/// each key stands. A value is decoded only when it is read, because values that this plugin does not
/// read (a list of a hundred thousand attachments) take ten times their size once they are decoded.
#[derive(Clone, Debug)]
pub(super) struct Keys {
    bytes: Rc<Vec<u8>>,
    values: BTreeMap<String, Range<usize>>,
}

impl Keys {
    /// # Errors
    /// Code 6 when it is no JSON object.
    pub(super) fn parse(bytes: Vec<u8>) -> Result<Self> {
        let found: BTreeMap<String, &RawValue> =
            serde_json::from_slice(&bytes).map_err(|error| decode(&error))?;
        let place = |value: &RawValue| {
            let start = value.get().as_ptr().addr() - bytes.as_ptr().addr();
            start..start + value.get().len()
        };
        let values = found.into_iter().map(|(key, value)| (key, place(value))).collect();
        Ok(Self { bytes: Rc::new(bytes), values })
    }

    /// The text of a key's value, found as [`json::get`] finds them.
    fn text(&self, key: &str) -> Option<&[u8]> {
        let is_it = |other: &str| other.eq_ignore_ascii_case(key);
        let folded = || Some(self.values.iter().find(|(other, _)| is_it(other))?.1);
        let place = self.values.get(key).or_else(folded)?;
        self.bytes.get(place.clone()).filter(|text| *text != b"null")
    }

    /// # Errors
    /// Code 6 when it cannot be decoded, as a number that is too large.
    fn get(&self, key: &str) -> Result<Option<Value>> {
        let value = self.text(key).map(serde_json::from_slice);
        value.transpose().map_err(|error| decode(&error))
    }

    /// The values of these keys, decoded.
    fn decode<'a>(&self, names: impl Iterator<Item = &'a str>) -> Result<Map<String, Value>> {
        let mut found = Map::new();
        for name in names {
            found.extend(self.get(name)?.map(|value| (name.to_owned(), value)));
        }
        Ok(found)
    }

    /// `cniVersion`; without it the version is 0.1.0, as in the Go library.
    ///
    /// # Errors
    /// Code 1 for a version that is not supported, 6 when it is no string.
    pub(super) fn version(&self) -> Result<Version> {
        match self.get("cniVersion")? {
            None => Ok(Version::V0_1_0),
            Some(Value::String(version)) if version.is_empty() => Ok(Version::V0_1_0),
            Some(Value::String(version)) => version.parse(),
            Some(_) => Err(decode(&"cniVersion: must be a string")),
        }
    }
}

/// The keys and values of an object in their order, also those that stand twice.
struct Pairs<'a>(Vec<(String, &'a RawValue)>);

impl<'de: 'a, 'a> Deserialize<'de> for Pairs<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Pairs(Vec::new()))
    }
}

impl<'de: 'a, 'a> Visitor<'de> for Pairs<'a> {
    type Value = Self;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<Self, A::Error> {
        while let Some(pair) = map.next_entry()? {
            self.0.push(pair);
        }
        Ok(self)
    }
}

fn decode(error: &dyn fmt::Display) -> Error {
    Error::new(Code::Decode, format!("error unmarshall network config: {error}"))
}

/// A network configuration as it came on stdin.
#[derive(Clone, Debug)]
pub struct Network {
    /// Unique on the node.
    pub name: NetworkName,
    keys: Keys,
    /// Records which keys are read. `None` in a plugin that serves a call.
    pub(super) reading: Option<Rc<Reading>>,
}

impl Network {
    /// Reads a configuration of any version.
    ///
    /// # Errors
    /// Code 6 when it is no JSON object, 7 when it has no valid name.
    pub fn parse(bytes: Vec<u8>) -> Result<Self> {
        Self::new(Keys::parse(bytes)?)
    }

    /// # Errors
    /// Code 7 when there is no valid name among the keys.
    pub(super) fn new(keys: Keys) -> Result<Self> {
        let name = match keys.get("name")? {
            None => return Err(Error::config("missing network name")),
            Some(Value::String(name)) if name.is_empty() => {
                return Err(Error::config("missing network name"));
            }
            Some(Value::String(name)) => name.parse()?,
            Some(_) => return Err(decode(&"name: must be a string")),
        };
        Ok(Self { name, keys, reading: None })
    }

    /// The bytes as they came, for delegates.
    pub(super) fn bytes(&self) -> &Rc<Vec<u8>> {
        &self.keys.bytes
    }

    /// The same object as a plugin's own configuration.
    ///
    /// # Errors
    /// Code 7, naming the key.
    pub fn config<T: DeserializeOwned>(&self) -> Result<T> {
        let read = match &self.reading {
            Some(reading) => reading.read(),
            None => json::from_value(&Value::Object(match json::fields_of::<T>() {
                [] => self.keys.decode(self.keys.values.keys().map(String::as_str))?,
                fields => self.keys.decode(fields.iter().copied())?,
            })),
        };
        read.map_err(|error| Error::config(format!("failed to load netconf: {error}")))
    }

    /// The value at a path of keys, for DEL and GC: `None` if it is missing, or is not a `T`. The
    /// configuration may have been edited since ADD, and a key that can no longer be read must not
    /// keep an attachment from being removed.
    pub fn tolerant<T: DeserializeOwned>(&self, path: &[&str]) -> Option<T> {
        let (first, rest) = path.split_first()?;
        let top = self.keys.get(first).ok()??;
        let mut value = &top;
        for key in rest {
            value = json::get(value.as_object()?, key)?;
        }
        json::from_value(value).ok()
    }

    /// A key that stands twice in the object at this path. Whoever reads JSON takes the last one, and
    /// nobody learns of the other.
    pub fn repeated_key(&self, path: &[&str]) -> Option<String> {
        let (first, rest) = path.split_first()?;
        let read = |text| serde_json::from_slice::<Pairs<'_>>(text).ok();
        let mut text = self.keys.text(first)?;
        for key in rest {
            let Pairs(pairs) = read(text)?;
            let (_, value) = pairs.iter().rev().find(|(name, _)| name.eq_ignore_ascii_case(key))?;
            text = value.get().as_bytes();
        }
        let Pairs(pairs) = read(text)?;
        let mut names = BTreeSet::new();
        pairs.into_iter().map(|(name, _)| name).find(|name| !names.insert(name.clone()))
    }

    /// The result of the previous plugin (ADD), or the final one (CHECK, DEL).
    ///
    /// # Errors
    /// Code 6 when it is not a result of a version that we know.
    pub(super) fn prev_result(&self, version: Version) -> Result<Option<Success>> {
        let Some(value) = self.keys.get("prevResult")? else { return Ok(None) };
        Success::decode(&value, version)
            .map(Some)
            .map_err(|error| error.context("could not parse prevResult"))
    }

    /// The valid attachments, for GC: from the specification's key, or from the one that early
    /// runtimes sent. Without either, or with `null`, no attachment is valid.
    ///
    /// # Errors
    /// Code 7 when an entry is malformed: deleting what a list does not name, without having
    /// understood all of it, is worse than deleting nothing.
    pub(super) fn valid_attachments(&self) -> Result<Vec<Attachment>> {
        for key in ["cni.dev/valid-attachments", "cni.dev/attachments"] {
            let Some(text) = self.keys.text(key) else { continue };
            let refuse = |error: &dyn fmt::Display| Error::config(format!("{key}: {error}"));
            // Entries are decoded one by one: of a hundred thousand, only one is in memory as a tree.
            let list: Vec<&RawValue> =
                serde_json::from_slice(text).map_err(|error| refuse(&error))?;
            let attachment = |entry: &&RawValue| {
                let value: Value = serde_json::from_str(entry.get()).map_err(|e| refuse(&e))?;
                json::from_value(&value).map_err(|error| refuse(&error))
            };
            return list.iter().map(attachment).collect();
        }
        Ok(Vec::new())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Network> {
        Network::parse(text.as_bytes().to_vec())
    }

    #[test]
    fn refuses_what_is_no_network() {
        for (text, code) in [
            ("", 6),
            ("[]", 6),
            ("{} x", 6),
            ("{\"name\": 5}", 6),
            ("{}", 7),
            ("{\"name\": \"\"}", 7),
            ("{\"name\": \"a/b\"}", 7),
        ] {
            assert_eq!(u32::from(parse(text).unwrap_err().code()), code, "{text}");
        }
    }

    #[test]
    fn a_key_that_stands_twice_is_found() {
        let twice = r#"{"name": "n", "Args": {"cni": {"x": 1}, "CNI": {"a": 1, "b": 2, "a": 1}},
            "once": {"a": 1, "A": 2}}"#;
        let network = parse(twice).unwrap();
        assert_eq!(network.repeated_key(&["args", "cni"]).as_deref(), Some("a"));
        for path in [&["args"][..], &["once"], &["once", "a"], &["name"], &["absent"], &[]] {
            assert_eq!(network.repeated_key(path), None, "{path:?}");
        }
    }

    #[test]
    fn valid_attachments_have_two_names_and_may_be_null() {
        let valid = |keys: &str| {
            let network = parse(&format!(r#"{{"name": "n"{keys}}}"#)).unwrap();
            network.valid_attachments().map(|list| list.len())
        };
        assert_eq!(valid("").unwrap(), 0);
        assert_eq!(valid(r#", "cni.dev/valid-attachments": null"#).unwrap(), 0);
        let list = r#"[{"containerID": "c1", "ifname": "eth0"}]"#;
        assert_eq!(valid(&format!(r#", "cni.dev/valid-attachments": {list}"#)).unwrap(), 1);
        assert_eq!(valid(&format!(r#", "cni.dev/attachments": {list}"#)).unwrap(), 1);
        assert!(valid(r#", "cni.dev/valid-attachments": [{"containerID": "c1"}]"#).is_err());
    }
}
