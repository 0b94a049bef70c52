//! What the variables `CNI_*` and `CNI_ARGS` say, each as a type of its own.

use super::{Code, Error, Result};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::fmt::{self, Display};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// What a plugin is asked to do (`CNI_COMMAND`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// Attach a container to a network, or change the attachment.
    Add,
    /// Detach it, or undo the change.
    Del,
    /// Say whether the attachment still is as ADD left it.
    Check,
    /// Remove what belongs to no valid attachment.
    Gc,
    /// Say whether ADD can be served.
    Status,
    /// List the supported versions.
    Version,
}

impl Verb {
    const ALL: [Self; 6] =
        [Self::Add, Self::Del, Self::Check, Self::Gc, Self::Status, Self::Version];

    /// As in `CNI_COMMAND`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Add => "ADD",
            Self::Del => "DEL",
            Self::Check => "CHECK",
            Self::Gc => "GC",
            Self::Status => "STATUS",
            Self::Version => "VERSION",
        }
    }

    pub(super) fn needs_attachment(self) -> bool {
        matches!(self, Self::Add | Self::Del | Self::Check)
    }

    pub(super) fn needs_netns(self) -> bool {
        matches!(self, Self::Add | Self::Check)
    }
}

impl Display for Verb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Verb {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self> {
        Self::ALL
            .into_iter()
            .find(|verb| verb.as_str() == text)
            .ok_or_else(|| Error::new(Code::BadEnvironment, format!("unknown CNI_COMMAND: {text}")))
    }
}

/// First character alphanumeric, then also `_`, `.` and `-` (specification, "Parameters").
fn is_identifier(text: &str) -> bool {
    let mut bytes = text.bytes();
    bytes.next().is_some_and(|first| first.is_ascii_alphanumeric())
        && bytes.all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte))
}

macro_rules! text_type {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(String);

        impl $name {
            /// The text as it was given.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

text_type! {
    /// `CNI_CONTAINERID`: unique on the node, usable as a path component.
    ContainerId
}

impl FromStr for ContainerId {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self> {
        if is_identifier(text) {
            return Ok(Self(text.to_owned()));
        }
        Err(Error::new(Code::BadEnvironment, "invalid characters in containerID").details(text))
    }
}

text_type! {
    /// The network's name: unique on the node, usable as a path component.
    NetworkName
}

impl FromStr for NetworkName {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self> {
        if is_identifier(text) {
            return Ok(Self(text.to_owned()));
        }
        Err(Error::config("invalid characters found in network name").details(text))
    }
}

text_type! {
    /// `CNI_IFNAME`: what the kernel takes as a link's name (`dev_valid_name` in net/core/dev.c).
    IfName
}

impl FromStr for IfName {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self> {
        let error = |msg| Error::new(Code::BadEnvironment, msg);
        if text.is_empty() {
            return Err(error("interface name is empty"));
        }
        if text.len() > 15 {
            return Err(error("interface name is too long")
                .details("interface name should be less than 16 characters"));
        }
        if text == "." || text == ".." {
            return Err(error("interface name is . or .."));
        }
        // The kernel replaces a %d in a name by a number of its choice (`dev_alloc_name`).
        if text.contains('%') {
            return Err(error("interface name contains %"));
        }
        if text.chars().any(|c| "/:\0".contains(c) || c.is_whitespace()) {
            return Err(error("interface name contains / or : or whitespace characters"));
        }
        Ok(Self(text.to_owned()))
    }
}

/// One container's interface on one network: what ADD makes and DEL removes.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize)]
pub struct Attachment {
    /// `containerID` in `cni.dev/valid-attachments`.
    #[serde(rename = "containerID")]
    pub container: ContainerId,
    /// `ifname` in `cni.dev/valid-attachments`.
    pub ifname: IfName,
}

/// `CNI_NETNS`, the path of a network namespace, as given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetnsPath(PathBuf);

impl NetnsPath {
    /// The path as it was given.
    pub fn as_path(&self) -> &Path {
        &self.0
    }

    /// Whether it is the namespace of the calling thread. A path that cannot be read counts as
    /// another one: opening it gives the error that names it.
    pub(super) fn is_own(&self) -> bool {
        let identity = |path: &Path| std::fs::metadata(path).map(|file| (file.dev(), file.ino()));
        // Namespaces are per thread, and /proc/self shows that of the process's first thread.
        match (identity(&self.0), identity(Path::new("/proc/thread-self/ns/net"))) {
            (Ok(given), Ok(own)) => given == own,
            _ => false,
        }
    }
}

impl From<PathBuf> for NetnsPath {
    fn from(path: PathBuf) -> Self {
        Self(path)
    }
}

impl Display for NetnsPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.display().fmt(f)
    }
}

