//! What all host ports share: sets, maps, and rules whose number no pod changes.

use common::filter::elements::ABOUT;
use common::net::nft::{
    AddressField, Base, Batch, Chain, ChainKind, Content, DSTNAT, Datatype, DnatTarget, Expr,
    Field, Hook, Make, Policy, RAW, SRCNAT, Set, Table, TableFamily, Verdict,
};
use ipnetwork::{IpNetwork, Ipv4Network};
use std::net::Ipv4Addr;

/// Who has which single port of every address.
pub(super) const PORTS: &str = "hostports";
/// Who has which single port of one address.
pub(super) const PORTS_AT: &str = "hostports-at";
/// Who has which range of ports: the kernel refuses an overlap. A deletion from a set of intervals
/// takes time for each element of the set, 18 s for 20,000 of 20,000, so single ports are not in it.
pub(super) const RANGE_OWNERS: &str = "hostport-spans";
/// Where single ports of every address lead to.
pub(super) const TARGETS: &str = "hostport-targets";
/// Where single ports of one address lead to.
pub(super) const TARGETS_AT: &str = "hostport-targets-at";
/// Where ranges, whose ports stay as they are, lead to.
pub(super) const RANGES: &str = "hostport-ranges";
/// Pods, each with the chain of those whose connections to it are masqueraded.
pub(super) const SOURCES: &str = "hostport-sources";

/// What the name of a chain of such sources begins with.
pub(super) const SOURCES_PREFIX: &str = "hostport-sources-";

/// The ACL map: ports that not everybody may use.
pub(super) const ACLS: &str = "hostport-gates";
/// What the name of a chain of conditions begins with.
pub(super) const CONDITIONS_PREFIX: &str = "hostports-if-";

pub(super) const ALL: [&str; 8] =
    [TARGETS, TARGETS_AT, RANGES, ACLS, PORTS, PORTS_AT, RANGE_OWNERS, SOURCES];

/// After all chains that are at `dstnat` itself: a service whose address is this host's own (IPVS,
/// kube-proxy, an operator's rule) is more specific than a port of any address, and the first chain
/// that translates a connection is the last one that it sees.
const AFTER_SERVICES: i32 = DSTNAT + 10;

const DESTINATION: [Field; 3] =
    [Field::Address(AddressField::Destination), Field::Protocol, Field::DestinationPort];
const ORIGINAL: [Field; 3] = [Field::OriginalDestination, Field::Protocol, Field::OriginalPort];
const ORIGINAL_PORT: [Field; 2] = [Field::Protocol, Field::OriginalPort];
const PORT: [Field; 2] = [Field::Protocol, Field::DestinationPort];

/// Makes all of it. What is there already stays.
pub(super) fn declare(batch: &mut Batch, table: Table<'_>) {
    batch.table(Make::Ensure, table, ABOUT);
    sets(batch, table);
    batch.empty_chain(&Chain::named(table, PORTS));
    batch.rule(table, PORTS, &[Expr::Vmap(&DESTINATION, ACLS)], None);
    for protocol in super::PROTOCOLS {
        let is = Expr::Is(Field::Protocol, std::slice::from_ref(&protocol));
        // nft reads a translation of ports back only if the protocol is known.
        for dnat in [
            Expr::Dnat(&PORT, TARGETS, DnatTarget::AddressAndPort),
            Expr::Dnat(&DESTINATION, TARGETS_AT, DnatTarget::AddressAndPort),
            Expr::Dnat(&DESTINATION, RANGES, DnatTarget::Address),
        ] {
            batch.rule(table, PORTS, &[is.clone(), dnat], None);
        }
    }
    for (name, hook) in
        [("hostports-prerouting", Hook::Prerouting), ("hostports-output", Hook::Output)]
    {
        base(batch, table, name, (ChainKind::Nat, hook, AFTER_SERVICES));
        let exprs = [Expr::ForThisHost, Expr::Verdict(Verdict::Goto(PORTS.to_owned()))];
        batch.rule(table, name, &exprs, None);
    }
    let name = "hostports-postrouting";
    base(batch, table, name, (ChainKind::Nat, Hook::Postrouting, SRCNAT));
    for protocol in super::PROTOCOLS {
        // A service of kube-proxy's may lead to the same pod: only what was sent to one of our ports
        // is ours to masquerade.
        let single = Expr::In(&ORIGINAL_PORT, PORTS);
        for was_ours in [single, Expr::In(&ORIGINAL, PORTS_AT), Expr::In(&ORIGINAL, RANGE_OWNERS)] {
            let is = Expr::Is(Field::Protocol, std::slice::from_ref(&protocol));
            let exprs = [is, Expr::Redirected, was_ours, Expr::Vmap(&DESTINATION[..1], SOURCES)];
            batch.rule(table, name, &exprs, None);
        }
    }
    if table.family == TableFamily::Ip {
        martians(batch, table);
    }
}

