//! A link that sends no faster than told: by a token bucket (tc-tbf(8)), or, where only some packets
//! are to be slow, by classes (tc-htb(8)).

use std::net::IpAddr;

use ipnetwork::IpNetwork;
use netlink_packet_core::NlasIterator;
use netlink_packet_route::tc::{TcFilterU32Option, TcHandle, TcMessage, TcU32Key};

use super::{Filter, Hook, Place, Qdisc, options, structure, u32_options};
use crate::net::{Family, Link, Netlink, Result};

/// For how long a packet may wait, in milliseconds, besides the time that the burst takes.
const LATENCY: u64 = 25;

/// The nanoseconds of a tick, in which the kernel is told how long a burst takes (`PSCHED_SHIFT` of
/// net/pkt_sched.h).
const TICK: u64 = 64;

/// `TC_LINKLAYER_ETHERNET` of linux/pkt_sched.h, which spares the kernel a look at a table of ours.
const ETHERNET: u8 = 1;

/// Attributes of linux/pkt_sched.h.
const TBF_PARMS: u16 = 1;
const TBF_RATE64: u16 = 4;
const TBF_BURST: u16 = 6;
const HTB_PARMS: u16 = 1;
const HTB_INIT: u16 = 2;
const HTB_RATE64: u16 = 6;
const HTB_CEIL64: u16 = 7;

/// The number of a discipline that we give a link, by which it is told from those of others: "gd".
const OURS: TcHandle = TcHandle { major: 0x6764, minor: 0 };

/// The classes of packets that are not limited, and of those that are. The numbers are those that the
/// Go plugin had.
const FREE: u16 = 1;
const SLOW: u16 = 48;

/// Bytes a second of the class that is not to be slow.
const UNLIMITED: u64 = 100_000_000_000;

/// How many bytes may wait in that class.
const UNLIMITED_QUEUE: u32 = 4 << 20;

/// How fast a link may send, and what of it that is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shaper {
    /// Bytes a second.
    pub rate: u64,
    /// How many bytes may be sent at once after a pause.
    pub burst: u32,
    /// Which packets.
    pub shaped: Shaped,
}

/// Which packets of a link are slow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Shaped {
    /// Every packet.
    All,
    /// Those that these remote machines take no part in.
    Except(Vec<IpNetwork>, Remote),
    /// Those that these remote machines take part in.
    Only(Vec<IpNetwork>, Remote),
}

/// The address of a packet that is the remote machine's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Remote {
    /// The one that it comes from.
    Source,
    /// The one that it goes to.
    Destination,
}

impl Shaper {
    /// How many bytes may wait. The Go plugin computes the same.
    fn limit(&self) -> u32 {
        let waiting = u128::from(self.rate) * u128::from(LATENCY) / 1000;
        u32::try_from(waiting + u128::from(self.burst)).unwrap_or(u32::MAX)
    }

    /// How long the burst takes, in ticks of whole microseconds, as the Go plugin computes it.
    fn ticks(&self) -> u128 {
        self.microseconds() * 1000 / u128::from(TICK)
    }

    fn microseconds(&self) -> u128 {
        u128::from(self.burst) * 1_000_000 / u128::from(self.rate.max(1))
    }

    /// Whether ticks tell the burst well enough. The kernel takes them for four seconds at most when
    /// it computes from them how large a packet may be, and short bursts are of few microseconds.
    fn is_told_by_ticks(&self) -> bool {
        (100..4_000_000).contains(&self.microseconds())
    }

    /// `struct tc_tbf_qopt`, and beside it what does not fit.
    fn bucket(&self) -> Vec<(u16, Vec<u8>)> {
        let ticks = if self.is_told_by_ticks() { saturated(self.ticks()) } else { 0 };
        let mut parameters = rate_spec(self.rate);
        parameters.extend([0; RATE_SPEC]); // no peak rate
        for number in [self.limit(), ticks, 0] {
            parameters.extend(number.to_ne_bytes());
        }
        let mut list = vec![(TBF_PARMS, parameters)];
        list.extend(rate_64(TBF_RATE64, self.rate));
        if !self.is_told_by_ticks() {
            list.push((TBF_BURST, self.burst.to_ne_bytes().into()));
        }
        list
    }

