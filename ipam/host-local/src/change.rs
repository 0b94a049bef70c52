//! How leases are written down and ended, in an order that a call may be killed in.

use crate::block::Mark;
use crate::log::{hash_of_key, hash_of_owner};
use crate::range::{RangeSet, number};
use crate::record::{Holder, Lease, Owner, escape};
use crate::store::{Store, now};
use common::cni::report;
use common::{Code, Error, Result};
use std::io::{self, ErrorKind};
use std::path::Path;

/// A smaller file is read faster than it is rewritten.
pub(crate) const WORTH_COMPACTING: u64 = 16 * 1024;

/// Why a lease was not written down.
#[derive(Debug)]
pub enum Refusal {
    /// Somebody has made a file of that address since the directory was read: look again.
    Changed,
    /// It cannot be.
    Failed(Error),
}

impl Store {
    /// Forgets for which pod the address of the set was kept that was released first; whether
    /// there was one.
    ///
    /// # Errors
    /// Code 5 and 6.
    pub fn give_up_kept(&mut self, set: &RangeSet) -> Result<bool> {
        let kept = self.kept()?;
        let mut kept =
            kept.iter().flat_map(|lease| lease.addresses.iter().map(move |ip| (ip, lease)));
        let Some((address, lease)) = kept.find(|(ip, _)| set.is_usable(**ip)) else {
            return Ok(false);
        };
        let holder = Holder { sticky: None, ..lease.holder.clone() };
        let given_up = Lease { addresses: vec![*address], owner: Owner::new("", ""), holder };
        self.file.push(&given_up.leased());
        self.file.push(&given_up.released(now()));
        self.file.flush()?;
        self.reindex()?;
        self.settle();
        report(format_args!(
            "{address} is no longer kept for {}: no other address is free",
            lease.holder.sticky.as_deref().unwrap_or_default()
        ));
        Ok(true)
    }

    /// Writes down a lease whose addresses are free, one from each range set, in their order.
    ///
    /// # Errors
    /// [`Refusal`]; then nothing has changed.
    pub fn lease(&mut self, lease: &Lease) -> Result<(), Refusal> {
        let is_kept_for_others = self.is_kept_for_others(lease).unwrap_or(true);
        let start = self.file.end();
        self.file.push(&lease.leased());
        if let Err(error) = self.file.flush() {
            self.file.truncate(start);
            return Err(Refusal::Failed(error));
        }
        for (count, address) in lease.addresses.iter().enumerate() {
            let Err(error) = self.mirror.create(*address, &lease.owner) else { continue };
            for made in lease.addresses.iter().take(count) {
                drop(self.mirror.delete(*made));
            }
            self.file.take_back(start);
            if error.kind() == ErrorKind::AlreadyExists {
                return Err(Refusal::Changed);
            }
            return Err(Refusal::Failed(cannot_write(&self.mirror.of(*address), &error)));
        }
        for (index, address) in lease.addresses.iter().enumerate() {
            self.mirror.set_last(index, *address);
        }
        let indexed = match is_kept_for_others {
            true => self.reindex().is_ok(),
            false => self.index_lease(lease, start).is_ok(),
        };
        if indexed {
            self.settle();
        }
        self.compact();
        Ok(())
    }

