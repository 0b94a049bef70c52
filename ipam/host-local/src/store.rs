//! The leases of a network, locked: the lease file ([`record`](crate::record)), the Go-compatible
//! directory ([`directory`](crate::directory)), and the index ([`index`](crate::index)).
//!
//! A call locks the directory, learns what the lease file says, changes lease file and directory,
//! and leaves. The directory decides which addresses are held, the lease file tells the rest, and
//! the index is derived: most of the lease file, replayed before. If it was made for just this
//! directory and this lease file, nobody else has touched them, and only the end of the lease file
//! is read; else all of it is, the log follows the directory, and the index is written anew.
//!
//! ADD writes the line before the file, DEL removes the file before it writes the line. So a call
//! that is killed half way, which nobody has an answer of, leaves a line without a file, and the
//! next call ends that lease.
//!
//! Nothing is synced to the disk: no lease outlives the boot that it was made in, because no
//! network namespace does, and without a crash of the machine the page cache is as good as the
//! disk.

use crate::config::Pool;
use crate::directory::Directory;
use crate::file::LeaseFile;
use crate::index::{Cover, Index};
use crate::lock::Lock;
use crate::log::{Log, Mark, hash_of_key, hash_of_lessee};
use crate::range::{RangeSet, number};
use crate::reconcile;
use crate::record::{Lease, Lessee, escape};
pub use common::attach::kept::now;
use common::cni::Context as _;
use common::{Code, Error, Result, file};
use std::fs::DirBuilder;
use std::io::{self, ErrorKind};
use std::net::IpAddr;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;

/// The locked leases of a network. The lock goes with it.
#[derive(Debug)]
pub struct Store {
    pub(crate) file: LeaseFile,
    pub(crate) directory: Directory,
    pub(crate) log: Log,
    pub(crate) index: Index,
    pub(crate) boot: String,
    /// Whether nothing is written, whatever has to be repaired.
    only_looks: bool,
    _lock: Lock,
}

/// Names this boot of the machine; empty if it cannot be read.
pub fn boot_id() -> String {
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    boot.trim_end().to_owned()
}

