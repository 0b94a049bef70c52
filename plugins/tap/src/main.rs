//! The executable; the plugin is in `lib.rs`.

use std::process::ExitCode;

fn main() -> ExitCode {
    common::run::<tap::Tap>()
}
