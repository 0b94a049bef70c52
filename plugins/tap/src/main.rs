//! The executable; the plugin is in `lib.rs`.

use std::process::ExitCode;

fn main() -> ExitCode {
    common::attach::tap::serve().unwrap_or_else(common::run::<tap::Tap>)
}
