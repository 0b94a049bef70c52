//! What a chain does with a packet, whosever the chain is: its rules are followed as far as one can
//! tell without sending the packet.
//!
//! The packet begins a connection that nobody has translated. Where a rule looks at something that
//! is not known of it, both ways are followed, and the answer is that it depends.

use super::registers::{Match, Packet, Registers};
use common::cni::Result;
use common::net::nft::abi::NFT_META_MARK;
use common::net::nft::{
    Data, Expression, Extension, Key, KnownChain, KnownRule, Nft, Policy, Table, Verdict,
};

/// What becomes of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// The chain lets it go on.
    Passes,
    /// That depends on what is not known of the packet.
    Depends,
    /// It is gone, whatever else it may be.
    Dropped,
}

/// How many rules are read before the answer is that it depends.
const PATIENCE: usize = 20_000;
/// As many jumps as the kernel lets be nested.
const DEPTH: usize = 16;

/// What a base chain does with a packet.
///
/// # Errors
/// When the kernel cannot be asked.
pub(super) fn follow(
    nft: &mut Nft,
    table: Table<'_>,
    chain: &KnownChain,
    packet: Packet,
) -> Result<Fate> {
    let mut walk = Walk { nft, table, packet, left: PATIENCE, may_pass: false, may_drop: false };
    let end = walk.chain(&chain.name, DEPTH)?;
    let passes = end.unwrap_or(chain.policy != Some(Policy::Drop));
    Ok(match (passes, walk.may_pass, walk.may_drop) {
        (true, _, false) => Fate::Passes,
        (false, false, _) => Fate::Dropped,
        _ => Fate::Depends,
    })
}

struct Walk<'a> {
    nft: &'a mut Nft,
    table: Table<'a>,
    packet: Packet,
    /// How many rules may still be read.
    left: usize,
    /// A rule that may match accepts it.
    may_pass: bool,
    /// A rule that may match drops it.
    may_drop: bool,
}

/// How a rule ends.
enum RuleEnd {
    /// On to the next rule.
    Next,
    /// No further rule is asked: the packet passes or it is dropped.
    Decided(bool),
    /// Back to where the chain was entered from.
    Back,
}

/// What a rule says if it matches: None for what may be anything, as `queue` is.
type Said = Option<Verdict>;

impl Walk<'_> {
    /// Whether it passes, if the chain decides.
    fn chain(&mut self, name: &str, depth: usize) -> Result<Option<bool>> {
        // Behind a rule that may have ended the chain, nothing is certain.
        let mut is_certain = true;
        for rule in self.nft.list_rules(self.table, name)? {
            let Some(left) = self.left.checked_sub(1).filter(|_| depth > 0) else {
                (self.may_pass, self.may_drop) = (true, true);
                return Ok(None);
            };
            self.left = left;
            let (matched, verdicts) = self.rule(&rule)?;
            let is_only = verdicts.len() == 1 && matched == Match::Yes;
            for verdict in verdicts {
                match self.verdict(verdict, depth)? {
                    RuleEnd::Next => {}
                    RuleEnd::Decided(passes) if is_only && is_certain => return Ok(Some(passes)),
                    RuleEnd::Decided(passes) => {
                        self.may_pass |= passes;
                        self.may_drop |= !passes;
                        if is_only {
                            return Ok(None);
                        }
                    }
                    RuleEnd::Back if is_only => return Ok(None),
                    RuleEnd::Back => is_certain = false,
                }
            }
        }
        Ok(None)
    }

    fn verdict(&mut self, verdict: Said, depth: usize) -> Result<RuleEnd> {
        let (chain, returns) = match verdict {
            None => {
                (self.may_pass, self.may_drop) = (true, true);
                return Ok(RuleEnd::Next);
            }
            Some(Verdict::Accept) => return Ok(RuleEnd::Decided(true)),
            Some(Verdict::Drop) => return Ok(RuleEnd::Decided(false)),
            Some(Verdict::Return) => return Ok(RuleEnd::Back),
            Some(Verdict::Jump(chain)) => (chain, true),
            Some(Verdict::Goto(chain)) => (chain, false),
        };
        Ok(match self.chain(&chain, depth - 1)? {
            Some(passes) => RuleEnd::Decided(passes),
            None if returns => RuleEnd::Next,
            None => RuleEnd::Back,
        })
    }

    /// Whether a rule matches, and what it says then: more than one thing if that depends, and
    /// nothing if it only counts or logs.
    fn rule(&mut self, rule: &KnownRule) -> Result<(Match, Vec<Said>)> {
        let (mut registers, mut matched) = (Registers::default(), Match::Yes);
        for expression in rule.expressions() {
            let own = match expression {
                Expression::Verdict(verdict) => return Ok((matched, vec![Some(verdict)])),
                Expression::Other("reject")
                | Expression::Target(Extension { name: "REJECT", .. }) => {
                    return Ok((matched, vec![Some(Verdict::Drop)]));
                }
                // Of `immediate` it is a verdict that nft(8) has no word for.
                Expression::Other("queue" | "immediate") => return Ok((matched, vec![None])),
                Expression::LookupVerdict { map, register } => {
                    let (found, verdicts) = self.look_up(map, registers.known(register))?;
                    return Ok((matched.min(found), verdicts));
                }
                Expression::Lookup { set, register, is_inverted } => {
                    let (found, _) = self.look_up(set, registers.known(register))?;
                    if is_inverted { found.not() } else { found }
                }
                Expression::SetMeta { key: NFT_META_MARK }
                | Expression::Target(Extension { name: "MARK" | "CONNMARK", .. }) => {
                    self.packet.mark = None;
                    Match::Yes
                }
                other => registers.apply(&other, &self.packet),
            };
            matched = matched.min(own);
            if matched == Match::No {
                break;
            }
        }
        Ok((matched, Vec::new()))
    }

    /// Whether a set has what is in a register, and to which verdicts it may lead.
    fn look_up(&mut self, set: &str, known: Option<Vec<u8>>) -> Result<(Match, Vec<Said>)> {
        let verdict = |data: Option<Data>| match data {
            Some(Data::Verdict(verdict)) => Some(verdict),
            _ => None,
        };
        if let Some(key) = known {
            // The kernel refuses a key of another length, which is one of several fields.
            match self.nft.find_element(self.table, set, &Key::from(key)) {
                Ok(Some(element)) => return Ok((Match::Yes, vec![verdict(element.data)])),
                Ok(None) => return Ok((Match::No, Vec::new())),
                Err(_) => {}
            }
        }
        let elements = self.nft.list_elements(self.table, set)?;
        let mut verdicts: Vec<_> = elements.into_iter().map(|e| verdict(e.data)).collect();
        verdicts.dedup();
        Ok((if verdicts.is_empty() { Match::No } else { Match::Maybe }, verdicts))
    }
}
