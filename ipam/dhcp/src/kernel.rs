//! How tasks ask the kernel. A socket of rtnetlink has a runtime of its own, which cannot run inside
//! another one, and a change of namespace is one of the whole thread: so the daemon's runtime steps
//! aside for each piece of work, and no task runs meanwhile.

use std::fmt;
use tokio::sync::{mpsc, oneshot};

/// A piece of work.
type Job = Box<dyn FnOnce()>;

/// Hands work over.
#[derive(Clone)]
pub(crate) struct Kernel {
    jobs: mpsc::UnboundedSender<Job>,
}

impl fmt::Debug for Kernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Kernel").finish_non_exhaustive()
    }
}

impl Kernel {
    /// With the other end, from which the work is to be taken.
    pub(crate) fn new() -> (Self, mpsc::UnboundedReceiver<Job>) {
        let (jobs, taken) = mpsc::unbounded_channel();
        (Self { jobs }, taken)
    }

    /// Has work done, and waits for what comes of it; never, when the daemon ends before.
    pub(crate) async fn run<T: 'static>(&self, work: impl FnOnce() -> T + 'static) -> T {
        let (done, outcome) = oneshot::channel();
        let job: Job = Box::new(move || drop(done.send(work())));
        let is_taken = self.jobs.send(job).is_ok();
        match outcome.await {
            Ok(outcome) if is_taken => outcome,
            _ => std::future::pending().await,
        }
    }
}
