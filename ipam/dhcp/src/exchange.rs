//! The packets between one client and the servers of its segment.

use crate::interface::OpenLink;
use crate::lease::Lease;
use crate::message::{Answer, Ask, Client, random};
use crate::options::Options;
use crate::protocol::Id;
use common::net::{Datagram, Mac, since_boot};
use common::{Code, Error, Result};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::pin::pin;
use std::time::Duration;
use tokio::time::{Instant, timeout, timeout_at};

const SERVER_PORT: u16 = 67;
pub(crate) const CLIENT_PORT: u16 = 68;
const EVERYBODY: Mac = Mac([0xff; 6]);

/// After how long a question is sent again for the first time; then the time doubles.
const FIRST_RESEND: Duration = Duration::from_millis(500);

/// A client, its link, and how long it waits for an answer.
#[derive(Debug)]
pub(crate) struct Exchange<'a> {
    link: &'a OpenLink,
    client: Client<'a>,
    patience: Duration,
}

/// Who is asked for more time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Whom {
    /// The server that granted the lease.
    Server,
    /// Any.
    Anybody,
}

/// What came of asking for more time.
#[derive(Debug)]
pub(crate) enum Extension<T> {
    Granted(T),
    /// The address must not be used any more.
    Refused,
    Silence,
}

impl<T> Extension<T> {
    pub(crate) fn map<U>(self, make: impl FnOnce(T) -> U) -> Extension<U> {
        match self {
            Self::Granted(lease) => Extension::Granted(make(lease)),
            Self::Refused => Extension::Refused,
            Self::Silence => Extension::Silence,
        }
    }
}

impl<'a> Exchange<'a> {
    pub(crate) fn new(
        link: &'a OpenLink,
        id: &Id,
        options: &'a Options,
        patience: Duration,
    ) -> Self {
        let (identifier, mac) = (id.identifier(), link.socket.mac());
        let client = Client { identifier, options, mac, is_broadcast: link.needs_broadcast };
        Self { link, client, patience }
    }

    /// With answers sent to all.
    pub(crate) fn broadcast(mut self, is_broadcast: bool) -> Self {
        self.client.is_broadcast |= is_broadcast;
        self
    }

    /// Asks for a lease, once: DISCOVER, OFFER, REQUEST, ACK.
    ///
    /// # Errors
    /// Code 11 when there is no answer, or a refusal.
    pub(crate) async fn acquire(&self) -> Result<Lease> {
        let failed = |msg: &str| Error::new(Code::TryAgain, msg);
        let mut question = Question::new(Ask::Discover);
        let offer = self.ask(&question, |answer| answer.is_offer() && answer.server.is_some());
        let offer = offer.await?.and_then(|(offer, _)| offer.address.zip(offer.server));
        let silence = || failed("no DHCP server has offered a lease");
        let (address, server) = offer.ok_or_else(silence)?;
        question.ask = Ask::Request { address, server };
        let is_final = |answer: &Answer| {
            (answer.is_ack() || answer.is_nak()) && answer.server.is_none_or(|own| own == server)
        };
        let answer = self.ask(&question, is_final).await?;
        let silence = || failed(&format!("DHCP server {server} does not grant what it offers"));
        let (answer, mac) = answer.ok_or_else(silence)?;
        if answer.is_nak() {
            return Err(failed(&format!("DHCP server {server} has refused what it offered")));
        }
        let answer = Answer { server: Some(server), ..answer };
        Lease::new(&answer, mac).inspect_err(|_| {
            // The server thinks that it is used.
            let release = Question::new(Ask::Release { address, server });
            drop(self.send(&release, mac, server, address));
        })
    }

    /// Asks for more time.
    ///
    /// # Errors
    /// When the link does not work.
    pub(crate) async fn extend(&self, lease: &Lease, whom: Whom) -> Result<Extension<Lease>> {
        let mut question = Question::new(Ask::Extend { address: lease.address });
        if whom == Whom::Server {
            question.to = Some((lease.mac(), lease.server));
        }
        // Before T2 the address is nobody else's to take, whoever else may extend it.
        let is_open = whom == Whom::Anybody;
        let may_refuse = is_open && since_boot() >= lease.term.rebinding;
        let is_final = |answer: &Answer| {
            let is_own = answer.server.is_none_or(|server| server == lease.server);
            answer.is_ack() && (is_own || is_open) || answer.is_nak() && (is_own || may_refuse)
        };
        let Some((answer, mac)) = self.ask(&question, is_final).await? else {
            return Ok(Extension::Silence);
        };
        if answer.is_nak() {
            return Ok(Extension::Refused);
        }
        Ok(lease.extended(answer, mac).map_or(Extension::Silence, Extension::Granted))
    }

    /// Tells the server that the lease is not needed any more; it does not answer.
    ///
    /// # Errors
    /// When the link does not work.
    pub(crate) fn release(&self, lease: &Lease) -> Result<()> {
        let (address, server) = (lease.address, lease.server);
        // dnsmasq passes over what names it and was not sent to it.
        self.send(&Question::new(Ask::Release { address, server }), lease.mac(), server, address)
    }

    fn send(&self, question: &Question, mac: Mac, to: Ipv4Addr, from: Ipv4Addr) -> Result<()> {
        let datagram = Datagram {
            mac,
            source: SocketAddrV4::new(from, CLIENT_PORT),
            target: SocketAddrV4::new(to, SERVER_PORT),
            payload: self.client.encode(question.number, question.ask)?,
        };
        Ok(self.link.socket.send(&datagram)?)
    }

    /// Sends a question until an answer is `wanted` or patience is at its end. With the answer comes the
    /// hardware address that sent it.
    async fn ask(
        &self,
        question: &Question,
        wanted: impl Fn(&Answer) -> bool,
    ) -> Result<Option<(Answer, Mac)>> {
        let from = match question.ask {
            Ask::Extend { address } => address,
            _ => Ipv4Addr::UNSPECIFIED,
        };
        let (mac, to) = question.to.unwrap_or((EVERYBODY, Ipv4Addr::BROADCAST));
        let send = || self.send(question, mac, to, from);
        resend(self.patience, send, self.receive(question.number, wanted)).await
    }

    async fn receive(
        &self,
        number: u32,
        wanted: impl Fn(&Answer) -> bool,
    ) -> Result<(Answer, Mac)> {
        loop {
            let datagram = self.link.socket.receive().await?;
            let answer = Answer::read(&datagram.payload, number, self.client.mac);
            if let Some(answer) = answer.filter(&wanted) {
                return Ok((answer, datagram.mac));
            }
        }
    }
}

/// Sends a question, and again at growing intervals, until there is an answer or patience is at its end.
pub(crate) async fn resend<T>(
    patience: Duration,
    mut send: impl FnMut() -> Result<()>,
    answer: impl Future<Output = Result<T>>,
) -> Result<Option<T>> {
    let end = Instant::now() + patience;
    let mut interval = FIRST_RESEND;
    let mut answer = pin!(answer);
    loop {
        send()?;
        match timeout_at(end, timeout(interval, answer.as_mut())).await {
            Ok(Ok(answer)) => return answer.map(Some),
            Ok(Err(_)) => interval *= 2,
            Err(_) => return Ok(None),
        }
    }
}

/// A question, and who is to answer it.
#[derive(Debug)]
struct Question {
    number: u32,
    ask: Ask,
    /// `None` for whoever hears it.
    to: Option<(Mac, Ipv4Addr)>,
}

impl Question {
    fn new(ask: Ask) -> Self {
        Self { number: random(), ask, to: None }
    }
}
