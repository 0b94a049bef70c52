//! What all attachments share: sets, and rules whose number no pod changes.

use common::filter::elements::{ABOUT, BRIDGE, Shared, table};
use common::net::Family;
use common::net::nft::{
    AddressField, Base, Batch, Chain, ChainKind, Content, Datatype, Expr, FILTER, Field, Hook,
    Make, Policy, Set, SetName, Table, Verdict,
};

/// Addresses whose connections are let through, each with its owner.
pub(super) const PODS: &str = "firewall-pods";
/// Bridges between which nothing is forwarded, each with its network.
pub(super) const BRIDGES: &str = "firewall-bridges";
/// Pairs of those bridges that may forward from the first to the second all the same.
pub(super) const ALLOWED_PAIRS: &str = "firewall-ways";
/// Ports of bridges that exchange no frames with other ports.
pub(super) const PORTS: Shared = SetName { table: BRIDGE, name: "firewall-ports" };

/// Isolated pods, each as a pair with itself: a pod that asks a service whose only endpoint it is
/// itself gets its own packets back (hairpin).
pub(super) const HAIRPINS: &str = "firewall-hairpins";
/// The same for ports of bridges. A bridge sends a frame back only in hairpin mode.
pub(super) const PORT_HAIRPINS: Shared = SetName { table: BRIDGE, name: HAIRPINS };

const CHAIN: &str = "firewall";

/// The bit of a packet's mark that says: it is to be let through. No software that we know of uses
/// it: kube-proxy has 0xc000, portmap 0x2000, Calico and Tailscale have the upper half, Cilium 0xf00.
pub(super) const ACCEPTED: u32 = 0x1000;

/// The set of this name for a family.
pub(super) fn set_of(name: &'static str, family: Family) -> Shared {
    SetName { table: table(family), name }
}

/// The addresses, of both families.
pub(super) fn pods() -> [Shared; 2] {
    Family::ALL.map(|family| set_of(PODS, family))
}

/// The sets that isolated pods are in, by their ports and by their addresses.
pub(super) fn isolated() -> [Shared; 4] {
    [PORTS, PORT_HAIRPINS, set_of(HAIRPINS, Family::V4), set_of(HAIRPINS, Family::V6)]
}

/// Makes the set of addresses and no rules: iptables or firewalld has those.
pub(super) fn declare_record(batch: &mut Batch, family: Family) {
    let table = table(family);
    batch.table(Make::Ensure, table, ABOUT);
    set(batch, table, PODS, &[address(family)]);
}

const BOTH: [Field; 2] =
    [Field::Address(AddressField::Source), Field::Address(AddressField::Destination)];

/// Makes everything about addresses of a family.
///
/// The chain is called right before those of everybody else (`filter`). It drops, which is final, or
/// it marks: an accept would end this chain only, and a later one could still drop the packet.
pub(super) fn declare(batch: &mut Batch, family: Family) {
    let table = table(family);
    declare_record(batch, family);
    set(batch, table, BRIDGES, &[Datatype::IfName]);
    set(batch, table, ALLOWED_PAIRS, &[Datatype::IfName, Datatype::IfName]);
    set(batch, table, HAIRPINS, &[address(family), address(family)]);
    forward(batch, table, FILTER - 1);
    let rules: [&[Expr<'_>]; 3] = [
        &[
            Expr::In(&[Field::Input], BRIDGES),
            Expr::In(&[Field::Output], BRIDGES),
            Expr::NotIn(&[Field::Input, Field::Output], ALLOWED_PAIRS),
            Expr::NotIn(&BOTH, HAIRPINS),
            Expr::Verdict(Verdict::Drop),
        ],
        &[Expr::In(&[Field::Address(AddressField::Source)], PODS), Expr::Mark(ACCEPTED)],
        &[
            Expr::In(&[Field::Address(AddressField::Destination)], PODS),
            Expr::Answered,
            Expr::Mark(ACCEPTED),
        ],
    ];
    for rule in rules {
        batch.rule(table, CHAIN, rule, None);
    }
}

/// Makes everything about frames. Tables of IPv4 and IPv6 do not see what a bridge forwards between
/// its ports (but for `br_netfilter`).
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

fn address(family: Family) -> Datatype {
    match family {
        Family::V4 => Datatype::Ipv4Addr,
        Family::V6 => Datatype::Ipv6Addr,
    }
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
