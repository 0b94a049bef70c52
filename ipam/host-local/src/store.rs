//! The lease file of a network, `<dataDir>/<network>/leases`, whose lines [`log`](crate::log)
//! explains.
//!
//! A call locks the directory, reads the file once, appends one line and leaves. Nothing is
//! synced to the disk: no lease outlives the boot that it was made in, because no network
//! namespace does, and without a crash of the machine the page cache is as good as the disk. A
//! process that is killed half way leaves a line without an end, which the next one cuts.

use crate::config::Pool;
use crate::lock::Lock;
use crate::log::{HEADER, Log};
use crate::range::RangeSet;
use common::cni::{Context as _, report};
use common::{Code, Error, Result};
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

/// A smaller file is read faster than it is rewritten.
const WORTH_COMPACTING: usize = 16 * 1024;

/// A locked lease file and what it says. The lock goes with it.
#[derive(Debug)]
pub(crate) struct Store {
    path: PathBuf,
    /// None if there is no file yet.
    text: Option<Vec<u8>>,
    _lock: Lock,
}

impl Store {
    /// For ADD: makes the directory.
    ///
    /// # Errors
    /// Code 5 for the directory and its files, 11 when somebody holds the lock.
    pub(crate) fn create(pool: &Pool) -> Result<Self> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o755)
            .create(&pool.directory)
            .context(format_args!("cannot create {}", pool.directory.display()))?;
        Self::lock(pool)
    }

    /// For all others: nothing was ever leased where there is no directory.
    ///
    /// # Errors
    /// As [`Store::create`].
    pub(crate) fn open(pool: &Pool) -> Result<Option<Self>> {
        match pool.directory.symlink_metadata() {
            Ok(_) => Self::lock(pool).map(Some),
            Err(error) if is_absence(&error) => Ok(None),
            Err(error) => {
                Err(error).context(format_args!("cannot open {}", pool.directory.display()))
            }
        }
    }

    fn lock(pool: &Pool) -> Result<Self> {
        let lock = Lock::acquire(&pool.directory.join("lock"), pool.lock_timeout)?;
        let path = pool.directory.join("leases");
        let text = match std::fs::read(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            other => other.map(Some),
        };
        let text = text.context(format_args!("cannot read {}", path.display()))?;
        Ok(Self { path, text, _lock: lock })
    }

    /// What the file says.
    ///
    /// # Errors
    /// Code 6 for a file that is not ours, is of a later version, or is damaged.
    pub(crate) fn log(&self) -> Result<Log<'_>> {
        let text = self.text.as_deref().unwrap_or_default();
        Log::parse(text).context(format_args!("cannot use {}", self.path.display()))
    }

    /// Adds whole lines, all of them or none, after cutting what was left incomplete.
    ///
    /// # Errors
    /// Code 5; then the file is as it was.
    pub(crate) fn append(&self, log: &Log<'_>, lines: &str) -> Result<()> {
        let found = self.text.as_ref().map_or(0, Vec::len);
        if found > log.length {
            let (path, excess) = (self.path.display(), found - log.length);
            report(format_args!("{path}: cutting {excess} bytes that were not written to the end"));
        }
        let fresh = if log.length == 0 { HEADER } else { "" };
        let outcome = write_at(&self.path, log.length, found, &format!("{fresh}{lines}"));
        if outcome.is_err() && self.text.is_none() {
            // The error to tell is the one of the write.
            drop(std::fs::remove_file(&self.path));
        }
        outcome.context(format_args!("cannot write {}", self.path.display()))
    }

    /// Rewrites the file with `lines` at its end when most of it says nothing any more. Where that
    /// fails, the old file is still good.
    pub(crate) fn compact(&self, log: &Log<'_>, lines: &str, sets: &[RangeSet]) {
        if log.length < WORTH_COMPACTING || log.garbage() <= log.live() {
            return;
        }
        let text = log.compacted(sets) + lines;
        let temporary = self.path.with_extension("new");
        if let Err(error) = replace(&self.path, &temporary, text.as_bytes()) {
            drop(std::fs::remove_file(&temporary));
            let path = self.path.display();
            report(format_args!("{path}: cannot be rewritten without its old lines: {error}"));
        }
    }

    /// Whether the file could be appended to, if there is one.
    ///
    /// # Errors
    /// Code 50.
    pub(crate) fn check_writable(&self) -> Result<()> {
        match OpenOptions::new().append(true).open(&self.path) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                Err(unavailable(&self.path, &error))
            }
            _ => Ok(()),
        }
    }
}

/// Whether the directory could be written to, or made if it is missing. Leaves no trace.
///
/// # Errors
/// Code 50.
pub(crate) fn check_directory(directory: &Path) -> Result<()> {
    let existing = directory.ancestors().find(|path| path.symlink_metadata().is_ok());
    let existing = existing.unwrap_or(Path::new("."));
    if !existing.is_dir() {
        return Err(unavailable(existing, &ErrorKind::NotADirectory.into()));
    }
    // A filesystem that is read-only says so before it looks for the name.
    match std::fs::remove_file(existing.join(".girder-status")) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(unavailable(existing, &error)),
        _ => Ok(()),
    }
}

fn unavailable(path: &Path, error: &io::Error) -> Error {
    Error::new(Code::Unavailable, format!("cannot write {}: {error}", path.display()))
}

/// Neither there nor possible.
fn is_absence(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory)
}

fn write_at(path: &Path, offset: usize, old_length: usize, text: &str) -> io::Result<()> {
    let mut options = OpenOptions::new();
    let file = options.write(true).create(true).truncate(false).mode(0o600).open(path)?;
    let (offset, old_length) = (length(offset)?, length(old_length)?);
    if offset < old_length {
        file.set_len(offset)?;
    }
    // One write in the normal case. What a full disk has no room for is tried again, only to
    // learn the reason.
    let written = file.write_all_at(text.as_bytes(), offset);
    if written.is_err() {
        drop(file.set_len(offset));
    }
    written
}

fn length(length: usize) -> io::Result<u64> {
    u64::try_from(length).map_err(io::Error::other)
}

fn replace(path: &Path, temporary: &Path, text: &[u8]) -> io::Result<()> {
    let mut options = OpenOptions::new();
    let mut file: File =
        options.write(true).create(true).truncate(true).mode(0o600).open(temporary)?;
    file.write_all(text)?;
    std::fs::rename(temporary, path)
}
