//! Our own tables, or those of iptables: who does what an attachment needs of the packet filter.
//!
//! A kernel may have been built without a part of nftables that iptables does without. There iptables
//! is used, unless the configuration says who is, and ADD says so.

use crate::cni::{Error, Result, report};
use crate::net::nft::{Batch, Feature, Nft};
use crate::net::{Family, iptables};

/// Who does it, as the configuration says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Backend {
    /// Not named: our own tables, or those of iptables where the kernel lacks what ours need.
    #[default]
    Any,
    /// Our own tables.
    Nftables,
    /// The tables of iptables, by its programs.
    Iptables,
}

impl Backend {
    /// What the kernel lacks of what these rules of ours need, so that iptables is used instead.
    ///
    /// # Errors
    /// When the kernel cannot be asked.
    pub fn find_lack(self, declaration: &Batch) -> Result<Option<Feature>> {
        if self != Self::Any {
            return Ok(None);
        }
        Ok(Nft::find_lack(declaration)?)
    }

    /// Whether the kernel would take these rules of ours, or the programs of iptables work: what the
    /// kernel lacks then.
    ///
    /// # Errors
    /// Code 50 where neither can be used, or not the one that the configuration names.
    pub fn probe(self, declaration: &Batch, table: &str) -> Result<Option<Feature>> {
        if self == Self::Iptables {
            return probe_iptables(table).map(|()| None);
        }
        let taken = Nft::open().and_then(|mut nft| match nft.is_whole(declaration)? {
            // Rules that are there need no slow rehearsal.
            true => Ok(()),
            false => nft.rehearse(declaration.clone()),
        });
        let Err(error) = taken else { return Ok(None) };
        let refused = Error::from(error).unavailable();
        by_iptables(refused, self.find_lack(declaration)?, || probe_iptables(table)).map(Some)
    }
}

/// Has iptables do what the kernel has refused in our own tables, where that is for what it lacks;
/// and says so.
///
/// # Errors
/// The refusal, where the kernel lacks nothing, or iptables cannot do it either.
pub fn create_instead(
    refused: Error,
    lack: Option<Feature>,
    does: &str,
    create: impl FnOnce() -> Result<()>,
) -> Result<()> {
    let lack = by_iptables(refused, lack, create)?;
    report(format_args!("{lack}: iptables {does} instead"));
    Ok(())
}

/// Refuses the value of a key that iptables would not take for the name of a chain, or read differently.
///
/// # Errors
/// Code 7.
pub fn refuse_bad_chain(key: &str, name: &str) -> Result<()> {
    const LONGEST: usize = 28;
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:".contains(&byte);
    let is_word = !name.is_empty() && name.bytes().all(is_plain) && !name.starts_with('-');
    if is_word && name.len() <= LONGEST {
        return Ok(());
    }
    Err(Error::config(format!("{key} {name:?} is no name for a chain")).details(
        "up to 28 letters, digits, dots, colons, hyphens and underscores, not beginning with a \
         hyphen",
    ))
}

fn by_iptables(
    refused: Error,
    lack: Option<Feature>,
    act: impl FnOnce() -> Result<()>,
) -> Result<Feature> {
    let Some(lack) = lack else { return Err(refused) };
    match act() {
        Ok(()) => Ok(lack),
        Err(other) => Err(refused.details(format!("iptables cannot do it either: {other}"))),
    }
}

/// Whether the programs of iptables work; those for IPv6 may be missing where there is none.
fn probe_iptables(table: &str) -> Result<()> {
    if let Err(error) = iptables::save(Family::V6, table) {
        report(error);
    }
    let asked = iptables::save(Family::V4, table);
    asked.map(drop).map_err(|error| Error::from(error).unavailable())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chains_name_is_one_word() {
        for name in ["CNI-ADMIN", "DOCKER-USER", "x", &"n".repeat(28)] {
            assert!(refuse_bad_chain("key", name).is_ok(), "{name}");
        }
        for name in ["", "-x", "a b", "a\n-F", "a\"b", &"n".repeat(29)] {
            assert!(refuse_bad_chain("key", name).is_err(), "{name}");
        }
    }
}
