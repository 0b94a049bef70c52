//! The attachments that have a lease.

use crate::flags::Settings;
use crate::grant::{DhcpVersion, Grant};
use crate::interface::ContainerInterface;
use crate::keeper::{self, Backoff};
use crate::kernel::Kernel;
use crate::options::Options;
use crate::protocol::{Id, Ipv6Source, Order};
use crate::store::Store;
use crate::talk::Addressing;
use common::cni::{Ip, report};
use common::net::{MAIN_TABLE, since_boot};
use common::{Code, Error, Result, Success};
use serde::{Deserialize, Serialize};
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::time::Duration;
use tokio::task::{AbortHandle, spawn_local};
use tokio::time::{Instant, sleep, timeout, timeout_at};

/// How often the daemon looks which namespaces are gone.
const SWEEP: Duration = Duration::from_secs(2);

/// How long a DEL waits for the end of an ADD, and how often it looks.
const PATIENCE: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_millis(20);

/// What is known of an attachment, and survives the daemon.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) id: Id,
    pub(crate) interface: ContainerInterface,
    /// The ADD that has made it.
    add: String,
    /// When that was, from the start of the machine.
    since: Duration,
    pub(crate) options: Options,
    pub(crate) priority: u32,
    /// What is leased.
    families: Vec<DhcpVersion>,
    /// One of each; after it was lost the former one, until there is another one.
    pub(crate) grants: Vec<Grant>,
    /// In which table the routes of the leases are, as [`Sandbox::readdress`](common::Sandbox) knows it.
    pub(crate) table: Option<u32>,
    /// The addresses that the interface has made of prefixes of routers, which the kernel looks after.
    autoconfigured: Vec<Ip>,
}

impl Record {
    /// The lease of a family, valid or not.
    pub(crate) fn grant(&self, family: DhcpVersion) -> Option<&Grant> {
        self.grants.iter().find(|grant| grant.family() == family)
    }

    /// Writes down another lease.
    pub(crate) fn set_grant(&mut self, grant: Grant) {
        self.grants.retain(|old| old.family() != grant.family());
        self.grants.push(grant);
    }

    /// Whether the link has IPv6 besides whatever else it has.
    pub(crate) fn has_ipv6(&self) -> bool {
        self.families.contains(&DhcpVersion::V6) || !self.autoconfigured.is_empty()
    }

    /// As an IPAM plugin answers; `None` if a lease is missing or lost.
    pub(crate) fn success(&self) -> Option<Success> {
        let mut success = Success::default();
        for family in &self.families {
            let grant = self.grant(*family).filter(|grant| grant.is_valid())?;
            let own = grant.success(self.priority);
            success.ips.extend(own.ips);
            success.routes.extend(own.routes);
        }
        success.ips.extend(self.autoconfigured.clone());
        Some(success)
    }
}

