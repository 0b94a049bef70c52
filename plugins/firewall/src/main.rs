//! The program. What it does reads like the specification in `lib.rs`.

use std::process::ExitCode;

fn main() -> ExitCode {
    common::run::<firewall::Firewall>()
}
