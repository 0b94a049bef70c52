//! Signals to this process, for programs that run until somebody ends them.

use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use std::io;
use std::os::fd::OwnedFd;

/// A descriptor that becomes readable when somebody asks this process to end, by SIGINT or SIGTERM,
/// which do not end it any more (signalfd(2)).
///
/// # Errors
/// When the kernel gives none.
pub fn end_requests() -> io::Result<OwnedFd> {
    let signals = SigSet::from_iter([Signal::SIGINT, Signal::SIGTERM]);
    signals.thread_block()?;
    let flags = SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC;
    Ok(SignalFd::with_flags(&signals, flags)?.into())
}
