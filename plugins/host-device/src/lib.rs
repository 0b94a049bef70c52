//! `host-device`: a link of the host, as a network card, is the container's for as long as it lives.

mod config;
mod selector;

use common::attach::layer3::describe;
use common::attach::link;
use common::attach::sandbox::{Routing, no_differences};
use common::attach::{Ipam, Kept, Layer3, Records, Site, adopt, running};
use common::cni::Interface;
use common::net::Link;
use common::{Add, Call, Check, Del, Errors, Gc, Host, Plugin, Result, Status, Success, Undo};
use config::Plan;

/// The plugin.
#[derive(Debug)]
pub struct HostDevice {
    plan: Plan,
}

impl Plugin for HostDevice {
    const NAME: &'static str = "host-device";
    const ABOUT: &'static str = "Gives the container a link of the host, as a network card.";

    fn load(call: &Call) -> Result<Self> {
        Ok(Self { plan: Plan::new(call)? })
    }

    fn add(&self, request: &Add<'_>, undo: &mut Undo) -> Result<Success> {
        let plan = &self.plan;
        let site = Site::open_new(request, undo)?;
        adopt::recover(&plan.records, &site.host, &site.owner)?;
        let outside = self.find_link(&site.host)?;
        let ipam = Ipam::of(request.call, plan.layer3.as_ref())?;
        // Addresses must be unique on the device's wire only, because the host does not route them.
        let wire = outside.as_ref().map_or("user space", |link| &link.name);
        let mut addresses = ipam.start(None, Some(wire), undo)?;
        let grace_age = Layer3::grace_age(plan.layer3.as_ref());
        let take = |link: Link| adopt::create(&plan.records, &site, &link, grace_age, undo);
        let link = outside.map(take).transpose()?;
        let interface = match &link {
            Some(link) => site.sandbox.interface(link),
            None => Interface {
                name: site.owner.ifname().to_string(),
                sandbox: Some(site.sandbox.path().to_string()),
                ..Interface::default()
            },
        };
        let success = describe(plan.layer3.as_ref(), addresses.wait()?, vec![interface])?;
        match (&link, &plan.layer3) {
            (Some(link), Some(layer3)) => {
                layer3.configure(&site, link, &success, Routing::Connected)?;
            }
            (Some(link), None) => site.sandbox.netlink.set_up(link.index)?,
            (None, _) => {}
        }
        Ok(success)
    }

    fn del(request: &Del<'_>, errors: &mut Errors) {
        let owner = request.owner();
        let running = running::announce_del(&owner);
        if errors.note(running.require_alone(&owner)).is_none() {
            return;
        }
        let records = Records::of(&request.call.network);
        Ipam::del_with(request.call, errors, |errors| {
            errors.note(adopt::delete(&records, request));
        });
    }

    fn check(&self, request: &Check<'_>) -> Result<()> {
        let (plan, result) = (&self.plan, &request.prev_result);
        let site = Site::open(request)?;
        Ipam::of(request.call, plan.layer3.as_ref())?.check()?;
        if plan.selector()?.is_of_user_space()? {
            return Ok(());
        }
        let (_, mut differences) = link::verify_any(&site, result)?;
        differences.extend(site.sandbox.verify(site.owner.ifname(), result, Routing::Connected)?);
        no_differences(&differences)
    }

    fn gc(request: &Gc<'_>, errors: &mut Errors) {
        if let Some(host) = errors.note(Host::open()) {
            let kept = Kept::new(&host.netlink, &request.call.network.name, &request.valid);
            adopt::sweep(&Records::of(&request.call.network), &kept, errors);
        }
        errors.note(Ipam::find(request.call).and_then(|ipam| ipam.gc()));
    }

    fn status(&self, request: &Status<'_>) -> Result<()> {
        // Where the runtime names the device, it has not done so yet.
        if let Ok(selector) = self.plan.selector()
            && let Err(error) = self.find_link(&Host::open()?)
            // A container may have it.
            && !self.plan.records.list()?.iter().any(|record| selector.may_mean(record))
        {
            return Err(error.unavailable());
        }
        Ipam::of(request.call, self.plan.layer3.as_ref())?.status()
    }
}

impl HostDevice {
    /// The link that is meant. `None` if a driver hands the device over to a program instead.
    fn find_link(&self, host: &Host) -> Result<Option<Link>> {
        let selector = self.plan.selector()?;
        if selector.is_of_user_space()? {
            return Ok(None);
        }
        selector.find(&host.netlink, &self.plan.records).map(Some)
    }
}