impl Store {
    /// For ADD: makes the directory.
    ///
    /// # Errors
    /// Code 5 for the directory and its files, 6 for a lease file of a later version, 11 when
    /// somebody holds the lock.
    pub fn create(pool: &Pool) -> Result<Self> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o755)
            .create(&pool.directory)
            .context(format_args!("cannot create {}", pool.directory.display()))?;
        Self::lock(pool, false)
    }

    /// For all others: nothing was ever leased where there is no directory.
    ///
    /// # Errors
    /// As [`Store::create`].
    pub fn open(pool: &Pool) -> Result<Option<Self>> {
        Self::find(pool, false)
    }

    /// For whoever must change nothing, not even what would be healed otherwise.
    ///
    /// # Errors
    /// As [`Store::create`].
    pub fn look(pool: &Pool) -> Result<Option<Self>> {
        Self::find(pool, true)
    }

    fn find(pool: &Pool, only_looks: bool) -> Result<Option<Self>> {
        match pool.directory.symlink_metadata() {
            Ok(_) => Self::lock(pool, only_looks).map(Some),
            Err(error) if is_absence(&error) => Ok(None),
            Err(error) => {
                Err(error).context(format_args!("cannot open {}", pool.directory.display()))
            }
        }
    }

    fn lock(pool: &Pool, only_looks: bool) -> Result<Self> {
        let lock = Lock::acquire(&pool.directory.join("lock"), pool.lock_timeout)?;
        let directory = Directory::open(&pool.directory)?;
        let file = LeaseFile::open(&pool.directory.join("leases"))?;
        let (boot, index_path) = (boot_id(), pool.directory.join("leases.index"));
        let cover = directory.state().ok().zip(file.state()).map(|(directory, log)| Cover {
            boot: boot.clone(),
            log,
            directory,
        });
        let known = cover.and_then(|cover| Index::open(&index_path, &cover, &file));
        let is_known = known.is_some();
        let (index, log) = known.unwrap_or_else(|| (Index::new(&index_path), Log::default()));
        let mut store = Self { file, directory, log, index, boot, only_looks, _lock: lock };
        if !is_known {
            store.rebuild()?;
        }
        Ok(store)
    }

    /// Reads everything, and follows what others have changed.
    ///
    /// # Errors
    /// Code 5 and 6.
    pub fn rebuild(&mut self) -> Result<()> {
        let mut log = self.file.replay()?;
        if let Some(line) = log.damage.filter(|_| !self.only_looks) {
            self.file.set_aside(line);
            self.file.compact(&log)?;
            log = self.file.replay()?;
        }
        self.directory.heals = !self.only_looks;
        reconcile::follow(&mut log, &mut self.file, &self.directory, &self.boot, now())?;
        self.log = log;
        if !self.only_looks {
            self.index.forget();
            // CHECK need not be able to write; whoever writes tries again.
            drop(self.file.flush());
            self.settle();
        }
        Ok(())
    }

    /// The boot that this is.
    pub fn boot(&self) -> &str {
        &self.boot
    }

    /// The address that was handed out last from the range set of this index.
    pub fn last(&self, index: usize) -> Option<IpAddr> {
        self.directory.last(index)
    }

    /// Whether somebody holds an address, or it is kept for somebody.
    pub fn mark_of(&self, address: IpAddr) -> Option<Mark> {
        self.log.mark_of(number(address))
    }

    /// The first address, as a [`number`], of those from the first to the last one that is neither
    /// held nor kept.
    pub fn first_free(&self, first: u128, last: u128) -> Option<u128> {
        self.log.first_free(first, last)
    }

    /// The leases of this attachment, which somebody knows: one, but for mistakes of others.
    ///
    /// # Errors
    /// Code 5 and 6.
    pub fn leases_of(&mut self, lessee: &Lessee) -> Result<Vec<Lease>> {
        let mut leases = self.ask(|log| log.lines_of(hash_of_lessee(lessee.as_str())))?;
        leases.retain(|lease| lease.lessee == *lessee);
        Ok(leases)
    }

    /// The latest lease under a sticky key: its line, `leased` or `released`.
    ///
    /// # Errors
    /// Code 5 and 6.
    pub fn latest_of(&mut self, lessee: &Lessee, key: &str) -> Result<Option<Lease>> {
        let hash = hash_of_key(lessee.as_str(), &escape(key));
        let latest = self.ask(|log| log.latest(hash).into_iter().collect())?;
        Ok(latest.into_iter().find(|lease| lease.origin.sticky.as_deref() == Some(key)))
    }

    /// The lines that the log names; if one cannot be read, once more after everything was.
    fn ask(&mut self, lines: impl Fn(&Log) -> Vec<u64>) -> Result<Vec<Lease>> {
        if let Ok(leases) = self.file.leases_at(&lines(&self.log)) {
            return Ok(leases);
        }
        self.rebuild()?;
        self.file.leases_at(&lines(&self.log))
    }

    /// Every lease that is held, oldest first.
    ///
    /// # Errors
    /// Code 5 and 6.
    pub fn leases(&mut self) -> Result<Vec<Lease>> {
        self.leases_where(|_| true)
    }

    /// Those of [`leases`](Self::leases) that are wanted; the others are not kept in memory, where
    /// sixty thousand need some.
    ///
    /// # Errors
    /// Code 5 and 6.
    pub fn leases_where(&mut self, wanted: impl Fn(&Lease) -> bool) -> Result<Vec<Lease>> {
        self.fold(|leases: &mut Vec<Lease>, lease| {
            leases.extend(wanted(&lease).then_some(lease));
        })
    }

    /// What comes of all leases that are held, oldest first, one after the other.
    ///
    /// # Errors
    /// Code 5 and 6.
    pub fn fold<T: Default>(&mut self, take: impl Fn(&mut T, Lease)) -> Result<T> {
        let of_all = |this: &Self| {
            this.log.held_lines().into_iter().try_fold(T::default(), |mut all, line| {
                take(&mut all, this.file.lease_at(line)?);
                Some(all)
            })
        };
        if let Some(all) = of_all(self) {
            return Ok(all);
        }
        self.rebuild()?;
        of_all(self).ok_or_else(|| self.file.changed())
    }

    /// Every former lease whose addresses are kept for a pod, the one that ended first coming
    /// first; its time is the one of the end.
    ///
    /// # Errors
    /// Code 5 and 6.
    pub fn kept(&mut self) -> Result<Vec<Lease>> {
        let mut leases = self.ask(Log::kept_lines)?;
        for (lease, line) in leases.iter_mut().zip(self.log.kept_lines()) {
            let mark_of = |address: &IpAddr| self.log.mark_of(number(*address));
            lease.addresses.retain(|address| mark_of(address).is_some_and(|m| m.line() == line));
        }
        Ok(leases)
    }

    /// Whether an address of the set is free, but kept for a pod.
    ///
    /// # Errors
    /// Code 5 and 6.
    pub fn is_any_kept(&mut self, set: &RangeSet) -> Result<bool> {
        Ok(self.kept()?.iter().any(|lease| lease.addresses.iter().any(|ip| set.is_usable(*ip))))
    }

    /// Whether the files of the lease can be read and tell nobody's name.
    pub fn is_nobodys(&self, lease: &Lease) -> bool {
        lease.addresses.iter().all(|address| self.directory.is_nobodys(*address))
    }

    /// Whether it could be written to.
    ///
    /// # Errors
    /// Code 50.
    pub fn check_writable(&self) -> Result<()> {
        self.file.check_writable().map_err(|error| unavailable(&self.directory.path, &error))
    }
}

