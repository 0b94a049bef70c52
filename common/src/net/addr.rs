//! Addresses of links: hardware addresses, and those of both address families.

use std::fmt;
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};
use std::str::FromStr;
use std::time::Duration;

use ipnetwork::IpNetwork;
use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::address::{AddressAttribute, AddressFlags, AddressMessage};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use nix::libc;
use sha2::{Digest, Sha256};

use super::{Context, Error, Netlink, Result};

/// `RTNLGRP_IPV6_IFADDR` of linux/rtnetlink.h. Its messages carry the sequence number 0
/// (`inet6_ifa_notify` in net/ipv6/addrconf.c), so they are never taken for an answer.
const IPV6_ADDRESSES: u32 = 9;

/// Whether an address may be one of this host: `false` is certain, because no socket can be bound to
/// it. `true` is not: a socket can also be bound to a broadcast address, to any address where the
/// administrator allows it (`ip_nonlocal_bind`), and to any IPv4 address in a namespace that never had
/// one, that of lo included (`__inet_dev_addr_type` in net/ipv4/fib_frontend.c). It takes microseconds.
pub(crate) fn may_be_local(address: IpAddr) -> bool {
    UdpSocket::bind((address, 0)).is_ok()
}

/// The networks that the kernel delivers to this host itself, most of which are one address. They are
/// read from /proc, so that an IPAM plugin needs no netlink socket, nor the code for one.
///
/// # Errors
/// When a file of /proc cannot be read.
pub(crate) fn list_local() -> Result<Vec<IpNetwork>> {
    let read = |name: &str| {
        // /proc/net shows the namespace of the process's first thread.
        let path = format!("/proc/thread-self/net/{name}");
        match std::fs::read_to_string(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(String::new()),
            text => text.doing(|| format!("read {path}")),
        }
    };
    let mut local = local_routes(&read("fib_trie")?);
    local.extend(read("if_inet6")?.lines().filter_map(|line| {
        let bits = u128::from_str_radix(line.split(' ').next()?, 16).ok()?;
        Some(IpNetwork::from(IpAddr::from(Ipv6Addr::from_bits(bits))))
    }));
    Ok(local)
}

/// The LOCAL routes in /proc/net/fib_trie (`fib_trie_seq_show` in net/ipv4/fib_trie.c): the line of a
/// key (`|-- 10.1.0.1`) is followed by one for each prefix length of it (`/32 host LOCAL`).
fn local_routes(tries: &str) -> Vec<IpNetwork> {
    let (mut key, mut local) = (None, Vec::new());
    for line in tries.lines().map(str::trim_start) {
        if let Some(leaf) = line.strip_prefix("|-- ") {
            key = leaf.trim_end().parse::<Ipv4Addr>().ok();
        } else if let Some((prefix, rest)) = line.strip_prefix('/').and_then(|l| l.split_once(' '))
            && rest.split(' ').any(|word| word == "LOCAL")
        {
            let network = key.zip(prefix.parse().ok());
            local.extend(network.and_then(|(key, len)| IpNetwork::new(key.into(), len).ok()));
        }
    }
    local
}

/// The hardware address of an Ethernet link: six bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Mac(pub [u8; 6]);

impl Mac {
    /// A random, locally administered unicast address.
    ///
    /// # Errors
    /// If /dev/urandom cannot be read.
    pub fn random() -> Result<Self> {
        let mut bytes = [0; 6];
        File::open("/dev/urandom")
            .and_then(|mut file| file.read_exact(&mut bytes))
            .doing(|| "read /dev/urandom for a MAC address".into())?;
        Ok(Self::local(bytes))
    }

    /// An address for a link of this host that is the same after every reboot, so that what neighbours
    /// remember stays true, and different on every machine (machine-id(5)). On a machine without an
    /// ID it is random.
    ///
    /// # Errors
    /// As [`Mac::random`].
    pub fn of_host(link: &str) -> Result<Self> {
        match std::fs::read_to_string("/etc/machine-id") {
            Ok(machine) if !machine.trim().is_empty() => {
                Ok(Self::stable(format!("{} {link}", machine.trim()).as_bytes()))
            }
            _ => Self::random(),
        }
    }

    /// A locally administered unicast address that is always the same for the same `seed`.
    fn stable(seed: &[u8]) -> Self {
        let digest: [u8; 32] = Sha256::digest(seed).into();
        let [a, b, c, d, e, f, ..] = digest;
        Self::local([a, b, c, d, e, f])
    }

