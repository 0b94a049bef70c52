//! Kernel settings of the container's network namespace, by the names that configurations give them.

use common::cni::IfName;
use common::{Error, Result};
use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv6Addr;

/// The word that stands for the name of the container's interface.
const IFNAME: &str = "IFNAME";

/// Settings of the whole host that a namespace can change all the same before Linux 5.12. Other
/// such settings do not exist in the namespace of a container, or cannot be written there.
const OF_THE_HOST: [&str; 4] = [
    "net/ipv4/tcp_allowed_congestion_control",
    "net/netfilter/nf_conntrack_expect_max",
    "net/netfilter/nf_conntrack_max",
    "net/nf_conntrack_max",
];

/// A setting that is to have a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Sysctl {
    /// As it was written, for whoever wrote it.
    pub(crate) key: String,
    pub(crate) value: String,
    /// Below /proc/sys, as the kernel names it, but for [`IFNAME`].
    path: String,
}

impl Sysctl {
    fn new(key: &str, value: &str) -> Result<Self> {
        let invalid = |reason: &str| {
            Err(Error::config(format!("invalid net sysctl key: {key:?}")).details(reason))
        };
        let words: Vec<_> = key.split(['.', '/']).collect();
        // "..", which would lead elsewhere, has an empty word as well.
        if words.len() < 2 || words.iter().any(|word| word.is_empty()) || key.contains(is_control) {
            return invalid("it is a name such as net.ipv4.conf.IFNAME.forwarding");
        }
        // The name of a link may have dots of its own: net.ipv4.conf.eth0.100.forwarding.
        let path = match &words[..] {
            ["net", family, kind @ ("conf" | "neigh"), link @ .., last] if !link.is_empty() => {
                format!("net/{family}/{kind}/{}/{last}", link.join("."))
            }
            ["net", ..] => words.join("/"),
            _ => return invalid("only those below net. are of a network namespace"),
        };
        if OF_THE_HOST.contains(&&*path) {
            return invalid("it is a setting of the whole host, not of a network namespace");
        }
        if value.contains(is_control) {
            let msg = format!("invalid value of sysctl {key}: {value:?}");
            return Err(Error::config(msg).details("it must be one line"));
        }
        Ok(Self { key: key.to_owned(), value: value.to_owned(), path })
    }

    /// Its path below /proc/sys.
    pub(crate) fn path(&self, ifname: &IfName) -> String {
        self.path.replacen(IFNAME, ifname.as_str(), 1)
    }

    /// Whether a value that the kernel shows is the one that was asked for.
    pub(crate) fn is(&self, found: &str) -> bool {
        let words = |text: &str| text.split_whitespace().map(Word::new).collect::<Vec<_>>();
        words(found) == words(&self.value)
    }
}

/// A word of a value. The kernel shows numbers in decimal, ports in their order and all of an address,
/// and separates words with tabs.
#[derive(Debug, PartialEq, Eq)]
enum Word {
    Number(i64),
    Ports(BTreeSet<u16>),
    Address(Ipv6Addr),
    Other(String),
}

impl Word {
    fn new(text: &str) -> Self {
        let number = number(text).map(Self::Number);
        let known = number.or_else(|| ports(text).map(Self::Ports));
        let known = known.or_else(|| text.parse().ok().map(Self::Address));
        known.unwrap_or_else(|| Self::Other(text.to_owned()))
    }
}

/// A number as C writes it.
fn number(text: &str) -> Option<i64> {
    let (sign, digits) = text.strip_prefix('-').map_or((1, text), |digits| (-1, digits));
    let lower = digits.to_ascii_lowercase();
    let (digits, radix) = match (lower.strip_prefix("0x"), lower.strip_prefix('0')) {
        (Some(digits), _) => (digits, 16),
        (None, Some(digits)) if !digits.is_empty() => (digits, 8),
        _ => (&*lower, 10),
    };
    Some(sign * i64::from_str_radix(digits, radix).ok()?)
}

/// Ports and ranges of them, as `8080,9000-9002`.
fn ports(text: &str) -> Option<BTreeSet<u16>> {
    let ranges = text.split(',').map(|range| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        Some(first.parse::<u16>().ok()?..=last.parse().ok()?)
    });
    Some(ranges.collect::<Option<Vec<_>>>()?.into_iter().flatten().collect())
}

fn is_control(sign: char) -> bool {
    sign.is_control() && sign != '\t'
}

/// The order in which settings are written. One that is for all links is written before one that is for
/// links to come, and that before one of a single link, which each of them would overwrite; and
/// `forwarding` before what it overwrites besides.
pub(crate) fn rank(path: &str) -> (usize, usize, bool, String) {
    let words: Vec<_> = path.split('/').collect();
    let place = match words.get(3) {
        Some(&"all") => 0,
        Some(&"default") => 1,
        _ => 2,
    };
    (words.len(), place, !path.ends_with("/forwarding"), path.to_owned())
}

