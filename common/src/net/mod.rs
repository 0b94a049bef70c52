//! The kernel: namespaces, links, addresses, routes, the packet filter, queues. It uses nothing of CNI.

mod addr;
mod bridge;
mod clock;
pub mod ipproto;
pub mod iptables;
mod link;
mod link_change;
mod link_data;
mod link_local;
mod link_route;
mod link_spec;
mod managed;
mod netfilter;
mod netlink;
mod netns;
mod packet;
mod presence;
mod route;
mod rule;
mod saved_address;
mod signals;
pub mod sysctl;
pub mod sysfs;
mod tap;
pub mod tc;
mod vrf;

use std::io;

pub use addr::{Address, AddressOptions, Mac};
pub(crate) use addr::{list_local, may_be_local};
pub use bridge::{BridgeStatus, Port, Vlan, has_given_mac};
pub use clock::since_boot;
pub(crate) use link::has_link;
pub use link::{Link, index_of};
pub use link_change::LinkChange;
pub use link_data::{IpvlanFlag, IpvlanMode, MacvlanMode, Mode};
pub use link_local::LinkLocalSocket;
pub use link_route::LinkRoute;
pub use link_spec::{LinkKind, LinkSpec, Peer};
pub use netfilter::{conntrack, nft};
pub use netlink::Netlink;
pub use netns::Netns;
pub(crate) use netns::at_home;
pub use packet::{Datagram, PacketSocket};
pub(crate) use presence::Presence;
pub use route::{Family, LOCAL_TABLE, MAIN_TABLE, Route};
pub use rule::{OUR_PROTOCOL, Rule};
pub use signals::end_requests;
pub use tap::Tap;
pub(crate) use tap::label_next_program;

/// What the kernel refused, as a sentence that names the object.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{what}: {reason}")]
pub struct Error {
    what: String,
    reason: String,
    errno: Option<i32>,
}

/// The outcome of a call to the kernel.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// An error that the kernel gave no number for.
    pub(crate) fn new(what: impl Into<String>, reason: impl Into<String>) -> Self {
        Self { what: what.into(), reason: reason.into(), errno: None }
    }

    /// `errno` is the positive number; `hint` is the kernel's own text (extended ack), if it sent one.
    pub(crate) fn from_errno(what: impl Into<String>, errno: i32, hint: Option<&str>) -> Self {
        let text = errno_text(errno);
        let reason = match hint {
            Some(hint) => format!("{text} ({hint})"),
            None => text,
        };
        Self { what: what.into(), reason, errno: Some(errno) }
    }

    /// `reason` replaces the text of `errno`, where that would mislead.
    pub(crate) fn with_errno(
        what: impl Into<String>,
        errno: i32,
        reason: impl Into<String>,
    ) -> Self {
        Self { what: what.into(), reason: reason.into(), errno: Some(errno) }
    }

    /// The same error with another reason, where the kernel's text would mislead.
    pub(crate) fn because(self, reason: &str) -> Self {
        Self { reason: reason.to_owned(), ..self }
    }

    /// The same error, of a kernel that was built without something.
    pub(crate) fn unsupported(self, reason: &str) -> Self {
        Self { errno: Some(nix::libc::EOPNOTSUPP), ..self.because(reason) }
    }

    /// The positive error number, where the kernel gave one.
    pub fn errno(&self) -> Option<i32> {
        self.errno
    }

    /// The object exists already (EEXIST).
    pub fn is_exists(&self) -> bool {
        self.errno == Some(nix::libc::EEXIST)
    }

    /// Something still refers to it (EBUSY).
    pub(crate) fn is_busy(&self) -> bool {
        self.errno == Some(nix::libc::EBUSY)
    }

    /// An interval overlaps another one in part (ENOTEMPTY, of sets of the packet filter).
    pub(crate) fn is_overlap(&self) -> bool {
        self.errno == Some(nix::libc::ENOTEMPTY)
    }

    /// The object, or what it belongs to, does not exist (ENOENT, ENODEV, ENXIO, ESRCH, EADDRNOTAVAIL).
    pub fn is_gone(&self) -> bool {
        use nix::libc::{EADDRNOTAVAIL, ENODEV, ENOENT, ENXIO, ESRCH};
        self.errno
            .is_some_and(|errno| [ENOENT, ENODEV, ENXIO, ESRCH, EADDRNOTAVAIL].contains(&errno))
    }

    /// There is no room for one more of something, as an open file: see [`is_exhausted`].
    pub(crate) fn is_exhausted(&self) -> bool {
        self.errno.is_some_and(is_exhausted)
    }

    /// It may not be done, even by root (EACCES, EPERM).
    pub fn is_denied(&self) -> bool {
        self.errno.is_some_and(|errno| [nix::libc::EACCES, nix::libc::EPERM].contains(&errno))
    }

    /// The kernel was built without it (EOPNOTSUPP, EPROTONOSUPPORT, EAFNOSUPPORT; and ENOTSUPP of
    /// linux/errno.h, which the kernel should keep to itself, of an ipvlan without `l3s`).
    pub fn is_unsupported(&self) -> bool {
        use nix::libc::{EAFNOSUPPORT, EOPNOTSUPP, EPROTONOSUPPORT};
        const ENOTSUPP: i32 = 524;
        let all = [EOPNOTSUPP, EPROTONOSUPPORT, EAFNOSUPPORT, ENOTSUPP];
        self.errno.is_some_and(|errno| all.contains(&errno))
    }
}

/// Whether a call has failed for want of files or memory (EMFILE, ENFILE, ENOMEM), which says nothing about
/// what it was for.
pub(crate) fn is_exhausted(errno: i32) -> bool {
    use nix::libc::{EMFILE, ENFILE, ENOMEM};
    [EMFILE, ENFILE, ENOMEM].contains(&errno)
}

/// The text of the C library, which every other tool on the machine prints.
fn errno_text(errno: i32) -> String {
    let text = io::Error::from_raw_os_error(errno).to_string();
    text.split_once(" (os error").map_or_else(|| text.clone(), |(words, _)| words.to_owned())
}

/// Turns an error of the C library into one that says what was being done.
pub(crate) trait Context<T> {
    fn doing(self, what: impl FnOnce() -> String) -> Result<T>;
}

impl<T> Context<T> for io::Result<T> {
    fn doing(self, what: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|error| match error.raw_os_error() {
            Some(errno) => Error::from_errno(what(), errno, None),
            None => Error::new(what(), error.to_string()),
        })
    }
}

impl<T> Context<T> for nix::Result<T> {
    fn doing(self, what: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|errno| Error::from_errno(what(), errno as i32, None))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_a_sentence_with_the_kernels_reason() {
        let error = Error::from_errno("delete \"lo\"", nix::libc::EOPNOTSUPP, None);
        assert_eq!(error.to_string(), "delete \"lo\": Operation not supported");
        let error = Error::from_errno("find \"x\"", nix::libc::ENODEV, Some("unknown ifindex"));
        assert_eq!(error.to_string(), "find \"x\": No such device (unknown ifindex)");
    }
}
