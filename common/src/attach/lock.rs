//! The lock of a container's namespace, for plugins that change rules and tables which belong to no
//! interface.

use super::Sandbox;
use crate::cni::{Code, Context as _, Error, Result, Undo};
use crate::file;
use std::fs::File;
use std::time::Duration;

/// How long to wait for the lock of a namespace, which others hold for milliseconds.
const PATIENCE: Duration = Duration::from_secs(10);

/// The lock of a namespace: see [`Sandbox::lock`].
#[must_use]
pub struct Lock {
    _file: File,
}

impl Lock {
    /// Holds the lock until the ADD has been answered or rolled back.
    pub fn keep(self, undo: &mut Undo) {
        undo.hold(self);
    }
}

impl Sandbox {
    /// Waits until no other plugin changes the rules and tables of the namespace. What is locked is the
    /// file of the namespace, as the Go plugin sbr does, so that each waits for the other; the kernel
    /// unlocks it when the process ends, however it ends.
    ///
    /// # Errors
    /// Code 11 when another process keeps it locked.
    pub fn lock(&self) -> Result<Lock> {
        let path = self.path();
        let doing = || format!("cannot lock network namespace \"{path}\"");
        let file = File::open(path.as_path()).context(doing())?;
        let locked = file::lock_within(file, PATIENCE).context(doing())?;
        let file = locked.ok_or_else(|| {
            let msg = format!("{}: another process has locked it for {PATIENCE:?}", doing());
            Error::new(Code::TryAgain, msg).details("lslocks(8) tells which process that is")
        })?;
        Ok(Lock { _file: file })
    }
}