    fn local([first, rest @ ..]: [u8; 6]) -> Self {
        let [b, c, d, e, f] = rest;
        // IEEE 802: the lowest bit marks a group, the one above it an address that no vendor gave.
        Self([first & 0xfc | 0x02, b, c, d, e, f])
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl FromStr for Mac {
    type Err = Error;

    /// Reads `02:00:5e:10:00:01`, `02-00-5e-10-00-01` and `0200.5e10.0001`.
    fn from_str(text: &str) -> Result<Self> {
        let groups = |separator, digits| -> Option<String> {
            let groups: Vec<&str> = text.split(separator).collect();
            let fits = |group: &&str| group.len() == digits;
            (groups.len() * digits == 12 && groups.iter().all(fits)).then(|| groups.concat())
        };
        let parse = || {
            let digits = groups(':', 2).or_else(|| groups('-', 2)).or_else(|| groups('.', 4))?;
            // `from_str_radix` would take a sign for a digit.
            let hexadecimal = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
            let [_, _, bytes @ ..] = u64::from_str_radix(&digits, 16).ok()?.to_be_bytes();
            hexadecimal.then_some(Self(bytes))
        };
        parse().ok_or_else(|| {
            let what = format!("read {text:?} as a MAC address");
            Error::new(what, "it must be six bytes such as 02:00:5e:10:00:01")
        })
    }
}

/// An address of a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Address {
    /// The address and the length of its prefix.
    pub address: IpNetwork,
    /// IPv6 only: not usable yet, because duplicate address detection has not ended.
    pub is_tentative: bool,
    /// IPv6 only: never usable, because another machine has it.
    pub is_dadfailed: bool,
    /// Whether it stays until it is removed, as opposed to one of DHCP or of a router's advertisement,
    /// which somebody has to renew.
    pub is_permanent: bool,
    /// Where it is valid: 0 everywhere, 253 on the link, 254 on this host (`RT_SCOPE_` of
    /// linux/rtnetlink.h).
    pub scope: u8,
}

impl Address {
    pub(super) fn from_message(message: &AddressMessage) -> Option<Self> {
        // The header has room for the first eight flags only; IFA_FLAGS has all of them.
        let mut flags = AddressFlags::from_bits_retain(message.header.flags.bits().into());
        let (mut address, mut local) = (None, None);
        for attribute in &message.attributes {
            match attribute {
                AddressAttribute::Address(ip) => address = Some(*ip),
                AddressAttribute::Local(ip) => local = Some(*ip),
                AddressAttribute::Flags(all) => flags = *all,
                _ => {}
            }
        }
        // On a point-to-point link IFA_ADDRESS is the other side's.
        let address = IpNetwork::new(local.or(address)?, message.header.prefix_len).ok()?;
        Some(Self {
            address,
            is_tentative: flags.contains(AddressFlags::Tentative),
            is_dadfailed: flags.contains(AddressFlags::Dadfailed),
            is_permanent: flags.contains(AddressFlags::Permanent),
            scope: message.header.scope.into(),
        })
    }
}

/// How an address is added.
#[derive(Debug, Clone, Copy, Default)]
pub struct AddressOptions {
    /// IPv6 only: usable at once, without duplicate address detection.
    pub nodad: bool,
    /// Without a route to its network on the link.
    pub noprefixroute: bool,
}

impl Netlink {
    /// The IPv4 addresses of a link, then the IPv6 ones. The list is empty for a link that does not
    /// exist.
    pub fn list_addresses(&self, index: u32) -> Result<Vec<Address>> {
        self.dump_addresses(AddressFamily::Unspec, index)
    }

    /// Adds an address for everywhere (scope 0). IPv4 prefixes shorter than 31 bits get the
    /// broadcast address that belongs to them.
    ///
    /// # Errors
    /// [`Error::is_exists`] if the link has it already; for IPv6 also with another prefix length.
    pub fn create_address(
        &self,
        index: u32,
        address: IpNetwork,
        options: &AddressOptions,
    ) -> Result<()> {
        let mut message = address_message(index, address);
        message.attributes.extend(broadcast(address).map(AddressAttribute::Broadcast));
        let mut flags = AddressFlags::empty();
        flags.set(AddressFlags::Nodad, options.nodad && address.is_ipv6());
        flags.set(AddressFlags::Noprefixroute, options.noprefixroute);
        if !flags.is_empty() {
            message.attributes.push(AddressAttribute::Flags(flags));
        }
        let flags = NLM_F_CREATE | NLM_F_EXCL;
        self.change(RouteNetlinkMessage::NewAddress(message), flags, || {
            format!("add address {address} to {}", self.name_of(index))
        })?;
        Ok(())
    }

