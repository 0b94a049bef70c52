//! What the packets say.

use crate::protocol::Id;
use common::{Error, Result};
use dhcproto::v6::{
    DhcpOption, DhcpOptions, IAAddr, IANA, Message, MessageType, OptionCode, Status,
};
use dhcproto::{Decodable as _, Encodable as _};
use sha2::{Digest as _, Sha256};
use std::net::Ipv6Addr;
use std::time::Duration;

/// A DUID that is a UUID (RFC 6355).
const UUID: [u8; 2] = [0, 4];

/// Who asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Client {
    duid: Vec<u8>,
    /// The number of its only IA_NA.
    iaid: u32,
}

/// What is asked for, or told.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Ask<'a> {
    /// Any address, of whoever has one.
    Solicit,
    /// The address that this server has offered.
    Request { address: Ipv6Addr, server: &'a [u8] },
    /// More time, of the server that has granted the address.
    Renew { address: Ipv6Addr, server: &'a [u8] },
    /// More time, of any server.
    Rebind { address: Ipv6Addr },
    /// That the address is not needed any more.
    Release { address: Ipv6Addr, server: &'a [u8] },
}

impl Client {
    /// The same for ever: a UUID that is made of the identity (version 8 of RFC 9562), and a number.
    pub(crate) fn new(id: &Id) -> Self {
        let digest: [u8; 32] = Sha256::digest(id.to_string()).into();
        let [a, b, c, d, e, f, version, h, variant, rest @ ..] = digest;
        let start = [a, b, c, d, e, f, version & 0x0f | 0x80, h, variant & 0x3f | 0x80];
        let duid = UUID.into_iter().chain(start).chain(rest).take(UUID.len() + 16).collect();
        let [.., w, x, y, z] = digest;
        Self { duid, iaid: u32::from_be_bytes([w, x, y, z]) }
    }

    /// `elapsed` is the time since the question was sent first.
    ///
    /// # Errors
    /// When the question does not fit into a message.
    pub(crate) fn encode(
        &self,
        number: [u8; 3],
        ask: Ask<'_>,
        elapsed: Duration,
    ) -> Result<Vec<u8>> {
        let (kind, address, server) = match ask {
            Ask::Solicit => (MessageType::Solicit, None, None),
            Ask::Request { address, server } => (MessageType::Request, Some(address), Some(server)),
            Ask::Renew { address, server } => (MessageType::Renew, Some(address), Some(server)),
            Ask::Rebind { address } => (MessageType::Rebind, Some(address), None),
            Ask::Release { address, server } => (MessageType::Release, Some(address), Some(server)),
        };
        let mut message = Message::new_with_id(kind, number);
        let options = message.opts_mut();
        options.insert(DhcpOption::ClientId(self.duid.clone()));
        if let Some(server) = server {
            options.insert(DhcpOption::ServerId(server.to_vec()));
        }
        if matches!(ask, Ask::Solicit) {
            options.insert(DhcpOption::RapidCommit);
        }
        let address = address.map(|addr| {
            let opts = DhcpOptions::new();
            DhcpOption::IAAddr(IAAddr { addr, preferred_life: 0, valid_life: 0, opts })
        });
        let opts = address.into_iter().collect();
        options.insert(DhcpOption::IANA(IANA { id: self.iaid, t1: 0, t2: 0, opts }));
        let hundredths = u16::try_from(elapsed.as_millis() / 10).unwrap_or(u16::MAX);
        options.insert(DhcpOption::ElapsedTime(hundredths));
        message.to_vec().map_err(|error| Error::internal(format!("a DHCPv6 message: {error}")))
    }
}

/// An address, and for how many seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Granted {
    pub(crate) address: Ipv6Addr,
    pub(crate) preferred: u32,
    pub(crate) valid: u32,
    /// When the server wants to be asked for more; 0 leaves it to the client.
    pub(crate) renewal: u32,
    pub(crate) rebinding: u32,
}

/// What a server says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    /// Whether it has been done, as opposed to offered.
    pub(crate) is_final: bool,
    pub(crate) server: Vec<u8>,
    pub(crate) granted: Option<Granted>,
    /// Whether the address in question is taken back.
    pub(crate) is_refusal: bool,
    /// What is wrong, by the name of the status and the server's words.
    pub(crate) problem: Option<String>,
    is_rapid: bool,
}

