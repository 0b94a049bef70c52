//! The lease file as bytes: read a line, append lines, replace the whole.

use crate::log::{LONGEST_LINE, Log};
use crate::record::{HEADER, Lease, check};
use common::cni::{Context as _, report};
use common::{Code, Error, Result, file};
use std::fs::{File, OpenOptions};
use std::io::{self, BufReader, ErrorKind, Read as _, Write as _};
use std::os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

/// What is read at once. It stays in the cache while its lines are checked.
const CHUNK: usize = 64 * 1024;
/// Most lines are shorter.
const LINE: usize = 512;
/// A larger file is none of ours: of a million leases it is a quarter as long.
const LIMIT: u64 = 1 << 30;

/// `<dataDir>/<network>/leases`, and what is to be appended to it.
#[derive(Debug)]
pub struct LeaseFile {
    path: PathBuf,
    file: Option<File>,
    /// How much of the file is good.
    length: u64,
    /// The length of the file.
    found: u64,
    /// Lines that follow, and that are not on the disk yet.
    pending: String,
}

impl LeaseFile {
    /// Opens it, if there is one.
    ///
    /// # Errors
    /// Code 5.
    pub fn open(path: &Path) -> Result<Self> {
        let file = match file::open_own(path, OpenOptions::new().read(true)) {
            Ok(file) => Some(file),
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            Err(error) => Err(error).context(format_args!("cannot read {}", path.display()))?,
        };
        let mut this =
            Self { path: path.to_owned(), file, length: 0, found: 0, pending: String::new() };
        // As long as nobody has looked, all of it is good.
        this.length = this.state().map_or(0, |[_, length, ..]| length);
        this.found = this.length;
        if this.length > LIMIT {
            let msg = format!("cannot use {}: it has {} bytes", path.display(), this.length);
            return Err(Error::new(Code::Io, msg)
                .details("remove it: what is held is in the files of its directory"));
        }
        Ok(this)
    }

    /// Inode, length, and time of the last change.
    pub fn state(&self) -> Option<[u64; 4]> {
        let found = self.file.as_ref()?.metadata().ok()?;
        Some([
            found.ino(),
            found.size(),
            found.mtime().cast_unsigned(),
            found.mtime_nsec().cast_unsigned(),
        ])
    }

    /// Replays all of it. What is pending is forgotten.
    ///
    /// # Errors
    /// Code 6 for a file of a later version, 5 when it cannot be read.
    pub fn replay(&mut self) -> Result<Log> {
        self.pending.clear();
        let log = match &self.file {
            Some(_) => Log::read(&mut BufReader::with_capacity(CHUNK, self.reopen()?))
                .context(format_args!("cannot use {}", self.path.display()))?,
            None => Log::default(),
        };
        (self.length, self.found) = (log.length, log.found);
        Ok(log)
    }

    /// What the file says to its end, if `known` is what it says up to there; none if anything
    /// behind that is not as it should be.
    pub fn replay_after(&self, end: u64, mut known: Log) -> Option<Log> {
        let length = usize::try_from(self.length.checked_sub(end)?).ok()?;
        let mut tail = vec![0; length];
        self.file.as_ref()?.read_exact_at(&mut tail, end).ok()?;
        (known.length, known.found) = (end, end);
        known.replay(&mut tail.as_slice()).ok()?;
        (known.damage.is_none() && known.length == self.length).then_some(known)
    }

    /// How many bytes of lines are not on the disk yet.
    pub fn pending(&self) -> usize {
        self.pending.len()
    }

    /// With a position of its own.
    fn reopen(&self) -> Result<File> {
        file::open_own(&self.path, OpenOptions::new().read(true))
            .context(format_args!("cannot read {}", self.path.display()))
    }

    /// Where the next line will be.
    pub fn end(&self) -> u64 {
        let header = if self.length == 0 { HEADER.len() } else { 0 };
        self.length + u64::try_from(header + self.pending.len()).unwrap_or(u64::MAX)
    }

    /// Adds a whole line, for [`LeaseFile::flush`]; where it will be.
    pub fn push(&mut self, line: &str) -> u64 {
        let end = self.end();
        self.pending.push_str(line);
        end
    }

    /// Removes what was pushed when the end was there.
    pub fn truncate(&mut self, end: u64) {
        let excess = self.end().saturating_sub(end);
        let excess = usize::try_from(excess).unwrap_or(usize::MAX);
        self.pending.truncate(self.pending.len().saturating_sub(excess));
    }

    /// Writes what is pending, all of it or nothing, after cutting what was left incomplete.
    ///
    /// # Errors
    /// Code 5; then the file is as it was.
    pub fn flush(&mut self) -> Result<()> {
        if self.pending.is_empty() {
            return Ok(());
        }
        if self.found > self.length {
            let (path, excess) = (self.path.display(), self.found - self.length);
            report(format_args!("{path}: cutting {excess} bytes that were not written to the end"));
        }
        let outcome = self.write();
        if outcome.is_err() && self.found == 0 {
            // The error to tell is the one of the write.
            drop(std::fs::remove_file(&self.path));
            self.file = None;
        }
        outcome.context(format_args!("cannot write {}", self.path.display()))
    }

