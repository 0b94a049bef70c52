//! Source NAT for an attachment: what its pod sends beyond its own subnet leaves with the host's
//! address.
//!
//! ```text
//! table ip girder {
//!     map masqueraded {                     # an element per pod, with its owner as comment
//!         type ipv4_addr : verdict
//!         elements = { 10.1.0.2 comment "pods c1 eth0" : goto masquerade-10.1.0.0/24 }
//!     }
//!     chain masquerade-10.1.0.0/24 {        # a chain per subnet
//!         ip daddr 10.1.0.0/24 return
//!         ip daddr 224.0.0.0/4 return
//!         masquerade
//!     }
//!     chain postrouting {
//!         type nat hook postrouting priority srcnat; policy accept;
//!         ip saddr vmap @masqueraded
//!     }
//! }
//! ```
//!
//! and the same as `table ip6 girder`. Tables, chains and maps are shared and stay; how many there
//! are does not depend on how many pods there are.

use crate::cni::{Attachment, Cidr, Error, Errors, NetworkName, Owner, Result, Success};
use crate::net::nft::{
    Address, Base, Batch, Chain, ChainKind, Content, Data, Datatype, Element, Expr, Family, Hook,
    Make, Nft, Policy, SRCNAT, Set, Table, Verdict,
};
use crate::undo::Undo;
use ipnetwork::IpNetwork;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

const MAP: &str = "masqueraded";
const POSTROUTING: &str = "postrouting";

/// The packet filter, for the elements of one network.
///
/// Drop it after the link has been deleted: see [`Nft`].
pub struct Masquerade {
    nft: Nft,
}

impl Masquerade {
    /// # Errors
    /// When the kernel has no nftables.
    pub fn open() -> Result<Self> {
        Ok(Self { nft: Nft::open()? })
    }

    /// Masquerades what comes from the addresses of `success`.
    ///
    /// # Errors
    /// When the kernel refuses, or another attachment has one of the addresses.
    pub fn create(&mut self, success: &Success, owner: &Owner, undo: &mut Undo) -> Result<()> {
        for ip in &success.ips {
            let (subnet, owner) = (ip.address, owner.clone());
            self.create_element(&subnet, &owner)?;
            undo.push(format!("masquerading of {subnet}"), move || {
                Self::open()?.delete_owned(&[subnet], &owner).map(drop)
            });
        }
        Ok(())
    }

    fn create_element(&mut self, address: &Cidr, owner: &Owner) -> Result<()> {
        let table = table_of(address.ip());
        let chain = chain_name(address);
        let element = Element {
            key: key(address.ip()),
            data: Some(Data::Verdict(Verdict::Goto(chain.clone()))),
            comment: Some(owner.as_str().to_owned()),
        };
        // Others may change the same element meanwhile, whose owner is cleaned up late.
        let mut attempts = 0;
        loop {
            let mut batch = Batch::new();
            if !self.is_complete(table, &chain)? {
                declare(&mut batch, table, &chain, address)?;
            }
            // An attachment that nobody cleaned up has left it; IPAM says whose address it is now.
            if self.nft.find_element(table, MAP, &element.key)?.is_some() {
                batch.delete_element(table, MAP, &element.key);
            }
            batch.element(Make::Create, table, MAP, &element);
            attempts += 1;
            match self.nft.commit(batch) {
                Err(error) if attempts < 5 && (error.is_gone() || error.is_exists()) => {}
                outcome => return Ok(outcome?),
            }
        }
    }

    /// Whether the shared rules are there. Somebody may have flushed them.
    fn is_complete(&mut self, table: Table<'_>, chain: &str) -> Result<bool> {
        Ok(self.nft.count_rules(table, POSTROUTING)? >= 1
            && self.nft.count_rules(table, chain)? >= CHAIN_RULES)
    }

