//! The keys that every network configuration has.

use super::json;
use super::{Attachment, Code, Error, NetworkName, Result, Success, Version};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

/// The keys of a JSON object that is to be a network configuration.
#[derive(Debug)]
pub(super) struct Keys(Map<String, Value>);

impl Keys {
    /// # Errors
    /// Code 6 when it is no JSON object.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self> {
        match serde_json::from_slice(bytes).map_err(|error| decode(&error))? {
            Value::Object(keys) => Ok(Self(keys)),
            _ => Err(decode(&"a network configuration is a JSON object")),
        }
    }

    /// `cniVersion`; absent is 0.1.0, as in every decoder.
    ///
    /// # Errors
    /// Code 1 when it is none of ours, 6 when it is no string.
    pub(super) fn version(&self) -> Result<Version> {
        match json::get(&self.0, "cniVersion") {
            None => Ok(Version::V0_1_0),
            Some(Value::String(version)) if version.is_empty() => Ok(Version::V0_1_0),
            Some(Value::String(version)) => version.parse(),
            Some(_) => Err(decode(&"cniVersion: must be a string")),
        }
    }
}

fn decode(error: &dyn std::fmt::Display) -> Error {
    Error::new(Code::Decode, format!("error unmarshall network config: {error}"))
}

/// A network configuration as it came on stdin.
#[derive(Clone, Debug)]
pub struct Network {
    /// Unique on the node.
    pub name: NetworkName,
    bytes: Vec<u8>,
    keys: Map<String, Value>,
}

impl Network {
    /// Reads a configuration, without a look at its version.
    ///
    /// # Errors
    /// Code 6 when it is no JSON object, 7 when it has no valid name.
    pub fn parse(bytes: Vec<u8>) -> Result<Self> {
        let keys = Keys::parse(&bytes)?;
        Self::new(bytes, keys)
    }

    /// # Errors
    /// Code 7 when there is no valid name among the keys.
    pub(super) fn new(bytes: Vec<u8>, keys: Keys) -> Result<Self> {
        let name = match json::get(&keys.0, "name") {
            None => return Err(Error::config("missing network name")),
            Some(Value::String(name)) if name.is_empty() => {
                return Err(Error::config("missing network name"));
            }
            Some(Value::String(name)) => name.parse()?,
            Some(_) => return Err(decode(&"name: must be a string")),
        };
        Ok(Self { name, bytes, keys: keys.0 })
    }

    /// The bytes as they came, for delegates.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The same object as a plugin's own configuration.
    ///
    /// # Errors
    /// Code 7, naming the key.
    pub fn config<T: DeserializeOwned>(&self) -> Result<T> {
        let value = Value::Object(self.keys.clone());
        json::from_value(&value)
            .map_err(|error| Error::config(format!("failed to load netconf: {error}")))
    }

    /// What stands at the end of a path of keys, for DEL and GC: `None` if it is not there, or is
    /// not a `T`. Somebody may have edited the configuration since ADD, and a key that cannot be
    /// understood any more must not keep an attachment from being removed.
    pub fn tolerant<T: DeserializeOwned>(&self, path: &[&str]) -> Option<T> {
        let (first, rest) = path.split_first()?;
        let mut value = json::get(&self.keys, first)?;
        for key in rest {
            value = json::get(value.as_object()?, key)?;
        }
        json::from_value(value).ok()
    }

    /// The result of the previous plugin (ADD), or the final one (CHECK, DEL).
    ///
    /// # Errors
    /// Code 6 when it is not a result of a version that we know.
    pub(super) fn prev_result(&self, version: Version) -> Result<Option<Success>> {
        let Some(value) = json::get(&self.keys, "prevResult") else { return Ok(None) };
        Success::decode(value, version)
            .map(Some)
            .map_err(|error| error.context("could not parse prevResult"))
    }

    /// Who is alive, for GC: the specification's key, or the one that early runtimes sent. None of
    /// them, and `null`, mean that nobody is.
    ///
    /// # Errors
    /// Code 7 when an entry is malformed: deleting by a list that was not understood is worse than
    /// deleting nothing.
    pub(super) fn valid_attachments(&self) -> Result<Vec<Attachment>> {
        let list = ["cni.dev/valid-attachments", "cni.dev/attachments"]
            .into_iter()
            .find_map(|key| Some((key, json::get(&self.keys, key)?)));
        let Some((key, list)) = list else { return Ok(Vec::new()) };
        json::from_value(list).map_err(|error| Error::config(format!("{key}: {error}")))
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
