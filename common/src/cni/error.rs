//! What the runtime reads when something fails: a code of the specification and a sentence.

use serde::{Deserialize, Serialize};
use std::fmt::{self, Display};
use std::io::Write as _;

/// The outcome of a call that can fail with an answer for the runtime.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Error codes (specification 1.1.0, section "Error").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    /// 1: the configuration's `cniVersion` is not supported, or does not have the verb.
    IncompatibleVersion,
    /// 4: an environment variable is missing or invalid; the message names it.
    BadEnvironment,
    /// 5: a file or pipe could not be read or written.
    Io,
    /// 6: the input is not JSON, or a stored file is not in its format.
    Decode,
    /// 7: the network configuration is invalid.
    InvalidConfig,
    /// 8: the plugin's own network namespace was given as the container's (as the Go library has it).
    InvalidNetns,
    /// 11: a temporary condition; the runtime should try again later.
    TryAgain,
    /// 50: STATUS: ADD cannot be served.
    Unavailable,
    /// 999: the kernel, or something else that the specification has no code for, refused.
    Internal,
    /// Any other code, as a delegate answered it.
    Other(u32),
}

impl From<Code> for u32 {
    fn from(code: Code) -> Self {
        match code {
            Code::IncompatibleVersion => 1,
            Code::BadEnvironment => 4,
            Code::Io => 5,
            Code::Decode => 6,
            Code::InvalidConfig => 7,
            Code::InvalidNetns => 8,
            Code::TryAgain => 11,
            Code::Unavailable => 50,
            Code::Internal => 999,
            Code::Other(code) => code,
        }
    }
}

impl From<u32> for Code {
    fn from(code: u32) -> Self {
        match code {
            1 => Self::IncompatibleVersion,
            4 => Self::BadEnvironment,
            5 => Self::Io,
            6 => Self::Decode,
            7 => Self::InvalidConfig,
            8 => Self::InvalidNetns,
            11 => Self::TryAgain,
            50 => Self::Unavailable,
            999 => Self::Internal,
            code => Self::Other(code),
        }
    }
}

impl Serialize for Code {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u32((*self).into())
    }
}

impl<'de> Deserialize<'de> for Code {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        u32::deserialize(deserializer).map(Self::from)
    }
}

/// An error result without its `cniVersion`, which is added when it is written to stdout.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub struct Error {
    code: Code,
    msg: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    details: String,
}

impl Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.msg)?;
        if self.details.is_empty() { Ok(()) } else { write!(f, "; {}", self.details) }
    }
}

impl Error {
    /// `msg` names the object, and what to do about it where that is not obvious.
    pub fn new(code: Code, msg: impl Into<String>) -> Self {
        Self { code, msg: msg.into(), details: String::new() }
    }

    /// Code 7.
    pub fn config(msg: impl Into<String>) -> Self {
        Self::new(Code::InvalidConfig, msg)
    }

    /// Code 999.
    pub fn internal(msg: impl Into<String>) -> Self {
        Self::new(Code::Internal, msg)
    }

    /// The error that STATUS answers with where ADD would fail with this one: code 50.
    #[must_use]
    pub fn unavailable(self) -> Self {
        Self { code: Code::Unavailable, ..self }
    }

    /// Adds the longer text that a runtime may log but not show.
    #[must_use]
    pub fn details(mut self, details: impl Into<String>) -> Self {
        self.details = details.into();
        self
    }

    /// Puts `context: ` before the sentence; the code stays.
    #[must_use]
    pub fn context(mut self, context: impl Display) -> Self {
        self.msg = format!("{context}: {}", self.msg);
        self
    }

    /// The code of the specification.
    pub fn code(&self) -> Code {
        self.code
    }
}

/// Gives the error of any call its code and its object.
pub trait Context<T> {
    /// Keeps the code of an [`Error`] and puts `context: ` before its sentence.
    ///
    /// # Errors
    /// The same one, with its context.
    fn context(self, context: impl Display) -> Result<T>;
}

impl<T> Context<T> for Result<T> {
    fn context(self, context: impl Display) -> Result<T> {
        self.map_err(|error| error.context(context))
    }
}

impl<T> Context<T> for std::io::Result<T> {
    /// Code 5.
    fn context(self, context: impl Display) -> Result<T> {
        self.map_err(|error| Error::new(Code::Io, format!("{context}: {error}")))
    }
}

/// The errors of DEL and GC, which carry on after an error and report all of them at the end.
#[must_use]
#[derive(Debug, Default)]
pub struct Errors(Vec<Error>);

impl Errors {
    /// Records the error of one step; returns its value if it has none.
    pub fn note<T, E: Into<Error>>(&mut self, outcome: Result<T, E>) -> Option<T> {
        outcome.map_err(|error| self.0.push(error.into())).ok()
    }

    /// Runs `work`, and returns the errors that it recorded as [`into_result`](Self::into_result)
    /// does.
    ///
    /// # Errors
    /// When it recorded at least one.
    pub fn collect(work: impl FnOnce(&mut Self)) -> Result<()> {
        let mut errors = Self::default();
        work(&mut errors);
        errors.into_result()
    }

    /// All errors as one, with the code of the first.
    ///
    /// # Errors
    /// When there was at least one.
    pub fn into_result(self) -> Result<()> {
        let Some(first) = self.0.first() else { return Ok(()) };
        if let [only] = &self.0[..] {
            return Err(only.clone());
        }
        let sentences: Vec<_> = self.0.iter().map(ToString::to_string).collect();
        Err(Error::new(first.code, sentences.join("; ")))
    }
}

/// Writes one line for the operator to stderr, which runtimes log.
pub fn report(text: impl Display) {
    // A closed stderr is no reason to fail an ADD or a DEL.
    drop(writeln!(std::io::stderr(), "{text}"));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_keep_the_first_code_and_every_sentence() {
        let mut errors = Errors::default();
        assert_eq!(errors.note(Ok::<_, Error>(7)), Some(7));
        assert!(errors.note(Err::<(), _>(Error::config("one"))).is_none());
        assert!(errors.note(Err::<(), _>(Error::internal("two").details("why"))).is_none());
        let error = errors.into_result().unwrap_err();
        assert_eq!(error.code(), Code::InvalidConfig);
        assert_eq!(error.to_string(), "one; two; why");
    }

    #[test]
    fn codes_survive_the_wire() {
        for code in [0, 1, 2, 3, 4, 5, 6, 7, 8, 11, 50, 51, 100, 999] {
            assert_eq!(u32::from(Code::from(code)), code);
        }
    }
}
