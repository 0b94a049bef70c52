//! What a chain does with a packet, whosever the chain is: its rules are followed as far as one can
//! tell without sending the packet.
//!
//! The packet begins a connection that nobody has translated. Where a rule looks at something that
//! is not known of it, both ways are followed, and the answer is that it depends.

use super::match_of::{Match, Packet, Registers, Step};
use super::{Data, Key, KnownChain, Nft, Policy, Table, Verdict};
use crate::net::Result;

/// What becomes of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
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

impl Nft {
    /// What a base chain does with a packet.
    ///
    /// # Errors
    /// When the kernel cannot be asked.
    pub fn follow(
        &mut self,
        table: Table<'_>,
        chain: &KnownChain,
        packet: &Packet,
    ) -> Result<Fate> {
        let packet = packet.clone();
        let mut walk = Walk { nft: self, table, packet, left: PATIENCE, pass: false, drop: false };
        let end = walk.chain(&chain.name, DEPTH)?;
        let passes = end.unwrap_or(chain.policy != Some(Policy::Drop));
        Ok(match (passes, walk.pass, walk.drop) {
            (true, _, false) => Fate::Passes,
            (false, false, _) => Fate::Dropped,
            _ => Fate::Depends,
        })
    }
}

struct Walk<'a> {
    nft: &'a mut Nft,
    table: Table<'a>,
    packet: Packet,
    /// How many rules may still be read.
    left: usize,
    /// Somewhere it may have been accepted.
    pass: bool,
    /// Somewhere it may have been dropped.
    drop: bool,
}

/// How a rule ends.
enum End {
    /// On to the next rule.
    Next,
    /// Nobody asks the next rule: it passes or it is dropped.
    Decided(bool),
    /// Back to where the chain was entered from.
    Back,
}

impl Walk<'_> {
    /// Whether it passes, if the chain decides.
    fn chain(&mut self, name: &str, depth: usize) -> Result<Option<bool>> {
        // Behind a rule that may have ended the chain, nothing is certain.
        let mut is_certain = true;
        for rule in self.nft.list_rules(self.table, name)? {
            let Some(left) = self.left.checked_sub(1).filter(|_| depth > 0) else {
                (self.pass, self.drop) = (true, true);
                return Ok(None);
            };
            self.left = left;
            let (matched, verdicts) = self.rule(&rule.steps())?;
            let is_only = verdicts.len() == 1 && matched == Match::Yes;
            for verdict in verdicts {
                match self.verdict(verdict, depth)? {
                    End::Next => {}
                    End::Decided(passes) if is_only && is_certain => return Ok(Some(passes)),
                    End::Decided(passes) => {
                        self.pass |= passes;
                        self.drop |= !passes;
                        if is_only {
                            return Ok(None);
                        }
                    }
                    End::Back if is_only => return Ok(None),
                    End::Back => is_certain = false,
                }
            }
        }
        Ok(None)
    }

    fn verdict(&mut self, verdict: Option<Verdict>, depth: usize) -> Result<End> {
        let (chain, returns) = match verdict {
            None => {
                (self.pass, self.drop) = (true, true);
                return Ok(End::Next);
            }
            Some(Verdict::Accept) => return Ok(End::Decided(true)),
            Some(Verdict::Drop) => return Ok(End::Decided(false)),
            Some(Verdict::Return) => return Ok(End::Back),
            Some(Verdict::Jump(chain)) => (chain, true),
            Some(Verdict::Goto(chain)) => (chain, false),
        };
        Ok(match self.chain(&chain, depth - 1)? {
            Some(passes) => End::Decided(passes),
            None if returns => End::Next,
            None => End::Back,
        })
    }

    /// Whether a rule matches, and what it says then: more than one thing if that depends, and
    /// nothing if it only counts or logs.
    fn rule(&mut self, steps: &[Step]) -> Result<(Match, Vec<Option<Verdict>>)> {
        let (mut registers, mut matched) = (Registers::default(), Match::Yes);
        for step in steps {
            let own = match step {
                Step::Verdict(verdict) => return Ok((matched, vec![verdict.clone()])),
                Step::Lookup { set, register, is_map: true, .. } => {
                    let (found, verdicts) = self.look_up(set, registers.known(*register))?;
                    return Ok((matched.min(found), verdicts));
                }
                Step::Lookup { set, register, is_inverted, .. } => {
                    match (self.look_up(set, registers.known(*register))?.0, is_inverted) {
                        (Match::Maybe, _) => Match::Maybe,
                        (found, false) => found,
                        (found, true) => found.not(),
                    }
                }
                Step::ChangesMark => {
                    self.packet.mark = None;
                    Match::Yes
                }
                step => step.apply(&self.packet, &mut registers),
            };
            matched = matched.min(own);
            if matched == Match::No {
                break;
            }
        }
        Ok((matched, Vec::new()))
    }

    /// Whether a set has what is in a register, and to which verdicts it may lead.
    fn look_up(
        &mut self,
        set: &str,
        known: Option<Vec<u8>>,
    ) -> Result<(Match, Vec<Option<Verdict>>)> {
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
