//! Policy rules: which packets look into which routing table (ip-rule(8)).

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnetwork::IpNetwork;
use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::route::RouteProtocol;
use netlink_packet_route::rule::{RuleAction, RuleAttribute, RuleMessage};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};

use super::{Family, Netlink, Result};

/// By this number rules and routes say that one of these plugins has made them (`RTPROT_` of
/// linux/rtnetlink.h): nobody else has it in /etc/iproute2/rt_protos.
pub const OUR_PROTOCOL: u8 = 71;

/// The tables that the kernel made (`RT_TABLE_DEFAULT` to `RT_TABLE_LOCAL`).
const KERNELS: std::ops::RangeInclusive<u32> = 253..=255;

/// A rule that sends packets into a table, or drops them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// Where the packets come from; `None` for anywhere.
    pub source: Option<IpNetwork>,
    /// The number of the table; `None` if the packets are dropped.
    pub table: Option<u32>,
    /// Who has made it, as in [`Route::protocol`](super::Route).
    pub protocol: u8,
    /// A number that its maker has given it. A rule has no room for a text, but a firewall mark whose
    /// mask is empty holds 32 bits and matches every packet.
    pub tag: Option<u32>,
    /// Whether it is for every packet from there, whatever else is true of it.
    pub is_plain: bool,
    // As the kernel sent it, for nothing less says which one is to be deleted.
    message: RuleMessage,
}

impl Rule {
    /// For the packets from `source`.
    pub fn from_source(source: IpAddr, table: u32, tag: u32) -> Self {
        let mut message = RuleMessage::default();
        let family = Family::of(source);
        message.header.family = family.into();
        message.header.src_len = family.bits();
        message.header.action = RuleAction::ToTable;
        message.attributes = vec![
            RuleAttribute::Source(source),
            RuleAttribute::Table(table),
            RuleAttribute::Protocol(RouteProtocol::from(OUR_PROTOCOL)),
            RuleAttribute::FwMark(tag),
            RuleAttribute::FwMask(0),
        ];
        let (source, table, tag) = (Some(source.into()), Some(table), Some(tag));
        Self { source, table, protocol: OUR_PROTOCOL, tag, is_plain: true, message }
    }

    fn from_message(message: RuleMessage) -> Option<Self> {
        let has_table = match message.header.action {
            RuleAction::ToTable => true,
            RuleAction::Blackhole | RuleAction::Unreachable | RuleAction::Prohibit => false,
            _ => return None,
        };
        let (mut source, mut table) = (None, message.header.table.into());
        let (mut protocol, mut mark, mut mask) = (0, None, None);
        let header = &message.header;
        let mut is_plain = header.dst_len == 0 && header.tos == 0;
        for attribute in &message.attributes {
            match attribute {
                RuleAttribute::Source(ip) => source = Some(*ip),
                RuleAttribute::Table(number) => table = *number,
                RuleAttribute::Protocol(number) => protocol = (*number).into(),
                RuleAttribute::FwMark(number) => mark = Some(*number),
                RuleAttribute::FwMask(number) => mask = Some(*number),
                RuleAttribute::Priority(_) | RuleAttribute::SuppressPrefixLen(_) => {}
                _ => is_plain = false,
            }
        }
        is_plain &= mask.unwrap_or_default() == 0 && (mark.is_none() || mask.is_some());
        let source = source.and_then(|ip| IpNetwork::new(ip, message.header.src_len).ok());
        let tag = mark.filter(|_| mask == Some(0) && protocol == OUR_PROTOCOL);
        let table = has_table.then_some(table);
        Some(Self { source, table, protocol, tag, is_plain, message })
    }

    /// The same for the packets of another address.
    #[must_use]
    pub fn with_source(&self, source: IpAddr) -> Self {
        let mut rule = Self { source: Some(source.into()), ..self.clone() };
        for attribute in &mut rule.message.attributes {
            if let RuleAttribute::Source(old) = attribute {
                *old = source;
            }
        }
        rule
    }

    /// Whether it is for the packets of one address.
    pub fn is_from(&self, address: IpAddr) -> bool {
        self.source == Some(address.into())
    }

    /// Whether it drops all packets of an address.
    pub fn drops(&self, address: IpAddr) -> bool {
        self.table.is_none()
            && self.is_plain
            && self.message.header.family == Family::of(address).into()
            && self.source.is_none_or(|source| source.contains(address))
    }

    fn what(&self, verb: &str) -> String {
        let source = self.source.map_or("all".to_owned(), |source| source.ip().to_string());
        let table = self.table.map_or("none".to_owned(), |table| table.to_string());
        format!("{verb} rule from {source} lookup {table}")
    }
}

impl Netlink {
    /// Adds a rule before those that are there, but for the one that leads to this host's own addresses.
    pub fn create_rule(&self, rule: &Rule) -> Result<()> {
        let message = RouteNetlinkMessage::NewRule(rule.message.clone());
        self.change(message, NLM_F_CREATE | NLM_F_EXCL, || rule.what("add")).map(drop)
    }

    /// Removes a rule; one that is gone already is success.
    pub fn delete_rule(&self, rule: &Rule) -> Result<()> {
        let message = RouteNetlinkMessage::DelRule(rule.message.clone());
        match self.change(message, 0, || rule.what("delete")) {
            Err(error) if !error.is_gone() => Err(error),
            _ => Ok(()),
        }
    }

    /// The rules of both families that send packets into tables or drop them, in the order in which they
    /// are asked.
    ///
    /// # Errors
    /// [`Error::is_unsupported`](super::Error::is_unsupported) on a kernel without policy rules.
    pub fn list_rules(&self) -> Result<Vec<Rule>> {
        let mut rules = Vec::new();
        for family in Family::ALL {
            let mut message = RuleMessage::default();
            message.header.family = family.into();
            let answer = self.dump(&RouteNetlinkMessage::GetRule(message), || {
                format!("list {family:?} rules")
            })?;
            rules.extend(answer.into_iter().filter_map(|message| match message {
                // A kernel without rules of one family answers for all that it has.
                RouteNetlinkMessage::NewRule(rule)
                    if rule.header.family == AddressFamily::from(family) =>
                {
                    Rule::from_message(rule)
                }
                _ => None,
            }));
        }
        Ok(rules)
    }

    /// The tables, from `first` on, that no rule, route or VRF of the namespace uses.
    pub fn list_free_tables(&self, first: u32) -> Result<impl Iterator<Item = u32> + use<>> {
        let mut used: BTreeSet<u32> = KERNELS.collect();
        used.extend(self.list_rules()?.iter().filter_map(|rule| rule.table));
        for family in Family::ALL {
            used.extend(self.list_tables_of_routes(family)?);
        }
        used.extend(self.list_vrf_tables()?);
        Ok((first..).filter(move |table| !used.contains(table)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_encoded_is_decoded() {
        let rule = Rule::from_source("10.1.0.2".parse().unwrap(), 1000, 77);
        assert_eq!(Rule::from_message(rule.message.clone()), Some(rule.clone()));
        assert!(rule.is_from("10.1.0.2".parse().unwrap()));
        assert!(!rule.is_from("10.1.0.3".parse().unwrap()));
    }

    #[test]
    fn a_mark_that_matches_something_is_no_tag() {
        let mut message = Rule::from_source("fd00::2".parse().unwrap(), 100, 77).message;
        *message.attributes.last_mut().unwrap() = RuleAttribute::FwMask(u32::MAX);
        assert_eq!(Rule::from_message(message).unwrap().tag, None);
    }
}
