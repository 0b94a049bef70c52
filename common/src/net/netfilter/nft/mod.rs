//! The packet filter: nftables, spoken natively over nfnetlink.
//!
//! * here: commits and questions
//! * `batch`: changes that happen together or not at all; `deletion`: elements deleted
//! * `table`: tables and chains; `set`: sets, maps and elements; `comment`: who an object belongs to
//! * `expr`: rules that we write; `field`: what they look at
//! * `feature`: what a kernel may have been built without
//! * `known`: chains and rules that are there, whosever they are; `expression`: what a rule says;
//!   [`abi`]: the numbers that both kinds of rules are made of
//! * `decode`: what else the kernel answers

pub mod abi;
mod batch;
mod comment;
mod decode;
mod deletion;
mod expr;
mod expression;
mod feature;
mod field;
mod known;
mod set;
mod table;

pub use batch::{Batch, Make};
pub use expr::{DnatTarget, Expr, Verdict, address, octets};
pub use expression::{Expression, Extension};
pub use feature::Feature;
pub use field::{AddressField, Field};
pub use known::{KnownChain, KnownRule};
pub use set::{Content, Data, Datatype, Element, Key, Set, SetName, concat};
pub use table::{
    Base, Chain, ChainKind, DSTNAT, FILTER, Hook, Policy, RAW, SRCNAT, Table, TableFamily,
};

use std::cell::RefCell;
use std::rc::Rc;

use netlink_packet_core::{DecodeError, NLM_F_DUMP};
use netlink_packet_netfilter::NetfilterSubsystem;
use netlink_packet_netfilter::nftables::{ChainMessage, NfTablesMessage};
use nix::libc::EINVAL;

use super::nfnetlink::{Describe, Nfnetlink, encode, request};
use crate::net::{Error, Result};

/// An open line to the packet filter of the network namespace it was opened in. A clone is the same
/// socket.
///
/// Closing it after anything was deleted waits until the kernel has destroyed that, 8 to 13 ms,
/// unless a link was deleted in between, which waits for the same thing. So: delete from the
/// packet filter first, then the link, and drop this last.
#[derive(Debug, Clone)]
pub struct Nft {
    /// The error of a kernel that has no nfnetlink.
    nfnetlink: Rc<RefCell<Result<Nfnetlink>>>,
}

/// A change that the kernel has refused.
struct Refusal {
    /// Its place in the batch, from 1; 0 is the batch as such.
    sequence: u32,
    error: Error,
    /// What it needs of a kernel.
    features: Vec<Feature>,
}

/// Whether this kernel has nftables.
///
/// # Errors
/// When it cannot be asked.
pub fn is_available() -> Result<bool> {
    Ok(Nft::open_available()?.is_some())
}

impl Nft {
    /// Opens it in the current network namespace. It stays there, wherever the thread goes. In a kernel
    /// without nftables there is nothing, and a change is refused.
    ///
    /// # Errors
    /// When there is no room for a socket. A caller without `CAP_NET_ADMIN` shows with the first call.
    pub fn open() -> Result<Self> {
        let nfnetlink = match Nfnetlink::open(&|| "open the packet filter".to_owned()) {
            Err(error) if !error.is_unsupported() => return Err(error),
            opened => opened,
        };
        Ok(Self { nfnetlink: Rc::new(RefCell::new(nfnetlink)) })
    }

    /// As [`open`](Self::open). None if this kernel has no nftables.
    ///
    /// # Errors
    /// When it cannot be asked.
    pub fn open_available() -> Result<Option<Self>> {
        let nft = Self::open()?;
        Ok((!nft.is_absent()?).then_some(nft))
    }

    /// Makes all changes of the batch, or none.
    ///
    /// A refusal takes 8 ms or more, for the kernel waits (RCU) before it rolls back what it had
    /// begun; success takes microseconds. Where refusal is the ordinary case, ask first.
    ///
    /// # Errors
    /// Names the first change that the kernel refused, and has its error number: see [`Make`] and
    /// the methods of [`Batch`]. ENOENT means that it, its table, or a chain that it leads to is
    /// missing. [`Error::is_unsupported`] if the kernel has no nftables.
    pub fn commit(&mut self, batch: Batch) -> Result<()> {
        let refused = self.try_commit(batch, None)?.into_iter().next();
        refused.map_or(Ok(()), |one| Err(self.explain(one.error, one.features)))
    }

