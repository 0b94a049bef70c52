//! A clock that nobody sets.

use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

/// How long the machine has been running, its sleep included (CLOCK_BOOTTIME).
pub fn since_boot() -> Duration {
    // Every kernel that has namespaces has this clock.
    clock_gettime(ClockId::CLOCK_BOOTTIME).map_or(Duration::ZERO, Duration::from)
}
