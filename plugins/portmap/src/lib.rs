//! `portmap`: ports of the host lead to the container that the plugins before it have connected.

mod conditions;
mod config;

use common::cni::{Cidr, IfName, NetworkName};
use common::hostports::{HostPorts, Publication};
use common::kept::Kept;
use common::restore::{Filtering, Holding};
use common::sandbox::no_differences;
use common::{
    Add, Attachment, Call, Check, Del, Error, Errors, Gc, Host, Plugin, Reference, Result, Status,
    Success, Undo,
};
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
        let Some(success) = &request.prev_result else {
            return Err(Error::config("must be called as chained plugin")
                .details("put portmap behind the plugin that makes the interface"));
        };
        let publication = self.publication(success, &request.attachment.ifname);
        if !publication.mappings.is_empty() {
            let whose = (&request.call.network.name, &request.attachment);
            let mut ports = HostPorts::open()?;
            match &self.plan.iptables {
                None => ports.create(&publication, whose, undo)?,
                Some(options) => ports.create_by_iptables(&publication, options, whose, undo)?,
            }
        }
        Ok(success.clone())
    }

    fn del(request: &Del<'_>, errors: &mut Errors) {
        let owner = request.attachment.owner(&request.call.network.name);
        if let Some(mut ports) = errors.note(HostPorts::open()) {
            errors.note(ports.delete(&mapping_hints(&request.call.network), &owner));
        }
        // What our predecessor has made for it, before the node was upgraded.
        if let Some(mut reference) = errors.note(Reference::open()) {
            reference.delete_ports(&request.call.network.name, &request.attachment, errors);
        }
    }

    fn check(&self, request: &Check<'_>) -> Result<()> {
        let publication = self.publication(&request.prev_result, &request.attachment.ifname);
        if publication.mappings.is_empty() {
            return Ok(());
        }
        let (network, attachment) = (&request.call.network.name, &request.attachment);
        let mut ports = HostPorts::open()?;
        no_differences(&match &self.plan.iptables {
            None => ports.verify(&publication, &attachment.owner(network))?,
            Some(options) => {
                ports.verify_by_iptables(&publication, options, network, attachment)?
            }
        })
    }

    fn gc(request: &Gc<'_>, errors: &mut Errors) {
        let Some(host) = errors.note(Host::open()) else { return };
        let kept = Kept::new(&host.netlink, &request.call.network.name, &request.valid);
        if let Some(mut ports) = errors.note(HostPorts::open()) {
            errors.note(ports.sweep(&kept));
            errors.note(ports.sweep_shadows(&kept));
        }
        if let Some(mut reference) = errors.note(Reference::open()) {
            reference.sweep_ports(&kept, errors);
        }
    }

    fn status(&self, _: &Status<'_>) -> Result<()> {
        HostPorts::probe()
    }
}

impl Filtering for Portmap {
    fn holdings(
        &self,
        network: &NetworkName,
        attachment: &Attachment,
        result: &Success,
    ) -> Result<Vec<Holding>> {
        let publication = self.publication(result, &attachment.ifname);
        if publication.mappings.is_empty() || self.plan.iptables.is_some() {
            return Ok(Vec::new());
        }
        Ok(vec![HostPorts::holding(&publication, &attachment.owner(network))])
    }

    fn asks_others(&self) -> bool {
        self.plan.iptables.is_some()
    }
}

impl Portmap {
    fn publication(&self, success: &Success, ifname: &IfName) -> Publication {
        Publication {
            addresses: addresses(success, ifname),
            mappings: self.plan.mappings.clone(),
            masquerade: self.plan.masquerade,
            conditions: self.plan.conditions.clone(),
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
    let first = |is_ipv6| own.iter().find(|address| address.is_ipv6() == is_ipv6).copied();
    [first(false), first(true)].into_iter().flatten().collect()
}
