//! A plugin whose talk with the kernel is disturbed: calls that fail, answers that are lost, and
//! questions that a kernel does not understand.

use crate::{
    bed::Testbed,
    call::{Call, Outcome},
    death::MANY,
};

/// A system call that fails.
#[derive(Clone, Copy, Debug)]
pub struct Fault {
    call: &'static str,
    error: &'static str,
    number: usize,
}

impl Fault {
    /// The `number`th `call` (from 1) of a process fails with `error`.
    #[must_use]
    pub fn new(call: &'static str, error: &'static str, number: usize) -> Self {
        Self { call, error, number }
    }

    /// Has the first `call` fail with `error`, then every `step`th, until there is no such call any
    /// more: how many there were.
    pub fn each(
        call: &'static str,
        error: &'static str,
        step: usize,
        mut attempt: impl FnMut(Self) -> bool,
    ) -> usize {
        let mut number = 1;
        while attempt(Self::new(call, error, number)) {
            number += step;
            assert!(number < MANY, "{call} never ends");
        }
        number
    }

    /// Runs a call of a plugin with it, which strikes each program that the plugin runs as well:
    /// what came of that, and whether there was such a call.
    pub fn strike(self, bed: &Testbed, plugin: Call<'_>) -> (Outcome, bool) {
        self.inject(bed, plugin, "-f ")
    }

    /// The same, but the programs that the plugin runs are left alone.
    pub fn strike_alone(self, bed: &Testbed, plugin: Call<'_>) -> (Outcome, bool) {
        self.inject(bed, plugin, "")
    }

    fn inject(self, bed: &Testbed, plugin: Call<'_>, follow: &str) -> (Outcome, bool) {
        let Self { call, error, number } = self;
        let options =
            format!("{follow}-e trace={call} -e inject={call}:error={error}:when={number}");
        let (outcome, trace) = bed.strace(plugin, &options);
        (outcome, trace.contains("(INJECTED)"))
    }
}

impl Testbed {
    /// Runs a call of a plugin with its `number`th message (from 1) altered on its way to the
    /// kernel: it begins with these bytes.
    pub fn altered(&self, plugin: Call<'_>, number: usize, bytes: &[u8]) -> Outcome {
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        let inject = format!("inject=sendto:poke_enter=@arg2={hex}:when={number}");
        self.strace(plugin, &format!("-e trace=sendto -e {inject}")).0
    }

    /// Runs a call of a plugin in which each message to the kernel, or the `number`th of them only,
    /// waits for so many microseconds before it is sent.
    pub fn slowly(&self, plugin: Call<'_>, delay: u32, number: Option<usize>) -> Outcome {
        let when = number.map(|number| format!(":when={number}")).unwrap_or_default();
        let inject = format!("inject=sendto:delay_enter={delay}{when}");
        self.strace(plugin, &format!("-e trace=sendto -e {inject}")).0
    }
}
