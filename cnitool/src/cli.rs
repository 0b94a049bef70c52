//! The command line of `cnitool`: attaches network namespaces to CNI networks by hand.

mod leases_command;

use crate::attachment::{self, Target};
use crate::doctor::Node;
use crate::finding::Level;
use crate::living::Living;
use crate::validate::Validator;
use crate::{Cache, ConfigList, Runtime, directory, plugins};
use clap::{Args, Parser, Subcommand};
use common::cni::{Attachment, Code, Context as _, NetworkName, report};
use common::{Error, Errors, Result};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Attaches network namespaces to CNI networks by hand: the runtime's side of CNI.
///
/// Each option has its environment variable; the option wins. An empty variable is an absent one.
#[derive(Parser)]
#[command(
    version,
    after_help = "Example:
  ip netns add blue
  CNI_PATH=/opt/cni/bin cnitool add mynet /var/run/netns/blue
  CNI_PATH=/opt/cni/bin cnitool del mynet /var/run/netns/blue"
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    options: Options,
}

#[derive(Subcommand)]
enum Command {
    /// Attach a namespace to a network and print the result
    ///
    /// Runs the network's plugins in order. If one fails, DEL is run over all of them.
    #[command(after_help = "Example:
  cnitool add mynet /var/run/netns/blue --args 'IgnoreUnknown=1;IP=10.1.0.9'")]
    Add(Where),
    /// Ask the plugins whether an attachment still is as ADD left it
    #[command(after_help = "Example:
  cnitool check mynet /var/run/netns/blue")]
    Check(Where),
    /// Detach a namespace from a network
    ///
    /// Runs the network's plugins in reverse order, past those that fail. Can be repeated, also
    /// when the namespace is gone.
    #[command(after_help = "Example:
  cnitool del mynet /var/run/netns/blue --ifname eth1")]
    Del(Where),
    /// Delete every attachment of a network that is not named as valid
    ///
    /// That is what this tool *and other runtimes* have kept results of under the cache directory:
    /// without --valid or --gone, all containers on this node lose this network.
    ///
    /// Plugins are asked for GC also where the list is older than that verb (1.1.0), if they know it.
    #[command(after_help = "Examples:
  cnitool gc mynet --gone
  cnitool gc mynet --valid cnitool-77383ca0a0715733ca6f:eth0")]
    Gc(GcArgs),
    /// Ask the plugins whether they could attach something now
    #[command(after_help = "Example:
  cnitool status mynet && echo ready")]
    Status(Network),
    Leases(leases_command::Leases),
    /// Make anew what attachments have in the packet filter, after somebody flushed it
    ///
    /// Everything that is missing comes back at once: no packet meets half of it. What is recorded
    /// in the cache directory, by this tool or by another runtime, and still lives, counts.
    #[command(after_help = "Example:
  nft flush ruleset; cnitool restore")]
    Restore {
        /// Say what is missing, and leave it so
        #[arg(long)]
        dry_run: bool,
    },
    /// Say what is wrong with this node, and what to do about it
    ///
    /// Looks at the packet filter, at bridges, forwarding and leases, and touches nothing. The exit
    /// code is 1 if there is a problem.
    Doctor,
    /// Check configuration files without touching anything
    ///
    /// Finds keys that no plugin knows, values of the wrong type, ranges that do not fit, plugins
    /// that are missing or too old, capabilities that nobody takes. Of each plugin nothing but
    /// VERSION is run.
    #[command(after_help = format!("Example:
  cnitool validate --cni-path /opt/cni/bin 10-mynet.conflist

Knows the keys of: {}", plugins::kinds()))]
    Validate {
        /// Files to check; without one, all in the configuration directory
        files: Vec<PathBuf>,
    },
}

#[derive(Args)]
struct Where {
    /// Name of the network, as in its configuration
    network: NetworkName,
    /// Path of the network namespace, or its name if `ip netns` made it
    netns: PathBuf,
}

