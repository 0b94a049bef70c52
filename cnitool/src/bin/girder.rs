//! `girder`: all plugins and `cnitool` in one executable. It is the one by whose name it is run, as by a
//! hard link, or whose name is its first word. A plugin's delegate that is the same file is called
//! instead of run.

#![expect(clippy::disallowed_methods, reason = "it runs itself by another name")]

use cnitool::plugins;
use common::Plugin as _;
use common::cni::report;
use std::io::Write as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, ExitCode};

const TOOL: &str = "cnitool";

fn main() -> ExitCode {
    // The one plugin that runs itself does not know by which name.
    if let Some(exit) = tap::Tap::serve_otherwise() {
        return exit;
    }
    let mut words = std::env::args_os();
    let own = words.next().unwrap_or_default();
    let own = Path::new(&own).file_name().unwrap_or_default().to_string_lossy();
    if own == TOOL {
        return cnitool::cli::main();
    }
    if let Some(plugin) = plugins::find_by_name(&own) {
        return (plugin.main)(|kind| plugins::find_by_name(kind).map(|plugin| plugin.linked));
    }
    let first = words.next().unwrap_or_default().to_string_lossy().into_owned();
    match first.as_str() {
        "--help" | "-h" => print(&help()),
        "--version" | "-V" => print(concat!("girder ", env!("CARGO_PKG_VERSION"))),
        name if name == TOOL || plugins::find(name).is_some() => {
            let error = Command::new("/proc/self/exe").arg0(name).args(words).exec();
            report(format_args!("girder: cannot run itself as {name}: {error}"));
            ExitCode::FAILURE
        }
        _ => {
            report(help());
            ExitCode::from(2)
        }
    }
}

fn help() -> String {
    format!(
        "girder {}: CNI plugins, all in one executable\n\n\
         It is the one by whose name it is run, as by a hard link: ln girder bridge\n\
         By hand: girder NAME [WORD..], where NAME is {TOOL}, {}",
        env!("CARGO_PKG_VERSION"),
        plugins::kinds()
    )
}

fn print(text: &str) -> ExitCode {
    match writeln!(std::io::stdout(), "{text}") {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}
