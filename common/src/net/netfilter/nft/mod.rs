//! The packet filter: nftables, spoken natively over nfnetlink.
//!
//! * here: the socket, commits and questions
//! * `walk`: what a chain does with a packet; `match_of`: what an expression says of it
//! * `batch`: changes that happen together or not at all
//! * `table`: tables and chains; `known`: chains as they are found, whosever they are;
//!   `redirect`: what their rules translate; `set`: sets, maps and elements
//! * `expr`: rules; `field`: what they look at
//! * `comment`: who an object belongs to; `reply`: what the kernel answers

mod batch;
mod comment;
mod deletion;
mod expr;
mod field;
mod known;
mod match_of;
mod redirect;
mod reply;
mod set;
mod table;
mod walk;

pub use batch::{Batch, Make};
pub use expr::{Expr, Target, Verdict, octets};
pub use field::{Address, Field};
pub use known::{KnownChain, KnownRule};
pub use match_of::Packet;
pub use redirect::Redirect;
pub use set::{Content, Data, Datatype, Element, Key, Set, SetName, concat};
pub use table::{Base, Chain, ChainKind, DSTNAT, FILTER, Family, Hook, Policy, RAW, SRCNAT, Table};
pub use walk::Fate;

use netlink_packet_core::NLM_F_DUMP;
use netlink_packet_netfilter::nftables::{ChainMessage, NfTablesMessage, SetElementMessage};
use netlink_sys::protocols::NETLINK_NETFILTER;
use netlink_sys::{Socket, SocketAddr};
use nix::errno::Errno;
use nix::libc::{EAGAIN, EINVAL, ENOBUFS, MSG_DONTWAIT};
use nix::sys::socket::{setsockopt, sockopt};

use crate::net::netfilter::nfnetlink::{Ending, whole};
use crate::net::{Context, Error, Result, at_home};
use reply::{Body, Reply, failure};

/// An open line to the packet filter of the network namespace it was opened in.
///
/// Closing it after anything was deleted waits until the kernel has destroyed that, 8 to 13 ms,
/// unless a link was deleted in between, which waits for the same thing. So: delete from the
/// packet filter first, then the link, and drop this last.
#[derive(Debug)]
pub struct Nft {
    socket: Socket,
    /// The size of the batch that the socket is ready for, in bytes.
    room: usize,
    /// An answer was not read to its end.
    has_leftovers: bool,
    /// Parts of the last answer did not fit into the queue.
    has_losses: bool,
}

/// Whether this kernel has nftables. One that has none knows no such part of nfnetlink (EINVAL,
/// `nfnetlink_rcv_msg` in net/netfilter/nfnetlink.c), or has no nfnetlink either.
///
/// # Errors
/// When it cannot be asked.
pub fn is_available() -> Result<bool> {
    let any = Table { family: Family::Inet, name: "girder" };
    match Nft::open().and_then(|mut nft| nft.find_chain(any, "any")) {
        Ok(_) => Ok(true),
        Err(error) if error.is_unsupported() || error.errno() == Some(EINVAL) => Ok(false),
        Err(error) => Err(error),
    }
}

impl Nft {
    /// Opens it in the current network namespace. It stays there, wherever the thread goes.
    ///
    /// # Errors
    /// EPROTONOSUPPORT ([`Error::is_unsupported`]) if the kernel has no nfnetlink. A kernel
    /// without nftables, or a caller without `CAP_NET_ADMIN`, shows with the first call.
    pub fn open() -> Result<Self> {
        let what = || "open the packet filter".to_owned();
        at_home()?;
        let socket = Socket::new(NETLINK_NETFILTER).doing(what)?;
        // The kernel's own words belong into our errors; the request that failed, which it would
        // send back too, does not: a failing batch sends many.
        socket.set_ext_ack(true).doing(what)?;
        socket.set_cap_ack(true).doing(what)?;
        Ok(Self { socket, room: 0, has_leftovers: false, has_losses: false })
    }

