//! `firewall`: what the host forwards for the container that the plugins before it have
//! connected, and what it keeps from it.

mod backend;
mod config;
mod firewalld;
pub mod policy;

use crate::policy::{ForwardingRules, addresses};
use backend::ForwardingBackend;
use common::Owner;
use common::attach::kept::Kept;
use common::attach::running::announce_chained;
use common::attach::sandbox::no_differences;
use common::filter::restore::{Expected, Filtering};
use common::{
    Add, Call, Check, Del, Errors, Gc, Host, Network, Plugin, Result, Status, Success, Undo,
};
use config::{BackendKey, Plan, zone_hint};
use std::net::IpAddr;

/// The plugin.
#[derive(Debug)]
pub struct Firewall {
    plan: Plan,
}

impl Plugin for Firewall {
    const NAME: &'static str = "firewall";
    const ABOUT: &'static str = "Lets a container's connections through the host's packet filter.";

    fn load(call: &Call) -> Result<Self> {
        Ok(Self { plan: Plan::new(call)? })
    }

    fn add(&self, request: &Add<'_>, undo: &mut Undo) -> Result<Success> {
        let success = request.chained("missing prevResult from earlier plugin")?;
        let owner = request.owner();
        announce_chained(Self::NAME, &owner, undo)?;
        ForwardingBackend::find(&self.plan)?.create(success, &self.plan, &owner, undo)?;
        Ok(success.clone())
    }

    fn del(request: &Del<'_>, errors: &mut Errors) {
        let owner = request.owner();
        let success = request.prev_result.as_ref();
        // Rules of iptables are made without nftables too, and go by the addresses of prevResult.
        let mut tables = errors.note(ForwardingRules::open_available()).flatten();
        let listed =
            tables.as_mut().and_then(|tables| errors.note(tables.list_addresses(success, &owner)));
        let own = listed.unwrap_or_else(|| success.map(addresses).unwrap_or_default());
        // Our own elements go last: a DEL that fails here finds the addresses and zones again.
        let zones = zones(tables.as_mut(), &own, &request.call.network, errors);
        ForwardingBackend::delete(&own, &zones, errors);
        if let Some(mut tables) = tables {
            errors.note(tables.delete(success, &own, &owner));
        }
    }

    fn check(&self, request: &Check<'_>) -> Result<()> {
        let owner = request.owner();
        let backend = ForwardingBackend::find(&self.plan)?;
        no_differences(&backend.verify(&request.prev_result, &self.plan, &owner)?)
    }

    fn gc(request: &Gc<'_>, errors: &mut Errors) {
        let network = &request.call.network;
        let Some(host) = errors.note(Host::open()) else { return };
        let kept = Kept::new(&host.netlink, &network.name, &request.valid);
        // Who has an address is told by our tables only.
        let Some(mut tables) = errors.note(ForwardingRules::open_available()).flatten() else {
            return;
        };
        let stale = errors.note(tables.list_stale_addresses(&kept));
        let stale = stale.unwrap_or_default();
        let zones = zones(Some(&mut tables), &stale, network, errors);
        ForwardingBackend::delete(&stale, &zones, errors);
        errors.note(tables.sweep(&network.name, &kept));
    }

    fn status(&self, _: &Status<'_>) -> Result<()> {
        ForwardingBackend::find(&self.plan)?.probe(&self.plan)
    }
}

/// The zones in which firewalld may have these addresses: those that stand beside them, or else the
/// one that the configuration names now.
fn zones(
    tables: Option<&mut ForwardingRules>,
    addresses: &[IpAddr],
    network: &Network,
    errors: &mut Errors,
) -> Vec<String> {
    let known = tables.and_then(|tables| errors.note(tables.list_zones(addresses)));
    let known = known.unwrap_or_default();
    if known.is_empty() { vec![zone_hint(network)] } else { known }
}

impl Filtering for Firewall {
    fn expected_state(&self, owner: &Owner, result: &Success) -> Result<Vec<Expected>> {
        backend::expected_state(result, &self.plan, owner)
    }

    fn uses_external_backend(&self) -> bool {
        self.plan.backend != BackendKey::Nftables
    }
}
