//! The executable; the plugin is in `lib.rs`, its other face in `daemon.rs`.

use std::process::ExitCode;

fn main() -> ExitCode {
    common::run::<dhcp::Dhcp>()
}
