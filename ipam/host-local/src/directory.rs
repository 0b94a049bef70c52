//! The Go-compatible directory, as the Go plugin keeps it: one file per address, which says whose it
//! is.
//!
//! It is kept true for two reasons: the programs may be swapped on a living node at any time, in
//! both directions, and people look at it and remove from it. So it is this directory that decides
//! *which* addresses are held, and the lease file that knows by whom, since when, and whether the
//! holder can be alive.
//!
//! Whether somebody else has changed it is told by the directory's time of modification. After our
//! own changes that is set into the past, to a time that the clock will not show again; so a change
//! that follows within the same tick of the clock is noticed as well.

use crate::record::Lessee;
use common::Result;
use common::cni::{Context as _, report};
use common::file::{self, open_own};
use std::fs::{File, FileTimes, OpenOptions};
use std::io::{self, ErrorKind, Write as _};
use std::net::IpAddr;
use std::os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// Longer than any container's ID and interface. A file that is longer tells nobody's name.
const CONTENT: u64 = 4096;
/// Longer than any address.
const ADDRESS: u64 = 64;

/// How far back the directory's time is set. Filesystems that keep no fractions round by up to two
/// seconds.
const PAST: Duration = Duration::from_secs(10);

/// What a file says.
#[derive(Debug, PartialEq, Eq)]
pub enum Content {
    /// Whose the address is.
    Of(Lessee),
    /// Nothing that could be a container.
    Garbage,
    /// It cannot be read.
    Unreadable,
}

/// A file that is named as an address.
#[derive(Debug)]
pub struct Entry {
    /// Its name.
    pub address: IpAddr,
    /// What is in it.
    pub content: Content,
    /// When that was written, in seconds since 1970.
    pub time: u64,
}

/// A network's directory.
#[derive(Debug)]
pub struct Directory {
    /// Where it is.
    pub path: PathBuf,
    /// Whether files that have lost their content are written anew.
    pub heals: bool,
    directory: File,
}

impl Directory {
    /// Opens the directory.
    ///
    /// # Errors
    /// Code 5.
    pub fn open(path: &Path) -> Result<Self> {
        let directory = File::open(path).context(format_args!("cannot open {}", path.display()))?;
        Ok(Self { path: path.to_owned(), heals: true, directory })
    }

    /// Device, inode, and time of the last change.
    ///
    /// # Errors
    /// When it cannot be asked.
    pub fn state(&self) -> io::Result<[u64; 4]> {
        let found = self.directory.metadata()?;
        Ok([
            found.dev(),
            found.ino(),
            found.mtime().cast_unsigned(),
            found.mtime_nsec().cast_unsigned(),
        ])
    }

    /// Marks it as known in its present state, which is returned.
    ///
    /// # Errors
    /// When the time cannot be set.
    pub fn stamp(&self) -> io::Result<[u64; 4]> {
        let past = SystemTime::now().checked_sub(PAST).ok_or(ErrorKind::InvalidInput)?;
        self.directory.set_times(FileTimes::new().set_modified(past))?;
        self.state()
    }

