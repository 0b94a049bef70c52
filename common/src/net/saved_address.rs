//! Addresses as text, with all that the kernel says of them, for a link that is about to lose them.

use netlink_packet_core::{Emitable as _, NLM_F_CREATE, NLM_F_REPLACE, Parseable as _};
use netlink_packet_route::address::AddressMessage;
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};

use super::{Address, AddressOptions, Error, Netlink, Result};

impl Netlink {
    /// The addresses of a link that nobody has to renew. Behind each one is the kernel's message about it
    /// in hexadecimal, with its peer, label, scope, metric, broadcast address and flags.
    pub(crate) fn save_addresses(&self, index: u32) -> Result<Vec<String>> {
        let messages = self.dump_address_messages(AddressFamily::Unspec, index)?;
        let saved = messages.iter().filter_map(|message| {
            let own = Address::from_message(message).filter(|own| own.is_permanent)?;
            Some(format!("{} {}", own.address, encode(message)))
        });
        Ok(saved.collect())
    }

    /// Gives a link such an address, as it was.
    ///
    /// # Errors
    /// [`Error::is_denied`] for IPv6 where that is switched off.
    pub(crate) fn restore_address(&self, index: u32, saved: &str) -> Result<()> {
        let (address, digits) = saved.split_once(' ').unwrap_or((saved, ""));
        let what = || format!("give {} the address {address}", self.name_of(index));
        let Some(mut message) = decode(digits) else {
            // An earlier version wrote no more than the address.
            let address = address.parse().map_err(|_| Error::new(what(), "it is none"))?;
            return self.ensure_address(index, address, &AddressOptions::default()).map(drop);
        };
        message.header.index = index;
        let message = RouteNetlinkMessage::NewAddress(message);
        self.change(message, NLM_F_CREATE | NLM_F_REPLACE, what).map(drop)
    }
}

fn encode(message: &AddressMessage) -> String {
    let mut bytes = vec![0; message.buffer_len()];
    message.emit(&mut bytes);
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn decode(digits: &str) -> Option<AddressMessage> {
    let pairs = digits.as_bytes().chunks(2).map(|pair| std::str::from_utf8(pair).ok());
    let bytes = pairs.map(|pair| u8::from_str_radix(pair?, 16).ok()).collect::<Option<Vec<_>>>()?;
    AddressMessage::parse(&bytes[..]).ok()
}

#[cfg(test)]
mod tests {
    use netlink_packet_route::address::AddressAttribute;

    use super::*;

    #[test]
    fn a_message_is_read_as_it_was_written() {
        let mut message = AddressMessage::default();
        (message.header.family, message.header.prefix_len) = (AddressFamily::Inet, 32);
        message.attributes = vec![
            AddressAttribute::Local("198.51.100.3".parse().unwrap()),
            AddressAttribute::Label("card:1".to_owned()),
            AddressAttribute::RoutePriority(50),
        ];
        assert_eq!(decode(&encode(&message)), Some(message));
        for other in ["", "0", "zz", "0220", "ä"] {
            assert_eq!(decode(other), None, "{other}");
        }
    }
}
