//! What a test asks of iptables and ip6tables.

use crate::{bed::Testbed, programs::SYSTEM_PATH};

/// Has iptables drop what the host forwards, as Docker leaves it.
pub fn drop_forwarded(bed: &Testbed) {
    for tool in ["iptables", "ip6tables"] {
        bed.succeed(tool, &["-P", "FORWARD", "DROP"]);
    }
}

/// A `PATH` by which ip6tables fails, so that what has been done for IPv4 has to be rolled back.
#[must_use]
pub fn path_without_ip6tables(bed: &Testbed) -> String {
    const DIRECTORY: &str = "/run/test/broken";
    let program = format!("{DIRECTORY}/ip6tables-save");
    bed.succeed("mkdir", &["-p", DIRECTORY]);
    bed.succeed("sh", &["-c", &format!("printf '#!/bin/sh\\nexit 1\\n' >{program}")]);
    bed.succeed("chmod", &["+x", &program]);
    format!("{DIRECTORY}:{SYSTEM_PATH}")
}

/// Both families' tables `nat`, without counters.
#[must_use]
pub fn nat_rules(bed: &Testbed) -> String {
    let text = bed.succeed("sh", &["-c", "iptables-save -t nat; ip6tables-save -t nat"]);
    let lines = text.lines().filter(|line| line.starts_with([':', '-']));
    let uncounted = |line: &str| line.split(" [").next().unwrap_or_default().to_owned() + "\n";
    lines.map(uncounted).collect()
}
