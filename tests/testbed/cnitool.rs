//! `cnitool`, called as an administrator does.

use std::process::Output;

use crate::{bed::Testbed, programs::bin_dir};

/// Runs `cnitool` with these words, and with these variables (`KEY=value`) beside `CNI_PATH`.
pub fn run(bed: &Testbed, variables: &[&str], words: &[&str]) -> Output {
    let tool = bin_dir().join("cnitool").display().to_string();
    let path = format!("CNI_PATH={}", bin_dir().display());
    bed.run("env", &[&["-i", &path], variables, &[&tool], words].concat())
}

/// Runs it, and it succeeds: what it prints, and what it says on stderr after that.
pub fn succeeds(bed: &Testbed, variables: &[&str], words: &[&str]) -> String {
    let output = run(bed, variables, words);
    assert!(output.status.success(), "{words:?}: {output:?}");
    said(&output)
}

/// Runs it, and it fails: what it prints, and what it says on stderr after that.
pub fn fails(bed: &Testbed, words: &[&str]) -> String {
    let output = run(bed, &[], words);
    assert!(!output.status.success(), "{words:?}: {output:?}");
    said(&output)
}

/// Everything that a program has printed, stdout first.
#[must_use]
pub fn said(output: &Output) -> String {
    let text = [&output.stdout[..], &output.stderr[..]].concat();
    String::from_utf8_lossy(&text).into_owned()
}
