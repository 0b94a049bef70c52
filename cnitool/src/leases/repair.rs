//! Leases that are ended by hand, and those that nobody can hold.

use super::{Leased, name_of};
use common::attach::in_use;
use common::{Error, Result};
use host_local::reclaim::{self, State};
use host_local::record::Lease;
use host_local::store::Store;
use std::net::IpAddr;
use std::str::FromStr;

/// Which leases are meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Selector {
    /// The one of this address.
    Address(IpAddr),
    /// Those of this container, or of its one interface.
    Container(String, Option<String>),
}

impl FromStr for Selector {
    type Err = std::convert::Infallible;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Ok(address) = text.parse() {
            return Ok(Self::Address(address));
        }
        Ok(match text.split_once(':') {
            Some((container, ifname)) => Self::Container(container.into(), Some(ifname.into())),
            None => Self::Container(text.into(), None),
        })
    }
}

impl Selector {
    fn is_of(&self, lease: &Lease) -> bool {
        match self {
            Self::Address(address) => lease.addresses.contains(address),
            Self::Container(container, ifname) => {
                lease.lessee.container() == *container
                    && ifname.as_ref().is_none_or(|ifname| lease.lessee.ifname() == *ifname)
            }
        }
    }
}

fn describe(lease: &Lease, state: State) -> String {
    let (container, ifname) = (lease.lessee.container(), lease.lessee.ifname());
    let addresses = reclaim::list(&lease.addresses);
    let state = name_of(state);
    format!("{addresses} of container {container:?}, interface {ifname:?} ({state})")
}

/// Why the holder of a lease may be alive.
fn sign_of_life(lease: &Lease, state: State) -> Option<String> {
    if state == State::Lives {
        return Some(format!("its namespace is at {}", lease.origin.netns));
    }
    let link = reclaim::link_here(lease).filter(|link| in_use::is_attachment_alive(link));
    let link = link.map(|link| format!("its link {link} is there")).filter(|_| {
        // Names of links come again with the boot.
        state != State::EarlierBoot
    });
    link.or_else(|| {
        lease.addresses.iter().find_map(|ip| in_use::Lookup::new().find(*ip).map(|found| found.by))
    })
}

/// Ends the leases that are meant: what was done, as sentences.
///
/// # Errors
/// Code 7 when nobody has such a lease, or when the holder of one shows a sign of life and it is
/// not forced: then none is ended. Otherwise as of host-local itself.
pub fn release(leased: &Leased, selectors: &[Selector], force: bool) -> Result<Vec<String>> {
    let nothing = || {
        let msg = format!("network {:?} has no such lease", leased.name.as_str());
        Error::config(msg).details(format!("cnitool leases {}", leased.name))
    };
    let mut store = Store::open(&leased.pool)?.ok_or_else(nothing)?;
    let boot = store.boot().to_owned();
    let meant =
        store.leases_where(|lease| selectors.iter().any(|selector| selector.is_of(lease)))?;
    if let Some(none) =
        selectors.iter().find(|selector| !meant.iter().any(|lease| selector.is_of(lease)))
    {
        return Err(nothing().context(format!("{none:?}")));
    }
    let mut told = Vec::new();
    for lease in &meant {
        let state = State::of(lease, &boot);
        let what = describe(lease, state);
        match sign_of_life(lease, state) {
            Some(sign) if !force => {
                return Err(Error::config(format!("{what} may be alive: {sign}"))
                    .details("DEL its container; with --force somebody else may get its address"));
            }
            _ => told.push(format!("released {what}")),
        }
    }
    store.release(&meant)?;
    Ok(told)
}

/// What was found, and done about it.
#[derive(Clone, Debug, Default)]
pub struct Repair {
    /// What is ended, or would be.
    pub ended: Vec<String>,
    /// What is odd, and left to a person.
    pub noted: Vec<String>,
}

/// Ends the leases that nobody can hold: those of an earlier boot, those whose namespace or link is
/// gone for sure, and files that tell nobody's name. What may be alive is left alone. Opening the store
/// has healed a damaged lease file by then, unless it is for a look only.
///
/// # Errors
/// As of host-local itself.
pub fn repair(leased: &Leased, dry_run: bool) -> Result<Repair> {
    let opened = if dry_run { Store::look(&leased.pool)? } else { Store::open(&leased.pool)? };
    let (mut repair, Some(mut store)) = (Repair::default(), opened) else {
        return Ok(Repair::default());
    };
    let (boot, mut dead) = (store.boot().to_owned(), Vec::new());
    for lease in store.leases()? {
        let state = State::of(&lease, &boot);
        let what = describe(&lease, state);
        let sign = sign_of_life(&lease, state);
        match (state, sign) {
            (state, None) if state.is_proven_gone() => {
                repair.ended.push(what);
                dead.push(lease);
            }
            (State::Nobodys, None)
                if store.is_nobodys(&lease) && !reclaim::is_young(&lease, &leased.pool) =>
            {
                repair.ended.push(what);
                dead.push(lease);
            }
            (State::Lives | State::Unknown, _) if !is_in_a_range(leased, &lease) => {
                repair.noted.push(format!("{what}: in no range of the configuration"));
            }
            (State::Lives | State::Unknown, _) => {}
            (_, Some(sign)) => repair.noted.push(format!("{what}: left alone, {sign}")),
            (_, None) => repair.noted.push(format!("{what}: left alone, it may be alive")),
        }
    }
    if !dry_run {
        store.release(&dead)?;
    }
    let damaged = leased.pool.directory.join("leases.damaged");
    if damaged.exists() {
        repair.noted.push(format!(
            "{} is a lease file that was healed: remove it when nobody wants to look at it",
            damaged.display()
        ));
    }
    Ok(repair)
}

fn is_in_a_range(leased: &Leased, lease: &Lease) -> bool {
    !leased.is_configured
        || lease.addresses.iter().all(|ip| leased.plan.sets.iter().any(|set| set.contains(*ip)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_selector_is_an_address_or_a_container() {
        let parse = |text: &str| text.parse::<Selector>().unwrap();
        assert_eq!(parse("10.1.0.2"), Selector::Address("10.1.0.2".parse().unwrap()));
        assert_eq!(parse("fd00::2"), Selector::Address("fd00::2".parse().unwrap()));
        assert_eq!(parse("c1"), Selector::Container("c1".into(), None));
        assert_eq!(parse("c1:eth0"), Selector::Container("c1".into(), Some("eth0".into())));
    }
}