fn sets(batch: &mut Batch, table: Table<'_>) {
    let address = match table.family {
        TableFamily::Ip6 => Datatype::Ipv6Addr,
        _ => Datatype::Ipv4Addr,
    };
    let port = [address, Datatype::InetProto, Datatype::InetService];
    let target = Content::Values(&[address, Datatype::InetService]);
    for (name, key, content, intervals) in [
        (PORTS, &port[1..], Content::Keys, false),
        (PORTS_AT, &port[..], Content::Keys, false),
        (RANGE_OWNERS, &port[..], Content::Keys, true),
        (ACLS, &port[..], Content::Verdicts, true),
        (TARGETS, &port[1..], target, false),
        (TARGETS_AT, &port[..], target, false),
        (RANGES, &port[..], Content::Values(&[address]), true),
        (SOURCES, &port[..1], Content::Verdicts, false),
    ] {
        batch.set(Make::Ensure, &Set { table, name, key, content, intervals });
    }
}

/// Makes a chain that masquerades what comes from these sources.
pub(super) fn sources_chain(
    batch: &mut Batch,
    table: Table<'_>,
    name: &str,
    sources: &[IpNetwork],
) {
    batch.empty_chain(&Chain::named(table, name));
    for network in sources {
        let all = (network.prefix() != 0).then_some(Expr::Within(AddressField::Source, *network));
        let exprs: Vec<_> = all.into_iter().chain([Expr::Masquerade]).collect();
        batch.rule(table, name, &exprs, None);
    }
}

fn base(
    batch: &mut Batch,
    table: Table<'_>,
    name: &str,
    (kind, hook, priority): (ChainKind, Hook, i32),
) {
    let base = Base { kind, hook, priority, policy: Policy::Accept };
    batch.empty_chain(&Chain { base: Some(base), ..Chain::named(table, name) });
}

/// Packets of 127.0.0.0/8 belong on `lo`. A link with `route_localnet` lets others in (as in
/// CVE-2020-8558), so these rules are there before that is ever set. They run before connections are
/// tracked: behind that point, answers to the host's own connections look the same.
fn martians(batch: &mut Batch, table: Table<'_>) {
    let mut lo = [0; 16];
    lo[..2].copy_from_slice(b"lo");
    let name = "martians";
    base(batch, table, name, (ChainKind::Filter, Hook::Prerouting, RAW));
    // No prefix of 8 bits is refused: the fallback is never taken.
    let loopback = Ipv4Network::new(Ipv4Addr::new(127, 0, 0, 0), 8)
        .unwrap_or_else(|_| Ipv4Addr::LOCALHOST.into());
    for address in [AddressField::Destination, AddressField::Source] {
        let exprs = [
            Expr::IsNot(Field::Input, &lo),
            Expr::Within(address, IpNetwork::V4(loopback)),
            Expr::Verdict(Verdict::Drop),
        ];
        batch.rule(table, name, &exprs, None);
    }
}