    /// Removes what the attachment has. `success` saves a look at all elements, if it is there and
    /// its addresses are those that we find.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn delete(&mut self, success: Option<&Success>, owner: &Owner) -> Result<()> {
        let ips = success.map(|success| success.ips.as_slice()).unwrap_or_default();
        let addresses: Vec<_> = ips.iter().map(|ip| ip.address).collect();
        if self.delete_owned(&addresses, owner)? < addresses.len().max(1) {
            self.delete_where(|comment| comment == owner.as_str())?;
        }
        Ok(())
    }

    /// How many of them were there and ours.
    fn delete_owned(&mut self, addresses: &[Cidr], owner: &Owner) -> Result<usize> {
        let mut deleted = 0;
        for address in addresses {
            let (table, key) = (table_of(address.ip()), key(address.ip()));
            let element = self.nft.find_element(table, MAP, &key)?;
            if element.is_some_and(|element| element.comment.as_deref() == Some(owner.as_str())) {
                deleted += self.nft.delete_elements(table, MAP, &[key])?;
            }
        }
        Ok(deleted)
    }

    /// Removes what belongs to attachments of the network that are not valid any more.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn sweep(&mut self, network: &NetworkName, valid: &[Attachment]) -> Result<()> {
        let valid: Vec<_> = valid.iter().map(|attachment| attachment.owner(network)).collect();
        self.delete_where(|comment| {
            Owner::is_of(comment, network) && !valid.iter().any(|owner| owner.as_str() == comment)
        })
    }

    fn delete_where(&mut self, is_dead: impl Fn(&str) -> bool) -> Result<()> {
        let mut errors = Errors::default();
        for table in [TABLE_IP, TABLE_IP6] {
            let dead = |element: &Element| element.comment.as_deref().is_some_and(&is_dead);
            let Some(elements) = errors.note(self.nft.list_elements(table, MAP)) else { continue };
            let keys: Vec<_> =
                elements.into_iter().filter(dead).map(|element| element.key).collect();
            errors.note(self.nft.delete_elements(table, MAP, &keys));
        }
        errors.into_result()
    }

    /// Every address of the result that is not masqueraded.
    ///
    /// # Errors
    /// When the kernel cannot be asked.
    pub fn verify(&mut self, success: &Success, owner: &Owner) -> Result<Vec<String>> {
        let mut differences = Vec::new();
        for ip in &success.ips {
            let (table, key) = (table_of(ip.address.ip()), key(ip.address.ip()));
            let element = self.nft.find_element(table, MAP, &key)?;
            if element.is_none_or(|element| element.comment.as_deref() != Some(owner.as_str())) {
                differences.push(format!("{} is not masqueraded", ip.address));
            } else if !self.is_complete(table, &chain_name(&ip.address))? {
                differences.push(format!("{}: rules of {table} are missing", ip.address));
            }
        }
        Ok(differences)
    }
}

const TABLE_IP: Table<'_> = Table { family: Family::Ip, name: "girder" };
const TABLE_IP6: Table<'_> = Table { family: Family::Ip6, name: "girder" };

fn table_of(ip: IpAddr) -> Table<'static> {
    if ip.is_ipv4() { TABLE_IP } else { TABLE_IP6 }
}

fn key(ip: IpAddr) -> Vec<u8> {
    match ip {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    }
}

/// How many rules [`declare`] gives to the chain of a subnet.
const CHAIN_RULES: usize = 3;

/// Makes what is shared as it should be, whatever of it is there, in one transaction: two that do
/// so at once do no harm to each other.
fn declare(batch: &mut Batch, table: Table<'_>, chain: &str, address: &Cidr) -> Result<()> {
    let (datatype, multicast) = match address.ip() {
        IpAddr::V4(_) => {
            (Datatype::Ipv4Addr, IpNetwork::new(Ipv4Addr::new(224, 0, 0, 0).into(), 4))
        }
        IpAddr::V6(_) => (
            Datatype::Ipv6Addr,
            IpNetwork::new(Ipv6Addr::new(0xff00, 0, 0, 0, 0, 0, 0, 0).into(), 8),
        ),
    };
    let multicast = multicast.map_err(|error| Error::internal(error.to_string()))?;
    let base = Base {
        kind: ChainKind::Nat,
        hook: Hook::Postrouting,
        priority: SRCNAT,
        policy: Policy::Accept,
    };
    let map = Set { table, name: MAP, key: &[datatype], content: Content::Verdicts };
    batch
        .table(Make::Ensure, table, Some("Girder, CNI plugins"))
        .set(Make::Ensure, &map)
        .chain(Make::Ensure, &Chain { base: Some(base), ..Chain::named(table, POSTROUTING) })
        .delete_rules(table, POSTROUTING)
        .rule(table, POSTROUTING, &[Expr::Vmap(Address::Source, MAP)], None)
        .chain(Make::Ensure, &Chain::named(table, chain))
        .delete_rules(table, chain);
    for destination in [**address, multicast] {
        let exprs =
            [Expr::Within(Address::Destination, destination), Expr::Verdict(Verdict::Return)];
        batch.rule(table, chain, &exprs, None);
    }
    batch.rule(table, chain, &[Expr::Masquerade], None);
    Ok(())
}

/// nft's own language knows no colon in a name, and must be able to read back what it lists.
fn chain_name(address: &Cidr) -> String {
    format!("masquerade-{}/{}", address.network(), address.prefix()).replace(':', "_")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chains_are_named_after_the_subnet() {
        let name = |address: &str| chain_name(&address.parse().unwrap());
        assert_eq!(name("10.1.0.2/24"), "masquerade-10.1.0.0/24");
        assert_eq!(name("fd00:1::5/64"), "masquerade-fd00_1__/64");
    }
}
