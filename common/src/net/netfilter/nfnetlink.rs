//! nfnetlink, by which each subsystem of netfilter is asked: the socket, and answers read to their
//! end.

use std::io;

use netlink_packet_core::{
    DecodeError, DoneBuffer, ErrorBuffer, ErrorMessage, NLM_F_DUMP_INTR, NLM_F_REQUEST, NLMSG_DONE,
    NLMSG_ERROR, NetlinkBuffer, NetlinkHeader, NetlinkMessage, NlasIterator, Parseable as _,
};
use netlink_packet_netfilter::{
    NetfilterHeader, NetfilterMessage, NetfilterMessageInner, NetfilterProtoFamily,
};
use netlink_sys::protocols::NETLINK_NETFILTER;
use netlink_sys::{Socket, SocketAddr};
use nix::libc::{EAGAIN, EINTR, ENOBUFS, MSG_DONTWAIT};
use nix::sys::socket::{setsockopt, sockopt};

use crate::net::{Context as _, Error, Result, at_home};

/// How often a list that changed while it was read is read again.
const ATTEMPTS: usize = 20;

/// The length of `struct nfgenmsg`, which precedes the attributes of every message.
const NFGENMSG: usize = 4;

/// Says what is being asked, should it fail.
pub(super) type Describe<'a> = &'a dyn Fn() -> String;

/// A socket of the network namespace that it was opened in.
#[derive(Debug)]
pub(super) struct Nfnetlink {
    socket: Socket,
    /// What its send buffer has been widened to, in bytes.
    send_buffer: usize,
    /// An answer was not read to its end: the rest of it would be taken for the next one's.
    has_leftovers: bool,
}

/// What the kernel has refused.
#[derive(Debug)]
pub(super) struct Nack {
    /// The number of the message that it refused.
    pub(super) sequence: u32,
    errno: i32,
    /// Its own words.
    hint: Option<String>,
}

/// What has become of a request.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    /// In the order in which the kernel has refused.
    pub(super) refused: Vec<Nack>,
    pub(super) is_acknowledged: bool,
    /// What `NLMSG_DONE` said: 0, or the negative number of the error that ended the list.
    done: Option<i32>,
    /// What is listed changed meanwhile (`NLM_F_DUMP_INTR`), or a part of the answer was lost.
    is_torn: bool,
}

impl Nfnetlink {
    /// Opens one in the current network namespace.
    pub(super) fn open(what: Describe<'_>) -> Result<Self> {
        at_home()?;
        let socket = Socket::new(NETLINK_NETFILTER).doing(what)?;
        // The kernel's own words belong into our errors; the request that failed, which it would
        // send back too, does not: a failing batch sends many.
        socket.set_ext_ack(true).doing(what)?;
        socket.set_cap_ack(true).doing(what)?;
        Ok(Self { socket, send_buffer: 0, has_leftovers: false })
    }

    /// The objects of a list that did not change while it was read. Of something that is missing,
    /// none.
    ///
    /// `kind` is the type of the messages that describe them; `parse` adds what the attributes of
    /// one message tell.
    ///
    /// # Errors
    /// EINTR if the list changes whenever it is read; what the kernel refused for any other reason.
    pub(super) fn list<T>(
        &mut self,
        request: &[u8],
        kind: u16,
        what: Describe<'_>,
        parse: impl Fn(&[u8], &mut Vec<T>) -> std::result::Result<(), DecodeError>,
    ) -> Result<Vec<T>> {
        let mut objects = Vec::new();
        let is_there = complete(what, || {
            objects.clear();
            let each = |found, attributes: &[u8]| match found == kind {
                true => parse(attributes, &mut objects),
                false => Ok(()),
            };
            self.exchange(request, what, each)?.into_result(what)
        })?;
        Ok(if is_there { objects } else { Vec::new() })
    }

