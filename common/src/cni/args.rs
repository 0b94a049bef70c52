//! The environment: `CNI_*` and `CNI_ARGS`, read once, parsed once.
//!
//! Beside the variables of the specification there are four that a plugin sets for the one that it
//! runs, the first two for an IPAM plugin only. The Go plugins neither set nor read them, so both sides
//! work without:
//!
//! | variable | value |
//! |---|---|
//! | `GIRDER_LINK` | the name of the host's link that the main plugin will create, and that cannot outlive the container's namespace: as long as it exists, the lease is in use ([`Add::link`](super::Add::link)) |
//! | `GIRDER_SEGMENT` | the layer-2 segment that the container joins, where this host does not route it: an address must be unique within it only ([`Add::segment`](super::Add::segment)) |
//! | `GIRDER_ADD` | a name that no other ADD has, for the ADD ([`Add::name`](super::Add::name)) and for the DEL that rolls it back ([`Del::undoes`](super::Del::undoes)) |
//! | `GIRDER_DEPTH` | how many plugins wait for this one's answer: it ends a configuration that names a plugin as its own delegate |
//!
//! `tap` runs itself with a fifth one, `GIRDER_TAP`: what another process, of another SELinux label, is
//! to make.

use super::{Code, Error, Others, Result};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::fmt::{self, Display};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// The variable that says which tap a process of another SELinux label is to make.
pub(crate) const TAP: &str = "GIRDER_TAP";

/// The value of [`TAP`].
#[expect(clippy::disallowed_methods, reason = "before there is a call")]
pub(crate) fn requested_tap() -> Option<String> {
    std::env::var(TAP).ok()
}

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

    fn needs_attachment(self) -> bool {
        matches!(self, Self::Add | Self::Del | Self::Check)
    }

    fn needs_netns(self) -> bool {
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
    fn is_own(&self) -> bool {
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

pub(super) const LINK: &str = "GIRDER_LINK";
pub(super) const SEGMENT: &str = "GIRDER_SEGMENT";
pub(super) const ADD: &str = "GIRDER_ADD";
pub(super) const DEPTH: &str = "GIRDER_DEPTH";

/// The raw environment. An empty variable counts as absent, as in the Go library.
#[derive(Clone, Debug, Default)]
pub(super) struct Environment {
    pub(super) command: Option<String>,
    pub(super) container: Option<String>,
    pub(super) netns: Option<String>,
    pub(super) ifname: Option<String>,
    pub(super) args: Option<String>,
    pub(super) path: Option<String>,
    pub(super) netns_override: Option<String>,
    pub(super) link: Option<String>,
    pub(super) segment: Option<String>,
    pub(super) add: Option<String>,
    pub(super) depth: u32,
    /// What else is in this executable.
    pub(super) others: Option<Others>,
}

impl Environment {
    /// Reads this process's environment, as a program sees it that is run with these changes.
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the environment")]
    pub(super) fn read(changes: &[(&str, &str)]) -> Self {
        let variable = |name| {
            let value = match changes.iter().find(|(changed, _)| *changed == name) {
                Some((_, value)) => (*value).to_owned(),
                None => std::env::var_os(name)?.to_string_lossy().into_owned(),
            };
            (!value.is_empty()).then_some(value)
        };
        Self {
            command: variable("CNI_COMMAND"),
            container: variable("CNI_CONTAINERID"),
            netns: variable("CNI_NETNS"),
            ifname: variable("CNI_IFNAME"),
            args: variable("CNI_ARGS"),
            path: variable("CNI_PATH"),
            netns_override: variable("CNI_NETNS_OVERRIDE"),
            link: variable(LINK),
            segment: variable(SEGMENT),
            add: variable(ADD),
            depth: variable(DEPTH).and_then(|depth| depth.parse().ok()).unwrap_or(0),
            others: None,
        }
    }

    /// Checks what `CNI_COMMAND` requires, in the order of the Go library: a variable that is
    /// there and invalid is reported at once, those that are missing all together.
    ///
    /// # Errors
    /// Code 4, naming the variables.
    pub(super) fn require(&self, command: &str) -> Result<()> {
        // An unknown verb requires nothing here: like the Go library, it is refused only after stdin
        // has been read.
        let verb = command.parse::<Verb>().ok();
        let needs = |of: fn(Verb) -> bool| verb.is_some_and(of);
        let mut missing = Vec::new();
        let mut note = |name, value: &Option<String>| {
            if value.is_none() {
                missing.push(name);
            }
        };
        if needs(Verb::needs_attachment) {
            note("CNI_CONTAINERID", &self.container);
            self.container.as_deref().map(ContainerId::from_str).transpose()?;
        }
        if needs(Verb::needs_netns) {
            note("CNI_NETNS", &self.netns);
        }
        if needs(Verb::needs_attachment) {
            note("CNI_IFNAME", &self.ifname);
            self.ifname.as_deref().map(IfName::from_str).transpose()?;
        }
        if needs(|verb| verb != Verb::Version) {
            note("CNI_PATH", &self.path);
        }
        if missing.is_empty() {
            return Ok(());
        }
        let missing = missing.join(",");
        let msg = format!("required env variables [{missing}] missing");
        Err(Error::new(Code::BadEnvironment, msg))
    }

    /// The attachment that a verb which needs one is about.
    pub(super) fn attachment(&self) -> Result<Attachment> {
        Ok(Attachment {
            container: self.container.as_deref().unwrap_or_default().parse()?,
            ifname: self.ifname.as_deref().unwrap_or_default().parse()?,
        })
    }

    /// The value of `GIRDER_LINK`.
    pub(super) fn link(&self) -> Option<IfName> {
        self.link.as_deref()?.parse().ok()
    }

    /// The namespace, if one was given.
    ///
    /// # Errors
    /// Code 8 if it is the one that this process runs in, which a plugin would then destroy,
    /// unless `CNI_NETNS_OVERRIDE` says that this is meant.
    pub(super) fn netns(&self) -> Result<Option<NetnsPath>> {
        let Some(netns) = &self.netns else { return Ok(None) };
        let netns = NetnsPath(netns.into());
        let is_meant = self
            .netns_override
            .as_deref()
            .is_some_and(|value| value == "1" || value.eq_ignore_ascii_case("true"));
        if !is_meant && netns.is_own() {
            let msg = "plugin's netns and netns from CNI_NETNS should not be the same";
            return Err(Error::new(Code::InvalidNetns, msg)
                .details(format!("{netns} is the namespace that the plugin runs in")));
        }
        Ok(Some(netns))
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
