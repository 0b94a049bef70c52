//! What follows when somebody else has changed the directory.

use crate::file::LeaseFile;
use crate::log::{Log, hash_of_owner};
use crate::mirror::{Content, Entry, Mirror};
use crate::range::{address, number};
use crate::record::{Holder, Lease, Owner, check};
use common::Result;
use common::cni::report;
use std::collections::{BTreeMap, HashMap, HashSet};
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
    found.tell(lost_by_line.len());
    let mut lines = String::new();
    for (line, lost) in lost_by_line {
        lines.push_str(&ended(log, file, line, &lost, now));
    }
    lines.push_str(&found.leased(boot, now));
    let mut offset = file.end();
    for line in lines.split_inclusive('\n') {
        if let Some(fields) = check(line.as_bytes()) {
            log.apply(offset, fields)?;
        }
        offset += u64::try_from(line.len()).unwrap_or(u64::MAX);
    }
    file.push(&lines);
    Ok(())
}

/// The lines that end a lease for some of its addresses, and go on with it for the others.
fn ended(log: &Log, file: &LeaseFile, line: u64, lost: &[u128], now: u64) -> String {
    let Some(mut lease) = file.lease_at(line) else { return String::new() };
    let mut text = lease.released(now);
    lease.addresses.retain(|address| {
        let address = number(*address);
        !lost.contains(&address) && log.held.get(&address).is_some_and(|held| held.line == line)
    });
    if !lease.addresses.is_empty() {
        text.push_str(&lease.leased());
    }
    text
}

/// Files that the log does not know.
#[derive(Default)]
struct Found {
    of: HashMap<Owner, (Vec<IpAddr>, u64)>,
    of_nobody: Vec<(IpAddr, u64)>,
}

impl Found {
    /// Whether the file is the one that the log knows.
    fn look(&mut self, log: &Log, file: &LeaseFile, mirror: &Mirror, entry: &Entry) -> bool {
        let held = log.held.get(&number(entry.address));
        match (&entry.content, held) {
            (Content::Of(owner), held) => {
                if held.is_some_and(|held| held.owner == hash_of_owner(owner.as_str())) {
                    return true;
                }
                let (addresses, time) =
                    self.of.entry(owner.clone()).or_insert_with(|| (Vec::new(), entry.time));
                addresses.push(entry.address);
                *time = entry.time.max(*time);
                false
            }
            (Content::Garbage, Some(held)) => {
                let lease = file.lease_at(held.line).filter(|lease| !lease.owner.is_unknown());
                if let Some(lease) = lease {
                    mirror.heal(entry.address, &lease.owner);
                }
                true
            }
            (Content::Unreadable, Some(_)) => true,
            (Content::Garbage | Content::Unreadable, None) => {
                self.of_nobody.push((entry.address, entry.time));
                false
            }
        }
    }

    fn tell(&self, lost: usize) {
        let adopted: usize = self.of.values().map(|(addresses, _)| addresses.len()).sum();
        if adopted > 0 || lost > 0 {
            report(format_args!(
                "the directory was changed by somebody else: {adopted} addresses taken over from \
                 its files, {lost} leases ended whose files are gone"
            ));
        }
        for (address, _) in &self.of_nobody {
            report(format_args!("the file of {address} does not tell whose it is"));
        }
    }

    /// The lines that take them over. That a namespace is of this boot is all that is known.
    fn leased(self, boot: &str, now: u64) -> String {
        let holder = |time: u64| Holder {
            // What cannot be read has no time.
            time: if time == 0 { now } else { time.min(now) },
            boot: Some(boot.to_owned()),
            ..Holder::default()
        };
        let mut owners: Vec<_> = self.of.into_iter().collect();
        owners.sort_unstable_by(|(one, (_, a)), (other, (_, b))| (a, one).cmp(&(b, other)));
        let mut text = String::new();
        for (owner, (mut addresses, time)) in owners {
            addresses.sort_unstable();
            text.push_str(&Lease { addresses, owner, holder: holder(time) }.leased());
        }
        for (address, time) in self.of_nobody {
            let owner = Owner::new("", "");
            text.push_str(
                &Lease { addresses: vec![address], owner, holder: holder(time) }.leased(),
            );
        }
        text
    }
}

/// The addresses that are held, for tests and for whoever counts.
pub fn held(log: &Log) -> Vec<IpAddr> {
    let mut held: Vec<_> = log.held.keys().map(|number| address(*number)).collect();
    held.sort_unstable();
    held
}
