//! One lease, as long as its link is there (RFC 2131, 4.4.5; RFC 8415, 18.2): extended by its server, then
//! by any; when that fails or is refused, its address is removed, and it is asked for anew.

use crate::exchange::{Extension, Whom};
use crate::grant::{DhcpVersion, Grant};
use crate::lease::Term;
use crate::message::random;
use crate::protocol::Id;
use crate::registry::{Record, Registry};
use common::cni::report;
use common::net::since_boot;
use common::{Code, Result};
use std::rc::Rc;
use std::time::Duration;
use tokio::time::{sleep, timeout};

/// A timer stands still while the machine sleeps, so none is longer than this.
const NAP: Duration = Duration::from_secs(60);

/// No two tries follow each other faster.
const SHORTEST_PAUSE: Duration = Duration::from_millis(500);

/// The pauses between tries: four short ones, then such that double up to a limit.
#[derive(Debug)]
pub(crate) struct Backoff {
    pauses: u32,
    next: Duration,
    limit: Duration,
}

impl Backoff {
    pub(crate) fn new(limit: Duration) -> Self {
        Self { pauses: 0, next: Duration::from_secs(4), limit }
    }

    /// The next one, a second more or less, so that those who failed together do not try together.
    pub(crate) fn pause(&mut self) -> Duration {
        self.pauses += 1;
        let base = if self.pauses <= 4 {
            Duration::from_secs(2)
        } else {
            self.next = (self.next * 2).min(self.limit);
            self.next
        };
        let pause = base + Duration::from_millis(u64::from(random() % 2000));
        pause.saturating_sub(Duration::from_secs(1)).max(SHORTEST_PAUSE)
    }
}

/// What is to be done about a lease next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Nothing for this long.
    Bound(Duration),
    /// Its server is asked, for this long.
    Renewing(Duration),
    /// Any server is asked, for this long.
    Rebinding(Duration),
    /// It is lost.
    Expired,
}

impl State {
    fn of(term: &Term, now: Duration) -> Self {
        let Some(expiry) = term.expiry else { return Self::Bound(NAP) };
        let left = |end: Duration| end.saturating_sub(now);
        if now < term.renewal {
            Self::Bound(left(term.renewal).min(NAP))
        } else if now < term.rebinding {
            Self::Renewing(left(term.rebinding))
        } else if now < expiry {
            Self::Rebinding(left(expiry))
        } else {
            Self::Expired
        }
    }
}

/// Keeps a lease until its link is gone, or this is aborted.
pub(crate) async fn keep(registry: Rc<Registry>, id: Id, family: DhcpVersion) {
    let keeper = Keeper { registry, id, family };
    if let Err(error) = keeper.run().await {
        keeper.registry.end(&keeper.id, &error.to_string());
    }
}

struct Keeper {
    registry: Rc<Registry>,
    id: Id,
    family: DhcpVersion,
}

impl Keeper {
    /// # Errors
    /// When the link is gone.
    async fn run(&self) -> Result<()> {
        // How often a server was asked in vain since the last answer, and whether the address was taken.
        let (mut silences, mut is_given_up) = (0, false);
        let mut backoff = Backoff::new(self.registry.settings.resendmax);
        while let Some(record) = self.registry.find(&self.id) {
            let Some(grant) = record.grant(self.family) else { break };
            let (whom, left) = match State::of(grant.term(), since_boot()) {
                State::Bound(nap) => {
                    (silences, is_given_up) = (0, false);
                    backoff = Backoff::new(self.registry.settings.resendmax);
                    sleep(nap).await;
                    // A lease may be longer than its link lives.
                    let interface = record.interface.clone();
                    self.tolerate(self.registry.kernel.run(move || interface.verify()).await)?;
                    continue;
                }
                // A server that was replaced does not hear what is sent to its predecessor.
                State::Renewing(left) if silences == 0 => (Whom::Server, left),
                State::Renewing(left) | State::Rebinding(left) => (Whom::Anybody, left),
                State::Expired => {
                    if !is_given_up {
                        self.give_up(&record, grant).await?;
                        is_given_up = true;
                    } else if !self.acquire(&record, grant).await? {
                        sleep(backoff.pause()).await;
                    }
                    continue;
                }
            };
            is_given_up = false;
            if self.extend(&record, grant, whom, left).await? {
                silences = 0;
            } else {
                silences += 1;
                sleep((left / 2).max(SHORTEST_PAUSE).min(left)).await;
            }
        }
        Ok(())
    }

