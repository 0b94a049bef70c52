//! The packet filter made anew, after somebody has flushed it: `nft flush ruleset`, a restart of
//! nftables, a reload of firewalld.

use crate::claims::{Claim, Claims, Holding, owns, split};
use crate::cni::{Attachment, Call, Owner, Plugin, Result, Success};
use crate::firewall::Firewall;
use crate::net::Family;
use crate::net::nft::{Batch, Element, Make};
use std::fmt::{self, Display};

/// A plugin whose attachments have something in the packet filter.
pub trait Filtering: Plugin {
    /// What is to be there for an attachment whose ADD answered with this result.
    ///
    /// # Errors
    /// When the result does not tell, or the kernel cannot be asked.
    fn holdings(
        &self,
        owner: &Owner,
        attachment: &Attachment,
        result: &Success,
    ) -> Result<Vec<Holding>>;
}

/// What an attachment has, as the plugin tells from what CHECK would read from stdin.
///
/// # Errors
/// Those of CHECK for a configuration, and of [`Filtering::holdings`].
pub fn holdings<P: Filtering>(stdin: Vec<u8>, attachment: &Attachment) -> Result<Vec<Holding>> {
    let (call, result) = Call::recorded(stdin)?;
    let owner = attachment.owner(&call.network.name);
    P::load(&call)?.holdings(&owner, attachment, &result)
}

/// What is not there of what should be.
pub struct Missing {
    claims: Claims,
    batch: Batch,
    accepted: Vec<(Family, String)>,
    /// Groups of rules that are not whole.
    pub rules: usize,
    /// Elements that are not there.
    pub elements: usize,
    /// What others have instead, as sentences. It is left alone.
    pub taken: Vec<String>,
}

impl Missing {
    /// Compares what attachments are to have with what is there.
    ///
    /// # Errors
    /// When the kernel cannot be asked.
    pub fn look(holdings: Vec<Holding>) -> Result<Self> {
        let claims = Claims::open()?;
        let (batch, accepted, taken) = (Batch::new(), Vec::new(), Vec::new());
        let mut missing = Self { claims, batch, accepted, rules: 0, elements: 0, taken };
        let (mut grounds, mut wanted, mut accepted) = (Vec::new(), Vec::new(), Vec::new());
        for Holding { claims, claimant, declaration, accepted: of_one } in holdings {
            accepted.extend(
                of_one.into_iter().filter(|one| !accepted.contains(one)).collect::<Vec<_>>(),
            );
            // Many attachments stand on one ground.
            if !grounds.contains(&declaration) {
                grounds.push(declaration);
            }
            wanted.extend(claims.into_iter().map(|claim| (claim, claimant.clone())));
        }
        for ground in grounds {
            if !missing.claims.is_declared(&ground)? {
                missing.rules += 1;
                missing.batch.append(ground);
            }
        }
        for one in accepted {
            if !Firewall::is_accepted(&mut missing.claims, &one)? {
                missing.rules += 1;
                missing.accepted.push(one);
            }
        }
        for (claim, claimant) in &wanted {
            match missing.claims.find(claim.set, &claim.key)? {
                None => {
                    missing.elements += 1;
                    claim.make(Make::Ensure, claimant, &mut missing.batch);
                }
                Some(found) => missing.taken.extend(difference(claim, &claimant.owner, &found)),
            }
        }
        Ok(missing)
    }

    /// Whether nothing is missing.
    pub fn is_empty(&self) -> bool {
        self.rules == 0 && self.elements == 0
    }

    /// Makes it, all at once or not at all: no packet meets half of it.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn restore(mut self) -> Result<()> {
        self.claims.commit(self.batch)?;
        // Last: until then nothing is let through that is not kept apart as it should be.
        self.accepted.iter().try_for_each(|one| Firewall::ensure_accepted(&mut self.claims, one))
    }
}

impl Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = |number: usize, one: &str| match number {
            1 => format!("1 {one}"),
            _ => format!("{number} {one}s"),
        };
        let (rules, elements) = (count(self.rules, "group"), count(self.elements, "element"));
        write!(f, "{rules} of rules and {elements} are missing")
    }
}

fn difference(claim: &Claim, owner: &Owner, found: &Element) -> Option<String> {
    let comment = found.comment.as_deref().unwrap_or_default();
    if owns(owner, comment) && found.data == claim.data {
        return None;
    }
    let (set, key, owner) = (claim.set.name, &claim.key, owner.as_str());
    Some(format!("{key} of {set} is not {owner:?}'s but {:?}'s", split(comment).0))
}
