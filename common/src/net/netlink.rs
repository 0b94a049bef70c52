//! A socket for questions to the kernel about links, addresses and routes (rtnetlink(7)), as plain
//! calls: each sends one message and returns when the kernel has answered it.

use std::cell::RefCell;
use std::fmt;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::task::{self, Poll};
use std::time::{Duration, Instant};

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_ACK_TLVS, NLM_F_CAPPED, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST,
    NetlinkHeader, NetlinkMessage, NetlinkPayload, NlasIterator, parse_string, parse_u32,
};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_sys::AsyncSocket;
use nix::libc;
use rtnetlink::Handle;
use rtnetlink::proto::Connection;
use tokio::runtime::{Builder, Runtime};
use tokio::time::timeout;

use super::{Context, Error, Netns, Result, at_home};

/// How often a request is repeated if the table changed while the kernel was dumping it.
const ATTEMPTS: usize = 50;

/// `NLMSGERR_ATTR_MSG` of linux/netlink.h: the kernel's own words about a failure.
const EXTACK_TEXT: u16 = 1;

type Message = NetlinkMessage<RouteNetlinkMessage>;

thread_local! {
    // All sockets share one, because building it costs an epoll instance and a few allocations. It
    // runs only inside `block_on`, so nothing happens in the background between two calls.
    static RUNTIME: io::Result<Runtime> =
        Builder::new_current_thread().enable_io().enable_time().build();
}

pub(super) fn with_runtime<T>(work: impl FnOnce(&Runtime) -> T) -> Result<T> {
    RUNTIME.with(|runtime| match runtime {
        Ok(runtime) => Ok(work(runtime)),
        Err(error) => Err(Error::new("start the netlink runtime", error.to_string())),
    })
}

/// An rtnetlink socket. It stays in the namespace that it was opened in, wherever the thread goes.
/// Its calls block, and must not be made from inside another tokio runtime.
pub struct Netlink {
    channel: RefCell<Channel>,
}

impl fmt::Debug for Netlink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Netlink").finish_non_exhaustive()
    }
}

impl Netlink {
    /// Opens a socket in the namespace of the calling thread.
    ///
    /// # Errors
    /// If there are no file descriptors left.
    pub fn open() -> Result<Self> {
        at_home()?;
        let channel = with_runtime(|runtime| {
            let _context = runtime.enter();
            Channel::open().doing(|| "open a netlink socket".into())
        })??;
        Ok(Self { channel: RefCell::new(channel) })
    }

    /// Opens a socket in `netns`; the thread is back in its own namespace when this returns.
    ///
    /// # Errors
    /// As [`Netlink::open`], or if the namespace cannot be entered.
    pub fn open_in(netns: &Netns) -> Result<Self> {
        netns.enter(Self::open)?
    }

    /// Asks for a change; `what` says which one if it fails. The answer is empty unless an echo was
    /// asked for.
    pub(super) fn change(
        &self,
        message: RouteNetlinkMessage,
        flags: u16,
        what: impl FnOnce() -> String,
    ) -> Result<Vec<RouteNetlinkMessage>> {
        self.exchange(message, NLM_F_REQUEST | NLM_F_ACK | flags)
            .map_err(|error| error.explain(what))
    }

    /// Asks for one object. `None` if the kernel's answer is of a shape that we do not know.
    pub(super) fn get(
        &self,
        message: &RouteNetlinkMessage,
        what: impl FnOnce() -> String,
    ) -> Result<Option<RouteNetlinkMessage>> {
        // With NLM_F_ACK the answer has an end even if the answer itself could not be decoded.
        self.repeat(message, NLM_F_REQUEST | NLM_F_ACK, what).map(|mut answer| answer.pop())
    }

    /// Asks for all objects that match `message`. Kernels before 4.20 ignore most of what it asks
    /// to match, so the caller filters once more.
    pub(super) fn dump(
        &self,
        message: &RouteNetlinkMessage,
        what: impl FnOnce() -> String,
    ) -> Result<Vec<RouteNetlinkMessage>> {
        self.repeat(message, NLM_F_REQUEST | NLM_F_DUMP, what)
    }

    /// Requests that change nothing are repeated after EINTR, which means that the table changed while
    /// it was dumped, and after ENOBUFS, when the answer did not fit into the socket.
    fn repeat(
        &self,
        message: &RouteNetlinkMessage,
        flags: u16,
        what: impl FnOnce() -> String,
    ) -> Result<Vec<RouteNetlinkMessage>> {
        let mut attempt = 1;
        loop {
            match self.exchange(message.clone(), flags) {
                Err(error) if error.is_transient() && attempt < ATTEMPTS => attempt += 1,
                outcome => return outcome.map_err(|error| error.explain(what)),
            }
        }
    }