    /// Adds an address unless the link has it; whether it was added.
    ///
    /// # Errors
    /// [`Error::is_exists`] if the link has it with another prefix length (IPv6; for IPv4 that is
    /// another address).
    pub fn ensure_address(
        &self,
        index: u32,
        address: IpNetwork,
        options: &AddressOptions,
    ) -> Result<bool> {
        match self.create_address(index, address, options) {
            Ok(()) => Ok(true),
            Err(error) if error.is_exists() => {
                let addresses = self.list_addresses(index)?;
                let found = addresses.iter().any(|known| known.address == address);
                if found { Ok(false) } else { Err(error) }
            }
            Err(error) => Err(error),
        }
    }

    /// Removes an address, and the routes that need it; whether the link had it. A link that does
    /// not exist has none.
    pub fn delete_address(&self, index: u32, address: IpNetwork) -> Result<bool> {
        let message = RouteNetlinkMessage::DelAddress(address_message(index, address));
        let outcome = self.change(message, 0, || {
            format!("remove address {address} from {}", self.name_of(index))
        });
        match outcome {
            Ok(_) => Ok(true),
            Err(error) if is_missing(&error) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Waits until duplicate address detection has ended for every IPv6 address of a link, the
    /// link-local one included. It ends a second or two after the link has a carrier, and never
    /// without one. The kernel announces it, so nothing is polled.
    ///
    /// # Errors
    /// If another machine has one of the addresses, or (ETIMEDOUT) if some are not
    /// settled `deadline` from now.
    pub fn wait_until_settled(&self, index: u32, deadline: Duration) -> Result<()> {
        // Reading the link makes the kernel notice a new carrier and add the link-local address.
        // Without this read, that address might be missing from the list and not be waited for.
        let name = self.read_link(index)?.name;
        let what = || format!("settle addresses for {name:?}");
        let mut unsettled = Vec::new();
        let settled = self.wait_for(IPV6_ADDRESSES, deadline, || {
            unsettled = self.dump_addresses(AddressFamily::Inet6, index)?;
            unsettled.retain(|address| address.is_tentative || address.is_dadfailed);
            if let Some(failed) = unsettled.iter().find(|address| address.is_dadfailed) {
                let ip = failed.address.ip();
                let reason = format!("link {name} has address {ip} in DADFAILED state");
                return Err(Error::new(what(), reason));
            }
            Ok(unsettled.is_empty().then_some(()))
        })?;
        settled.ok_or_else(|| {
            let addresses: Vec<_> = unsettled.iter().map(|a| a.address.to_string()).collect();
            let reason = format!("still tentative after {deadline:?}: {}", addresses.join(", "));
            Error::with_errno(what(), libc::ETIMEDOUT, reason)
        })
    }

    /// All addresses in another namespace, whose ID in this one is `netns`
    /// ([`Link::peer_netns`](super::Link)). `None` on a kernel before 4.20, which cannot list them.
    pub(crate) fn list_addresses_in(&self, netns: i32) -> Result<Option<Vec<IpAddr>>> {
        let mut message = AddressMessage::default();
        let there = AddressAttribute::TargetNetNsId(netns);
        message.attributes.push(there.clone());
        let answer = self.dump(&RouteNetlinkMessage::GetAddress(message), || {
            format!("list addresses of namespace {netns}")
        })?;
        let mut addresses = Vec::new();
        for message in answer {
            let RouteNetlinkMessage::NewAddress(message) = message else { continue };
            // An older kernel ignores the attribute and lists this namespace instead.
            if !message.attributes.contains(&there) {
                return Ok(None);
            }
            addresses.extend(Address::from_message(&message).map(|one| one.address.ip()));
        }
        Ok(Some(addresses))
    }

    fn dump_addresses(&self, family: AddressFamily, index: u32) -> Result<Vec<Address>> {
        let messages = self.dump_address_messages(family, index)?;
        Ok(messages.iter().filter_map(Address::from_message).collect())
    }

    pub(super) fn dump_address_messages(
        &self,
        family: AddressFamily,
        index: u32,
    ) -> Result<Vec<AddressMessage>> {
        let mut message = AddressMessage::default();
        message.header.family = family;
        message.header.index = index;
        let outcome = self.dump(&RouteNetlinkMessage::GetAddress(message), || {
            format!("list addresses of {}", self.name_of(index))
        });
        let answer = match outcome {
            Err(error) if error.errno() == Some(libc::ENODEV) => return Ok(Vec::new()),
            outcome => outcome?,
        };
        let messages = answer.into_iter().filter_map(|message| match message {
            RouteNetlinkMessage::NewAddress(message) if message.header.index == index => {
                Some(message)
            }
            _ => None,
        });
        Ok(messages.collect())
    }
}

fn is_missing(error: &Error) -> bool {
    error.errno().is_some_and(|errno| [libc::EADDRNOTAVAIL, libc::ENODEV].contains(&errno))
}

fn address_message(index: u32, address: IpNetwork) -> AddressMessage {
    let mut message = AddressMessage::default();
    message.header.index = index;
    message.header.family = match address {
        IpNetwork::V4(_) => AddressFamily::Inet,
        IpNetwork::V6(_) => AddressFamily::Inet6,
    };
    message.header.prefix_len = address.prefix();
    message.attributes.push(AddressAttribute::Local(address.ip()));
    message.attributes.push(AddressAttribute::Address(address.ip()));
    message
}

/// The broadcast address; `None` for /31 (RFC 3021) and /32, which have none.
fn broadcast(address: IpNetwork) -> Option<Ipv4Addr> {
    match address {
        IpNetwork::V4(network) if network.prefix() < 31 => Some(network.broadcast()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn local_routes_are_told_from_all_others() {
        let tries = "Main:\n  +-- 0.0.0.0/0 3 0 5\n     |-- 0.0.0.0\n        /0 universe UNICAST\n\
                     Local:\n  +-- 0.0.0.0/0 2 0 2\n     +-- 10.1.0.0/16 2 1 2\n\
                     \x20       |-- 10.1.0.0\n           /16 host LOCAL\n           /24 link UNICAST\n\
                     \x20       |-- 10.1.0.1\n           /32 host LOCAL tos=8\n\
                     \x20       |-- 10.1.0.255\n           /32 link BROADCAST\n";
        let local: Vec<_> = local_routes(tries).iter().map(ToString::to_string).collect();
        assert_eq!(local, ["10.1.0.0/16", "10.1.0.1/32"]);
        assert!(list_local().unwrap().iter().any(|one| one.to_string() == "127.0.0.1/32"));
    }

    #[test]
    fn a_mac_is_read_in_three_notations_and_written_in_one() {
        for text in ["02:00:5e:10:00:AB", "02-00-5E-10-00-ab", "0200.5e10.00ab"] {
            assert_eq!(text.parse::<Mac>().unwrap().to_string(), "02:00:5e:10:00:ab");
        }
    }

    #[test]
    fn what_is_no_mac_of_six_bytes_is_refused_in_a_sentence() {
        for text in [
            "",
            "02:00:5e:10:00",
            "02:00:5e:10:00:01:02:03",
            "02:00:5e:10:00-01",
            "2:00:5e:10:00:011",
            "+2:00:5e:10:00:01",
            "0g:00:5e:10:00:01",
            "02005e100001",
            "0200:5e10:0001",
        ] {
            let error = text.parse::<Mac>().unwrap_err().to_string();
            assert!(error.starts_with(&format!("read {text:?} as a MAC address: ")), "{error}");
        }
    }

    #[test]
    fn made_up_macs_are_local_unicast() {
        let seeds = (0..64u8).map(|seed| Mac::stable(&[seed]));
        for mac in seeds.chain((0..64).map(|_| Mac::random().unwrap())) {
            assert_eq!(mac.0[0] & 3, 2, "{mac}");
        }
        assert_eq!(Mac::stable(b"a"), Mac::stable(b"a"));
        assert_ne!(Mac::stable(b"a"), Mac::stable(b"b"));
    }

    #[test]
    fn a_broadcast_address_needs_room() {
        let of = |text: &str| broadcast(text.parse().unwrap()).map(|ip| ip.to_string());
        assert_eq!(of("10.1.2.3/16").as_deref(), Some("10.1.255.255"));
        assert_eq!(of("10.1.2.4/30").as_deref(), Some("10.1.2.7"));
        assert_eq!(of("10.1.2.4/31"), None);
        assert_eq!(of("10.1.2.4/32"), None);
        assert_eq!(of("fd00::1/64"), None);
    }

    #[test]
    fn the_local_side_of_an_address_is_what_counts() {
        let mut message = address_message(7, "10.0.0.1/32".parse().unwrap());
        message.attributes[1] = AddressAttribute::Address("10.0.0.2".parse().unwrap());
        let address = Address::from_message(&message).unwrap();
        assert_eq!(address.address.to_string(), "10.0.0.1/32");
    }

    #[test]
    fn flags_that_do_not_fit_into_the_header_count() {
        let mut message = address_message(7, "fd00::1/64".parse().unwrap());
        let flags = AddressFlags::Tentative | AddressFlags::Dadfailed;
        message.attributes.push(AddressAttribute::Flags(flags));
        let address = Address::from_message(&message).unwrap();
        assert!(address.is_tentative && address.is_dadfailed);
    }
}
