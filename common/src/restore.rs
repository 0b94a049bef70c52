//! The packet filter made anew, after somebody has flushed it: `nft flush ruleset`, a restart of
//! nftables, a reload of firewalld.

mod leftover;

pub use leftover::leftovers;

use crate::claims::{Claim, Claimant, Claims, Shared, owns, split};
use crate::cni::{Attachment, Call, Errors, NetworkName, Owner, Plugin, Result, Success};
use crate::firewall::Firewall;
use crate::net::Family;
use crate::net::nft::{Batch, Element, Make};
use crate::undo::Undo;
use std::collections::BTreeSet;
use std::fmt::{self, Display};

/// A plugin whose attachments have something in the packet filter.
pub trait Filtering: Plugin {
    /// What is to be there for an attachment whose ADD answered with this result.
    ///
    /// # Errors
    /// When the result does not tell, or the kernel cannot be asked.
    fn holdings(
        &self,
        network: &NetworkName,
        attachment: &Attachment,
        result: &Success,
    ) -> Result<Vec<Holding>>;

    /// Whether somebody else may have been asked, who is asked again by CHECK and ADD of the plugin's
    /// own program. An ADD of such a plugin may be repeated.
    fn asks_others(&self) -> bool {
        false
    }
}

/// What an attachment has in the packet filter.
pub enum Holding {
    /// In our own tables.
    Own(Elements),
    /// In those of a program or a daemon that was asked for by name.
    Elsewhere(Box<dyn Elsewhere>),
}

/// Elements, with the ground they stand on.
#[derive(Debug)]
pub struct Elements {
    claims: Vec<Claim>,
    claimant: Claimant,
    pub(crate) declaration: Batch,
    /// Where iptables has to accept what we have marked, and the chain of its operator's own rules.
    pub(crate) accepted: Vec<(Family, String)>,
}

impl Elements {
    pub(crate) fn new(claims: Vec<Claim>, claimant: Claimant, declaration: Batch) -> Self {
        Self { claims, claimant, declaration, accepted: Vec::new() }
    }
}

/// What is made by asking somebody else.
pub trait Elsewhere {
    /// What is missing, as sentences.
    ///
    /// # Errors
    /// When it cannot be asked.
    fn verify(&self) -> Result<Vec<String>>;

    /// Makes it, again if it is there.
    ///
    /// # Errors
    /// When it refuses.
    fn create(&self, undo: &mut Undo) -> Result<()>;
}

/// What an attachment has, as the plugin tells from what CHECK would read from stdin; and
/// [`Filtering::asks_others`].
///
/// # Errors
/// Those of CHECK for a configuration, and of [`Filtering::holdings`].
pub fn holdings<P: Filtering>(
    stdin: Vec<u8>,
    attachment: &Attachment,
) -> Result<(Vec<Holding>, bool)> {
    let (call, result) = Call::recorded(stdin)?;
    let plugin = P::load(&call)?;
    let holdings = plugin.holdings(&call.network.name, attachment, &result)?;
    Ok((holdings, plugin.asks_others()))
}

/// What is not there of what should be.
pub struct Missing {
    claims: Claims,
    batch: Batch,
    accepted: Vec<(Family, String)>,
    elsewhere: Vec<Box<dyn Elsewhere>>,
    /// Whose elements come, and into which sets.
    coming: BTreeSet<(Owner, Shared)>,
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
        let mut missing = Self {
            claims,
            batch: Batch::new(),
            accepted: Vec::new(),
            elsewhere: Vec::new(),
            coming: BTreeSet::new(),
            rules: 0,
            elements: 0,
            taken: Vec::new(),
        };
        let (mut grounds, mut wanted, mut accepted) = (Vec::new(), Vec::new(), Vec::new());
        for holding in holdings {
            let Elements { claims, claimant, declaration, accepted: of_one } = match holding {
                Holding::Own(elements) => elements,
                Holding::Elsewhere(elsewhere) => {
                    // Who cannot be asked cannot make it either, and says why then.
                    if elsewhere.verify().map_or(true, |missing| !missing.is_empty()) {
                        missing.rules += 1;
                        missing.elsewhere.push(elsewhere);
                    }
                    continue;
                }
            };
            for one in of_one {
                if !accepted.contains(&one) {
                    accepted.push(one);
                }
            }
            // Many attachments stand on one ground.
            if !grounds.contains(&declaration) {
                grounds.push(declaration);
            }
            wanted.extend(claims.into_iter().map(|claim| (claim, claimant.clone())));
        }
        for one in accepted {
            if !Firewall::is_accepted(&mut missing.claims, &one)? {
                missing.rules += 1;
                missing.accepted.push(one);
            }
        }
        let mut elements = Batch::new();
        for (claim, claimant) in &wanted {
            match missing.claims.find(claim.set, &claim.key)? {
                None => {
                    missing.elements += 1;
                    missing.coming.insert((claimant.owner.clone(), claim.set));
                    claim.make(Make::Ensure, claimant, &mut elements);
                }
                Some(found) => missing.taken.extend(difference(claim, &claimant.owner, &found)),
            }
        }
        for ground in grounds {
            let is_whole = missing.claims.is_declared(&ground)?;
            missing.rules += usize::from(!is_whole);
            // Sets without rules are whole even where there are none.
            if !is_whole || missing.elements > 0 {
                missing.batch.append(ground);
            }
        }
        missing.batch.append(elements);
        Ok(missing)
    }

    /// Whether nothing is missing.
    pub fn is_empty(&self) -> bool {
        self.rules == 0 && self.elements == 0
    }

    /// Makes it. In our own tables that is all at once or not at all, so that no packet meets half
    /// of it; elsewhere it is so for each attachment.
    ///
    /// `who_lives` is asked when that is done. An attachment may have been deleted since it was
    /// looked at, and its DEL has not found what was made after it: that is deleted here. A DEL that
    /// is still on its way may leave something, which is GC's.
    ///
    /// # Errors
    /// When the kernel refuses, or who else was asked.
    pub fn restore(mut self, who_lives: impl FnOnce() -> Result<BTreeSet<Owner>>) -> Result<()> {
        let mut errors = Errors::default();
        self.claims.commit(self.batch)?;
        let living = who_lives()?;
        for (owner, set) in self.coming.iter().filter(|(owner, _)| !living.contains(owner)) {
            errors.note(self.claims.delete_where(&[*set], |comment| owns(owner, comment)));
        }
        for elsewhere in self.elsewhere {
            let mut undo = Undo::new();
            if errors.note(elsewhere.create(&mut undo)).is_some() {
                undo.commit();
            }
        }
        // Last: until then nothing is let through that is not kept apart as it should be.
        for one in &self.accepted {
            errors.note(Firewall::ensure_accepted(&mut self.claims, one));
        }
        errors.into_result()
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