    fn exchange(
        &self,
        message: RouteNetlinkMessage,
        flags: u16,
    ) -> std::result::Result<Vec<RouteNetlinkMessage>, NetlinkError> {
        let mut channel = self.channel.borrow_mut();
        with_runtime(|runtime| runtime.block_on(channel.exchange(message, flags)))
            .unwrap_or_else(|error| Err(NetlinkError::new(libc::EIO, error.to_string())))
    }

    /// Calls `look` until it finds something: at once, and again after each message of the multicast
    /// group `group` (an `RTNLGRP_` number of linux/rtnetlink.h). `None` after `patience`.
    pub(super) fn wait_for<T>(
        &self,
        group: u32,
        patience: Duration,
        mut look: impl FnMut() -> Result<Option<T>>,
    ) -> Result<Option<T>> {
        let start = Instant::now();
        let what = || format!("watch rtnetlink group {group}");
        self.channel.borrow_mut().socket().add_membership(group).doing(what)?;
        let outcome = loop {
            self.channel.borrow_mut().noticed = false;
            let found = look();
            if !matches!(found, Ok(None)) {
                break found;
            }
            match self.wait_for_notice(patience.saturating_sub(start.elapsed())) {
                Ok(true) => {}
                Ok(false) => break Ok(None),
                Err(error) => break Err(error),
            }
        };
        self.channel.borrow_mut().socket().drop_membership(group).doing(what)?;
        outcome
    }

    /// Whether something is announced within `patience`, or was since `noticed` was last reset.
    fn wait_for_notice(&self, patience: Duration) -> Result<bool> {
        let mut channel = self.channel.borrow_mut();
        if channel.noticed {
            return Ok(true);
        }
        let next = with_runtime(|runtime| {
            runtime.block_on(async { timeout(patience, channel.receive()).await })
        })?;
        match next {
            Ok(Ok(_)) => Ok(true),
            Ok(Err(error)) => Err(error.explain(|| "wait for the kernel".into())),
            Err(_elapsed) => Ok(false),
        }
    }

    /// The link as error messages name it: its name in quotes, or its index if it does not exist any
    /// more. This asks the kernel, so call it for errors only.
    pub(super) fn name_of(&self, index: u32) -> String {
        self.read_link(index)
            .map_or_else(|_| format!("link {index}"), |link| format!("{:?}", link.name))
    }
}

/// The connection is not spawned but polled by the call that waits for an answer: so it ends, and the
/// socket is closed, when this value is dropped.
struct Channel {
    connection: Connection<RouteNetlinkMessage>,
    handle: Handle,
    // A closure, because the type of the receiver is in a crate that is no dependency of this one.
    inbox: Box<dyn FnMut() -> Option<Message>>,
    // The number of the last request: `connection` numbers them from 1.
    sequence: u32,
    // Whether a notification has come while the answer to a request was awaited.
    noticed: bool,
}

impl Channel {
    fn open() -> io::Result<Self> {
        let (mut connection, handle, mut messages) = rtnetlink::new_connection()?;
        let socket = connection.socket_mut().socket_mut();
        // On a kernel without one of them (the youngest is of 4.20) errors have no reason and dumps
        // are not filtered, which callers cope with: so failing to set them is no error.
        socket.set_ext_ack(true).ok();
        socket.set_cap_ack(true).ok();
        socket.set_netlink_get_strict_chk(true).ok();
        let inbox = Box::new(move || messages.try_recv().ok().map(|(message, _sender)| message));
        Ok(Self { connection, handle, inbox, sequence: 0, noticed: false })
    }

    fn socket(&mut self) -> &mut netlink_sys::Socket {
        self.connection.socket_mut().socket_mut()
    }

    async fn exchange(
        &mut self,
        message: RouteNetlinkMessage,
        flags: u16,
    ) -> std::result::Result<Vec<RouteNetlinkMessage>, NetlinkError> {
        let mut request = NetlinkMessage::from(message);
        request.header.flags = flags;
        // rtnetlink hands over answers of a notification through one channel in the kernel's order,
        // together with overruns, instead of one channel for each request.
        self.handle.notify(request).map_err(|_| NetlinkError::closed())?;
        self.sequence += 1;
        let mut answer = Vec::new();
        let mut interrupted = false;
        loop {
            let NetlinkMessage { header, payload, .. } = self.receive().await?;
            if matches!(payload, NetlinkPayload::Overrun(_)) {
                self.noticed = true;
                return Err(NetlinkError::from_errno(libc::ENOBUFS));
            }
            if header.sequence_number == 0 {
                self.noticed = true;
            }
            if header.sequence_number != self.sequence {
                continue;
            }
            interrupted |= header.flags & NLM_F_DUMP_INTR != 0;
            match payload {
                NetlinkPayload::InnerMessage(message) => answer.push(message),
                NetlinkPayload::Noop => {}
                end => {
                    NetlinkError::of(&header, &end)?;
                    break;
                }
            }
        }
        if interrupted {
            return Err(NetlinkError::new(
                libc::EINTR,
                "it kept changing while it was read".into(),
            ));
        }
        Ok(answer)
    }