    /// Every file that is named as an address.
    ///
    /// # Errors
    /// Code 5.
    pub fn list(&self) -> Result<impl Iterator<Item = Result<Entry>> + '_> {
        let cannot = format!("cannot list {}", self.path.display());
        let entries = std::fs::read_dir(&self.path).context(&cannot)?;
        Ok(entries.filter_map(move |entry| {
            let entry = match entry.context(&cannot) {
                Ok(entry) => entry,
                Err(error) => return Some(Err(error)),
            };
            let name = entry.file_name();
            let address: IpAddr = name.to_str()?.parse().ok()?;
            // Only as the Go plugin spells it; it knows no address by another name.
            let is_file = entry.file_type().is_ok_and(|kind| kind.is_file());
            (address.to_string().as_str() == name).then(|| Ok(self.read(address, is_file)))
        }))
    }

    /// Whether the file of an address can be read and tells nobody's name.
    pub fn is_nobodys(&self, address: IpAddr) -> bool {
        self.content_of(address) == Content::Garbage
    }

    /// Whose an address is, if its file tells.
    pub fn lessee_of(&self, address: IpAddr) -> Lessee {
        match self.content_of(address) {
            Content::Of(lessee) => lessee,
            Content::Garbage | Content::Unreadable => Lessee::new("", ""),
        }
    }

    fn content_of(&self, address: IpAddr) -> Content {
        self.read(address, true).content
    }

    /// What is known about one address.
    fn read(&self, address: IpAddr, is_file: bool) -> Entry {
        let read = || {
            // To open a device may have consequences, whatever is done with it then.
            let file = is_file.then(|| open_own(&self.of(address), OpenOptions::new().read(true)));
            let file = file.unwrap_or_else(|| Err(ErrorKind::InvalidInput.into()))?;
            let time = u64::try_from(file.metadata()?.mtime()).unwrap_or(0);
            match file::read(file, CONTENT) {
                Err(error) if error.kind() == ErrorKind::FileTooLarge => Ok((Vec::new(), time)),
                text => text.map(|text| (text, time)),
            }
        };
        let (content, time) =
            read().map_or((Content::Unreadable, 0), |(text, time)| (parse(&text), time));
        Entry { address, content, time }
    }

    /// Adds the file of an address that has none.
    ///
    /// # Errors
    /// [`ErrorKind::AlreadyExists`] if it has one; otherwise there is none.
    pub fn create(&self, address: IpAddr, lessee: &Lessee) -> io::Result<()> {
        let mut options = OpenOptions::new();
        let path = self.of(address);
        let mut file = options.write(true).create_new(true).mode(0o600).open(&path)?;
        let written = file.write_all(content(lessee).as_bytes());
        if written.is_err() {
            // The error to tell is the one of the write.
            drop(std::fs::remove_file(&path));
        }
        written
    }

    /// Writes anew what was lost of a file's content.
    pub fn heal(&self, address: IpAddr, lessee: &Lessee) {
        if !self.heals {
            return;
        }
        let path = self.of(address);
        match self.replace(&path, &content(lessee)) {
            Ok(_) => {
                report(format_args!("{}: lost its content, which is restored", path.display()));
            }
            Err(error) => report(format_args!("{}: cannot be restored: {error}", path.display())),
        }
    }

    /// Removes the file of an address.
    ///
    /// # Errors
    /// When there is one and it cannot be removed.
    pub fn delete(&self, address: IpAddr) -> io::Result<()> {
        match std::fs::remove_file(self.of(address)) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// The address that was handed out last from the range set of this index. It is a hint, of
    /// which nothing depends but the order of addresses.
    pub fn last(&self, index: usize) -> Option<IpAddr> {
        let file = open_own(&self.path_of_last(index), OpenOptions::new().read(true)).ok()?;
        std::str::from_utf8(&file::read(file, ADDRESS).ok()?).ok()?.trim().parse().ok()
    }

    /// Remembers the address that was handed out last.
    pub fn set_last(&self, index: usize, address: IpAddr) {
        let path = self.path_of_last(index);
        let text = address.to_string();
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(false).mode(0o600);
        let written = match open_own(&path, &options) {
            Ok(file) => file
                .write_all_at(text.as_bytes(), 0)
                .and_then(|()| file.set_len(u64::try_from(text.len()).unwrap_or(0))),
            // Whatever it is, it is in the way.
            Err(error) if error.kind() == ErrorKind::InvalidInput => self.replace(&path, &text),
            Err(error) => Err(error),
        };
        if let Err(error) = written {
            report(format_args!("{}: cannot be written: {error}", path.display()));
        }
    }

    /// Puts a text where a file was that is not to be written into.
    fn replace(&self, path: &Path, text: &str) -> io::Result<()> {
        let temporary = self.path.join("leases.temporary");
        file::replace(path, &temporary, 0o600, |file| file.write_all(text.as_bytes())).map(drop)
    }

    fn path_of_last(&self, index: usize) -> PathBuf {
        self.path.join(format!("last_reserved_ip.{index}"))
    }

    /// The file of an address.
    pub fn of(&self, address: IpAddr) -> PathBuf {
        self.path.join(address.to_string())
    }
}

/// As the Go plugin writes it.
fn content(lessee: &Lessee) -> String {
    let ifname = lessee.ifname();
    if ifname.is_empty() {
        lessee.container()
    } else {
        format!("{}\r\n{ifname}", lessee.container())
    }
}

/// As the Go plugin reads it: it compares the whole text, but for white space around it.
fn parse(text: &[u8]) -> Content {
    let Ok(text) = std::str::from_utf8(text) else { return Content::Garbage };
    let (container, ifname) = match text.trim().split_once("\r\n") {
        Some((container, ifname)) => (container.trim(), ifname.trim()),
        None => (text.trim(), ""),
    };
    let is_word = |text: &str| !text.chars().any(|c| c.is_whitespace() || c.is_control());
    if container.is_empty() || !is_word(container) || !is_word(ifname) {
        return Content::Garbage;
    }
    Content::Of(Lessee::new(container, ifname))
}
