//! What ADD answered, kept for CHECK, DEL and GC: one file for each attachment, in the place and
//! format of the Go library, so that either can take over from the other.

use crate::attachment::Target;
use crate::list::ConfigList;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use common::cni::{Attachment, Context as _, NetworkName, Success, Version, report};
use common::{Code, Error, Result, file};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, ErrorKind, Write as _};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

const KIND: &str = "cniCacheV1";

/// In bytes. A pod with thousands of host ports has less than one of them.
const LARGEST: u64 = 16 << 20;

/// A directory of results.
#[derive(Clone, Debug)]
pub struct Cache {
    directory: PathBuf,
}

impl Default for Cache {
    /// Where every runtime keeps its results.
    fn default() -> Self {
        Self::new("/var/lib/cni")
    }
}

/// A result, with what ADD was told.
#[derive(Clone, Debug)]
pub struct Cached {
    /// The network that it is attached to.
    pub network: NetworkName,
    /// What ADD was told; only the attachment in a file of old runtimes.
    pub target: Target,
    /// The list that the network was made from; empty in a file of old runtimes.
    pub config: Vec<u8>,
    /// In the version in which the last plugin answered.
    pub result: Value,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Entry {
    kind: String,
    container_id: String,
    config: String,
    if_name: String,
    network_name: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    netns: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    cni_args: Vec<(String, String)>,
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    capability_args: Map<String, Value>,
    result: Value,
}

impl Cache {
    /// A cache under `directory`, which need not exist.
    pub fn new(directory: impl Into<PathBuf>) -> Self {
        Self { directory: directory.into() }
    }

    fn results(&self) -> PathBuf {
        self.directory.join("results")
    }

    /// The three names have no slash in them.
    fn name(network: &NetworkName, attachment: &Attachment) -> String {
        format!("{network}-{}-{}", attachment.container, attachment.ifname)
    }

    /// Where the result of an attachment is kept.
    pub fn path(&self, network: &NetworkName, attachment: &Attachment) -> PathBuf {
        self.results().join(Self::name(network, attachment))
    }

    /// Keeps a result. A reader sees the file before or after, never half of it.
    ///
    /// # Errors
    /// Code 5, naming the file.
    pub fn write(&self, list: &ConfigList, target: &Target, result: &Value) -> Result<()> {
        let attachment = &target.attachment;
        let entry = Entry {
            kind: KIND.to_owned(),
            container_id: attachment.container.to_string(),
            config: BASE64_STANDARD.encode(&list.bytes),
            if_name: attachment.ifname.to_string(),
            network_name: list.name.to_string(),
            netns: target.netns.clone(),
            cni_args: target.args.clone(),
            capability_args: target.capability_args.clone(),
            result: result.clone(),
        };
        let bytes = serde_json::to_vec(&entry).map_err(|e| Error::internal(e.to_string()))?;
        let path = self.path(&list.name, attachment);
        let temporary = self.results().join(format!(".{}.tmp", Self::name(&list.name, attachment)));
        // Results name containers and addresses: they are nobody else's business.
        let written =
            DirBuilder::new().recursive(true).mode(0o700).create(self.results()).and_then(|()| {
                file::replace(&path, &temporary, 0o600, |file| file.write_all(&bytes))
            });
        written.map(drop).context(format!("failed to write {}", path.display()))
    }

    /// The result of an attachment, if there is one.
    ///
    /// # Errors
    /// Code 5 when it cannot be read, 6 when it is not JSON.
    pub fn read(&self, network: &NetworkName, attachment: &Attachment) -> Result<Option<Cached>> {
        let path = self.path(network, attachment);
        let bytes = match read(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            bytes => bytes.context(format!("failed to read {}", path.display()))?,
        };
        let invalid = |error: &dyn std::fmt::Display| {
            Error::new(Code::Decode, format!("{} is no cached result: {error}", path.display()))
        };
        let value: Value = serde_json::from_slice(&bytes).map_err(|error| invalid(&error))?;
        if value.get("kind").is_some_and(|kind| kind == KIND) {
            return Cached::from_value(value).map(Some).map_err(|error| invalid(&error));
        }
        if !value.is_object() {
            return Err(invalid(&"it is no JSON object"));
        }
        // Runtimes of the time of 0.4.0 kept the result and nothing else.
        let target = Target::new(attachment.clone(), "");
        let network = network.clone();
        Ok(Some(Cached { network, target, config: Vec::new(), result: value }))
    }

