//! The executable; the plugin is in `lib.rs`, its other face in `daemon.rs`.

use std::process::ExitCode;

fn main() -> ExitCode {
    match common::cni::words_after("daemon") {
        Some(words) => dhcp::daemon::main(&words),
        None => common::run::<dhcp::Dhcp>(),
    }
}
