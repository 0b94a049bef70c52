//! Who is attached: container ID, interface, namespace, and the runtime's arguments.

use common::cni::{Attachment, Code, Context as _};
use common::{Error, Result};
use serde_json::{Map, Value};
use sha2::{Digest as _, Sha512};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Component, Path, PathBuf};

/// What the ID of a container begins with for which no runtime has chosen one.
pub const PREFIX: &str = "cnitool-";

/// Where `ip netns add` keeps namespaces by name.
const NAMED: &str = "/var/run/netns";

/// An attachment with everything that a runtime tells the plugins about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Container and interface.
    pub attachment: Attachment,
    /// Path of the container's namespace; empty when it is not known any more.
    pub netns: String,
    /// `CNI_ARGS`, in order.
    pub args: Vec<(String, String)>,
    /// What the runtime gives for each capability that a plugin may have.
    pub capability_args: Map<String, Value>,
}

impl Target {
    /// A target without arguments.
    pub fn new(attachment: Attachment, netns: impl Into<String>) -> Self {
        let netns = netns.into();
        Self { attachment, netns, args: Vec::new(), capability_args: Map::new() }
    }
}

/// The attachment of an interface in a namespace for which no runtime has chosen a container ID.
///
/// # Errors
/// Code 4 for a name that no interface can have.
pub fn of_netns(netns: &Path, ifname: &str) -> Result<Attachment> {
    let hash = Sha512::digest(netns.as_os_str().as_encoded_bytes());
    let digits: String = hash.iter().take(10).map(|byte| format!("{byte:02x}")).collect();
    Ok(Attachment { container: format!("{PREFIX}{digits}").parse()?, ifname: ifname.parse()? })
}

/// Makes the path of a namespace absolute without following links: the container ID depends on how
/// it is written. A bare name is that of `ip netns`, unless there is such a file right here.
///
/// # Errors
/// Code 4 when it is not UTF-8, code 5 when the working directory is gone.
pub fn resolve(netns: &Path) -> Result<PathBuf> {
    if netns.as_os_str().is_empty() {
        return Err(Error::new(Code::BadEnvironment, "the path of the network namespace is empty"));
    }
    if netns.to_str().is_none() {
        let msg = format!("the path of the network namespace is not UTF-8: {}", netns.display());
        return Err(Error::new(Code::BadEnvironment, msg));
    }
    if netns.is_absolute() {
        return Ok(clean(netns));
    }
    let mut parts = netns.components();
    let is_name = matches!((parts.next(), parts.next()), (Some(Component::Normal(_)), None));
    if is_name && !netns.exists() {
        return Ok(Path::new(NAMED).join(netns));
    }
    let here = std::env::current_dir().context("failed to find the working directory")?;
    Ok(clean(&here.join(netns)))
}

/// Whether two paths lead to one namespace, however they are written. Where it is gone, the
/// directories that it was in tell.
pub fn is_same_namespace(one: &Path, other: &Path) -> bool {
    let identity = |path: &Path| path.metadata().map(|file| (file.dev(), file.ino()));
    match (identity(one), identity(other)) {
        (Ok(one), Ok(other)) => one == other,
        _ => canonical(one) == canonical(other),
    }
}

/// Without links, as far as there is something.
fn canonical(path: &Path) -> PathBuf {
    if let Ok(path) = path.canonicalize() {
        return path;
    }
    match (path.parent(), path.file_name()) {
        (Some(above), Some(name)) => canonical(above).join(name),
        _ => path.to_owned(),
    }
}