    /// Whether the kernel would make all changes of the batch. It makes none of them: the batch ends
    /// with one that cannot be made. Slow, as every refusal is.
    ///
    /// # Errors
    /// As [`Nft::commit`].
    pub fn rehearse(&mut self, batch: Batch) -> Result<()> {
        let refused = self.try_in_vain(batch)?;
        refused.map_or(Ok(()), |one| Err(self.explain(one.error, one.features)))
    }

    /// What the kernel refuses of a batch first, which ends with a change that cannot be made.
    fn try_in_vain(&mut self, mut batch: Batch) -> Result<Option<Refusal>> {
        let nowhere = Table { family: TableFamily::Ip, name: "girder" };
        batch.delete_chain(nowhere, "no chain of this name");
        let end = batch.last();
        Ok(self.try_commit(batch, None)?.into_iter().find(|one| one.sequence != end))
    }

    /// The element with this key; in a set of intervals, the one that the key's first value lies in.
    /// None if it, its set or its table is missing.
    ///
    /// # Errors
    /// What the kernel refused for any other reason.
    pub fn find_element(
        &mut self,
        table: Table<'_>,
        set: &str,
        key: &Key,
    ) -> Result<Option<Element>> {
        let what = || format!("look up element {key} of {set} in {table}");
        let element = set::element_message(table, set, Some(set::key_attributes(key)))?;
        let question = NfTablesMessage::GetSetElement(element);
        self.find(table.family, question, &what, decode::elements)
    }

    /// All elements of a set or map. None of them if it or its table is missing.
    ///
    /// # Errors
    /// EINTR if the packet filter changes so fast that no list is ever of one piece; what the
    /// kernel refused for any other reason.
    pub fn list_elements(&mut self, table: Table<'_>, set: &str) -> Result<Vec<Element>> {
        let what = || format!("list the elements of {set} in {table}");
        let question = NfTablesMessage::GetSetElement(set::element_message(table, set, None)?);
        self.list(table.family, question, &what, decode::elements)
    }

    /// The chain of this name, whosever it is. None if it or its table is missing, or if no chain can
    /// have that name.
    ///
    /// # Errors
    /// What the kernel refused for any other reason.
    pub fn find_chain(&mut self, table: Table<'_>, name: &str) -> Result<Option<KnownChain>> {
        if checked("chain", name).is_err() {
            return Ok(None);
        }
        let chain = Chain::named(table, name);
        let what = || format!("look up {chain}");
        let question = NfTablesMessage::GetChain(chain.message()?);
        self.find(table.family, question, &what, KnownChain::parse)
    }

    /// All chains of a family, whosever they are.
    ///
    /// # Errors
    /// As [`Nft::list_elements`].
    pub fn list_chains(&mut self, family: TableFamily) -> Result<Vec<KnownChain>> {
        let what = || format!("list the chains of family {family}");
        let all = NfTablesMessage::GetChain(ChainMessage { attributes: Vec::new() });
        self.list(family, all, &what, KnownChain::parse)
    }

    /// The names of a table's sets and maps. None of them if it is missing.
    ///
    /// # Errors
    /// As [`Nft::list_elements`].
    pub(crate) fn list_sets(&mut self, table: Table<'_>) -> Result<Vec<String>> {
        let what = || format!("list the sets of {table}");
        let question = NfTablesMessage::GetSet(set::list_message(table)?);
        self.list(table.family, question, &what, decode::set_name)
    }

    /// The rules of a chain, whosever they are. None of them if it or its table is missing.
    ///
    /// # Errors
    /// As [`Nft::list_elements`].
    pub fn list_rules(&mut self, table: Table<'_>, chain: &str) -> Result<Vec<KnownRule>> {
        let what = || format!("list the rules of {}", Chain::named(table, chain));
        let question = NfTablesMessage::GetRule(batch::rules_message(table, chain)?);
        self.list(table.family, question, &what, KnownRule::parse)
    }

