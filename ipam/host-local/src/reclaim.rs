//! Leases whose holder is gone, and which of them may be ended to make room.

use crate::config::{Pool, Reclaim};
use crate::range::RangeSet;
use crate::record::Lease;
use crate::store::{Store, now};
use common::cni::report;
use common::{Code, Error, Result, in_use};
use std::fs::metadata;
use std::net::IpAddr;
use std::os::unix::fs::MetadataExt as _;

/// Whether the lease is of an earlier boot, which no network namespace outlives.
pub fn is_of_earlier_boot(lease: &Lease, boot: &str) -> bool {
    !boot.is_empty() && lease.holder.boot.as_deref().is_some_and(|made_in| made_in != boot)
}

/// Whether the holder's namespace is not where it was: a hint, and no proof, because it may live on
/// without that path.
pub fn is_path_gone(lease: &Lease) -> bool {
    let holder = &lease.holder;
    !holder.netns.is_empty()
        && holder
            .inode
            .is_some_and(|inode| metadata(&holder.netns).map_or(true, |found| found.ino() != inode))
}

/// Whether the holder's namespace is gone for sure. A path proves nothing: the namespace may be
/// known by another one, or in another mount namespace, or be held by a process or a file
/// descriptor. But the kernel keeps the host's end of a pair as long as the namespace of the other.
fn is_netns_gone(lease: &Lease) -> bool {
    let link = lease.holder.link.as_deref();
    is_path_gone(lease) && link.is_some_and(|link| !in_use::has_link(link))
}

/// What can be told about the holder of a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// The namespace is where it was.
    Lives,
    /// Nothing is known, as of what the Go plugin has leased.
    Unknown,
    /// The namespace is not where it was: perhaps it lives elsewhere.
    PathGone,
    /// The namespace is gone for sure.
    NetnsGone,
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
        } else if lease.owner.is_unknown() {
            Self::Nobodys
        } else if is_netns_gone(lease) {
            Self::NetnsGone
        } else if is_path_gone(lease) {
            Self::PathGone
        } else if lease.holder.inode.is_some() {
            Self::Lives
        } else {
            Self::Unknown
        }
    }

    /// Whether it looks as if nobody held it any more.
    pub fn looks_leaked(self) -> bool {
        !matches!(self, Self::Lives | Self::Unknown)
    }
}

/// Whether the lease is younger than the configured age, as far as the clock can be believed.
pub fn is_young(lease: &Lease, pool: &Pool) -> bool {
    now().saturating_sub(lease.holder.time) < pool.grace_age.as_secs()
}

/// Whether no living container has one of its addresses on a link that tells.
pub fn is_without_tenant(lease: &Lease) -> bool {
    lease.addresses.iter().all(|ip| in_use::tenant(*ip).is_none())
}

fn is_in(set: &RangeSet, lease: &Lease) -> bool {
    lease.addresses.iter().any(|ip| set.is_usable(*ip))
}

/// Makes room in an exhausted range set by ending one lease, the oldest whose holder is dead.
///
/// # Errors
/// Code 5 and 6.
pub fn make_room(store: &mut Store, pool: &Pool, set: &RangeSet) -> Result<bool> {
    for lease in dead(store, pool, set)? {
        if !is_without_tenant(&lease) {
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
    Ok(dead(store, pool, set)?.iter().any(is_without_tenant))
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
                || !is_young(lease, pool)
                    && (pool.reclaim == Reclaim::Netns && is_netns_gone(lease)
                        || lease.owner.is_unknown()))
    })?;
    leases.retain(|lease| {
        !lease.owner.is_unknown() || is_of_earlier_boot(lease, &boot) || store.is_nobodys(lease)
    });
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
        "it was made before the machine was started"
    } else if lease.owner.is_unknown() {
        "its file does not tell whose it is"
    } else {
        "its network namespace is gone"
    };
    store.release(std::slice::from_ref(lease))?;
    report(format_args!(
        "reclaimed {} from container {:?}, interface {:?}, since {} s: {why}",
        list(&lease.addresses),
        lease.owner.container(),
        lease.owner.ifname(),
        now().saturating_sub(lease.holder.time),
    ));
    Ok(())
}

