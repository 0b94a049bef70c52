//! `girder`: all plugins and `cnitool` in one executable. It is the one by whose name it is run, as by a
//! hard link, or whose name is its first word. A plugin's delegate that is the same file is called
//! instead of run.

#![expect(clippy::disallowed_methods, reason = "it runs itself by another name")]

use cnitool::install::{Directory, TOOL, Wishes};
use cnitool::plugins;
use common::cni::report;
use common::{Plugin as _, Result};
use std::io::Write as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

/// Where an image of a container has the node's directory of plugins mounted.
const MOUNTED: &str = "/host/opt/cni/bin";

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
    if let Some(program) = plugins::program(&own) {
        return (program.main)(|kind| plugins::program(kind).map(|program| program.linked));
    }
    let first = words.next().unwrap_or_default().to_string_lossy().into_owned();
    match first.as_str() {
        "--help" | "-h" => print(&help()),
        "--version" | "-V" => print(concat!("girder ", env!("CARGO_PKG_VERSION"))),
        "install" | "uninstall" => {
            let directories: Vec<_> = words.map(PathBuf::from).collect();
            match in_each(&directories, first == "install") {
                Ok(()) => ExitCode::SUCCESS,
                Err(error) => {
                    report(format_args!("girder: {error}"));
                    ExitCode::FAILURE
                }
            }
        }
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
         By hand: girder NAME [WORD..], where NAME is {TOOL}, {}\n\n\
         girder install [DIR..]    puts it into these directories ({MOUNTED}), by each name\n\
         girder uninstall [DIR..]  takes it out again, and puts back what was there before\n\n\
         SKIP_CNI_BINARIES     names that it leaves alone, with , between\n\
         UPDATE_CNI_BINARIES   false: it replaces nothing that is there",
        env!("CARGO_PKG_VERSION"),
        plugins::kinds()
    )
}

/// Installs into these directories, or takes out of them.
fn in_each(directories: &[PathBuf], installs: bool) -> Result<()> {
    let variable = |name| std::env::var(name).unwrap_or_default();
    let skip = variable("SKIP_CNI_BINARIES").split(',').map(|it| it.trim().to_owned()).collect();
    let wishes = Wishes { skip, replaces: variable("UPDATE_CNI_BINARIES") != "false" };
    let mounted = [PathBuf::from(MOUNTED)];
    for path in if directories.is_empty() { &mounted } else { directories } {
        let directory = Directory::open(path)?;
        if installs {
            let names = directory.install(Path::new("/proc/self/exe"), &wishes)?;
            report(format_args!("girder: is {names} programs in {}", path.display()));
        } else {
            directory.uninstall()?;
            report(format_args!("girder: is gone from {}", path.display()));
        }
    }
    Ok(())
}

fn print(text: &str) -> ExitCode {
    match writeln!(std::io::stdout(), "{text}") {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}