    /// Forgets the result of an attachment; it is no error if there is none.
    ///
    /// # Errors
    /// Code 5, naming the file.
    pub fn remove(&self, network: &NetworkName, attachment: &Attachment) -> Result<()> {
        let path = self.path(network, attachment);
        file::remove(&path).context(format!("failed to remove {}", path.display()))
    }

    /// The attachments of a network, in the order of their files' names. What is no entry, or one
    /// of old runtimes that does not say whose it is, is passed over.
    ///
    /// # Errors
    /// Code 5 when the directory cannot be read.
    pub fn list(&self, network: &NetworkName) -> Result<Vec<Cached>> {
        let mut values = self.values()?;
        values.retain(|value| value["networkName"] == network.as_str());
        Ok(values.into_iter().filter_map(|value| Cached::from_value(value).ok()).collect())
    }

    /// The attachments of all networks, as [`list`](Self::list) has those of one.
    ///
    /// # Errors
    /// Code 5 when the directory cannot be read.
    pub fn all(&self) -> Result<Vec<Cached>> {
        let values = self.values()?.into_iter();
        Ok(values.filter_map(|value| Cached::from_value(value).ok()).collect())
    }

    fn values(&self) -> Result<Vec<Value>> {
        let directory = self.results();
        let context = || format!("failed to read {}", directory.display());
        let entries = match fs::read_dir(&directory) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.context(context())?,
        };
        let mut paths = Vec::new();
        for entry in entries {
            paths.push(entry.context(context())?.path());
        }
        paths.sort();
        // A name with a dot before it is that of a write under way.
        let is_temporary = |path: &PathBuf| {
            path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."))
        };
        paths.retain(|path| !is_temporary(path));
        let value = |path: &PathBuf| {
            let bytes = read(path).map_err(|error| match error.kind() {
                // Its container has just been deleted.
                ErrorKind::NotFound => {}
                _ => report(format!("cnitool: passed over: {}: {error}", path.display())),
            });
            serde_json::from_slice(&bytes.ok()?).ok()
        };
        Ok(paths.iter().filter_map(value).collect())
    }
}

impl Cached {
    fn from_value(value: Value) -> Result<Self> {
        let decode = |error: &dyn std::fmt::Display| Error::new(Code::Decode, error.to_string());
        let entry: Entry = serde_json::from_value(value).map_err(|error| decode(&error))?;
        if entry.kind != KIND {
            return Err(decode(&format!("kind {:?} is not {KIND}", entry.kind)));
        }
        let attachment =
            Attachment { container: entry.container_id.parse()?, ifname: entry.if_name.parse()? };
        Ok(Self {
            network: entry.network_name.parse()?,
            target: Target {
                attachment,
                netns: entry.netns,
                args: entry.cni_args,
                capability_args: entry.capability_args,
            },
            config: BASE64_STANDARD.decode(entry.config).map_err(|error| decode(&error))?,
            result: entry.result,
        })
    }

    /// The result in the version that the plugins of `list` are called with.
    ///
    /// # Errors
    /// Code 1 when one of the two versions is unknown, or cannot express it.
    pub fn result_for(&self, list: &ConfigList) -> Result<Value> {
        if self.result.get("cniVersion").is_some_and(|version| *version == list.version) {
            return Ok(self.result.clone());
        }
        let wanted =
            if list.version.is_empty() { Version::V0_1_0 } else { list.version.parse()? };
        Success::decode(&self.result, Version::V0_1_0)?.encode(wanted)
    }

    /// `target` with what ADD was told where nothing else is said now.
    pub fn complete(&self, target: &Target) -> Target {
        let mut target = target.clone();
        if target.args.is_empty() {
            target.args.clone_from(&self.target.args);
        }
        if target.capability_args.is_empty() {
            target.capability_args.clone_from(&self.target.capability_args);
        }
        target
    }
}

