//! Parts of nf_tables that a kernel may have been built without.
//!
//! What asks for one is refused with the number that a missing chain has as well. So those that a
//! refused change has asked for are tried one by one, in batches that are never committed.

use std::cell::RefCell;
use std::fmt;

use nix::libc::{EINVAL, ENOENT};

use super::{
    Base, Batch, Chain, ChainKind, Content, Datatype, DnatTarget, Expr, Field, Hook, Make, Nft,
    Policy, SRCNAT, Set, Table, TableFamily,
};
use crate::net::{Error, Result};

/// A part of nf_tables, as rules of a family need it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Feature {
    pub(super) kind: Kind,
    pub(super) family: TableFamily,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// nf_tables itself.
    All,
    /// Tables of the family.
    Family,
    /// Sets and maps.
    Sets,
    /// Those whose elements are intervals of concatenations.
    Intervals,
    /// Chains that translate addresses.
    NatChain,
    /// What connection tracking knows.
    Connections,
    /// Whether an address is one of this host.
    Routes,
    Dnat,
    Masquerade,
}

impl fmt::Display for Feature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let family = self.family;
        let (what, option) = match self.kind {
            Kind::All => ("nftables".to_owned(), "NF_TABLES"),
            Kind::Family => (format!("tables of family {family}"), self.of_family()),
            Kind::Sets => ("sets and maps of nftables".to_owned(), "NF_TABLES_SET"),
            Kind::Intervals => {
                // They have no option, but are younger than the rest.
                let what = "intervals of concatenations in nftables";
                return write!(f, "this kernel lacks {what} (Linux 5.6)");
            }
            Kind::NatChain => ("chains of the type nat in nftables".to_owned(), "NFT_NAT"),
            Kind::Connections => ("the expression \"ct\" of nftables".to_owned(), "NFT_CT"),
            Kind::Routes => {
                (format!("the expression \"fib\" of family {family}"), self.of_family())
            }
            Kind::Dnat => ("the expression \"dnat\" of nftables".to_owned(), "NFT_NAT"),
            Kind::Masquerade => {
                ("the expression \"masquerade\" of nftables".to_owned(), "NFT_MASQ")
            }
        };
        write!(f, "this kernel lacks {what} (CONFIG_{option}, or its module)")
    }
}

impl Feature {
    /// The option of what there is one for each family.
    fn of_family(self) -> &'static str {
        match (self.kind, self.family) {
            (Kind::Routes, TableFamily::Ip) => "NFT_FIB_IPV4",
            (Kind::Routes, TableFamily::Ip6) => "NFT_FIB_IPV6",
            (Kind::Routes, _) => "NFT_FIB_INET",
            (_, TableFamily::Ip) => "NF_TABLES_IPV4",
            (_, TableFamily::Ip6) => "NF_TABLES_IPV6",
            (_, TableFamily::Bridge) => "NF_TABLES_BRIDGE",
            (_, TableFamily::Inet) => "NF_TABLES_INET",
        }
    }

    /// Whether its probe was refused because the kernel lacks it: one that does not know a flag says
    /// EINVAL.
    fn is_refused(self, error: &Error) -> bool {
        is_lack(error) || (self.kind == Kind::Intervals && error.errno() == Some(EINVAL))
    }

    /// A batch that nothing but the lack of it can stop.
    fn probe(self) -> Batch {
        const MAP: &str = "map";
        let table = Table { family: self.family, name: "girder-probe" };
        let mut batch = Batch::new();
        batch.table(Make::Create, table, None);
        let set = |key, content, intervals| Set { table, name: MAP, key, content, intervals };
        let mut chain = Chain::named(table, "chain");
        if self.kind == Kind::NatChain {
            let (kind, hook) = (ChainKind::Nat, Hook::Postrouting);
            chain.base = Some(Base { kind, hook, priority: SRCNAT, policy: Policy::Accept });
        }
        let expr = match self.kind {
            Kind::All | Kind::Family => return batch,
            Kind::Sets | Kind::Intervals => {
                let key = [Datatype::InetProto, Datatype::InetService];
                let intervals = self.kind == Kind::Intervals;
                batch.set(Make::Create, &set(&key, Content::Keys, intervals));
                return batch;
            }
            Kind::NatChain => None,
            Kind::Connections => Some(Expr::Redirected),
            Kind::Routes => Some(Expr::ForThisHost),
            Kind::Masquerade => Some(Expr::Masquerade),
            Kind::Dnat => {
                let is_ipv4 = self.family == TableFamily::Ip;
                let values = if is_ipv4 { [Datatype::Ipv4Addr] } else { [Datatype::Ipv6Addr] };
                let key = [Datatype::InetProto];
                batch.set(Make::Create, &set(&key, Content::Values(&values), false));
                Some(Expr::Dnat(&[Field::Protocol], MAP, DnatTarget::Address))
            }
        };
        batch.chain(Make::Create, &chain);
        if let Some(expr) = expr {
            batch.rule(table, "chain", &[expr], None);
        }
        batch
    }
}