impl Answer {
    /// What a packet says, if it is an answer to the question of this number by this client.
    pub(crate) fn read(bytes: &[u8], number: [u8; 3], own: &Client) -> Option<Self> {
        let message = Message::from_bytes(bytes).ok()?;
        let is_final = match message.msg_type() {
            MessageType::Reply => true,
            MessageType::Advertise => false,
            _ => return None,
        };
        let options = message.opts();
        let is_own = matches!(options.get(OptionCode::ClientId),
            Some(DhcpOption::ClientId(duid)) if *duid == own.duid);
        let Some(DhcpOption::ServerId(server)) = options.get(OptionCode::ServerId) else {
            return None;
        };
        if message.xid() != number || !is_own {
            return None;
        }
        let mut answer = Self {
            is_final,
            server: server.clone(),
            granted: None,
            is_refusal: false,
            problem: None,
            is_rapid: options.get(OptionCode::RapidCommit).is_some(),
        };
        answer.note_status(options);
        for option in options.iter() {
            if let DhcpOption::IANA(found) = option
                && found.id == own.iaid
            {
                answer.note(found);
            }
        }
        Some(answer)
    }

    /// Whether it gives an address to a client that has asked for one.
    pub(crate) fn is_offer(&self) -> bool {
        self.granted.is_some() && (!self.is_final || self.is_rapid)
    }

    fn note(&mut self, found: &IANA) {
        self.note_status(&found.opts);
        for option in found.opts.iter() {
            let DhcpOption::IAAddr(given) = option else { continue };
            self.note_status(&given.opts);
            if given.valid_life == 0 {
                self.is_refusal = true;
            } else if self.granted.is_none() {
                self.granted = Some(Granted {
                    address: given.addr,
                    preferred: given.preferred_life,
                    valid: given.valid_life,
                    renewal: found.t1,
                    rebinding: found.t2,
                });
            }
        }
    }

    fn note_status(&mut self, options: &DhcpOptions) {
        if let Some(DhcpOption::StatusCode(found)) = options.get(OptionCode::StatusCode)
            && found.status != Status::Success
        {
            self.is_refusal |= matches!(
                found.status,
                Status::NoBinding | Status::NotOnLink | Status::NoAddrsAvail
            );
            let words: String = found.msg.chars().filter(|sign| !sign.is_control()).collect();
            self.problem = Some(format!("{:?} ({words})", found.status));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use dhcproto::v6::StatusCode;

    fn id(ifname: &str) -> Id {
        Id { container: "c1".into(), network: "lan".into(), ifname: ifname.into() }
    }

    fn client() -> Client {
        Client::new(&id("eth0"))
    }

    fn answer(kind: MessageType, options: Vec<DhcpOption>) -> Message {
        let mut message = Message::new_with_id(kind, [0, 0, 9]);
        let own = [DhcpOption::ClientId(client().duid), DhcpOption::ServerId(vec![0, 3, 1])];
        message.set_opts(own.into_iter().chain(options).collect());
        message
    }

    fn ia(opts: Vec<DhcpOption>) -> DhcpOption {
        let opts = opts.into_iter().collect();
        DhcpOption::IANA(IANA { id: client().iaid, t1: 10, t2: 20, opts })
    }

    fn address(last: u16, valid_life: u32) -> DhcpOption {
        let (addr, opts) = (Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, last), DhcpOptions::new());
        DhcpOption::IAAddr(IAAddr { addr, preferred_life: 30, valid_life, opts })
    }

    fn read(kind: MessageType, options: Vec<DhcpOption>) -> Option<Answer> {
        Answer::read(&answer(kind, options).to_vec().unwrap(), [0, 0, 9], &client())
    }

    #[test]
    fn a_client_is_the_same_for_ever_and_no_other() {
        assert_eq!(client(), client());
        assert_ne!(client().duid, Client::new(&id("eth1")).duid);
        assert_eq!((client().duid.len(), &client().duid[..2]), (18, &[0, 4][..]));
        assert_eq!((client().duid[8] >> 4, client().duid[10] >> 6), (8, 2));
    }

    #[test]
    fn each_question_has_what_the_rfc_wants_and_nothing_else() {
        let codes = |ask: Ask<'_>| -> Vec<u16> {
            let bytes = client().encode([1, 2, 3], ask, Duration::from_secs(1000)).unwrap();
            let message = Message::from_bytes(&bytes).unwrap();
            assert_eq!(message.xid(), [1, 2, 3]);
            let elapsed = message.opts().get(OptionCode::ElapsedTime);
            assert_eq!(elapsed, Some(&DhcpOption::ElapsedTime(u16::MAX)));
            let code = |option: &DhcpOption| OptionCode::from(option).into();
            message.opts().iter().map(code).collect()
        };
        let (address, server) = (Ipv6Addr::LOCALHOST, &[0, 3, 1][..]);
        assert_eq!(codes(Ask::Solicit), [1, 3, 8, 14]);
        assert_eq!(codes(Ask::Request { address, server }), [1, 2, 3, 8]);
        assert_eq!(codes(Ask::Renew { address, server }), [1, 2, 3, 8]);
        assert_eq!(codes(Ask::Rebind { address }), [1, 3, 8]);
        assert_eq!(codes(Ask::Release { address, server }), [1, 2, 3, 8]);
    }

