//! `leases.index`, from which a call learns what most of the lease file says without reading it.
//!
//! It is a [`Log`] as it was when so much of the lease file had been replayed as its header tells;
//! what follows there, a call replays itself, by the same code. When that has become long, the file
//! is written anew. It is derived from the lease file and from nothing else, and may be removed at
//! any time. All numbers are little-endian.
//!
//! | bytes | what |
//! |---|---|
//! | 0..168 | the header, its own CRC-32 last |
//! | 168.. | addresses and what is known of each: 32 bytes each |
//! | then | sticky keys and the latest lease of each: 32 bytes each |
//!
//! The header has the CRC-32 of the rest as well. It is written last, so a call that was killed
//! leaves one that fits no lease file.
//!
//! A call reads all of it: two megabytes of sixty thousand leases, which takes a millisecond, most of
//! it in the kernel, and nothing that can be measured of a thousand. A hash table on the disk that
//! every call updated in place took a tenth of a millisecond, and was a second description of what a
//! line does, which had to agree with the replay. To read the text itself would be simpler still, but
//! of sixty thousand leases it has more than ten megabytes. Embedded libraries (redb, or LMDB by heed)
//! were not measured: they would store the same two tables, with packages of their own, and the
//! replay would still be beside them.

use crate::file::LeaseFile;
use crate::log::Log;
use crate::table::Table;
use common::file;
use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

const MAGIC: &[u8; 8] = b"girderi3";
const HEADER: usize = 168;

/// A call replays at most so many bytes of the lease file. A line has about two hundred.
const TAIL: u64 = 8 * 1024;
/// It replays more where writing the index takes longer: this part of its length.
const TAIL_PART: u64 = 64;

/// What an index was made for; it serves no other.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cover {
    /// The boot ID.
    pub boot: String,
    /// Inode, length, and time of the last change of the lease file.
    pub log: [u64; 4],
    /// Device, inode, and time of the last change of the directory.
    pub directory: [u64; 4],
}

/// The first bytes of the file.
#[derive(Clone, Debug, Default)]
struct Header {
    cover: Cover,
    /// How much of the lease file is in the tables.
    end: u64,
    /// How many lines that has.
    lines: u64,
    /// How many of them are extensions.
    extensions: u64,
    /// The lengths of the two tables in bytes.
    lengths: [u64; 2],
    /// Their checksum.
    sum: u64,
}

/// The index of a network's leases.
#[derive(Debug)]
pub struct Index {
    path: PathBuf,
    /// None if what is on the disk, if anything, does not fit the log.
    file: Option<File>,
    header: Header,
}

