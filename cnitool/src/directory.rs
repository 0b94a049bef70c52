//! The directory of network configurations: one network found by its name. A file that cannot be
//! read is an obstacle for its own network only.

use crate::list::{ConfigList, PluginConfig};
use common::cni::{Context as _, NetworkName, json};
use common::{Error, Result, file};
use serde_json::Value;
use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// In bytes: what a ConfigMap of Kubernetes can hold, which such files come from.
const LARGEST: u64 = 1 << 20;

/// A network, and the files that were in the way.
#[derive(Debug)]
pub struct Found {
    /// Complete: with the plugins from beside its file.
    pub list: ConfigList,
    /// Where it stands.
    pub file: PathBuf,
    /// Files of other networks that are no configuration, each with the reason.
    pub broken: Vec<Error>,
}

/// Finds a network: lists (`.conflist`) first, then single plugins (`.conf`, `.json`), each in the
/// order of their names.
///
/// # Errors
/// Code 7 when no file has that network, naming those that are there; otherwise what is wrong with
/// the file that has it.
pub fn find(directory: &Path, name: &NetworkName) -> Result<Found> {
    let files = files(directory)?;
    if files.is_empty() {
        let msg = format!("no net configurations found in {}", directory.display());
        return Err(
            Error::config(msg).details("they are files that end in .conflist, .conf or .json")
        );
    }
    let (mut found, mut broken, mut names) = (None, Vec::new(), BTreeSet::new());
    for file in files {
        let list = match parse(&file) {
            Ok(list) => list,
            Err(failure) if failure.name.as_deref() == Some(name.as_str()) && found.is_none() => {
                return Err(failure.error);
            }
            Err(failure) => {
                broken.push(failure.error);
                continue;
            }
        };
        if list.name == *name && found.is_none() {
            found = Some((file, list));
        } else {
            names.insert(list.name.to_string());
        }
    }
    if let Some((file, list)) = found {
        let list = complete(list, &file)?;
        return Ok(Found { list, file, broken });
    }
    let msg =
        format!("no net configuration with name {:?} in {}", name.as_str(), directory.display());
    let names = Vec::from_iter(names).join(", ");
    let mut details = match names.as_str() {
        "" => "no other network is there".to_owned(),
        names => format!("there are: {names}"),
    };
    for error in broken {
        details = format!("{details}; not readable: {error}");
    }
    Err(Error::config(msg).details(details))
}

/// Reads one file as what its name says that it is, with the plugins from beside it.
///
/// # Errors
/// Naming the file.
pub fn load(file: &Path) -> Result<ConfigList> {
    let list = parse(file).map_err(|failure| failure.error)?;
    complete(list, file)
}

/// The configuration files of a directory in the order in which they are searched.
///
/// # Errors
/// Code 5 when the directory cannot be read.
pub fn files(directory: &Path) -> Result<Vec<PathBuf>> {
    let mut lists = with_extension(directory, &["conflist"])?;
    lists.extend(with_extension(directory, &["conf", "json"])?);
    Ok(lists)
}

