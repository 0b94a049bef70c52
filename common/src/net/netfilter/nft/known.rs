//! Chains and rules that are there, whosever they are.

use netlink_packet_core::DecodeError;

use super::expression::{self, Expression};
use super::{Hook, Policy, comment};
use crate::net::netfilter::nfnetlink::{find, number, text};

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

impl KnownChain {
    pub(super) fn parse(chain: &[u8], chains: &mut Vec<Self>) -> Result<(), DecodeError> {
        const NFTA_CHAIN_TABLE: u16 = 1;
        const NFTA_CHAIN_NAME: u16 = 3;
        const NFTA_CHAIN_HOOK: u16 = 4;
        const NFTA_CHAIN_POLICY: u16 = 5;
        const NFTA_CHAIN_USE: u16 = 6;
        const NFTA_HOOK_HOOKNUM: u16 = 1;
        const NFTA_HOOK_PRIORITY: u16 = 2;
        const NF_DROP: u32 = 0;
        let hook = find(chain, NFTA_CHAIN_HOOK).unwrap_or_default();
        let policy = |number| if number == NF_DROP { Policy::Drop } else { Policy::Accept };
        chains.push(Self {
            table: find(chain, NFTA_CHAIN_TABLE).map(text).unwrap_or_default(),
            name: find(chain, NFTA_CHAIN_NAME).map(text).unwrap_or_default(),
            hook: number(hook, NFTA_HOOK_HOOKNUM).and_then(Hook::from_number),
            priority: number(hook, NFTA_HOOK_PRIORITY).unwrap_or_default().cast_signed(),
            policy: number(chain, NFTA_CHAIN_POLICY).map(policy),
            uses: number(chain, NFTA_CHAIN_USE).unwrap_or_default(),
        });
        Ok(())
    }
}

/// A rule as the kernel lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownRule {
    /// What the kernel calls it, within its chain's table.
    pub handle: u64,
    bytes: Vec<u8>,
}

impl KnownRule {
    pub(super) fn parse(rule: &[u8], rules: &mut Vec<Self>) -> Result<(), DecodeError> {
        const NFTA_RULE_HANDLE: u16 = 3;
        let handle = find(rule, NFTA_RULE_HANDLE).and_then(|value| value.try_into().ok());
        let handle = handle.map(u64::from_be_bytes).unwrap_or_default();
        rules.push(Self { handle, bytes: rule.to_vec() });
        Ok(())
    }

    /// What it is made of, in the order in which it is applied.
    pub fn expressions(&self) -> impl Iterator<Item = Expression<'_>> {
        expression::of_rule(&self.bytes)
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
    pub fn comment(&self) -> Option<String> {
        const NFTA_RULE_USERDATA: u16 = 7;
        comment::decode(find(&self.bytes, NFTA_RULE_USERDATA)?)
    }

    /// What stands in it from the end of `before` up to `after`.
    pub(crate) fn text_between(&self, before: &str, after: char) -> Option<&str> {
        let (from, length) = (before.as_bytes(), before.len());
        let start = self.bytes.windows(length).position(|window| window == from)? + length;
        let rest = self.bytes.get(start..)?;
        let end = rest.iter().position(|byte| char::from(*byte) == after)?;
        std::str::from_utf8(rest.get(..end)?).ok()
    }
}

#[cfg(test)]
pub(super) fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let length = u16::try_from(value.len() + 4).unwrap();
    let mut bytes = [length.to_ne_bytes(), kind.to_ne_bytes()].concat();
    bytes.extend(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chain_is_read_with_its_hook_and_policy() {
        let hook = [attribute(1, &2_u32.to_be_bytes()), attribute(2, &(-5_i32).to_be_bytes())];
        let chain = [
            attribute(1, b"filter\0"),
            attribute(3, b"FORWARD\0"),
            attribute(4, &hook.concat()),
            attribute(5, &0_u32.to_be_bytes()),
            attribute(6, &3_u32.to_be_bytes()),
        ];
        let mut chains = Vec::new();
        KnownChain::parse(&chain.concat(), &mut chains).unwrap();
        KnownChain::parse(&[], &mut chains).unwrap();
        let [chain, plain] = &chains[..] else { panic!("{chains:?}") };
        assert_eq!((chain.table.as_str(), chain.name.as_str()), ("filter", "FORWARD"));
        assert_eq!((chain.hook, chain.policy), (Some(Hook::Forward), Some(Policy::Drop)));
        assert_eq!((chain.priority, chain.uses), (-5, 3));
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
        let mut rules = Vec::new();
        KnownRule::parse(&[handle, notes].concat(), &mut rules).unwrap();
        assert_eq!((rules[0].handle, rules[0].comment().as_deref()), (7, Some("c1")));
    }
}
