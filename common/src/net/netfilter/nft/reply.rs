//! What the kernel answers.
//!
//! Elements are taken apart here, down to the single attribute: the wire crate, asked for a whole
//! message, prepares an error text with all of the message in it for each element, and a list of
//! 1,000 elements takes 0.7 s.

use netlink_packet_core::{
    DecodeError, DoneBuffer, ErrorBuffer, ErrorMessage, NLM_F_DUMP_INTR, NLMSG_DONE, NLMSG_ERROR,
    NetlinkBuffer, NlaBuffer, NlasIterator, Parseable,
};
use netlink_packet_netfilter::nftables::SetElementAttribute;

use super::{Element, KnownChain, KnownRule, known};
use crate::net::Error;

/// One message from the kernel.
#[derive(Debug)]
pub(super) struct Reply {
    /// Of the request it answers.
    pub(super) sequence: u32,
    /// What is listed changed while it was.
    pub(super) interrupted: bool,
    pub(super) body: Body,
}

#[derive(Debug)]
pub(super) enum Body {
    /// A refusal or an acknowledgement.
    Outcome(ErrorMessage),
    /// The end of a list: 0, or the negative number of the error that ended it.
    Done(i32),
    Elements(Vec<Element>),
    /// A rule as it came, whatever it says.
    Rule(KnownRule),
    Chain(KnownChain),
    /// The name of a set or map.
    Set(String),
    /// The number of the ruleset as it is.
    Generation(u32),
}

const NEW_CHAIN: u16 = 10 << 8 | 3;
const NEW_RULE: u16 = 10 << 8 | 6;
const NEW_SET: u16 = 10 << 8 | 9;
const NEW_SET_ELEMENT: u16 = 10 << 8 | 12;
const NEW_GENERATION: u16 = 10 << 8 | 15;

/// The messages of one datagram.
pub(super) fn parse(mut bytes: &[u8], replies: &mut Vec<Reply>) -> Result<(), DecodeError> {
    while !bytes.is_empty() {
        let message = NetlinkBuffer::new_checked(bytes)?;
        let payload = message.payload();
        let body = match message.message_type() {
            NLMSG_ERROR => {
                let error = ErrorBuffer::new_checked(&payload)?;
                Some(Body::Outcome(ErrorMessage::parse(&error)?))
            }
            NLMSG_DONE => Some(Body::Done(DoneBuffer::new_checked(payload)?.code())),
            NEW_CHAIN => Some(Body::Chain(KnownChain::parse(payload)?)),
            NEW_RULE => Some(Body::Rule(KnownRule::parse(payload)?)),
            NEW_SET => Some(Body::Set(known::set_name(payload))),
            NEW_SET_ELEMENT => Some(Body::Elements(elements(payload)?)),
            NEW_GENERATION => known::generation(payload).map(Body::Generation),
            _ => None,
        };
        if let Some(body) = body {
            replies.push(Reply {
                sequence: message.sequence_number(),
                interrupted: message.flags() & NLM_F_DUMP_INTR != 0,
                body,
            });
        }
        let next = usize::try_from(message.length().next_multiple_of(4)).unwrap_or(usize::MAX);
        bytes = bytes.get(next..).unwrap_or_default();
    }
    Ok(())
}

/// The elements in a `NFT_MSG_NEWSETELEM`: a list of lists of attributes.
fn elements(payload: &[u8]) -> Result<Vec<Element>, DecodeError> {
    const NFGENMSG: usize = 4;
    const NFTA_SET_ELEM_LIST_ELEMENTS: u16 = 3;
    let mut elements = Vec::new();
    for list in NlasIterator::new(payload.get(NFGENMSG..).unwrap_or_default()) {
        let list = list?;
        if list.kind() != NFTA_SET_ELEM_LIST_ELEMENTS {
            continue;
        }
        for element in NlasIterator::new(list.value()) {
            elements.push(element_of(&element?)?);
        }
    }
    Ok(elements)
}

fn element_of(element: &NlaBuffer<&[u8]>) -> Result<Element, DecodeError> {
    let attributes: Vec<_> = NlasIterator::new(element.value())
        .map(|attribute| SetElementAttribute::parse(&attribute?))
        .collect::<Result<_, _>>()?;
    Ok(Element::decode(&attributes))
}

/// None if it is an acknowledgement.
pub(super) fn failure(outcome: &ErrorMessage, what: &str) -> Option<Error> {
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
    fn a_datagram_that_is_cut_off_is_an_error() {
        let mut replies = Vec::new();
        assert!(parse(&[20, 0, 0, 0, 2, 0], &mut replies).is_err());
        assert!(parse(&[200, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], &mut replies).is_err());
        assert!(replies.is_empty());
    }
}
