//! Files in places where somebody else may have put something in their stead.
//!
//! A named pipe makes whoever opens it wait, a device or `/proc` may never end, and a link leads
//! what is written into another file. So a file is opened without waiting, looked at, and used only
//! if it is a plain one; and what replaces a file is made beside it and renamed over it.

use nix::libc::{ELOOP, O_NOCTTY, O_NOFOLLOW, O_NONBLOCK};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::statvfs::statvfs;
use nix::unistd::{AccessFlags, Uid, eaccess};
use std::fs::{self, DirBuilder, File, Metadata, OpenOptions, TryLockError};
use std::io::{self, ErrorKind, Read as _};
use std::os::unix::fs::{
    DirBuilderExt as _, FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _,
};
use std::path::Path;
use std::sync::mpsc;
use std::time::Duration;

/// Opens a file of a directory that is ours: a plain file with no other name, not a link to one.
/// `options` must not truncate: that would happen before the look.
///
/// # Errors
/// [`ErrorKind::InvalidInput`] with a sentence that says what it is instead, or as the kernel says.
pub fn open_own(path: &Path, options: &OpenOptions) -> io::Result<File> {
    let (file, found) = open(path, options, O_NOFOLLOW)?;
    match found.nlink() {
        // None is left of a file that was removed while we opened it: whoever locks looks again.
        0 | 1 => Ok(file),
        names => Err(instead(&format!("has {names} names (hard links), and must have one"))),
    }
}

/// Opens a file for reading that an administrator has named, or put into a directory of
/// configurations: a plain file, also through a link, as `/etc/resolv.conf` is one on many machines.
///
/// # Errors
/// As [`open_own`].
pub fn open_named(path: &Path) -> io::Result<File> {
    open(path, OpenOptions::new().read(true), 0).map(|(file, _)| file)
}

/// All of a file, if it has at most `limit` bytes.
///
/// # Errors
/// [`ErrorKind::FileTooLarge`] if it has more.
pub fn read(file: File, limit: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    // Not by its length: files of /proc tell none.
    file.take(limit.saturating_add(1)).read_to_end(&mut bytes)?;
    if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > limit {
        let reason = format!("it has more than {limit} bytes");
        return Err(io::Error::new(ErrorKind::FileTooLarge, reason));
    }
    Ok(bytes)
}

/// Makes a directory of state, and those above it, for root alone; one that is there stays as it is.
///
/// # Errors
/// As the kernel says.
pub fn make_directory(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// Replaces a file, or whatever else is there but a directory, by what `write` writes: whoever reads
/// it sees all of the old or all of the new one. `temporary` is beside it, and nobody else's at this
/// time. Returned is the new file, open for reading and writing.
///
/// # Errors
/// When it cannot be written; then `path` is as it was, and `temporary` is gone.
pub fn replace(
    path: &Path,
    temporary: &Path,
    mode: u32,
    write: impl FnOnce(&mut File) -> io::Result<()>,
) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create_new(true).mode(mode);
    let made = match options.open(temporary) {
        // Left by a call that was killed, or planted.
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            fs::remove_file(temporary).and_then(|()| options.open(temporary))
        }
        made => made,
    };
    let mut file = made?;
    match write(&mut file).and_then(|()| fs::rename(temporary, path)) {
        Ok(()) => Ok(file),
        Err(error) => {
            // The error to tell is the first one.
            drop(fs::remove_file(temporary));
            Err(error)
        }
    }
}

/// Removes a file, which may be gone.
///
/// # Errors
/// As remove_file(3), but ENOENT.
pub fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        outcome => outcome,
    }
}

/// Makes a write beyond RLIMIT_FSIZE an error like any other: as it is, a signal ends the process then,
/// without an answer (setrlimit(2)). Programs that this one starts begin with nothing blocked.
///
/// # Errors
/// When the signal cannot be blocked.
pub(crate) fn survive_size_limit() -> io::Result<()> {
    Ok(SigSet::from(Signal::SIGXFSZ).thread_block()?)
}

/// Whether files could be made in a directory: it may be written, and its file system, which may be
/// read-only, has a free block and a free inode left. Leaves no trace.
///
/// # Errors
/// When none could be made, as making one would fail.
pub fn check_writable(directory: &Path) -> io::Result<()> {
    eaccess(directory, AccessFlags::W_OK | AccessFlags::X_OK)?;
    let found = statvfs(directory)?;
    // Root may also take the blocks that are reserved for it.
    let is_root = Uid::effective().is_root();
    let blocks = if is_root { found.blocks_free() } else { found.blocks_available() };
    let inodes = if is_root { found.files_free() } else { found.files_available() };
    // A file system without a limit says that it has none at all.
    let is_used_up = |all: u64, free: u64| all > 0 && free == 0;
    if is_used_up(found.blocks(), blocks) {
        return Err(io::Error::new(ErrorKind::StorageFull, "no block of its file system is free"));
    }
    if is_used_up(found.files(), inodes) {
        return Err(io::Error::new(ErrorKind::StorageFull, "no inode of its file system is free"));
    }
    Ok(())
}

