//! What a person reads: one line for every step, 80 columns, colour where there is somebody to
//! see it.

use std::{
    env,
    fmt::Display,
    io::{self, IsTerminal as _, Write as _},
    time::Duration,
};

/// Wide enough for the longest sentence, so that what follows stands in a column.
const SENTENCE: usize = 37;

/// What did not hold.
#[derive(Debug)]
pub(crate) struct Wrong {
    expected: String,
    got: String,
}

/// What came of a step: its detail, or what is wrong.
pub(crate) type Step = Result<String, Wrong>;

/// A step that did not hold.
pub(crate) fn wrong<T>(expected: impl Display, got: impl Display) -> Result<T, Wrong> {
    Err(Wrong { expected: expected.to_string(), got: got.to_string() })
}

/// Milliseconds, as all times of this program are.
pub(crate) fn ms(time: Duration) -> String {
    format!("{:.1} ms", time.as_secs_f64() * 1e3)
}

/// Who does not read on misses the text; whether all steps hold is in the exit status.
fn say(line: &str) {
    writeln!(io::stdout(), "{line}").ok();
}

/// Prints, and counts what held.
#[derive(Debug)]
pub(crate) struct Page {
    colour: bool,
    held: usize,
    failed: usize,
}

impl Page {
    /// Plain text for pipes and files, and for those who ask for it (no-color.org).
    pub(crate) fn new() -> Self {
        let unwanted = env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let colour = io::stdout().is_terminal() && !unwanted;
        Self { colour, held: 0, failed: 0 }
    }

    fn paint(&self, code: &str, text: &str) -> String {
        if self.colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    /// Opens a section.
    pub(crate) fn heading(&self, text: &str) {
        say(&format!("\n{}", self.paint("1", text)));
    }

    /// An empty line.
    pub(crate) fn gap(&self) {
        say("");
    }

    /// A line that is neither right nor wrong.
    pub(crate) fn line(&self, text: impl Display) {
        say(&format!("    {text}"));
    }

    /// A line for those who want to know how.
    pub(crate) fn aside(&self, text: &str) {
        say(&format!("    {}", self.paint("2", text)));
    }

    /// One line for a step that held; what was expected otherwise.
    pub(crate) fn step(&mut self, sentence: &str, step: Step) {
        match step {
            Ok(detail) => {
                self.held += 1;
                let line = format!("{sentence:SENTENCE$} {detail}");
                say(&format!("{}  {}", self.paint("32", "ok"), line.trim_end()));
            }
            Err(Wrong { expected, got }) => {
                self.failed += 1;
                say(&format!("{}  {sentence}", self.paint("1;31", "no")));
                say(&format!("    expected  {expected}"));
                say(&format!("    got       {}", got.trim_end().replace('\n', "\n              ")));
            }
        }
    }

    /// The last line; whether everything held.
    pub(crate) fn close(&self, took: Duration) -> bool {
        let (held, all, took) = (self.held, self.held + self.failed, took.as_secs_f64());
        let verdict = format!("{held} of {all} steps held, in {took:.2} s.");
        let code = if self.failed == 0 { "1;32" } else { "1;31" };
        say(&format!("\n{}", self.paint(code, &verdict)));
        self.failed == 0
    }
}
