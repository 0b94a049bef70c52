//! The iptables programs: for configurations that ask for them by name, and for hosts whose own rules
//! are in their tables. iptables-nft and iptables-legacy take the same arguments.

use super::{Context, Error, Family, Result};
use nix::fcntl::{Flock, FlockArg};
use std::fs::File;
use std::io::{ErrorKind, Write as _};
use std::path::Path;
use std::process::{Command, Output, Stdio};

/// Where the programs are looked for if `PATH` has none: the service of a runtime may have a short
/// `PATH`.
const DIRECTORIES: [&str; 3] = ["/usr/sbin", "/sbin", "/usr/local/sbin"];

/// For how many seconds to wait for the lock of iptables-legacy.
const WAIT: &str = "--wait=10";

fn program(family: Family, action: &str) -> String {
    let name = if family == Family::V4 { "iptables" } else { "ip6tables" };
    format!("{name}-{action}")
}

/// A table as `iptables-save` writes it, line by line.
///
/// # Errors
/// [`Error::is_gone`] if the program is not installed; else what it wrote to stderr.
pub fn save(family: Family, table: &str) -> Result<Vec<String>> {
    let output = run(&program(family, "save"), &["-t", table], "")?;
    Ok(String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect())
}

/// Makes all changes of a script of `iptables-restore`, or none. What the script does not name
/// stays; a chain that it declares (`:NAME`) is emptied.
///
/// # Errors
/// As [`save`].
fn restore(family: Family, script: &str) -> Result<()> {
    run(&program(family, "restore"), &["--noflush", WAIT], script).map(drop)
}

/// As [`save`], by iptables-legacy, even if `iptables` of this host is iptables-nft.
///
/// # Errors
/// As [`save`].
pub(crate) fn save_legacy(family: Family, table: &str) -> Result<Vec<String>> {
    let output = run_legacy(family, "save", &["-t", table], "")?;
    Ok(String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect())
}

/// As [`restore`], by iptables-legacy.
///
/// # Errors
/// As [`save`].
pub(crate) fn restore_legacy(family: Family, script: &str) -> Result<()> {
    run_legacy(family, "restore", &["--noflush", WAIT], script).map(drop)
}

/// A host with iptables-legacy alone has it under the short names only.
fn run_legacy(family: Family, action: &str, arguments: &[&str], stdin: &str) -> Result<Output> {
    match run(&program(family, &format!("legacy-{action}")), arguments, stdin) {
        Err(error) if error.is_gone() => run(&program(family, action), arguments, stdin),
        outcome => outcome,
    }
}

/// Whether the kernel has a table of iptables-legacy, which nft(8) and iptables-nft do not show.
pub fn has_legacy(family: Family, table: &str) -> bool {
    let version = if family == Family::V4 { "ip" } else { "ip6" };
    let names = std::fs::read_to_string(format!("/proc/net/{version}_tables_names"));
    names.is_ok_and(|names| names.lines().any(|name| name == table))
}

/// The match that carries a comment, whose quotes are escaped.
pub fn comment(text: &str) -> String {
    format!("-m comment --comment \"{text}\"")
}

/// A rule, as `iptables-save` writes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    chain: String,
    is_first: bool,
    spec: String,
}

impl Rule {
    /// A rule that is put before all others of its chain.
    pub fn first(chain: &str, spec: String) -> Self {
        Self { chain: chain.to_owned(), is_first: true, spec }
    }

    /// A rule that is put behind them.
    pub fn last(chain: &str, spec: String) -> Self {
        Self { chain: chain.to_owned(), is_first: false, spec }
    }

    /// A line of [`save`].
    pub fn saved(&self) -> String {
        format!("-A {} {}", self.chain, self.spec)
    }

    /// A line of a script that adds it.
    pub fn added(&self) -> String {
        if self.is_first { format!("-I {} 1 {}", self.chain, self.spec) } else { self.saved() }
    }

    /// A line of a script that deletes it.
    pub fn deleted(&self) -> String {
        format!("-D {} {}", self.chain, self.spec)
    }
}

/// Those of the rules that are not in a table.
pub fn missing(saved: &[String], rules: &[Rule]) -> Vec<Rule> {
    rules.iter().filter(|rule| !saved.contains(&rule.saved())).cloned().collect()
}

/// Makes those of the rules that are missing, with their chains.
///
/// # Errors
/// As [`save`].
pub fn ensure(family: Family, table: &'static str, chains: &[&str], rules: &[Rule]) -> Result<()> {
    LockedTable::open(family, table)?.ensure(chains, rules, "")
}

/// A table as it is, which no other plugin changes until this is dropped.
#[derive(Debug)]
#[must_use]
pub struct LockedTable {
    family: Family,
    name: &'static str,
    saved: Vec<String>,
    _lock: Lock,
}

impl LockedTable {
    /// # Errors
    /// As [`save`].
    pub fn open(family: Family, name: &'static str) -> Result<Self> {
        let lock = lock()?;
        Ok(Self { family, name, saved: save(family, name)?, _lock: lock })
    }

    /// Whether it has a chain.
    pub fn has_chain(&self, name: &str) -> bool {
        declares(&self.saved, name)
    }

    /// Those of the rules that are not in it.
    pub fn missing(&self, rules: &[Rule]) -> Vec<Rule> {
        missing(&self.saved, rules)
    }

