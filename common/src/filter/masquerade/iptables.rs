//! Masquerading by iptables, for those who ask for it, and where nftables cannot: chains, rules and
//! comments are those of the Go plugin, so that each of the two deletes what the other has made.

use super::Scope;
use crate::attach::Owner;
use crate::cni::{Cidr, Result, Success, Undo};
use crate::filter::legacy::masquerade_chain;
use crate::filter::restore::External;
use crate::net::Family;
use crate::net::iptables::{LockedTable, Rule, comment, missing, save};

const TABLE: &str = "nat";

/// Masquerades what comes from the addresses of `success`, as far as it is in `scope`: one program
/// to look, and one to make it, for each family.
///
/// # Errors
/// When the programs are missing, or refuse.
pub(super) fn create(
    success: &Success,
    scope: &Scope,
    owner: &Owner,
    undo: &mut Undo,
) -> Result<()> {
    let chain = masquerade_chain(owner);
    for family in Family::ALL {
        let rules = rules(success, scope, family, owner);
        if rules.is_empty() {
            continue;
        }
        let table = LockedTable::open(family, TABLE)?;
        // The chain may serve another interface of the container, or an earlier ADD of this one.
        let earlier = table.remember(&chain);
        undo.push(format!("chain {chain} of iptables"), move || Ok(earlier.roll_back()?));
        table.ensure(&[&chain], &rules, "")?;
    }
    Ok(())
}

/// What an attachment should have in iptables.
pub(super) struct ExpectedRules {
    pub(super) success: Success,
    pub(super) scope: Scope,
    pub(super) owner: Owner,
}

impl External for ExpectedRules {
    fn verify(&self) -> Result<Vec<String>> {
        verify(&self.success, &self.scope, &self.owner)
    }

    fn create(&self, undo: &mut Undo) -> Result<()> {
        create(&self.success, &self.scope, &self.owner, undo)
    }
}

/// Every rule that is not there.
///
/// # Errors
/// When the programs are missing, or refuse.
pub(super) fn verify(success: &Success, scope: &Scope, owner: &Owner) -> Result<Vec<String>> {
    let mut differences = Vec::new();
    for family in Family::ALL {
        let rules = rules(success, scope, family, owner);
        if !rules.is_empty() {
            let gone = missing(&save(family, TABLE)?, &rules);
            differences.extend(gone.iter().map(|rule| format!("{TABLE} has no {}", rule.saved())));
        }
    }
    Ok(differences)
}

fn rules(success: &Success, scope: &Scope, family: Family, owner: &Owner) -> Vec<Rule> {
    let (network, container) = (owner.network(), &owner.attachment().container);
    let chain = masquerade_chain(owner);
    let comment = comment(&format!("name: \\\"{network}\\\" id: \\\"{container}\\\""));
    let multicast = match family {
        Family::V4 => "224.0.0.0/4",
        Family::V6 => "ff00::/8",
    };
    let is_own = |address: &Cidr| Family::of(address.ip()) == family && scope.has(address);
    let own = success.ips.iter().map(|ip| ip.address).filter(is_own);
    let mut rules = Vec::new();
    for address in own {
        let stays = |network: ipnetwork::IpNetwork| {
            let (ip, prefix) = (network.network(), network.prefix());
            Rule::last(&chain, format!("-d {ip}/{prefix} {comment} -j ACCEPT"))
        };
        rules.push(stays(*address));
        let excluded = scope.exclude.iter().filter(|one| Family::of(one.ip()) == family);
        rules.extend(excluded.map(|one| stays(**one)));
        rules.push(Rule::last(&chain, format!("! -d {multicast} {comment} -j MASQUERADE")));
        let from = format!("-s {}/{} {comment} -j {chain}", address.ip(), family.bits());
        rules.push(Rule::last("POSTROUTING", from));
    }
    rules
}
