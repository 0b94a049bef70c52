//! The one `main` of all plugins: reads the request, has it served, answers.

use super::config::Keys;
use super::environment::Environment;
use super::{Add, Check, Del, Gc, Status};
use super::{
    Call, Code, Context as _, Error, Errors, Network, Plugin, Result, Undo, Verb, Version, report,
};
use crate::file;
use serde::Serialize;
use serde_json::json;
use std::io::{Read, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;

/// The version of the Go plugins whose behaviour these plugins have. nerdctl and Nomad parse the line
/// that a plugin prints about itself, and decide by this version which features they use.
const COVERS: &str = "1.9.1";

/// A plugin of an executable that several share: as a delegate of one of the others it is called, not
/// run.
#[derive(Clone, Copy, Debug)]
pub struct Linked(fn(&Environment, &[u8]) -> Result<Vec<u8>>);

impl Linked {
    /// The plugin of this type.
    pub const fn of<P: Plugin>() -> Self {
        Self(|environment, mut stdin| {
            let mut stdout = Vec::new();
            attempt::<P>(environment, &mut stdin, &mut stdout)
                .map(|()| stdout)
                .map_err(|(error, _)| error)
        })
    }

    /// Has it serve a request, as if it had been run with this on stdin: what it writes to stdout.
    ///
    /// # Errors
    /// The plugin's own.
    pub(super) fn serve(self, environment: &Environment, stdin: &[u8]) -> Result<Vec<u8>> {
        (self.0)(environment, stdin)
    }
}

/// Finds a plugin in the executable, by a `type`.
pub type Others = fn(&str) -> Option<Linked>;

/// The `main` of a plugin: reads the request, has it served, answers.
pub fn run<P: Plugin>() -> ExitCode {
    run_among::<P>(|_| None)
}

/// The `main` of a plugin in an executable that `others` share with it.
pub fn run_among<P: Plugin>(others: Others) -> ExitCode {
    if let Some(exit) = P::serve_otherwise() {
        return exit;
    }
    if let Err(error) = file::survive_size_limit() {
        report(format_args!("cannot block SIGXFSZ: {error}"));
    }
    let mut stdout = std::io::stdout().lock();
    let help = match std::env::args().nth(1).as_deref() {
        Some("--version" | "-V") => about::<P>(),
        Some("--help" | "-h") => help::<P>(),
        _ => {
            let environment = Environment { others: Some(others), ..Environment::read(&[]) };
            return execute::<P>(&environment, &mut std::io::stdin().lock(), &mut stdout);
        }
    };
    if writeln!(stdout, "{help}").is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// What follows `face` on the command line, if that is its first word: some executables are a plugin
/// and something else besides.
pub fn words_after(face: &str) -> Option<Vec<String>> {
    let mut words = std::env::args().skip(1);
    (words.next()? == face).then(|| words.collect())
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
    if environment.command.is_none() {
        report(about::<P>());
        return ExitCode::SUCCESS;
    }
    let Err((error, version)) = attempt::<P>(environment, stdin, stdout) else {
        return ExitCode::SUCCESS;
    };
    let failure = Failure { cni_version: version.as_str(), error: &error };
    if print(stdout, &failure).is_err() {
        report(&error);
    }
    ExitCode::FAILURE
}

/// Serves a request. An error comes with the version that it is to be told in.
fn attempt<P: Plugin>(
    environment: &Environment,
    stdin: &mut dyn Read,
    stdout: &mut dyn Write,
) -> Result<(), (Error, Version)> {
    let mut version = Version::V1_1_0;
    let served =
        catch_unwind(AssertUnwindSafe(|| serve::<P>(environment, stdin, stdout, &mut version)));
    let error = match served {
        Ok(Ok(())) => return Ok(()),
        Ok(Err(error)) => error,
        // The panic hook has written the place of the panic to stderr.
        Err(_) => Error::internal(format!("{} failed by a mistake of its own", P::NAME))
            .details("what was done has been undone; please report the panic on stderr"),
    };
    Err((error, version))
}

/// An error as it goes to stdout.
#[derive(Serialize)]
struct Failure<'a> {
    #[serde(rename = "cniVersion")]
    cni_version: &'a str,
    #[serde(flatten)]
    error: &'a Error,
}

/// The order of checks is that of the Go library, because scripts look for the first error that it
/// would give.
fn serve<P: Plugin>(
    environment: &Environment,
    stdin: &mut dyn Read,
    stdout: &mut dyn Write,
    answer_in: &mut Version,
) -> Result<()> {
    let command = environment.command.as_deref().unwrap_or_default();
    environment.require(command)?;
    if command == Verb::Version.as_str() {
        // VERSION does not read stdin: the specification makes it optional for this verb.
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
            let request =
                Add { call, plugin: P::NAME, attachment, netns, prev_result, link, segment, name };
            let success = plugin.add(&request, &mut undo)?;
            let answer = success.encode(call.version);
            if P::KEEPS_UNCONVERTIBLE && answer.is_err() {
                undo.commit();
                return answer.map(drop);
            }
            print(stdout, &answer?)?;
            undo.commit();
        }
        Verb::Del => {
            let (attachment, netns) = (attachment()?, call.netns()?);
            // A result that cannot be decoded is treated as one that the runtime has lost, so that it
            // does not keep the attachment from being removed.
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
    use super::super::Success;
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
    fn every_other_way_out_rolls_back_and_says_so_once() {
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
    fn a_closed_stdout_rolls_back() {
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
