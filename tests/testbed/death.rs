//! A plugin that is killed before each of its system calls that matter, and one whose calls fail.

use crate::{
    bed::Testbed,
    call::{Call, Outcome},
};

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
const MANY: usize = 100;

/// When a plugin is killed: before its `number`th `call`.
#[derive(Clone, Copy, Debug)]
pub struct Death {
    call: &'static str,
    number: usize,
}

impl Death {
    /// Puts a plugin into `attempt`, which says whether it survived, until it does.
    pub fn each(mut attempt: impl FnMut(Self) -> bool) -> usize {
        let mut deaths = 0;
        for call in CALLS {
            let mut number = 1;
            while !attempt(Self { call, number }) {
                number += 1;
                assert!(number < MANY, "{call} never ends");
            }
            deaths += number - 1;
        }
        deaths
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

/// Where strace writes what it saw.
const TRACE: &str = "/run/test/trace";

/// A system call that fails, in a plugin and in each program that it runs.
#[derive(Clone, Copy, Debug)]
pub struct Fault {
    call: &'static str,
    error: &'static str,
    number: usize,
}

impl Fault {
    /// Has the first `call` fail with `error`, then every `step`th, until there is no such call any
    /// more: how many there were.
    pub fn each(
        call: &'static str,
        error: &'static str,
        step: usize,
        mut attempt: impl FnMut(Self) -> bool,
    ) -> usize {
        let mut number = 1;
        while attempt(Self { call, error, number }) {
            number += step;
            assert!(number < MANY, "{call} never ends");
        }
        number
    }

    /// Runs a call of a plugin with it: what came of that, and whether there was such a call.
    pub fn strike(self, bed: &Testbed, plugin: Call<'_>) -> (Outcome, bool) {
        let Self { call, error, number } = self;
        let strace = format!(
            "strace -f -o {TRACE} -e trace={call} -e inject={call}:error={error}:when={number}"
        );
        let outcome = plugin.under(&strace).run();
        (outcome, bed.read(TRACE).contains("(INJECTED)"))
    }
}

impl Testbed {
    /// What a call of a plugin, and each program that it runs, has asked of the kernel with
    /// `calls`, a line for each.
    pub fn traced(&self, plugin: Call<'_>, calls: &str) -> (Outcome, Vec<String>) {
        let strace = format!("strace -f -qq -s 1000 -o {TRACE} -e trace={calls} -e signal=none");
        let outcome = plugin.under(&strace).run();
        (outcome, self.read(TRACE).lines().map(str::to_owned).collect())
    }
}
