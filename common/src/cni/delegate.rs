//! Other plugins: found in `CNI_PATH`, run with the same environment, and on stdin the same bytes or a
//! configuration that this plugin makes (specification, section "Plugin Delegation").

use super::environment::{ADD, DEPTH, Environment, LINK, SEGMENT};
use super::{
    Code, Context as _, Error, Linked, Others, Result, Success, Undo, Verb, Version, report,
};
use serde_json::Value;
use std::cell::Cell;
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::rc::Rc;
use std::time::SystemTime;

/// A plugin that serves a part of another one's request, as an IPAM plugin does, or all of it.
#[derive(Clone, Debug)]
pub struct Delegate {
    program: Program,
    stdin: Rc<Vec<u8>>,
    version: Version,
    depth: u32,
}

/// How a delegate is reached.
#[derive(Clone, Debug)]
pub(super) struct Program {
    executable: PathBuf,
    /// The same plugin in the executable of this process.
    linked: Option<(Linked, Others)>,
}

/// A delegate's ADD that has not been started.
#[derive(Debug)]
pub struct Pending {
    delegate: Delegate,
    name: String,
    link: String,
    segment: String,
    is_del_owed: Rc<Cell<bool>>,
}

/// A delegate's ADD that has been started. Dropping it waits for its end, so that no DEL can
/// overtake it.
#[must_use]
#[derive(Debug)]
pub struct Running {
    answer: Option<Answer>,
    delegate: Delegate,
    is_del_owed: Rc<Cell<bool>>,
}

/// What a plugin that has been started says.
#[derive(Debug)]
enum Answer {
    /// A process will say it.
    Child(Child),
    /// A plugin of this process has said it.
    Here(Result<Vec<u8>>),
}

/// How the process of a plugin ended.
enum Exit {
    /// Successfully, with this on stdout.
    Success(Vec<u8>),
    /// With an error result, which says that it keeps no state of this request.
    Error(Error),
    /// In any other way, so that it may have done anything.
    Crash(Error),
}

impl Delegate {
    pub(super) fn new(program: Program, stdin: Rc<Vec<u8>>, version: Version, depth: u32) -> Self {
        Self { program, stdin, version, depth }
    }

    /// The base name of its executable, which is its `type`.
    pub(crate) fn kind(&self) -> &str {
        self.program.executable.file_name().and_then(|name| name.to_str()).unwrap_or_default()
    }

    /// An ADD that has not been started. `link` and `segment` are as in [`Add`](super::Add).
    pub(crate) fn prepare_add(&self, link: Option<&str>, segment: Option<&str>) -> Pending {
        let own = |text: Option<&str>| text.unwrap_or_default().to_owned();
        let (link, segment) = (own(link), own(segment));
        Pending {
            delegate: self.clone(),
            name: new_name(),
            link,
            segment,
            is_del_owed: Rc::default(),
        }
    }

    /// Starts an ADD, to be [finished](Running::finish) when its answer is needed. `link` and
    /// `segment` are as in [`Add`](super::Add).
    ///
    /// # Errors
    /// When it cannot be executed.
    pub fn start_add(
        &self,
        link: Option<&str>,
        segment: Option<&str>,
        undo: &mut Undo,
    ) -> Result<Running> {
        let pending = self.prepare_add(link, segment);
        let (what, step) = pending.rollback();
        undo.push(what, step);
        pending.start()
    }

    /// # Errors
    /// Those of the delegate, unchanged.
    pub fn del(&self) -> Result<()> {
        self.call(Verb::Del, "")
    }

    /// # Errors
    /// Those of the delegate, unchanged.
    pub fn check(&self) -> Result<()> {
        self.call(Verb::Check, "")
    }

    /// # Errors
    /// Those of the delegate, unchanged.
    pub fn gc(&self) -> Result<()> {
        self.call(Verb::Gc, "")
    }

    /// # Errors
    /// Those of the delegate, unchanged.
    pub fn status(&self) -> Result<()> {
        self.call(Verb::Status, "")
    }

    /// `undoes` is the name of the ADD that a DEL rolls back. It is set to the empty string, which
    /// counts as absent, if there is none: the one of this process is about this process.
    fn call(&self, verb: Verb, undoes: &str) -> Result<()> {
        let depth = self.depth.to_string();
        let environment = [("CNI_COMMAND", verb.as_str()), (ADD, undoes), (DEPTH, &depth)];
        self.program.execute(&environment, &self.stdin).map(drop)
    }
}

impl Program {
    /// The plugin `kind`, which is this executable. If that is the file of this process, `others` has
    /// the plugin as well.
    pub(super) fn new(executable: PathBuf, kind: &str, others: Option<Others>) -> Self {
        let linked = others.and_then(|others| Some((others(kind)?, others)));
        let linked = linked.filter(|_| is_own(&executable));
        Self { executable, linked }
    }

