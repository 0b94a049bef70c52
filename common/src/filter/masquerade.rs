//! Source NAT for an attachment: what its pod sends beyond its own subnet leaves with the host's
//! address.
//!
//! ```text
//! table ip girder {
//!     map masqueraded {                     # an element per pod, with its owner as comment
//!         type ipv4_addr : verdict
//!         elements = { 10.1.0.2 comment "pods c1 eth0" : goto masquerade-10.1.0.0/24 }
//!     }
//!     chain masquerade-10.1.0.0/24 {        # a chain per subnet, and per ipMasqExclude
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

use crate::attach::kept::Kept;
use crate::attach::owner::{Owner, digest};
use crate::cni::{Cidr, Error, Result, Success, Undo};
use crate::filter::backend::{Backend, create_instead};
use crate::filter::elements::{
    ABOUT, Comment, Elements, OwnedElement, Shared, SharedRuleset, table,
};
use crate::filter::restore::{Expected, ExpectedElements};
use crate::net::Family;
use crate::net::nft::{
    AddressField, Base, Batch, Chain, ChainKind, Content, Data, Datatype, Element, Expr, Feature,
    Field, Hook, Make, Nft, Policy, SRCNAT, Set, SetName, Verdict, octets,
};
use ipnetwork::IpNetwork;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

mod iptables;
mod scope;

pub use scope::Scope;

pub(super) const MAP: &str = "masqueraded";
const POSTROUTING: &str = "postrouting";
/// What the chain of a subnet is called before the subnet.
const CHAIN_PREFIX: &str = "masquerade-";

/// The packet filter, for the elements of one network.
///
/// Drop it after the link has been deleted: see [`Nft`].
pub struct Masquerade {
    elements: Elements,
}

impl Masquerade {
    /// # Errors
    /// When there is no room for a socket.
    pub fn open() -> Result<Self> {
        Ok(Self { elements: Elements::open()? })
    }

    /// By this socket.
    pub fn new(nft: Nft) -> Self {
        Self { elements: Elements::new(nft) }
    }

    /// Masquerades what comes from the addresses of `success`, as far as it is in `scope`.
    ///
    /// # Errors
    /// When the kernel refuses, or iptables, where it is asked for or the kernel has nothing else.
    pub fn create(
        &mut self,
        success: &Success,
        scope: &Scope,
        owner: &Owner,
        undo: &mut Undo,
    ) -> Result<()> {
        if scope.backend == Backend::Iptables {
            return iptables::create(success, scope, owner, undo);
        }
        let outcome = self.create_here(success, scope, owner, undo);
        let Err(refused) = outcome else { return Ok(()) };
        create_instead(refused, find_lack(success, scope)?, "masquerades", || {
            iptables::create(success, scope, owner, undo)
        })
    }

    /// Whether pods could be masqueraded: what the kernel lacks, where iptables would do it for a
    /// configuration that names no backend.
    ///
    /// # Errors
    /// Code 50 when neither can.
    pub fn probe() -> Result<Option<Feature>> {
        // Of TEST-NET-1, whose chain nobody has made.
        let address = IpNetwork::new(Ipv4Addr::new(192, 0, 2, 1).into(), 24).map(Cidr::from);
        let address = address.map_err(|error| Error::internal(error.to_string()))?;
        Backend::Any.probe(&Subnet { address, exclude: Vec::new() }.declare()?, "nat")
    }

    fn create_here(
        &mut self,
        success: &Success,
        scope: &Scope,
        owner: &Owner,
        undo: &mut Undo,
    ) -> Result<()> {
        let comment = Comment::new(owner);
        for subnet in subnets(success, scope) {
            self.elements.create(&[subnet.element()], &comment, &subnet, undo)?;
        }
        Ok(())
    }

    /// What [`create`](Self::create) makes.
    ///
    /// # Errors
    /// When it cannot be expressed, or the kernel cannot be asked.
    pub fn expected_state(
        success: &Success,
        scope: &Scope,
        owner: &Owner,
    ) -> Result<Vec<Expected>> {
        if scope.backend == Backend::Iptables || find_lack(success, scope)?.is_some() {
            let (success, scope, owner) = (success.clone(), scope.clone(), owner.clone());
            let rules = iptables::ExpectedRules { success, scope, owner };
            return Ok(vec![Expected::External(Box::new(rules))]);
        }
        let comment = Comment::new(owner);
        let of_subnet = |subnet: Subnet| {
            let elements = vec![subnet.element()];
            Ok(Expected::Own(ExpectedElements::new(elements, comment.clone(), subnet.declare()?)))
        };
        subnets(success, scope).into_iter().map(of_subnet).collect()
    }

