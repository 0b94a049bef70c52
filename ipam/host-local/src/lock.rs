//! The lock on a network's directory: an exclusive flock(2), as the Go plugin takes it, but with
//! a deadline.

use common::cni::Context as _;
use common::{Code, Error, Result, file};
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::time::{Duration, Instant};

/// Held until it is dropped, or the process ends, however it does.
#[must_use]
#[derive(Debug)]
pub struct Lock {
    _file: File,
}

impl Lock {
    /// Waits for the lock, and makes its file if it is missing.
    ///
    /// # Errors
    /// Code 5 for the file, 11 when somebody else held it for as long as `patience`.
    pub fn acquire(path: &Path, patience: Duration) -> Result<Self> {
        let started = Instant::now();
        loop {
            let file = open(path).context(format_args!("cannot open {}", path.display()))?;
            let left = patience.saturating_sub(started.elapsed());
            let locked = file::lock_within(file, left)
                .context(format_args!("cannot lock {}", path.display()))?
                .ok_or_else(|| held(path, patience))?;
            // Whoever cleaned up the directory while we waited left us a lock that nobody else
            // will ever see.
            if is_at(&locked, path) {
                return Ok(Self { _file: locked });
            }
        }
    }
}

fn open(path: &Path) -> io::Result<File> {
    // Locking needs no right to write, and CHECK should work on a read-only filesystem.
    match file::open_own(path, OpenOptions::new().read(true)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let mut options = OpenOptions::new();
            options.read(true).write(true).create(true).truncate(false).mode(0o640);
            file::open_own(path, &options)
        }
        other => other,
    }
}

fn is_at(file: &File, path: &Path) -> bool {
    match (file.metadata(), path.metadata()) {
        (Ok(ours), Ok(there)) => (ours.dev(), ours.ino()) == (there.dev(), there.ino()),
        _ => false,
    }
}

fn held(path: &Path, patience: Duration) -> Error {
    let holder = path.metadata().ok().and_then(|file| holder(file.ino()));
    let msg = format!(
        "{}: gave up waiting for the lock after {patience:?}, {} holds it",
        path.display(),
        holder.as_deref().unwrap_or("another process"),
    );
    Error::new(Code::TryAgain, msg)
        .details("it is held for milliseconds normally: continue or end that process")
}

/// Who has locked the file of this inode: `process 17 (host-local, stopped, running for 12 s)`.
fn holder(inode: u64) -> Option<String> {
    let locks = std::fs::read_to_string("/proc/locks").ok()?;
    let pid = locks.lines().find_map(|line| parse_lock(line, inode))?;
    let mut text = format!("process {pid}");
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let uptime = std::fs::read_to_string("/proc/uptime").unwrap_or_default();
    if let Some((name, state, age)) = parse_stat(&stat, &uptime) {
        let stopped = if matches!(state, "T" | "t") { ", stopped" } else { "" };
        text.push_str(&format!(" ({name}{stopped}, running for {age} s)"));
    }
    Some(text)
}

/// `1: FLOCK  ADVISORY  WRITE 708 08:01:1310725 0 EOF`; those who wait have `->` before FLOCK.
///
/// The device is not compared: on overlay and btrfs it is not the one that stat(2) tells.
fn parse_lock(line: &str, inode: u64) -> Option<u32> {
    let mut words = line.split_whitespace().skip(1);
    let kind = words.next()?;
    let (pid, file) = (words.nth(2)?, words.next()?);
    let is_it = file.rsplit(':').next()?.parse() == Ok(inode);
    (kind == "FLOCK" && is_it).then(|| pid.parse().ok())?
}

/// Name, state, and age in seconds, from proc_pid_stat(5) and /proc/uptime.
fn parse_stat<'a>(stat: &'a str, uptime: &str) -> Option<(&'a str, &'a str, u64)> {
    // The name may hold blanks and parentheses.
    let (head, tail) = stat.rsplit_once(')')?;
    let name = head.split_once('(')?.1;
    let mut fields = tail.split_whitespace();
    let state = fields.next()?;
    // Field 22, in ticks of a hundredth second wherever Linux runs today.
    let started: u64 = fields.nth(18)?.parse().ok()?;
    let now: u64 = uptime.split('.').next()?.parse().ok()?;
    Some((name, state, now.saturating_sub(started / 100)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::tests::Temporary;

    const SHORT: Duration = Duration::from_millis(50);

    #[test]
    fn locks_a_path_and_names_the_holder() {
        let directory = Temporary::new();
        let path = directory.path().join("lock");
        let lock = Lock::acquire(&path, SHORT).unwrap();
        let error = Lock::acquire(&path, SHORT).unwrap_err();
        assert_eq!(error.code(), Code::TryAgain);
        let msg = error.to_string();
        assert!(msg.contains(&path.display().to_string()), "{msg}");
        assert!(msg.contains(&format!("process {}", std::process::id())), "{msg}");
        drop(lock);
        drop(Lock::acquire(&path, SHORT).unwrap());
    }

    #[test]
    fn gets_the_lock_as_soon_as_it_is_free() {
        let directory = Temporary::new();
        let path = directory.path().join("lock");
        let lock = Lock::acquire(&path, SHORT).unwrap();
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| Lock::acquire(&path, Duration::from_secs(60)));
            let inode = format!(":{} ", path.metadata().unwrap().ino());
            let waits = |line: &str| line.contains("-> FLOCK") && line.contains(&inode);
            let start = Instant::now();
            while !std::fs::read_to_string("/proc/locks").unwrap().lines().any(waits) {
                assert!(start.elapsed() < Duration::from_secs(60), "nobody waits");
                std::thread::yield_now();
            }
            drop(lock);
            assert!(waiting.join().unwrap().is_ok());
        });
    }

    #[test]
    fn a_lock_on_a_file_that_was_removed_is_none() {
        let directory = Temporary::new();
        let path = directory.path().join("lock");
        let _old = Lock::acquire(&path, SHORT).unwrap();
        let file = File::open(&path).unwrap();
        assert!(is_at(&file, &path));
        std::fs::remove_file(&path).unwrap();
        assert!(!is_at(&file, &path));
        drop(Lock::acquire(&path, SHORT).unwrap());
    }

    #[test]
    fn reads_what_proc_says() {
        let line = "1: FLOCK  ADVISORY  WRITE 708 08:01:1310725 0 EOF";
        assert_eq!(parse_lock(line, 1_310_725), Some(708));
        assert_eq!(parse_lock(line, 310_725), None);
        assert_eq!(parse_lock(&line.replace("FLOCK", "-> FLOCK"), 1_310_725), None);
        assert_eq!(parse_lock(&line.replace("FLOCK", "POSIX"), 1_310_725), None);
        assert_eq!(parse_lock("", 1), None);
        let stat = "17 (a) b) T 1 17 17 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 1234 0 0";
        assert_eq!(parse_stat(stat, "20.5 1.0\n"), Some(("a) b", "T", 8)));
        assert_eq!(parse_stat("", ""), None);
    }
}