    fn execute(&self, environment: &[(&str, &str)], stdin: &[u8]) -> Result<Vec<u8>> {
        let served = self.serve(environment, stdin);
        served.unwrap_or_else(|| execute(&self.executable, environment, stdin))
    }

    /// What the plugin answers, if it is in this process.
    fn serve(&self, environment: &[(&str, &str)], stdin: &[u8]) -> Option<Result<Vec<u8>>> {
        let (linked, others) = self.linked?;
        let environment = Environment { others: Some(others), ..Environment::read(environment) };
        Some(linked.serve(&environment, stdin))
    }
}

/// Whether a file is the executable of this process, by whatever name.
fn is_own(executable: &Path) -> bool {
    let identity = |path: &Path| path.metadata().map(|file| (file.dev(), file.ino())).ok();
    identity(executable).is_some_and(|it| Some(it) == identity(Path::new("/proc/self/exe")))
}

impl Pending {
    /// What undoes it, in words and in deeds.
    ///
    /// The rollback runs its DEL from the moment that the process has been started, unless it answers
    /// with an error, after which it keeps no state of this ADD. The DEL names the ADD that it undoes:
    /// a delegate that was killed may have been about to refuse this ADD because of what an earlier
    /// ADD of the same attachment has. The Go plugins ignore that name, and release this as well.
    pub(crate) fn rollback(&self) -> (String, impl FnOnce() -> Result<()> + 'static) {
        let (delegate, is_owed) = (self.delegate.clone(), Rc::clone(&self.is_del_owed));
        let (what, name) =
            (format!("ADD of {}", delegate.program.executable.display()), self.name.clone());
        (what, move || if is_owed.get() { delegate.call(Verb::Del, &name) } else { Ok(()) })
    }

    /// Starts it, to be [finished](Running::finish) when its answer is needed.
    ///
    /// # Errors
    /// When it cannot be executed.
    pub(crate) fn start(self) -> Result<Running> {
        let Self { delegate, name, link, segment, is_del_owed } = self;
        let (verb, depth) = (("CNI_COMMAND", Verb::Add.as_str()), delegate.depth.to_string());
        // Set to the empty string, which counts as absent, if there is none: otherwise the delegate
        // would inherit the one of this process.
        let environment = [
            verb,
            (LINK, link.as_str()),
            (SEGMENT, segment.as_str()),
            (ADD, name.as_str()),
            (DEPTH, depth.as_str()),
        ];
        // A plugin of this process answers with a result or with an error, and does not die alone.
        if let Some(served) = delegate.program.serve(&environment, &delegate.stdin) {
            is_del_owed.set(served.is_ok());
            let answer = Some(Answer::Here(served));
            return Ok(Running { answer, delegate, is_del_owed });
        }
        let executable = &delegate.program.executable;
        let mut child = spawn(executable, &environment)?;
        is_del_owed.set(true);
        let fed = feed(&mut child, executable, &delegate.stdin);
        let running = Running { answer: Some(Answer::Child(child)), delegate, is_del_owed };
        fed.map(|()| running)
    }
}

impl Running {
    /// Waits for the answer.
    ///
    /// # Errors
    /// Those of the delegate, unchanged; code 6 when it answers nonsense.
    pub fn finish(mut self) -> Result<Success> {
        let stdout = match self.answer.take() {
            Some(Answer::Here(served)) => served?,
            Some(Answer::Child(child)) => match self.collect(child) {
                Exit::Success(stdout) => stdout,
                Exit::Error(error) | Exit::Crash(error) => return Err(error),
            },
            None => return Err(Error::internal("a delegate's answer can be taken only once")),
        };
        let nonsense = |error: &dyn std::fmt::Display| {
            let plugin = self.delegate.program.executable.display();
            Error::new(Code::Decode, format!("{plugin} answered ADD with nonsense: {error}"))
        };
        let value: Value = serde_json::from_slice(&stdout).map_err(|error| nonsense(&error))?;
        Success::decode(&value, self.delegate.version).map_err(|error| nonsense(&error))
    }

    fn collect(&self, child: Child) -> Exit {
        let exit = collect(child, &self.delegate.program.executable);
        if matches!(exit, Exit::Error(_)) {
            self.is_del_owed.set(false);
        }
        exit
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(Answer::Child(child)) = self.answer.take() {
            // The caller has failed for another reason and reports that one. What this ADD has done
            // is removed by the delegate's DEL in the rollback.
            self.collect(child);
        }
    }
}

/// Names an ADD: no two of one attachment begin in the same nanosecond.
fn new_name() -> String {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    since.as_nanos().to_string()
}

