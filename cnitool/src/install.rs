//! `girder install`: puts the executable into a directory of plugins, by a hard link for each name, and
//! takes it out again.
//!
//! Each name changes from one whole file to another, so the node may be busy meanwhile. What a name was
//! before is kept beside it and comes back with the end of the installation; where there was nothing, an
//! empty file says so.

use crate::plugins;
use common::cni::Context as _;
use common::{Errors, Result, file};
use std::fs::{self, Permissions};
use std::io::ErrorKind;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

/// The executable's own name in the directory.
const GIRDER: &str = "girder";
/// The name of the runtime's side, in that executable as well.
pub const TOOL: &str = "cnitool";
/// The directory, in that of the plugins, of what was there before.
const KEPT: &str = ".replaced-by-girder";

/// What an operator wants otherwise.
#[derive(Debug)]
pub struct Wishes {
    /// Names that are somebody else's affair.
    pub skip: Vec<String>,
    /// Whether a file that is there already is replaced.
    pub replaces: bool,
}

/// A directory of plugins.
#[derive(Debug)]
pub struct Directory {
    path: PathBuf,
    /// The file that the names of an installation are, and the one that they were to become when an
    /// earlier call was killed.
    ours: Vec<Identity>,
    /// Of two calls for one directory, one waits.
    _lock: fs::File,
}

/// Device and inode.
type Identity = (u64, u64);

impl Directory {
    /// The directory at this path, which must be there: a mount that failed leaves none.
    ///
    /// # Errors
    /// Code 5 when there is none.
    pub fn open(path: &Path) -> Result<Self> {
        let what = format!("cannot use {} as a directory of plugins", path.display());
        let lock = fs::read_dir(path).and_then(|_| fs::File::open(path));
        let lock = lock.and_then(|lock| lock.lock().map(|()| lock)).context(what)?;
        let mut directory = Self { path: path.to_owned(), ours: Vec::new(), _lock: lock };
        let files = [directory.own(), directory.new_name(GIRDER)];
        directory.ours = files.iter().filter_map(|file| identity(file)).collect();
        Ok(directory)
    }

    /// Puts `executable` there, under all names but those to be skipped: how many of them are it now.
    ///
    /// # Errors
    /// Those of the file system. What is done is whole, and a second call does the rest.
    pub fn install(&self, executable: &Path, wishes: &Wishes) -> Result<usize> {
        let (own, new) = (self.own(), self.new_name(GIRDER));
        let keeps_own = own.exists() && (!wishes.replaces || is_same(executable, &own)?);
        let has_source = keeps_own || (new.exists() && is_same(executable, &new)?);
        if !has_source {
            copy(executable, &new)?;
        }
        let source = if keeps_own { &own } else { &new };
        let kept = self.path.join(KEPT);
        fs::create_dir_all(&kept).context(format!("cannot make {}", kept.display()))?;
        let mut installed = 0;
        for name in names() {
            if wishes.skip.iter().any(|skipped| skipped == name) {
                // An earlier call may not have skipped it.
                self.unlink(name).context(format!("cannot give {name} back"))?;
            } else {
                installed += usize::from(self.link(source, name, wishes.replaces)?);
            }
        }
        // Last: until then, what the names were is known by this one.
        let done = if keeps_own { file::remove(&new) } else { fs::rename(&new, &own) };
        done.context(format!("cannot write {}", own.display()))?;
        Ok(installed)
    }

    /// Takes it out again, and puts back what was there before. A name that somebody has given to another
    /// file since is left to that one.
    ///
    /// # Errors
    /// Those of the file system, all of them: one name does not keep the others from being done.
    pub fn uninstall(&self) -> Result<()> {
        let mut errors = Errors::default();
        for name in names() {
            errors.note(self.unlink(name).context(format!("cannot give {name} back")));
        }
        errors.into_result()?;
        let kept = match fs::remove_dir(self.path.join(KEPT)) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        };
        kept.and_then(|()| file::remove(&self.new_name(GIRDER)))
            .and_then(|()| file::remove(&self.own()))
            .context(format!("cannot empty {}", self.path.display()))
    }

    /// Whether the name is `source` now.
    fn link(&self, source: &Path, name: &str, replaces: bool) -> Result<bool> {
        let place = self.path.join(name);
        let found = identity(&place);
        if found.is_some() && found == identity(source) {
            return Ok(true);
        }
        if found.is_some() && !replaces {
            return Ok(false);
        }
        let new = self.new_name(name);
        let linked = self
            .keep(name, &place)
            .and_then(|()| file::remove(&new))
            .and_then(|()| fs::hard_link(source, &new))
            .and_then(|()| fs::rename(&new, &place));
        linked.context(format!("cannot make {} a hard link to {GIRDER}", place.display()))?;
        Ok(true)
    }

    /// Keeps what a name is, unless an installation has made it so.
    fn keep(&self, name: &str, place: &Path) -> std::io::Result<()> {
        let kept = self.path.join(KEPT).join(name);
        match identity(place) {
            Some(found) if !self.ours.contains(&found) => {
                file::remove(&kept)?;
                fs::hard_link(place, &kept)
            }
            _ if identity(&kept).is_some() => Ok(()),
            _ => fs::write(&kept, ""),
        }
    }

    fn unlink(&self, name: &str) -> std::io::Result<()> {
        let (kept, place) = (self.path.join(KEPT).join(name), self.path.join(name));
        if identity(&place).is_some_and(|found| self.ours.contains(&found)) {
            if kept.symlink_metadata().is_ok_and(|found| found.len() > 0) {
                fs::rename(&kept, &place)?;
            } else {
                file::remove(&place)?;
            }
        }
        file::remove(&kept)
    }

    fn own(&self) -> PathBuf {
        self.path.join(GIRDER)
    }

    /// Of a file that is being made: no runtime looks for such a plugin.
    fn new_name(&self, name: &str) -> PathBuf {
        self.path.join(format!(".{name}.new"))
    }
}

/// What the executable is called.
fn names() -> impl Iterator<Item = &'static str> {
    plugins::all().iter().map(|plugin| plugin.kind).chain([TOOL])
}

fn identity(path: &Path) -> Option<Identity> {
    path.symlink_metadata().map(|file| (file.dev(), file.ino())).ok()
}

/// Makes a copy that is whole and closed before it gets a name of a plugin: a file that is open for
/// writing cannot be executed.
fn copy(executable: &Path, to: &Path) -> Result<()> {
    let copied = file::remove(to)
        .and_then(|()| fs::copy(executable, to))
        .and_then(|_| fs::set_permissions(to, Permissions::from_mode(0o755)))
        .and_then(|()| fs::File::open(to)?.sync_all());
    if copied.is_err() {
        // The error to tell is the first one.
        drop(fs::remove_file(to));
    }
    copied.context(format!("cannot write {}", to.display()))
}

/// Whether two files have the same content.
fn is_same(one: &Path, other: &Path) -> Result<bool> {
    let read = |path: &Path| fs::read(path).context(format!("cannot read {}", path.display()));
    Ok(read(one)? == read(other)?)
}
