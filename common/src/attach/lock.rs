//! The lock of a file or directory that several plugins change something for: of a container's
//! namespace, for its rules and tables, which belong to no interface.

use super::Sandbox;
use crate::cni::{Code, Context as _, Error, Result, Undo};
use crate::file;
use std::fs::File;
use std::path::Path;
use std::time::Duration;

/// How long to wait for a lock, which others hold for milliseconds.
const PATIENCE: Duration = Duration::from_secs(10);

/// The lock of a file or directory, held until the value is dropped; the kernel unlocks it when the
/// process ends, however it ends.
#[must_use]
pub struct Lock {
    _file: File,
}

impl Lock {
    /// Waits until no other process has the lock of what is at `path`, which `what` says to people.
    ///
    /// # Errors
    /// Code 11 when another process keeps it locked.
    pub fn of(path: &Path, what: &str) -> Result<Self> {
        let doing = || format!("cannot lock {what}");
        let file = File::open(path).context(doing())?;
        let locked = file::lock_within(file, PATIENCE).context(doing())?;
        let file = locked.ok_or_else(|| {
            let msg = format!("{}: another process has locked it for {PATIENCE:?}", doing());
            Error::new(Code::TryAgain, msg).details("lslocks(8) tells which process that is")
        })?;
        Ok(Self { _file: file })
    }

    /// Holds the lock until the ADD has been answered or rolled back.
    pub fn keep(self, undo: &mut Undo) {
        undo.hold(self);
    }
}

impl Sandbox {
    /// Waits until no other plugin changes the rules and tables of the namespace. What is locked is the
    /// file of the namespace, as the Go plugin sbr does, so that each waits for the other.
    ///
    /// # Errors
    /// Code 11 when another process keeps it locked.
    pub fn lock(&self) -> Result<Lock> {
        let path = self.path();
        Lock::of(path.as_path(), &format!("network namespace \"{path}\""))
    }
}
