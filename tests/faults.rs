//! A plugin whose talk with the kernel is disturbed: answers that are lost, and questions that a
//! kernel does not understand.

use std::process::Output;

use serde_json::Value;
use testbed::{Testbed, bin_dir};

const TRACE: &str = "/run/test/trace";

/// Runs a verb of a plugin for c1 under strace, with these options.
pub(crate) fn traced(
    bed: &Testbed,
    verb: &str,
    netns: &str,
    config: &Value,
    options: &str,
) -> Output {
    let bins = bin_dir().display();
    let plugin = config["type"].as_str().unwrap();
    let words = format!(
        "-i PATH=/usr/sbin:/usr/bin:/sbin:/bin CNI_COMMAND={verb} CNI_CONTAINERID=c1 \
         CNI_NETNS={netns} CNI_IFNAME=eth0 CNI_PATH=/run/test/plugins:{bins} \
         strace -o {TRACE} {options} {bins}/{plugin}"
    );
    let words: Vec<_> = words.split_whitespace().collect();
    bed.feed("env", &words, config.to_string().as_bytes())
}

/// The same with one call that fails: whether there was one.
pub(crate) fn failing(
    bed: &Testbed,
    (verb, netns, config): (&str, &str, &Value),
    (call, error, number): (&str, &str, usize),
) -> (Output, bool) {
    let options = format!("-e trace={call} -e inject={call}:error={error}:when={number}");
    let output = traced(bed, verb, netns, config, &options);
    (output, bed.read(TRACE).contains("(INJECTED)"))
}

/// What a plugin sends to the kernel, message by message.
pub(crate) fn sent(bed: &Testbed, verb: &str, netns: &str, config: &Value) -> Vec<Vec<u8>> {
    let output = traced(bed, verb, netns, config, "-e trace=sendto -e write=all");
    assert!(output.status.success(), "{output:?}");
    let mut messages: Vec<Vec<u8>> = Vec::new();
    for line in bed.read(TRACE).lines() {
        // Sixteen bytes, between an offset and the same as text.
        let bytes = line.strip_prefix(" | ").and_then(|line| line.get(5..56));
        match (messages.last_mut(), bytes) {
            (_, None) if line.starts_with("sendto(") => messages.push(Vec::new()),
            (Some(message), Some(bytes)) => message
                .extend(bytes.split_whitespace().map(|byte| u8::from_str_radix(byte, 16).unwrap())),
            _ => {}
        }
    }
    messages
}

/// Runs it with its `number`th message (from 1) altered on its way to the kernel: it begins with
/// these bytes.
pub(crate) fn altered(
    bed: &Testbed,
    (verb, netns, config): (&str, &str, &Value),
    number: usize,
    bytes: &[u8],
) -> Output {
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let options = format!("-e trace=sendto -e inject=sendto:poke_enter=@arg2={hex}:when={number}");
    traced(bed, verb, netns, config, &options)
}

/// Where `wanted` is, behind the first `after`.
pub(crate) fn position(bytes: &[u8], after: &[u8], wanted: &[u8]) -> Option<usize> {
    let of = |bytes: &[u8], wanted: &[u8]| {
        if wanted.is_empty() {
            return Some(0);
        }
        bytes.windows(wanted.len()).position(|window| window == wanted)
    };
    let from = of(bytes, after)?;
    Some(from + of(&bytes[from..], wanted)?)
}
