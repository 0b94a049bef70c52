//! The executable; the plugin is in `plugin.rs`.

use std::process::ExitCode;

fn main() -> ExitCode {
    common::run::<host_local::HostLocal>()
}
