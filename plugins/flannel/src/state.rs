//! The delegate's configuration, kept from ADD to DEL: by then the node may have another subnet, and
//! the network another configuration.
//!
//! The file `<dataDir>/<container ID>` is the Go plugin's, which reads ours and writes its own: with
//! one interface per container, either plugin detaches what the other one has attached. That of a
//! container's second interface is `<container ID>:<interface>`, which the Go plugin does not know: it
//! keeps the last one only. Neither name can be that of anything else, for an ID has no colon. Which of
//! them an attachment has depends on what is there, so the directory is locked when states change.

use crate::config::{DATA_DIR, Object, kind_of, set};
use common::attach::kept::{GRACE_AGE, is_young};
use common::attach::{lock::Lock, owner::digest, running};
use common::cni::{
    Attachment, ContainerId, Context as _, IfName, NetworkName, Timeout, json, report,
};
use common::{Errors, Gc, Plugin as _, Result, Undo, file};
use serde_json::Value;
use std::fs::{self, OpenOptions};
use std::io::{self, ErrorKind, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// A configuration has some kilobytes.
const LIMIT: u64 = 1 << 20;

/// The key that says which of the container's interfaces the file is about. What the Go plugin has
/// written does not have it, and may be about any of them.
const IFNAME: &str = "girder/ifname";

/// Where the state of an attachment is: in the directory that the configuration names, and, except for
/// ADD, also in the default one, because the key may have been changed since.
pub(crate) struct State<'a> {
    directory: &'a Path,
    network: &'a NetworkName,
    attachment: &'a Attachment,
}

/// What a file holds.
enum Content {
    /// The configuration, and the interface if that is known.
    Config(Object, Option<String>),
    /// Nothing of use, as after the node has lost its power.
    Broken(String),
}

impl<'a> State<'a> {
    pub(crate) fn of(
        directory: &'a Path,
        network: &'a NetworkName,
        attachment: &'a Attachment,
    ) -> Self {
        Self { directory, network, attachment }
    }

    /// Keeps the delegate's configuration. The state of an earlier ADD of this attachment comes back
    /// if this one fails.
    pub(crate) fn create(&self, config: &Object, undo: &mut Undo) -> Result<()> {
        let made = file::make_directory(self.directory);
        made.context(format!("failed to make {}", self.directory.display()))?;
        let _lock = lock(self.directory)?;
        let path = self.place();
        let mut kept = config.clone();
        set(&mut kept, IFNAME, self.ifname().into());
        let (earlier, temporary) = (read(&path).ok(), self.temporary());
        let (undone, beside) = (path.clone(), temporary.clone());
        undo.push_record(path.display().to_string(), move || match earlier {
            Some(earlier) => write(&undone, &beside, &earlier),
            None => remove(&undone),
        });
        write(&path, &temporary, Value::from(kept).to_string().as_bytes())
    }

    /// The configuration that was kept.
    pub(crate) fn read(&self) -> Option<Object> {
        let (path, content) = self.everywhere().find_map(|state| state.find())?;
        match content {
            Content::Config(config, _) => Some(config),
            Content::Broken(reason) => {
                report(format_args!("{}: {reason}: what is configured is used", path.display()));
                None
            }
        }
    }

    pub(crate) fn delete(&self) -> Result<()> {
        for state in self.everywhere().filter(|state| state.directory.exists()) {
            let _lock = lock(state.directory)?;
            // What a killed ADD has begun to write.
            remove(&state.temporary())?;
            state.find().map_or(Ok(()), |(path, _)| remove(&path))?;
        }
        Ok(())
    }

    fn everywhere(&self) -> impl Iterator<Item = Self> {
        directories(self.directory).map(|directory| Self { directory, ..*self })
    }

    fn find(&self) -> Option<(PathBuf, Content)> {
        [self.own(), self.common()].into_iter().find_map(|path| {
            let content = load(&path).filter(|content| !self.is_others(content))?;
            Some((path, content))
        })
    }

    /// Where an ADD keeps it: not in place of what is about another attachment. What the Go plugin has
    /// written of this network is taken for what it has left of this interface.
    fn place(&self) -> PathBuf {
        let is_taken = load(&self.common()).is_some_and(|content| self.is_others(&content));
        if is_taken || self.own().exists() { self.own() } else { self.common() }
    }

    fn is_others(&self, content: &Content) -> bool {
        match content {
            Content::Config(config, ifname) => {
                let is_other = |ifname: &String| ifname != self.ifname();
                !is_of(config, self.network) || ifname.as_ref().is_some_and(is_other)
            }
            Content::Broken(_) => false,
        }
    }

    fn ifname(&self) -> &str {
        self.attachment.ifname.as_str()
    }

    /// The file that the Go plugin knows.
    fn common(&self) -> PathBuf {
        self.directory.join(self.attachment.container.as_str())
    }

    /// The file of a further interface.
    fn own(&self) -> PathBuf {
        self.directory.join(format!("{}:{}", self.attachment.container, self.attachment.ifname))
    }