    /// Makes those of the rules that are missing, with their chains, and then what the lines of a
    /// script say: all of it is done, or none.
    ///
    /// # Errors
    /// As [`save`].
    pub fn ensure(&self, chains: &[&str], rules: &[Rule], lines: &str) -> Result<()> {
        let new = chains.iter().filter(|chain| !declares(&self.saved, chain));
        let new = new.map(|chain| format!("-N {chain}\n"));
        let missing = self.missing(rules);
        let added = missing.iter().map(|rule| rule.added() + "\n");
        if missing.is_empty() && lines.is_empty() {
            return Ok(());
        }
        let all: String = new.chain(added).chain([lines.to_owned()]).collect();
        self.restore(&all)
    }

    /// Deletes every copy of these rules.
    ///
    /// # Errors
    /// As [`save`].
    pub fn delete(&self, rules: &[Rule]) -> Result<()> {
        let copies = |rule: &Rule| self.saved.iter().filter(|line| **line == rule.saved()).count();
        let lines = |rule: &Rule| (rule.deleted() + "\n").repeat(copies(rule));
        self.restore(&rules.iter().map(lines).collect::<String>())
    }

    /// What a chain is like now, and which rules jump to it.
    pub fn remember(&self, chain: &str) -> EarlierChain {
        let saved = self.saved.clone();
        EarlierChain { family: self.family, table: self.name, chain: chain.to_owned(), saved }
    }

    fn restore(&self, lines: &str) -> Result<()> {
        if lines.is_empty() {
            return Ok(());
        }
        restore(self.family, &format!("*{}\n{lines}COMMIT\n", self.name))
    }
}

fn declares(saved: &[String], chain: &str) -> bool {
    saved.iter().any(|line| line.starts_with(&format!(":{chain} ")))
}

/// A chain as it was before a change: it, or that it was not there, and the rules that jumped to it.
#[derive(Debug)]
pub struct EarlierChain {
    family: Family,
    table: &'static str,
    chain: String,
    saved: Vec<String>,
}

impl EarlierChain {
    /// Makes it so again.
    ///
    /// # Errors
    /// As [`save`].
    pub fn roll_back(&self) -> Result<()> {
        let now = LockedTable::open(self.family, self.table)?;
        now.restore(&self.rollback(&now.saved))
    }

    /// Lines of a script that delete the rules that jumped to the chain.
    pub fn without_jumps(&self) -> String {
        self.jumps(&self.saved).into_iter().map(|rule| format!("-D {rule}\n")).collect()
    }

    /// The lines of a script that makes it so again, where the table is like this.
    fn rollback(&self, now: &[String]) -> String {
        let (chain, mut added, mut lost) = (&self.chain, self.jumps(now), Vec::new());
        for earlier in self.jumps(&self.saved) {
            match added.iter().position(|rule| *rule == earlier) {
                Some(at) => drop(added.swap_remove(at)),
                None => lost.push(earlier),
            }
        }
        let mut lines: String = added.iter().map(|rule| format!("-D {rule}\n")).collect();
        if declares(&self.saved, chain) {
            lines.push_str(&format!(":{chain} - [0:0]\n"));
            let own = format!("-A {chain} ");
            let rules = self.saved.iter().filter(|line| line.starts_with(&own));
            lines.extend(rules.map(|line| format!("{line}\n")));
            lines.extend(lost.iter().map(|rule| format!("-A {rule}\n")));
        } else if declares(now, chain) {
            lines.push_str(&format!("-F {chain}\n-X {chain}\n"));
        }
        lines
    }

    fn jumps<'a>(&self, saved: &'a [String]) -> Vec<&'a str> {
        let end = format!(" -j {}", self.chain);
        let rules = saved.iter().filter_map(|line| line.strip_prefix("-A "));
        rules.filter(|rule| rule.ends_with(&end)).collect()
    }
}

/// The lock of this network namespace's tables, held until it is dropped.
#[derive(Debug)]
#[must_use]
pub(crate) struct Lock {
    _held: Flock<File>,
}

/// Locks out other plugins that look for missing rules and add them: iptables-nft has no lock of its
/// own, and would add a rule twice. What is locked is the file of the network namespace, so that no
/// lock file is left behind.
///
/// # Errors
/// When the file cannot be opened.
pub(crate) fn lock() -> Result<Lock> {
    const NAMESPACE: &str = "/proc/thread-self/ns/net";
    let what = || "lock the tables of iptables".to_owned();
    let file = File::open(NAMESPACE).doing(what)?;
    let held = Flock::lock(file, FlockArg::LockExclusive).map_err(|(_, errno)| errno);
    Ok(Lock { _held: held.doing(what)? })
}

fn run(program: &str, arguments: &[&str], stdin: &str) -> Result<Output> {
    let what = || format!("run {program}");
    let others = DIRECTORIES.map(|directory| format!("{directory}/{program}"));
    let mut spawned = start(program, arguments);
    for path in others.iter().filter(|path| Path::new(path).exists()) {
        if !matches!(&spawned, Err(error) if error.kind() == ErrorKind::NotFound) {
            break;
        }
        spawned = start(path, arguments);
    }
    let mut child = spawned.doing(what)?;
    if let Some(mut pipe) = child.stdin.take() {
        match pipe.write_all(stdin.as_bytes()) {
            // EPIPE: the program has ended before it has read everything, and its stderr says why.
            Err(error) if error.kind() != ErrorKind::BrokenPipe => {
                drop(pipe);
                drop(child.wait_with_output());
                return Err(error).doing(what);
            }
            _ => {}
        }
    }
    let output = child.wait_with_output().doing(what)?;
    if output.status.success() {
        return Ok(output);
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let said = said.split_whitespace().collect::<Vec<_>>().join(" ");
    Err(Error::new(what(), if said.is_empty() { output.status.to_string() } else { said }))
}

#[expect(clippy::disallowed_methods, reason = "iptables was asked for, or is what has to be asked")]
fn start(program: &str, arguments: &[&str]) -> std::io::Result<std::process::Child> {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn()
}