/// Whether files could be made in the directory, or it if it is missing. Leaves no trace.
///
/// # Errors
/// Code 50.
pub fn check_directory(directory: &Path) -> Result<()> {
    let existing = directory.ancestors().find(|path| path.symlink_metadata().is_ok());
    let existing = existing.unwrap_or(Path::new("."));
    if !existing.is_dir() {
        return Err(unavailable(existing, &ErrorKind::NotADirectory.into()));
    }
    file::check_writable(existing).map_err(|error| unavailable(existing, &error))
}

fn unavailable(path: &Path, error: &io::Error) -> Error {
    Error::new(Code::Unavailable, format!("cannot write {}: {error}", path.display()))
}

/// Neither there nor possible.
fn is_absence(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::change::{Refusal, WORTH_COMPACTING};
    use crate::config::Reclaim;
    use crate::record::HEADER;
    use crate::record::tests::{a_lease, lease, lessee};
    use std::collections::{BTreeMap, BTreeSet};
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;
    use std::path::PathBuf;
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::time::Duration;

    /// A directory that goes with its test.
    pub(crate) struct Temporary(PathBuf);

    impl Temporary {
        pub(crate) fn new() -> Self {
            static COUNT: AtomicU32 = AtomicU32::new(0);
            let count = COUNT.fetch_add(1, Ordering::Relaxed);
            let name = format!("host-local-{}-{count}", std::process::id());
            let path = std::env::temp_dir().join(name);
            fs::create_dir(&path).unwrap();
            Self(path)
        }

        pub(crate) fn path(&self) -> &Path {
            &self.0
        }
    }

    impl Drop for Temporary {
        fn drop(&mut self) {
            drop(fs::remove_dir_all(&self.0));
        }
    }

    pub(crate) fn pool(directory: &Temporary) -> Pool {
        Pool {
            directory: directory.path().join("net"),
            lock_timeout: Duration::from_secs(5),
            reclaim: Reclaim::Boot,
            grace_age: Duration::ZERO,
            sticky: None,
        }
    }

    fn add(pool: &Pool, addresses: &str, container: &str) {
        Store::create(pool).unwrap().lease(&a_lease(addresses, container)).unwrap();
    }

    fn del(pool: &Pool, container: &str) {
        let mut store = Store::open(pool).unwrap().unwrap();
        let leases = store.leases_of(&lessee(container)).unwrap();
        store.release(&leases).unwrap();
    }

    /// By the lease file.
    fn held(pool: &Pool) -> BTreeMap<String, String> {
        let mut store = Store::open(pool).unwrap().unwrap();
        let pairs = store.leases().unwrap().into_iter().flat_map(|lease| {
            let lessee = lease.lessee.as_str().to_owned();
            lease.addresses.into_iter().map(move |ip| (ip.to_string(), lessee.clone()))
        });
        pairs.collect()
    }

    fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(ip, lessee)| ((*ip).to_owned(), (*lessee).to_owned())).collect()
    }

    /// By the directory.
    fn files(pool: &Pool) -> BTreeMap<String, String> {
        let entries = fs::read_dir(&pool.directory).unwrap().map(|entry| entry.unwrap());
        let named = entries.filter_map(|entry| {
            let name = entry.file_name().into_string().unwrap();
            name.parse::<IpAddr>().ok()?;
            Some((name, fs::read_to_string(entry.path()).unwrap().replace("\r\n", " ")))
        });
        named.collect()
    }

    fn is_believed(pool: &Pool) -> bool {
        let directory = Directory::open(&pool.directory).unwrap();
        let file = LeaseFile::open(&pool.directory.join("leases")).unwrap();
        let (directory, log) = (directory.state().unwrap(), file.state().unwrap_or_default());
        let cover = Cover { boot: boot_id(), log, directory };
        Index::open(&pool.directory.join("leases.index"), &cover, &file).is_some()
    }

    #[test]
    fn both_views_are_as_they_are_described() {
        let directory = Temporary::new();
        let pool = pool(&directory);
        assert!(Store::open(&pool).unwrap().is_none());
        assert!(!pool.directory.exists());
        add(&pool, "10.1.0.2,fd00::2", "a");
        add(&pool, "10.1.0.3", "b");
        let read = |name: &str| fs::read_to_string(pool.directory.join(name)).unwrap();
        assert_eq!(
            read("leases"),
            format!("{HEADER}{}{}", lease("10.1.0.2,fd00::2", "a"), lease("10.1.0.3", "b"))
        );
        assert_eq!((read("fd00::2"), read("10.1.0.3")), ("a\r\neth0".into(), "b\r\neth0".into()));
        assert_eq!(
            (read("last_reserved_ip.0"), read("last_reserved_ip.1")),
            ("10.1.0.3".into(), "fd00::2".into())
        );
        for name in ["leases", "10.1.0.2", "last_reserved_ip.0", "leases.index"] {
            let mode = pool.directory.join(name).metadata().unwrap().permissions().mode();
            assert_eq!(mode & 0o7777, 0o600, "{name}");
        }
        assert!(is_believed(&pool));
        del(&pool, "a");
        assert_eq!(files(&pool), map(&[("10.1.0.3", "b eth0")]));
        assert_eq!(held(&pool), files(&pool));
    }

    #[test]
    fn what_others_do_to_the_directory_is_followed() {
        let directory = Temporary::new();
        let pool = pool(&directory);
        add(&pool, "10.1.0.2,fd00::2", "a");
        add(&pool, "10.1.0.3", "b");
        add(&pool, "10.1.0.4", "c");
        let put = |name: &str, text: &str| fs::write(pool.directory.join(name), text).unwrap();
        let remove = |name: &str| fs::remove_file(pool.directory.join(name)).unwrap();
        put("10.1.0.9", "old");
        put("10.1.0.10", "");
        put("10.7.0.1", "x\r\neth1");
        put("fd00::9", "x\r\neth1");
        put("010.1.0.11", "no name of an address");
        remove("fd00::2");
        remove("10.1.0.3");
        put("10.1.0.4", "new\r\neth0");
        fs::create_dir(pool.directory.join("10.1.0.12")).unwrap();
        assert!(!is_believed(&pool));
        let expected = map(&[
            ("10.1.0.2", "a eth0"),
            ("10.1.0.4", "c eth0"),
            ("10.1.0.9", "old -"),
            ("10.1.0.10", "- -"),
            ("10.1.0.12", "- -"),
            ("10.7.0.1", "x eth1"),
            ("fd00::9", "x eth1"),
        ]);
        let mut expected = expected;
        expected.insert("10.1.0.4".into(), "new eth0".into());
        assert_eq!(held(&pool), expected);
        assert!(is_believed(&pool));
        assert_eq!(held(&pool), expected);
        let mut store = Store::open(&pool).unwrap().unwrap();
        assert_eq!(store.leases_of(&Lessee::new("x", "eth1")).unwrap()[0].addresses.len(), 2);
        assert!(store.mark_of("10.1.0.12".parse().unwrap()).unwrap().is_held());
        assert_eq!(store.mark_of("fd00::2".parse().unwrap()), None);
        // Made after the look at the directory.
        put("10.1.0.20", "late\r\neth0");
        let refusal = store.lease(&a_lease("10.1.0.21,10.1.0.20", "d")).unwrap_err();
        assert!(matches!(refusal, Refusal::Changed), "{refusal:?}");
        drop(store);
        assert!(held(&pool).contains_key("10.1.0.20") && !held(&pool).contains_key("10.1.0.21"));
    }

    #[test]
    fn a_change_in_the_same_tick_is_seen() {
        let directory = Temporary::new();
        let pool = pool(&directory);
        for round in 0..50 {
            add(&pool, "10.1.0.2", "a");
            fs::remove_file(pool.directory.join("10.1.0.2")).unwrap();
            assert!(!is_believed(&pool), "{round}");
            assert!(held(&pool).is_empty(), "{round}");
        }
    }

    #[test]
    fn the_directory_heals_a_lease_file_that_is_cut_or_changed_anywhere() {
        let directory = Temporary::new();
        let pool = pool(&directory);
        add(&pool, "10.1.0.2,fd00::2", "a");
        add(&pool, "10.1.0.3", "b");
        let path = pool.directory.join("leases");
        let (whole, expected) = (fs::read(&path).unwrap(), files(&pool));
        for at in 0..whole.len() {
            let mut flipped = whole.clone();
            flipped[at] ^= 4;
            let garbage = [&whole[..at], b"garbage\nmore\n\xff\n"].concat();
            for text in [whole[..at].to_vec(), flipped, garbage] {
                fs::write(&path, &text).unwrap();
                match Store::open(&pool) {
                    // The digit of the version.
                    Err(error) => assert_eq!(error.code(), Code::Decode),
                    Ok(store) => {
                        drop(store);
                        assert_eq!(held(&pool), expected, "{at}");
                    }
                }
                assert_eq!(files(&pool), expected);
            }
        }
        assert!(pool.directory.join("leases.damaged").exists());
        fs::write(&path, "girder leases 2\nx").unwrap();
        assert_eq!(Store::open(&pool).unwrap_err().code(), Code::Decode);
        assert_eq!(fs::read_to_string(&path).unwrap(), "girder leases 2\nx");
        fs::remove_file(&path).unwrap();
        assert_eq!(held(&pool), expected);
    }

    #[test]
    fn a_lost_content_is_written_anew() {
        let directory = Temporary::new();
        let pool = pool(&directory);
        add(&pool, "10.1.0.2", "a");
        let path = pool.directory.join("10.1.0.2");
        for lost in ["", "a b c", "\0\0\0"] {
            fs::write(&path, lost).unwrap();
            // A content alone does not change the directory.
            fs::File::create(pool.directory.join("x")).unwrap();
            assert_eq!(held(&pool), map(&[("10.1.0.2", "a eth0")]));
            assert_eq!(fs::read_to_string(&path).unwrap(), "a\r\neth0");
            fs::remove_file(pool.directory.join("x")).unwrap();
        }
    }

    #[test]
    fn an_index_that_is_changed_anywhere_is_never_believed() {
        let directory = Temporary::new();
        let pool = pool(&directory);
        add(&pool, "10.1.0.2", "a");
        let path = pool.directory.join("leases.index");
        // One that is made anew has all leases in it.
        fs::remove_file(&path).unwrap();
        drop(Store::open(&pool).unwrap());
        let whole = fs::read(&path).unwrap();
        assert_eq!(whole.len(), 168 + 32);
        for at in 0..whole.len() {
            let mut flipped = whole.clone();
            flipped[at] ^= 0x10;
            fs::write(&path, &flipped).unwrap();
            let mut store = Store::open(&pool).unwrap().unwrap();
            assert_eq!(store.leases_of(&lessee("a")).unwrap().len(), 1, "{at}");
            assert_eq!(store.leases_of(&lessee("b")).unwrap().len(), 0, "{at}");
            let mark = store.mark_of("10.1.0.2".parse().unwrap());
            assert!(mark.unwrap().is_held(), "{at}");
        }
        for (at, length) in (168..whole.len()).step_by(4).flat_map(|at| [(at, 4), (at, 32)]) {
            let mut lost = whole.clone();
            lost[at..(at + length).min(whole.len())].fill(0);
            fs::write(&path, &lost).unwrap();
            let mut store = Store::open(&pool).unwrap().unwrap();
            assert!(store.mark_of("10.1.0.2".parse().unwrap()).unwrap().is_held(), "{at}");
            assert_eq!(store.leases_of(&lessee("a")).unwrap().len(), 1, "{at}");
        }
        for length in [0, 1, 167, 168, whole.len() - 1] {
            fs::write(&path, &whole[..length]).unwrap();
            let mut store = Store::open(&pool).unwrap().unwrap();
            assert_eq!(store.leases_of(&lessee("a")).unwrap().len(), 1, "{length}");
        }
    }

    #[test]
    fn a_line_that_is_damaged_behind_the_index_is_found_when_it_is_asked_for() {
        let directory = Temporary::new();
        let pool = pool(&directory);
        let mut sticky = a_lease("10.1.0.2", "a");
        sticky.origin.sticky = Some("shop/web".into());
        Store::create(&pool).unwrap().lease(&sticky).unwrap();
        del(&pool, "a");
        add(&pool, "10.1.0.3", "b");
        let path = pool.directory.join("leases");
        fs::remove_file(pool.directory.join("leases.index")).unwrap();
        drop(Store::open(&pool).unwrap());
        let mut store = Store::open(&pool).unwrap().unwrap();
        assert_eq!(store.kept().unwrap().len(), 1);
        let damaged = fs::read_to_string(&path).unwrap().replace(" shop/web\n", " shop/wee\n");
        fs::write(&path, damaged.replace("b eth0", "b eth1")).unwrap();
        assert!(store.kept().unwrap().is_empty());
        assert_eq!(store.leases_of(&lessee("b")).unwrap().len(), 1);
        assert!(is_believed(&pool));
    }

    #[test]
    fn names_what_cannot_be_made_or_read() {
        let directory = Temporary::new();
        let mut pool = pool(&directory);
        fs::create_dir_all(pool.directory.join("leases")).unwrap();
        let error = Store::create(&pool).unwrap_err();
        assert_eq!(error.code(), Code::Io);
        assert!(error.to_string().contains("leases"), "{error}");
        fs::write(directory.path().join("file"), "").unwrap();
        pool.directory = directory.path().join("file/net");
        assert_eq!(Store::create(&pool).unwrap_err().code(), Code::Io);
        assert!(Store::open(&pool).unwrap().is_none());
        assert_eq!(check_directory(&pool.directory).unwrap_err().code(), Code::Unavailable);
        assert!(check_directory(&directory.path().join("not/yet")).is_ok());
    }

    #[test]
    fn the_file_is_rewritten_when_most_of_it_is_garbage() {
        let directory = Temporary::new();
        let pool = pool(&directory);
        add(&pool, "10.1.0.2", "stays");
        let mut longest = 0;
        for _ in 0..400 {
            add(&pool, "10.1.0.3", "comes-and-goes");
            del(&pool, "comes-and-goes");
            assert!(is_believed(&pool));
            longest = longest.max(pool.directory.join("leases").metadata().unwrap().len());
        }
        assert!(longest > WORTH_COMPACTING / 2 && longest < 2 * WORTH_COMPACTING, "{longest}");
        assert_eq!(held(&pool), map(&[("10.1.0.2", "stays eth0")]));
        assert!(!pool.directory.join("leases.new").exists());
    }

    /// Whatever is done, what the index and the rest of the file say is what a replay of the whole
    /// file says, also after it has been rewritten.
    #[test]
    fn the_index_agrees_with_a_replay() {
        let directory = Temporary::new();
        let pool = pool(&directory);
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let mut random = move |below: u64| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state % below
        };
        let mut lessees = BTreeSet::new();
        for round in 0..1500 {
            let mut store = Store::create(&pool).unwrap();
            let container = format!("c{}", random(40));
            let end = random(60);
            let mut lease = a_lease(&format!("10.1.{}.{end}", end % 3), &container);
            lease.origin.sticky = (random(3) > 0).then(|| format!("pod{}", random(12)));
            let is_free = !store.mark_of(lease.addresses[0]).is_some_and(Mark::is_held);
            lessees.insert(lease.lessee.clone());
            let leases = store.leases_of(&lease.lessee).unwrap();
            match random(20) {
                0 => drop(fs::write(pool.directory.join(format!("10.1.2.{end}")), "go\r\neth0")),
                1 => drop(fs::remove_file(pool.directory.join(format!("10.1.0.{end}")))),
                2 => drop(fs::remove_file(pool.directory.join("leases.index"))),
                _ if !leases.is_empty() => store.release(&leases).unwrap(),
                _ if is_free => store.lease(&lease).unwrap(),
                _ => {}
            }
            drop(store);
            let mut store = Store::create(&pool).unwrap();
            let replayed = LeaseFile::open(&pool.directory.join("leases")).unwrap().replay();
            assert!(store.log.all().eq(replayed.unwrap().all()), "{round}");
            let all = store.leases().unwrap();
            for lessee in &lessees {
                let own: Vec<_> =
                    all.iter().filter(|lease| lease.lessee == *lessee).cloned().collect();
                assert_eq!(store.leases_of(lessee).unwrap(), own, "{round}: {lessee:?}");
            }
        }
        assert_eq!(held(&pool).keys().collect::<Vec<_>>(), files(&pool).keys().collect::<Vec<_>>());
    }
}
