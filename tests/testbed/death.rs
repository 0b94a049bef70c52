//! A plugin that is killed before each of its system calls that matter.

use std::os::unix::process::ExitStatusExt as _;

use crate::call::Call;

/// What changes the world, and what comes around it. `?` is for machines that lack one.
const CALLS: [&str; 15] = [
    "sendto",
    "write",
    "pwrite64",
    "setns",
    "?vfork",
    "clone",
    "?clone3",
    "?mkdir",
    "openat",
    "?flock",
    "?ftruncate",
    "?unlink",
    "?rename",
    "?utimensat",
    "exit_group",
];
/// A plugin makes no more of one of them than this.
pub(crate) const MANY: usize = 100;

/// When a plugin is killed: before its `number`th `call`.
#[derive(Clone, Copy, Debug)]
pub struct Death {
    call: &'static str,
    number: usize,
}

impl Death {
    /// Puts a plugin into `attempt`, which says whether it survived, until it does.
    pub fn each(attempt: impl FnMut(Self) -> bool) -> usize {
        Self::every(1, attempt)
    }

    /// The same with every `step`th of each kind of calls: how often it died.
    pub fn every(step: usize, mut attempt: impl FnMut(Self) -> bool) -> usize {
        let mut deaths = 0;
        for call in CALLS {
            let mut number = 1;
            while !attempt(Self { call, number }) {
                deaths += 1;
                number += step;
                assert!(number < MANY, "{call} never ends");
            }
        }
        deaths
    }

    /// Runs a call of a plugin that dies so: whether it got to its end, which is the only other way
    /// out.
    #[must_use]
    pub fn spares(self, plugin: Call<'_>) -> bool {
        let outcome = plugin.under(&self.strace()).run();
        let is_dead = outcome.status.signal() == Some(9);
        assert!(outcome.status.success() || is_dead, "{self:?}: {outcome}");
        outcome.status.success()
    }

    /// What to put before the plugin's path.
    #[must_use]
    pub fn strace(self) -> String {
        let Self { call, number } = self;
        format!("strace -o /dev/null -e trace={call} -e inject={call}:signal=KILL:when={number}")
    }
}

/// What is sampled by a test is tried completely where `TORTURE` is set: then this is 1.
#[must_use]
pub fn step(sampled: usize) -> usize {
    if std::env::var_os("TORTURE").is_some() { 1 } else { sampled }
}