fn size(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

impl Index {
    /// One that has not been written yet.
    pub fn new(path: &Path) -> Self {
        Self { path: path.to_owned(), file: None, header: Header::default() }
    }

    /// The index at `path`, if it was made for just this, and the log that it leads to.
    pub fn open(path: &Path, cover: &Cover, leases: &LeaseFile) -> Option<(Self, Log)> {
        let file = file::open_own(path, OpenOptions::new().read(true).write(true));
        let file = file.or_else(|_| file::open_own(path, OpenOptions::new().read(true))).ok()?;
        let mut bytes = [0; HEADER];
        file.read_exact_at(&mut bytes, 0).ok()?;
        let header = Header::decode(&bytes).filter(|header| header.cover == *cover)?;
        let length = header.lengths.iter().try_fold(size(HEADER), |sum, n| sum.checked_add(*n))?;
        if file.metadata().ok()?.len() != length {
            return None;
        }
        let (mut tables, mut start, mut sum) = (Vec::new(), size(HEADER), crc32fast::Hasher::new());
        for length in header.lengths {
            let mut bytes = vec![0; usize::try_from(length).ok()?];
            file.read_exact_at(&mut bytes, start).ok()?;
            sum.update(&bytes);
            start += length;
            tables.push(Table::new(bytes));
        }
        if u64::from(sum.finalize()) != header.sum {
            return None;
        }
        let (keys, addresses) = (tables.pop()?, tables.pop()?);
        let Header { end, lines, extensions, .. } = header;
        let known = Log { addresses, keys, lines, extensions, ..Log::default() };
        let log = leases.replay_after(end, known)?;
        Some((Self { path: path.to_owned(), file: Some(file), header }, log))
    }

    /// From now on the log is another one than that which was written.
    pub fn forget(&mut self) {
        self.file = None;
    }

    /// Whether it should be written anew for a lease file of this length.
    pub fn is_outdated(&self, end: u64) -> bool {
        let allowed = self.header.lengths.iter().sum::<u64>() / TAIL_PART + TAIL;
        self.file.is_none() || end.saturating_sub(self.header.end) > allowed
    }

    /// Puts all but the header on the disk. The log is [merged](Log::merge), and of a file of this
    /// length.
    ///
    /// # Errors
    /// When it cannot be written; whatever is there then is covered by no header.
    pub fn save(&mut self, log: &Log, end: u64) -> io::Result<()> {
        let mut sum = crc32fast::Hasher::new();
        let tables = [log.addresses.sorted(), log.keys.sorted()];
        tables.iter().for_each(|table| sum.update(table));
        self.file = None;
        let temporary = self.path.with_extension("index.new");
        let file = file::replace(&self.path, &temporary, 0o600, |file| {
            file.write_all(&[0; HEADER])?;
            tables.iter().try_for_each(|table| file.write_all(table))
        })?;
        self.file = Some(file);
        let (lengths, sum) = (tables.map(|table| size(table.len())), sum.finalize().into());
        let (lines, extensions) = (log.lines, log.extensions);
        self.header = Header { cover: Cover::default(), end, lines, extensions, lengths, sum };
        Ok(())
    }

    /// Puts the header on the disk: from now on it covers what `cover` says.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn seal(&mut self, cover: Cover) -> io::Result<()> {
        self.header.cover = cover;
        match &self.file {
            Some(file) => file.write_all_at(&self.header.encode(), 0),
            None => Ok(()),
        }
    }
}

impl Header {
    fn encode(&self) -> [u8; HEADER] {
        let mut bytes = MAGIC.to_vec();
        bytes.extend(self.cover.boot.bytes().chain(std::iter::repeat(0)).take(40));
        let Self { cover: Cover { log, directory, .. }, end, lines, extensions, .. } = self;
        let numbers = [*end, *lines, *extensions, self.lengths[0], self.lengths[1], self.sum];
        for number in log.iter().chain(directory).chain(&numbers) {
            bytes.extend(number.to_le_bytes());
        }
        let mut header = [0; HEADER];
        let (content, sum) = header.split_at_mut(HEADER - 4);
        for (place, byte) in content.iter_mut().zip(bytes) {
            *place = byte;
        }
        sum.copy_from_slice(&crc32fast::hash(content).to_le_bytes());
        header
    }

    fn decode(bytes: &[u8; HEADER]) -> Option<Self> {
        let (content, sum) = bytes.split_at(HEADER - 4);
        if crc32fast::hash(content).to_le_bytes() != sum {
            return None;
        }
        let (boot, numbers) = content.strip_prefix(MAGIC)?.split_at_checked(40)?;
        let boot = std::str::from_utf8(boot).ok()?.trim_end_matches('\0').to_owned();
        let mut numbers = numbers
            .chunks_exact(8)
            .map(|number| u64::from_le_bytes(number.try_into().unwrap_or_default()));
        let mut next = || numbers.next().unwrap_or_default();
        let cover =
            Cover { boot, log: [(); 4].map(|()| next()), directory: [(); 4].map(|()| next()) };
        let (end, lines, extensions) = (next(), next(), next());
        Some(Self { cover, end, lines, extensions, lengths: [next(), next()], sum: next() })
    }
}
