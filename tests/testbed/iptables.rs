//! What a test asks of iptables and ip6tables.

use crate::bed::Testbed;

/// Has iptables drop what the host forwards, as Docker leaves it.
pub fn drop_forwarded(bed: &Testbed) {
    for tool in ["iptables", "ip6tables"] {
        bed.succeed(tool, &["-P", "FORWARD", "DROP"]);
    }
}

/// Both families' tables `nat`, without counters.
#[must_use]
pub fn nat_rules(bed: &Testbed) -> String {
    let text = bed.succeed("sh", &["-c", "iptables-save -t nat; ip6tables-save -t nat"]);
    let lines = text.lines().filter(|line| line.starts_with([':', '-']));
    let uncounted = |line: &str| line.split(" [").next().unwrap_or_default().to_owned() + "\n";
    lines.map(uncounted).collect()
}
