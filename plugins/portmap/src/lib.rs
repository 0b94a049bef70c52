//! `portmap`: ports of the host lead to the container that the plugins before it have connected.

mod conditions;
mod config;
mod hostports;
mod per_family;

use crate::hostports::{HostPorts, PortMappings};
use common::Owner;
use common::attach::kept::Kept;
use common::attach::running::announce_chained;
use common::attach::sandbox::no_differences;
use common::cni::{Cidr, IfName};
use common::filter::Backend;
use common::filter::restore::{Expected, Filtering};
use common::net::Family;
use common::net::nft::Feature;
use common::{Add, Call, Check, Del, Errors, Gc, Host, Plugin, Result, Status, Success, Undo};
use config::{Plan, mapping_hints};

/// The plugin.
#[derive(Debug)]
pub struct Portmap {
    plan: Plan,
}

impl Plugin for Portmap {
    const NAME: &'static str = "portmap";
    const ABOUT: &'static str = "Makes ports of the host lead to the container.";

    fn load(call: &Call) -> Result<Self> {
        Ok(Self { plan: Plan::new(call)? })
    }

    fn add(&self, request: &Add<'_>, undo: &mut Undo) -> Result<Success> {
        let success = request.chained("must be called as chained plugin")?;
        let mappings = self.port_mappings(success, &request.attachment.ifname);
        if !mappings.mappings.is_empty() {
            let owner = request.owner();
            announce_chained(Self::NAME, &owner, undo)?;
            HostPorts::open()?.create(&mappings, &owner, undo)?;
        }
        Ok(success.clone())
    }

    fn del(request: &Del<'_>, errors: &mut Errors) {
        let owner = request.owner();
        let Some(mut host_ports) = errors.note(HostPorts::open()) else { return };
        errors.note(host_ports.delete(&mapping_hints(&request.call.network), &owner));
        // The Go plugin may have made rules for it before the node was upgraded.
        host_ports.legacy().delete_ports(&owner, errors);
    }

    fn check(&self, request: &Check<'_>) -> Result<()> {
        let mappings = self.port_mappings(&request.prev_result, &request.attachment.ifname);
        if mappings.mappings.is_empty() {
            return Ok(());
        }
        let owner = request.owner();
        no_differences(&HostPorts::open()?.verify(&mappings, &owner)?)
    }

    fn gc(request: &Gc<'_>, errors: &mut Errors) {
        let Some(host) = errors.note(Host::open()) else { return };
        let kept = Kept::new(&host.netlink, &request.call.network.name, &request.valid);
        let Some(mut host_ports) = errors.note(HostPorts::open()) else { return };
        errors.note(host_ports.sweep(&kept));
        errors.note(host_ports.sweep_conflicting_dnat(&kept));
        host_ports.legacy().sweep_ports(&kept, errors);
    }

    fn status(&self, _: &Status<'_>) -> Result<()> {
        HostPorts::probe(self.plan.backend).map(drop)
    }
}

/// Whether ports of the host could be made to lead to containers: what the kernel lacks, where
/// iptables would do it for a configuration that names no backend.
///
/// # Errors
/// Code 50 when they could not.
pub fn probe() -> Result<Option<Feature>> {
    HostPorts::probe(Backend::Any)
}

impl Filtering for Portmap {
    fn expected_state(&self, owner: &Owner, result: &Success) -> Result<Vec<Expected>> {
        let mappings = self.port_mappings(result, owner.ifname());
        HostPorts::expected_state(mappings, owner)
    }

    fn uses_external_backend(&self) -> bool {
        self.plan.backend == Backend::Iptables
    }
}

impl Portmap {
    fn port_mappings(&self, success: &Success, ifname: &IfName) -> PortMappings {
        PortMappings {
            addresses: addresses(success, ifname),
            mappings: self.plan.mappings.clone(),
            source_nat: self.plan.source_nat,
            conditions: self.plan.conditions.clone(),
            backend: self.plan.backend,
            iptables: self.plan.iptables.clone(),
        }
    }
}

/// The first address of each family that the result does not give to some other interface.
fn addresses(success: &Success, ifname: &IfName) -> Vec<Cidr> {
    let interface = |index: Option<i64>| success.interfaces.get(usize::try_from(index?).ok()?);
    let own = success.ips.iter().filter(|ip| {
        interface(ip.interface).is_none_or(|of| of.is_in_sandbox() && of.name == ifname.as_str())
    });
    let own: Vec<_> = own.map(|ip| ip.address).collect();
    let first = |family| own.iter().find(|address| Family::of(address.ip()) == family).copied();
    Family::ALL.into_iter().filter_map(first).collect()
}