fn with_extension(directory: &Path, extensions: &[&str]) -> Result<Vec<PathBuf>> {
    let context = || format!("failed to read {}", directory.display());
    let entries = match std::fs::read_dir(directory) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.context(context())?,
    };
    let mut files = Vec::new();
    for entry in entries {
        let path = entry.context(context())?.path();
        let extension = path.extension().and_then(|extension| extension.to_str());
        if extension.is_some_and(|extension| extensions.contains(&extension)) && !path.is_dir() {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

struct Failure {
    /// As far as it could be read.
    name: Option<String>,
    error: Error,
}

fn parse(file: &Path) -> Result<ConfigList, Failure> {
    let context = || file.display().to_string();
    let bytes = read(file).map_err(|error| Failure { name: None, error })?;
    let is_list = file.extension().is_some_and(|extension| extension == "conflist");
    let parsed =
        if is_list { ConfigList::parse(bytes.clone()) } else { ConfigList::parse_single(&bytes) };
    parsed.map_err(|error| {
        let value: Option<Value> = serde_json::from_slice(&bytes).ok();
        let name = value.as_ref().and_then(Value::as_object);
        let name = name.and_then(|keys| json::get(keys, "name")).and_then(Value::as_str);
        Failure { name: name.map(str::to_owned), error: error.context(context()) }
    })
}

/// A link to a file is followed, for that is how a mounted ConfigMap looks; but where a pipe or a
/// device is, nobody waits.
fn read(path: &Path) -> Result<Vec<u8>> {
    file::open_named(path)
        .and_then(|opened| file::read(opened, LARGEST))
        .context(format!("error reading {}", path.display()))
}

/// Adds the plugins that other packages have put into the folder of the network's name.
fn complete(mut list: ConfigList, file: &Path) -> Result<ConfigList> {
    if !list.only_inlined {
        let folder = file.parent().unwrap_or(Path::new(".")).join(list.name.as_str());
        for file in with_extension(&folder, &["conf"])? {
            let plugin = serde_json::from_slice(&read(&file)?)
                .map_err(|error| Error::config(error.to_string()))
                .and_then(PluginConfig::new);
            list.plugins.push(plugin.context(file.display())?);
        }
    }
    if list.plugins.is_empty() {
        return Err(Error::config("no plugin configs found").context(file.display()));
    }
    Ok(list)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testbed::Temp;

    fn named(name: &str) -> NetworkName {
        name.parse().unwrap()
    }

    fn list(name: &str, kind: &str) -> String {
        format!(r#"{{"name": "{name}", "plugins": [{{"type": "{kind}"}}]}}"#)
    }

    fn single(name: &str, kind: &str) -> String {
        format!(r#"{{"name": "{name}", "type": "{kind}"}}"#)
    }

    fn kinds(temp: &Temp, name: &str) -> Vec<String> {
        let found = find(temp.path(), &named(name)).unwrap();
        found.list.plugins.into_iter().map(|plugin| plugin.kind).collect()
    }

    fn refusal(temp: &Temp, name: &str) -> String {
        find(temp.path(), &named(name)).unwrap_err().to_string()
    }

    #[test]
    fn lists_go_before_single_plugins_and_both_are_found() {
        let temp = Temp::new();
        temp.write("10-a.conf", &single("n", "from-conf"));
        temp.write("20-b.conflist", &list("n", "from-list"));
        temp.write("30-c.json", &single("j", "from-json"));
        temp.write("deeper/c.conf", &single("deeper", "p"));
        assert_eq!(kinds(&temp, "n"), ["from-list"]);
        assert_eq!(kinds(&temp, "j"), ["from-json"]);
        assert_eq!(
            refusal(&temp, "deeper"),
            format!(
                "no net configuration with name \"deeper\" in {}; there are: j, n",
                temp.path().display()
            )
        );
    }

    #[test]
    fn the_first_of_two_of_the_same_name_wins() {
        let temp = Temp::new();
        temp.write("b.conflist", &list("n", "second"));
        temp.write("a.conflist", &list("n", "first"));
        assert_eq!(kinds(&temp, "n"), ["first"]);
    }

    #[test]
    fn an_empty_or_missing_directory_says_so() {
        let temp = Temp::new();
        temp.write("note.txt", "x");
        assert!(refusal(&temp, "n").starts_with("no net configurations found in "));
        let missing = find(&temp.path().join("no"), &named("n")).unwrap_err().to_string();
        assert!(missing.starts_with("no net configurations found in "), "{missing}");
    }

    #[test]
    fn a_broken_file_stops_its_own_network_only() {
        let temp = Temp::new();
        temp.write("00-broken.conflist", "{");
        temp.write("10-bad.conflist", r#"{"name": "bad", "plugins": 5}"#);
        temp.write("20-n.conflist", &list("n", "p"));
        let found = find(temp.path(), &named("n")).unwrap();
        assert_eq!(found.broken.len(), 2);
        assert!(found.broken[0].to_string().contains("00-broken.conflist: "));
        assert!(
            refusal(&temp, "bad").contains("10-bad.conflist: error parsing configuration list")
        );
        let error = refusal(&temp, "other");
        assert!(error.contains("there are: n; not readable: "), "{error}");
    }

    #[test]
    fn plugins_beside_the_file_come_after_the_inlined_ones() {
        let temp = Temp::new();
        temp.write("n.conflist", &list("n", "inlined"));
        assert_eq!(kinds(&temp, "n"), ["inlined"]);
        temp.write("n/20.conf", r#"{"type": "b"}"#);
        temp.write("n/10.conf", r#"{"type": "a"}"#);
        temp.write("n/30.json", r#"{"type": "c"}"#);
        assert_eq!(kinds(&temp, "n"), ["inlined", "a", "b"]);
        temp.write("n/40.conf", "{");
        assert!(refusal(&temp, "n").contains("40.conf: "));
    }

    #[test]
    fn a_list_may_have_no_plugins_but_those_beside_it() {
        let temp = Temp::new();
        temp.write("n.conflist", r#"{"name": "n"}"#);
        assert!(refusal(&temp, "n").ends_with("no plugin configs found"));
        temp.write("n/10.conf", r#"{"type": "a"}"#);
        assert_eq!(kinds(&temp, "n"), ["a"]);
        temp.write(
            "n.conflist",
            r#"{"name": "n", "loadOnlyInlinedPlugins": true, "plugins": [{"type": "p"}]}"#,
        );
        assert_eq!(kinds(&temp, "n"), ["p"]);
    }
}
