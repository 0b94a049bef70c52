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

    fn wants(&self, case: &Case) -> bool {
        case.name.contains(&self.only)
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
    let cases: Vec<_> = cases().into_iter().filter(|case| options.wants(case)).collect();
    let parallel: Vec<_> =
        parallel(AT_ONCE).into_iter().filter(|case| options.wants(case)).collect();
    if cases.is_empty() && parallel.is_empty() {
        return Err(format!("nothing has {:?} in its name", options.only));
    }
    let contenders = Contender::all();
    for fact in machine::facts() {
        println!("{fact}");
    }
    if !cases.is_empty() {
        run_singly(&contenders, &cases, options.rounds)?;
    }
    if parallel.is_empty() { Ok(()) } else { run_parallel(&contenders, &parallel) }
}

fn run_singly(contenders: &[Contender], cases: &[Case], rounds: usize) -> Result<(), String> {
    println!("\nMedian / p95 / min of {rounds}, in ms.\n");
    let mut samples = Samples::default();
    for (contender, case) in
        contenders.iter().flat_map(|who| cases.iter().map(move |case| (who, case)))
    {
        contender.fill(case)?;
    }
    for round in 0..WARM_UP + rounds {
        for case in cases.iter().filter(|case| round < WARM_UP + case.rounds(rounds)) {
            for (who, pair) in play(contenders, case, round)? {
                if round >= WARM_UP {
                    samples.push(case, who, pair);
                }
            }
        }
    }
    table::print(cases, &samples);
    Ok(())
}

/// All attach, and then, one after the other, all detach.
fn play(contenders: &[Contender], case: &Case, round: usize) -> Result<Vec<(Who, Pair)>, String> {
    let turn = in_turn(contenders, round).filter(|contender| contender.takes_part(case));
    let attached: Result<Vec<_>, _> = turn.map(|contender| contender.attach(case)).collect();
    let mut pairs = Vec::new();
    for attached in attached? {
        if case.has_link {
            live();
        }
        pairs.push((attached.who(), attached.detach()?));
    }
    Ok(pairs)
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
fn run_parallel(contenders: &[Contender], cases: &[Case]) -> Result<(), String> {
    println!("\n{AT_ONCE} at once, from the first start to the last end, in ms.\n");
    let mut samples = Samples::default();
    for case in cases {
        let takes_part = |who: &&Contender| who.takes_part(case);
        for contender in contenders.iter().filter(takes_part) {
            contender.fill(case)?;
            contender.attach(case)?.detach()?;
        }
        for round in 0..PARALLEL_ROUNDS {
            for contender in in_turn(contenders, round).filter(takes_part) {
                samples.push(case, contender.who(), contender.crowd(case, AT_ONCE)?);
            }
        }
    }
    table::print(cases, &samples);
    Ok(())
}

/// All of them, beginning with another one each round.
fn in_turn(contenders: &[Contender], round: usize) -> impl Iterator<Item = &Contender> {
    contenders.iter().cycle().skip(round % contenders.len()).take(contenders.len())
}