#[derive(Args)]
struct Network {
    /// Name of the network, as in its configuration
    network: NetworkName,
    /// Accepted for compatibility, and not used
    #[arg(hide = true)]
    netns: Option<PathBuf>,
}

#[derive(Args)]
struct GcArgs {
    #[command(flatten)]
    network: Network,
    /// An attachment to keep; may be repeated
    #[arg(long, value_name = "CONTAINER:IFNAME", value_parser = parse_attachment)]
    valid: Vec<Attachment>,
    /// Keep every attachment that lives, or that may: as results, links and leases tell
    #[arg(long, conflicts_with = "valid")]
    gone: bool,
}

#[derive(Args)]
#[command(next_help_heading = "Options for every command")]
struct Options {
    /// Directory of the configurations [default: /etc/cni/net.d]
    #[arg(long, global = true, env = "NETCONFPATH", value_name = "DIR", hide_env_values = true)]
    netconfpath: Option<String>,
    /// Directories of the plugins, with : between
    #[arg(long, global = true, env = "CNI_PATH", value_name = "DIRS", hide_env_values = true)]
    cni_path: Option<String>,
    /// Name of the interface in the namespace [default: eth0]
    #[arg(
        short,
        long,
        global = true,
        env = "CNI_IFNAME",
        value_name = "NAME",
        hide_env_values = true
    )]
    ifname: Option<String>,
    /// Arguments for the plugins: KEY=VALUE, with ; between
    #[arg(long, global = true, env = "CNI_ARGS", value_name = "ARGS", hide_env_values = true)]
    args: Option<String>,
    /// Data for the plugins' capabilities: {"portMappings": [..]}
    #[arg(long, global = true, env = "CAP_ARGS", value_name = "JSON", hide_env_values = true)]
    cap_args: Option<String>,
    /// Directory in which results are kept
    #[arg(long, global = true, value_name = "DIR", default_value = "/var/lib/cni")]
    cache_dir: PathBuf,
}

fn parse_attachment(text: &str) -> Result<Attachment> {
    let Some((container, ifname)) = text.split_once(':') else {
        return Err(Error::config("an attachment is a container ID and an interface: c1:eth0"));
    };
    Ok(Attachment { container: container.parse()?, ifname: ifname.parse()? })
}

impl Options {
    fn directory(&self) -> &Path {
        let given = self.netconfpath.as_deref().filter(|path| !path.is_empty());
        Path::new(given.unwrap_or("/etc/cni/net.d"))
    }

    fn runtime(&self) -> Runtime {
        let path = self.cni_path.as_deref().unwrap_or_default();
        let path = path.split(':').filter(|directory| !directory.is_empty());
        Runtime { path: path.map(PathBuf::from).collect(), cache: Cache::new(&self.cache_dir) }
    }

    /// The runtime, for a command that does without plugins if it can: those beside this program.
    fn runtime_beside(&self) -> Runtime {
        let mut runtime = self.runtime();
        let own = std::env::current_exe().ok();
        let beside = own.as_deref().and_then(Path::parent).filter(|_| runtime.path.is_empty());
        runtime.path.extend(beside.map(Path::to_owned));
        runtime
    }

    /// The runtime, for a command that runs plugins.
    fn require_path(&self) -> Result<Runtime> {
        let runtime = self.runtime();
        if !runtime.path.is_empty() {
            return Ok(runtime);
        }
        Err(Error::new(Code::BadEnvironment, "no paths provided").details(
            "set CNI_PATH, or --cni-path, to the directory of the plugins, as /opt/cni/bin",
        ))
    }