    /// Makes all changes of the batch, or none.
    ///
    /// A refusal takes 8 ms or more, for the kernel waits (RCU) before it takes back what it had
    /// begun; success takes microseconds. Where refusal is the ordinary case, ask first.
    ///
    /// # Errors
    /// Names the first change that the kernel refused, and has its error number: see [`Make`] and
    /// the methods of [`Batch`]. ENOENT means that it, or what holds it or what it leads to, is
    /// missing. [`Error::is_unsupported`] if the kernel has no nftables.
    pub fn commit(&mut self, batch: Batch) -> Result<()> {
        self.try_commit(batch, None)?.into_iter().next().map_or(Ok(()), |(_, error)| Err(error))
    }

    /// Whether the kernel would make all changes of the batch. It makes none of them: the batch ends
    /// with one that cannot be made. Slow, as every refusal is.
    ///
    /// # Errors
    /// As [`Nft::commit`].
    pub fn rehearse(&mut self, table: Table<'_>, mut batch: Batch) -> Result<()> {
        batch.delete_chain(table, "no chain of this name");
        let end = batch.last();
        let refused =
            self.try_commit(batch, None)?.into_iter().find(|(sequence, _)| *sequence != end);
        refused.map_or(Ok(()), |(_, error)| Err(error))
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
        let question = set::element_message(table, set, Some(set::key_attributes(key)))?;
        match self.read(table.family, 0, question, &what) {
            Ok(elements) => Ok(elements.into_iter().next()),
            Err(error) if error.is_gone() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// All elements of a set or map. None of them if it or its table is missing.
    ///
    /// # Errors
    /// EINTR if the packet filter changes so fast that no list is ever of one piece; what the
    /// kernel refused for any other reason.
    pub fn list_elements(&mut self, table: Table<'_>, set: &str) -> Result<Vec<Element>> {
        let what = || format!("list the elements of {set} in {table}");
        let question = set::element_message(table, set, None)?;
        whole(&what, || self.read(table.family, NLM_F_DUMP, question.clone(), &what))
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
        match self.ask(table.family, 0, question, &what) {
            Ok(answer) => Ok(known::chains(answer).next()),
            Err(error) if error.is_gone() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// All chains of a family, whosever they are.
    ///
    /// # Errors
    /// As [`Nft::list_elements`].
    pub fn list_chains(&mut self, family: Family) -> Result<Vec<KnownChain>> {
        let what = || format!("list the chains of family {family}");
        let all = NfTablesMessage::GetChain(ChainMessage { attributes: Vec::new() });
        let answer = whole(&what, || self.ask(family, NLM_F_DUMP, all.clone(), &what))?;
        Ok(known::chains(answer).collect())
    }

    /// The names of a table's sets and maps. None of them if it is missing.
    ///
    /// # Errors
    /// As [`Nft::list_elements`].
    pub fn list_sets(&mut self, table: Table<'_>) -> Result<Vec<String>> {
        let what = || format!("list the sets of {table}");
        let question = NfTablesMessage::GetSet(set::list_message(table)?);
        let answer = whole(&what, || self.ask(table.family, NLM_F_DUMP, question.clone(), &what))?;
        let names = answer.into_iter().filter_map(|body| match body {
            Body::Set(name) => Some(name),
            _ => None,
        });
        Ok(names.collect())
    }

    /// The rules of a chain, whosever they are. None of them if it or its table is missing.
    ///
    /// # Errors
    /// As [`Nft::list_elements`].
    pub fn list_rules(&mut self, table: Table<'_>, chain: &str) -> Result<Vec<KnownRule>> {
        let what = || format!("list the rules of {}", Chain::named(table, chain));
        let question = NfTablesMessage::GetRule(batch::rules_message(table, chain)?);
        let answer = whole(&what, || self.ask(table.family, NLM_F_DUMP, question.clone(), &what))?;
        let rules = answer.into_iter().filter_map(|body| match body {
            Body::Rule(rule) => Some(rule),
            _ => None,
        });
        Ok(rules.collect())
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

    /// The changes that failed, by sequence number, if any did.
    fn try_commit(&mut self, batch: Batch, generation: Option<u32>) -> Result<Vec<(u32, Error)>> {
        if batch.is_empty() {
            return batch.into_bytes(None).map(|_| Vec::new());
        }
        let (bytes, batch) = batch.into_bytes(generation)?;
        let mut failed = Vec::new();
        let mut acknowledged = false;
        for reply in self.exchange(&bytes, &|| "change the packet filter".to_owned())? {
            if let Body::Outcome(outcome) = &reply.body {
                match failure(outcome, batch.what(reply.sequence)) {
                    Some(error) => {
                        failed.push((reply.sequence, batch.explain(reply.sequence, error)));
                    }
                    None => acknowledged = true,
                }
            }
        }
        if failed.is_empty() && !acknowledged {
            self.has_leftovers = true;
            return Err(Error::new(batch.what(0), "the kernel did not say whether it did"));
        }
        Ok(failed)
    }

    fn read(
        &mut self,
        family: Family,
        flags: u16,
        question: SetElementMessage,
        what: &dyn Fn() -> String,
    ) -> Result<Vec<Element>> {
        let answer = self.ask(family, flags, NfTablesMessage::GetSetElement(question), what)?;
        let elements = answer.into_iter().filter_map(|body| match body {
            Body::Elements(elements) => Some(elements),
            _ => None,
        });
        Ok(elements.flatten().collect())
    }

    fn ask(
        &mut self,
        family: Family,
        flags: u16,
        question: NfTablesMessage,
        what: &dyn Fn() -> String,
    ) -> Result<Vec<Body>> {
        let mut question = batch::with_flags(batch::request(family.into(), 0, question), flags);
        let mut bytes = Vec::new();
        batch::append(&mut bytes, &mut question, 1);

        let (mut bodies, mut ending) = (Vec::new(), Ending::default());
        for reply in self.exchange(&bytes, what)? {
            ending.is_torn |= reply.interrupted;
            match reply.body {
                Body::Outcome(outcome) => {
                    if let Some(error) = failure(&outcome, &what()) {
                        return Err(error);
                    }
                }
                Body::Done(code) => ending.done = Some(code),
                body => bodies.push(body),
            }
        }
        let is_list = flags & NLM_F_DUMP == NLM_F_DUMP;
        if !is_list && !bodies.is_empty() {
            return Ok(bodies);
        }
        self.has_leftovers = ending.done.is_none();
        ending.is_torn |= self.has_losses;
        if !is_list {
            return Err(Error::new(what(), "the kernel did not answer"));
        }
        ending.judge(what)?;
        Ok(bodies)
    }

    /// Sends, and reads all that comes back.
    ///
    /// nfnetlink does its work within `send`: all answers are queued when it returns (of a dump:
    /// the first part, and each further one when the part before it is read). So an empty queue
    /// means that no more will come, and nothing here can wait for ever.
    fn exchange(&mut self, bytes: &[u8], what: &dyn Fn() -> String) -> Result<Vec<Reply>> {
        self.make_room(bytes.len()).doing(what)?;
        // The kernel's messages are 32 KiB at most.
        let mut buffer = Vec::with_capacity(1 << 16);
        if self.has_leftovers {
            while self.socket.recv_from(&mut buffer, MSG_DONTWAIT).is_ok() {
                buffer.clear();
            }
        }
        self.socket.send_to(bytes, &SocketAddr::new(0, 0), 0).doing(what)?;
        (self.has_leftovers, self.has_losses) = (true, false);
        let mut replies = Vec::new();
        loop {
            buffer.clear();
            match self.socket.recv_from(&mut buffer, MSG_DONTWAIT) {
                // Only the kernel's word counts; port 0 is the kernel.
                Ok((_, sender)) if sender.port_number() == 0 => {
                    reply::parse(&buffer, &mut replies)
                        .map_err(|reason| Error::new(what(), reason.to_string()))?;
                }
                Ok(_) => {}
                // More changes failed than the queue could hold the reports of. The first are in.
                Err(error) if error.raw_os_error() == Some(ENOBUFS) => self.has_losses = true,
                Err(error) if error.raw_os_error() == Some(EAGAIN) => {
                    self.has_leftovers = false;
                    return Ok(replies);
                }
                Err(error) => return Err(error).doing(what),
            }
        }
    }

    /// A batch is one send, which must fit into the socket's send buffer; its limit
    /// (`net.core.wmem_max`, 208 KiB as a rule) holds about a thousand elements.
    fn make_room(&mut self, bytes: usize) -> std::result::Result<(), Errno> {
        const ALWAYS_THERE: usize = 1 << 16;
        if bytes > self.room.max(ALWAYS_THERE) {
            setsockopt(&self.socket, sockopt::SndBufForce, &bytes)?;
            self.room = bytes;
        }
        Ok(())
    }
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
