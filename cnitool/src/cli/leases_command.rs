//! `cnitool leases`: what the command line says, and how the answer is printed.

use super::{Options, print};
use crate::leases::{self, Leased, Selector};
use clap::{Args, Subcommand};
use common::cni::{Context as _, NetworkName, report};
use common::{Error, Errors, Result};
use std::io::IsTerminal as _;
use std::path::PathBuf;

const EXAMPLE: &str = "Example:
  cnitool leases mynet
  cnitool leases --stats
  cnitool leases repair mynet --dry-run";

/// Show the leases of host-local, and repair them
///
/// Without a network: of all networks. Looking changes nothing.
#[derive(Args)]
#[command(after_help = EXAMPLE, args_conflicts_with_subcommands = true)]
pub(crate) struct Leases {
    #[command(subcommand)]
    action: Option<Action>,
    /// Name of a network
    network: Option<NetworkName>,
    /// Say how full the ranges are
    #[arg(long)]
    stats: bool,
    /// Print JSON: an array, whose objects may get more keys
    #[arg(long)]
    json: bool,
    /// Write the figures of --stats to a file for Prometheus' textfile collector
    #[arg(long, value_name = "FILE")]
    prometheus: Option<PathBuf>,
    /// Width of the terminal, in characters
    #[arg(long, env = "COLUMNS", hide = true)]
    columns: Option<usize>,
}

#[derive(Subcommand)]
enum Action {
    /// End leases whose holder is gone
    ///
    /// All of them or none: not if one may be alive.
    Release {
        /// Name of the network
        network: NetworkName,
        /// An address, a container, or CONTAINER:IFNAME
        #[arg(required = true, value_name = "ADDRESS|CONTAINER")]
        selectors: Vec<Selector>,
        /// Also if it may be alive
        #[arg(long)]
        force: bool,
    },
    /// End the leases that nobody can hold, and say what else is odd
    Repair {
        /// Name of a network
        network: Option<NetworkName>,
        /// Say what would be done, and change nothing
        #[arg(long)]
        dry_run: bool,
    },
    /// Tell what happens, as it happens
    Watch {
        /// Name of a network
        network: Option<NetworkName>,
        /// Print a JSON object for each event
        #[arg(long)]
        json: bool,
    },
}

pub(crate) fn run(options: &Options, command: &Leases) -> Result<()> {
    match &command.action {
        None if command.stats || command.prometheus.is_some() => stats(options, command),
        None => list(options, command),
        Some(Action::Release { network, selectors, force }) => {
            let all = networks(options, Some(network))?;
            let mut errors = Errors::default();
            for leased in &all {
                let told = errors.note(leases::release(leased, selectors, *force));
                say(&told.unwrap_or_default())?;
            }
            errors.into_result()
        }
        Some(Action::Repair { network, dry_run }) => repair(options, network.as_ref(), *dry_run),
        Some(Action::Watch { network, json }) => {
            let all = networks(options, network.as_ref())?;
            leases::watch(&all, |event| {
                let text = if *json {
                    serde_json::to_string(&event).unwrap_or_default()
                } else {
                    let pod = event.pod.map_or_else(String::new, |pod| format!(" {pod}"));
                    let addresses: Vec<_> =
                        event.addresses.iter().map(ToString::to_string).collect();
                    let addresses = addresses.join(" ");
                    let (network, container, ifname) =
                        (event.network, event.container, event.ifname);
                    format!("{network}: {} {addresses} {container} {ifname}{pod}", event.event)
                };
                print(&text).is_ok()
            })
        }
    }
}

fn networks(options: &Options, name: Option<&NetworkName>) -> Result<Vec<Leased>> {
    let (found, broken) = leases::networks(options.directory(), name)?;
    for error in broken {
        report(format!("cnitool: skipped: {error}"));
    }
    for leased in found.iter().filter(|leased| !leased.is_configured) {
        let directory = options.directory().display();
        report(format!("cnitool: no configuration in {directory} has network {}", leased.name));
    }
    Ok(found)
}

fn say(lines: &[String]) -> Result<()> {
    if lines.is_empty() { Ok(()) } else { print(&lines.join("\n")).context("failed to print") }
}

fn json(value: &impl serde::Serialize) -> Result<()> {
    let text = serde_json::to_string_pretty(value).map_err(|e| Error::internal(e.to_string()))?;
    print(&text).context("failed to print")
}

fn list(options: &Options, command: &Leases) -> Result<()> {
    let mut entries = Vec::new();
    for leased in networks(options, command.network.as_ref())? {
        entries.extend(leases::list(&leased)?);
    }
    if command.json {
        return json(&entries);
    }
    if entries.is_empty() {
        return say(&["no leases".to_owned()]);
    }
    // Wider lines would be broken; a pipe takes any.
    let usual = std::io::stdout().is_terminal().then_some(80);
    let text = leases::table(&entries, command.columns.or(usual));
    print(text.trim_end()).context("failed to print")
}

fn stats(options: &Options, command: &Leases) -> Result<()> {
    let mut all = Vec::new();
    for leased in networks(options, command.network.as_ref())? {
        all.extend(leases::stats(&leased)?);
    }
    if let Some(file) = &command.prometheus {
        return leases::write_atomically(file, &leases::prometheus(&all));
    }
    if command.json {
        return json(&all);
    }
    let line = |one: &leases::Stats| {
        let (used, size, percent) = (one.used, one.size, one.percent());
        format!(
            "{} range set {} ({}): {used} of {size} used ({percent} %), {} of them look leaked, {} \
             kept, {} free, {} of them in a row",
            one.network,
            one.range_set,
            one.ranges,
            one.leaked,
            one.kept,
            one.free,
            one.largest_free
        )
    };
    say(&all.iter().map(line).collect::<Vec<_>>())
}

fn repair(options: &Options, network: Option<&NetworkName>, dry_run: bool) -> Result<()> {
    let verb = if dry_run { "would end" } else { "ended" };
    for leased in networks(options, network)? {
        let repair = leases::repair(&leased, dry_run)?;
        let mut lines: Vec<_> = repair
            .ended
            .iter()
            .map(|what| format!("{}: {verb} {what}", leased.name))
            .chain(repair.noted.iter().map(|what| format!("{}: {what}", leased.name)))
            .collect();
        lines.push(format!("{}: {verb} {}", leased.name, leases::count(repair.ended.len())));
        say(&lines)?;
    }
    Ok(())
}
