//! `leases.index`, from which a call learns what it needs without reading the lease file.
//!
//! It is derived from the lease file and from nothing else: whoever doubts it builds it anew. All
//! numbers are little-endian. A checksum is the CRC-32 of a slot's content and of its offset in the
//! file, so that one that is empty is told from one that was lost or moved.
//!
//! | bytes | what |
//! |---|---|
//! | 0..160 | the header: [`Header`], its CRC-32 last |
//! | 160.. | table of owners: 64-bit hash of an attachment or of a sticky key; offset of a line in the lease file; checksum. 20 bytes each |
//! | then | table of blocks: number of 256 addresses in a row, plus one; a bit for each that is held; a bit for each that is kept for a pod; checksum. 84 bytes each |
//!
//! Both are hash tables of a power of two of slots, with linear probing from a hash of the CRC-32 of
//! the key; the content of an empty slot is zeros. What the log does not tell the owner of has no
//! slot: nobody asks for it, and all of it would be in one place. A slot is written before the header that covers it, so a call that was
//! killed leaves a header that fits no lease file. A bit that flips is found by the checksum of its
//! slot; a slot that a power failure has lost, by the boot ID in the header.

use crate::block::{Block, Mark};
use crate::log::{Log, hash_of_unknown};
use common::file;
use std::collections::HashSet;
use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::Path;

const MAGIC: &[u8; 8] = b"girderi2";
const HEADER: usize = 160;
const OWNER: Shape = Shape { key: 8, value: 8 };
const BLOCK: Shape = Shape { key: 16, value: 64 };
/// An owner that is gone. The slot stays, because those behind it are found by walking over it.
const GONE: [u8; 8] = [0xff; 8];

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
pub struct Header {
    /// What it was made for.
    pub cover: Cover,
    /// How many lines the lease file has.
    pub lines: u64,
    /// How many of them still say something.
    pub live: u64,
    owners: Table,
    blocks: Table,
}

#[derive(Clone, Copy, Debug)]
struct Shape {
    key: usize,
    value: usize,
}

