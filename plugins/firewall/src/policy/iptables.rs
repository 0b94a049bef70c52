//! Rules in iptables' own table `filter`, named, ordered and commented as those of the Go plugin, so
//! that each of the two deletes what the other has made.

use super::{ForwardingPolicy, Ingress};
use common::Undo;
use common::cni::{Error, Errors, Result, report};
use common::net::iptables::{self, LockedTable, Rule, comment};
use common::net::nft::{Nft, Table, octets};
use common::net::{self, Family};
use std::net::IpAddr;

/// The chain of what is let through.
pub(super) const CHAIN: &str = "CNI-FORWARD";
pub(super) const FORWARD: &str = "FORWARD";
pub(super) const TABLE: &str = "filter";
/// The chain of what may come from a bridge that is not open.
const STAGE_1: &str = "CNI-ISOLATION-STAGE-1";
/// The chain of what comes from one and leaves by another link.
const STAGE_2: &str = "CNI-ISOLATION-STAGE-2";

/// The rules from `FORWARD` to what is let through, with the operator's own rules before it.
pub(super) fn entry(admin_chain: &str) -> [Rule; 2] {
    let rules = comment("CNI firewall plugin rules");
    let overrides = comment("CNI firewall plugin admin overrides");
    [
        Rule::first(FORWARD, format!("{rules} -j {CHAIN}")),
        Rule::first(CHAIN, format!("{overrides} -j {admin_chain}")),
    ]
}

fn pod(ip: IpAddr) -> [Rule; 2] {
    let length = Family::of(ip).bits();
    let answers = "-m conntrack --ctstate RELATED,ESTABLISHED";
    [
        Rule::last(CHAIN, format!("-d {ip}/{length} {answers} -j ACCEPT")),
        Rule::last(CHAIN, format!("-s {ip}/{length} -j ACCEPT")),
    ]
}

fn bridge_rules(bridge: &str, is_isolated: bool) -> Vec<Rule> {
    let said = |policy| comment(&format!("CNI firewall plugin rules (ingressPolicy: {policy})"));
    let any = said("same-bridge|isolated");
    let own = said(if is_isolated { "isolated" } else { "same-bridge" });
    let within = Rule::first(STAGE_1, format!("-i {bridge} -o {bridge} {own} -j DROP"));
    let mut rules = vec![
        Rule::first(FORWARD, format!("{any} -j {STAGE_1}")),
        Rule::first(STAGE_1, format!("-i {bridge} ! -o {bridge} {own} -j {STAGE_2}")),
    ];
    rules.extend(is_isolated.then_some(within));
    rules.extend([
        Rule::last(STAGE_1, format!("{any} -j RETURN")),
        Rule::first(STAGE_2, format!("-o {bridge} {any} -j DROP")),
        Rule::last(STAGE_2, format!("{any} -j RETURN")),
    ]);
    rules
}

/// The rules of a family that are not there.
pub(super) fn missing(family: Family, rules: &[Rule]) -> net::Result<Vec<Rule>> {
    Ok(iptables::missing(&iptables::save(family, TABLE)?, rules))
}

/// The rules of those addresses that are of a family.
fn of_pods(addresses: &[IpAddr], family: Family) -> Vec<Rule> {
    of_family(addresses, family).flat_map(pod).collect()
}

fn of_family(addresses: &[IpAddr], family: Family) -> impl Iterator<Item = IpAddr> {
    addresses.iter().copied().filter(move |ip| Family::of(*ip) == family)
}

/// The rules that a policy needs in a family, in the Go plugin's order, and whether they include those
/// about its bridge.
fn plan(policy: &ForwardingPolicy, family: Family, admin_chain: &str) -> (Vec<Rule>, bool) {
    let own = of_pods(policy.addresses(), family);
    let mut rules = Vec::new();
    if own.is_empty() {
        return (rules, false);
    }
    rules.extend(entry(admin_chain));
    rules.extend(own);
    let closed = policy.bridge().filter(|_| policy.ingress() != Ingress::Open);
    if let Some(bridge) = closed {
        rules.extend(bridge_rules(bridge, policy.ingress() == Ingress::Isolated));
    }
    (rules, closed.is_some())
}

/// Refuses a bridge whose name iptables would read as something else: `br+` is every link whose
/// name begins so, and a quote begins a text.
fn refuse_odd_bridge(policy: &ForwardingPolicy) -> Result<()> {
    let is_plain = |name: &str| {
        name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.@".contains(&byte))
            && !name.starts_with('-')
    };
    match policy.bridge().filter(|name| policy.ingress() != Ingress::Open && !is_plain(name)) {
        None => Ok(()),
        Some(name) => Err(Error::config(format!("iptables has no rules about bridge {name:?}"))
            .details("take \"backend\": \"iptables\" out of the configuration, or rename it")),
    }
}

/// Lets an attachment's connections through by iptables, and makes its ingress policy. Chains, and
/// rules about bridges, are shared by attachments, and not undone.
///
/// # Errors
/// When the programs of a family that the policy has are missing, or refuse.
pub(crate) fn create(policy: &ForwardingPolicy, admin_chain: &str, undo: &mut Undo) -> Result<()> {
    refuse_odd_bridge(policy)?;
    for family in Family::ALL {
        let (rules, is_closed) = plan(policy, family, admin_chain);
        if rules.is_empty() {
            continue;
        }
        let stages = [STAGE_1, STAGE_2].into_iter().filter(|_| is_closed);
        let chains: Vec<_> = [CHAIN, admin_chain].into_iter().chain(stages).collect();
        let table = LockedTable::open(family, TABLE)?;
        // A repeated ADD must not take from a living container what an earlier one has made.
        let added = table.missing(&of_pods(policy.addresses(), family));
        undo.push(format!("rules of {}", filter(family)), move || {
            Ok(LockedTable::open(family, TABLE)?.delete(&added)?)
        });
        table.ensure(&chains, &rules, "")?;
    }
    Ok(())
}