    fn temporary(&self) -> PathBuf {
        let owner = self.attachment.owner(self.network);
        self.directory.join(format!(":{}", digest(owner.as_str(), 16)))
    }
}

fn directories(given: &Path) -> impl Iterator<Item = &Path> {
    let default = Path::new(DATA_DIR);
    [Some(given), Some(default).filter(|default| *default != given)].into_iter().flatten()
}

/// Deletes the state of this network's attachments that are not valid, and not young; and what is of
/// no use to anybody.
pub(crate) fn sweep(given: &Path, request: &Gc<'_>, errors: &mut Errors) {
    for directory in directories(given) {
        sweep_one(directory, request, errors);
    }
}

fn sweep_one(directory: &Path, request: &Gc<'_>, errors: &mut Errors) {
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == ErrorKind::NotFound => return,
        entries => entries.context(format!("failed to read {}", directory.display())),
    };
    let Some(_lock) = errors.note(lock(directory)) else { return };
    let network = &request.call.network.name;
    for entry in errors.note(entries).into_iter().flatten().flatten() {
        if !entry.file_type().is_ok_and(|kind| kind.is_file()) {
            continue;
        }
        let (path, name) = (entry.path(), entry.file_name());
        let (container, ifname) = name.to_str().map_or(("", None), |name| {
            name.split_once(':')
                .map_or((name, None), |(container, ifname)| (container, Some(ifname)))
        });
        let (ifname, grace_age) = match load(&path) {
            Some(Content::Config(config, kept)) if is_of(&config, network) => {
                (ifname.map(str::to_owned).or(kept), grace_age(&config))
            }
            // Begun by an ADD that was killed. What else cannot be read may be somebody else's.
            Some(Content::Broken(_)) if is_begun(&path) => {
                (ifname.map(str::to_owned), GRACE_AGE.as_secs())
            }
            _ => continue,
        };
        let is_valid = request.valid.iter().any(|valid| {
            let is_its = ifname.as_ref().is_none_or(|ifname| ifname == valid.ifname.as_str());
            valid.container.as_str() == container && is_its
        });
        if is_valid || is_new(&path, grace_age) {
            continue;
        }
        let container = container.parse::<ContainerId>().ok();
        let ifname = ifname.and_then(|ifname| ifname.parse::<IfName>().ok());
        let running = container.zip(ifname).map(|(container, ifname)| {
            let owner = Attachment { container, ifname }.owner(network);
            running::announce_chained_del(crate::Flannel::NAME, &owner)
        });
        if running.is_none_or(|running| running.is_alone()) {
            errors.note(remove(&path));
        }
    }
}

/// Whether it is a file that was being written: an empty one, or one of a name that only those have.
fn is_begun(path: &Path) -> bool {
    let is_temporary =
        path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b":"));
    is_temporary || path.symlink_metadata().is_ok_and(|file| file.len() == 0)
}

fn is_of(config: &Object, network: &NetworkName) -> bool {
    json::get(config, "name").and_then(Value::as_str) == Some(network.as_str())
}

fn lock(directory: &Path) -> Result<Lock> {
    Lock::of(directory, &directory.display().to_string())
}

/// For how many seconds the attachment counts as young.
fn grace_age(config: &Object) -> u64 {
    let ipam = json::get(config, "ipam").and_then(Value::as_object);
    let age = ipam.and_then(|ipam| json::get(ipam, "graceAge"));
    let age = age.and_then(|age| serde_json::from_value::<Timeout>(age.clone()).ok());
    age.map_or(GRACE_AGE, |age| age.0).as_secs()
}

fn is_new(path: &Path, grace_age: u64) -> bool {
    let since = path.symlink_metadata().map(|file| file.mtime());
    since.is_ok_and(|since| is_young(since.try_into().unwrap_or_default(), grace_age))
}

/// None if there is no such file.
fn load(path: &Path) -> Option<Content> {
    let text = match read(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return None,
        Err(error) => return Some(Content::Broken(error.to_string())),
        Ok(text) => text,
    };
    Some(match serde_json::from_slice::<Object>(&text) {
        Ok(mut config) if !kind_of(&config).is_empty() => {
            let ifname = config.remove(IFNAME);
            Content::Config(config, ifname.and_then(|name| name.as_str().map(str::to_owned)))
        }
        Ok(_) => Content::Broken("it names no plugin".to_owned()),
        Err(error) => Content::Broken(format!("it is no configuration: {error}")),
    })
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    file::read(file::open_own(path, OpenOptions::new().read(true))?, LIMIT)
}

fn write(path: &Path, temporary: &Path, bytes: &[u8]) -> Result<()> {
    let written = file::replace(path, temporary, 0o600, |file| file.write_all(bytes));
    written.map(drop).context(format!("failed to write {}", path.display()))
}

fn remove(path: &Path) -> Result<()> {
    file::remove(path).context(format!("failed to remove {}", path.display()))
}