    async fn receive(&mut self) -> std::result::Result<Message, NetlinkError> {
        poll_fn(|context| self.poll_receive(context)).await
    }

    fn poll_receive(
        &mut self,
        context: &mut task::Context<'_>,
    ) -> Poll<std::result::Result<Message, NetlinkError>> {
        if let Some(message) = (self.inbox)() {
            return Poll::Ready(Ok(message));
        }
        let closed = Pin::new(&mut self.connection).poll(context).is_ready();
        match (self.inbox)() {
            Some(message) => Poll::Ready(Ok(message)),
            None if closed => Poll::Ready(Err(NetlinkError::closed())),
            None => Poll::Pending,
        }
    }
}

/// An error that the kernel sent (`nlmsgerr`), or one of the socket.
struct NetlinkError {
    errno: i32,
    hint: Option<String>,
}

impl NetlinkError {
    fn new(errno: i32, hint: String) -> Self {
        Self { errno, hint: Some(hint) }
    }

    fn from_errno(errno: i32) -> Self {
        Self { errno, hint: None }
    }

    fn closed() -> Self {
        Self::new(libc::EIO, "the netlink socket broke".into())
    }

    fn is_transient(&self) -> bool {
        [libc::EINTR, libc::ENOBUFS].contains(&self.errno)
    }

    /// The error of the message that ends an answer. An acknowledgement is an error of number 0.
    fn of(
        header: &NetlinkHeader,
        end: &NetlinkPayload<RouteNetlinkMessage>,
    ) -> std::result::Result<(), Self> {
        let (code, hint) = match end {
            NetlinkPayload::Error(error) => {
                (error.raw_code(), extack_text(header.flags, &error.header))
            }
            NetlinkPayload::Done(done) => (done.code, attribute_text(&done.extended_ack)),
            _ => (0, None),
        };
        // NLMSG_DONE counts upwards for some dumps: only a negative number is an error.
        if code < 0 { Err(Self { errno: -code, hint }) } else { Ok(()) }
    }

    fn explain(self, what: impl FnOnce() -> String) -> Error {
        Error::from_errno(what(), self.errno, self.hint.as_deref())
    }
}

/// The text that follows the echoed request in an error message. `echoed` starts with the request's
/// header; its payload is there unless the kernel capped it.
fn extack_text(flags: u16, echoed: &[u8]) -> Option<String> {
    if flags & NLM_F_ACK_TLVS == 0 {
        return None;
    }
    let header = 16;
    let request = if flags & NLM_F_CAPPED == 0 {
        usize::try_from(parse_u32(echoed.get(..4)?).ok()?).ok()?.next_multiple_of(4)
    } else {
        header
    };
    attribute_text(echoed.get(request..)?)
}

fn attribute_text(attributes: &[u8]) -> Option<String> {
    NlasIterator::new(attributes)
        .map_while(std::result::Result::ok)
        .find(|attribute| attribute.kind() == EXTACK_TEXT)
        .and_then(|attribute| parse_string(attribute.value()).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &[u8] = b"\x0b\x00\x01\x00no way\x00\x00";

    #[test]
    fn the_kernels_words_are_found_behind_a_capped_request() {
        let mut echoed = vec![0xff; 16];
        echoed.extend(TEXT);
        assert_eq!(extack_text(NLM_F_ACK_TLVS | NLM_F_CAPPED, &echoed).unwrap(), "no way");
        assert_eq!(extack_text(NLM_F_CAPPED, &echoed), None);
    }

    #[test]
    fn the_kernels_words_are_found_behind_a_whole_request() {
        let mut echoed = 22u32.to_ne_bytes().to_vec();
        echoed.resize(24, 0xff);
        echoed.extend(TEXT);
        assert_eq!(extack_text(NLM_F_ACK_TLVS, &echoed).unwrap(), "no way");
    }

    #[test]
    fn a_mangled_error_has_no_text() {
        assert_eq!(extack_text(NLM_F_ACK_TLVS, &[1, 2]), None);
        assert_eq!(extack_text(NLM_F_ACK_TLVS | NLM_F_CAPPED, &[0; 18]), None);
    }
}