/// Every rule of the policy that is not there.
///
/// # Errors
/// When the programs are missing, or refuse.
pub(crate) fn verify(policy: &ForwardingPolicy, admin_chain: &str) -> Result<Vec<String>> {
    let mut differences = Vec::new();
    for family in Family::ALL {
        let (rules, _) = plan(policy, family, admin_chain);
        if !rules.is_empty() {
            let missing = missing(family, &rules)?;
            differences.extend(missing.iter().map(|rule| {
                let name = if family == Family::V4 { "iptables" } else { "ip6tables" };
                format!("{name} has no rule {}", rule.saved())
            }));
        }
    }
    Ok(differences)
}

/// Deletes the rules that let these addresses through, every copy of them, whoever has made them.
/// Whether there are any is asked of the kernel: where nobody uses iptables, its programs are neither
/// started nor missed.
pub(crate) fn delete(addresses: &[IpAddr], errors: &mut Errors) {
    for family in Family::ALL {
        let own: Vec<_> = of_family(addresses, family).collect();
        if own.is_empty() || !errors.note(may_have(family, &own)).unwrap_or_default() {
            continue;
        }
        let rules = of_pods(&own, family);
        match LockedTable::open(family, TABLE).and_then(|table| table.delete(&rules)) {
            // Without the programs, nobody can even list them.
            Err(error) if error.is_gone() => report(format_args!("rules may be left: {error}")),
            outcome => drop(errors.note(outcome)),
        }
    }
}

/// The table of iptables-nft.
pub(super) fn filter(family: Family) -> Table<'static> {
    Table { family: family.into(), name: TABLE }
}

/// Whether iptables-legacy, if it is in use, may drop what is forwarded.
pub(super) fn iptables_legacy_may_drop(family: Family) -> Result<bool> {
    if !iptables::has_legacy(family, TABLE) {
        return Ok(false);
    }
    let saved = match iptables::save(family, TABLE) {
        Err(error) if error.is_gone() => {
            report(format_args!("what is forwarded may be dropped: {error}"));
            return Ok(false);
        }
        saved => saved?,
    };
    let drops = |line: &String| line.starts_with(":FORWARD DROP") || line.starts_with("-A FORWARD");
    Ok(saved.iter().any(drops))
}

/// Whether iptables may have a rule about one of these addresses.
fn may_have(family: Family, addresses: &[IpAddr]) -> Result<bool> {
    if iptables::has_legacy(family, TABLE) {
        return Ok(true);
    }
    let Some(mut nft) = Nft::open_available()? else { return Ok(false) };
    let rules = nft.list_rules(filter(family), CHAIN)?;
    let mut all = addresses.iter().map(|ip| octets(*ip));
    Ok(all.any(|octets| rules.iter().any(|rule| rule.contains(&octets))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bridge_is_named_plainly_or_not_at_all() {
        use crate::policy::Accepted;
        use common::cni::{Interface, Success};
        let refused = |name: &str, ingress| {
            let bridge = Interface { name: name.to_owned(), ..Interface::default() };
            let success = Success { interfaces: vec![bridge], ..Success::default() };
            let policy = ForwardingPolicy::new(&success, ingress, Accepted::External).unwrap();
            refuse_odd_bridge(&policy).is_err()
        };
        assert!(!refused("br-0.1@x", Ingress::Isolated) && !refused("br+", Ingress::Open));
        for name in ["br+", "br\"0", "-j", "!br"] {
            assert!(refused(name, Ingress::SameBridge), "{name}");
        }
    }

    #[test]
    fn rules_are_those_of_the_go_plugin() {
        let [answers, all] = pod("fd00::2".parse().unwrap());
        assert_eq!(
            answers.added(),
            "-A CNI-FORWARD -d fd00::2/128 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT"
        );
        assert_eq!(all.deleted(), "-D CNI-FORWARD -s fd00::2/128 -j ACCEPT");
        let added: Vec<_> = bridge_rules("br0", true).iter().map(Rule::added).collect();
        let said =
            |policy| comment(&format!("CNI firewall plugin rules (ingressPolicy: {policy})"));
        let (any, own) = (said("same-bridge|isolated"), said("isolated"));
        assert_eq!(
            added,
            [
                format!("-I FORWARD 1 {any} -j CNI-ISOLATION-STAGE-1"),
                format!(
                    "-I CNI-ISOLATION-STAGE-1 1 -i br0 ! -o br0 {own} -j CNI-ISOLATION-STAGE-2"
                ),
                format!("-I CNI-ISOLATION-STAGE-1 1 -i br0 -o br0 {own} -j DROP"),
                format!("-A CNI-ISOLATION-STAGE-1 {any} -j RETURN"),
                format!("-I CNI-ISOLATION-STAGE-2 1 -o br0 {any} -j DROP"),
                format!("-A CNI-ISOLATION-STAGE-2 {any} -j RETURN"),
            ]
        );
    }
}
