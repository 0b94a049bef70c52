//! The packet filter: nftables, spoken natively over nfnetlink.
//!
//! * here: the socket, commits and questions
//! * [`batch`]: changes that happen together or not at all
//! * [`table`]: tables and chains; [`set`]: sets, maps and elements; [`expr`]: rules
//! * [`comment`]: who an object belongs to

mod batch;
mod comment;
mod expr;
mod set;
mod table;

pub use batch::{Batch, Make};
pub use expr::{Address, Expr, Verdict};
pub use set::{Content, Data, Datatype, Element, Set, concat};
pub use table::{Base, Chain, ChainKind, DSTNAT, FILTER, Family, Hook, Policy, SRCNAT, Table};

use std::collections::BTreeSet;

use netlink_packet_core::{
    ErrorMessage, NLM_F_DUMP, NLM_F_DUMP_INTR, NetlinkBuffer, NetlinkMessage, NetlinkPayload,
    NlasIterator,
};
use netlink_packet_netfilter::nftables::{NfTablesMessage, SetElementMessage};
use netlink_packet_netfilter::{NetfilterMessage, NetfilterMessageInner};
use netlink_sys::protocols::NETLINK_NETFILTER;
use netlink_sys::{Socket, SocketAddr};
use nix::errno::Errno;
use nix::libc::{EAGAIN, EINTR, ENOBUFS, MSG_DONTWAIT};
use nix::sys::socket::{setsockopt, sockopt};

use crate::net::{Context, Error, Result};

/// An open line to the packet filter of the network namespace it was opened in.
///
/// Closing it after anything was deleted waits until the kernel has destroyed that, 8 to 13 ms,
/// unless a link was deleted in between, which waits for the same thing. So: delete from the
/// packet filter first, then the link, and drop this last.
pub struct Nft {
    socket: Socket,
    /// The size of the batch that the socket is ready for, in bytes.
    room: usize,
}

type Reply = NetlinkMessage<NetfilterMessage>;

/// How often a list that changed while it was read is read again.
const ATTEMPTS: usize = 20;

impl Nft {
    /// Opens it in the current network namespace. It stays there, wherever the thread goes.
    ///
    /// # Errors
    /// EPROTONOSUPPORT ([`Error::is_unsupported`]) if the kernel has no nfnetlink. A kernel
    /// without nftables, or a caller without `CAP_NET_ADMIN`, shows with the first call.
    pub fn open() -> Result<Self> {
        let what = || "open the packet filter".to_owned();
        let socket = Socket::new(NETLINK_NETFILTER).doing(what)?;
        // The kernel's own words belong into our errors; the request that failed, which it would
        // send back too, does not: a failing batch sends many.
        socket.set_ext_ack(true).doing(what)?;
        socket.set_cap_ack(true).doing(what)?;
        Ok(Self { socket, room: 0 })
    }

    /// Makes all changes of the batch, or none.
    ///
    /// # Errors
    /// Names the first change that the kernel refused, and has its error number: see [`Make`] and
    /// the methods of [`Batch`]. ENOENT means that it, or what holds it or what it leads to, is
    /// missing. [`Error::is_unsupported`] if the kernel has no nftables.
    pub fn commit(&mut self, batch: Batch) -> Result<()> {
        self.try_commit(batch)?.into_iter().next().map_or(Ok(()), |(_, error)| Err(error))
    }

    /// Deletes the elements with these keys, and says how many were there.
    ///
    /// One transaction if all are there. Otherwise those that are already gone (by now, or because
    /// the whole set or table is) are left out and the rest is tried again.
    ///
    /// # Errors
    /// What the kernel refused for any other reason; nothing is deleted then.
    pub fn delete_elements(
        &mut self,
        table: Table<'_>,
        set: &str,
        keys: &[Vec<u8>],
    ) -> Result<usize> {
        let mut left: Vec<&Vec<u8>> = keys.iter().collect();
        loop {
            let mut batch = Batch::new();
            for key in &left {
                batch.delete_element(table, set, key);
            }
            let mut gone = BTreeSet::new();
            for (sequence, error) in self.try_commit(batch)? {
                if !error.is_gone() {
                    return Err(error);
                }
                gone.insert(sequence);
            }
            if gone.is_empty() {
                return Ok(left.len());
            }
            let mut sequence = 0;
            left.retain(|_| {
                sequence += 1;
                !gone.contains(&sequence)
            });
        }
    }

    /// The element with this key. None if it, its set or its table is missing.
    ///
    /// # Errors
    /// What the kernel refused for any other reason.
    pub fn find_element(
        &mut self,
        table: Table<'_>,
        set: &str,
        key: &[u8],
    ) -> Result<Option<Element>> {
        let what = || format!("look up element {} of {set} in {table}", set::Key(key));
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
        for _ in 0..ATTEMPTS {
            match self.read(table.family, NLM_F_DUMP, question.clone(), &what) {
                Err(error) if error.is_gone() => return Ok(Vec::new()),
                Err(error) if error.errno() == Some(EINTR) => {}
                outcome => return outcome,
            }
        }
        Err(Error::from_errno(what(), EINTR, Some("it keeps changing while it is read")))
    }