    /// Deletes what the attachment has. `success` saves a look at all elements, if it is there and
    /// its addresses are those that we find.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub(crate) fn delete(&mut self, success: Option<&Success>, owner: &Owner) -> Result<()> {
        let ours = |comment: &str| owner.is_in(comment);
        let ips = success.map(|success| success.ips.as_slice()).unwrap_or_default();
        let address = |ip: IpAddr| (map_of(ip), octets(ip).into());
        let keys: Vec<_> = ips.iter().map(|ip| address(ip.address.ip())).collect();
        // Not all of them need be masqueraded, but if one is, they are those of the ADD.
        if self.elements.delete(&keys, ours)? == 0 {
            self.elements.delete_where(&MAPS, ours)?;
        }
        Ok(())
    }

    /// Deletes what belongs to nobody who is kept, and chains that nobody's elements lead to.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub(crate) fn sweep(&mut self, kept: &Kept<'_>) -> Result<()> {
        self.elements.sweep(&MAPS, kept)?;
        self.elements.delete_unused_chains(|name| name.starts_with(CHAIN_PREFIX))
    }

    /// Every address of the result that is not masqueraded as it should be.
    ///
    /// # Errors
    /// When the kernel cannot be asked.
    pub fn verify(
        &mut self,
        success: &Success,
        scope: &Scope,
        owner: &Owner,
    ) -> Result<Vec<String>> {
        if scope.backend == Backend::Iptables {
            return iptables::verify(success, scope, owner);
        }
        let mut differences = Vec::new();
        for subnet in subnets(success, scope) {
            if !self.elements.missing(&[subnet.element()], owner)?.is_empty() {
                differences.push(format!("{} is not masqueraded", subnet.address));
            } else if !self.elements.is_whole(&subnet)? {
                let table = map_of(subnet.address.ip()).table;
                differences.push(format!("{}: rules of {table} are missing", subnet.address));
            }
        }
        if !differences.is_empty() && find_lack(success, scope)?.is_some() {
            return iptables::verify(success, scope, owner);
        }
        Ok(differences)
    }
}

/// What the kernel lacks, so that iptables masquerades, unless the configuration says who does.
fn find_lack(success: &Success, scope: &Scope) -> Result<Option<Feature>> {
    for subnet in subnets(success, scope) {
        let lack = scope.backend.find_lack(&subnet.declare()?)?;
        if lack.is_some() {
            return Ok(lack);
        }
    }
    Ok(None)
}

const MAPS: [Shared; 2] = [map(Family::V4), map(Family::V6)];

const fn map(family: Family) -> Shared {
    SetName { table: table(family), name: MAP }
}

fn map_of(ip: IpAddr) -> Shared {
    map(Family::of(ip))
}

/// A pod's address in its subnet, and what is not masqueraded there.
struct Subnet {
    address: Cidr,
    /// Of its family, sorted, each one once.
    exclude: Vec<Cidr>,
}

fn subnets(success: &Success, scope: &Scope) -> Vec<Subnet> {
    let wanted = success.ips.iter().map(|ip| ip.address).filter(|address| scope.has(address));
    wanted
        .map(|address| {
            let family = |cidr: &Cidr| Family::of(cidr.ip());
            let same_family = |network: &&Cidr| family(network) == family(&address);
            let exclude = scope.exclude.iter().filter(same_family);
            let mut exclude: Vec<_> = exclude.copied().collect();
            exclude.sort();
            exclude.dedup();
            Subnet { address, exclude }
        })
        .collect()
}

impl Subnet {
    fn element(&self) -> OwnedElement {
        let ip = self.address.ip();
        let data = Some(Data::Verdict(Verdict::Goto(self.chain())));
        OwnedElement { set: map_of(ip), key: octets(ip).into(), data }
    }