#[derive(Debug)]
struct Entry {
    record: Record,
    keepers: Vec<AbortHandle>,
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

/// An ADD that has leases, and nobody who keeps them yet: when its plugin is killed, they are given back.
struct Unfinished {
    registry: Rc<Registry>,
    record: Record,
    is_done: bool,
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if !self.is_done {
            let (registry, record) = (Rc::clone(&self.registry), self.record.clone());
            drop(spawn_local(async move { registry.release(&record).await }));
        }
    }
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
        let Order { id, netns, add, options, priority, ipv4, ipv6 } = order;
        let _running = self.begin(&id)?;
        let mut path = self.settings.hostprefix.clone().into_os_string();
        path.push(netns);
        let ifname = id.ifname.clone();
        let interface =
            self.kernel.run(move || ContainerInterface::new(path.into(), &ifname)).await?;
        if let Some(found) = self.find(&id)
            && let Some(success) = found.success().filter(|_| found.interface.is_same(&interface))
        {
            return Ok(success);
        }
        // A link is that of one attachment, and of each its latest.
        for stale in self.ids(|record| record.id == id || record.interface.is_same(&interface)) {
            self.end(&stale, "its link is that of another ADD");
        }
        let record = Record {
            id,
            interface,
            add,
            since: since_boot(),
            options,
            priority,
            families: if ipv4 { vec![DhcpVersion::V4] } else { vec![] },
            grants: vec![],
            table: Some(MAIN_TABLE),
            autoconfigured: vec![],
        };
        let mut unfinished = Unfinished { registry: Rc::clone(self), record, is_done: false };
        let outcome = self.complete(&mut unfinished.record, ipv6).await.and_then(|success| {
            self.keep(unfinished.record.clone());
            self.save().map(|()| success)
        });
        if outcome.is_err() {
            self.forget(&unfinished.record.id);
            self.release(&unfinished.record).await;
        }
        unfinished.is_done = true;
        outcome
    }

    /// Gets whatever a record is to have, and says what that is.
    async fn complete(&self, record: &mut Record, ipv6: Option<Ipv6Source>) -> Result<Success> {
        if let Some(ipv6) = ipv6 {
            match self.ask_routers(record, ipv6).await? {
                Addressing::Leased => record.families.push(DhcpVersion::V6),
                Addressing::Own(ips) => record.autoconfigured = ips,
            }
        }
        let end = Instant::now() + self.settings.resendtimeout;
        for family in record.families.clone() {
            let mut last = None;
            let acquired = timeout_at(end, self.acquire(record, family, &mut last)).await;
            let grant = acquired.unwrap_or_else(|_| {
                let last = last.map_or_else(String::new, |error: Error| error.to_string());
                let what = if family == DhcpVersion::V6 { " for an IPv6 address" } else { "" };
                let msg = format!("no more tries{what}");
                Err(Error::new(Code::TryAgain, msg).details(last))
            })?;
            record.grants.push(grant);
        }
        record.success().ok_or_else(|| {
            let msg = "a lease ran out before all addresses were there";
            Error::new(Code::TryAgain, msg).details("the server gives them for a very short time")
        })
    }

    /// Tries until there is a lease, with pauses. `last` is the last error.
    async fn acquire(
        &self,
        record: &Record,
        family: DhcpVersion,
        last: &mut Option<Error>,
    ) -> Result<Grant> {
        let mut backoff = Backoff::new(self.settings.resendmax);
        loop {
            match self.acquire_once(record, family).await {
                Err(error) if error.code() == Code::TryAgain => {
                    report(format_args!("{}: {error}", record.id));
                    *last = Some(error);
                }
                outcome => return outcome,
            }
            sleep(backoff.pause()).await;
        }
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
        let is_stale = |record: &Record| {
            let Id { container, ifname, network: own } = &record.id;
            let is_old = since_boot().saturating_sub(record.since) >= grace_age;
            own == network && is_old && !valid.contains(&(container, ifname))
        };
        let mut outcome = Ok(());
        for id in self.ids(is_stale) {
            report(format_args!("{id}: released, because it is not valid any more"));
            outcome = outcome.and(self.del(&id, None).await);
        }
        outcome
    }

    /// What is known of an attachment.
    pub(crate) fn find(&self, id: &Id) -> Option<Record> {
        self.entries.borrow().get(id).map(|entry| entry.record.clone())
    }

    /// Writes down what has changed about a lease.
    pub(crate) fn update(&self, id: &Id, change: impl FnOnce(&mut Record)) {
        if let Some(entry) = self.entries.borrow_mut().get_mut(id) {
            change(&mut entry.record);
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
        let id = record.id.clone();
        let keeper = |family: &DhcpVersion| {
            let kept = keeper::keep(Rc::clone(self), id.clone(), *family);
            spawn_local(kept).abort_handle()
        };
        let keepers = record.families.iter().map(keeper).collect();
        self.entries.borrow_mut().insert(id, Entry { record, keepers });
    }

    fn forget(&self, id: &Id) {
        if let Some(entry) = self.entries.borrow_mut().remove(id) {
            entry.keepers.iter().for_each(AbortHandle::abort);
        }
    }

    /// # Errors
    /// Code 5.
    pub(crate) fn save(&self) -> Result<()> {
        let entries = self.entries.borrow();
        self.store.save(&entries.values().map(|entry| &entry.record).collect::<Vec<_>>())
    }

    fn ids(&self, is_meant: impl Fn(&Record) -> bool) -> Vec<Id> {
        let entries = self.entries.borrow();
        let records = entries.values().map(|entry| &entry.record).filter(|record| is_meant(record));
        records.map(|record| record.id.clone()).collect()
    }

    fn sweep_namespaces(&self) {
        for id in self.ids(|record| record.interface.is_gone()) {
            self.end(&id, "its namespace is gone");
        }
    }
}
