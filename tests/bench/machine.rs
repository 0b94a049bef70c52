//! What a reader has to know about the machine to read the figures.

use std::{fs, path::Path, thread};

use testbed::{REFERENCE, bin_dir, later_reference};

/// Whether the reference can masquerade.
pub(crate) fn has_iptables() -> bool {
    Path::new("/usr/sbin/iptables").exists() || Path::new("/usr/bin/iptables").exists()
}

/// One line each.
pub(crate) fn facts() -> Vec<String> {
    let cores = thread::available_parallelism().map_or(0, usize::from);
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let kernel = read("/proc/sys/kernel/osrelease");
    let load = read("/proc/loadavg");
    let processor = read("/proc/cpuinfo");
    let processor = value_of(&processor, "model name\t").unwrap_or("unknown processor");
    let load = load.split(' ').next().unwrap_or("?");
    let mut facts = vec![
        format!("Linux {}, {cores} cores ({processor}), load {load}", kernel.trim()),
        format!("ours: {}", bin_dir().display()),
    ];
    let packages = read("/var/lib/dpkg/status");
    let package = packages
        .split("\n\n")
        .find(|package| package.starts_with("Package: containernetworking-plugins\n"));
    let version =
        package.and_then(|package| value_of(package, "Version")).unwrap_or("of unknown version");
    facts.push(if !Path::new(REFERENCE).join("bridge").exists() {
        format!("Go: not installed (Debian's containernetworking-plugins, in {REFERENCE})")
    } else if has_iptables() {
        format!("Go: {REFERENCE}, {version}")
    } else {
        format!("Go: {REFERENCE}, {version}; without iptables it does not masquerade")
    });
    facts.push(match later_reference() {
        Some(directory) => format!("Go, nft: {directory}"),
        None => "Go, nft: not here (tests/prepare looks for it)".into(),
    });
    facts
}

/// The value in a line `key: value`.
fn value_of<'text>(text: &'text str, key: &str) -> Option<&'text str> {
    let value = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
    value.map(str::trim)
}