thread_local! {
    /// What the kernel has, as far as it was tried: a feature that is there stays there.
    static FOUND: RefCell<Vec<Feature>> = const { RefCell::new(Vec::new()) };
}

/// What a part of a rule needs besides nf_tables.
pub(super) fn needs(expr: &Expr<'_>) -> Vec<Kind> {
    let fields = match expr {
        Expr::Is(field, _) | Expr::IsNot(field, _) => std::slice::from_ref(field),
        Expr::In(fields, _)
        | Expr::NotIn(fields, _)
        | Expr::Vmap(fields, _)
        | Expr::Dnat(fields, ..) => fields,
        _ => &[],
    };
    let is_tracked =
        |field: &Field| matches!(field, Field::OriginalDestination | Field::OriginalPort);
    let of_fields = fields.iter().any(is_tracked).then_some(Kind::Connections);
    let own = match expr {
        Expr::ForThisHost => Some(Kind::Routes),
        Expr::Redirected | Expr::Answered => Some(Kind::Connections),
        Expr::Masquerade => Some(Kind::Masquerade),
        Expr::Dnat(..) => Some(Kind::Dnat),
        _ => None,
    };
    of_fields.into_iter().chain(own).collect()
}

impl Nft {
    /// What the kernel lacks of what a batch needs, whose rules are not all there. It changes nothing,
    /// and is slow, as every refusal is.
    ///
    /// # Errors
    /// When the kernel cannot be asked.
    pub fn find_lack(batch: &Batch) -> Result<Option<Feature>> {
        let Some(mut nft) = Self::open_available()? else {
            return Ok(Some(Feature { kind: Kind::All, family: TableFamily::Inet }));
        };
        if nft.is_whole(batch)? { Ok(None) } else { nft.lack_among(batch.features()) }
    }

    fn lack_among(&mut self, features: Vec<Feature>) -> Result<Option<Feature>> {
        for feature in features {
            if FOUND.with_borrow(|found| found.contains(&feature)) {
                continue;
            }
            match self.try_in_vain(feature.probe())? {
                Some(refused) if feature.is_refused(&refused.error) => return Ok(Some(feature)),
                _ => FOUND.with_borrow_mut(|found| found.push(feature)),
            }
        }
        Ok(None)
    }

    /// The error with its reason, where that is a feature that the kernel lacks.
    pub(super) fn explain(&mut self, error: Error, features: Vec<Feature>) -> Error {
        if !is_lack(&error) {
            return error;
        }
        match self.lack_among(features) {
            Ok(Some(lack)) => error.unsupported(&lack.to_string()),
            _ => error,
        }
    }
}

fn is_lack(error: &Error) -> bool {
    error.errno() == Some(ENOENT) || error.is_unsupported()
}