/// The settings of the configuration and those that were asked for, which count more, as they are
/// to be written.
///
/// # Errors
/// Code 7 for what is no setting of a network namespace, or has two values.
pub(crate) fn in_order(
    configured: &BTreeMap<String, String>,
    asked: &BTreeMap<String, String>,
) -> Result<Vec<Sysctl>> {
    let mut found = BTreeMap::new();
    for source in [configured, asked] {
        let mut of_source: BTreeMap<_, Sysctl> = BTreeMap::new();
        for (key, value) in source {
            let sysctl = Sysctl::new(key, value)?;
            if let Some(other) = of_source.get(&rank(&sysctl.path)).filter(|it| it.value != *value)
            {
                return Err(Error::config("duplicated sysctl keys are not allowed")
                    .details(format!("{} and {key} are the same", other.key)));
            }
            of_source.insert(rank(&sysctl.path), sysctl);
        }
        found.extend(of_source);
    }
    Ok(found.into_values().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(key: &str, ifname: &str) -> String {
        Sysctl::new(key, "1").unwrap().path(&ifname.parse().unwrap())
    }

    #[test]
    fn a_key_is_a_path_whatever_separates_its_words() {
        for (key, expected) in [
            ("net.ipv4.ip_forward", "net/ipv4/ip_forward"),
            ("net/ipv4.ip_forward", "net/ipv4/ip_forward"),
            ("net.ipv4.conf.IFNAME.forwarding", "net/ipv4/conf/eth0.100/forwarding"),
            ("net/ipv4/conf/eth0.100/forwarding", "net/ipv4/conf/eth0.100/forwarding"),
            ("net.ipv4.conf.eth0/100.forwarding", "net/ipv4/conf/eth0.100/forwarding"),
            ("net.ipv6.neigh.a.b.c.gc_stale_time", "net/ipv6/neigh/a.b.c/gc_stale_time"),
            ("net.ipv4.conf.all.IFNAME", "net/ipv4/conf/all/eth0.100"),
        ] {
            assert_eq!(path(key, "eth0.100"), expected, "{key}");
        }
    }

    #[test]
    fn what_is_not_the_namespaces_is_refused() {
        for key in [
            "",
            "net",
            "net.",
            "kernel.core_pattern",
            "net/../kernel/core_pattern",
            "/net/ipv4/x",
            "net..ipv4.ip_forward",
            "net.ipv4.x\nkernel.core_pattern",
            "net.netfilter.nf_conntrack_max",
            "net/ipv4/tcp_allowed_congestion_control",
            "network.x",
        ] {
            let error = Sysctl::new(key, "1").unwrap_err().to_string();
            assert!(error.starts_with("invalid net sysctl key: "), "{key}: {error}");
        }
        for value in ["1\n", "1\nkernel.core_pattern=x", "\0"] {
            assert!(Sysctl::new("net.ipv4.ip_forward", value).is_err(), "{value:?}");
        }
    }

    #[test]
    fn what_is_for_all_links_comes_first_and_a_setting_has_one_value() {
        let map = |pairs: &[(&str, &str)]| {
            pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
        };
        let own = map(&[
            ("net.ipv4.conf.IFNAME.forwarding", "0"),
            ("net.ipv4.conf.aa.forwarding", "0"),
            ("net.ipv4.conf.all.forwarding", "1"),
            ("net.ipv4.ip_forward", "1"),
        ]);
        let sysctls = in_order(&own, &map(&[("net/ipv4/conf/aa/forwarding", "1")])).unwrap();
        let shown: Vec<_> = sysctls.iter().map(|it| format!("{}={}", it.path, it.value)).collect();
        let expected = [
            "ip_forward=1",
            "conf/all/forwarding=1",
            "conf/IFNAME/forwarding=0",
            "conf/aa/forwarding=1",
        ];
        assert_eq!(shown, expected.map(|end| format!("net/ipv4/{end}")));
        let twice = map(&[("net.ipv4.ip_forward", "1"), ("net/ipv4/ip_forward", "0")]);
        let error = in_order(&twice, &map(&[])).unwrap_err().to_string();
        assert!(error.contains("duplicated"), "{error}");
    }

    #[test]
    fn values_are_compared_word_by_word() {
        let range = Sysctl::new("net.ipv4.ip_local_port_range", "1024 65000").unwrap();
        assert!(range.is("1024\t65000\n") && !range.is("1024 6500"));
        for (written, shown, is_same) in [
            ("0x10", "16", true),
            ("010 -0X1", "8\t-1", true),
            ("0", "0", true),
            ("0x10", "10", false),
            ("9000,9002,9001,80", "80,9000-9002", true),
            ("80,9000-9001", "80,9000-9002", false),
            ("2001:db8::1", "2001:0db8:0000:0000:0000:0000:0000:0001", true),
            ("cubic", "cubic", true),
            ("cubic", "reno", false),
        ] {
            let sysctl = Sysctl::new("net.x.y", written).unwrap();
            assert_eq!(sysctl.is(shown), is_same, "{written} {shown}");
        }
    }
}
