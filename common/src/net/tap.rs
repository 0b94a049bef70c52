//! Taps: links whose other end is a program that reads and writes frames, as that of a virtual machine
//! (Documentation/networking/tuntap.rst). rtnetlink shows them, but only /dev/net/tun makes them.

use std::fs;

use netlink_packet_core::Nla as _;
use netlink_packet_route::link::{InfoData, InfoTun};
use nix::libc;
use tokio_tun::TunBuilder;

use super::netlink::with_runtime;
use super::{Context, Error, Netlink, Result};

/// `IFF_TAP` of linux/if_tun.h, as opposed to a tun, which takes packets without the Ethernet header.
const IFF_TAP: u32 = 2;

const DEVICE: &str = "/dev/net/tun";

/// What only a tap has of all links.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tap {
    /// The user who may open it; `None` for those only who administer the network.
    pub owner: Option<u32>,
    /// The group whose members may open it.
    pub group: Option<u32>,
    /// Whether several queues may be open at a time.
    pub multi_queue: bool,
}

impl Tap {
    /// Whether this host can make taps at all.
    ///
    /// # Errors
    /// When it has no /dev/net/tun.
    pub(crate) fn probe() -> Result<()> {
        fs::metadata(DEVICE).map(drop).doing(|| format!("find {DEVICE}"))
    }

    /// Makes such a tap in the namespace of the calling thread, down, which stays until it is deleted. The
    /// kernel deletes what a process that is killed meanwhile has not finished.
    ///
    /// # Errors
    /// When the kernel has no taps, or another link has the name.
    pub(crate) fn create(&self, name: &str) -> Result<()> {
        let mut builder = TunBuilder::new().name(name).tap().persist();
        if let Some(owner) = self.owner {
            builder = builder.owner(owner.cast_signed());
        }
        if let Some(group) = self.group {
            builder = builder.group(group.cast_signed());
        }
        if self.multi_queue {
            // A second queue is what tells the kernel that there may be many.
            builder = builder.queues(2);
        }
        // Its files are closed at once: who opens the tap later makes queues of its own.
        let made = with_runtime(|runtime| {
            let _context = runtime.enter();
            builder.build().map(drop)
        })?;
        made.map_err(|error| explain(name, &error))
    }
}

/// Has the next program that the calling thread starts run with an SELinux label, or as usual (`None`).
///
/// # Errors
/// When this kernel has no SELinux, or its policy no such label.
pub(crate) fn label_next_program(label: Option<&str>) -> Result<()> {
    // A line that is empty removes the label (`selinux_lsm_setattr` in security/selinux/hooks.c).
    let written = fs::write("/proc/thread-self/attr/exec", label.unwrap_or("\n"));
    written.doing(|| format!("set the SELinux label {:?}", label.unwrap_or_default()))
}

fn explain(name: &str, error: &tokio_tun::Error) -> Error {
    let errno = match error {
        tokio_tun::Error::NixError(errno) => Some(*errno as i32),
        tokio_tun::Error::IoError(error) => error.raw_os_error(),
    };
    let what = format!("create tap {name:?}");
    match errno {
        Some(errno @ (libc::ENOENT | libc::ENODEV | libc::ENXIO)) => {
            Error::with_errno(what, errno, "this host has no /dev/net/tun (CONFIG_TUN)")
        }
        Some(errno) => Error::from_errno(what, errno, None),
        None => Error::new(what, error.to_string()),
    }
}

impl Netlink {
    /// What a tap was made with; `None` for a link that is none.
    ///
    /// # Errors
    /// [`Error::is_gone`] if there is no such link.
    pub fn read_tap(&self, index: u32) -> Result<Option<Tap>> {
        let Some(InfoData::Tun(data)) = self.read_data(index)? else { return Ok(None) };
        Ok(decode(&data))
    }
}

/// The numbers are those of `IFLA_TUN_` in linux/if_link.h.
fn decode(data: &[InfoTun]) -> Option<Tap> {
    let value = |kind: u16| {
        let found = data.iter().find(|one| one.kind() == kind)?;
        let mut bytes = vec![0; found.value_len()];
        found.emit_value(&mut bytes);
        match bytes[..] {
            [byte] => Some(u32::from(byte)),
            _ => bytes.try_into().ok().map(u32::from_ne_bytes),
        }
    };
    let tap = Tap { owner: value(1), group: value(2), multi_queue: value(7) == Some(1) };
    (value(3) == Some(IFF_TAP)).then_some(tap)
}
