//! Where the reference plugins behave differently, and why we do not follow.
//!
//! Every test is a [`case`]. Against our plugins it just runs. Against others
//! (`CNI_BIN_DIR=.. make test`) a test with a row in [`DIFFERENCES`] must fail: a row that is no
//! longer true is noticed, and so is a row without a test.

use std::{
    any::type_name_of_val,
    panic::{AssertUnwindSafe, catch_unwind},
};

use What::Differs;
use testbed::{Testbed, is_reference};

enum What {
    /// The test fails there.
    Differs,
    /// The test would hang or hurt there.
    #[expect(dead_code, reason = "a mark for tests to come")]
    Skip,
}

const DIFFERENCES: &[(&str, What, &str)] = &[];

/// Runs a test on a host of its own.
#[track_caller]
pub(crate) fn case(body: impl FnOnce(&Testbed)) {
    let name = type_name_of_val(&body);
    let name = name.trim_start_matches("suite::").trim_end_matches("::{{closure}}").to_owned();
    let bed = Testbed::new();
    let row = DIFFERENCES.iter().find(|(test, ..)| *test == name);
    let Some((_, what, reason)) = row.filter(|_| is_reference()) else { return body(&bed) };
    match what {
        What::Skip => println!("{name}: skipped: {reason}"),
        Differs => {
            let same = catch_unwind(AssertUnwindSafe(|| body(&bed))).is_ok();
            assert!(!same, "{name} passes with the reference, so it is no difference: {reason}");
        }
    }
}

#[test]
fn every_difference_is_a_test() {
    let suite = std::env::current_exe().unwrap();
    let listed = std::process::Command::new(suite).arg("--list").output().unwrap();
    let listed = String::from_utf8(listed.stdout).unwrap();
    for (name, _, reason) in DIFFERENCES {
        let test = format!("{name}: test");
        assert!(listed.lines().any(|line| line == test), "no test {name} ({reason})");
        assert!(reason.ends_with('.'), "{name}: a reason is a sentence: {reason}");
    }
}