    /// Asks for more time, for `left` at most; whether there was an answer.
    async fn extend(
        &self,
        record: &Record,
        grant: &Grant,
        whom: Whom,
        left: Duration,
    ) -> Result<bool> {
        let extension = timeout(left, self.registry.extend(record, grant, whom)).await;
        match extension.unwrap_or(Ok(Extension::Silence)) {
            Ok(Extension::Granted(new)) => {
                self.replace(record, grant, new).await?;
                Ok(true)
            }
            Ok(Extension::Refused) => {
                let (id, address) = (&self.id, grant.address());
                report(format_args!("{id}: a server refuses to extend the lease of {address}"));
                match self.registry.acquire_once(record, self.family).await {
                    Ok(new) => self.replace(record, grant, new).await?,
                    Err(error) if error.code() == Code::BadEnvironment => return Err(error),
                    Err(error) => {
                        report(format_args!("{id}: {error}"));
                        let mut ended = grant.clone();
                        ended.end();
                        self.registry.update(id, |record| record.set_grant(ended));
                    }
                }
                Ok(true)
            }
            Ok(Extension::Silence) => Ok(false),
            // The link may be switched off for a while.
            Err(error) => self.tolerate::<()>(Err(error)).map(|_| false),
        }
    }

    /// Tries to get another lease after one was lost; whether there is one.
    async fn acquire(&self, record: &Record, lost: &Grant) -> Result<bool> {
        match self.registry.acquire_once(record, self.family).await {
            Ok(new) => {
                self.replace(record, lost, new).await?;
                Ok(true)
            }
            Err(error) if error.code() == Code::BadEnvironment => Err(error),
            Err(error) => {
                report(format_args!("{}: {error}", self.id));
                self.lower(record).await?;
                Ok(false)
            }
        }
    }

    /// Writes down another lease, and gives the link what that has and the former one had not.
    async fn replace(&self, record: &Record, old: &Grant, new: Grant) -> Result<()> {
        let (before, after) = (old.success(record.priority), new.success(record.priority));
        let mut table = record.table;
        if before != after || !old.is_valid() {
            report(format_args!("{}: the address is {} from now on", self.id, new.address()));
            let interface = record.interface.clone();
            let work = move || interface.readdress(&before, &after, table);
            let known = self.tolerate(self.registry.kernel.run(work).await)?;
            table = known.unwrap_or(table);
        }
        self.registry.update(&self.id, |record| {
            record.table = table;
            record.set_grant(new);
        });
        Ok(())
    }

    /// Takes an address from the link, and switches that off.
    async fn give_up(&self, record: &Record, lost: &Grant) -> Result<()> {
        report(format_args!("{}: the lease of {} has ended", self.id, lost.address()));
        let (interface, table) = (record.interface.clone(), record.table);
        let success = lost.success(record.priority);
        let taken = self.registry.kernel.run(move || interface.take(&success, table)).await;
        if let Some(table) = self.tolerate(taken)? {
            self.registry.update(&self.id, |record| record.table = table);
        }
        self.lower(record).await
    }

    /// Switches the link off, unless it has an address of the other family, or of its own making.
    async fn lower(&self, record: &Record) -> Result<()> {
        if record.has_ipv6() {
            return Ok(());
        }
        let interface = record.interface.clone();
        self.tolerate(self.registry.kernel.run(move || interface.lower()).await).map(drop)
    }

    /// Only the end of the link is the end of its lease: nothing comes of any other failure.
    fn tolerate<T>(&self, outcome: Result<T>) -> Result<Option<T>> {
        match outcome {
            Err(error) if error.code() != Code::BadEnvironment => {
                report(format_args!("{}: {error}", self.id));
                Ok(None)
            }
            outcome => outcome.map(Some),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_up_to_a_limit() {
        let mut backoff = Backoff::new(Duration::from_secs(62));
        for base in [2, 2, 2, 2, 8, 16, 32, 62, 62] {
            let pause = backoff.pause().as_millis();
            assert!((base * 1000 - 1000..base * 1000 + 1000).contains(&pause), "{base}: {pause}");
        }
    }
}