    /// One object: None if it is missing. The parameters are those of [`list`](Self::list).
    ///
    /// # Errors
    /// What the kernel refused for any other reason.
    pub(super) fn find<T>(
        &mut self,
        request: &[u8],
        kind: u16,
        what: Describe<'_>,
        parse: impl Fn(&[u8], &mut Vec<T>) -> std::result::Result<(), DecodeError>,
    ) -> Result<Option<T>> {
        let mut objects = Vec::new();
        let outcome = self.exchange(request, what, |found, attributes| match found == kind {
            true => parse(attributes, &mut objects),
            false => Ok(()),
        })?;
        match outcome.refused.into_iter().next().map(|nack| nack.into_error(what())) {
            Some(error) if error.is_gone() => return Ok(None),
            Some(error) => return Err(error),
            None if objects.is_empty() => {
                return Err(Error::new(what(), "the kernel did not answer"));
            }
            None => {}
        }
        // The object is the whole answer: no acknowledgement was asked for.
        self.has_leftovers = false;
        Ok(objects.into_iter().next())
    }

    /// Deletes an object. One that is gone is fine.
    ///
    /// # Errors
    /// What the kernel refused for any other reason.
    pub(super) fn delete(&mut self, request: &[u8], what: Describe<'_>) -> Result<()> {
        // Where the acknowledgement was lost, the request is repeated, and finds nothing.
        complete(what, || self.exchange(request, what, |_, _| Ok(()))?.into_result(what)).map(drop)
    }

    /// Sends a request, and reads all that comes back: `each` is given the type and the attributes
    /// of every message that describes an object.
    ///
    /// nfnetlink does its work within `send`: all answers are queued when it returns (of a dump:
    /// the first part, and each further one when the part before it is read). So an empty queue
    /// means that no more will come, and nothing here can wait for ever.
    ///
    /// # Errors
    /// When the socket fails, or the answer cannot be decoded; not what the kernel has refused.
    pub(super) fn exchange(
        &mut self,
        request: &[u8],
        what: Describe<'_>,
        mut each: impl FnMut(u16, &[u8]) -> std::result::Result<(), DecodeError>,
    ) -> Result<Outcome> {
        self.widen_send_buffer(request.len()).doing(what)?;
        // The kernel's messages are 32 KiB at most.
        let mut buffer = Vec::with_capacity(1 << 16);
        while self.has_leftovers {
            match self.receive(&mut buffer) {
                Err(error) if error.raw_os_error() == Some(ENOBUFS) => {}
                more => self.has_leftovers = more.doing(what)?,
            }
        }
        self.socket.send_to(request, &SocketAddr::new(0, 0), 0).doing(what)?;
        self.has_leftovers = true;
        let mut outcome = Outcome::default();
        loop {
            match self.receive(&mut buffer) {
                Ok(true) => outcome
                    .read(&buffer, &mut each)
                    .map_err(|reason| Error::new(what(), reason.to_string()))?,
                Ok(false) => break,
                // More came than the queue could hold. What came first is still there.
                Err(error) if error.raw_os_error() == Some(ENOBUFS) => outcome.is_torn = true,
                Err(error) => return Err(error).doing(what),
            }
        }
        self.has_leftovers = !outcome.has_end();
        Ok(outcome)
    }

    /// The kernel's next datagram; false if there is none.
    fn receive(&self, buffer: &mut Vec<u8>) -> io::Result<bool> {
        loop {
            buffer.clear();
            match self.socket.recv_from(buffer, MSG_DONTWAIT) {
                // Any process may send to this socket. Port 0 is the kernel.
                Ok((_, sender)) if sender.port_number() == 0 => return Ok(true),
                Ok(_) => {}
                Err(error) if error.raw_os_error() == Some(EAGAIN) => return Ok(false),
                Err(error) => return Err(error),
            }
        }
    }

    /// A request is one `send`, which must fit into the socket's send buffer; the limit that anybody
    /// may set (`net.core.wmem_max`, 208 KiB as a rule) holds about a thousand elements.
    fn widen_send_buffer(&mut self, bytes: usize) -> nix::Result<()> {
        const ALWAYS_THERE: usize = 1 << 16;
        if bytes > self.send_buffer.max(ALWAYS_THERE) {
            setsockopt(&self.socket, sockopt::SndBufForce, &bytes)?;
            self.send_buffer = bytes;
        }
        Ok(())
    }
}

