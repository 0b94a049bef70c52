//! The leases of a network, locked: the lease file ([`record`](crate::record)), the directory of
//! the Go plugin ([`mirror`](crate::mirror)), and the index ([`index`](crate::index)).
//!
//! A call locks the directory, asks the index, changes lease file, directory and index, and leaves.
//! The directory decides which addresses are held, the lease file tells the rest, and the index is
//! derived. If the index was made for just this directory and this lease file, nobody else has
//! touched them, and it is believed; else everything is read, the log follows the directory, and
//! the index is built anew.
//!
//! ADD writes the line before the file, DEL removes the file before it writes the line. So a call
//! that is killed half way, which nobody has an answer of, leaves a line without a file, and the
//! next call ends that lease.
//!
//! Nothing is synced to the disk: no lease outlives the boot that it was made in, because no
//! network namespace does, and without a crash of the machine the page cache is as good as the
//! disk.

use crate::block::{Block, Mark};
use crate::config::Pool;
use crate::file::LeaseFile;
use crate::index::{Cover, Index};
use crate::lock::Lock;
use crate::log::{Log, hash_of_key, hash_of_owner};
use crate::mirror::Mirror;
use crate::range::{RangeSet, number};
use crate::reconcile;
use crate::record::{Lease, Owner, escape};
pub use common::attach::kept::now;
use common::cni::Context as _;
use common::{Code, Error, Result, file};
use std::fs::DirBuilder;
use std::io::{self, ErrorKind};
use std::net::IpAddr;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

