//! Elements that nobody will delete: their attachment is gone, and its DEL never came, or was done
//! by plugins that do not know them.

use crate::attach::Owner;
use crate::attach::in_use::Containers;
use crate::cni::Result;
use crate::filter::elements::{BRIDGE, Elements, TABLES, has_veth_note};
use crate::filter::masquerade;
use crate::net::Netlink;
use crate::net::has_link;
use crate::net::nft::{Family, Key, SetName};
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

impl Left {
    fn note(&mut self, set: SetName<'_>, key: &Key, comment: &str) {
        self.elements += 1;
        self.has_own_link |= has_veth_note(comment) || set.name == masquerade::MAP;
        match (set.table.family, key.first()) {
            (Family::Ip | Family::Ip6, key) => self.addresses.extend(address(key)),
            // The kernel knows each port of a bridge by its name, and lets go of it with the link.
            (_, key) => self.has_own_link |= port_name(key).is_some_and(|name| !has_link(&name)),
        }
    }
}

/// Owners of elements in our tables that are gone, each with the number of elements. Who is named by
/// a link lives, and `is_alive` may know others; of the rest it has to be proven that they do not.
///
/// # Errors
/// When the kernel cannot be asked.
pub fn leftovers(is_alive: impl Fn(&Owner) -> bool) -> Result<Vec<(Owner, usize)>> {
    let mut elements = Elements::open()?;
    let mut owners = BTreeMap::<Owner, Left>::new();
    for table in [TABLES[0], TABLES[1], BRIDGE] {
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
    // After the elements: whoever makes one has made the link before.
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

/// The address that a key is, if it is one.
fn address(key: &[u8]) -> Option<IpAddr> {
    let v4 = <[u8; 4]>::try_from(key).map(IpAddr::from);
    v4.or_else(|_| <[u8; 16]>::try_from(key).map(IpAddr::from)).ok()
}

/// The link that a key begins with.
fn port_name(key: &[u8]) -> Option<String> {
    let name = key.split(|byte| *byte == 0).next()?;
    String::from_utf8(name.to_vec()).ok().filter(|name| !name.is_empty())
}
