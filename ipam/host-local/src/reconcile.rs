//! What follows when somebody else has changed the directory.

use crate::directory::{Content, Directory, Entry};
use crate::file::LeaseFile;
use crate::log::{Log, Mark, hash_of_lessee};
use crate::range::{address, number};
use crate::record::{Lease, Lessee, Origin};
use common::Result;
use common::cni::report;
use std::collections::{BTreeMap, HashSet};

/// Makes the log say what the directory says: which addresses are held is what it decides.
///
/// | file | log | then |
/// |---|---|---|
/// | there | held by the same | nothing |
/// | empty, garbage | held | the log knows more: the file is written anew |
/// | unreadable | held | nothing |
/// | of somebody else | held | released, leased to that one |
/// | there | free | leased to whom it names; to nobody known if it names none |
/// | missing | held | released |
///
/// What it adds to the log is pending in `file`.
///
/// # Errors
/// Code 5 when the directory cannot be read: nothing is concluded from half of it.
pub fn follow(
    log: &mut Log,
    file: &mut LeaseFile,
    directory: &Directory,
    boot: &str,
    now: u64,
) -> Result<()> {
    let (mut seen, mut found) = (HashSet::new(), Found::default());
    for entry in directory.list()? {
        let entry = entry?;
        if found.look(log, file, directory, &entry) {
            seen.insert(number(entry.address));
        }
    }
    let mut lost_by_line: BTreeMap<u64, Vec<u128>> = BTreeMap::new();
    for (address, mark) in log.all() {
        if mark.is_held() && !seen.contains(&address) {
            lost_by_line.entry(mark.line()).or_default().push(address);
        }
    }
    found.tell(lost_by_line.len());
    drop(seen);
    let mut lines = Lines { log, file, writes: directory.heals };
    for (line, lost) in lost_by_line {
        let text = ended(lines.log, lines.file, line, &lost, now);
        text.split_inclusive('\n').try_for_each(|line| lines.push(line))?;
    }
    found.lease(directory, &mut lines, (boot, now))
}

/// Takes lines to the log and to the file.
struct Lines<'a> {
    log: &'a mut Log,
    file: &'a mut LeaseFile,
    /// Whether they may be written before the last one is there. Each is true by itself.
    writes: bool,
}

impl Lines<'_> {
    fn push(&mut self, line: &str) -> Result<()> {
        // Of sixty thousand files that are taken over, not all lines are in memory at once.
        const MUCH: usize = 1 << 17;
        self.log.append(line, self.file)?;
        if self.writes && self.file.pending() > MUCH {
            // Who cannot write yet tries again with the rest.
            drop(self.file.flush());
        }
        Ok(())
    }
}

/// The lines that end a lease for some of its addresses, which are in order, and go on with it for
/// the others.
fn ended(log: &Log, file: &LeaseFile, line: u64, lost: &[u128], now: u64) -> String {
    let Some(mut lease) = file.lease_at(line) else { return String::new() };
    let mut text = lease.released(now);
    lease.addresses.retain(|address| {
        let address = number(*address);
        lost.binary_search(&address).is_err()
            && log.mark_of(address).is_some_and(|mark| mark.line() == line)
    });
    if !lease.addresses.is_empty() {
        text.push_str(&lease.leased());
    }
    text
}

/// Files that the log does not know. There may be many: what is remembered of one takes little
/// room, whatever its lessee is called.
#[derive(Default)]
struct Found {
    all: Vec<File>,
    /// How many of them do not tell whose they are.
    of_nobody: usize,
    /// Whose the line is that was last asked for: one lease may be of thousands of files.
    latest: Option<(u64, Option<Lessee>)>,
}

/// One of them.
struct File {
    address: u128,
    /// The lowest one of the lessee's addresses.
    first: u128,
    time: u64,
    /// As the log knows lessees; [`NOBODY`] if it does not tell.
    lessee: u64,
}

const NOBODY: u64 = 0;

/// How many strange files are named.
const TOLD: usize = 10;

impl Found {
    /// Whether the file is the one that the log knows.
    fn look(&mut self, log: &Log, file: &LeaseFile, directory: &Directory, entry: &Entry) -> bool {
        let held = match log.mark_of(number(entry.address)) {
            Some(Mark::Held { line, lessee }) => Some((line, lessee)),
            Some(Mark::Kept { .. }) | None => None,
        };
        match (&entry.content, held) {
            (Content::Of(lessee), held) => {
                if held.is_some_and(|(_, holder)| holder == hash_of_lessee(lessee.as_str())) {
                    return true;
                }
                self.push(entry, hash_of_lessee(lessee.as_str()));
                false
            }
            (Content::Garbage, Some((line, _))) => {
                if let Some(lessee) = self.lessee_at(file, line) {
                    directory.heal(entry.address, lessee);
                }
                true
            }
            (Content::Unreadable, Some(_)) => true,
            (Content::Garbage | Content::Unreadable, None) => {
                self.of_nobody += 1;
                if self.of_nobody <= TOLD {
                    report(format_args!("the file of {} does not tell whose it is", entry.address));
                }
                self.push(entry, NOBODY);
                false
            }
        }
    }

    /// Whose a line is, if it tells.
    fn lessee_at(&mut self, file: &LeaseFile, line: u64) -> Option<&Lessee> {
        if self.latest.as_ref().is_none_or(|(latest, _)| *latest != line) {
            let lease = file.lease_at(line).filter(|lease| !lease.lessee.is_unknown());
            self.latest = Some((line, lease.map(|lease| lease.lessee)));
        }
        self.latest.as_ref()?.1.as_ref()
    }

    fn push(&mut self, entry: &Entry, lessee: u64) {
        let address = number(entry.address);
        self.all.push(File { address, first: address, time: entry.time, lessee });
    }

    fn tell(&self, lost: usize) {
        if self.of_nobody > TOLD {
            let more = self.of_nobody - TOLD;
            report(format_args!("{more} more files of addresses do not tell whose they are"));
        }
        let adopted = self.all.iter().filter(|file| file.lessee != NOBODY).count();
        if adopted > 0 || lost > 0 {
            report(format_args!(
                "the directory was changed by somebody else: {adopted} addresses taken over from \
                 its files, {lost} leases ended whose files are gone"
            ));
        }
    }

    /// Takes them over, oldest first; what one lessee has is one lease, as old as its last file. That
    /// a namespace is of this boot is all that is known.
    fn lease(
        self,
        directory: &Directory,
        lines: &mut Lines<'_>,
        (boot, now): (&str, u64),
    ) -> Result<()> {
        let mut all = self.all;
        let is_one = |a: &File, b: &File| a.lessee != NOBODY && a.lessee == b.lessee;
        all.sort_unstable_by_key(|file| (file.lessee, file.address));
        for files in all.chunk_by_mut(is_one) {
            let time = files.iter().map(|file| file.time).max().unwrap_or_default();
            let first = files.first().map_or(0, |file| file.address);
            files.iter_mut().for_each(|file| (file.time, file.first) = (time, first));
        }
        all.sort_unstable_by_key(|file| (file.time, file.first, file.address));
        for files in all.chunk_by(is_one) {
            let Some(first) = files.first() else { continue };
            // What cannot be read has no time.
            let time = if first.time == 0 { now } else { first.time.min(now) };
            let origin = Origin { time, boot: Some(boot.to_owned()), ..Origin::default() };
            let addresses = files.iter().map(|file| address(file.address)).collect();
            let lease =
                Lease { addresses, lessee: directory.lessee_of(address(first.address)), origin };
            lines.push(&lease.leased())?;
        }
        Ok(())
    }
}
