//! What a plugin is, what each verb gives it, and the one `main` of all plugins.

use super::args::Environment;
use super::config::Keys;
use super::{
    Attachment, CniArgs, Code, Context as _, Delegate, Error, Errors, IfName, NetnsPath, Network,
    Result, Success, Verb, Version, delegate, report,
};
use crate::Undo;
use nix::sys::signal::{SigSet, Signal};
use serde::Serialize;
use serde_json::json;
use std::io::{Read, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::process::ExitCode;

/// A plugin: its configuration, understood, and what it does with it.
pub trait Plugin: Sized {
    /// The name of its executable, which is its `type` in a configuration.
    const NAME: &'static str;

    /// One line for `--help`.
    const ABOUT: &'static str;

    /// Understands the configuration, for ADD, CHECK and STATUS. Touches nothing.
    ///
    /// # Errors
    /// Code 7: every conflict is found here. Code 4 for `CNI_ARGS`.
    fn load(call: &Call) -> Result<Self>;

    /// Attaches. What it does is registered in `undo` *before* the next thing can fail.
    ///
    /// # Errors
    /// Then everything that was registered is taken back.
    fn add(&self, request: &Add<'_>, undo: &mut Undo) -> Result<Success>;

    /// Detaches: does every step whatever became of the others. What is gone already is success.
    ///
    /// There is no `self`, because the configuration may have been edited, or broken, since ADD:
    /// what ADD made is found by its owner, and the few keys that tell where to look are read with
    /// [`Network::tolerant`].
    fn del(request: &Del<'_>, errors: &mut Errors);

    /// Compares what is there with what ADD answered.
    ///
    /// # Errors
    /// Naming every difference.
    fn check(&self, request: &Check<'_>) -> Result<()>;

    /// Removes what belongs to no valid attachment; carries on after an error. There is no `self`
    /// for the same reason as in [`del`](Self::del).
    fn gc(request: &Gc<'_>, errors: &mut Errors);

    /// Says whether an ADD could be served now.
    ///
    /// # Errors
    /// Code 50 when it could not.
    fn status(&self, request: &Status<'_>) -> Result<()>;
}

/// What ADD finds wrong with a configuration before it touches anything.
///
/// # Errors
/// That.
pub fn examine<P: Plugin>(stdin: Vec<u8>) -> Result<()> {
    P::load(&Call::understood(Verb::Add, stdin)?).map(drop)
}

/// What every call has.
#[derive(Debug)]
pub struct Call {
    /// What is to be done.
    pub verb: Verb,
    /// The configuration from stdin.
    pub network: Network,
    /// The version that it is written in, and that answers are given in.
    pub version: Version,
    environment: Environment,
}

impl Call {
    /// What CHECK would read from stdin, understood without an environment: to ask what it means.
    ///
    /// # Errors
    /// Codes 6 and 7 as for any call; code 7 without `prevResult`.
    pub fn recorded(stdin: Vec<u8>) -> Result<(Self, Success)> {
        let call = Self::understood(Verb::Check, stdin)?;
        let result = call.network.prev_result(call.version)?;
        let result = result.ok_or_else(|| Error::config("Required prevResult missing"))?;
        Ok((call, result))
    }

    fn understood(verb: Verb, stdin: Vec<u8>) -> Result<Self> {
        let keys = Keys::parse(stdin)?;
        let version = keys.version()?;
        let network = Network::new(keys)?;
        Ok(Self { verb, network, version, environment: Environment::default() })
    }

    /// `CNI_ARGS`.
    ///
    /// # Errors
    /// Code 4 when they are malformed, or unknown and not to be ignored.
    pub fn args(&self) -> Result<CniArgs> {
        self.environment.args.as_deref().unwrap_or_default().parse()
    }

    /// The container's namespace, as far as the runtime gave one.
    ///
    /// # Errors
    /// Code 8 if it is our own.
    fn netns(&self) -> Result<Option<NetnsPath>> {
        self.environment.netns()
    }

    /// Another plugin, to be run with our environment and our configuration.
    ///
    /// # Errors
    /// Code 7 when `CNI_PATH` has no such plugin.
    pub fn delegate(&self, kind: &str) -> Result<Delegate> {
        let path = self.environment.path.as_deref().unwrap_or_default();
        let directories: Vec<_> = path.split(':').map(PathBuf::from).collect();
        let executable = delegate::find(kind, &directories)?;
        let depth = self.environment.depth + 1;
        if depth > MAX_DEPTH {
            let msg = format!("plugins delegate to each other without end: {kind:?} is the latest");
            return Err(Error::config(msg).details(format!(
                "more than {MAX_DEPTH} of them wait for each other; look at the \"type\" of \"ipam\""
            )));
        }
        Ok(Delegate::new(executable, self.network.bytes().clone(), self.version, depth))
    }

    /// The IPAM plugin that the configuration names, if it names one, for DEL and GC.
    ///
    /// # Errors
    /// Code 7 when `CNI_PATH` has no such plugin.
    pub fn tolerant_ipam(&self) -> Result<Option<Delegate>> {
        let kind = self.network.tolerant::<String>(&["ipam", "type"]);
        kind.filter(|kind| !kind.is_empty()).map(|kind| self.delegate(&kind)).transpose()
    }
}

/// ADD (specification, section "ADD").
#[derive(Debug)]
pub struct Add<'a> {
    /// What every call has.
    pub call: &'a Call,
    /// Whom to attach.
    pub attachment: Attachment,
    /// The container's namespace.
    pub netns: NetnsPath,
    /// The result of the plugin before this one in the chain.
    pub prev_result: Option<Success>,
    /// The link of the host that the plugin which delegates to this one makes for the attachment,
    /// and that cannot outlive the container's namespace.
    pub link: Option<IfName>,
    /// The layer-2 segment (a bridge, or a VLAN of it) that the delegating plugin attaches to, where
    /// this host does not route it: another segment may have the same address. None: the address is
    /// unique on the host.
    pub segment: Option<String>,
    /// What the delegating plugin calls this ADD: no other one is called so.
    pub name: Option<String>,
}

/// DEL (specification, section "DEL"). What is optional here may be missing for good reason: the
/// namespace is gone, the runtime has lost the result.
#[derive(Debug)]
pub struct Del<'a> {
    /// What every call has.
    pub call: &'a Call,
    /// Whom to detach.
    pub attachment: Attachment,
    /// The container's namespace, if it may still exist.
    pub netns: Option<NetnsPath>,
    /// The final result of ADD, as far as it is known.
    pub prev_result: Option<Success>,
    /// If the delegating plugin takes back an ADD that was not answered: its [name](Add::name). What
    /// another ADD of the same attachment has made is not to be touched then.
    pub undoes: Option<String>,
}

/// CHECK (specification, section "CHECK").
#[derive(Debug)]
pub struct Check<'a> {
    /// What every call has.
    pub call: &'a Call,
    /// Whose attachment.
    pub attachment: Attachment,
    /// The container's namespace.
    pub netns: NetnsPath,
    /// The final result of ADD.
    pub prev_result: Success,
}

/// GC (specification, section "GC").
#[derive(Debug)]
pub struct Gc<'a> {
    /// What every call has.
    pub call: &'a Call,
    /// The attachments that are alive; everything else of this network goes.
    pub valid: Vec<Attachment>,
}

/// STATUS (specification, section "STATUS").
#[derive(Debug)]
pub struct Status<'a> {
    /// What every call has.
    pub call: &'a Call,
}

/// The deepest chain that makes sense is a wrapper (Multus), flannel, bridge and host-local; a
/// configuration that names a plugin as its own delegate would start processes without end.
const MAX_DEPTH: u32 = 8;

/// The version of the Go plugins whose behaviour ours covers. nerdctl and Nomad parse the line that
/// a plugin prints about itself, and choose what they ask for by it.
const COVERS: &str = "1.9.1";

/// The `main` of a plugin: reads the request, has it served, answers.
pub fn run<P: Plugin>() -> ExitCode {
    survive_file_size_limit();
    let mut stdout = std::io::stdout().lock();
    let help = match std::env::args().nth(1).as_deref() {
        Some("--version" | "-V") => about::<P>(),
        Some("--help" | "-h") => help::<P>(),
        _ => {
            let environment = Environment::read();
            return execute::<P>(&environment, &mut std::io::stdin().lock(), &mut stdout);
        }
    };
    if writeln!(stdout, "{help}").is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// A write beyond RLIMIT_FSIZE ends a process by a signal, without an answer; with the signal
/// blocked it is an error like any other (setrlimit(2)). Delegates start with nothing blocked.
fn survive_file_size_limit() {
    if let Err(error) = SigSet::from(Signal::SIGXFSZ).thread_block() {
        report(format_args!("cannot block SIGXFSZ: {error}"));
    }
}

fn about<P: Plugin>() -> String {
    let versions = Version::ALL.map(Version::as_str).join(", ");
    format!(
        "CNI {} plugin v{COVERS}+girder.{}\nCNI protocol versions supported: {versions}",
        P::NAME,
        env!("CARGO_PKG_VERSION")
    )
}

fn help<P: Plugin>() -> String {
    format!(
        "{}\n\n{}\n\n\
         Container runtimes run it: the request is in the environment (CNI_COMMAND and others),\n\
         the network configuration on stdin, the answer on stdout. By hand: cnitool add NETWORK NETNS.\n\
         What the variables mean: https://www.cni.dev/docs/spec/",
        about::<P>(),
        P::ABOUT,
    )
}

fn execute<P: Plugin>(
    environment: &Environment,
    stdin: &mut dyn Read,
    stdout: &mut dyn Write,
) -> ExitCode {
    let Some(command) = &environment.command else {
        report(about::<P>());
        return ExitCode::SUCCESS;
    };
    let mut version = Version::V1_1_0;
    let served = catch_unwind(AssertUnwindSafe(|| {
        serve::<P>(command, environment, stdin, stdout, &mut version)
    }));
    let error = match served {
        Ok(Ok(())) => return ExitCode::SUCCESS,
        Ok(Err(error)) => error,
        // The panic hook has told stderr where.
        Err(_) => Error::internal(format!("{} failed by a mistake of its own", P::NAME))
            .details("what was done has been undone; please report the panic on stderr"),
    };
    let failure = Failure { cni_version: version.as_str(), error: &error };
    if print(stdout, &failure).is_err() {
        report(&error);
    }
    ExitCode::FAILURE
}

/// An error as it goes to stdout.
#[derive(Serialize)]
struct Failure<'a> {
    #[serde(rename = "cniVersion")]
    cni_version: &'a str,
    #[serde(flatten)]
    error: &'a Error,
}

/// The order of checks is that of the Go library, which runtimes and scripts have met.
fn serve<P: Plugin>(
    command: &str,
    environment: &Environment,
    stdin: &mut dyn Read,
    stdout: &mut dyn Write,
    answer_in: &mut Version,
) -> Result<()> {
    environment.require(command)?;
    if command == Verb::Version.as_str() {
        // Without a look at stdin, which need not be there.
        let versions = Version::ALL.map(Version::as_str);
        let answer =
            json!({ "cniVersion": Version::V1_1_0.as_str(), "supportedVersions": versions });
        return writeln!(stdout, "{answer}").context("failed to write to stdout");
    }
    let mut bytes = Vec::new();
    stdin.read_to_end(&mut bytes).context("error reading from stdin")?;
    let keys = Keys::parse(bytes)?;
    let version = keys.version();
    *answer_in = version.as_ref().map_or(Version::V1_1_0, |version| *version);
    let network = Network::new(keys)?;
    let (verb, version): (Verb, _) = (command.parse()?, version?);
    let since = match verb {
        Verb::Gc | Verb::Status => Version::V1_1_0,
        Verb::Check => Version::V0_4_0,
        Verb::Add | Verb::Del | Verb::Version => Version::V0_1_0,
    };
    if version < since {
        let msg = format!("config version does not allow {verb}");
        return Err(Error::new(Code::IncompatibleVersion, msg)
            .details(format!("{verb} exists since {since}, the configuration is {version}")));
    }
    dispatch::<P>(&Call { verb, network, version, environment: environment.clone() }, stdout)
}

fn dispatch<P: Plugin>(call: &Call, stdout: &mut dyn Write) -> Result<()> {
    let missing = |what: &str| Error::config(format!("Required {what} missing"));
    let prev_result = || call.network.prev_result(call.version);
    let attachment = || call.environment.attachment();
    let mut errors = Errors::default();
    match call.verb {
        Verb::Add => {
            let plugin = P::load(call)?;
            let netns = call.netns()?.ok_or_else(|| missing("CNI_NETNS"))?;
            let (attachment, prev_result) = (attachment()?, prev_result()?);
            let mut undo = Undo::new();
            let link = call.environment.link();
            let segment = call.environment.segment.clone();
            let name = call.environment.add.clone();
            let request = Add { call, attachment, netns, prev_result, link, segment, name };
            let success = plugin.add(&request, &mut undo)?;
            print(stdout, &success.encode(call.version)?)?;
            undo.commit();
        }
        Verb::Del => {
            let (attachment, netns) = (attachment()?, call.netns()?);
            // A result that nobody can read any more is as good as a lost one.
            let prev_result = prev_result().unwrap_or_else(|error| {
                report(error);
                None
            });
            let undoes = call.environment.add.clone();
            P::del(&Del { call, attachment, netns, prev_result, undoes }, &mut errors);
        }
        Verb::Check => {
            let plugin = P::load(call)?;
            let netns = call.netns()?.ok_or_else(|| missing("CNI_NETNS"))?;
            let prev_result = prev_result()?.ok_or_else(|| missing("prevResult"))?;
            plugin.check(&Check { call, attachment: attachment()?, netns, prev_result })?;
        }
        Verb::Gc => {
            let valid = call.network.valid_attachments()?;
            P::gc(&Gc { call, valid }, &mut errors);
        }
        Verb::Status => P::load(call)?.status(&Status { call })?,
        Verb::Version => {}
    }
    errors.into_result()
}

fn print(stdout: &mut dyn Write, answer: &impl Serialize) -> Result<()> {
    let formatter = serde_json::ser::PrettyFormatter::with_indent(b"    ");
    let mut text = Vec::new();
    answer
        .serialize(&mut serde_json::Serializer::with_formatter(&mut text, formatter))
        .map_err(|error| Error::internal(error.to_string()))?;
    text.push(b'\n');
    stdout.write_all(&text).and_then(|()| stdout.flush()).context("failed to write to stdout")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;

    thread_local! {
        static UNDONE: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
    }

    /// Does what its container is called.
    struct Actor;

    impl Plugin for Actor {
        const NAME: &'static str = "actor";
        const ABOUT: &'static str = "acts";

        fn load(_: &Call) -> Result<Self> {
            Ok(Self)
        }

        fn add(&self, request: &Add<'_>, undo: &mut Undo) -> Result<Success> {
            let container = request.attachment.container.to_string();
            let name = container.clone();
            undo.push("acting", move || {
                UNDONE.with_borrow_mut(|undone| undone.push(name));
                Ok(())
            });
            match container.as_str() {
                "fails" => Err(Error::config("on purpose")),
                "panics" => panic!("on purpose"),
                _ => Ok(Success::default()),
            }
        }

        fn del(_: &Del<'_>, errors: &mut Errors) {
            errors.note(Err::<(), _>(Error::internal("one")));
            errors.note(Err::<(), _>(Error::internal("two")));
        }

        fn check(&self, _: &Check<'_>) -> Result<()> {
            Ok(())
        }

        fn gc(_: &Gc<'_>, _: &mut Errors) {}

        fn status(&self, _: &Status<'_>) -> Result<()> {
            Ok(())
        }
    }

    struct Closed;

    impl Write for Closed {
        fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
            Err(std::io::ErrorKind::BrokenPipe.into())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn environment(command: &str, container: &str) -> Environment {
        Environment {
            command: Some(command.into()),
            container: Some(container.into()),
            netns: Some("/nowhere".into()),
            ifname: Some("eth0".into()),
            path: Some("/nowhere".into()),
            ..Environment::default()
        }
    }

    fn act(command: &str, container: &str) -> (bool, String, Vec<String>) {
        let mut stdout = Vec::new();
        let config = br#"{"cniVersion": "0.4.0", "name": "n"}"#;
        let environment = environment(command, container);
        let code = execute::<Actor>(&environment, &mut config.as_slice(), &mut stdout);
        let undone = UNDONE.take();
        (code == ExitCode::SUCCESS, String::from_utf8(stdout).unwrap(), undone)
    }

    #[test]
    fn an_add_that_was_answered_stays() {
        let (ok, stdout, undone) = act("ADD", "works");
        assert!(ok && stdout.contains("0.4.0"));
        assert!(undone.is_empty());
    }

    #[test]
    fn every_other_way_out_takes_it_back_and_says_so_once() {
        for (container, code) in [("fails", 7), ("panics", 999)] {
            let (ok, stdout, undone) = act("ADD", container);
            let error: serde_json::Value = serde_json::from_str(&stdout).unwrap();
            assert!(!ok);
            assert_eq!(error["code"], code);
            assert_eq!(error["cniVersion"], "0.4.0");
            assert_eq!(undone, [container]);
        }
    }

    #[test]
    fn a_closed_stdout_takes_it_back() {
        let config = br#"{"name": "n", "cniVersion": "1.0.0"}"#;
        let environment = environment("ADD", "unheard");
        let code = execute::<Actor>(&environment, &mut config.as_slice(), &mut Closed);
        assert_ne!(code, ExitCode::SUCCESS);
        assert_eq!(UNDONE.take(), ["unheard"]);
    }

    #[test]
    fn del_reports_every_error() {
        let (ok, stdout, _) = act("DEL", "any");
        assert!(!ok && stdout.contains("one; two"));
    }
}