/// Finds the executable of a plugin `type` in the directories of `CNI_PATH`.
///
/// # Errors
/// Code 7 for an invalid name, or one that no directory has.
pub fn find(kind: &str, directories: &[PathBuf]) -> Result<PathBuf> {
    if kind.is_empty() {
        return Err(Error::config("no plugin name provided"));
    }
    // A name with a path would run any program of the host (CVE-2021-20206).
    if kind.contains('/') || kind == "." || kind == ".." {
        return Err(Error::config(format!("invalid plugin name: {kind}"))
            .details("a plugin's type is the bare name of an executable in CNI_PATH"));
    }
    let candidates = directories.iter().map(|directory| directory.join(kind));
    candidates.into_iter().find(|path| path.is_file()).ok_or_else(|| {
        let searched: Vec<_> = directories.iter().map(|path| path.to_string_lossy()).collect();
        let searched = searched.join(" ");
        Error::config(format!("failed to find plugin {kind:?} in path [{searched}]"))
    })
}

/// Runs a plugin to its end, with `environment` added to that of this process, and returns its stdout.
///
/// # Errors
/// The plugin's own error, or one that says how it died.
pub fn execute(executable: &Path, environment: &[(&str, &str)], stdin: &[u8]) -> Result<Vec<u8>> {
    let mut child = spawn(executable, environment)?;
    let fed = feed(&mut child, executable, stdin);
    match (fed, collect(child, executable)) {
        (Ok(()), Exit::Success(stdout)) => Ok(stdout),
        (Err(error), _) | (_, Exit::Error(error) | Exit::Crash(error)) => Err(error),
    }
}

#[expect(clippy::disallowed_methods, reason = "this is the one place that runs programs")]
fn spawn(executable: &Path, environment: &[(&str, &str)]) -> Result<Child> {
    let spawned = Command::new(executable)
        .envs(environment.iter().copied())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    spawned.map_err(|error| {
        // ETXTBSY: the file is open for writing, because an installation is replacing it.
        let is_busy = error.kind() == ErrorKind::ExecutableFileBusy;
        let code = if is_busy { Code::TryAgain } else { Code::Io };
        Error::new(code, format!("failed to execute {}: {error}", executable.display()))
    })
}

fn feed(child: &mut Child, executable: &Path, stdin: &[u8]) -> Result<()> {
    let Some(mut pipe) = child.stdin.take() else { return Ok(()) };
    match pipe.write_all(stdin) {
        // EPIPE: a plugin may answer without having read all of its stdin.
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(error).context(format!("failed to write to {}", executable.display()))
        }
        _ => Ok(()),
    }
}

fn collect(child: Child, executable: &Path) -> Exit {
    let output = child.wait_with_output();
    let output =
        match output.context(format!("failed to read the answer of {}", executable.display())) {
            Ok(output) => output,
            Err(error) => return Exit::Crash(error),
        };
    let stderr = String::from_utf8_lossy(&output.stderr);
    if !stderr.trim().is_empty() {
        report(stderr.trim_end());
    }
    if output.status.success() {
        Exit::Success(output.stdout)
    } else {
        failure(&output, executable)
    }
}

/// The error of a plugin that ended with a status other than 0. The texts are those of the Go
/// library, which users search for.
fn failure(output: &Output, executable: &Path) -> Exit {
    let stdout = String::from_utf8_lossy(&output.stdout);
    let stderr = String::from_utf8_lossy(&output.stderr);
    let status = output.status;
    let msg = match serde_json::from_slice(&output.stdout) {
        Ok(error) => return Exit::Error(error),
        Err(error) if !stdout.trim().is_empty() => format!(
            "netplugin failed but error parsing its diagnostic message {:?}: {error}",
            stdout.trim()
        ),
        Err(_) if stderr.trim().is_empty() => {
            format!("netplugin failed with no error message: {status}")
        }
        Err(_) => format!("netplugin failed: {:?}: {status}", stderr.trim()),
    };
    let details = format!("the plugin was {}", executable.display());
    Exit::Crash(Error::internal(msg).details(details))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_bare_names_are_plugins() {
        let directories = [PathBuf::from("/nowhere"), PathBuf::from("/bin")];
        assert!(find("sh", &directories).is_ok());
        for (kind, msg) in [
            ("", "no plugin name provided"),
            ("../bin/sh", "invalid plugin name: ../bin/sh"),
            ("..", "invalid plugin name: .."),
            ("no-such", "failed to find plugin \"no-such\" in path [/nowhere /bin]"),
        ] {
            let error = find(kind, &directories).unwrap_err();
            assert!(error.to_string().starts_with(msg), "{error}");
        }
    }
}
