//! The executable; its command line is in `cli.rs`.

use std::process::ExitCode;

fn main() -> ExitCode {
    cnitool::cli::main()
}
