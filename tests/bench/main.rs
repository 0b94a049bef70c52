//! What an ADD and a DEL cost: ours, the reference's, and of both what the kernel takes anyway.
//!
//! | file | what it is |
//! |---|---|
//! | `main.rs` | the rounds |
//! | `cases.rs` | what is measured, and the goals |
//! | `contender.rs` | a set of plugins on a host of its own, and the clock |
//! | `kernel.rs` | the bare kernel: a veth pair, made and deleted by bytes of our own |
//! | `table.rs` | medians, ratios, and the table of the README |
//! | `machine.rs` | what a reader has to know about the machine |
//!
//! Everything is interleaved, since a machine's speed changes with its load, and the order turns
//! with each round, since some meet what the one before them left to the kernel. A time says
//! little by itself; compare within one run. Nothing is asserted: only an operation that fails
//! makes this fail.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::disallowed_methods,
    reason = "people read what it prints, and it starts programs"
)]

mod cases;
mod contender;
mod kernel;
mod machine;
mod table;

use std::{
    env,
    hash::{BuildHasher as _, Hasher as _, RandomState},
    process::ExitCode,
    thread,
    time::Duration,
};

use crate::{
    cases::{Case, cases, parallel},
    contender::{Contender, Pair, Who},
    table::Samples,
};

/// The first rounds make the bridges and fill the caches; they do not count.
const WARM_UP: usize = 3;
/// How often many are attached at once, and how many.
const PARALLEL_ROUNDS: usize = 3;
const AT_ONCE: usize = 100;

const USAGE: &str = "usage: bench [--rounds N] [--only WORD]
  --rounds N    pairs of ADD and DEL that count (100)
  --only WORD   only what has WORD in its name";

/// What the command line says.
struct Options {
    rounds: usize,
    only: String,
}

impl Options {
    fn parse(mut arguments: impl Iterator<Item = String>) -> Option<Self> {
        let mut options = Self { rounds: 100, only: String::new() };
        while let Some(argument) = arguments.next() {
            let value = arguments.next()?;
            match argument.as_str() {
                "--rounds" => options.rounds = value.parse().ok().filter(|rounds| *rounds > 0)?,
                "--only" => options.only = value,
                _ => return None,
            }
        }
        Some(options)
    }
}

fn main() -> ExitCode {
    let Some(options) = Options::parse(env::args().skip(1)) else {
        eprintln!("{USAGE}");
        return ExitCode::FAILURE;
    };
    match run(&options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Result<(), String> {
    let race = |cases: Vec<Case>| -> Result<Vec<Race>, String> {
        // What this kernel cannot make can be measured in a virtual machine.
        let is_meant = |case: &Case| {
            case.name.contains(&options.only) && !case.kinds().any(testbed::kernel::lacks)
        };
        let cases = cases.into_iter().filter(is_meant);
        cases.map(|case| Ok(Race { contenders: Contender::all(&case)?, case })).collect()
    };
    let (singly, parallel) = (race(cases())?, race(parallel(AT_ONCE))?);
    if singly.is_empty() && parallel.is_empty() {
        return Err(format!("nothing has {:?} in its name", options.only));
    }
    for fact in machine::facts() {
        println!("{fact}");
    }
    if !singly.is_empty() {
        run_singly(&singly, options.rounds)?;
    }
    if parallel.is_empty() { Ok(()) } else { run_parallel(&parallel) }
}

/// What is measured, and by whom, on hosts that see nothing else.
struct Race {
    case: Case,
    contenders: Vec<Contender>,
}

impl Race {
    /// All of them, beginning with another one each round.
    fn in_turn(&self, round: usize) -> impl Iterator<Item = &Contender> {
        let number = self.contenders.len();
        self.contenders.iter().cycle().skip(round % number).take(number)
    }

    /// All attach, and then, one after the other, all detach.
    fn play(&self, round: usize) -> Result<Vec<(Who, Pair)>, String> {
        let attached: Result<Vec<_>, _> =
            self.in_turn(round).map(|contender| contender.attach(&self.case)).collect();
        let mut pairs = Vec::new();
        for attached in attached? {
            if self.case.has_link {
                live();
            }
            pairs.push((attached.who(), attached.detach()?));
        }
        Ok(pairs)
    }
}

fn run_singly(races: &[Race], rounds: usize) -> Result<(), String> {
    println!("\nMedian / p95 / min of {rounds}, in ms.\n");
    let mut samples = Samples::default();
    for round in 0..WARM_UP + rounds {
        for race in races.iter().filter(|race| round < WARM_UP + race.case.rounds(rounds)) {
            for (who, pair) in race.play(round)? {
                if round >= WARM_UP {
                    samples.push(&race.case, who, pair);
                }
            }
        }
    }
    table::print(races.iter().map(|race| &race.case), &samples);
    Ok(())
}

/// A pod lives for a while, and its end comes at any time. A DEL waits for the kernel's next grace
/// period: one that always followed the last deletion, which ends with such a period, would be
/// in step with them, and its time would say more about where it started than about its length.
fn live() {
    const LONGEST: u64 = 40;
    let random = RandomState::new().build_hasher().finish();
    thread::sleep(Duration::from_millis(random % LONGEST) + Duration::from_micros(random % 1000));
}

/// One attachment makes what is shared; then come many at once.
fn run_parallel(races: &[Race]) -> Result<(), String> {
    println!("\n{AT_ONCE} at once, from the first start to the last end, in ms.\n");
    let mut samples = Samples::default();
    for race in races {
        for contender in &race.contenders {
            contender.attach(&race.case)?.detach()?;
        }
        for round in 0..PARALLEL_ROUNDS {
            for contender in race.in_turn(round) {
                samples.push(&race.case, contender.who(), contender.crowd(&race.case, AT_ONCE)?);
            }
        }
    }
    table::print(races.iter().map(|race| &race.case), &samples);
    Ok(())
}
