//! Leases whose holder is gone, and which of them may be ended to make room.

use crate::config::{Pool, Reclaim};
use crate::range::RangeSet;
use crate::record::{Lease, Origin};
use crate::store::{Store, now};
use common::attach::in_use::{self, Lookup, Use};
use common::attach::kept;
use common::cni::report;
use common::{Code, Error, Result};
use std::fmt::{self, Display};
use std::fs::metadata;
use std::net::IpAddr;
use std::os::unix::fs::MetadataExt as _;
use std::sync::OnceLock;

/// Whether the lease is of an earlier boot, which no network namespace outlives.
pub fn is_of_earlier_boot(lease: &Lease, boot: &str) -> bool {
    !boot.is_empty() && lease.origin.boot.as_deref().is_some_and(|made_in| made_in != boot)
}

/// Whether the holder's namespace is not where it was: a hint, and no proof, because it may live on
/// without that path.
pub fn is_path_gone(lease: &Lease) -> bool {
    let origin = &lease.origin;
    !origin.netns.is_empty()
        && origin
            .inode
            .is_some_and(|inode| metadata(&origin.netns).map_or(true, |found| found.ino() != inode))
}

/// Inode of the network namespace that we run in, which is the one that links are looked for in.
pub fn own_netns() -> Option<u64> {
    static INODE: OnceLock<Option<u64>> = OnceLock::new();
    // Not of /proc/self: that is the first thread's, which need not be the one that asks.
    *INODE.get_or_init(|| metadata("/proc/thread-self/ns/net").ok().map(|file| file.ino()))
}

/// The name of the link that was recorded with the lease, if it can be looked for: in another
/// network namespace than that of the plugin which made it, a link of that name is missing, or
/// another one. Earlier versions did not record the namespace, and were run in one only.
pub fn link_here(lease: &Lease) -> Option<&str> {
    let link = lease.origin.link.as_ref()?;
    let is_here = link.netns.is_none_or(|inode| own_netns() == Some(inode));
    is_here.then_some(link.name.as_str())
}

/// Whether the link of the host is gone that was recorded with the lease, and with it the attachment
/// for sure. A path proves nothing: the namespace may be known by another one, or in another mount
/// namespace, or be held by a process or a file descriptor. But the kernel keeps the host's end of a
/// pair as long as the namespace of the other.
pub fn is_link_gone(lease: &Lease) -> bool {
    link_here(lease).is_some_and(|link| !in_use::is_attachment_alive(link))
}

/// Whether the attachment that asks once more had the lease, and has lost it.
pub fn is_lost(lease: &Lease, again: &Origin) -> bool {
    again.boot.as_deref().is_some_and(|boot| is_of_earlier_boot(lease, boot))
        || match (link_here(lease), &again.link) {
            (Some(link), Some(own)) if *link == own.name => in_use::is_replaced(link),
            _ => is_link_gone(lease),
        }
}

/// What can be told about the holder of a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// The namespace is where it was.
    Lives,
    /// Nothing is known, as of what the Go plugin has leased.
    Unknown,
    /// The namespace is not where it was: perhaps it lives under another path.
    PathGone,
    /// The namespace is gone for sure.
    NetnsGone,
    /// The attachment is gone for sure, and its namespace is where it was.
    LinkGone,
    /// It was made before the machine was started.
    EarlierBoot,
    /// Its file does not tell whose it is.
    Nobodys,
}

impl State {
    /// Of a lease, on the host that it is of.
    pub fn of(lease: &Lease, boot: &str) -> Self {
        if is_of_earlier_boot(lease, boot) {
            Self::EarlierBoot
        } else if lease.lessee.is_unknown() {
            Self::Nobodys
        } else if is_link_gone(lease) {
            if is_path_gone(lease) { Self::NetnsGone } else { Self::LinkGone }
        } else if is_path_gone(lease) {
            Self::PathGone
        } else if lease.origin.inode.is_some() {
            Self::Lives
        } else {
            Self::Unknown
        }
    }

    /// Whether it is certain that the attachment is gone.
    pub fn is_proven_gone(self) -> bool {
        matches!(self, Self::EarlierBoot | Self::NetnsGone | Self::LinkGone)
    }

    /// Whether it looks as if nobody held it any more.
    pub fn looks_leaked(self) -> bool {
        !matches!(self, Self::Lives | Self::Unknown)
    }
}

/// Whether the lease is younger than the configured age, as far as the clock can be believed.
pub fn is_young(lease: &Lease, pool: &Pool) -> bool {
    kept::is_young(lease.origin.time, pool.grace_age.as_secs())
}

fn is_in(set: &RangeSet, lease: &Lease) -> bool {
    lease.addresses.iter().any(|ip| set.is_usable(*ip))
}

