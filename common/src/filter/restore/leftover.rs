//! Elements that nobody will delete: their attachment is gone, and its DEL never came, or was done
//! by plugins that do not know them.

use crate::attach::Owner;
use crate::attach::in_use::Containers;
use crate::cni::Result;
use crate::filter::elements::{BRIDGE, Elements, has_veth_note, table};
use crate::filter::masquerade;
use crate::net::nft::{Key, SetName, TableFamily, address};
use crate::net::{Family, Netlink, has_link};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// What an attachment has left.
#[derive(Debug, Default)]
struct Left {
    elements: usize,
    /// Some exist only with a link of ours, whose absence proves that the attachment is gone.
    has_own_link: bool,
    /// The addresses that are keys of its elements.
    addresses: Vec<IpAddr>,
}

impl Left {
    fn note(&mut self, set: SetName<'_>, key: &Key, comment: &str) {
        self.elements += 1;
        self.has_own_link |= has_veth_note(comment) || set.name == masquerade::MAP;
        match (set.table.family, key.first()) {
            (TableFamily::Ip | TableFamily::Ip6, key) => self.addresses.extend(address(key)),
            // An element about a port of a bridge has its name, which no longer means anything once
            // the link is gone.
            (_, key) => self.has_own_link |= port_name(key).is_some_and(|name| !has_link(&name)),
        }
    }
}

/// Owners of elements in our tables that are gone, each with the number of its elements. An owner
/// that a link names is alive, and so is one that `is_alive` knows; any other has to be proven gone.
///
/// # Errors
/// When the kernel cannot be asked.
pub fn leftovers(is_alive: impl Fn(&Owner) -> bool) -> Result<Vec<(Owner, usize)>> {
    let elements = Elements::open()?;
    let mut owners = BTreeMap::<Owner, Left>::new();
    for table in [table(Family::V4), table(Family::V6), BRIDGE] {
        for name in elements.nft().list_sets(table)? {
            for element in elements.nft().list_elements(table, &name)? {
                let comment = element.comment.unwrap_or_default();
                let Some(owner) = Owner::read(&comment) else { continue };
                let set = SetName { table, name: &name };
                owners.entry(owner).or_default().note(set, &element.key, &comment);
            }
        }
    }
    let netlink = Netlink::open()?;
    // The links are listed after the elements: an ADD makes the link first.
    let links = netlink.list_links()?;
    let named: BTreeSet<_> =
        links.iter().filter_map(|link| Owner::read(link.alias.as_deref()?)).collect();
    owners.retain(|owner, _| !named.contains(owner) && !is_alive(owner));
    let (mut containers, mut gone) = (Containers::new(&netlink), Vec::new());
    for (owner, left) in owners {
        let mut is_gone = left.has_own_link || !left.addresses.is_empty();
        for address in left.addresses.iter().filter(|_| !left.has_own_link) {
            is_gone &= containers.is_free(*address)?;
        }
        gone.extend(is_gone.then_some((owner, left.elements)));
    }
    Ok(gone)
}

/// The link that a key begins with.
fn port_name(key: &[u8]) -> Option<String> {
    let name = key.split(|byte| *byte == 0).next()?;
    String::from_utf8(name.to_vec()).ok().filter(|name| !name.is_empty())
}