    /// The name tells all that the rules depend on, so a chain of that name is the right one. It has
    /// no colon, which nft(8) could not read back.
    fn chain(&self) -> String {
        let address = &self.address;
        let name =
            format!("{CHAIN_PREFIX}{}/{}", address.network(), address.prefix()).replace(':', "_");
        if self.exclude.is_empty() {
            return name;
        }
        let exclude: String = self.exclude.iter().map(|network| format!("{network} ")).collect();
        format!("{name}-{}", digest(exclude, 4))
    }
}

impl SharedRuleset for Subnet {
    fn declare(&self) -> Result<Batch> {
        let (datatype, multicast) = match self.address.ip() {
            IpAddr::V4(_) => {
                (Datatype::Ipv4Addr, IpNetwork::new(Ipv4Addr::new(224, 0, 0, 0).into(), 4))
            }
            IpAddr::V6(_) => {
                let all = Ipv6Addr::new(0xff00, 0, 0, 0, 0, 0, 0, 0);
                (Datatype::Ipv6Addr, IpNetwork::new(all.into(), 8))
            }
        };
        let multicast = multicast.map_err(|error| Error::internal(error.to_string()))?;
        let SetName { table, name } = map_of(self.address.ip());
        let map =
            Set { table, name, key: &[datatype], content: Content::Verdicts, intervals: false };
        let base = Base {
            kind: ChainKind::Nat,
            hook: Hook::Postrouting,
            priority: SRCNAT,
            policy: Policy::Accept,
        };
        let chain = self.chain();
        let mut batch = Batch::new();
        batch
            .table(Make::Ensure, table, ABOUT)
            .set(Make::Ensure, &map)
            .empty_chain(&Chain { base: Some(base), ..Chain::named(table, POSTROUTING) })
            .rule(
                table,
                POSTROUTING,
                &[Expr::Vmap(&[Field::Address(AddressField::Source)], MAP)],
                None,
            )
            .empty_chain(&Chain::named(table, &chain));
        let exclude = self.exclude.iter().map(|network| **network);
        for destination in [*self.address, multicast].into_iter().chain(exclude) {
            let exprs = [
                Expr::Within(AddressField::Destination, destination),
                Expr::Verdict(Verdict::Return),
            ];
            batch.rule(table, &chain, &exprs, None);
        }
        batch.rule(table, &chain, &[Expr::Masquerade], None);
        Ok(batch)
    }

    /// IPAM says whose address it is now: another owner's element is left over.
    fn may_replace(&self, _: &OwnedElement, _: &Element) -> Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cni::Ip;

    fn success(addresses: &[&str]) -> Success {
        let ip = |address: &&str| Ip {
            address: address.parse().unwrap(),
            gateway: None,
            interface: None,
        };
        Success { ips: addresses.iter().map(ip).collect(), ..Success::default() }
    }

    const ALL: Scope =
        Scope { families: &Family::ALL, exclude: Vec::new(), backend: Backend::Nftables };

    fn chains(scope: &Scope) -> Vec<String> {
        let success = success(&["10.1.0.2/24", "fd00:1::5/64"]);
        subnets(&success, scope).iter().map(Subnet::chain).collect()
    }

    #[test]
    fn chains_are_named_after_the_subnet() {
        assert_eq!(chains(&ALL), ["masquerade-10.1.0.0/24", "masquerade-fd00_1__/64"]);
        let scope = Scope { families: &[Family::V6], ..ALL };
        assert_eq!(chains(&scope), ["masquerade-fd00_1__/64"]);
    }

    #[test]
    fn chains_are_named_after_what_they_exclude_in_whatever_order() {
        let scope = |exclude: &[&str]| Scope {
            exclude: exclude.iter().map(|network| network.parse().unwrap()).collect(),
            ..ALL
        };
        let one = chains(&scope(&["10.0.0.0/8", "192.168.0.0/16"]));
        assert_eq!(one[1], "masquerade-fd00_1__/64");
        assert_eq!(one[0].len(), "masquerade-10.1.0.0/24-12345678".len());
        assert_eq!(one, chains(&scope(&["192.168.0.0/16", "10.0.0.0/8", "10.0.0.0/8"])));
        assert_ne!(one, chains(&scope(&["10.0.0.0/8"])));
    }
}
