//! Elements that nobody will delete: their attachment is gone, and its DEL never came, or was done
//! by plugins that do not know them.

use crate::claims::{BRIDGE, Claims, TABLES};
use crate::cni::{Owner, Result};
use crate::hostports::has_veth_note;
use crate::in_use::Residents;
use crate::net::Netlink;
use crate::net::nft::Family;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// What an attachment has left.
#[derive(Debug, Default)]
struct Left {
    elements: usize,
    /// Some are made for links of ours only, whose absence proves that the attachment is gone.
    has_own_link: bool,
    /// Those that some of its elements are about.
    addresses: Vec<IpAddr>,
}

/// Owners of elements in our tables that are gone, each with the number of elements. Who is named by
/// a link lives, and `is_alive` may know others; of the rest it has to be proven that they do not.
///
/// # Errors
/// When the kernel cannot be asked.
pub fn leftovers(is_alive: impl Fn(&Owner) -> bool) -> Result<Vec<(Owner, usize)>> {
    let mut claims = Claims::open()?;
    let mut owners = BTreeMap::<Owner, Left>::new();
    for table in [TABLES[0], TABLES[1], BRIDGE] {
        for name in claims.nft().list_sets(table)? {
            let is_of_bridge = name.starts_with("masqueraded") || name.starts_with("checked-");
            for element in claims.nft().list_elements(table, &name)? {
                let comment = element.comment.unwrap_or_default();
                let Some(owner) = Owner::read(&comment) else { continue };
                let left = owners.entry(owner).or_default();
                left.elements += 1;
                left.has_own_link |= is_of_bridge || has_veth_note(&comment);
                left.addresses.extend(address(table.family, element.key.first()));
            }
        }
    }
    let netlink = Netlink::open()?;
    // After the elements: whoever makes one has made the link before.
    let links = netlink.list_links()?;
    let named: BTreeSet<_> =
        links.iter().filter_map(|link| Owner::read(link.alias.as_deref()?)).collect();
    owners.retain(|owner, _| !named.contains(owner) && !is_alive(owner));
    let (mut residents, mut gone) = (Residents::new(&netlink), Vec::new());
    for (owner, left) in owners {
        let mut is_gone = left.has_own_link || !left.addresses.is_empty();
        for address in left.addresses.iter().filter(|_| !left.has_own_link) {
            is_gone &= residents.lack(*address)?;
        }
        gone.extend(is_gone.then_some((owner, left.elements)));
    }
    Ok(gone)
}

/// The address that a key is, in a table about addresses.
fn address(family: Family, key: &[u8]) -> Option<IpAddr> {
    match family {
        Family::Ip => <[u8; 4]>::try_from(key).ok().map(IpAddr::from),
        Family::Ip6 => <[u8; 16]>::try_from(key).ok().map(IpAddr::from),
        Family::Bridge | Family::Inet => None,
    }
}