/// Whoever may write here could otherwise have us wait, or read for ever.
fn read(path: &Path) -> io::Result<Vec<u8>> {
    file::read(file::open_own(path, OpenOptions::new().read(true))?, LARGEST)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testbed::{Temp, list, target};
    use serde_json::json;
    use std::os::unix::fs::PermissionsExt as _;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn the_file_is_that_of_the_go_library() {
        let temp = Temp::new();
        let cache = Cache::new(temp.path().join("cni"));
        let list = list("1.0.0", r#"{"type": "p"}"#);
        let mut target = target();
        cache.write(&list, &target, &json!({"cniVersion": "1.0.0"})).unwrap();
        let path = temp.path().join("cni/results/n-c1-eth0");
        assert_eq!(cache.path(&list.name, &target.attachment), path);
        let config = BASE64_STANDARD.encode(&list.bytes);
        assert_eq!(
            fs::read_to_string(&path).unwrap(),
            format!(
                r#"{{"kind":"cniCacheV1","containerId":"c1","config":"{config}","ifName":"eth0","networkName":"n","netns":"/run/netns/a","result":{{"cniVersion":"1.0.0"}}}}"#
            )
        );
        assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o600, 0o700));

        target.args = vec![("A".into(), "1".into())];
        target.capability_args = serde_json::from_str(r#"{"mac": "m"}"#).unwrap();
        cache.write(&list, &target, &json!({"cniVersion": "1.0.0"})).unwrap();
        let written: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        assert_eq!(written["cniArgs"], json!([["A", "1"]]));
        assert_eq!(written["capabilityArgs"], json!({"mac": "m"}));
        assert_eq!(cache.read(&list.name, &target.attachment).unwrap().unwrap().target, target);
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
    }

    #[test]
    fn each_attachment_has_its_own_file_and_other_networks_are_not_listed() {
        let temp = Temp::new();
        let cache = Cache::new(temp.path());
        let list = list("1.0.0", r#"{"type": "p"}"#);
        let result = json!({"cniVersion": "1.0.0"});
        for ifname in ["eth1", "eth0"] {
            let mut target = target();
            target.attachment.ifname = ifname.parse().unwrap();
            cache.write(&list, &target, &result).unwrap();
        }
        let mut other = list.clone();
        other.name = "n-c1".parse().unwrap();
        cache.write(&other, &target(), &result).unwrap();
        temp.write("results/garbage", "{");
        temp.write("results/other-kind", r#"{"kind": "x", "networkName": "n"}"#);
        temp.write("results/.n-c1-eth9.tmp", "{}");
        let cached = cache.list(&list.name).unwrap();
        let names = cached.iter().map(|cached| cached.target.attachment.ifname.as_str());
        assert_eq!(names.collect::<Vec<_>>(), ["eth0", "eth1"]);
        cache.remove(&list.name, &target().attachment).unwrap();
        cache.remove(&list.name, &target().attachment).unwrap();
        assert_eq!(cache.list(&list.name).unwrap().len(), 1);
        assert!(Cache::new(temp.path().join("none")).list(&list.name).unwrap().is_empty());
    }

    #[test]
    fn a_bare_result_of_an_old_runtime_is_read() {
        let temp = Temp::new();
        let cache = Cache::new(temp.path());
        temp.write("results/n-c1-eth0", r#"{"cniVersion": "0.4.0", "ips": []}"#);
        let list = list("0.4.0", r#"{"type": "p"}"#);
        let cached = cache.read(&list.name, &target().attachment).unwrap().unwrap();
        assert_eq!(cached.result_for(&list).unwrap()["cniVersion"], "0.4.0");
        temp.write("results/n-c1-eth0", "adfadsfasdfasfdsafaf");
        let error = cache.read(&list.name, &target().attachment).unwrap_err();
        assert_eq!(error.code(), Code::Decode);
    }

    #[test]
    fn results_are_converted_to_the_version_of_the_list() {
        let ip = json!({"address": "10.1.0.2/24", "version": "4"});
        let result = json!({"cniVersion": "0.3.1", "ips": [ip], "dns": {}});
        let network = "n".parse().unwrap();
        let cached = Cached { network, target: target(), config: Vec::new(), result };
        let wanted = |version| cached.result_for(&list(version, r#"{"type": "p"}"#));
        assert_eq!(wanted("0.3.1").unwrap(), cached.result);
        assert_eq!(wanted("1.1.0").unwrap()["ips"], json!([{"address": "10.1.0.2/24"}]));
        assert_eq!(wanted("").unwrap()["ip4"]["ip"], "10.1.0.2/24");
        assert!(wanted("7.0.0").is_err());
    }
}
