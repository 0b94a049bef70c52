//! One call of one plugin, and what came of it.

use std::{
    collections::BTreeMap,
    fmt,
    path::PathBuf,
    process::{Command, ExitStatus},
};

use serde_json::Value;

use crate::{bed::Testbed, double, is_reference, programs};

/// A plugin call under construction.
#[derive(Debug, Clone)]
#[must_use = "a call does nothing until it is run"]
pub struct Call<'bed> {
    bed: &'bed Testbed,
    wrapper: Vec<String>,
    program: PathBuf,
    arguments: Vec<String>,
    environment: BTreeMap<String, String>,
    stdin: Vec<u8>,
}

impl<'bed> Call<'bed> {
    pub(crate) fn new(bed: &'bed Testbed, name: &str) -> Self {
        let double = bed.file(double::DIR).join(name);
        let double = double.exists().then(|| PathBuf::from(double::DIR).join(name));
        let program = double.unwrap_or_else(|| programs::bin_dir().join(name));
        let path = format!("{}:{}", double::DIR, programs::bin_dir().display());
        let (wrapper, arguments) = (Vec::new(), Vec::new());
        let (environment, stdin) = (BTreeMap::new(), Vec::new());
        let call = Self { bed, wrapper, program, arguments, environment, stdin }.cni_path(&path);
        // Ours start no program but delegates. The others start iptables, and look for it.
        if is_reference() { call.env("PATH", programs::SYSTEM_PATH) } else { call }
    }

    /// Another executable of the same kind.
    pub fn program(mut self, path: impl Into<PathBuf>) -> Self {
        self.program = path.into();
        self
    }

    /// What the executable is called.
    pub(crate) fn program_name(&self) -> String {
        let name = self.program.file_name().expect("an executable has a name");
        name.to_string_lossy().into_owned()
    }

    /// Has another program run it: these words come before its own.
    pub fn under(mut self, words: &str) -> Self {
        self.wrapper = words.split_whitespace().map(str::to_owned).collect();
        self
    }

    /// The verb.
    pub fn command(self, verb: &str) -> Self {
        self.env("CNI_COMMAND", verb)
    }

    /// The container's ID.
    pub fn container(self, id: &str) -> Self {
        self.env("CNI_CONTAINERID", id)
    }

    /// The path of the container's network namespace.
    pub fn netns(self, path: &str) -> Self {
        self.env("CNI_NETNS", path)
    }

    /// The name of the interface in the container.
    pub fn ifname(self, name: &str) -> Self {
        self.env("CNI_IFNAME", name)
    }

    /// `CNI_ARGS`.
    pub fn args(self, args: &str) -> Self {
        self.env("CNI_ARGS", args)
    }

    /// Where delegates are looked for.
    pub fn cni_path(self, path: &str) -> Self {
        self.env("CNI_PATH", path)
    }

    /// Any variable of the environment, which is otherwise empty.
    pub fn env(mut self, key: &str, value: &str) -> Self {
        self.environment.insert(key.into(), value.into());
        self
    }

    /// Removes a variable.
    pub fn without(mut self, key: &str) -> Self {
        self.environment.remove(key);
        self
    }

    /// An argument of the command line.
    pub fn argument(mut self, argument: &str) -> Self {
        self.arguments.push(argument.into());
        self
    }

    /// What the plugin reads.
    pub fn stdin(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.stdin = bytes.into();
        self
    }

    /// A network configuration for the plugin to read.
    pub fn config(self, config: &Value) -> Self {
        self.stdin(config.to_string())
    }

    /// Runs it.
    pub fn run(self) -> Outcome {
        let mut command = match self.wrapper.split_first() {
            None => Command::new(&self.program),
            Some((first, words)) => {
                let mut command = Command::new(first);
                command.args(words).arg(&self.program);
                command
            }
        };
        command.args(&self.arguments).env_clear().envs(&self.environment);
        let output = self.bed.execute(&mut command, &self.stdin);
        Outcome {
            status: output.status,
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
            program: self.program,
            environment: self.environment,
            stdin: String::from_utf8_lossy(&self.stdin).into_owned(),
        }
    }
}

/// What came of a call. Displayed, it is everything that one wants to know when it was wrong.
#[derive(Debug, Clone)]
#[must_use = "an outcome that nobody looks at tests nothing"]
pub struct Outcome {
    /// How the plugin exited.
    pub status: ExitStatus,
    /// The answer.
    pub stdout: String,
    /// What was said to the log.
    pub stderr: String,
    program: PathBuf,
    environment: BTreeMap<String, String>,
    stdin: String,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (key, value) in &self.environment {
            write!(f, "{key}={value} ")?;
        }
        writeln!(f, "{}", self.program.display())?;
        writeln!(f, "  stdin:  {}", self.stdin)?;
        writeln!(f, "  {}", self.status)?;
        writeln!(f, "  stdout: {}", self.stdout)?;
        write!(f, "  stderr: {}", self.stderr)
    }
}

/// An error as a plugin reports it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CniError {
    /// The version of the protocol that the error is written in; the reference leaves it out.
    pub cni_version: Option<String>,
    /// One of the specification's codes, or one of the plugin's own.
    pub code: u64,
    /// The sentence for the operator.
    pub msg: String,
    /// More of it.
    pub details: String,
}

impl Outcome {
    /// Asserts success.
    pub fn success(&self) -> &Self {
        assert!(self.status.success(), "the call failed:\n{self}");
        self
    }

    /// Asserts success without an answer, as of every verb but ADD and VERSION.
    pub fn silent(&self) {
        assert!(self.success().stdout.is_empty(), "the call answers:\n{self}");
    }

    /// Asserts success with exactly one JSON object: the result.
    #[must_use]
    pub fn result(&self) -> Value {
        self.success().object()
    }

    /// Asserts failure with exactly one JSON object: the error.
    #[must_use]
    pub fn error(&self) -> CniError {
        assert_eq!(self.status.code(), Some(1), "the call does not fail with status 1:\n{self}");
        let object = self.object();
        let text = |key: &str| Some(object.get(key)?.as_str()?.to_owned());
        CniError {
            cni_version: text("cniVersion"),
            code: object["code"].as_u64().unwrap_or_else(|| panic!("no error code:\n{self}")),
            msg: text("msg").unwrap_or_else(|| panic!("no error message:\n{self}")),
            details: text("details").unwrap_or_default(),
        }
    }

    /// Asserts failure: the error's code.
    #[must_use]
    pub fn error_code(&self) -> u64 {
        self.error().code
    }

    /// Asserts failure with `code` and a text that contains `words`.
    pub fn fails_with(&self, code: u64, words: &str) {
        let error = self.error();
        let text = format!("{}; {}", error.msg, error.details);
        assert_eq!(error.code, code, "expected code {code} and {words:?}:\n{self}");
        assert!(text.contains(words), "expected {words:?}:\n{self}");
    }

    /// The one JSON object on stdout.
    #[must_use]
    pub fn object(&self) -> Value {
        let mut found = serde_json::Deserializer::from_str(&self.stdout).into_iter::<Value>();
        let object = match found.next() {
            Some(Ok(object)) => object,
            Some(Err(error)) => panic!("stdout is not JSON: {error}:\n{self}"),
            None => panic!("nothing on stdout:\n{self}"),
        };
        assert!(object.is_object() && found.next().is_none(), "not one object on stdout:\n{self}");
        object
    }
}