impl Shape {
    const fn width(self) -> usize {
        self.key + self.value + 4
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Table {
    start: u64,
    slots: u64,
    used: u64,
}

#[derive(Debug)]
enum Bytes {
    File(File),
    Memory(Vec<u8>),
}

/// Keys that resemble each other have checksums that do, and would crowd together (the finalizer
/// of MurmurHash3).
fn spread(sum: u32) -> u64 {
    let mut bits = u64::from(sum);
    for factor in [0xff51_afd7_ed55_8ccd_u64, 0xc4ce_b9fe_1a85_ec53] {
        bits = bits.wrapping_mul(factor);
        bits ^= bits >> 33;
    }
    bits
}

/// The index of a network's leases.
#[derive(Debug)]
pub struct Index {
    /// Not on the disk before [`Index::seal`].
    pub header: Header,
    bytes: Bytes,
}

fn doubt() -> io::Error {
    io::Error::new(ErrorKind::InvalidData, "the index is damaged")
}

fn size(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

/// What follows the content of a slot.
fn checksum(offset: u64, content: &[u8]) -> [u8; 4] {
    let mut sum = crc32fast::Hasher::new();
    sum.update(content);
    sum.update(&offset.to_le_bytes());
    sum.finalize().to_le_bytes()
}

impl Index {
    /// The index at `path`, if it was made for just this.
    pub fn open(path: &Path, cover: &Cover) -> Option<Self> {
        let file = file::open_own(path, OpenOptions::new().read(true).write(true));
        let file = file.or_else(|_| file::open_own(path, OpenOptions::new().read(true))).ok()?;
        let mut bytes = [0; HEADER];
        file.read_exact_at(&mut bytes, 0).ok()?;
        let header = Header::decode(&bytes).filter(|header| header.cover == *cover)?;
        Some(Self { header, bytes: Bytes::File(file) })
    }

    /// A new one, in memory.
    ///
    /// # Errors
    /// Never, but for mistakes.
    pub fn build(log: &Log) -> io::Result<Self> {
        let count = size(log.held.len() + log.kept.len());
        let kept = log.kept.values().flat_map(|kept| &kept.addresses);
        let numbers: HashSet<_> = log.held.keys().chain(kept).map(|address| address >> 8).collect();
        let slots = |count: u64, least: u64| (count * 2).next_power_of_two().max(least);
        let owners = Table { start: size(HEADER), slots: slots(count, 256), used: 0 };
        let blocks = Table {
            start: owners.start + owners.slots * size(OWNER.width()),
            slots: slots(size(numbers.len()), 16),
            used: 0,
        };
        let end = blocks.start + blocks.slots * size(BLOCK.width());
        let bytes = vec![0; usize::try_from(end).map_err(|_| doubt())?];
        let header =
            Header { lines: log.lines, live: log.live(), owners, blocks, ..Header::default() };
        let mut index = Self { header, bytes: Bytes::Memory(bytes) };
        index.clear()?;
        let unknown = hash_of_unknown();
        for (address, held) in &log.held {
            if held.owner != unknown {
                index.insert(held.owner, held.line)?;
            }
            index.mark(*address, Mark::Held)?;
        }
        for (key, kept) in &log.kept {
            index.insert(*key, kept.line)?;
        }
        for address in log.kept.values().flat_map(|kept| &kept.addresses) {
            index.mark(*address, Mark::Kept)?;
        }
        Ok(index)
    }

    /// Makes all slots empty ones.
    fn clear(&mut self) -> io::Result<()> {
        let Header { owners, blocks, .. } = &self.header;
        for (Table { start, slots, .. }, shape) in
            [(owners.clone(), OWNER), (blocks.clone(), BLOCK)]
        {
            let zeros = vec![0; shape.key + shape.value];
            for slot in 0..slots {
                self.write(start + slot * size(shape.width()), &zeros, &[])?;
            }
        }
        Ok(())
    }

    /// Whether so much came in since it was built that finding anything becomes slow.
    pub fn is_crowded(&self) -> bool {
        [&self.header.owners, &self.header.blocks]
            .iter()
            .any(|table| table.used * 4 >= table.slots * 3)
    }

    /// Where the lines are that this hash may be of.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidData`] when it must be built anew.
    pub fn find(&self, hash: u64) -> io::Result<Vec<u64>> {
        let mut lines = Vec::new();
        let key = hash.to_le_bytes();
        self.walk(&self.header.owners, OWNER, &key, |_, slot| {
            if let Some((found, value)) = slot
                && found == key
                && value != GONE
            {
                lines.push(u64::from_le_bytes(value.try_into().unwrap_or(GONE)));
            }
            slot.is_none()
        })?;
        Ok(lines)
    }

    /// The line at this offset is about this hash; that it is may be told for each of its addresses.
    ///
    /// # Errors
    /// As [`Index::find`], or when it cannot be written.
    pub fn insert(&mut self, hash: u64, line: u64) -> io::Result<()> {
        let (key, line) = (hash.to_le_bytes(), line.to_le_bytes());
        let mut is_new = false;
        let place = self.walk(&self.header.owners, OWNER, &key, |_, slot| {
            is_new = slot.is_none();
            slot.is_none_or(|(found, value)| value == GONE || (found, value) == (&key, &line))
        })?;
        self.header.owners.used += u64::from(is_new);
        self.write(place, &key, &line)
    }

    /// The line says nothing any more.
    ///
    /// # Errors
    /// As [`Index::insert`].
    pub fn remove(&mut self, hash: u64, line: u64) -> io::Result<()> {
        let (key, line) = (hash.to_le_bytes(), line.to_le_bytes());
        let mut is_there = false;
        let place = self.walk(&self.header.owners, OWNER, &key, |_, slot| {
            is_there = slot == Some((&key, &line));
            is_there || slot.is_none()
        })?;
        if is_there { self.write(place, &key, &GONE) } else { Ok(()) }
    }

    /// The block of the addresses whose [`number`](crate::range::number) is `number << 8` and on.
    ///
    /// # Errors
    /// As [`Index::find`].
    pub fn block(&self, number: u128) -> io::Result<Block> {
        let key = (number + 1).to_le_bytes();
        let mut block = Block::default();
        self.walk(&self.header.blocks, BLOCK, &key, |_, slot| match slot {
            Some((found, value)) if found == key => {
                block = Block::decode(value);
                true
            }
            found => found.is_none(),
        })?;
        Ok(block)
    }

    /// Sets what is known about an address.
    ///
    /// # Errors
    /// As [`Index::insert`].
    pub fn mark(&mut self, number: u128, mark: Mark) -> io::Result<()> {
        let key = ((number >> 8) + 1).to_le_bytes();
        let (mut block, mut is_new) = (Block::default(), false);
        let at = self.walk(&self.header.blocks, BLOCK, &key, |_, slot| {
            is_new = slot.is_none();
            slot.is_none_or(|(found, value)| {
                if found == key {
                    block = Block::decode(value);
                }
                found == key
            })
        })?;
        self.header.blocks.used += u64::from(is_new);
        block.set(number, mark);
        self.write(at, &key, &block.encode())
    }

    /// Goes over the slots from where `key` would be until `is_it`; the offset of that one.
    fn walk(
        &self,
        table: &Table,
        shape: Shape,
        key: &[u8],
        mut is_it: impl FnMut(u64, Option<(&[u8], &[u8])>) -> bool,
    ) -> io::Result<u64> {
        let mut buffer = [0; BLOCK.width()];
        let slot = buffer.get_mut(..shape.width()).ok_or_else(doubt)?;
        let first = spread(crc32fast::hash(key));
        for step in 0..table.slots {
            let number = (first + step) & (table.slots - 1);
            let offset = table.start + number * size(shape.width());
            self.read(offset, slot)?;
            let (content, sum) = slot.split_at(shape.key + shape.value);
            if checksum(offset, content) != sum {
                return Err(doubt());
            }
            let is_empty = content.iter().all(|byte| *byte == 0);
            if is_it(offset, (!is_empty).then(|| content.split_at(shape.key))) {
                return Ok(offset);
            }
        }
        Err(doubt())
    }

    fn read(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        match &self.bytes {
            Bytes::File(file) => file.read_exact_at(buffer, offset).map_err(|_| doubt()),
            Bytes::Memory(bytes) => {
                let start = usize::try_from(offset).map_err(|_| doubt())?;
                let found = bytes.get(start..start + buffer.len()).ok_or_else(doubt)?;
                buffer.copy_from_slice(found);
                Ok(())
            }
        }
    }

    fn write(&mut self, offset: u64, key: &[u8], value: &[u8]) -> io::Result<()> {
        let mut slot = [key, value].concat();
        slot.extend(checksum(offset, &slot));
        match &mut self.bytes {
            Bytes::File(file) => file.write_all_at(&slot, offset),
            Bytes::Memory(bytes) => {
                let start = usize::try_from(offset).map_err(|_| doubt())?;
                let place = bytes.get_mut(start..start + slot.len()).ok_or_else(doubt)?;
                place.copy_from_slice(&slot);
                Ok(())
            }
        }
    }

    /// Puts all but the header on the disk.
    ///
    /// # Errors
    /// When it cannot be written; whatever is there then is covered by no header.
    pub fn save(&mut self, path: &Path) -> io::Result<()> {
        if let Bytes::Memory(bytes) = &self.bytes {
            let temporary = path.with_extension("index.new");
            let file = file::replace(path, &temporary, 0o600, |file| file.write_all(bytes))?;
            self.bytes = Bytes::File(file);
        }
        Ok(())
    }

    /// Puts the header on the disk: from now on it covers what `cover` says.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn seal(&mut self, cover: Cover) -> io::Result<()> {
        self.header.cover = cover;
        match &self.bytes {
            Bytes::File(file) => file.write_all_at(&self.header.encode(), 0),
            Bytes::Memory(_) => Ok(()),
        }
    }
}

impl Header {
    fn encode(&self) -> [u8; HEADER] {
        let mut bytes = MAGIC.to_vec();
        bytes.extend(self.cover.boot.bytes().chain(std::iter::repeat(0)).take(40));
        let Cover { log, directory, .. } = &self.cover;
        let (owners, blocks) = (&self.owners, &self.blocks);
        let numbers = [owners.slots, owners.used, blocks.slots, blocks.used];
        for number in log.iter().chain(directory).chain(&[self.lines, self.live]).chain(&numbers) {
            bytes.extend(number.to_le_bytes());
        }
        bytes.resize(HEADER - 4, 0);
        bytes.extend(crc32fast::hash(&bytes).to_le_bytes());
        bytes.try_into().unwrap_or([0; HEADER])
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
        let log = [(); 4].map(|()| next());
        let directory = [(); 4].map(|()| next());
        let (lines, live) = (next(), next());
        let owners = Table { start: size(HEADER), slots: next(), used: next() };
        let start = owners.start.checked_add(owners.slots.checked_mul(size(OWNER.width()))?)?;
        let blocks = Table { start, slots: next(), used: next() };
        let is_sane = owners.slots.is_power_of_two() && blocks.slots.is_power_of_two();
        let cover = Cover { boot, log, directory };
        is_sane.then_some(Self { cover, lines, live, owners, blocks })
    }
}