/// Makes room in an exhausted range set by ending one lease, the oldest whose holder is dead.
///
/// # Errors
/// Code 5 and 6.
pub fn make_room(store: &mut Store, pool: &Pool, set: &RangeSet) -> Result<bool> {
    let in_use = Lookup::new();
    for lease in dead(store, pool, set)? {
        if !may_be_ended(store, &lease, &in_use) {
            continue;
        }
        match end(store, &lease) {
            Ok(()) => return Ok(true),
            // Perhaps the next one can be.
            Err(error) => report(error),
        }
    }
    Ok(false)
}

/// Whether the next ADD could make room.
///
/// # Errors
/// Code 5 and 6.
pub fn can_make_room(store: &mut Store, pool: &Pool, set: &RangeSet) -> Result<bool> {
    let in_use = Lookup::new();
    Ok(dead(store, pool, set)?.iter().any(|lease| may_be_ended(store, lease, &in_use)))
}

/// Whether nobody is found under the addresses of a lease that looks dead.
fn may_be_ended(store: &Store, lease: &Lease, in_use: &Lookup) -> bool {
    // What cannot be read may be anybody's.
    let is_known = !lease.lessee.is_unknown() || is_of_earlier_boot(lease, store.boot());
    (is_known || store.is_nobodys(lease))
        && lease.addresses.iter().all(|ip| in_use.find(*ip).is_none())
}

/// The leases that may be ended if nobody lives under their addresses, oldest first.
fn dead(store: &mut Store, pool: &Pool, set: &RangeSet) -> Result<Vec<Lease>> {
    if pool.reclaim == Reclaim::Never {
        return Ok(Vec::new());
    }
    let boot = store.boot().to_owned();
    let mut leases = store.leases_where(|lease| {
        is_in(set, lease)
            && (is_of_earlier_boot(lease, &boot)
                || is_link_gone(lease)
                || lease.lessee.is_unknown() && !is_young(lease, pool))
    })?;
    // Those of one boot are in the order in which they were written.
    leases.sort_by_key(|lease| !is_of_earlier_boot(lease, &boot));
    Ok(leases)
}

/// Ends the lease of a holder who is dead.
///
/// # Errors
/// Code 5.
pub fn end(store: &mut Store, lease: &Lease) -> Result<()> {
    let why = if is_of_earlier_boot(lease, store.boot()) {
        "it was made before the machine was started".to_owned()
    } else if lease.lessee.is_unknown() {
        "its file does not tell whose it is".to_owned()
    } else {
        format!("its link {} is gone", link_here(lease).unwrap_or_default())
    };
    store.release(std::slice::from_ref(lease))?;
    report(format_args!(
        "reclaimed {} from container {:?}, interface {:?}, since {} s: {why}",
        list(&lease.addresses),
        lease.lessee.container(),
        lease.lessee.ifname(),
        now().saturating_sub(lease.origin.time),
    ));
    Ok(())
}

/// The error of a range set that has no free address, for ADD and for STATUS.
///
/// # Errors
/// Code 5 and 6.
pub fn exhausted(
    store: &mut Store,
    set: &RangeSet,
    code: Code,
    passed_over: &PassedOver,
) -> Result<Error> {
    let boot = store.boot().to_owned();
    let (used, leaked) = store.fold(|(used, leaked): &mut (usize, usize), lease| {
        let addresses = lease.addresses.iter().filter(|ip| set.is_usable(**ip)).count();
        *used += addresses;
        *leaked +=
            if addresses > 0 && State::of(&lease, &boot).looks_leaked() { addresses } else { 0 };
    })?;
    let total = set.size();
    let msg = format!(
        "no IP addresses available in range set: {set}: {used} of {total} in use, {leaked} of them \
         look leaked"
    );
    let way_out = "`cnitool leases` shows who has them; an address becomes free by the DEL of its \
                   container or by GC; or add a range";
    Ok(Error::new(code, msg).details(match passed_over.to_string() {
        none if none.is_empty() => way_out.to_owned(),
        others => format!("{others}; {way_out}"),
    }))
}

/// Addresses that have no lease, and were not handed out: one sentence about all of them.
#[derive(Debug, Default)]
pub struct PassedOver {
    first: Option<IpAddr>,
    by: Vec<String>,
    more: usize,
}

impl PassedOver {
    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.first.is_none()
    }

    /// Another one.
    pub fn push(&mut self, address: IpAddr, found: &Use) {
        const TOLD: usize = 3;
        self.first.get_or_insert(address);
        if self.by.contains(&found.by) {
            // Tried again after somebody else has lost an address.
        } else if self.by.len() < TOLD {
            self.by.push(found.by.clone());
        } else {
            self.more += 1;
        }
    }
}

