//! The lease file of a network, `<dataDir>/<network>/leases`, whose lines
//! [`record`](crate::record) explains.
//!
//! A call locks the directory, reads the file once, appends one line and leaves. Nothing is
//! synced to the disk: no lease outlives the boot that it was made in, because no network
//! namespace does, and without a crash of the machine the page cache is as good as the disk. A
//! process that is killed half way leaves a line without an end, which the next one cuts.

use crate::config::Pool;
use crate::lock::Lock;
use crate::log::Log;
use crate::range::RangeSet;
use crate::record::HEADER;
use common::cni::{Context as _, report};
use common::{Code, Error, Result};
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, BufReader, ErrorKind, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

/// A smaller file is read faster than it is rewritten.
const WORTH_COMPACTING: u64 = 16 * 1024;

/// What is read at once. It stays in the cache while its lines are checked.
const CHUNK: usize = 64 * 1024;

/// A locked lease file and what it says. The lock goes with it.
#[derive(Debug)]
pub struct Store {
    path: PathBuf,
    _lock: Lock,
}

impl Store {
    /// For ADD: makes the directory.
    ///
    /// # Errors
    /// Code 5 for the directory and its files, 11 when somebody holds the lock.
    pub fn create(pool: &Pool) -> Result<Self> {
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
    pub fn open(pool: &Pool) -> Result<Option<Self>> {
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
        Ok(Self { path, _lock: lock })
    }

    /// What the file says.
    ///
    /// # Errors
    /// Code 6 for a file that is not ours, is of a later version, or is damaged.
    pub fn read(&self) -> Result<Log> {
        match File::open(&self.path) {
            Ok(file) => Log::read(&mut BufReader::with_capacity(CHUNK, file))
                .context(format_args!("cannot use {}", self.path.display())),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(Log::default()),
            Err(error) => Err(error).context(format_args!("cannot read {}", self.path.display())),
        }
    }

    /// Adds whole lines, all of them or none, after cutting what was left incomplete.
    ///
    /// # Errors
    /// Code 5; then the file is as it was.
    pub fn append(&self, log: &Log, lines: &str) -> Result<()> {
        if log.found > log.length {
            let (path, excess) = (self.path.display(), log.found - log.length);
            report(format_args!("{path}: cutting {excess} bytes that were not written to the end"));
        }
        let fresh = if log.length == 0 { HEADER } else { "" };
        let outcome = write_at(&self.path, log, &format!("{fresh}{lines}"));
        if outcome.is_err() && log.found == 0 {
            // The error to tell is the one of the write.
            drop(std::fs::remove_file(&self.path));
        }
        outcome.context(format_args!("cannot write {}", self.path.display()))
    }

    /// Rewrites the file with `lines` at its end when most of it says nothing any more. Where that
    /// fails, the old file is still good.
    pub fn compact(&self, log: &Log, lines: &str, sets: &[RangeSet]) {
        if log.length < WORTH_COMPACTING || !log.is_mostly_garbage() {
            return;
        }
        let temporary = self.path.with_extension("new");
        let replaced = std::fs::read(&self.path).and_then(|old| {
            let text = log.compacted(&old, sets) + lines;
            replace(&self.path, &temporary, text.as_bytes())
        });
        if let Err(error) = replaced {
            drop(std::fs::remove_file(&temporary));
            let path = self.path.display();
            report(format_args!("{path}: cannot be rewritten without its old lines: {error}"));
        }
    }

    /// Whether the file could be appended to, if there is one.
    ///
    /// # Errors
    /// Code 50.
    pub fn check_writable(&self) -> Result<()> {
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
pub fn check_directory(directory: &Path) -> Result<()> {
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

fn write_at(path: &Path, log: &Log, text: &str) -> io::Result<()> {
    let mut options = OpenOptions::new();
    let file = options.write(true).create(true).truncate(false).mode(0o600).open(path)?;
    if log.found > log.length {
        file.set_len(log.length)?;
    }
    // One write in the normal case. What a full disk has no room for is tried again, only to
    // learn the reason.
    let written = file.write_all_at(text.as_bytes(), log.length);
    if written.is_err() {
        drop(file.set_len(log.length));
    }
    written
}

fn replace(path: &Path, temporary: &Path, text: &[u8]) -> io::Result<()> {
    let mut options = OpenOptions::new();
    let mut file: File =
        options.write(true).create(true).truncate(true).mode(0o600).open(temporary)?;
    file.write_all(text)?;
    std::fs::rename(temporary, path)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::record::tests::{lease, owner};
    use std::os::unix::fs::PermissionsExt as _;
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::time::Duration;

    /// A directory that goes with its test.
    pub(crate) struct Directory(PathBuf);

    impl Directory {
        pub(crate) fn new() -> Self {
            static COUNT: AtomicU32 = AtomicU32::new(0);
            let count = COUNT.fetch_add(1, Ordering::Relaxed);
            let name = format!("host-local-{}-{count}", std::process::id());
            let path = std::env::temp_dir().join(name);
            std::fs::create_dir(&path).unwrap();
            Self(path)
        }

        pub(crate) fn path(&self) -> &Path {
            &self.0
        }

        fn pool(&self) -> Pool {
            Pool { directory: self.0.join("net"), lock_timeout: Duration::from_secs(5) }
        }

        fn leases(&self) -> PathBuf {
            self.0.join("net/leases")
        }
    }

    impl Drop for Directory {
        fn drop(&mut self) {
            drop(std::fs::remove_dir_all(&self.0));
        }
    }

    fn append(pool: &Pool, lines: &str) -> Result<()> {
        let store = Store::create(pool)?;
        let log = store.read()?;
        store.append(&log, lines)?;
        store.compact(&log, lines, &[]);
        Ok(())
    }

    #[test]
    fn makes_a_file_that_only_root_can_read_and_nothing_before_that() {
        let directory = Directory::new();
        let pool = directory.pool();
        assert!(Store::open(&pool).unwrap().is_none());
        assert!(!pool.directory.exists());
        append(&pool, &lease("10.1.0.2", "a")).unwrap();
        append(&pool, &lease("10.1.0.3", "b")).unwrap();
        let text = std::fs::read_to_string(directory.leases()).unwrap();
        assert_eq!(text, format!("{HEADER}{}{}", lease("10.1.0.2", "a"), lease("10.1.0.3", "b")));
        let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o7777;
        assert_eq!(mode(&directory.leases()), 0o600);
        assert_eq!(mode(&pool.directory), 0o755);
    }

    #[test]
    fn cuts_a_torn_tail_before_it_appends() {
        let directory = Directory::new();
        let pool = directory.pool();
        let (one, two, three) =
            (lease("10.1.0.2", "a"), lease("10.1.0.3", "b"), lease("10.1.0.4", "c"));
        for cut in (0..two.len()).step_by(11) {
            drop(std::fs::remove_dir_all(&pool.directory));
            append(&pool, &one).unwrap();
            let torn = format!("{HEADER}{one}{}", &two[..cut]);
            std::fs::write(directory.leases(), torn).unwrap();
            append(&pool, &three).unwrap();
            let text = std::fs::read_to_string(directory.leases()).unwrap();
            assert_eq!(text, format!("{HEADER}{one}{three}"), "{cut}");
        }
    }

    #[test]
    fn refuses_a_file_that_it_did_not_write_and_leaves_it_alone() {
        let directory = Directory::new();
        let pool = directory.pool();
        append(&pool, &lease("10.1.0.2", "a")).unwrap();
        for garbage in ["girder leases 2\nx", "root:x:0:0", "\n", "{}"] {
            std::fs::write(directory.leases(), garbage).unwrap();
            let error = append(&pool, &lease("10.1.0.3", "b")).unwrap_err();
            assert_eq!(error.code(), Code::Decode);
            assert!(error.to_string().contains(&directory.leases().display().to_string()));
            assert_eq!(std::fs::read_to_string(directory.leases()).unwrap(), garbage);
        }
    }

    #[test]
    fn names_what_cannot_be_made_or_read() {
        let directory = Directory::new();
        let mut pool = directory.pool();
        std::fs::create_dir_all(directory.leases()).unwrap();
        let error = append(&pool, "").unwrap_err();
        assert_eq!(error.code(), Code::Io);
        assert!(error.to_string().contains("leases"), "{error}");
        std::fs::write(directory.path().join("file"), "").unwrap();
        pool.directory = directory.path().join("file/net");
        assert_eq!(append(&pool, "").unwrap_err().code(), Code::Io);
        assert!(Store::open(&pool).unwrap().is_none());
        assert_eq!(check_directory(&pool.directory).unwrap_err().code(), Code::Unavailable);
        assert!(check_directory(&directory.path().join("not/yet")).is_ok());
    }

    #[test]
    fn rewrites_the_file_when_most_of_it_is_garbage() {
        let directory = Directory::new();
        let pool = directory.pool();
        append(&pool, &lease("10.1.0.2", "stays")).unwrap();
        let mut longest = 0;
        for round in 0..1000 {
            append(&pool, &lease("10.1.0.3", "comes-and-goes")).unwrap();
            let store = Store::open(&pool).unwrap().unwrap();
            let log = store.read().unwrap();
            let owner = owner("comes-and-goes");
            let lines: String = log.leases_of(&owner).map(|lease| lease.released(round)).collect();
            assert!(!lines.is_empty());
            store.append(&log, &lines).unwrap();
            longest = longest.max(log.length);
        }
        assert!(longest > WORTH_COMPACTING && longest < 2 * WORTH_COMPACTING, "{longest}");
        let store = Store::open(&pool).unwrap().unwrap();
        assert_eq!(store.read().unwrap().leases_of(&owner("stays")).count(), 1);
        assert!(!pool.directory.join("leases.new").exists());
    }

    #[test]
    fn a_rewrite_that_fails_changes_nothing() {
        let directory = Directory::new();
        let pool = directory.pool();
        let many: String = (0..200).map(|_| lease("10.1.0.3", "x")).collect();
        let gone = many + &crate::record::tests::release("10.1.0.3", "x");
        append(&pool, &gone).unwrap();
        std::fs::create_dir(pool.directory.join("leases.new")).unwrap();
        append(&pool, &lease("10.1.0.2", "a")).unwrap();
        let text = std::fs::read_to_string(directory.leases()).unwrap();
        assert_eq!(text, format!("{HEADER}{gone}{}", lease("10.1.0.2", "a")));
    }
}
