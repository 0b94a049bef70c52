//! What the kernel has, asked without a program that may not be installed.

use std::{collections::BTreeMap, fs};

use nix::{ifaddrs::getifaddrs, sys::socket::SockaddrStorage};
use testbed::{Place, Testbed};

/// Links of a place and their addresses, with prefix length. What the kernel gives to every link
/// by itself (fe80::/10) is left out.
pub(crate) type Links = BTreeMap<String, Vec<String>>;

/// The links of a place.
pub(crate) fn links(place: &Place) -> Links {
    let mut links = Links::new();
    // Without an answer there are no links, which no step takes for right.
    for entry in place.enter(|| getifaddrs().into_iter().flatten().collect::<Vec<_>>()) {
        let addresses = links.entry(entry.interface_name).or_default();
        addresses.extend(describe(entry.address, entry.netmask));
    }
    links
}

fn describe(address: Option<SockaddrStorage>, mask: Option<SockaddrStorage>) -> Option<String> {
    let (address, mask) = (address?, mask?);
    if let (Some(address), Some(mask)) = (address.as_sockaddr_in(), mask.as_sockaddr_in()) {
        return Some(format!("{}/{}", address.ip(), u32::from(mask.ip()).count_ones()));
    }
    let (address, mask) = (address.as_sockaddr_in6()?.ip(), mask.as_sockaddr_in6()?.ip());
    let length = u128::from(mask).count_ones();
    (!address.is_unicast_link_local()).then(|| format!("{address}/{length}"))
}

/// The ports of a bridge of the host.
pub(crate) fn ports(bed: &Testbed, bridge: &str) -> Vec<String> {
    bed.enter(|| file_names(&format!("/sys/class/net/{bridge}/brif")))
}

/// What is in a directory of the host's; nothing if there is no such directory.
pub(crate) fn files(bed: &Testbed, directory: &str) -> Vec<String> {
    bed.enter(|| file_names(directory))
}

fn file_names(directory: &str) -> Vec<String> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let mut names: Vec<_> =
        entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}