    /// Whether it takes something from a pod of which nothing but the log knows.
    fn is_kept_for_others(&mut self, lease: &Lease) -> Result<bool> {
        let own = match &lease.holder.sticky {
            Some(key) => self.latest_of(&lease.owner, key)?.map(|lease| lease.addresses),
            None => None,
        };
        let own = own.unwrap_or_default();
        for address in lease.addresses.iter().filter(|address| !own.contains(address)) {
            if self.mark_of(*address)? == Mark::Kept {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn index_lease(&mut self, lease: &Lease, line: u64) -> io::Result<()> {
        self.index.header.lines += 1;
        self.index.header.live += 1;
        let owner = lease.owner.as_str();
        if let Some(key) = &lease.holder.sticky {
            self.index_key(hash_of_key(owner, &escape(key)), line)?;
        }
        for address in &lease.addresses {
            self.index.mark(number(*address), Mark::Held)?;
        }
        if lease.owner.is_unknown() {
            return Ok(());
        }
        self.index.insert(hash_of_owner(owner), line)
    }

    /// The line is the latest under a sticky key; what was kept under it is free.
    fn index_key(&mut self, key: u64, line: u64) -> io::Result<()> {
        for old in self.index.find(key)? {
            let lease = self.file.lease_at(old).ok_or(ErrorKind::InvalidData)?;
            for address in lease.addresses.into_iter().map(number) {
                if self.index.block(address >> 8)?.mark_of(address) == Mark::Kept {
                    self.index.mark(address, Mark::Free)?;
                }
            }
            self.index.remove(key, old)?;
        }
        self.index.insert(key, line)
    }

    /// Ends leases.
    ///
    /// # Errors
    /// Code 5 when a file cannot be removed.
    pub fn release(&mut self, leases: &[Lease]) -> Result<()> {
        if leases.is_empty() {
            return Ok(());
        }
        let mut errors = common::Errors::default();
        let (now, mut lines) = (now(), Vec::new());
        for lease in leases {
            let gone = lease.addresses.iter().try_for_each(|ip| {
                self.mirror.delete(*ip).map_err(|error| cannot_write(&self.mirror.of(*ip), &error))
            });
            if errors.note(gone).is_some() {
                lines.push((self.file.end(), lease));
                self.file.push(&lease.released(now));
            }
        }
        if let Err(error) = self.file.flush() {
            // That the files are gone is what counts: the next call sees it.
            report(error);
        } else if self.index_release(&lines).is_ok() {
            self.settle();
        } else {
            self.rebuild()?;
        }
        self.compact();
        errors.into_result()
    }

    fn index_release(&mut self, lines: &[(u64, &Lease)]) -> io::Result<()> {
        for (line, lease) in lines {
            let owner = lease.owner.as_str();
            let hash = hash_of_owner(owner);
            let mut ended = Vec::new();
            for old in self.index.find(hash)? {
                if self.file.lease_at(old).as_ref() == Some(*lease) {
                    self.index.remove(hash, old)?;
                    ended.push(old);
                }
            }
            self.index.header.lines += 1;
            self.index.header.live = self.index.header.live.saturating_sub(1);
            let key = lease.holder.sticky.as_ref().map(|key| hash_of_key(owner, &escape(key)));
            let latest = key.map(|key| self.index.find(key)).transpose()?.unwrap_or_default();
            // A pod that has got another lease meanwhile does not come back to this one.
            let is_kept =
                key.filter(|_| latest.is_empty() || latest.iter().any(|line| ended.contains(line)));
            if let Some(key) = is_kept {
                self.index_key(key, *line)?;
                self.index.header.live += 1;
            }
            let mark = if is_kept.is_some() { Mark::Kept } else { Mark::Free };
            for address in &lease.addresses {
                self.index.mark(number(*address), mark)?;
            }
        }
        Ok(())
    }

    /// Rewrites the file when most of it says nothing any more.
    fn compact(&mut self) {
        let header = &self.index.header;
        let is_mostly_garbage = header.lines - header.lines.min(header.live) > header.live;
        if self.file.end() < WORTH_COMPACTING || !is_mostly_garbage || self.file.pending() > 0 {
            return;
        }
        let compacted = self.file.replay().and_then(|log| self.file.compact(&log));
        match compacted.and_then(|()| self.file.replay()).and_then(|_| self.reindex()) {
            Ok(()) => self.settle(),
            Err(error) => report(error),
        }
    }
}

fn cannot_write(path: &Path, error: &io::Error) -> Error {
    Error::new(Code::Io, format!("cannot write {}: {error}", path.display()))
}
