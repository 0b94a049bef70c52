//! What [`validate`](crate::validate) and [`doctor`](crate::doctor) have to say.

use std::fmt::{self, Display};

/// How bad something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Good to know.
    Note,
    /// Works, and does something else than it says.
    Warning,
    /// Does not work.
    Error,
}

/// Something to say about a configuration, or about a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// How bad it is.
    pub level: Level,
    /// Where in a file, as `plugins[0].ipam.subnet`; empty when it is about all of it, or about a
    /// node.
    pub path: String,
    /// What, as a sentence.
    pub text: String,
    /// What to do about it, where the sentence does not say so itself.
    pub way_out: Option<String>,
}

impl Finding {
    /// About a configuration, which is put right where it is wrong.
    pub(crate) fn at(level: Level, path: impl Into<String>, text: impl Into<String>) -> Self {
        Self { level, path: path.into(), text: text.into(), way_out: None }
    }

    /// About a node whose pods do not have the network that they should have, or will not.
    pub(crate) fn problem(text: impl Into<String>, way_out: impl Into<String>) -> Self {
        Self { way_out: Some(way_out.into()), ..Self::at(Level::Error, "", text) }
    }

    /// About a node, and worth knowing.
    pub(crate) fn note(text: impl Into<String>, way_out: impl Into<String>) -> Self {
        Self { level: Level::Note, ..Self::problem(text, way_out) }
    }
}

impl Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(way_out) = &self.way_out {
            // On a line of its own, because it is often a command that is copied.
            let level = if self.level == Level::Note { "note   " } else { "PROBLEM" };
            return write!(f, "{level}  {}\n         {way_out}", self.text);
        }
        let level = match self.level {
            Level::Note => "note",
            Level::Warning => "warning",
            Level::Error => "error",
        };
        match self.path.as_str() {
            "" => write!(f, "{level}: {}", self.text),
            path => write!(f, "{level}: {path}: {}", self.text),
        }
    }
}

/// Findings as they come together.
#[derive(Debug, Default)]
pub(crate) struct Findings(pub(crate) Vec<Finding>);

impl Findings {
    pub(crate) fn add(&mut self, level: Level, path: impl Into<String>, text: impl Into<String>) {
        self.0.push(Finding::at(level, path, text));
    }
}
