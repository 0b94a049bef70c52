//! The packets between one client and the servers of its segment.

use super::lease::Lease;
use super::message::{Answer, Ask, Client};
use crate::exchange::{Extension, Whom, resend};
use crate::message::random;
use crate::protocol::Id;
use common::net::{LinkLocalSocket, since_boot};
use common::{Code, Error, Result};
use std::net::Ipv6Addr;
use std::time::Duration;
use tokio::time::Instant;

/// All servers of a link, and those who relay for them.
const SERVERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 1, 2);
const SERVER_PORT: u16 = 547;
pub(crate) const CLIENT_PORT: u16 = 546;

/// How long a server may take to say that it has heard of a release.
const FAREWELL: Duration = Duration::from_secs(2);

/// A client, its link, and how long it waits for an answer.
#[derive(Debug)]
pub(crate) struct Exchange<'a> {
    socket: &'a LinkLocalSocket,
    client: Client,
    patience: Duration,
}

impl<'a> Exchange<'a> {
    pub(crate) fn new(socket: &'a LinkLocalSocket, id: &Id, patience: Duration) -> Self {
        Self { socket, client: Client::new(id), patience }
    }

    /// Asks for a lease, once: Solicit, Advertise, Request, Reply, of which a server may leave out the
    /// two in the middle.
    ///
    /// # Errors
    /// Code 11 when there is no answer, or a refusal.
    pub(crate) async fn acquire(&self) -> Result<Lease> {
        let failed = |msg: String| Error::new(Code::TryAgain, msg);
        let mut problem = None;
        let offer = self.ask(Ask::Solicit, self.patience, |answer| {
            if answer.problem.is_some() {
                // Another server may have an address.
                problem.clone_from(&answer.problem);
            }
            answer.is_offer()
        });
        let Some(offer) = offer.await? else {
            let why = problem.map_or_else(String::new, |problem| format!(": {problem}"));
            return Err(failed(format!("no DHCPv6 server has offered an address{why}")));
        };
        if let Some(lease) = Lease::new(&offer).filter(|_| offer.is_final) {
            return Ok(lease);
        }
        let address = offer.granted.map_or(Ipv6Addr::UNSPECIFIED, |granted| granted.address);
        let (server, msg) = (&offer.server, "the DHCPv6 server does not grant what it offers");
        let request = Ask::Request { address, server };
        let is_final = |answer: &Answer| answer.is_final && answer.server == *server;
        let answer = self.ask(request, self.patience, is_final).await?;
        let answer = answer.ok_or_else(|| failed(format!("{msg}: no answer")))?;
        Lease::new(&answer).ok_or_else(|| {
            failed(format!("{msg}: {}", answer.problem.as_deref().unwrap_or("no address")))
        })
    }

    /// Asks for more time.
    ///
    /// # Errors
    /// When the link does not work.
    pub(crate) async fn extend(&self, lease: &Lease, whom: Whom) -> Result<Extension<Lease>> {
        let (address, server) = (lease.address, &lease.server[..]);
        let ask = match whom {
            Whom::Server => Ask::Renew { address, server },
            Whom::Anybody => Ask::Rebind { address },
        };
        // Before T2 the address is nobody else's to take, whoever else may extend it.
        let is_open = whom == Whom::Anybody;
        let may_refuse = is_open && since_boot() >= lease.term.rebinding;
        let is_final = |answer: &Answer| {
            let is_own = answer.server == lease.server;
            let is_heard = is_own || may_refuse || is_open && answer.granted.is_some();
            answer.is_final && is_heard
        };
        let Some(answer) = self.ask(ask, self.patience, is_final).await? else {
            return Ok(Extension::Silence);
        };
        Ok(match Lease::new(&answer) {
            Some(lease) => Extension::Granted(lease),
            None if answer.is_refusal => Extension::Refused,
            None => Extension::Silence,
        })
    }

    /// Tells the server that the lease is not needed any more.
    ///
    /// # Errors
    /// When the link does not work, or the server does not confirm it.
    pub(crate) async fn release(&self, lease: &Lease) -> Result<()> {
        let (address, server) = (lease.address, &lease.server[..]);
        let release = Ask::Release { address, server };
        let answer = self.ask(release, FAREWELL.min(self.patience), |answer| answer.is_final);
        let silence = || Error::new(Code::TryAgain, "the DHCPv6 server does not confirm it");
        answer.await?.map(drop).ok_or_else(silence)
    }

    /// Sends a question until an answer is `wanted` or patience is at its end.
    async fn ask(
        &self,
        ask: Ask<'_>,
        patience: Duration,
        wanted: impl FnMut(&Answer) -> bool,
    ) -> Result<Option<Answer>> {
        let [number @ .., _] = random().to_be_bytes();
        let start = Instant::now();
        let send = || {
            let question = self.client.encode(number, ask, start.elapsed())?;
            Ok(self.socket.send(&question, SERVERS, SERVER_PORT)?)
        };
        resend(patience, send, self.receive(number, wanted)).await
    }

    async fn receive(
        &self,
        number: [u8; 3],
        mut wanted: impl FnMut(&Answer) -> bool,
    ) -> Result<Answer> {
        loop {
            let answer = Answer::read(&self.socket.receive().await?, number, &self.client);
            if let Some(answer) = answer.filter(&mut wanted) {
                return Ok(answer);
            }
        }
    }
}
