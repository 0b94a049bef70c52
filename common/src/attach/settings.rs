//! The kernel settings of an interface of the container.

use super::sandbox::Ipv6Addresses;
use crate::net::{self, sysctl};

/// What an interface of the container does about IPv6.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ipv6 {
    pub(crate) addresses: Ipv6Addresses,
    /// Whether routers give it routes, and perhaps the addresses themselves.
    pub(crate) has_routers: bool,
}

/// A kernel setting of the container.
pub(super) struct Setting {
    path: String,
    value: &'static str,
    /// Whether ADD fails without it. Others may fail, because the /proc/sys of an unprivileged
    /// container may be read-only.
    is_needed: bool,
}

impl Setting {
    pub(super) fn apply(&self) -> net::Result<()> {
        match sysctl::set(&self.path, self.value) {
            Err(error) if self.is_needed => Err(error),
            _ => Ok(()),
        }
    }
}

/// The settings of an interface. Without an IPv6 address none of IPv6 is changed, because the kernel
/// may have no IPv6.
pub(super) fn settings(ifname: &str, ipv6: Option<Ipv6>) -> Vec<Setting> {
    let setting = |family, link, key, value, is_needed| Setting {
        path: format!("net/{family}/conf/{link}/{key}"),
        value,
        is_needed,
    };
    // A gratuitous ARP replaces what neighbours remember of an earlier container of this address.
    let mut settings = vec![setting("ipv4", ifname, "arp_notify", "1", false)];
    if let Some(Ipv6 { addresses: mode, has_routers }) = ipv6 {
        let ipv6 = |link, key, value, is_needed| setting("ipv6", link, key, value, is_needed);
        let probe = if mode == Ipv6Addresses::Probed { "1" } else { "0" };
        settings.extend([
            ipv6("lo", "disable_ipv6", "0", true),
            ipv6(ifname, "disable_ipv6", "0", true),
            ipv6(ifname, "keep_addr_on_down", "1", true),
            // Router advertisements would let any container of the link give this one routes
            // (CVE-2020-10749), and are listened to only where the network has others.
            ipv6(ifname, "accept_ra", if has_routers { "2" } else { "0" }, true),
            ipv6(ifname, "accept_dad", probe, false),
            ipv6(ifname, "ndisc_notify", "1", false),
        ]);
        if mode == Ipv6Addresses::Probed {
            // RFC 7527: a probe that a switch loops back is not a duplicate.
            settings.push(ipv6(ifname, "enhanced_dad", "1", false));
        }
    }
    settings
}
