//! Tables and chains: where rules are, and when the kernel calls them.

use std::fmt;

use netlink_packet_netfilter::NetfilterProtoFamily;
use netlink_packet_netfilter::nftables::{
    ChainAttribute, ChainMessage, Hook as HookAttribute, HookNumber, InetHookNumber,
    TableAttribute, TableMessage,
};

use super::{checked, comment};
use crate::net::{self, Result};

/// Which packets a table sees. Tables of different families may bear the same name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum TableFamily {
    /// IPv4 only.
    Ip,
    /// IPv6 only.
    Ip6,
    /// Frames that a bridge forwards.
    Bridge,
    /// IPv4 and IPv6.
    Inet,
}

impl From<net::Family> for TableFamily {
    fn from(family: net::Family) -> Self {
        match family {
            net::Family::V4 => Self::Ip,
            net::Family::V6 => Self::Ip6,
        }
    }
}

impl From<TableFamily> for NetfilterProtoFamily {
    fn from(family: TableFamily) -> Self {
        match family {
            TableFamily::Ip => Self::IPv4,
            TableFamily::Ip6 => Self::IPv6,
            TableFamily::Bridge => Self::Bridge,
            TableFamily::Inet => Self::Inet,
        }
    }
}

impl fmt::Display for TableFamily {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ip => "ip",
            Self::Ip6 => "ip6",
            Self::Bridge => "bridge",
            Self::Inet => "inet",
        })
    }
}

/// A table's full name. Everything else is found through it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Table<'a> {
    /// Which packets it sees.
    pub family: TableFamily,
    /// Up to 255 bytes.
    pub name: &'a str,
}

impl fmt::Display for Table<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "table {} {}", self.family, self.name)
    }
}

impl Table<'_> {
    pub(super) fn message(self, comment: Option<&str>) -> Result<TableMessage> {
        let mut attributes = vec![TableAttribute::Name(checked("table", self.name)?)];
        if let Some(comment) = comment {
            attributes.push(TableAttribute::UserData(comment::encode(comment)?));
        }
        Ok(TableMessage { attributes })
    }
}

/// A list of rules.
#[derive(Debug, Clone, Copy)]
pub struct Chain<'a> {
    /// Its table.
    pub table: Table<'a>,
    /// Up to 255 bytes.
    pub name: &'a str,
    /// Where the kernel calls it; without, only a jump or a goto gets there.
    pub base: Option<Base>,
    /// Shown by `nft list ruleset` (kernel 5.10 and later keep it).
    pub comment: Option<&'a str>,
}

/// Where the kernel calls a chain, and what becomes of a packet that no rule decided on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Base {
    /// What its rules may do.
    pub kind: ChainKind,
    /// At which point of a packet's way.
    pub hook: Hook,
    /// The order among the chains of one hook: lower runs first. [`SRCNAT`] and its like are
    /// nft's names.
    pub priority: i32,
    /// What becomes of a packet that no rule decided on.
    pub policy: Policy,
}

/// `raw`: before connections are tracked (`NF_IP_PRI_RAW`).
pub const RAW: i32 = -300;
/// `dstnat`: a prerouting chain that translates destinations (`NF_IP_PRI_NAT_DST`).
pub const DSTNAT: i32 = -100;
/// `filter`: where packets are let through or not (`NF_IP_PRI_FILTER`).
pub const FILTER: i32 = 0;
/// `srcnat`: a postrouting chain that translates sources (`NF_IP_PRI_NAT_SRC`).
pub const SRCNAT: i32 = 100;

/// What the rules of a base chain may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChainKind {
    /// Accept and drop. Sees every packet.
    Filter,
    /// Translate addresses. Sees only the first packet of a connection.
    Nat,
}

/// The points of a packet's way, with the numbers of `enum nf_inet_hooks`; those of a bridge
/// (`netfilter_bridge.h`) are the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hook {
    /// Everything that came in, before its route is chosen.
    Prerouting,
    /// What is for this host.
    Input,
    /// What passes through.
    Forward,
    /// What this host sends, before its route is final.
    Output,
    /// Everything that goes out.
    Postrouting,
}

impl Hook {
    pub(super) fn from_number(number: u32) -> Option<Self> {
        const HOOKS: [Hook; 5] =
            [Hook::Prerouting, Hook::Input, Hook::Forward, Hook::Output, Hook::Postrouting];
        HOOKS.get(usize::try_from(number).ok()?).copied()
    }
}

/// What becomes of a packet that no rule of a base chain decided on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Policy {
    /// It goes on.
    Accept,
    /// It is gone.
    Drop,
}

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "chain {} in {}", self.name, self.table)
    }
}

impl<'a> Chain<'a> {
    /// Just the name: all that deleting it, or adding a rule to it, needs.
    pub fn named(table: Table<'a>, name: &'a str) -> Self {
        Self { table, name, base: None, comment: None }
    }

    pub(super) fn message(&self) -> Result<ChainMessage> {
        let mut attributes = vec![
            ChainAttribute::Table(checked("table", self.table.name)?),
            ChainAttribute::Name(checked("chain", self.name)?),
        ];
        if let Some(base) = self.base {
            attributes.extend(base.attributes());
        }
        if let Some(comment) = self.comment {
            attributes.push(ChainAttribute::UserData(comment::encode(comment)?));
        }
        Ok(ChainMessage { attributes })
    }
}

impl Base {
    fn attributes(self) -> [ChainAttribute; 3] {
        let kind = match self.kind {
            ChainKind::Filter => "filter",
            ChainKind::Nat => "nat",
        };
        let number = match self.hook {
            Hook::Prerouting => InetHookNumber::PreRouting,
            Hook::Input => InetHookNumber::LocalIn,
            Hook::Forward => InetHookNumber::Forward,
            Hook::Output => InetHookNumber::LocalOut,
            Hook::Postrouting => InetHookNumber::PostRouting,
        };
        // NF_DROP and NF_ACCEPT.
        let policy = match self.policy {
            Policy::Drop => 0,
            Policy::Accept => 1,
        };
        [
            ChainAttribute::Type(kind.to_owned()),
            ChainAttribute::Hook(vec![
                HookAttribute::Number(HookNumber::Inet(number)),
                HookAttribute::Priority(self.priority.cast_unsigned()),
            ]),
            ChainAttribute::Policy(policy),
        ]
    }
}
