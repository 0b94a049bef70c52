//! Sets, elements and the generation, as the kernel tells them.
//!
//! Elements are taken apart here, down to the single attribute: the wire crate, asked for a whole
//! message, prepares an error text with all of the message in it for each element, and a list of
//! 1,000 elements takes 0.7 s.

use netlink_packet_core::{DecodeError, NlaBuffer, NlasIterator, Parseable};
use netlink_packet_netfilter::nftables::{GenAttribute, GenMessage, SetElementAttribute};

use super::Element;
use crate::net::netfilter::nfnetlink::{find, text};

/// The elements in a `NFT_MSG_NEWSETELEM`: a list of lists of attributes.
pub(super) fn elements(message: &[u8], elements: &mut Vec<Element>) -> Result<(), DecodeError> {
    const NFTA_SET_ELEM_LIST_ELEMENTS: u16 = 3;
    let list = find(message, NFTA_SET_ELEM_LIST_ELEMENTS).unwrap_or_default();
    for element in NlasIterator::new(list) {
        elements.push(element_of(&element?)?);
    }
    Ok(())
}

fn element_of(element: &NlaBuffer<&[u8]>) -> Result<Element, DecodeError> {
    let attributes: Vec<_> = NlasIterator::new(element.value())
        .map(|attribute| SetElementAttribute::parse(&attribute?))
        .collect::<Result<_, _>>()?;
    Ok(Element::decode(&attributes))
}

/// The name in a `NFT_MSG_NEWSET`.
pub(super) fn set_name(message: &[u8], names: &mut Vec<String>) -> Result<(), DecodeError> {
    const NFTA_SET_NAME: u16 = 2;
    names.extend(find(message, NFTA_SET_NAME).map(text));
    Ok(())
}

/// The number in a `NFT_MSG_NEWGEN`.
pub(super) fn generation(message: &[u8], numbers: &mut Vec<u32>) -> Result<(), DecodeError> {
    let number = |attribute: &GenAttribute| match attribute {
        GenAttribute::Id(number) => Some(*number),
        _ => None,
    };
    numbers.extend(GenMessage::parse(message)?.attributes.iter().find_map(number));
    Ok(())
}
