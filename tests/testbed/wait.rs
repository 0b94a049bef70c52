//! Waiting for what comes in its own time: the kernel's, or another program's.

use std::{
    thread,
    time::{Duration, Instant},
};

/// Nothing that is waited for takes longer.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// Asks again and again until there is an answer.
///
/// # Panics
/// When there is none for too long.
#[track_caller]
pub fn until<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(start.elapsed() < PATIENCE, "{what}: it does not come");
        thread::sleep(Duration::from_millis(2));
    }
}

/// Looks again and again until something is so.
///
/// # Panics
/// When it is not for too long.
#[track_caller]
pub fn until_so(what: &str, mut is_so: impl FnMut() -> bool) {
    until(what, || is_so().then_some(()));
}
