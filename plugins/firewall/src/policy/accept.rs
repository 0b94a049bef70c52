//! iptables, told to accept what bears our mark.
//!
//! Every table sees a packet, and each may drop it. Docker and many an operator have iptables drop
//! what is forwarded (`-P FORWARD DROP`); there the chains of the Go plugin are made, with one rule
//! that accepts what bears our mark. They are shared by all attachments, and not undone.

use super::iptables::{self, CHAIN, FORWARD, filter};
use super::ruleset::ACCEPTED;
use common::Undo;
use common::cni::{Context as _, Error, Result, report};
use common::filter::restore::External;
use common::net::Family;
use common::net::iptables::{Rule, comment, ensure};
use common::net::nft::{KnownChain, KnownRule, Nft, Policy};

/// The comment of our rule, by which it is found.
const OURS: &str = "CNI firewall plugin: pods of Girder";

/// Whether the chain may drop what is forwarded: by its policy, or by one of its rules.
fn may_drop(chain: &KnownChain) -> bool {
    chain.policy == Some(Policy::Drop) || chain.uses > 0
}

fn mentions(rules: &[KnownRule], text: &str) -> bool {
    rules.iter().any(|rule| rule.mentions(text))
}

/// What iptables-nft does with forwarded packets.
struct IptablesForward {
    may_drop: bool,
    /// Rules accept what bears our mark.
    is_open: bool,
}

impl IptablesForward {
    /// None if nobody uses iptables.
    fn find(nft: &mut Nft, family: Family) -> Result<Option<Self>> {
        let table = filter(family);
        let Some(chain) = nft.find_chain(table, FORWARD)? else { return Ok(None) };
        let is_open = mentions(&nft.list_rules(table, FORWARD)?, CHAIN)
            && mentions(&nft.list_rules(table, CHAIN)?, OURS);
        Ok(Some(Self { may_drop: may_drop(&chain), is_open }))
    }

    fn refuses(&self) -> bool {
        self.may_drop && !self.is_open
    }
}

/// The rules that accept our mark.
fn rules(admin_chain: &str) -> Vec<Rule> {
    let marked = format!("-m mark --mark {ACCEPTED:#x}/{ACCEPTED:#x}");
    let ours = Rule::last(CHAIN, format!("{} {marked} -j ACCEPT", comment(OURS)));
    [iptables::entry(admin_chain).as_slice(), &[ours]].concat()
}

/// Has iptables accept what bears our mark, where somebody uses it at all: even if it drops nothing
/// yet, Docker may be started later.
pub(super) fn ensure_accepted(nft: &mut Nft, family: Family, admin_chain: &str) -> Result<()> {
    let found = IptablesForward::find(nft, family)?;
    let is_open = found.as_ref().is_none_or(|found| found.is_open);
    let may_drop = found.is_some_and(|found| found.may_drop);
    if is_open && !iptables::iptables_legacy_may_drop(family)? {
        return Ok(());
    }
    match ensure(family, "filter", &[CHAIN, admin_chain], &rules(admin_chain)) {
        Err(error) if error.is_gone() => {
            if may_drop {
                report(format_args!("{}: {error}", refusal(family)));
            }
            Ok(())
        }
        made => made.map_err(Error::from).context(refusal(family)),
    }
}

fn refusal(family: Family) -> String {
    format!("{} may drop what pods send, and has no way from {FORWARD} to {CHAIN}", filter(family))
}

/// What [`ensure_accepted`] has made, and somebody else has deleted, as a sentence.
pub(super) fn verify_accepted(
    nft: &mut Nft,
    family: Family,
    admin_chain: &str,
) -> Result<Option<String>> {
    let refuses = if iptables::iptables_legacy_may_drop(family)? {
        !iptables::missing(family, &rules(admin_chain))?.is_empty()
    } else {
        IptablesForward::find(nft, family)?.is_some_and(|found| found.refuses())
    };
    Ok(refuses.then(|| refusal(family)))
}

/// What iptables is to accept for all attachments of a family alike.
pub(super) struct MarkAccepted {
    pub(super) family: Family,
    /// The chain for an operator's own rules, which come before.
    pub(super) admin_chain: String,
}

impl External for MarkAccepted {
    fn shared(&self) -> Option<String> {
        Some(format!("{} {}", filter(self.family), self.admin_chain))
    }

    fn verify(&self) -> Result<Vec<String>> {
        let refused = verify_accepted(&mut Nft::open()?, self.family, &self.admin_chain)?;
        Ok(refused.into_iter().collect())
    }

    fn create(&self, _: &mut Undo) -> Result<()> {
        ensure_accepted(&mut Nft::open()?, self.family, &self.admin_chain)
    }
}

/// That iptables may drop what pods send, and ADD cannot tell it not to, as a sentence.
pub(super) fn why_blocked(nft: &mut Nft) -> Result<Option<String>> {
    if !IptablesForward::find(nft, Family::V4)?.is_some_and(|found| found.refuses()) {
        return Ok(None);
    }
    let missing = common::net::iptables::save(Family::V4, "filter").err();
    Ok(missing.map(|error| format!("{}: {error}: install iptables", refusal(Family::V4))))
}