    fn write(&mut self) -> io::Result<()> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let file = file::open_own(&self.path, &options)?;
        if self.found > self.length {
            file.set_len(self.length)?;
            self.found = self.length;
        }
        let fresh = if self.length == 0 { HEADER } else { "" };
        let text = format!("{fresh}{}", self.pending);
        // One write in the normal case. What a full disk has no room for is tried again, only to
        // learn the reason.
        let written = file.write_all_at(text.as_bytes(), self.length);
        if written.is_err() {
            drop(file.set_len(self.length));
        } else {
            self.length += u64::try_from(text.len()).unwrap_or(u64::MAX);
            self.found = self.length;
            self.pending.clear();
        }
        self.file = Some(file);
        written
    }

    /// Cuts what was written after that end, which is that of whole lines.
    pub fn roll_back(&mut self, end: u64) {
        let cut = self.file.as_ref().map(|file| file.set_len(end));
        if matches!(cut, Some(Ok(()))) {
            (self.length, self.found) = (end, end);
        }
    }

    /// The line at an offset, understood; `None` if there is no good line of a lease.
    pub fn lease_at(&self, offset: u64) -> Option<Lease> {
        let bytes = match offset.checked_sub(self.end_of_file()) {
            Some(at) => {
                let rest = self.pending.as_bytes().get(usize::try_from(at).ok()?..)?;
                rest.split_inclusive(|byte| *byte == b'\n').next()?.to_vec()
            }
            None => self.line_at(offset).ok()?,
        };
        Lease::parse(check(&bytes)?)
    }

    fn end_of_file(&self) -> u64 {
        if self.length == 0 { u64::try_from(HEADER.len()).unwrap_or(0) } else { self.length }
    }

    fn line_at(&self, offset: u64) -> io::Result<Vec<u8>> {
        let file = self.file.as_ref().ok_or(ErrorKind::NotFound)?;
        let mut bytes = vec![0; LINE];
        let mut filled = 0;
        loop {
            let at = offset + u64::try_from(filled).unwrap_or(u64::MAX);
            let free = bytes.get_mut(filled..).unwrap_or_default();
            let read = file.read_at(free, at)?;
            let fresh = filled..filled + read;
            let end = bytes.get(fresh).and_then(|new| new.iter().position(|byte| *byte == b'\n'));
            if let Some(end) = end {
                bytes.truncate(filled + end + 1);
                return Ok(bytes);
            }
            filled += read;
            if read == 0 || u64::try_from(filled).map_or(true, |filled| filled > LONGEST_LINE) {
                return Err(ErrorKind::UnexpectedEof.into());
            }
            bytes.resize(2 * filled + LINE, 0);
        }
    }

    /// Every line at one of these offsets.
    ///
    /// # Errors
    /// Code 5.
    pub fn leases_at(&self, offsets: &[u64]) -> Result<Vec<Lease>> {
        let lease = |offset: &u64| self.lease_at(*offset).ok_or_else(|| self.changed());
        offsets.iter().map(lease).collect()
    }

    /// The error of whoever looks for a line and finds another one.
    pub fn changed(&self) -> Error {
        let msg = format!("cannot use {}: it has changed meanwhile", self.path.display());
        Error::new(Code::Io, msg)
    }

    /// Replaces the file by one without what says nothing any more, and without what is damaged.
    /// Where that fails, the old file is still good.
    ///
    /// # Errors
    /// Code 5.
    pub fn compact(&mut self, log: &Log) -> Result<()> {
        let temporary = self.path.with_extension("new");
        let good = self.reopen()?.take(self.length);
        let text = log.compacted(&mut BufReader::with_capacity(CHUNK, good));
        let replaced = text.and_then(|text| {
            file::replace(&self.path, &temporary, 0o600, |file| file.write_all(&text))
        });
        let file = replaced.context(format_args!("cannot rewrite {}", self.path.display()))?;
        self.file = Some(file);
        Ok(())
    }

    /// Keeps a copy of a file that is damaged, for whoever wants to know.
    pub fn set_aside(&self, line: usize) {
        let aside = self.path.with_extension("damaged");
        let path = self.path.display();
        let copied =
            file::open_own(&self.path, OpenOptions::new().read(true)).and_then(|mut from| {
                let temporary = self.path.with_extension("damaged.new");
                file::replace(&aside, &temporary, 0o600, |to| io::copy(&mut from, to).map(drop))
            });
        match copied {
            Ok(_) => report(format_args!(
                "{path}: line {line} is damaged; healed from the files of its directory, and kept \
                 as {}",
                aside.display()
            )),
            Err(error) => report(format_args!(
                "{path}: line {line} is damaged; healed from the files of its directory, but \
                 cannot be kept as {}: {error}",
                aside.display()
            )),
        }
    }

    /// Whether it could be appended to, if there is one.
    ///
    /// # Errors
    /// When it could not.
    pub fn check_writable(&self) -> io::Result<()> {
        match file::open_own(&self.path, OpenOptions::new().append(true)) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}