    /// `struct tc_htb_opt` of the class that is slow.
    fn class(&self) -> Vec<(u16, Vec<u8>)> {
        class(self.rate, saturated(self.ticks()))
    }

    /// The networks, which address is compared with them, and the classes: of those that are picked,
    /// and of all others.
    fn classes(&self) -> Option<(&[IpNetwork], Remote, [u16; 2])> {
        match &self.shaped {
            Shaped::All => None,
            Shaped::Except(networks, remote) => Some((networks, *remote, [FREE, SLOW])),
            Shaped::Only(networks, remote) => Some((networks, *remote, [SLOW, FREE])),
        }
    }
}

impl Netlink {
    /// Has a link send no faster than told.
    ///
    /// # Errors
    /// [`Error::is_exists`](crate::net::Error::is_exists) if somebody has given the link a queueing
    /// discipline already.
    pub fn create_shaper(&self, index: u32, shaper: &Shaper) -> Result<()> {
        let root = Place { index, handle: OURS, parent: Hook::Root.handle() };
        let Some((networks, remote, [picked, others])) = shaper.classes() else {
            return self.create_qdisc(root, "tbf", options(shaper.bucket()));
        };
        self.create_qdisc(root, "htb", options(vec![(HTB_INIT, htb(others))]))?;
        let free = class(UNLIMITED, 15_625); // a millisecond
        let classes = [(FREE, free, UNLIMITED_QUEUE), (SLOW, shaper.class(), shaper.limit())];
        for (minor, parameters, limit) in classes {
            let handle = TcHandle { minor, ..OURS };
            self.create_class(Place { index, handle, parent: OURS }, "htb", options(parameters))?;
            // Without it, the class would have a queue as long as the link's, in packets of any size.
            let leaf = Place { index, handle: TcHandle::UNSPEC, parent: handle };
            self.create_qdisc(leaf, "bfifo", structure(limit.to_ne_bytes().into()))?;
        }
        for network in networks {
            let class = TcHandle { minor: picked, ..OURS };
            let message =
                filter(OURS, network, remote).message(index, TcFilterU32Option::ClassId(class));
            let what = || format!("pick packets of {network} on {}", self.name_of(index));
            self.create_filter(message, "cls_u32", what)?;
        }
        Ok(())
    }

    /// Takes back [`create_shaper`](Self::create_shaper), even if that ended half way; leaves what others
    /// have given the link.
    pub fn delete_shaper(&self, index: u32) -> Result<()> {
        let root = self.find_qdisc(index, Hook::Root)?;
        if root.is_some_and(|root| root.handle == OURS) {
            self.delete_qdisc(index, Hook::Root)?;
        }
        Ok(())
    }

    /// Every difference between what a link is told and what it should be.
    pub fn verify_shaper(&self, link: &Link, shaper: &Shaper) -> Result<Vec<String>> {
        let name = &link.name;
        let wanted = if shaper.shaped == Shaped::All { "tbf" } else { "htb" };
        let root = match self.find_qdisc(link.index, Hook::Root)? {
            Some(root) if root.kind == wanted => root,
            other => {
                let found = other.map_or("none".to_owned(), |other| other.kind);
                return Ok(vec![format!("{name} has the qdisc {found}, not {wanted}")]);
            }
        };
        let Some((networks, remote, [picked, others])) = shaper.classes() else {
            let parameters = attribute(&root.options, TBF_PARMS).unwrap_or_default();
            let rate = rate_of(&root.options, TBF_RATE64, &parameters);
            let told = [number(&parameters, 2 * RATE_SPEC), number(&parameters, 2 * RATE_SPEC + 4)];
            return Ok(differences(name, shaper, rate, told));
        };
        let mut differences = self.verify_classes(link, root.handle, shaper)?;
        let init = attribute(&root.options, HTB_INIT).unwrap_or_default();
        if number(&init, 8) != Some(others.into()) {
            differences.push(format!("{name} has another class for packets that no filter picks"));
        }
        let listed = self.list_filters(link.index, root.handle)?;
        let class = TcHandle { minor: picked, ..root.handle };
        let picks = |filter: &Filter, message: &TcMessage| {
            let info = filter.header(link.index).info;
            let options: Vec<_> = u32_options(message.attributes.clone()).collect();
            message.header.info == info
                && options.contains(&TcFilterU32Option::ClassId(class))
                && options.iter().any(|option| match option {
                    TcFilterU32Option::Selector(selector) => selector.keys == filter.keys(),
                    _ => false,
                })
        };
        for network in networks {
            let filter = filter(root.handle, network, remote);
            if !listed.iter().any(|message| picks(&filter, message)) {
                differences.push(format!("{name} has no filter that picks packets of {network}"));
            }
        }
        Ok(differences)
    }