impl Nack {
    fn parse(sequence: u32, message: &ErrorMessage) -> Option<Self> {
        /// The request's header comes first, and thanks to `NETLINK_CAP_ACK` nothing else of it.
        const NLMSG_HDRLEN: usize = 16;
        const NLMSGERR_ATTR_MSG: u16 = 1;
        let errno = message.code?.get().saturating_neg();
        let attributes = message.header.get(NLMSG_HDRLEN..).unwrap_or_default();
        Some(Self { sequence, errno, hint: find(attributes, NLMSGERR_ATTR_MSG).map(text) })
    }

    pub(super) fn into_error(self, what: impl Into<String>) -> Error {
        Error::from_errno(what, self.errno, self.hint.as_deref())
    }
}

impl Outcome {
    /// Goes through the messages of a datagram.
    fn read(
        &mut self,
        mut bytes: &[u8],
        each: &mut impl FnMut(u16, &[u8]) -> std::result::Result<(), DecodeError>,
    ) -> std::result::Result<(), DecodeError> {
        while !bytes.is_empty() {
            let message = NetlinkBuffer::new_checked(bytes)?;
            let payload = message.payload();
            self.is_torn |= message.flags() & NLM_F_DUMP_INTR != 0;
            match message.message_type() {
                NLMSG_DONE => self.done = Some(DoneBuffer::new_checked(payload)?.code()),
                NLMSG_ERROR => {
                    let error = ErrorMessage::parse(&ErrorBuffer::new_checked(&payload)?)?;
                    match Nack::parse(message.sequence_number(), &error) {
                        Some(nack) => self.refused.push(nack),
                        None => self.is_acknowledged = true,
                    }
                }
                kind => each(kind, payload.get(NFGENMSG..).unwrap_or_default())?,
            }
            let next = usize::try_from(message.length().next_multiple_of(4)).unwrap_or(usize::MAX);
            bytes = bytes.get(next..).unwrap_or_default();
        }
        Ok(())
    }

    fn has_end(&self) -> bool {
        self.done.is_some() || self.is_acknowledged || !self.refused.is_empty()
    }

    /// # Errors
    /// What the kernel refused first; EINTR if what it said is not all that it had to say.
    fn into_result(self, what: Describe<'_>) -> Result<()> {
        let is_whole = self.has_end() && !self.is_torn;
        match (self.refused.into_iter().next(), self.done) {
            (Some(nack), _) => Err(nack.into_error(what())),
            (None, Some(code)) if code != 0 => {
                Err(Error::from_errno(what(), code.saturating_abs(), None))
            }
            _ if is_whole => Ok(()),
            _ => Err(Error::from_errno(what(), EINTR, None)),
        }
    }
}

/// Asks until the answer is complete. False: what was asked for is missing.
fn complete(what: Describe<'_>, mut ask: impl FnMut() -> Result<()>) -> Result<bool> {
    for _ in 0..ATTEMPTS {
        match ask() {
            Err(error) if error.is_gone() => return Ok(false),
            Err(error) if error.errno() == Some(EINTR) => {}
            outcome => return outcome.map(|()| true),
        }
    }
    Err(Error::from_errno(what(), EINTR, Some("it keeps changing while it is read")))
}

/// A message with these flags. `resource` is the subsystem that a batch is for; 0 elsewhere.
pub(super) fn request(
    family: NetfilterProtoFamily,
    resource: u8,
    flags: u16,
    message: impl Into<NetfilterMessageInner>,
) -> NetlinkMessage<NetfilterMessage> {
    const NFNETLINK_V0: u8 = 0;
    let header = NetfilterHeader::new(family, NFNETLINK_V0, u16::from(resource));
    let message = NetfilterMessage::new(header, message);
    let mut message = NetlinkMessage::new(NetlinkHeader::default(), message.into());
    message.header.flags = NLM_F_REQUEST | flags;
    message
}

