//! Chains as they are found: those of other people, too.

use netlink_packet_core::{DecodeError, NlasIterator};

use super::redirect::{self, Redirect};
use super::reply::Body;
use super::{Hook, Policy};

/// What the kernel says of a chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownChain {
    /// The table's name.
    pub table: String,
    /// The chain's own.
    pub name: String,
    /// Where the kernel calls it. None if only a jump gets there, or at a hook that is not one of
    /// [`Hook`].
    pub hook: Option<Hook>,
    /// Its place among the chains of that hook: lower is earlier.
    pub priority: i32,
    /// What becomes of a packet that no rule decided on; of base chains only.
    pub policy: Option<Policy>,
    /// How many rules it has, and how many lead to it.
    pub uses: u32,
}

/// Behind the header that all messages of netfilter have (`struct nfgenmsg`).
pub(super) const NFGENMSG: usize = 4;

impl KnownChain {
    pub(super) fn parse(message: &[u8]) -> Result<Self, DecodeError> {
        const NFTA_CHAIN_TABLE: u16 = 1;
        const NFTA_CHAIN_NAME: u16 = 3;
        const NFTA_CHAIN_HOOK: u16 = 4;
        const NFTA_CHAIN_POLICY: u16 = 5;
        const NFTA_CHAIN_USE: u16 = 6;
        let (table, name) = (String::new(), String::new());
        let mut chain = Self { table, name, hook: None, priority: 0, policy: None, uses: 0 };
        for attribute in NlasIterator::new(message.get(NFGENMSG..).unwrap_or_default()) {
            let attribute = attribute?;
            let value = attribute.value();
            match attribute.kind() {
                NFTA_CHAIN_TABLE => chain.table = text(value),
                NFTA_CHAIN_NAME => chain.name = text(value),
                NFTA_CHAIN_HOOK => {
                    chain.hook = hook(value)?;
                    chain.priority = priority(value);
                }
                NFTA_CHAIN_POLICY => {
                    let drops = number(value) == 0;
                    chain.policy = Some(if drops { Policy::Drop } else { Policy::Accept });
                }
                NFTA_CHAIN_USE => chain.uses = number(value),
                _ => {}
            }
        }
        Ok(chain)
    }
}

/// A rule as the kernel writes it, whosever it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownRule {
    /// What the kernel calls it, within its chain's table.
    pub handle: u64,
    bytes: Vec<u8>,
}

impl KnownRule {
    pub(super) fn parse(message: &[u8]) -> Result<Self, DecodeError> {
        const NFTA_RULE_HANDLE: u16 = 3;
        let mut rule = Self { handle: 0, bytes: message.to_vec() };
        for attribute in NlasIterator::new(message.get(NFGENMSG..).unwrap_or_default()) {
            let attribute = attribute?;
            if attribute.kind() == NFTA_RULE_HANDLE {
                let handle = attribute.value().try_into().map(u64::from_be_bytes);
                rule.handle = handle.unwrap_or_default();
            }
        }
        Ok(rule)
    }

    /// Whether these bytes are anywhere in it: an address, a number.
    pub fn contains(&self, wanted: &[u8]) -> bool {
        self.bytes.windows(wanted.len()).any(|window| window == wanted)
    }

    /// Whether this is a name or a comment of iptables in it. Each stands alone and ends with a
    /// NUL there.
    pub fn mentions(&self, text: &str) -> bool {
        self.contains(&[&[0], text.as_bytes(), &[0]].concat())
    }

    /// The comment of nft(8).
    pub fn comment(&self) -> Option<&str> {
        const NFTA_RULE_USERDATA: u16 = 7;
        let notes = find(self.bytes.get(NFGENMSG..)?, NFTA_RULE_USERDATA)?;
        let [0, length, rest @ ..] = notes else { return None };
        let text = rest.get(..usize::from(*length))?.strip_suffix(&[0])?;
        std::str::from_utf8(text).ok()
    }

    /// Name and attributes of each of its expressions.
    pub(super) fn expressions(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        redirect::expressions(&self.bytes)
    }

    /// What it translates, if it does.
    pub fn redirect(&self) -> Redirect {
        Redirect::of_rule(&self.bytes)
    }

    /// The ports that its match `multiport` asks for.
    pub fn ports(&self) -> Vec<u16> {
        redirect::ports(&self.bytes)
    }

    /// What stands in it from the end of `before` up to `after`.
    pub fn text_between(&self, before: &str, after: char) -> Option<&str> {
        let (from, length) = (before.as_bytes(), before.len());
        let start = self.bytes.windows(length).position(|window| window == from)? + length;
        let rest = self.bytes.get(start..)?;
        let end = rest.iter().position(|byte| char::from(*byte) == after)?;
        std::str::from_utf8(rest.get(..end)?).ok()
    }
}