    fn verify_classes(&self, link: &Link, root: TcHandle, shaper: &Shaper) -> Result<Vec<String>> {
        let classes = self.list_classes(link.index)?;
        let class = |minor| {
            let handle = TcHandle { minor, ..root };
            classes.iter().find(|class: &&Qdisc| class.handle == handle)
        };
        let mut found = Vec::new();
        if class(FREE).is_none() {
            found.push(format!("{} has no class for packets that are not limited", link.name));
        }
        let Some(slow) = class(SLOW) else {
            found.push(format!("{} has no class for packets that are limited", link.name));
            return Ok(found);
        };
        let parameters = attribute(&slow.options, HTB_PARMS).unwrap_or_default();
        let rate = rate_of(&slow.options, HTB_RATE64, &parameters);
        let told = [Some(shaper.limit()), number(&parameters, 2 * RATE_SPEC)];
        found.extend(differences(&link.name, shaper, rate, told));
        Ok(found)
    }
}

/// What is different from a shaper: in bytes a second, in bytes that may wait, and in ticks of a burst.
fn differences(
    name: &str,
    shaper: &Shaper,
    rate: Option<u64>,
    [limit, ticks]: [Option<u32>; 2],
) -> Vec<String> {
    let mut differences = Vec::new();
    if rate != Some(shaper.rate) {
        let found = rate.unwrap_or_default();
        differences.push(format!("{name} sends {found} bytes a second, not {}", shaper.rate));
    }
    if limit != Some(shaper.limit()) {
        let (found, wanted) = (limit.unwrap_or_default(), shaper.limit());
        differences.push(format!("on {name} {found} bytes may wait, not {wanted}"));
    }
    // The kernel rounds, tells the lower 32 bits only, and the Go plugin counts in microseconds.
    let tolerance = u32::try_from(shaper.ticks() >> 20).unwrap_or(u32::MAX).saturating_add(32);
    let wanted = u32::try_from(shaper.ticks() & u128::from(u32::MAX)).unwrap_or_default();
    if ticks.is_none_or(|ticks| ticks.abs_diff(wanted) > tolerance) {
        let found = u128::from(ticks.unwrap_or_default()) * u128::from(TICK);
        let found = found * u128::from(shaper.rate) / 1_000_000_000;
        differences.push(format!("{name} has a burst of {found} bytes, not {}", shaper.burst));
    }
    differences
}

/// `struct tc_htb_glob` of a discipline whose packets are of this class where no filter says more.
fn htb(default: u16) -> Vec<u8> {
    let (version, rate_to_quantum): (u32, u32) = (3, 10);
    let numbers = [version, rate_to_quantum, default.into(), 0, 0];
    numbers.iter().flat_map(|number| number.to_ne_bytes()).collect()
}

/// `struct tc_htb_opt`, and beside it what does not fit.
fn class(rate: u64, ticks: u32) -> Vec<(u16, Vec<u8>)> {
    // How many bytes are sent before another class has its turn. The kernel's own choice grows with
    // the rate, and it complains of it.
    let quantum = 15_140;
    let mut parameters = [rate_spec(rate), rate_spec(rate)].concat();
    for number in [ticks, ticks, quantum, 0, 0] {
        parameters.extend(number.to_ne_bytes());
    }
    let mut list = vec![(HTB_PARMS, parameters)];
    list.extend(rate_64(HTB_RATE64, rate));
    list.extend(rate_64(HTB_CEIL64, rate));
    list
}

/// The size of `struct tc_ratespec` in bytes.
const RATE_SPEC: usize = 12;

/// `struct tc_ratespec`.
fn rate_spec(rate: u64) -> Vec<u8> {
    let mut bytes = vec![0, ETHERNET, 0, 0, 0, 0, 0, 0];
    bytes.extend(saturated(rate.into()).to_ne_bytes());
    bytes
}