/// `/a/./b/../c//d` is `/a/c/d`.
fn clean(path: &Path) -> PathBuf {
    let mut clean = PathBuf::from("/");
    for part in path.components() {
        match part {
            Component::Normal(name) => clean.push(name),
            Component::ParentDir => drop(clean.pop()),
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    clean
}

/// Reads `CNI_ARGS` as the runtime's side does: pairs with something on both sides.
///
/// # Errors
/// Code 4, naming the pair.
pub fn parse_args(text: &str) -> Result<Vec<(String, String)>> {
    let pairs = text.split(';').filter(|_| !text.is_empty());
    pairs
        .map(|pair| match pair.split_once('=') {
            Some((key, value)) if !key.is_empty() && !value.is_empty() && !value.contains('=') => {
                Ok((key.to_owned(), value.to_owned()))
            }
            _ => Err(Error::new(Code::BadEnvironment, format!("invalid CNI_ARGS pair {pair:?}"))
                .details("CNI_ARGS is a list of KEY=VALUE with ; between")),
        })
        .collect()
}

/// Reads `CAP_ARGS`: an object with the runtime's data for each capability.
///
/// # Errors
/// Code 4 when it is no JSON object.
pub fn parse_capability_args(text: &str) -> Result<Map<String, Value>> {
    if text.is_empty() {
        return Ok(Map::new());
    }
    serde_json::from_str(text).map_err(|error| {
        let msg = format!("CAP_ARGS must be a JSON object: {error}");
        Error::new(Code::BadEnvironment, msg)
            .details(r#"as {"portMappings": [{"hostPort": 8080, "containerPort": 80}]}"#)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn container_ids_are_those_of_the_go_tool() {
        for (netns, container) in [
            ("/var/run/netns/cnitest", "cnitool-20c433bb2b1d6ede56d6"),
            ("/var/run/netns/testing", "cnitool-77383ca0a0715733ca6f"),
        ] {
            let attachment = of_netns(Path::new(netns), "eth0").unwrap();
            assert_eq!(attachment.container.as_str(), container);
            assert_eq!(attachment.ifname.as_str(), "eth0");
        }
        assert!(of_netns(Path::new("/x"), "sixteen--letters").is_err());
    }

    #[test]
    fn namespaces_become_absolute_by_their_text_only() {
        let resolved = |netns: &str| resolve(Path::new(netns)).unwrap();
        let here = std::env::current_dir().unwrap();
        assert_eq!(resolved("/var/run/netns//a/"), Path::new("/var/run/netns/a"));
        assert_eq!(resolved("/a/./b/../c"), Path::new("/a/c"));
        assert_eq!(resolved("/.."), Path::new("/"));
        assert_eq!(resolved("./a"), here.join("a"));
        assert_eq!(resolved("x/../a"), here.join("a"));
        assert_eq!(resolved("no-such-file"), Path::new("/var/run/netns/no-such-file"));
        assert_eq!(resolved("Cargo.toml"), here.join("Cargo.toml"));
        assert!(resolve(Path::new("")).is_err());
    }

    #[test]
    fn a_namespace_has_many_names_also_when_it_is_gone() {
        let temp = crate::testbed::Temp::new();
        temp.write("run/a", "");
        temp.write("run/b", "");
        std::os::unix::fs::symlink("run", temp.path().join("var")).unwrap();
        std::os::unix::fs::symlink("run/a", temp.path().join("link")).unwrap();
        let is_same = |one: &str, other: &str| {
            is_same_namespace(&temp.path().join(one), &temp.path().join(other))
        };
        for (one, other) in [("run/a", "var/a"), ("link", "var/a"), ("run/gone", "var/gone")] {
            assert!(is_same(one, other), "{one} {other}");
        }
        for (one, other) in [("run/a", "run/b"), ("run/a", "run/gone"), ("gone", "var/gone")] {
            assert!(!is_same(one, other), "{one} {other}");
        }
    }

    #[test]
    fn arguments_have_two_sides() {
        let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        assert_eq!(parse_args("A=1;B=2").unwrap(), [pair("A", "1"), pair("B", "2")]);
        assert!(parse_args("").unwrap().is_empty());
        for bad in ["A", "A=", "=1", "A=1;", "A=1=2"] {
            let error = parse_args(bad).unwrap_err().to_string();
            assert!(error.starts_with("invalid CNI_ARGS pair \""), "{error}");
        }
        assert!(parse_capability_args("").unwrap().is_empty());
        assert_eq!(parse_capability_args(r#"{"mac": "x"}"#).unwrap()["mac"], "x");
        assert!(parse_capability_args("[]").is_err());
    }
}