/// Puts a message on the wire behind others. There is no padding between them: every attribute is
/// padded to four bytes already.
pub(super) fn append(
    bytes: &mut Vec<u8>,
    message: &mut NetlinkMessage<NetfilterMessage>,
    sequence: u32,
) {
    message.header.sequence_number = sequence;
    message.finalize();
    let start = bytes.len();
    bytes.resize(start + message.buffer_len(), 0);
    message.serialize(&mut bytes[start..]);
}

/// A request of one message.
pub(super) fn encode(mut message: NetlinkMessage<NetfilterMessage>) -> Vec<u8> {
    let mut bytes = Vec::new();
    append(&mut bytes, &mut message, 1);
    bytes
}

/// The value of an attribute, if it is there.
pub(super) fn find(bytes: &[u8], kind: u16) -> Option<&[u8]> {
    attributes(bytes).find(|(found, _)| *found == kind).map(|(_, value)| value)
}

/// Type and value of each attribute.
pub(super) fn attributes(bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    NlasIterator::new(bytes).map_while(std::result::Result::ok).filter_map(|attribute| {
        let (kind, length) = (attribute.kind(), usize::from(attribute.length()));
        // `value` would borrow from the iterator's item, not from the bytes.
        Some((kind, attribute.into_inner().get(4..length)?))
    })
}

/// A number, which is in network byte order wherever it is an attribute.
pub(super) fn number(bytes: &[u8], kind: u16) -> Option<u32> {
    find(bytes, kind)?.try_into().ok().map(u32::from_be_bytes)
}

/// A string, which ends with a NUL in an attribute.
pub(super) fn text(value: &[u8]) -> String {
    String::from_utf8_lossy(value).trim_end_matches('\0').to_owned()
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroI32;

    use super::*;

    fn nack(code: i32, attributes: &[u8]) -> Option<Nack> {
        let mut message = ErrorMessage::default();
        message.code = NonZeroI32::new(code);
        message.header = [&[0; 16], attributes].concat();
        Nack::parse(1, &message)
    }

    #[test]
    fn a_refusal_keeps_number_and_words() {
        let error = nack(-17, b"\x07\x00\x01\x00no\0\0").unwrap().into_error("create table ip t");
        assert!(error.is_exists());
        assert_eq!(error.to_string(), "create table ip t: File exists (no)");

        let error = nack(-2, b"").unwrap().into_error("x");
        assert!(error.is_gone());
        assert_eq!(error.to_string(), "x: No such file or directory");
    }

    #[test]
    fn an_acknowledgement_is_no_error_and_rubbish_no_hint() {
        assert!(nack(0, b"").is_none());
        let error = nack(-2, b"\xff\xff\x01\x00").unwrap().into_error("x");
        assert_eq!(error.to_string(), "x: No such file or directory");
    }

    #[test]
    fn a_datagram_that_is_cut_off_is_an_error() {
        let mut outcome = Outcome::default();
        let mut none = |_, _: &[u8]| panic!("there is no message");
        assert!(outcome.read(&[20, 0, 0, 0, 2, 0], &mut none).is_err());
        let no_message = [200, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        assert!(outcome.read(&no_message, &mut none).is_err());
        assert!(!outcome.has_end());
    }

    #[test]
    fn a_list_without_an_end_is_none() {
        let what = || "list".to_owned();
        let errno = |done, is_torn| {
            Outcome { done, is_torn, ..Outcome::default() }.into_result(&what).err()?.errno()
        };
        assert_eq!(errno(Some(0), false), None);
        assert_eq!(errno(Some(0), true), Some(EINTR));
        assert_eq!(errno(None, false), Some(EINTR));
        assert_eq!(errno(Some(-2), true), Some(2));
    }

    #[test]
    fn a_torn_list_is_read_again_but_not_for_ever() {
        let what = || "list".to_owned();
        let torn = || Err(Error::from_errno("list", EINTR, None));
        let mut left = 3;
        let is_there = complete(&what, || {
            left -= 1;
            if left > 0 { torn() } else { Ok(()) }
        });
        assert!(is_there.unwrap());
        let error = complete(&what, torn).unwrap_err();
        assert!(error.to_string().contains("keeps changing"), "{error}");
    }
}