/// A rate that does not fit into a `struct tc_ratespec`.
fn rate_64(attribute: u16, rate: u64) -> Option<(u16, Vec<u8>)> {
    (rate > u32::MAX.into()).then(|| (attribute, rate.to_ne_bytes().into()))
}

/// The rate that a structure begins with, or the one that does not fit into it.
fn rate_of(options: &[u8], large: u16, parameters: &[u8]) -> Option<u64> {
    let large = attribute(options, large).and_then(|bytes| bytes.as_slice().try_into().ok());
    large.map(u64::from_ne_bytes).or_else(|| number(parameters, RATE_SPEC - 4).map(u64::from))
}

fn saturated(number: u128) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

fn number(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn attribute(options: &[u8], kind: u16) -> Option<Vec<u8>> {
    let mut list = NlasIterator::new(options).map_while(std::result::Result::ok);
    list.find(|attribute| attribute.kind() == kind).map(|attribute| attribute.value().to_vec())
}

/// The filter of a discipline that picks the packets of a network.
fn filter(parent: TcHandle, network: &IpNetwork, remote: Remote) -> Filter {
    // Of one priority there is one protocol. Where the addresses begin in the header, RFC 791 and RFC
    // 8200 tell.
    let (priority, protocol, source, destination) = match Family::of(network.ip()) {
        Family::V4 => (16, 0x0800, 12, 16),
        Family::V6 => (15, 0x86dd, 8, 24),
    };
    let offset = match remote {
        Remote::Source => source,
        Remote::Destination => destination,
    };
    let words = |address| match address {
        IpAddr::V4(address) => vec![address.to_bits()],
        IpAddr::V6(address) => {
            let bytes = address.octets();
            let words = bytes.chunks_exact(4).filter_map(|word| word.try_into().ok());
            words.map(u32::from_be_bytes).collect()
        }
    };
    let (values, masks) = (words(network.network()), words(network.mask()));
    let mut keys = Vec::new();
    for ((val, mask), off) in values.into_iter().zip(masks).zip((offset..).step_by(4)) {
        if mask != 0 {
            let mut key = TcU32Key::default();
            (key.val, key.mask, key.off) = (val, mask, off);
            keys.push(key);
        }
    }
    Filter { parent, priority, protocol, keys }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shaper(rate: u64, burst: u32) -> Shaper {
        Shaper { rate, burst, shaped: Shaped::All }
    }

    #[test]
    fn numbers_are_those_of_the_go_plugin() {
        // Of their tests: 8 bits a second and 8 bits; 16 and 8.
        assert_eq!((shaper(1, 1).limit(), shaper(2, 1).limit()), (1, 1));
        let fast = shaper(125_000_000, 250_000);
        assert_eq!((fast.limit(), fast.ticks()), (3_375_000, 31_250));
        assert_eq!(shaper(u64::MAX, u32::MAX).limit(), u32::MAX);
    }

    #[test]
    fn a_burst_is_told_as_well_as_can_be() {
        for (rate, burst, by_ticks) in
            [(125_000, 12_500, true), (1 << 40, 1500, false), (1250, 1 << 20, false)]
        {
            let shaper = shaper(rate, burst);
            assert_eq!(shaper.is_told_by_ticks(), by_ticks, "{shaper:?}");
            let has_bytes = shaper.bucket().iter().any(|(kind, _)| *kind == TBF_BURST);
            assert_eq!(has_bytes, !by_ticks);
        }
        let large = shaper(1 << 40, 1500).bucket();
        let options: Vec<_> = large.iter().map(|(kind, value)| (*kind, value.len())).collect();
        assert_eq!(options, [(TBF_PARMS, 36), (TBF_RATE64, 8), (TBF_BURST, 4)]);
    }

    #[test]
    fn networks_are_compared_word_by_word() {
        let keys = |network: &str, remote| -> Vec<_> {
            let keys = filter(OURS, &network.parse().unwrap(), remote).keys;
            keys.iter().map(|key| (key.off, key.val, key.mask)).collect()
        };
        assert_eq!(keys("10.1.2.3/8", Remote::Source), [(12, 0x0a00_0000, 0xff00_0000)]);
        assert_eq!(
            keys("2001:db8:7::/48", Remote::Destination),
            [(24, 0x2001_0db8, u32::MAX), (28, 0x0007_0000, 0xffff_0000)]
        );
        assert_eq!(keys("0.0.0.0/0", Remote::Source), []);
    }
}
