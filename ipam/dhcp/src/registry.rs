//! The attachments that have a lease.

use crate::exchange::Exchange;
use crate::flags::Settings;
use crate::keeper::{self, Backoff};
use crate::kernel::Kernel;
use crate::lease::Lease;
use crate::options::Options;
use crate::place::{Place, Wire};
use crate::protocol::{Id, Order};
use crate::store::Store;
use common::cni::report;
use common::net::since_boot;
use common::{Code, Error, Result, Success};
use serde::{Deserialize, Serialize};
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::Duration;
use tokio::task::{AbortHandle, spawn_local};
use tokio::time::{sleep, timeout};

/// How often the daemon looks which namespaces are gone.
const SWEEP: Duration = Duration::from_secs(2);

/// How long a DEL waits for the end of an ADD, and how often it looks.
const PATIENCE: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(20);

/// What is known of an attachment, and survives the daemon.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) id: Id,
    pub(crate) place: Place,
    /// The ADD that has made it.
    add: String,
    /// When that was, from the start of the machine.
    since: Duration,
    pub(crate) options: Options,
    pub(crate) priority: u32,
    /// `None` after it was lost, until there is another one.
    pub(crate) lease: Option<Lease>,
}

#[derive(Debug)]
struct Entry {
    record: Record,
    keeper: AbortHandle,
}

/// All of them, and what a task needs to serve one.
#[derive(Debug)]
pub(crate) struct Registry {
    entries: RefCell<BTreeMap<Id, Entry>>,
    /// The ADDs that are running.
    adding: RefCell<BTreeSet<Id>>,
    pub(crate) kernel: Kernel,
    pub(crate) settings: Settings,
    store: Store,
}

/// A running ADD, as long as it lives.
struct Adding<'a> {
    registry: &'a Registry,
    id: Id,
}

fn is_running(id: &Id) -> Error {
    Error::new(Code::TryAgain, format!("an ADD of {id} is running"))
}

impl Drop for Adding<'_> {
    fn drop(&mut self) {
        self.registry.adding.borrow_mut().remove(&self.id);
    }
}

impl Registry {
    /// With the leases of an earlier daemon, each of which is kept from now on.
    ///
    /// # Errors
    /// Code 5 when the file cannot be written, which an ADD would be too late to find.
    pub(crate) fn start(kernel: Kernel, settings: Settings, store: Store) -> Result<Rc<Self>> {
        let records = store.load();
        let (entries, adding) = (RefCell::default(), RefCell::default());
        let registry = Rc::new(Self { entries, adding, kernel, settings, store });
        for record in records {
            registry.keep(record);
        }
        registry.save()?;
        let sweeper = Rc::clone(&registry);
        drop(spawn_local(async move {
            loop {
                sweeper.sweep_namespaces();
                sleep(SWEEP).await;
            }
        }));
        Ok(registry)
    }

    /// A lease for an attachment: the one that it has, or a new one.
    ///
    /// # Errors
    /// Code 11 when no server grants one, or another ADD of the attachment is running; 4 without its link.
    pub(crate) async fn add(self: &Rc<Self>, order: Order) -> Result<Success> {
        let Order { id, netns, add, options, priority } = order;
        let _running = self.begin(&id)?;
        let mut path = self.settings.hostprefix.clone().into_os_string();
        path.push(netns);
        let place = Place::new(path.into(), &id.ifname)?;
        if let Some(found) = self.find(&id) {
            let valid = found.lease.filter(Lease::is_valid);
            if let Some(lease) = valid.filter(|_| found.place.is_same_namespace(&place)) {
                return Ok(lease.success(found.priority));
            }
            self.forget(&id);
        }
        let since = since_boot();
        let mut record = Record { id, place, add, since, options, priority, lease: None };
        let mut last = None;
        let acquired = timeout(self.settings.resendtimeout, self.acquire(&record, &mut last)).await;
        let lease = acquired.unwrap_or_else(|_| {
            let last = last.map_or_else(String::new, |error: Error| error.to_string());
            Err(Error::new(Code::TryAgain, "no more tries").details(last))
        })?;
        let success = lease.success(priority);
        record.lease = Some(lease);
        let id = record.id.clone();
        self.keep(record.clone());
        if let Err(error) = self.save() {
            self.forget(&id);
            self.release(&record).await;
            return Err(error);
        }
        Ok(success)
    }

    /// Tries until there is a lease, with pauses. `last` is the last error.
    async fn acquire(&self, record: &Record, last: &mut Option<Error>) -> Result<Lease> {
        let mut backoff = Backoff::new(self.settings.resendmax);
        loop {
            match self.acquire_once(record).await {
                Err(error) if error.code() == Code::TryAgain => {
                    report(format_args!("{}: {error}", record.id));
                    *last = Some(error);
                }
                outcome => return outcome,
            }
            sleep(backoff.pause()).await;
        }
    }

