//! What all attachments share: sets, and a number of rules that no pod changes.

use common::filter::elements::{ABOUT, BRIDGE, Shared, TABLES};
use common::net::nft::{
    Address, Base, Batch, Chain, ChainKind, Content, Datatype, Expr, FILTER, Family, Field, Hook,
    Make, Policy, Set, SetName, Table, Verdict,
};

/// Addresses whose connections are let through, each with its owner.
pub(super) const PODS: &str = "firewall-pods";
/// Bridges between which nothing is forwarded, each with its network.
pub(super) const BRIDGES: &str = "firewall-bridges";
/// From which of those bridges to which one is forwarded all the same.
pub(super) const ALLOWED_PAIRS: &str = "firewall-ways";
/// Ports of bridges that no other port of theirs is heard by.
pub(super) const PORTS: Shared = SetName { table: BRIDGE, name: "firewall-ports" };

/// Pods that are kept apart, each as a pair with itself: what comes back to them is theirs. That
/// is how a service of Kubernetes is reached whose only pod is the one that asks.
pub(super) const HAIRPINS: &str = "firewall-hairpins";
/// The same for ports of bridges. A bridge sends a frame back only where it was told to.
pub(super) const PORT_HAIRPINS: Shared = SetName { table: BRIDGE, name: HAIRPINS };

const CHAIN: &str = "firewall";

/// The bit of a packet's mark that says: it is to be let through. Nobody whom we know of uses it:
/// kube-proxy has 0xc000, portmap 0x2000, Calico and Tailscale have the upper half, Cilium 0xf00.
pub(super) const ACCEPTED: u32 = 0x1000;

/// The set of this name for a family.
pub(super) fn set_of(name: &'static str, is_ipv6: bool) -> Shared {
    SetName { table: TABLES[usize::from(is_ipv6)], name }
}

/// The addresses, of both families.
pub(super) fn pods() -> [Shared; 2] {
    [false, true].map(|is_ipv6| set_of(PODS, is_ipv6))
}

/// What is said about the ports and the addresses of those who are kept apart.
pub(super) fn apart() -> [Shared; 4] {
    [PORTS, PORT_HAIRPINS, set_of(HAIRPINS, false), set_of(HAIRPINS, true)]
}

/// Only who has which address: what is done about it is in another table, or in firewalld.
pub(super) fn declare_record(batch: &mut Batch, is_ipv6: bool) {
    let table = TABLES[usize::from(is_ipv6)];
    batch.table(Make::Ensure, table, ABOUT);
    set(batch, table, PODS, &[address(table)]);
}

const BOTH: [Field; 2] = [Field::Address(Address::Source), Field::Address(Address::Destination)];

/// Everything about addresses of a family.
///
/// The chain is called right before those of everybody else (`filter`): it drops, which is final,
/// or it marks, for an accept would be an opinion that the next chain need not share.
pub(super) fn declare(batch: &mut Batch, is_ipv6: bool) {
    let table = TABLES[usize::from(is_ipv6)];
    declare_record(batch, is_ipv6);
    set(batch, table, BRIDGES, &[Datatype::IfName]);
    set(batch, table, ALLOWED_PAIRS, &[Datatype::IfName, Datatype::IfName]);
    set(batch, table, HAIRPINS, &[address(table), address(table)]);
    forward(batch, table, FILTER - 1);
    let rules: [&[Expr<'_>]; 3] = [
        &[
            Expr::In(&[Field::Input], BRIDGES),
            Expr::In(&[Field::Output], BRIDGES),
            Expr::NotIn(&[Field::Input, Field::Output], ALLOWED_PAIRS),
            Expr::NotIn(&BOTH, HAIRPINS),
            Expr::Verdict(Verdict::Drop),
        ],
        &[Expr::In(&[Field::Address(Address::Source)], PODS), Expr::Mark(ACCEPTED)],
        &[
            Expr::In(&[Field::Address(Address::Destination)], PODS),
            Expr::Answered,
            Expr::Mark(ACCEPTED),
        ],
    ];
    for rule in rules {
        batch.rule(table, CHAIN, rule, None);
    }
}

/// Everything about frames. A bridge forwards them by itself, unseen by tables of the internet
/// (unless `br_netfilter` shows them).
pub(super) fn declare_ports(batch: &mut Batch) {
    batch.table(Make::Ensure, BRIDGE, ABOUT);
    set(batch, BRIDGE, PORTS.name, &[Datatype::IfName]);
    set(batch, BRIDGE, PORT_HAIRPINS.name, &[Datatype::IfName, Datatype::IfName]);
    forward(batch, BRIDGE, FILTER);
    for side in [Field::Input, Field::Output] {
        let rule = [
            Expr::In(&[side], PORTS.name),
            Expr::NotIn(&[Field::Input, Field::Output], PORT_HAIRPINS.name),
            Expr::Verdict(Verdict::Drop),
        ];
        batch.rule(BRIDGE, CHAIN, &rule, None);
    }
}

fn address(table: Table<'_>) -> Datatype {
    if table.family == Family::Ip { Datatype::Ipv4Addr } else { Datatype::Ipv6Addr }
}

fn set(batch: &mut Batch, table: Table<'_>, name: &str, key: &[Datatype]) {
    let set = Set { table, name, key, content: Content::Keys, intervals: false };
    batch.set(Make::Ensure, &set);
}

fn forward(batch: &mut Batch, table: Table<'_>, priority: i32) {
    let (kind, hook, policy) = (ChainKind::Filter, Hook::Forward, Policy::Accept);
    let base = Base { kind, hook, priority, policy };
    batch.empty_chain(&Chain { base: Some(base), ..Chain::named(table, CHAIN) });
}