/// Waits for the exclusive flock(2) of a file, and returns the file with it: the lock is held until the
/// file is dropped. `None` when `patience` is over.
///
/// # Errors
/// When the file cannot be locked at all.
pub fn lock_within(file: File, patience: Duration) -> io::Result<Option<File>> {
    match file.try_lock() {
        Ok(()) => return Ok(Some(file)),
        Err(TryLockError::Error(error)) => return Err(error),
        Err(TryLockError::WouldBlock) => {}
    }
    let (sender, receiver) = mpsc::channel();
    // flock knows no deadline, a signal handler would need unsafe code, and trying again and again
    // would be unfair to those who wait. A thread is paid for only by a call that must wait anyway;
    // if it never gets the lock, it ends with the process.
    let waiting = std::thread::Builder::new().spawn(move || {
        let locked = file.lock().map(|()| file);
        // Nobody listens any more after the deadline; then the lock goes as the file is dropped.
        drop(sender.send(locked));
    })?;
    drop(waiting);
    match receiver.recv_timeout(patience) {
        Ok(locked) => locked.map(Some),
        Err(_) => Ok(None),
    }
}

fn open(path: &Path, options: &OpenOptions, flags: i32) -> io::Result<(File, Metadata)> {
    let mut options = options.clone();
    options.custom_flags(O_NONBLOCK | O_NOCTTY | flags);
    let file = options.open(path).map_err(|error| match error.raw_os_error() {
        Some(ELOOP) if flags & O_NOFOLLOW != 0 => instead("is a symbolic link, not a plain file"),
        _ => error,
    })?;
    let found = file.metadata()?;
    let what = match found.file_type() {
        kind if kind.is_file() => return Ok((file, found)),
        kind if kind.is_dir() => "directory",
        kind if kind.is_fifo() => "named pipe",
        kind if kind.is_char_device() || kind.is_block_device() => "device",
        _ => "special file",
    };
    Err(instead(&format!("is a {what}, not a plain file")))
}

fn instead(what: &str) -> io::Error {
    io::Error::new(ErrorKind::InvalidInput, format!("it {what}: remove it, or put a file there"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::stat::Mode;
    use std::fs;
    use std::io::Write as _;
    use std::path::PathBuf;

    struct Directory(PathBuf);

    impl Directory {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("file-{name}-{}", std::process::id()));
            fs::create_dir(&path).unwrap();
            Self(path)
        }
    }

    impl Drop for Directory {
        fn drop(&mut self) {
            drop(fs::remove_dir_all(&self.0));
        }
    }

    #[test]
    fn only_plain_files_are_opened_and_nothing_is_waited_for() {
        let directory = Directory::new("open");
        let at = |name: &str| directory.0.join(name);
        fs::write(at("plain"), "text").unwrap();
        fs::write(at("twice"), "text").unwrap();
        fs::hard_link(at("twice"), at("again")).unwrap();
        std::os::unix::fs::symlink(at("plain"), at("link")).unwrap();
        std::os::unix::fs::symlink("/dev/zero", at("zero")).unwrap();
        nix::unistd::mkfifo(&at("pipe"), Mode::from_bits_truncate(0o600)).unwrap();
        let own = |name: &str| {
            let opened = open_own(&at(name), OpenOptions::new().read(true).write(true));
            opened.map(drop).map_err(|error| error.to_string())
        };
        let named = |name: &str| {
            open_named(&at(name)).and_then(|file| read(file, 4)).map_err(|error| error.to_string())
        };
        assert!(own("plain").is_ok() && named("plain").is_ok() && named("link").is_ok());
        assert_eq!(named("again").unwrap(), b"text");
        for (name, own_is, named_is) in [
            ("pipe", "named pipe", "named pipe"),
            ("twice", "has 2 names", ""),
            ("link", "symbolic link", ""),
            ("zero", "symbolic link", "device"),
            (".", "irectory", "irectory"),
        ] {
            assert!(own(name).unwrap_err().contains(own_is), "{name}: {:?}", own(name));
            if !named_is.is_empty() {
                assert!(named(name).unwrap_err().contains(named_is), "{name}: {:?}", named(name));
            }
        }
        assert!(read(File::open(at("plain")).unwrap(), 3).unwrap_err().to_string().contains("3 "));
    }

    #[test]
    fn what_is_replaced_is_not_written_through() {
        let directory = Directory::new("replace");
        let at = |name: &str| directory.0.join(name);
        fs::write(at("victim"), "victim").unwrap();
        for link in ["link", "new"] {
            std::os::unix::fs::symlink(at("victim"), at(link)).unwrap();
        }
        fs::hard_link(at("victim"), at("hard")).unwrap();
        for name in ["link", "hard", "fresh"] {
            replace(&at(name), &at("new"), 0o600, |file| file.write_all(b"ours")).unwrap();
            assert_eq!(fs::read_to_string(at(name)).unwrap(), "ours");
            assert!(at(name).symlink_metadata().unwrap().is_file());
        }
        assert_eq!(fs::read_to_string(at("victim")).unwrap(), "victim");
        let failed = replace(&at("fresh"), &at("new"), 0o600, |_| Err(ErrorKind::Other.into()));
        assert!(failed.is_err() && !at("new").exists());
        assert_eq!(fs::read_to_string(at("fresh")).unwrap(), "ours");
    }
}