pub(super) fn chains(answer: Vec<Body>) -> impl Iterator<Item = KnownChain> {
    answer.into_iter().filter_map(|body| match body {
        Body::Chain(chain) => Some(chain),
        _ => None,
    })
}

pub(super) fn set_name(message: &[u8]) -> String {
    const NFTA_SET_NAME: u16 = 2;
    find(message.get(NFGENMSG..).unwrap_or_default(), NFTA_SET_NAME).map(text).unwrap_or_default()
}

/// The number in a `NFT_MSG_NEWGEN`.
pub(super) fn generation(message: &[u8]) -> Option<u32> {
    const NFTA_GEN_ID: u16 = 1;
    let number = find(message.get(NFGENMSG..).unwrap_or_default(), NFTA_GEN_ID)?;
    number.try_into().ok().map(u32::from_be_bytes)
}

fn hook(attributes: &[u8]) -> Result<Option<Hook>, DecodeError> {
    const NFTA_HOOK_HOOKNUM: u16 = 1;
    const HOOKS: [Hook; 5] =
        [Hook::Prerouting, Hook::Input, Hook::Forward, Hook::Output, Hook::Postrouting];
    for attribute in NlasIterator::new(attributes) {
        let attribute = attribute?;
        if attribute.kind() == NFTA_HOOK_HOOKNUM {
            let index = usize::try_from(number(attribute.value())).unwrap_or(usize::MAX);
            return Ok(HOOKS.get(index).copied());
        }
    }
    Ok(None)
}

fn priority(attributes: &[u8]) -> i32 {
    const NFTA_HOOK_PRIORITY: u16 = 2;
    let value = find(attributes, NFTA_HOOK_PRIORITY).and_then(|value| value.try_into().ok());
    value.map_or(0, i32::from_be_bytes)
}

/// The value of an attribute, if it is there.
pub(super) fn find(bytes: &[u8], kind: u16) -> Option<&[u8]> {
    attributes(bytes).find(|(found, _)| *found == kind).map(|(_, value)| value)
}

/// Kind and value of each.
pub(super) fn attributes(bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    NlasIterator::new(bytes).map_while(Result::ok).filter_map(|attribute| {
        let (kind, length) = (attribute.kind(), usize::from(attribute.length()));
        Some((kind, attribute.into_inner().get(4..length)?))
    })
}

fn text(value: &[u8]) -> String {
    String::from_utf8_lossy(value).trim_end_matches('\0').to_owned()
}

fn number(value: &[u8]) -> u32 {
    <[u8; 4]>::try_from(value).map_or(u32::MAX, u32::from_be_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
        let length = u16::try_from(value.len() + 4).unwrap();
        let mut bytes = [length.to_ne_bytes(), kind.to_ne_bytes()].concat();
        bytes.extend(value);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    #[test]
    fn a_chain_is_read_with_its_hook_and_policy() {
        let hook = [attribute(1, &2_u32.to_be_bytes()), attribute(2, &(-5_i32).to_be_bytes())];
        let hook = hook.concat();
        let message = [
            vec![2, 0, 0, 0],
            attribute(1, b"filter\0"),
            attribute(3, b"FORWARD\0"),
            attribute(4, &hook),
            attribute(5, &0_u32.to_be_bytes()),
            attribute(6, &3_u32.to_be_bytes()),
        ]
        .concat();
        let chain = KnownChain::parse(&message).unwrap();
        assert_eq!((chain.table.as_str(), chain.name.as_str()), ("filter", "FORWARD"));
        assert_eq!((chain.hook, chain.policy), (Some(Hook::Forward), Some(Policy::Drop)));
        assert_eq!((chain.priority, chain.uses), (-5, 3));
        let plain = KnownChain::parse(&message[..4]).unwrap();
        assert_eq!((plain.hook, plain.policy, plain.uses), (None, None, 0));
    }

    #[test]
    fn a_name_is_found_whole_or_not_at_all() {
        let parse = |bytes: &[u8]| KnownRule { handle: 0, bytes: bytes.to_vec() };
        let rule = parse(b"\x10\0\x02\0CNI-ADMIN\0\0\0");
        assert!(rule.mentions("CNI-ADMIN"));
        for other in ["ADMIN", "CNI-ADMI", "CNI"] {
            assert!(!rule.mentions(other), "{other}");
        }
        let rule = parse(b"..dnat name: \"pods\" id: \"c1\"\0");
        assert_eq!(rule.text_between("name: \"pods\" id: \"", '"'), Some("c1"));
        assert_eq!(rule.text_between("name: \"pod\" id: \"", '"'), None);
    }

    #[test]
    fn a_rule_tells_its_handle_and_comment() {
        let (handle, notes) = (attribute(3, &7_u64.to_be_bytes()), attribute(7, b"\0\x03c1\0"));
        let rule = KnownRule::parse(&[vec![2, 0, 0, 0], handle, notes].concat()).unwrap();
        assert_eq!((rule.handle, rule.comment()), (7, Some("c1")));
    }
}