    /// The changes that failed, by sequence number, if any did.
    fn try_commit(&mut self, batch: Batch) -> Result<Vec<(u32, Error)>> {
        if batch.is_empty() {
            return batch.into_bytes().map(|_| Vec::new());
        }
        let (bytes, batch) = batch.into_bytes()?;
        let mut failed = Vec::new();
        let mut acknowledged = false;
        for reply in self.exchange(&bytes, &|| "change the packet filter".to_owned())? {
            if let NetlinkPayload::Error(outcome) = &reply.payload {
                let sequence = reply.header.sequence_number;
                match failure(outcome, batch.what(sequence)) {
                    Some(error) => failed.push((sequence, error)),
                    None => acknowledged = true,
                }
            }
        }
        if failed.is_empty() && !acknowledged {
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
        let question = NfTablesMessage::GetSetElement(question);
        let mut question = batch::with_flags(batch::request(family.into(), 0, question), flags);
        let mut bytes = Vec::new();
        batch::append(&mut bytes, &mut question, 1);

        let (mut elements, mut complete) = (Vec::new(), false);
        for reply in self.exchange(&bytes, what)? {
            if reply.header.flags & NLM_F_DUMP_INTR != 0 {
                return Err(Error::from_errno(what(), EINTR, None));
            }
            match reply.payload {
                NetlinkPayload::Error(outcome) => {
                    if let Some(error) = failure(&outcome, &what()) {
                        return Err(error);
                    }
                }
                // A dump that fails on its way says so at its end.
                NetlinkPayload::Done(done) if done.code != 0 => {
                    return Err(Error::from_errno(what(), done.code.saturating_neg(), None));
                }
                NetlinkPayload::Done(_) => complete = true,
                NetlinkPayload::InnerMessage(NetfilterMessage {
                    inner: NetfilterMessageInner::NfTables(NfTablesMessage::NewSetElement(message)),
                    ..
                }) => {
                    complete |= flags & NLM_F_DUMP == 0;
                    elements.extend(Element::decode_all(&message));
                }
                _ => {}
            }
        }
        if !complete {
            return Err(Error::new(what(), "the kernel's answer has no end"));
        }
        Ok(elements)
    }

    /// Sends, and reads all that comes back.
    ///
    /// nfnetlink does its work within `send`: all answers are queued when it returns (of a dump:
    /// the first part, and each further one when the part before it is read). So an empty queue
    /// means that no more will come, and nothing here can wait for ever.
    fn exchange(&mut self, bytes: &[u8], what: &dyn Fn() -> String) -> Result<Vec<Reply>> {
        self.make_room(bytes.len()).doing(what)?;
        self.socket.send_to(bytes, &SocketAddr::new(0, 0), 0).doing(what)?;
        let mut replies = Vec::new();
        // The kernel's messages are 32 KiB at most.
        let mut buffer = Vec::with_capacity(1 << 16);
        loop {
            buffer.clear();
            match self.socket.recv_from(&mut buffer, MSG_DONTWAIT) {
                // Only the kernel's word counts; port 0 is the kernel.
                Ok((_, sender)) if sender.port_number() == 0 => {
                    parse(&buffer, &mut replies).map_err(|reason| Error::new(what(), reason))?;
                }
                Ok(_) => {}
                // More changes failed than the queue could hold the reports of. The first are in.
                Err(error) if error.raw_os_error() == Some(ENOBUFS) => {}
                Err(error) if error.raw_os_error() == Some(EAGAIN) => return Ok(replies),
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

fn parse(mut bytes: &[u8], replies: &mut Vec<Reply>) -> std::result::Result<(), String> {
    while !bytes.is_empty() {
        let length = NetlinkBuffer::new_checked(bytes).map_err(|error| error.to_string())?.length();
        replies.push(Reply::deserialize(bytes).map_err(|error| error.to_string())?);
        let next = usize::try_from(length.next_multiple_of(4)).unwrap_or(usize::MAX);
        bytes = bytes.get(next..).unwrap_or_default();
    }
    Ok(())
}

/// None if it is an acknowledgement.
fn failure(outcome: &ErrorMessage, what: &str) -> Option<Error> {
    /// The request's header comes first, and thanks to `NETLINK_CAP_ACK` nothing else of it.
    const NLMSG_HDRLEN: usize = 16;
    const NLMSGERR_ATTR_MSG: u16 = 1;
    let code = outcome.code?;
    let hint = outcome.header.get(NLMSG_HDRLEN..).and_then(|attributes| {
        NlasIterator::new(attributes)
            .flatten()
            .find(|attribute| attribute.kind() == NLMSGERR_ATTR_MSG)
            .map(|text| String::from_utf8_lossy(text.value()).trim_end_matches('\0').to_owned())
    });
    Some(Error::from_errno(what, code.get().saturating_neg(), hint.as_deref()))
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
    use std::num::NonZeroI32;

    use super::*;

    fn refusal(code: i32, attributes: &[u8]) -> ErrorMessage {
        let mut message = ErrorMessage::default();
        message.code = NonZeroI32::new(code);
        message.header = [&[0; 16], attributes].concat();
        message
    }

    #[test]
    fn a_refusal_keeps_number_and_words() {
        let error = failure(&refusal(-17, b"\x07\x00\x01\x00no\0\0"), "create table ip t").unwrap();
        assert!(error.is_exists());
        assert_eq!(error.to_string(), "create table ip t: File exists (no)");

        let error = failure(&refusal(-2, b""), "x").unwrap();
        assert!(error.is_gone());
        assert_eq!(error.to_string(), "x: No such file or directory");
    }

    #[test]
    fn an_acknowledgement_is_no_error_and_rubbish_no_hint() {
        assert!(failure(&refusal(0, b""), "x").is_none());
        let error = failure(&refusal(-2, b"\xff\xff\x01\x00"), "x").unwrap();
        assert_eq!(error.to_string(), "x: No such file or directory");
    }

    #[test]
    fn names_that_the_kernel_would_read_differently_are_refused() {
        assert!(checked("table", "girder").is_ok());
        for name in ["", "a\0b", &"x".repeat(256)] {
            assert!(checked("table", name).is_err(), "{name:?}");
        }
    }
}
