//! How full the ranges are.

use super::Leased;
use common::cni::Context as _;
use common::{Result, file};
use host_local::range::{RangeSet, number};
use host_local::reclaim::State;
use host_local::store::Store;
use serde::Serialize;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;

/// A range set in numbers of addresses. As JSON it is stable: keys may be added.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Stats {
    /// The network's name.
    pub network: String,
    /// The index of the range set.
    pub range_set: usize,
    /// Its ranges, first to last.
    pub ranges: String,
    /// That can be handed out at all.
    pub size: u128,
    /// That somebody holds.
    pub used: u128,
    /// Of those: that look as if nobody held them any more.
    pub leaked: u128,
    /// That are free, and kept for a pod that may come back (`sticky`).
    pub kept: u128,
    /// That nobody holds, those that are kept among them.
    pub free: u128,
    /// The longest stretch of free addresses.
    pub largest_free: u128,
    /// When the lease file was last changed, in seconds since 1970; 0 if there is none.
    pub changed: u64,
}

impl Stats {
    /// In hundredths of its size, rounded.
    pub fn percent(&self) -> u128 {
        (self.used * 100 + self.size / 2) / self.size.max(1)
    }
}

/// The range sets of a network. Changes nothing.
///
/// # Errors
/// Code 5, 6 and 11, as of host-local itself.
pub fn stats(leased: &Leased) -> Result<Vec<Stats>> {
    let (mut held, mut kept) = (Vec::new(), Vec::new());
    if let Some(mut store) = Store::look(&leased.pool)? {
        let boot = store.boot().to_owned();
        let (leases, former) = (store.leases()?, store.kept()?);
        drop(store);
        for lease in &leases {
            let leaked = State::of(lease, &boot).looks_leaked();
            held.extend(lease.addresses.iter().map(|ip| (*ip, leaked)));
        }
        kept.extend(former.into_iter().flat_map(|lease| lease.addresses));
    }
    let file = leased.pool.directory.join("leases").metadata().and_then(|file| file.modified());
    let changed = file.ok().and_then(|time| time.duration_since(std::time::UNIX_EPOCH).ok());
    let of_set = |(range_set, set): (usize, &RangeSet)| {
        let of_set: Vec<_> = held.iter().filter(|(ip, _)| set.is_usable(*ip)).collect();
        let mut taken: Vec<_> = of_set.iter().map(|(ip, _)| number(*ip)).collect();
        let used = wide(taken.len());
        Stats {
            network: leased.name.to_string(),
            range_set,
            ranges: set.to_string(),
            size: set.size(),
            used,
            leaked: wide(of_set.iter().filter(|(_, leaked)| *leaked).count()),
            kept: wide(kept.iter().filter(|ip| set.is_usable(**ip)).count()),
            free: set.size() - used,
            largest_free: largest_free(set, &mut taken),
            changed: changed.map_or(0, |since| since.as_secs()),
        }
    };
    Ok(leased.plan.sets.iter().enumerate().map(of_set).collect())
}

fn wide(number: usize) -> u128 {
    u128::try_from(number).unwrap_or(u128::MAX)
}

fn largest_free(set: &RangeSet, taken: &mut [u128]) -> u128 {
    taken.sort_unstable();
    let mut largest = 0;
    for interval in set.after(None) {
        // None behind the last address of all.
        let mut start = Some(interval.first);
        for address in
            taken.iter().filter(|address| (interval.first..=interval.last).contains(address))
        {
            largest = largest.max(start.map_or(0, |start| address.saturating_sub(start)));
            start = address.checked_add(1);
        }
        let end = start.filter(|start| *start <= interval.last);
        largest = largest.max(end.map_or(0, |start| (interval.last - start).saturating_add(1)));
    }
    largest
}

/// The figures in Prometheus' text format.
pub fn prometheus(all: &[Stats]) -> String {
    let mut text = String::new();
    let mut metric = |name: &str, help: &str, value: fn(&Stats) -> u128| {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "# HELP girder_leases_{name} {help}");
        let _ = writeln!(text, "# TYPE girder_leases_{name} gauge");
        for stats in all {
            let (network, set) = (&stats.network, stats.range_set);
            let labels = format!("network=\"{network}\",range_set=\"{set}\"");
            let _ = writeln!(text, "girder_leases_{name}{{{labels}}} {}", value(stats));
        }
    };
    metric("size", "Addresses that can be handed out.", |stats| stats.size);
    metric("used", "Addresses that are held.", |stats| stats.used);
    metric("leaked", "Addresses whose holder looks gone.", |stats| stats.leaked);
    metric("kept", "Free addresses that are kept for a pod.", |stats| stats.kept);
    metric("largest_free", "Longest stretch of free addresses.", |stats| stats.largest_free);
    metric("changed_seconds", "Last change of the lease file, since 1970.", |stats| {
        stats.changed.into()
    });
    text
}

/// Replaces a file, which whoever reads it sees as it was or as it is now.
///
/// # Errors
/// Code 5; then the old file is there.
pub fn write_atomically(path: &Path, text: &str) -> Result<()> {
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(format!(".{}", std::process::id()));
    let written =
        file::replace(path, Path::new(&temporary), 0o644, |file| file.write_all(text.as_bytes()));
    written.map(drop).context(format_args!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use host_local::range::Limits;

    #[test]
    fn the_largest_stretch_is_between_what_is_taken() {
        let limits = Limits { subnet: "10.1.0.0/28".parse().ok(), ..Limits::default() };
        let set = RangeSet::new(&[limits]).unwrap();
        let largest = |taken: &[&str]| {
            let mut taken: Vec<_> = taken.iter().map(|ip| number(ip.parse().unwrap())).collect();
            largest_free(&set, &mut taken)
        };
        assert_eq!(largest(&[]), 13);
        assert_eq!(largest(&["10.1.0.4", "10.1.0.10"]), 5);
        assert_eq!(largest(&["10.1.0.14", "10.1.0.2"]), 11);
        let limits =
            Limits { subnet: "ffff:ffff:ffff:ffff::/64".parse().ok(), ..Limits::default() };
        let set = RangeSet::new(&[limits]).unwrap();
        let last = u128::MAX;
        assert_eq!(largest_free(&set, &mut []), (1 << 64) - 2);
        assert_eq!(largest_free(&set, &mut [last]), (1 << 64) - 3);
        assert_eq!(largest_free(&set, &mut [last, last - 9]), (1 << 64) - 12);
    }
}