impl Display for PassedOver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(first) = self.first else { return Ok(()) };
        let by = self.by.join("; ");
        write!(f, "{first} has no lease, but is not handed out: {by}")?;
        if self.more > 0 { write!(f, "; and more like these") } else { Ok(()) }
    }
}

/// Addresses as a message has them.
pub fn list(addresses: &[IpAddr]) -> String {
    addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::range::Limits;
    use crate::record::tests::a_lease;
    use crate::record::{HostLink, Lessee, Origin};
    use crate::store::tests::{Temporary, pool};
    use std::time::Duration;

    /// Five addresses of 198.51.100.0/29, which are taken by the boots and ages of `leases`.
    fn full(pool: &Pool, leases: &[(&str, u64)]) -> (Store, RangeSet) {
        let limits = Limits { subnet: "198.51.100.0/29".parse().ok(), ..Limits::default() };
        let mut store = Store::create(pool).unwrap();
        for (number, (boot, age)) in leases.iter().enumerate() {
            let mut lease = a_lease(&format!("198.51.100.{}", number + 2), &format!("c{number}"));
            lease.origin = Origin {
                time: now() - age,
                boot: Some(match *boot {
                    "this" | "lo" => store.boot().to_owned(),
                    boot => boot.to_owned(),
                }),
                inode: Some(1),
                netns: "/nowhere".into(),
                link: Some(HostLink {
                    name: if *boot == "lo" { "lo" } else { "gone" }.into(),
                    netns: own_netns(),
                }),
                ..Origin::default()
            };
            store.lease(&lease).unwrap();
        }
        (store, RangeSet::new(&[limits]).unwrap())
    }

    fn remaining(store: &mut Store) -> Vec<String> {
        store.leases().unwrap().iter().map(|lease| lease.lessee.container()).collect()
    }

    #[test]
    fn earlier_boots_go_first_and_whoever_may_live_stays() {
        let directory = Temporary::new();
        let mut pool = pool(&directory);
        pool.grace_age = Duration::from_secs(60);
        // "lo" is a link that is there.
        let leases = [("this", 900), ("b1", 0), ("lo", 900), ("b2", 500), ("this", 0)];
        let (mut store, set) = full(&pool, &leases);
        let steps = [&["c0", "c2", "c3", "c4"][..], &["c0", "c2", "c4"], &["c2", "c4"], &["c2"]];
        for expected in steps {
            assert!(make_room(&mut store, &pool, &set).unwrap());
            assert_eq!(remaining(&mut store), expected);
        }
        assert!(!make_room(&mut store, &pool, &set).unwrap());
        assert!(!can_make_room(&mut store, &pool, &set).unwrap());
        // A late DEL finds nothing.
        assert!(store.leases_of(&Lessee::new("c1", "eth0")).unwrap().is_empty());
        let none = PassedOver::default();
        let error = exhausted(&mut store, &set, Code::TryAgain, &none).unwrap().to_string();
        assert!(error.contains("1 of 5 in use, 1 of them look leaked"), "{error}");
    }

    #[test]
    fn a_clock_that_was_set_back_makes_nobody_young_for_ever() {
        let directory = Temporary::new();
        let mut pool = pool(&directory);
        pool.grace_age = Duration::from_secs(60);
        let mut lease = a_lease("198.51.100.2", "c");
        for (time, young) in [(now(), true), (now() + 90, false), (u64::MAX, false), (0, false)] {
            lease.origin.time = time;
            assert_eq!(is_young(&lease, &pool), young, "{time}");
        }
    }

    #[test]
    fn never_means_never() {
        let directory = Temporary::new();
        let mut pool = pool(&directory);
        pool.reclaim = Reclaim::Never;
        let (mut store, set) = full(&pool, &[("b1", 900); 5]);
        assert!(!make_room(&mut store, &pool, &set).unwrap());
        assert_eq!(remaining(&mut store).len(), 5);
    }

    #[test]
    fn a_file_of_nobody_is_given_up_and_one_that_cannot_be_read_is_not() {
        let directory = Temporary::new();
        let pool = pool(&directory);
        std::fs::create_dir_all(pool.directory.join("198.51.100.2")).unwrap();
        std::fs::write(pool.directory.join("198.51.100.3"), "").unwrap();
        let (mut store, set) = full(&pool, &[]);
        assert_eq!(remaining(&mut store).len(), 2);
        assert!(make_room(&mut store, &pool, &set).unwrap());
        assert!(!make_room(&mut store, &pool, &set).unwrap());
        assert_eq!(store.leases().unwrap()[0].addresses[0].to_string(), "198.51.100.2");
    }
}