    /// Raises the link, and tries once.
    ///
    /// # Errors
    /// Code 4 when the link is gone, 11 when another try may succeed.
    pub(crate) async fn acquire_once(&self, record: &Record) -> Result<Lease> {
        let place = record.place.clone();
        let wire = self.kernel.run(move || place.raise()).await?;
        self.exchange(&wire, record).acquire().await
    }

    /// The packets of an attachment.
    pub(crate) fn exchange<'a>(&self, wire: &'a Wire, record: &'a Record) -> Exchange<'a> {
        let patience = self.settings.timeout;
        Exchange::new(wire, &record.id, &record.options, patience)
            .broadcast(self.settings.broadcast)
    }

    /// Ends a lease and tells the server; only that of the ADD `undoes`, if that is given.
    ///
    /// # Errors
    /// Code 11 while an ADD of the attachment is running, 5 when the file cannot be written.
    pub(crate) async fn del(&self, id: &Id, undoes: Option<&str>) -> Result<()> {
        // An ADD whose plugin was killed ends as soon as that is noticed.
        let ended = async {
            while self.adding.borrow().contains(id) {
                sleep(PAUSE).await;
            }
        };
        if timeout(PATIENCE, ended).await.is_err() {
            return Err(is_running(id));
        }
        let Some(record) = self.find(id) else { return Ok(()) };
        if undoes.is_some_and(|add| add != record.add) {
            return Ok(());
        }
        self.forget(id);
        let saved = self.save();
        self.release(&record).await;
        saved
    }

    /// Ends the leases of a network that are not valid any more.
    ///
    /// # Errors
    /// As [`Registry::del`].
    pub(crate) async fn gc(
        &self,
        network: &str,
        valid: &[(String, String)],
        grace_age: Duration,
    ) -> Result<()> {
        let valid: BTreeSet<_> =
            valid.iter().map(|(container, ifname)| (container, ifname)).collect();
        let is_stale = |record: &&Record| {
            let Id { container, ifname, network: own } = &record.id;
            let is_old = since_boot().saturating_sub(record.since) >= grace_age;
            own == network && is_old && !valid.contains(&(container, ifname))
        };
        let stale: Vec<_> = {
            let entries = self.entries.borrow();
            let records = entries.values().map(|entry| &entry.record).filter(is_stale);
            records.map(|record| record.id.clone()).collect()
        };
        let mut outcome = Ok(());
        for id in stale {
            report(format_args!("{id}: released, because it is not valid any more"));
            outcome = outcome.and(self.del(&id, None).await);
        }
        outcome
    }

    /// What is known of an attachment.
    pub(crate) fn find(&self, id: &Id) -> Option<Record> {
        self.entries.borrow().get(id).map(|entry| entry.record.clone())
    }

    /// Writes down that a lease was extended, replaced or lost.
    pub(crate) fn set_lease(&self, id: &Id, lease: Option<Lease>) {
        if let Some(entry) = self.entries.borrow_mut().get_mut(id) {
            entry.record.lease = lease;
        }
        if let Err(error) = self.save() {
            report(error);
        }
    }

    /// Ends a lease whose link is gone, by which the server could have been told.
    pub(crate) fn end(&self, id: &Id, why: &str) {
        report(format_args!("{id}: the lease is given up: {why}"));
        self.forget(id);
        if let Err(error) = self.save() {
            report(error);
        }
    }

    fn begin(&self, id: &Id) -> Result<Adding<'_>> {
        if self.adding.borrow_mut().insert(id.clone()) {
            return Ok(Adding { registry: self, id: id.clone() });
        }
        Err(is_running(id))
    }

    fn keep(self: &Rc<Self>, record: Record) {
        let (registry, id) = (Rc::clone(self), record.id.clone());
        let keeper = spawn_local(keeper::keep(registry, id.clone())).abort_handle();
        self.entries.borrow_mut().insert(id, Entry { record, keeper });
    }

    fn forget(&self, id: &Id) {
        if let Some(entry) = self.entries.borrow_mut().remove(id) {
            entry.keeper.abort();
        }
    }

    fn save(&self) -> Result<()> {
        let entries = self.entries.borrow();
        self.store.save(&entries.values().map(|entry| &entry.record).collect::<Vec<_>>())
    }

    async fn release(&self, record: &Record) {
        let Some(lease) = record.lease.as_ref().filter(|lease| lease.is_valid()) else { return };
        let place = record.place.clone();
        let released = match self.kernel.run(move || place.open()).await {
            Ok(wire) => self.exchange(&wire, record).release(lease),
            Err(error) => Err(error),
        };
        if let Err(error) = released {
            let id = &record.id;
            report(format_args!("{id}: the server is not told that the lease ends: {error}"));
        }
    }

    fn sweep_namespaces(&self) {
        let gone: Vec<_> = {
            let entries = self.entries.borrow();
            let records = entries.values().map(|entry| &entry.record);
            records
                .filter(|record| record.place.is_gone())
                .map(|record| record.id.clone())
                .collect()
        };
        for id in gone {
            self.end(&id, "its namespace is gone");
        }
    }
}
