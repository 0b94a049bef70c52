//! A list that fits a terminal.

use super::Entry;
use std::fmt::Write as _;

/// Narrower, an ID tells nothing.
const LEAST: usize = 8;

/// A line for each lease, at most `width` characters wide if it can be done, by shortening what is
/// longest: IDs and pods. The network is a column only if there are several.
pub fn table(entries: &[Entry], width: Option<usize>) -> String {
    let several = entries.iter().any(|entry| entry.network != entries[0].network);
    let mut rows = vec![row(["NETWORK", "ADDRESS", "CONTAINER", "IF", "POD", "AGE", "STATE"])];
    rows.extend(entries.iter().map(|entry| {
        let addresses: Vec<_> = entry.addresses.iter().map(ToString::to_string).collect();
        row([
            entry.network.as_str(),
            &addresses.join(" "),
            known(&entry.container),
            known(&entry.ifname),
            entry.pod.as_deref().unwrap_or("-"),
            &age(entry.age),
            entry.state,
        ])
    }));
    if !several {
        for row in &mut rows {
            row.remove(0);
        }
    }
    let mut widths = widths(&rows);
    if let Some(width) = width {
        fit(&mut widths, if several { [2, 4] } else { [1, 3] }, width);
    }
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            // Writing to a String cannot fail.
            let _ = write!(line, "{:width$}  ", shortened(cell, *width));
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

fn row(cells: [&str; 7]) -> Vec<String> {
    cells.map(str::to_owned).into()
}

fn known(text: &str) -> &str {
    if text.is_empty() { "-" } else { text }
}

fn widths(rows: &[Vec<String>]) -> Vec<usize> {
    let columns = 0..rows.first().map_or(0, Vec::len);
    let width = |column: usize| {
        rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max()
    };
    columns.map(|column| width(column).unwrap_or_default()).collect()
}

/// Takes from the wider one of the elastic columns until all fits.
fn fit(widths: &mut [usize], elastic: [usize; 2], width: usize) {
    let total = |widths: &[usize]| widths.iter().map(|width| width + 2).sum::<usize>();
    while total(widths) > width + 2 {
        let widest = elastic.into_iter().max_by_key(|column| widths.get(*column));
        match widest.and_then(|column| widths.get_mut(column)) {
            Some(column) if *column > LEAST => *column -= 1,
            _ => return,
        }
    }
}

fn shortened(cell: &str, width: usize) -> String {
    if cell.chars().count() <= width {
        return cell.to_owned();
    }
    cell.chars().take(width.saturating_sub(1)).chain(['…']).collect()
}

/// As `kubectl get` has it: the two greatest units.
fn age(seconds: u64) -> String {
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86400);
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{minutes}m{}s", seconds % 60),
        3600..86400 => format!("{hours}h{}m", minutes % 60),
        _ => format!("{days}d{}h", hours % 24),
    }
}

/// `1 lease`, `2 leases`.
pub fn count(number: usize) -> String {
    if number == 1 { "1 lease".to_owned() } else { format!("{number} leases") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(container: &str, pod: Option<&str>) -> Entry {
        Entry {
            network: "pods".into(),
            addresses: vec!["10.1.0.2".parse().unwrap(), "fd00::2".parse().unwrap()],
            container: container.into(),
            ifname: "eth0".into(),
            pod: pod.map(str::to_owned),
            since: 0,
            age: 3725,
            state: "lives",
            netns: String::new(),
            link: None,
        }
    }

    #[test]
    fn long_names_are_shortened_to_fit_and_only_then() {
        let entries = [entry(&"c".repeat(64), Some("shop/web-0")), entry("", None)];
        let text = table(&entries, Some(80));
        assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
        assert!(text.contains("…") && text.contains("shop/web-0") && text.contains("1h2m"));
        assert!(table(&entries, None).contains(&"c".repeat(64)));
        assert!(table(&entries, Some(10)).contains("ccccccc…"), "no narrower than can be read");
        assert!(!text.contains("NETWORK"));
    }

    #[test]
    fn ages_are_short() {
        for (seconds, text) in [(5, "5s"), (65, "1m5s"), (3600, "1h0m"), (90_000, "1d1h")] {
            assert_eq!(age(seconds), text);
        }
    }
}