/// The error of a range set that has no free address, for ADD and for STATUS.
///
/// # Errors
/// Code 5 and 6.
pub fn exhausted(store: &mut Store, set: &RangeSet, code: Code) -> Result<Error> {
    let boot = store.boot().to_owned();
    let (mut used, mut leaked) = (0, 0);
    store.leases_where(|lease| {
        let addresses = lease.addresses.iter().filter(|ip| set.is_usable(**ip)).count();
        used += addresses;
        leaked +=
            if addresses > 0 && State::of(lease, &boot).looks_leaked() { addresses } else { 0 };
        false
    })?;
    let total = set.size();
    let msg = format!(
        "no IP addresses available in range set: {set}: {used} of {total} in use, {leaked} of them \
         look leaked"
    );
    Ok(Error::new(code, msg).details(
        "`cnitool leases` shows who has them; an address becomes free by the DEL of its container \
         or by GC; or add a range",
    ))
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
    use crate::record::{Holder, Owner};
    use crate::store::tests::{Directory, pool};
    use std::time::Duration;

    /// Five addresses of 198.51.100.0/29, which are taken by the boots and ages of `leases`.
    fn full(pool: &Pool, leases: &[(&str, u64)]) -> (Store, RangeSet) {
        let limits = Limits { subnet: "198.51.100.0/29".parse().ok(), ..Limits::default() };
        let mut store = Store::create(pool).unwrap();
        for (number, (boot, age)) in leases.iter().enumerate() {
            let mut lease = a_lease(&format!("198.51.100.{}", number + 2), &format!("c{number}"));
            lease.holder = Holder {
                time: now() - age,
                boot: Some(if *boot == "this" { store.boot().to_owned() } else { (*boot).into() }),
                inode: Some(1),
                netns: "/nowhere".into(),
                link: Some("gone".into()),
                ..Holder::default()
            };
            store.lease(&lease).unwrap();
        }
        (store, RangeSet::new(&[limits]).unwrap())
    }

    fn remaining(store: &mut Store) -> Vec<String> {
        store.leases().unwrap().iter().map(|lease| lease.owner.container()).collect()
    }

    #[test]
    fn earlier_boots_go_first_and_whoever_may_live_stays() {
        let directory = Directory::new();
        let mut pool = pool(&directory);
        pool.grace_age = Duration::from_secs(60);
        let leases = [("this", 900), ("b1", 0), ("this", 10), ("b2", 500), ("this", 800)];
        let (mut store, set) = full(&pool, &leases);
        for expected in [&["c0", "c2", "c3", "c4"][..], &["c0", "c2", "c4"]] {
            assert!(make_room(&mut store, &pool, &set).unwrap());
            assert_eq!(remaining(&mut store), expected);
        }
        assert!(!make_room(&mut store, &pool, &set).unwrap());
        pool.reclaim = Reclaim::Netns;
        for expected in [&["c2", "c4"][..], &["c2"]] {
            assert!(make_room(&mut store, &pool, &set).unwrap());
            assert_eq!(remaining(&mut store), expected);
        }
        assert!(!make_room(&mut store, &pool, &set).unwrap());
        assert!(!can_make_room(&mut store, &pool, &set).unwrap());
        // A late DEL finds nothing.
        assert!(store.leases_of(&Owner::new("c1", "eth0")).unwrap().is_empty());
        let error = exhausted(&mut store, &set, Code::TryAgain).unwrap().to_string();
        assert!(error.contains("1 of 5 in use, 1 of them look leaked"), "{error}");
    }

    #[test]
    fn never_means_never() {
        let directory = Directory::new();
        let mut pool = pool(&directory);
        pool.reclaim = Reclaim::Never;
        let (mut store, set) = full(&pool, &[("b1", 900); 5]);
        assert!(!make_room(&mut store, &pool, &set).unwrap());
        assert_eq!(remaining(&mut store).len(), 5);
    }

    #[test]
    fn a_file_of_nobody_is_given_up_and_one_that_cannot_be_read_is_not() {
        let directory = Directory::new();
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
