//! One lease, as long as its link is there (RFC 2131, 4.4.5; RFC 8415, 18.2): extended by its server, then
//! by any; when that fails or is refused, its address is removed, and it is asked for anew.

use crate::exchange::{Extension, Whom};
use crate::grant::{Family, Grant};
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
            if self.next < self.limit {
                self.next *= 2;
            }
            self.next
        };
        base + Duration::from_millis(u64::from(random() % 2000)) - Duration::from_secs(1)
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
pub(crate) async fn keep(registry: Rc<Registry>, id: Id, family: Family) {
    let keeper = Keeper { registry, id, family };
    if let Err(error) = keeper.run().await {
        keeper.registry.end(&keeper.id, &error.to_string());
    }
}

struct Keeper {
    registry: Rc<Registry>,
    id: Id,
    family: Family,
}

impl Keeper {
    /// # Errors
    /// When the link is gone.
    async fn run(&self) -> Result<()> {
        // How often a server was asked in vain since the last answer.
        let mut silences = 0;
        let mut backoff = Backoff::new(self.registry.settings.resendmax);
        while let Some(record) = self.registry.find(&self.id) {
            let Some(grant) = record.grant(self.family) else {
                if !self.acquire(&record).await? {
                    sleep(backoff.pause()).await;
                }
                continue;
            };
            backoff = Backoff::new(self.registry.settings.resendmax);
            let (whom, left) = match State::of(grant.term(), since_boot()) {
                State::Bound(nap) => {
                    silences = 0;
                    sleep(nap).await;
                    continue;
                }
                // A server that was replaced does not hear what is sent to its predecessor.
                State::Renewing(left) if silences == 0 => (Whom::Server, left),
                State::Renewing(left) | State::Rebinding(left) => (Whom::Anybody, left),
                State::Expired => {
                    self.lose(&record, "the lease has ended").await?;
                    continue;
                }
            };
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
                self.replace(record, Some(grant), new).await?;
                Ok(true)
            }
            Ok(Extension::Refused) => {
                let (id, address) = (&self.id, grant.address());
                report(format_args!("{id}: a server refuses to extend the lease of {address}"));
                match self.registry.acquire_once(record, self.family).await {
                    Ok(new) => self.replace(record, Some(grant), new).await?,
                    Err(error) if error.code() == Code::BadEnvironment => return Err(error),
                    Err(error) => self.lose(record, &error.to_string()).await?,
                }
                Ok(true)
            }
            Ok(Extension::Silence) => Ok(false),
            // The link may be switched off for a while.
            Err(error) => self.tolerate(Err(error)).map(|()| false),
        }
    }

    /// Tries to get another lease after one was lost; whether there is one.
    async fn acquire(&self, record: &Record) -> Result<bool> {
        match self.registry.acquire_once(record, self.family).await {
            Ok(new) => {
                self.replace(record, None, new).await?;
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

    /// Writes down another lease, and gives the link its address, if that is not the one that it has.
    async fn replace(&self, record: &Record, old: Option<&Grant>, new: Grant) -> Result<()> {
        if old.is_none_or(|old| old.address() != new.address()) {
            report(format_args!("{}: the address is {} from now on", self.id, new.address()));
            let place = record.place.clone();
            let old = old.map(|old| old.success(record.priority));
            let success = new.success(record.priority);
            let moved =
                self.registry.kernel.run(move || place.readdress(old.as_ref(), &success)).await;
            self.tolerate(moved)?;
        }
        self.registry.set_grant(&self.id, self.family, Some(new));
        Ok(())
    }

    /// Gives up an address.
    async fn lose(&self, record: &Record, why: &str) -> Result<()> {
        if let Some(lost) = record.grant(self.family) {
            report(format_args!("{}: {} is given up: {why}", self.id, lost.address()));
            let (place, lost) = (record.place.clone(), lost.success(record.priority));
            let taken = self.registry.kernel.run(move || place.take(&lost)).await;
            self.tolerate(taken)?;
        }
        self.lower(record).await?;
        self.registry.set_grant(&self.id, self.family, None);
        Ok(())
    }

    /// Switches the link off, unless it has an address of the other family, or of its own making.
    async fn lower(&self, record: &Record) -> Result<()> {
        if record.has_ipv6() {
            return Ok(());
        }
        let place = record.place.clone();
        let lowered = self.registry.kernel.run(move || place.lower()).await;
        self.tolerate(lowered)
    }

    /// Only the end of the link is the end of its lease.
    fn tolerate(&self, outcome: Result<()>) -> Result<()> {
        match outcome {
            Err(error) if error.code() != Code::BadEnvironment => {
                report(format_args!("{}: {error}", self.id));
                Ok(())
            }
            outcome => outcome,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_up_to_a_limit() {
        let mut backoff = Backoff::new(Duration::from_secs(62));
        for base in [2, 2, 2, 2, 8, 16, 32, 64, 64] {
            let pause = backoff.pause().as_millis();
            assert!((base * 1000 - 1000..base * 1000 + 1000).contains(&pause), "{base}: {pause}");
        }
    }
}