/// The locked leases of a network. The lock goes with it.
#[derive(Debug)]
pub struct Store {
    pub(crate) file: LeaseFile,
    pub(crate) mirror: Mirror,
    pub(crate) index: Index,
    index_path: PathBuf,
    boot: String,
    /// Whether nothing is written, whatever has to be mended.
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
        let mirror = Mirror::open(&pool.directory)?;
        let file = LeaseFile::open(&pool.directory.join("leases"))?;
        let (boot, index_path) = (boot_id(), pool.directory.join("leases.index"));
        let cover = mirror.state().ok().zip(file.state()).map(|(directory, log)| Cover {
            boot: boot.clone(),
            log,
            directory,
        });
        let index = cover.and_then(|cover| Index::open(&index_path, &cover));
        let is_known = index.as_ref().is_some_and(|index| !index.is_crowded());
        let index = match index {
            Some(index) => index,
            None => Index::build(&Log::default()).context("cannot make an index")?,
        };
        let mut store = Self { file, mirror, index, index_path, boot, only_looks, _lock: lock };
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
        self.mirror.heals = !self.only_looks;
        reconcile::follow(&mut log, &mut self.file, &self.mirror, &self.boot, now())?;
        self.index = Index::build(&log).context("cannot make an index")?;
        if !self.only_looks {
            // CHECK need not be able to write; whoever writes tries again.
            drop(self.file.flush());
            self.settle();
        }
        Ok(())
    }

    /// Notes that the directory, the lease file and the index fit together. If that fails, the next
    /// call has to read everything.
    pub(crate) fn settle(&mut self) {
        drop(self.try_settle());
    }

    fn try_settle(&mut self) -> io::Result<()> {
        let log = self.file.state().filter(|_| self.file.pending() == 0);
        let log = log.ok_or(ErrorKind::NotFound)?;
        self.index.save(&self.index_path)?;
        let directory = self.mirror.stamp()?;
        self.index.seal(Cover { boot: self.boot.clone(), log, directory })
    }

    /// Makes the index anew; the directory is known already.
    pub(crate) fn reindex(&mut self) -> Result<()> {
        let log = self.file.read()?;
        self.index = Index::build(&log).context("cannot make an index")?;
        Ok(())
    }

    /// The boot that this is.
    pub fn boot(&self) -> &str {
        &self.boot
    }

    /// The address that was handed out last from the range set of this index.
    pub fn last(&self, index: usize) -> Option<IpAddr> {
        self.mirror.last(index)
    }

    /// What is known about 256 addresses in a row; see [`Index::block`].
    ///
    /// # Errors
    /// Code 5.
    pub fn block(&mut self, number: u128) -> Result<Block> {
        self.ask(|this| this.index.block(number))
    }

    /// Asks the index; if that is not to be believed, once more after it has been built anew.
    fn ask<T>(&mut self, question: impl Fn(&Self) -> io::Result<T>) -> Result<T> {
        if let Ok(answer) = question(self) {
            return Ok(answer);
        }
        self.rebuild()?;
        question(self).context("leases.index cannot be used")
    }

    /// Whether somebody holds it, or it is kept for somebody.
    ///
    /// # Errors
    /// Code 5.
    pub fn mark_of(&mut self, address: IpAddr) -> Result<Mark> {
        let number = number(address);
        Ok(self.block(number >> 8)?.mark_of(number))
    }

    /// The leases of this attachment, which somebody knows: one, but for mistakes of others.
    ///
    /// # Errors
    /// Code 5 and 6.
    pub fn leases_of(&mut self, owner: &Owner) -> Result<Vec<Lease>> {
        let found = self.lines(hash_of_owner(owner.as_str()), |lease| lease.owner == *owner)?;
        Ok(found.into_iter().map(|(_, lease)| lease).collect())
    }

    /// The latest lease under a sticky key: its line, `leased` or `released`.
    ///
    /// # Errors
    /// Code 5 and 6.
    pub fn latest_of(&mut self, owner: &Owner, key: &str) -> Result<Option<Lease>> {
        let hash = hash_of_key(owner.as_str(), &escape(key));
        let found = self.lines(hash, |lease| lease.holder.sticky.as_deref() == Some(key))?;
        Ok(found.into_iter().next_back().map(|(_, lease)| lease))
    }

    /// What the index says about a hash.
    fn lines(&mut self, hash: u64, is_it: impl Fn(&Lease) -> bool) -> Result<Vec<(u64, Lease)>> {
        let mut found = self.ask(|this| {
            let lease_at = |at| Ok((at, this.file.lease_at(at).ok_or(ErrorKind::InvalidData)?));
            this.index.find(hash)?.into_iter().map(lease_at).collect::<io::Result<Vec<_>>>()
        })?;
        found.retain(|(_, lease)| is_it(lease));
        found.sort_unstable_by_key(|(offset, _)| *offset);
        Ok(found)
    }

    /// Every lease that is held, oldest first. Reads everything.
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
    pub fn leases_where(&mut self, mut wanted: impl FnMut(&Lease) -> bool) -> Result<Vec<Lease>> {
        let log = self.file.read()?;
        let mut lines: Vec<_> = log.held.into_values().map(|held| held.line).collect();
        lines.sort_unstable();
        lines.dedup();
        let mut leases = Vec::new();
        self.file.leases_at(&lines, |lease| leases.extend(wanted(&lease).then_some(lease)))?;
        Ok(leases)
    }

    /// Every former lease whose addresses are kept for a pod, the one that ended first coming
    /// first; its time is the one of the end. Reads everything.
    ///
    /// # Errors
    /// Code 5 and 6.
    pub fn kept(&mut self) -> Result<Vec<Lease>> {
        let log = self.file.read()?;
        let kept = log.kept.values().filter(|kept| !kept.addresses.is_empty());
        let mut kept: Vec<_> = kept.collect();
        kept.sort_unstable_by_key(|kept| kept.line);
        let lines: Vec<_> = kept.iter().map(|kept| kept.line).collect();
        let mut leases = Vec::new();
        self.file.leases_at(&lines, |lease| leases.push(lease))?;
        for (lease, kept) in leases.iter_mut().zip(kept) {
            lease.addresses.retain(|address| kept.addresses.contains(&number(*address)));
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
        lease.addresses.iter().all(|address| self.mirror.is_nobodys(*address))
    }

    /// Whether it could be written to.
    ///
    /// # Errors
    /// Code 50.
    pub fn check_writable(&self) -> Result<()> {
        self.file.check_writable().map_err(|error| unavailable(&self.mirror.path, &error))
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
    use crate::record::tests::{a_lease, lease, owner};
    use std::collections::{BTreeMap, BTreeSet};
    use std::fs;
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
            fs::create_dir(&path).unwrap();
            Self(path)
        }

        pub(crate) fn path(&self) -> &Path {
            &self.0
        }
    }

    impl Drop for Directory {
        fn drop(&mut self) {
            drop(fs::remove_dir_all(&self.0));
        }
    }

    pub(crate) fn pool(directory: &Directory) -> Pool {
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
        let leases = store.leases_of(&owner(container)).unwrap();
        store.release(&leases).unwrap();
    }

    /// By the lease file.
    fn held(pool: &Pool) -> BTreeMap<String, String> {
        let mut store = Store::open(pool).unwrap().unwrap();
        let pairs = store.leases().unwrap().into_iter().flat_map(|lease| {
            let owner = lease.owner.as_str().to_owned();
            lease.addresses.into_iter().map(move |ip| (ip.to_string(), owner.clone()))
        });
        pairs.collect()
    }

    fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(ip, owner)| ((*ip).to_owned(), (*owner).to_owned())).collect()
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
        let mirror = Mirror::open(&pool.directory).unwrap();
        let file = LeaseFile::open(&pool.directory.join("leases")).unwrap();
        let (directory, log) = (mirror.state().unwrap(), file.state().unwrap_or_default());
        let cover = Cover { boot: boot_id(), log, directory };
        Index::open(&pool.directory.join("leases.index"), &cover).is_some()
    }

    #[test]
    fn both_views_are_as_they_are_described() {
        let directory = Directory::new();
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
        let directory = Directory::new();
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
        assert_eq!(store.leases_of(&Owner::new("x", "eth1")).unwrap()[0].addresses.len(), 2);
        assert_eq!(store.mark_of("10.1.0.12".parse().unwrap()).unwrap(), Mark::Held);
        assert_eq!(store.mark_of("fd00::2".parse().unwrap()).unwrap(), Mark::Free);
        // Made after the look at the directory.
        put("10.1.0.20", "late\r\neth0");
        let refusal = store.lease(&a_lease("10.1.0.21,10.1.0.20", "d")).unwrap_err();
        assert!(matches!(refusal, Refusal::Changed), "{refusal:?}");
        drop(store);
        assert!(held(&pool).contains_key("10.1.0.20") && !held(&pool).contains_key("10.1.0.21"));
    }

    #[test]
    fn a_change_in_the_same_tick_is_seen() {
        let directory = Directory::new();
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
        let directory = Directory::new();
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
        let directory = Directory::new();
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
        let directory = Directory::new();
        let pool = pool(&directory);
        add(&pool, "10.1.0.2", "a");
        let path = pool.directory.join("leases.index");
        let whole = fs::read(&path).unwrap();
        for at in (0..whole.len()).step_by(7) {
            let mut flipped = whole.clone();
            flipped[at] ^= 0x10;
            fs::write(&path, &flipped).unwrap();
            let mut store = Store::open(&pool).unwrap().unwrap();
            assert_eq!(store.leases_of(&owner("a")).unwrap().len(), 1, "{at}");
            assert_eq!(store.leases_of(&owner("b")).unwrap().len(), 0, "{at}");
            let mark = store.mark_of("10.1.0.2".parse().unwrap());
            assert_eq!(mark.unwrap(), Mark::Held, "{at}");
        }
        // A slot, or a page of them, that was lost.
        for (at, length) in (160..whole.len()).step_by(4).flat_map(|at| [(at, 20), (at, 84)]) {
            let mut lost = whole.clone();
            lost[at..(at + length).min(whole.len())].fill(0);
            fs::write(&path, &lost).unwrap();
            let mut store = Store::open(&pool).unwrap().unwrap();
            assert_eq!(store.mark_of("10.1.0.2".parse().unwrap()).unwrap(), Mark::Held, "{at}");
            assert_eq!(store.leases_of(&owner("a")).unwrap().len(), 1, "{at}");
        }
        for length in [0, 1, 159, 160, whole.len() - 1] {
            fs::write(&path, &whole[..length]).unwrap();
            let mut store = Store::open(&pool).unwrap().unwrap();
            assert_eq!(store.leases_of(&owner("a")).unwrap().len(), 1, "{length}");
        }
    }

    #[test]
    fn names_what_cannot_be_made_or_read() {
        let directory = Directory::new();
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
        let directory = Directory::new();
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

    /// Whatever is done, the index says what a replay of the whole file says.
    #[test]
    fn the_index_agrees_with_a_replay() {
        let directory = Directory::new();
        let pool = pool(&directory);
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let mut random = move |below: u64| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state % below
        };
        let mut owners = BTreeSet::new();
        for round in 0..1500 {
            let mut store = Store::create(&pool).unwrap();
            let container = format!("c{}", random(40));
            let end = random(60);
            let mut lease = a_lease(&format!("10.1.{}.{end}", end % 3), &container);
            lease.holder.sticky = (random(3) > 0).then(|| format!("pod{}", random(12)));
            let is_free = store.mark_of(lease.addresses[0]).unwrap() != Mark::Held;
            owners.insert(lease.owner.clone());
            let leases = store.leases_of(&lease.owner).unwrap();
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
            let log = store.file.read().unwrap();
            for end in 0..180_u8 {
                let ip: IpAddr = format!("10.1.{}.{}", end / 60, end % 60).parse().unwrap();
                let is_kept = log.kept.values().any(|kept| kept.addresses.contains(&number(ip)));
                let expected = match log.held.contains_key(&number(ip)) {
                    true => Mark::Held,
                    false if is_kept => Mark::Kept,
                    false => Mark::Free,
                };
                assert_eq!(store.mark_of(ip).unwrap(), expected, "{round}: {ip}");
            }
            let all = store.leases().unwrap();
            for owner in &owners {
                let own: Vec<_> =
                    all.iter().filter(|lease| lease.owner == *owner).cloned().collect();
                assert_eq!(store.leases_of(owner).unwrap(), own, "{round}: {owner:?}");
            }
        }
        assert_eq!(held(&pool).keys().collect::<Vec<_>>(), files(&pool).keys().collect::<Vec<_>>());
    }
}