    fn target(&self, netns: &Path) -> Result<Target> {
        let ifname = self.ifname.as_deref().filter(|name| !name.is_empty()).unwrap_or("eth0");
        let netns = attachment::resolve(netns)?;
        let attachment = attachment::of_netns(&netns, ifname)?;
        Ok(Target {
            args: attachment::parse_args(self.args.as_deref().unwrap_or_default())?,
            capability_args: attachment::parse_capability_args(
                self.cap_args.as_deref().unwrap_or_default(),
            )?,
            ..Target::new(attachment, netns.to_string_lossy())
        })
    }

    /// The network's configuration; files of other networks that are broken are reported.
    fn list(&self, network: &NetworkName) -> Result<ConfigList> {
        let found = directory::find(self.directory(), network)?;
        for error in found.broken {
            report(format!("cnitool: skipped: {error}"));
        }
        Ok(found.list)
    }

    /// For DEL: the configuration that ADD was run with will do when there is none any more.
    fn list_or_cached(&self, network: &NetworkName, target: &Target) -> Result<ConfigList> {
        self.list(network).or_else(|error| {
            let cached = self.runtime().cache.read(network, &target.attachment);
            let config = cached.ok().flatten().map(|cached| cached.config);
            config.and_then(|bytes| ConfigList::parse(bytes).ok()).ok_or(error)
        })
    }
}

/// The `main` of `cnitool`.
pub fn main() -> ExitCode {
    let Cli { command, options } = Cli::parse();
    let (outcome, network) = match &command {
        Command::Add(place) => (add(&options, place), Some(&place.network)),
        Command::Check(place) => (check(&options, place), Some(&place.network)),
        Command::Del(place) => (del(&options, place), Some(&place.network)),
        Command::Gc(args) => (gc(&options, args), Some(&args.network.network)),
        Command::Status(args) => (status(&options, args), Some(&args.network)),
        Command::Leases(command) => (leases_command::run(&options, command), None),
        Command::Restore { dry_run } => (restore(&options, *dry_run), None),
        Command::Doctor => (doctor(&options), None),
        Command::Validate { files } => (validate(&options, files), None),
    };
    let Err(error) = outcome else { return ExitCode::SUCCESS };
    match network {
        Some(network) => report(format!("cnitool: network {:?}: {error}", network.as_str())),
        None => report(format!("cnitool: {error}")),
    }
    ExitCode::FAILURE
}

fn add(options: &Options, place: &Where) -> Result<()> {
    let (runtime, target) = (options.require_path()?, options.target(&place.netns)?);
    let list = options.list(&place.network)?;
    let result = runtime.add(&list, &target)?;
    let Err(error) = print(&pretty(&result)?) else { return Ok(()) };
    // Who asked has not been told, and takes the exit code for "not attached".
    let mut errors = Errors::default();
    errors.note(
        Err::<(), _>(error).context("the result cannot be printed, so the ADD is rolled back"),
    );
    errors.note(runtime.del(&list, &target));
    errors.into_result()
}

fn check(options: &Options, place: &Where) -> Result<()> {
    let (runtime, target) = (options.require_path()?, options.target(&place.netns)?);
    let target = runtime.find(&place.network, &target)?.unwrap_or(target);
    runtime.check(&options.list(&place.network)?, &target)
}

fn del(options: &Options, place: &Where) -> Result<()> {
    let (runtime, target) = (options.require_path()?, options.target(&place.netns)?);
    let say = |text: String| {
        report(format!("cnitool: network {:?}: {text}", place.network.as_str()));
    };
    let found = runtime.find(&place.network, &target).unwrap_or_else(|error| {
        say(error.to_string());
        None
    });
    let target = found.unwrap_or_else(|| {
        let (netns, ifname) = (&target.netns, &target.attachment.ifname);
        say(format!(
            "nothing is known to be attached as {ifname} in {netns}; the plugins delete what they \
             find of it"
        ));
        target
    });
    runtime.del(&options.list_or_cached(&place.network, &target)?, &target)
}

