//! What follows when somebody else has changed the directory.

use crate::file::LeaseFile;
use crate::log::{Log, hash_of_owner};
use crate::mirror::{Content, Entry, Mirror};
use crate::range::{address, number};
use crate::record::{Holder, Lease, Owner, check};
use common::Result;
use common::cni::report;
use std::collections::{BTreeMap, HashSet};
use std::net::IpAddr;

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
    mirror: &Mirror,
    boot: &str,
    now: u64,
) -> Result<()> {
    let (mut seen, mut found) = (HashSet::new(), Found::default());
    for entry in mirror.list()? {
        let entry = entry?;
        if found.look(log, file, mirror, &entry) {
            seen.insert(number(entry.address));
        }
    }
    let lost = log.held.iter().filter(|(address, _)| !seen.contains(address));
    let mut lost_by_line: BTreeMap<u64, Vec<u128>> = BTreeMap::new();
    for (address, held) in lost {
        lost_by_line.entry(held.line).or_default().push(*address);
    }
    lost_by_line.values_mut().for_each(|lost| lost.sort_unstable());
    found.tell(lost_by_line.len());
    drop(seen);
    let mut lines = Lines { log, file, writes: mirror.heals };
    for (line, lost) in lost_by_line {
        let text = ended(lines.log, lines.file, line, &lost, now);
        text.split_inclusive('\n').try_for_each(|line| lines.push(line))?;
    }
    found.lease(mirror, &mut lines, (boot, now))
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
        if let Some(fields) = check(line.as_bytes()) {
            self.log.apply(self.file.end(), fields)?;
        }
        self.file.push(line);
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
            && log.held.get(&address).is_some_and(|held| held.line == line)
    });
    if !lease.addresses.is_empty() {
        text.push_str(&lease.leased());
    }
    text
}

/// Files that the log does not know. There may be many: what is remembered of one takes little
/// room, whatever its owner is called.
#[derive(Default)]
struct Found {
    all: Vec<File>,
    /// How many of them do not tell whose they are.
    of_nobody: usize,
    /// Whose the line is that was last asked for: one lease may be of thousands of files.
    latest: Option<(u64, Option<Owner>)>,
}

/// One of them.
struct File {
    address: u128,
    /// The lowest one of the owner's addresses.
    first: u128,
    time: u64,
    /// As the log knows owners; [`NOBODY`] if it does not tell.
    owner: u64,
}

const NOBODY: u64 = 0;

/// How many strange files are named.
const TOLD: usize = 10;

impl Found {
    /// Whether the file is the one that the log knows.
    fn look(&mut self, log: &Log, file: &LeaseFile, mirror: &Mirror, entry: &Entry) -> bool {
        let held = log.held.get(&number(entry.address));
        match (&entry.content, held) {
            (Content::Of(owner), held) => {
                if held.is_some_and(|held| held.owner == hash_of_owner(owner.as_str())) {
                    return true;
                }
                self.push(entry, hash_of_owner(owner.as_str()));
                false
            }
            (Content::Garbage, Some(held)) => {
                if let Some(owner) = self.owner_at(file, held.line) {
                    mirror.heal(entry.address, owner);
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
    fn owner_at(&mut self, file: &LeaseFile, line: u64) -> Option<&Owner> {
        if self.latest.as_ref().is_none_or(|(latest, _)| *latest != line) {
            let lease = file.lease_at(line).filter(|lease| !lease.owner.is_unknown());
            self.latest = Some((line, lease.map(|lease| lease.owner)));
        }
        self.latest.as_ref()?.1.as_ref()
    }

    fn push(&mut self, entry: &Entry, owner: u64) {
        let address = number(entry.address);
        self.all.push(File { address, first: address, time: entry.time, owner });
    }

    fn tell(&self, lost: usize) {
        if self.of_nobody > TOLD {
            let more = self.of_nobody - TOLD;
            report(format_args!("{more} more files of addresses do not tell whose they are"));
        }
        let adopted = self.all.iter().filter(|file| file.owner != NOBODY).count();
        if adopted > 0 || lost > 0 {
            report(format_args!(
                "the directory was changed by somebody else: {adopted} addresses taken over from \
                 its files, {lost} leases ended whose files are gone"
            ));
        }
    }

    /// Takes them over, oldest first; what one owner has is one lease, as old as its last file. That
    /// a namespace is of this boot is all that is known.
    fn lease(self, mirror: &Mirror, lines: &mut Lines<'_>, (boot, now): (&str, u64)) -> Result<()> {
        let mut all = self.all;
        let is_one = |a: &File, b: &File| a.owner != NOBODY && a.owner == b.owner;
        all.sort_unstable_by_key(|file| (file.owner, file.address));
        for files in all.chunk_by_mut(is_one) {
            let time = files.iter().map(|file| file.time).max().unwrap_or_default();
            let first = files.first().map_or(0, |file| file.address);
            files.iter_mut().for_each(|file| (file.time, file.first) = (time, first));
        }
        all.sort_unstable_by_key(|file| (file.time, file.first, file.address));
        // At once: a map that grows is there twice.
        lines.log.held.reserve(all.len());
        for files in all.chunk_by(is_one) {
            let Some(first) = files.first() else { continue };
            // What cannot be read has no time.
            let time = if first.time == 0 { now } else { first.time.min(now) };
            let holder = Holder { time, boot: Some(boot.to_owned()), ..Holder::default() };
            let addresses = files.iter().map(|file| address(file.address)).collect();
            let lease = Lease { addresses, owner: mirror.owner_of(address(first.address)), holder };
            lines.push(&lease.leased())?;
        }
        Ok(())
    }
}

/// The addresses that are held, for tests and for whoever counts.
pub fn held(log: &Log) -> Vec<IpAddr> {
    let mut held: Vec<_> = log.held.keys().map(|number| address(*number)).collect();
    held.sort_unstable();
    held
}
