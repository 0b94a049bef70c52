//! What a plugin asks of the kernel, as strace sees it.

use crate::{
    bed::Testbed,
    call::{Call, Outcome},
};

/// Where strace writes what it saw.
const TRACE: &str = "/run/test/trace";

impl Testbed {
    /// Runs a call of a plugin under strace with these options: what came of it, and what strace
    /// wrote. One at a time: there is one file for it.
    pub fn strace(&self, plugin: Call<'_>, options: &str) -> (Outcome, String) {
        let outcome = plugin.under(&format!("strace -o {TRACE} {options}")).run();
        (outcome, self.read(TRACE))
    }

    /// What a call of a plugin, and each program that it runs, has asked of the kernel with
    /// `calls`, a line for each.
    pub fn traced(&self, plugin: Call<'_>, calls: &str) -> (Outcome, Vec<String>) {
        let options = format!("-f -qq -s 1000 -e trace={calls} -e signal=none");
        let (outcome, trace) = self.strace(plugin, &options);
        (outcome, trace.lines().map(str::to_owned).collect())
    }

    /// Runs a call of a plugin that succeeds: how many processes and threads that took, its own
    /// included.
    pub fn processes(&self, plugin: Call<'_>) -> (Outcome, usize) {
        let (outcome, trace) = self.traced(plugin, "clone,clone3,fork,vfork,execve");
        outcome.success();
        let calls: Vec<_> = trace.iter().filter(|line| !line.contains(" resumed>")).collect();
        let of = |call: &str| calls.iter().filter(|line| line.contains(call)).count();
        (outcome, 1 + of("clone3(") + of("clone(") + of("fork("))
    }

    /// What a call of a plugin that succeeds sends to the kernel, message by message.
    pub fn sent(&self, plugin: Call<'_>) -> Vec<Vec<u8>> {
        let (outcome, trace) = self.strace(plugin, "-e trace=sendto -e write=all");
        outcome.success();
        let mut messages: Vec<Vec<u8>> = Vec::new();
        for line in trace.lines() {
            // Sixteen bytes, between an offset and the same as text.
            let bytes = line.strip_prefix(" | ").and_then(|line| line.get(5..56));
            match (messages.last_mut(), bytes) {
                (_, None) if line.starts_with("sendto(") => messages.push(Vec::new()),
                (Some(message), Some(bytes)) => message.extend(
                    bytes
                        .split_whitespace()
                        .map(|byte| u8::from_str_radix(byte, 16).expect("strace prints hex")),
                ),
                _ => {}
            }
        }
        messages
    }
}

/// Where `wanted` is in a message, behind the first `after`.
#[must_use]
pub fn position(message: &[u8], after: &[u8], wanted: &[u8]) -> Option<usize> {
    let of = |bytes: &[u8], wanted: &[u8]| {
        if wanted.is_empty() {
            return Some(0);
        }
        bytes.windows(wanted.len()).position(|window| window == wanted)
    };
    let from = of(message, after)?;
    Some(from + of(&message[from..], wanted)?)
}