fn gc(options: &Options, args: &GcArgs) -> Result<()> {
    let (runtime, list) = (options.require_path()?, options.list(&args.network.network)?);
    let valid = match args.gone {
        true => Living::look()?.attachments(&runtime, &list)?,
        false => args.valid.clone(),
    };
    runtime.gc(&list, &valid)
}

fn status(options: &Options, args: &Network) -> Result<()> {
    let runtime = options.require_path()?;
    runtime.status(&options.list(&args.network)?).map_err(|error| {
        // The one verb whose code says more than its sentence: 50 and 51 are different troubles.
        let code = u32::from(error.code());
        Error::new(error.code(), format!("{error} (code {code})"))
    })
}

fn restore(options: &Options, dry_run: bool) -> Result<()> {
    let runtime = options.runtime_beside();
    let found = crate::restore::look(&runtime)?;
    for line in found.missing.taken.iter().chain(&found.unclear) {
        report(format!("cnitool: not restored: {line}"));
    }
    let is_whole = found.missing.taken.is_empty() && found.unclear.is_empty();
    let of = format!("of {} attachments", found.attachments);
    let text = match found.missing.is_empty() {
        true => format!("nothing is missing {of}"),
        false if dry_run => format!("{} {of}", found.missing),
        false => {
            let restored = found.missing.to_string().replace("are missing", "are back");
            found.missing.restore(|| Living::look()?.everybody(&runtime))?;
            format!("{restored} {of}")
        }
    };
    print(&text).context("failed to print")?;
    if is_whole { Ok(()) } else { Err(Error::internal("not everything could be restored")) }
}

fn doctor(options: &Options) -> Result<()> {
    let mut lists = Vec::new();
    for file in directory::files(options.directory()).unwrap_or_default() {
        match directory::load(&file) {
            Ok(list) => lists.push(list),
            Err(error) => report(format!("cnitool: skipped: {error}")),
        }
    }
    let node = Node { lists: &lists, runtime: &options.runtime_beside() };
    let (findings, examined) = node.examine();
    for finding in &findings {
        print(&finding.to_string()).context("failed to print")?;
    }
    examined.context("not everything could be looked at")?;
    let problems = findings.iter().filter(|finding| finding.level == Level::Error);
    match problems.count() {
        0 => print("no problem was found").context("failed to print"),
        count => Err(Error::internal(format!("problems: {count}"))),
    }
}

fn validate(options: &Options, files: &[PathBuf]) -> Result<()> {
    let files =
        if files.is_empty() { directory::files(options.directory())? } else { files.to_vec() };
    if files.is_empty() {
        let msg = format!("no net configurations found in {}", options.directory().display());
        return Err(Error::config(msg));
    }
    let runtime = options.runtime();
    let mut validator = Validator::new(&runtime);
    let mut bad = 0;
    for file in &files {
        let findings = validator.file(file);
        let name = file.display();
        let mut lines: Vec<_> =
            findings.iter().map(|finding| format!("{name}: {finding}")).collect();
        if lines.is_empty() {
            lines.push(format!("{name}: ok"));
        }
        print(&lines.join("\n")).context("failed to print")?;
        bad += usize::from(findings.iter().any(|finding| finding.level == Level::Error));
    }
    if bad == 0 {
        return Ok(());
    }
    Err(Error::config(format!("{bad} of {} files will not work", files.len())))
}

/// JSON with four spaces, as the Go tool prints it.
fn pretty(value: &serde_json::Value) -> Result<String> {
    let mut bytes = Vec::new();
    let formatter = serde_json::ser::PrettyFormatter::with_indent(b"    ");
    let mut serializer = serde_json::Serializer::with_formatter(&mut bytes, formatter);
    serde::Serialize::serialize(value, &mut serializer)
        .map_err(|error| Error::internal(error.to_string()))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn print(text: &str) -> std::io::Result<()> {
    let mut stdout = std::io::stdout();
    writeln!(stdout, "{text}")?;
    stdout.flush()
}
