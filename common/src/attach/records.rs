//! The directories of the [`Record`]s.

use super::record::Record;
use super::{Owner, Site, running};
use crate::cni::{Code, Context as _, Error, Network, Result, report};
use crate::file;
use crate::net::{Link, is_exhausted};
use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};

/// Where the records are, unless `dataDir` says otherwise.
const DIRECTORY: &str = "/run/cni/host-device";

/// The extension of a record that is being written.
const UNFINISHED: &str = "new";

/// No record is longer than this, however many addresses the link has.
const LONGEST: u64 = 1 << 20;

/// The directories of the records: the one that is written to, and the default one, because the key may
/// have been changed since ADD.
#[derive(Clone, Debug)]
pub struct Records {
    own: PathBuf,
    default: Option<PathBuf>,
}

impl Records {
    /// The directory of that name; the empty one is the default.
    pub fn at(directory: &str) -> Self {
        if directory.is_empty() || directory == DIRECTORY {
            return Self { own: DIRECTORY.into(), default: None };
        }
        Self { own: directory.into(), default: Some(DIRECTORY.into()) }
    }

    fn directories(&self) -> impl Iterator<Item = &PathBuf> {
        [Some(&self.own), self.default.as_ref()].into_iter().flatten()
    }

    /// For DEL and GC: the directory that the configuration names.
    pub fn of(network: &Network) -> Self {
        Self::at(&network.tolerant::<String>(&["dataDir"]).unwrap_or_default())
    }

    /// Every record. A file that cannot be read, or is none of ours, is passed over.
    ///
    /// # Errors
    /// Code 5 when the directory cannot be read.
    pub fn list(&self) -> Result<Vec<Record>> {
        self.files("json")?.iter().filter_map(|path| read(path).transpose()).collect()
    }

    /// The records of all other attachments.
    ///
    /// # Errors
    /// As [`list`](Self::list).
    pub(super) fn others(&self, owner: &Owner) -> Result<Vec<Record>> {
        let mut all = self.list()?;
        all.retain(|record| record.owner != owner.as_str());
        Ok(all)
    }

    /// Removes the records of others that are true no more, because `record`'s link, which was on the host
    /// until now, is in the container: they tell of the same link, or of one that was there before it.
    ///
    /// # Errors
    /// Code 5 when one cannot be removed.
    pub(super) fn supersede(&self, record: &Record, site: &Site, link: &Link) -> Result<()> {
        for other in self.others(&site.owner)? {
            let Some(theirs) = other.owner().filter(|owner| !running::is_running(owner)) else {
                continue;
            };
            if other.is_of(&site.sandbox, link)
                || other.is_same_link(record) && !other.is_in_container()?
            {
                self.remove(&theirs)?;
            }
        }
        Ok(())
    }

    /// Removes the records that an ADD was killed for while it wrote them, before it moved its link.
    ///
    /// # Errors
    /// Code 5 when they cannot be removed.
    pub(super) fn sweep_unfinished(&self) -> Result<()> {
        for path in self.files(UNFINISHED)? {
            let name = path.file_stem().unwrap_or_default().to_string_lossy().replace(':', " ");
            if Owner::read(&name).is_some_and(|owner| !running::is_running(&owner)) {
                remove(&path)?;
            }
        }
        Ok(())
    }

    fn files(&self, extension: &str) -> Result<Vec<PathBuf>> {
        let mut found = Vec::new();
        for directory in self.directories() {
            let what = || format!("cannot list {}", directory.display());
            let entries = match fs::read_dir(directory) {
                Err(error) if error.kind() == ErrorKind::NotFound => continue,
                entries => entries.context(what())?,
            };
            for entry in entries {
                found.push(entry.context(what())?.path());
            }
        }
        found.retain(|path| path.extension().is_some_and(|own| own == extension));
        Ok(found)
    }

    /// The record of a link that the owner has.
    ///
    /// # Errors
    /// Code 5 when it cannot be opened for want of files or memory.
    pub(super) fn find(&self, owner: &Owner) -> Result<Option<Record>> {
        for directory in self.directories() {
            let found = read(&path(directory, owner.as_str()))?;
            if let Some(record) = found.filter(|record| record.owner == owner.as_str()) {
                return Ok(Some(record));
            }
        }
        Ok(None)
    }

    /// Writes a record in the place of an earlier one of its owner.
    ///
    /// # Errors
    /// Code 5 when it cannot be written.
    pub(super) fn write(&self, record: &Record) -> Result<()> {
        file::make_directory(&self.own).context(format!("cannot make {}", self.own.display()))?;
        let path = path(&self.own, &record.owner);
        let text = serde_json::to_vec_pretty(record).map_err(|error| {
            Error::new(Code::Io, format!("cannot write {}: {error}", path.display()))
        })?;
        let temporary = path.with_extension(UNFINISHED);
        let written = file::replace(&path, &temporary, 0o600, |file| file.write_all(&text));
        written.map(drop).context(format!("cannot write {}", path.display()))
    }

    /// Forgets the record of an owner.
    ///
    /// # Errors
    /// Code 5 when it cannot be removed.
    pub(super) fn remove(&self, owner: &Owner) -> Result<()> {
        for path in self.directories().map(|it| path(it, owner.as_str())) {
            remove(&path.with_extension(UNFINISHED)).and_then(|()| remove(&path))?;
        }
        Ok(())
    }
}

/// No word of an owner has a colon or a slash.
fn path(directory: &Path, owner: &str) -> PathBuf {
    directory.join(format!("{}.json", owner.replace(' ', ":")))
}

fn remove(path: &Path) -> Result<()> {
    file::remove(path).context(format!("cannot remove {}", path.display()))
}

/// `None` if it is gone, or is no record.
fn read(path: &Path) -> Result<Option<Record>> {
    let opened = file::open_own(path, OpenOptions::new().read(true));
    let text = match opened.and_then(|opened| file::read(opened, LONGEST)) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) if error.raw_os_error().is_some_and(is_exhausted) => {
            return Err(error).context(format!("cannot read {}", path.display()));
        }
        text => text,
    };
    let record = text
        .map_err(|error| error.to_string())
        .and_then(|text| serde_json::from_slice(&text).map_err(|error| error.to_string()));
    let told = |error| report(format_args!("{} is no record: {error}", path.display()));
    Ok(record.map_err(told).ok())
}
