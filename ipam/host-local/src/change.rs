//! How leases are written down and ended, in an order that a call may be killed in.

use crate::index::Cover;
use crate::range::RangeSet;
use crate::record::{Lease, Lessee, Origin, check};
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
        let origin = Origin { sticky: None, ..lease.origin.clone() };
        let given_up = Lease { addresses: vec![*address], lessee: Lessee::new("", ""), origin };
        self.log.append(&given_up.leased(), &mut self.file)?;
        self.log.append(&given_up.released(now()), &mut self.file)?;
        self.file.flush()?;
        self.settle();
        report(format_args!(
            "{address} is no longer kept for {}: no other address is free",
            lease.origin.sticky.as_deref().unwrap_or_default()
        ));
        Ok(true)
    }

    /// Writes down a lease whose addresses are free, one from each range set, in their order.
    ///
    /// # Errors
    /// [`Refusal`]; then nothing has changed.
    pub fn lease(&mut self, lease: &Lease) -> Result<(), Refusal> {
        let line = lease.leased();
        let start = self.file.push(&line);
        if let Err(error) = self.file.flush() {
            self.file.truncate(start);
            return Err(Refusal::Failed(error));
        }
        for (count, address) in lease.addresses.iter().enumerate() {
            let Err(error) = self.directory.create(*address, &lease.lessee) else { continue };
            for made in lease.addresses.iter().take(count) {
                drop(self.directory.delete(*made));
            }
            self.file.roll_back(start);
            if error.kind() == ErrorKind::AlreadyExists {
                return Err(Refusal::Changed);
            }
            return Err(Refusal::Failed(cannot_write(&self.directory.of(*address), &error)));
        }
        for (index, address) in lease.addresses.iter().enumerate() {
            self.directory.set_last(index, *address);
        }
        self.log
            .apply(start, check(line.as_bytes()).unwrap_or_default())
            .map_err(Refusal::Failed)?;
        self.settle();
        Ok(())
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
        let now = now();
        for lease in leases {
            let gone = lease.addresses.iter().try_for_each(|ip| {
                let deleted = self.directory.delete(*ip);
                deleted.map_err(|error| cannot_write(&self.directory.of(*ip), &error))
            });
            if errors.note(gone).is_some() {
                self.log.append(&lease.released(now), &mut self.file)?;
            }
        }
        match self.file.flush() {
            Ok(()) => self.settle(),
            // That the files are gone is what counts: the next call sees it.
            Err(error) => report(error),
        }
        errors.into_result()
    }

    /// Notes that the directory, the lease file and the index fit together. If that fails, the next
    /// call has to read everything.
    pub(crate) fn settle(&mut self) {
        drop(self.try_settle());
    }

    fn try_settle(&mut self) -> io::Result<()> {
        if self.file.pending() > 0 {
            return Err(ErrorKind::NotFound.into());
        }
        if self.index.is_outdated(self.file.end()) {
            self.log.merge();
            self.compact();
            self.index.save(&self.log, self.file.end())?;
        }
        let log = self.file.state().ok_or(ErrorKind::NotFound)?;
        let directory = self.directory.stamp()?;
        self.index.seal(Cover { boot: self.boot.clone(), log, directory })
    }

    /// Rewrites the lease file when most of it says nothing any more.
    fn compact(&mut self) {
        if self.file.end() < WORTH_COMPACTING || !self.log.is_mostly_garbage() {
            return;
        }
        match self.file.compact(&self.log).and_then(|()| self.file.replay()) {
            Ok(log) => {
                self.log = log;
                self.log.merge();
            }
            Err(error) => report(error),
        }
    }
}

fn cannot_write(path: &Path, error: &io::Error) -> Error {
    Error::new(Code::Io, format!("cannot write {}: {error}", path.display()))
}
