//! The file in which the daemon keeps its leases, so that it goes on renewing them after its end,
//! whatever that was. It is replaced as a whole, and its lock keeps a second daemon away.

use crate::registry::Record;
use common::cni::{Context as _, report};
use common::{Code, Error, Result, file};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

/// What to do about another daemon.
pub(crate) const ANOTHER: &str =
    "stop that one, or give this one -socketpath and -leases of its own";

/// The file has a few hundred bytes for each lease.
const LARGEST: u64 = 256 << 20;

/// The file, locked as long as this lives.
#[derive(Debug)]
pub(crate) struct Store {
    path: PathBuf,
    boot: String,
    _lock: File,
}

/// What is in the file.
#[derive(Serialize, Deserialize)]
struct Content<T> {
    /// No namespace outlives the boot that it is of, and times are counted from there.
    boot: String,
    leases: T,
}

impl Store {
    /// Locks the file at `path`.
    ///
    /// # Errors
    /// Code 11 when another daemon has it, 7 where it, or a file that goes with it, would be `socket`.
    pub(crate) fn open(path: PathBuf, socket: &Path) -> Result<Self> {
        let others = ["lock", "new", "unreadable"].map(|extension| path.with_extension(extension));
        if others.iter().chain([&path]).any(|file| file == socket) {
            let (path, socket) = (path.display(), socket.display());
            let msg = format!("the leases cannot be at {path}: the socket is {socket}");
            return Err(Error::config(msg).details("give the one or the other another name"));
        }
        let [lock, ..] = others;
        let named = || format!("cannot lock {}", lock.display());
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let held = file::open_own(&lock, &options).context(named())?;
        match held.try_lock() {
            Ok(()) => {}
            Err(TryLockError::Error(error)) => return Err(error).context(named()),
            Err(TryLockError::WouldBlock) => {
                let msg = format!("{}: another daemon keeps its leases there", path.display());
                return Err(Error::new(Code::TryAgain, msg).details(ANOTHER));
            }
        }
        let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        Ok(Self { path, boot: boot.trim().to_owned(), _lock: held })
    }

    /// The leases of an earlier daemon. Those of an earlier boot are none. What cannot be read is told,
    /// and a file of which nothing can be read is put aside, for it will be written anew.
    pub(crate) fn load(&self) -> Vec<Record> {
        match read(&self.path) {
            Ok(content) if content.boot == self.boot => self.readable(content.leases),
            Ok(_) => Vec::new(),
            // The first daemon of this boot has nothing to read.
            Err(_) if !self.path.exists() => Vec::new(),
            Err(error) => {
                let (path, aside) = (&self.path, self.path.with_extension("unreadable"));
                let kept = match fs::rename(path, &aside) {
                    Ok(()) => format!("the file is {} now", aside.display()),
                    Err(error) => format!("it cannot be put aside: {error}"),
                };
                report(format_args!("{}: {error}: its leases are lost; {kept}", path.display()));
                Vec::new()
            }
        }
    }

    fn readable(&self, records: Vec<Value>) -> Vec<Record> {
        let read = |record| {
            let read = serde_json::from_value(record);
            read.map_err(|error| {
                report(format_args!("{}: a lease is lost: {error}", self.path.display()));
            })
            .ok()
        };
        records.into_iter().filter_map(read).collect()
    }

    /// Writes all leases.
    ///
    /// # Errors
    /// Code 5; the file is as it was.
    pub(crate) fn save(&self, leases: &[&Record]) -> Result<()> {
        let content = Content { boot: self.boot.clone(), leases };
        let text =
            serde_json::to_vec(&content).map_err(|error| Error::internal(error.to_string()))?;
        let temporary = self.path.with_extension("new");
        let written = file::replace(&self.path, &temporary, 0o600, |file| file.write_all(&text));
        written.map(drop).context(format_args!("cannot write {}", self.path.display()))
    }
}

fn read(path: &Path) -> Result<Content<Vec<Value>>> {
    let opened = file::open_own(path, OpenOptions::new().read(true)).context("cannot be opened")?;
    let bytes = file::read(opened, LARGEST).context("cannot be read")?;
    serde_json::from_slice(&bytes).map_err(|error| Error::new(Code::Decode, error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_read_costs_no_more_than_itself() {
        let directory = std::env::temp_dir().join(format!("dhcp-store-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        let path = directory.join("leases");
        let store = Store::open(path.clone(), Path::new("/run/socket")).unwrap();
        let content =
            Content { boot: store.boot.clone(), leases: vec![Value::Null, Value::from(7)] };
        fs::write(&path, serde_json::to_vec(&content).unwrap()).unwrap();
        assert!(store.load().is_empty() && path.exists());
        fs::write(&path, "somebody's").unwrap();
        assert!(store.load().is_empty() && !path.exists());
        assert_eq!(fs::read_to_string(path.with_extension("unreadable")).unwrap(), "somebody's");
        fs::remove_dir_all(&directory).unwrap();
    }
}
