//! Signals to this process, for programs that run until somebody ends them.

use std::os::fd::OwnedFd;

use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

use super::{Context as _, Result};

/// A descriptor that becomes readable when somebody asks this process to end, by SIGINT or SIGTERM,
/// which do not end it any more (signalfd(2)).
///
/// # Errors
/// When the kernel gives none.
pub fn end_requests() -> Result<OwnedFd> {
    let signals = SigSet::from_iter([Signal::SIGINT, Signal::SIGTERM]);
    let what = || "wait for SIGINT and SIGTERM".to_owned();
    signals.thread_block().doing(what)?;
    let flags = SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC;
    SignalFd::with_flags(&signals, flags).doing(what).map(OwnedFd::from)
}
