//! `ptp`: a veth pair between the container and the host, which routes for it.

mod config;
mod host;

use common::attach::layer3::{describe, set_in_use};
use common::attach::sandbox::{Routing, interface, no_differences};
use common::attach::veth::{self, Attached};
use common::attach::{Ipam, Kept, Layer3, Site, Veth, host_end, running};
use common::filter::restore::{Expected, Filtering};
use common::filter::{Filters, Masquerade};
use common::net::Port;
use common::{
    Add, Call, Check, Del, Errors, Gc, Host, Owner, Plugin, Result, Status, Success, Undo,
};
use config::Plan;

/// The plugin.
#[derive(Debug)]
pub struct Ptp {
    plan: Plan,
}

impl Plugin for Ptp {
    const NAME: &'static str = "ptp";
    const ABOUT: &'static str = "Connects the container to the host, which routes for it, with addresses from an IPAM plugin.";

    fn load(call: &Call) -> Result<Self> {
        Ok(Self { plan: Plan::new(call)? })
    }

    fn add(&self, request: &Add<'_>, undo: &mut Undo) -> Result<Success> {
        let plan = &self.plan;
        let site = Site::open_new(request, undo)?;
        let ipam = Ipam::of(request.call, plan.layer3.as_ref())?;
        let end = host_end::host_name(&site.owner);
        let mut addresses = ipam.start(Some(&end), None, undo)?;
        let pair = self.veth().create(&site, undo)?;
        let answer = addresses.wait()?;
        set_in_use(&site, &pair.host, None, answer.as_ref())?;
        let interfaces = vec![interface(&pair.host), site.sandbox.interface(&pair.container)];
        let success = describe(plan.layer3.as_ref(), answer, interfaces)?;
        match &plan.layer3 {
            Some(layer3) => {
                host::configure(&site.host, &pair.host, &success.ips)?;
                layer3.configure(&site, &pair.container, &success, Routing::ViaGateway)?;
            }
            None => site.sandbox.netlink.set_up(pair.container.index)?,
        }
        if let Some(scope) = &plan.masquerade {
            Masquerade::open()?.create(&success, scope, &site.owner, undo)?;
        }
        Ok(success)
    }

    fn del(request: &Del<'_>, errors: &mut Errors) {
        let owner = request.owner();
        let _running = running::announce_del(&owner);
        // Its sockets are closed after the deletion of the link: closing one waits for an RCU grace
        // period, which has then passed.
        let mut filters = Filters::open(errors);
        if let Some(filters) = &mut filters {
            filters.delete(request.prev_result.as_ref(), &owner, errors);
        }
        Ipam::del_with(request.call, errors, |errors| {
            errors.note(veth::delete(request.netns.as_ref(), &owner, Attached::ToNothing));
        });
    }

    fn check(&self, request: &Check<'_>) -> Result<()> {
        let (plan, result) = (&self.plan, &request.prev_result);
        let site = Site::open(request)?;
        Ipam::of(request.call, plan.layer3.as_ref())?.check()?;
        let (end, mut differences) = veth::verify(&site, None, result)?;
        let ifname = site.owner.ifname();
        differences.extend(site.sandbox.verify(ifname, result, Routing::ViaGateway)?);
        if let Some(end) = end {
            differences.extend(host::verify(&site.host, &end, &result.ips_of(ifname.as_str())?)?);
        }
        if let Some(scope) = &plan.masquerade {
            differences.extend(Masquerade::open()?.verify(result, scope, &site.owner)?);
        }
        no_differences(&differences)
    }

    fn gc(request: &Gc<'_>, errors: &mut Errors) {
        if let Some(host) = errors.note(Host::open()) {
            let kept = Kept::new(&host.netlink, &request.call.network.name, &request.valid);
            let mut filters = Filters::open(errors);
            if let Some(filters) = &mut filters {
                filters.sweep(&kept, errors);
            }
            errors.note(veth::sweep(&host.netlink, &kept));
        }
        errors.note(Ipam::find(request.call).and_then(|ipam| ipam.gc()));
    }

    fn status(&self, request: &Status<'_>) -> Result<()> {
        Ipam::of(request.call, self.plan.layer3.as_ref())?.status()
    }
}

impl Filtering for Ptp {
    fn expected_state(&self, owner: &Owner, result: &Success) -> Result<Vec<Expected>> {
        match &self.plan.masquerade {
            Some(scope) => Masquerade::expected_state(result, scope, owner),
            None => Ok(Vec::new()),
        }
    }
}

impl Ptp {
    fn veth(&self) -> Veth {
        let grace_age = Layer3::grace_age(self.plan.layer3.as_ref());
        Veth { mac: None, mtu: self.plan.mtu, master: None, port: Port::default(), grace_age }
    }
}