    /// Whether every chain that the batch fills has as many rules as it would get: somebody may
    /// have flushed them.
    ///
    /// # Errors
    /// As [`Nft::list_elements`].
    pub fn is_whole(&mut self, batch: &Batch) -> Result<bool> {
        for filled in batch.filled() {
            let table = Table { family: filled.family, name: &filled.table };
            if self.list_rules(table, &filled.chain)?.len() < filled.rules {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// The changes that failed, if any did.
    fn try_commit(&mut self, batch: Batch, generation: Option<u32>) -> Result<Vec<Refusal>> {
        if batch.is_empty() {
            return batch.into_bytes(None).map(|_| Vec::new());
        }
        let (bytes, batch) = batch.into_bytes(generation)?;
        let what = || "change the packet filter".to_owned();
        let outcome = self.ask(|nfnetlink| nfnetlink.exchange(&bytes, &what, |_, _| Ok(())))?;
        if outcome.refused.is_empty() && !outcome.is_acknowledged {
            return Err(Error::new(what(), "the kernel did not say whether it did"));
        }
        let explained = outcome.refused.into_iter().map(|nack| {
            let sequence = nack.sequence;
            let error = nack.into_error(batch.what(sequence));
            let (error, features) = (batch.explain(sequence, error), batch.features_of(sequence));
            Refusal { sequence, error, features }
        });
        Ok(explained.collect())
    }

    fn find<T>(
        &mut self,
        family: TableFamily,
        question: NfTablesMessage,
        what: Describe<'_>,
        parse: impl Fn(&[u8], &mut Vec<T>) -> std::result::Result<(), DecodeError>,
    ) -> Result<Option<T>> {
        let answer = type_of_answer(&question);
        let question = encode(request(family.into(), 0, 0, question));
        self.read(|nfnetlink| nfnetlink.find(&question, answer, what, parse))
    }

    fn list<T>(
        &mut self,
        family: TableFamily,
        question: NfTablesMessage,
        what: Describe<'_>,
        parse: impl Fn(&[u8], &mut Vec<T>) -> std::result::Result<(), DecodeError>,
    ) -> Result<Vec<T>> {
        let answer = type_of_answer(&question);
        let question = encode(request(family.into(), 0, NLM_F_DUMP, question));
        self.read(|nfnetlink| nfnetlink.list(&question, answer, what, parse))
    }

    fn ask<T>(&self, question: impl FnOnce(&mut Nfnetlink) -> Result<T>) -> Result<T> {
        match &mut *self.nfnetlink.borrow_mut() {
            Ok(nfnetlink) => question(nfnetlink),
            Err(error) => Err(error.clone()),
        }
    }

    /// What is there; nothing, in a kernel without nftables.
    fn read<T: Default>(&self, question: impl FnOnce(&mut Nfnetlink) -> Result<T>) -> Result<T> {
        match self.ask(question) {
            Err(error) if may_be_absent(&error) && self.is_absent()? => Ok(T::default()),
            answer => answer,
        }
    }

    /// Whether this kernel has no nftables.
    fn is_absent(&self) -> Result<bool> {
        let any = Table { family: TableFamily::Inet, name: "girder" };
        let question = NfTablesMessage::GetChain(Chain::named(any, "any").message()?);
        let answer = type_of_answer(&question);
        let question = encode(request(any.family.into(), 0, 0, question));
        let what = || "ask the packet filter".to_owned();
        match self.ask(|nfnetlink| nfnetlink.find(&question, answer, &what, KnownChain::parse)) {
            Err(error) if !may_be_absent(&error) => Err(error),
            answer => Ok(answer.is_err()),
        }
    }
}

/// A kernel without nftables knows no such part of nfnetlink (EINVAL, `nfnetlink_rcv_msg` in
/// net/netfilter/nfnetlink.c), or has no nfnetlink either.
fn may_be_absent(error: &Error) -> bool {
    error.is_unsupported() || error.errno() == Some(EINVAL)
}

/// The type of the messages that answer a question, as it stands in their headers: the subsystem, and
/// `NFT_MSG_NEW..`, which comes right before `NFT_MSG_GET..` for every object (`enum
/// nf_tables_msg_types`).
fn type_of_answer(question: &NfTablesMessage) -> u16 {
    let get = u8::from(question.message_type());
    u16::from_be_bytes([NetfilterSubsystem::NfTables.into(), get.saturating_sub(1)])
}

/// A name that the kernel would not cut off or read differently (`NFT_NAME_MAXLEN`).
fn checked(noun: &str, name: &str) -> Result<String> {
    if name.is_empty() || name.len() > 255 || name.contains('\0') {
        return Err(Error::new(
            format!("{noun} {name:?}"),
            "a name has 1 to 255 bytes, none of them NUL",
        ));
    }
    Ok(name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_the_kernel_would_read_differently_are_refused() {
        assert!(checked("table", "girder").is_ok());
        for name in ["", "a\0b", &"x".repeat(256)] {
            assert!(checked("table", name).is_err(), "{name:?}");
        }
    }
}