    #[test]
    fn an_address_is_read_with_its_times() {
        let offer = read(MessageType::Advertise, vec![ia(vec![address(5, 40)])]).unwrap();
        assert!(offer.is_offer() && !offer.is_final && !offer.is_refusal);
        let granted = offer.granted.unwrap();
        assert_eq!((granted.preferred, granted.valid), (30, 40));
        assert_eq!((granted.renewal, granted.rebinding), (10, 20));
        // Only with Rapid Commit is a Reply an answer to Solicit.
        let plain = read(MessageType::Reply, vec![ia(vec![address(5, 40)])]).unwrap();
        let rapid = vec![ia(vec![address(5, 40)]), DhcpOption::RapidCommit];
        assert!(!plain.is_offer() && read(MessageType::Reply, rapid).unwrap().is_offer());
        let other =
            read(MessageType::Reply, vec![ia(vec![address(5, 0), address(6, 40)])]).unwrap();
        assert_eq!(other.granted.unwrap().address.segments()[7], 6);
    }

    #[test]
    fn refusals_are_told_wherever_they_stand() {
        let status = |status| DhcpOption::StatusCode(StatusCode { status, msg: "no\nmore".into() });
        for options in
            [vec![status(Status::NoAddrsAvail)], vec![ia(vec![status(Status::NoAddrsAvail)])]]
        {
            let refused = read(MessageType::Reply, options).unwrap();
            assert!(refused.is_refusal && refused.granted.is_none());
            assert_eq!(refused.problem.unwrap(), "NoAddrsAvail (nomore)");
        }
        assert!(!read(MessageType::Reply, vec![status(Status::UnspecFail)]).unwrap().is_refusal);
        assert!(read(MessageType::Reply, vec![status(Status::Success)]).unwrap().problem.is_none());
        assert!(read(MessageType::Reply, vec![ia(vec![address(5, 0)])]).unwrap().is_refusal);
    }

    #[test]
    fn what_is_not_for_this_client_is_passed_over() {
        let options = vec![ia(vec![address(5, 40)])];
        assert!(read(MessageType::Solicit, options.clone()).is_none());
        let bytes = answer(MessageType::Reply, options).to_vec().unwrap();
        assert!(Answer::read(&bytes, [0, 0, 8], &client()).is_none());
        assert!(Answer::read(&bytes, [0, 0, 9], &Client::new(&id("eth1"))).is_none());
        for end in 0..bytes.len() {
            // Whatever is cut off, nothing panics.
            drop(Answer::read(&bytes[..end], [0, 0, 9], &client()));
        }
    }
}
