//! Medians, ratios, and the table as it goes into the README.

use std::{collections::BTreeMap, time::Duration};

use crate::{
    cases::{Case, Goal},
    contender::{Pair, Who},
};

const COLUMNS: usize = 9;

/// What was measured: by case and contender.
#[derive(Debug, Default)]
pub(crate) struct Samples(BTreeMap<(String, Who), [Vec<Duration>; 2]>);

impl Samples {
    pub(crate) fn push(&mut self, case: &Case, who: Who, pair: Pair) {
        let samples = self.0.entry((case.name.clone(), who)).or_default();
        for (all, one) in samples.iter_mut().zip(pair) {
            all.push(one);
        }
    }

    fn summary(&self, case: &str, who: Who, verb: usize) -> Option<Summary> {
        Summary::of(&self.0.get(&(case.to_owned(), who))?[verb])
    }
}

/// What a few numbers say of many; in ms.
#[derive(Debug)]
struct Summary {
    median: f64,
    p95: f64,
    min: f64,
}

impl Summary {
    fn of(samples: &[Duration]) -> Option<Self> {
        let mut sorted: Vec<_> = samples.iter().map(|took| took.as_secs_f64() * 1e3).collect();
        sorted.sort_by(f64::total_cmp);
        // Nearest rank: no figure that was not measured, but for a median between two.
        let rank = (sorted.len() * 95).div_ceil(100).checked_sub(1)?;
        let [low, high] = [sorted.len().div_ceil(2) - 1, sorted.len() / 2];
        let median = f64::midpoint(sorted[low], sorted[high]);
        Some(Self { median, p95: sorted[rank], min: sorted[0] })
    }

    fn cell(&self) -> String {
        format!("{} / {} / {}", number(self.median), number(self.p95), number(self.min))
    }
}

/// Three digits are more than repeat.
fn number(ms: f64) -> String {
    match ms {
        ms if ms < 10.0 => format!("{ms:.2}"),
        ms if ms < 100.0 => format!("{ms:.1}"),
        ms => format!("{ms:.0}"),
    }
}

/// Markdown that can be read as it is.
pub(crate) fn print<'a>(cases: impl Iterator<Item = &'a Case>, samples: &Samples) {
    let mut rows = vec![
        [
            "",
            "Girder",
            "in one",
            "Go, iptables",
            "Go, nft",
            "bare veth pair",
            "Girder / Go",
            "in one / Girder",
            "goal",
        ]
        .map(String::from),
    ];
    for case in cases {
        for (verb, name) in ["ADD", "DEL"].into_iter().enumerate() {
            rows.push(row(case, samples, verb, name));
        }
    }
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max();
    let widths: [usize; COLUMNS] = std::array::from_fn(|column| width(column).unwrap_or_default());
    for (number, row) in rows.iter().enumerate() {
        print_row(row, &widths);
        if number == 0 {
            let rule = widths.map(|width| format!("{}:", "-".repeat(width.saturating_sub(1))));
            print_row(&rule, &widths);
        }
    }
}

fn print_row(row: &[String; COLUMNS], widths: &[usize; COLUMNS]) {
    let [name, figures @ ..] = row;
    let name = name.replace(':', "-");
    print!("| {name:width$} |", width = widths[0]);
    for (cell, width) in figures.iter().zip(&widths[1..]) {
        print!(" {cell:>width$} |");
    }
    println!();
}

fn row(case: &Case, samples: &Samples, verb: usize, name: &str) -> [String; COLUMNS] {
    let of = |who| samples.summary(&case.name, who, verb);
    let [ours, linked, reference, later] =
        [Who::Ours, Who::Linked, Who::Reference, Who::Later].map(of);
    let ratio = |one: &Option<Summary>, other: &Option<Summary>| {
        let both = one.as_ref().zip(other.as_ref());
        both.map(|(one, other)| format!("{:.2}", one.median / other.median))
    };
    let ratios = [&reference, &later].map(|other| ratio(&ours, other));
    let ratios: Vec<_> = ratios.into_iter().flatten().collect();
    let saved = ratio(&linked, &ours).unwrap_or_default();
    let cell = |summary: Option<Summary>| summary.map_or(String::new(), |summary| summary.cell());
    [
        format!("{} {name}", case.name),
        cell(ours),
        cell(linked),
        cell(reference),
        cell(later),
        cell(of(Who::Kernel)),
        ratios.join(", "),
        saved,
        goal(case, samples, verb),
    ]
}

/// The goal; where it is not about the ratio before it, with what was measured.
fn goal(case: &Case, samples: &Samples, verb: usize) -> String {
    let ours = |name: &str| samples.summary(name, Who::Ours, verb).map(|summary| summary.median);
    let than = |other: &str| ours(&case.name).zip(ours(other));
    match case.goals[verb] {
        Goal::None => String::new(),
        Goal::OfReference(goal) => format!("<= {goal:.2}"),
        Goal::Of(other, goal) => {
            let found = than(other).map(|(ours, other)| format!(": {:.2}", ours / other));
            format!("<= {goal:.2} of without{}", found.unwrap_or_default())
        }
        Goal::Above(other, goal) => {
            let found = than(other).map(|(ours, other)| format!(": {:+.2} ms", ours - other));
            format!("< {goal:+.0} ms{}", found.unwrap_or_default())
        }
    }
}