/// `CNI_ARGS`: `KEY=VALUE` pairs between semicolons.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CniArgs(BTreeMap<String, String>);

/// Keys that some plugin of a chain understands. All plugins of a chain and their delegates get the
/// same `CNI_ARGS`, so each must accept keys that are meant for another.
const KNOWN_ARGS: [&str; 4] = ["IgnoreUnknown", "IP", "GATEWAY", "MAC"];

impl CniArgs {
    /// The value of a key, matched exactly.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).map(String::as_str)
    }
}

impl FromStr for CniArgs {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self> {
        let error = |msg| Error::new(Code::BadEnvironment, msg);
        let mut pairs = BTreeMap::new();
        for piece in text.split(';').filter(|_| !text.is_empty()) {
            match piece.split_once('=') {
                Some((key, value)) if !value.contains('=') => {
                    pairs.insert(key.to_owned(), value.to_owned())
                }
                _ => {
                    return Err(error(format!("ARGS: invalid pair {piece:?}"))
                        .details("CNI_ARGS is a list of KEY=VALUE with ; between"));
                }
            };
        }
        let ignore = match pairs.get("IgnoreUnknown").map(String::as_str) {
            None => false,
            Some(value) if value == "1" || value.eq_ignore_ascii_case("true") => true,
            Some(value) if value == "0" || value.eq_ignore_ascii_case("false") => false,
            Some(value) => {
                let pair = format!("IgnoreUnknown={value}");
                return Err(error(format!(
                    "ARGS: error parsing value of pair {pair:?}: must be 1, true, 0 or false"
                )));
            }
        };
        let unknown: Vec<_> = pairs
            .iter()
            .filter(|(key, _)| !ignore && !KNOWN_ARGS.contains(&key.as_str()))
            .map(|(key, value)| format!("{:?}", format!("{key}={value}")))
            .collect();
        if unknown.is_empty() {
            return Ok(Self(pairs));
        }
        Err(error(format!("ARGS: unknown args [{}]", unknown.join(" ")))
            .details("IgnoreUnknown=1 in CNI_ARGS lets a plugin skip what it does not know"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message<T: FromStr<Err = Error> + fmt::Debug>(text: &str) -> String {
        text.parse::<T>().unwrap_err().to_string()
    }

    #[test]
    fn interface_names_follow_the_kernel() {
        for good in ["eth0", "a", "éth0", "fifteen-letters"] {
            assert!(good.parse::<IfName>().is_ok(), "{good}");
        }
        assert!(message::<IfName>("sixteen--letters").starts_with("interface name is too long"));
        assert_eq!(message::<IfName>(".."), "interface name is . or ..");
        for bad in ["a/b", "a:b", "a b", "a\u{85}b", "a\u{a0}b"] {
            assert!(message::<IfName>(bad).contains("whitespace"), "{bad:?}");
        }
    }

    #[test]
    fn identifiers_are_safe_path_components() {
        for bad in ["", ".", "-a", "_a", "a/b", "a b", "é", "a\n"] {
            assert!(bad.parse::<ContainerId>().is_err(), "{bad:?}");
            assert!(bad.parse::<NetworkName>().is_err(), "{bad:?}");
        }
        assert!("A1_.-z".parse::<ContainerId>().is_ok());
    }

    #[test]
    fn args_are_strict_unless_told_otherwise() {
        let args: CniArgs = "IgnoreUnknown=TRUE;K8S_POD_NAME=web;IP=10.1.0.9".parse().unwrap();
        assert_eq!(args.get("K8S_POD_NAME"), Some("web"));
        assert_eq!(args.get("ip"), None);
        assert!("MAC=02:00:00:00:00:01".parse::<CniArgs>().is_ok());
        assert_eq!("".parse::<CniArgs>(), Ok(CniArgs::default()));
        assert!(message::<CniArgs>("A=1").starts_with("ARGS: unknown args [\"A=1\"]"));
        assert!(message::<CniArgs>("IP=1;").starts_with("ARGS: invalid pair \"\""));
        assert!(message::<CniArgs>("IP=a=b").starts_with("ARGS: invalid pair \"IP=a=b\""));
        assert!(message::<CniArgs>("IgnoreUnknown=2").contains("IgnoreUnknown=2"));
    }
}
