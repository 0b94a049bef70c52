//! `macvlan`: a link with an address of its own on top of one of the host, as if the container were
//! a machine on the same wire.

mod config;

use common::attach::layer3::describe;
use common::attach::link;
use common::attach::sandbox::{Routing, no_differences};
use common::attach::site::Side;
use common::attach::{ContainerLink, Ipam, Site, host_end, master};
use common::net::LinkKind;
use common::{
    Add, Call, Check, Code, Del, Error, Errors, Gc, Host, Plugin, Result, Status, Success, Undo,
};
use config::Plan;

/// What the kernel calls such links.
const KIND: &str = "macvlan";

/// The plugin.
#[derive(Debug)]
pub struct Macvlan {
    plan: Plan,
}

impl Plugin for Macvlan {
    const NAME: &'static str = "macvlan";
    const ABOUT: &'static str =
        "Gives the container a link with an address of its own on top of one of the host.";
    const KEEPS_UNCONVERTIBLE: bool = true;

    fn load(call: &Call) -> Result<Self> {
        Ok(Self { plan: Plan::new(call)? })
    }

    fn add(&self, request: &Add<'_>, undo: &mut Undo) -> Result<Success> {
        let plan = &self.plan;
        let site = Site::open_new(request, undo)?;
        let master = master::find(site.netlink(plan.side), plan.master.as_deref())?;
        let link = ContainerLink {
            kind: LinkKind::Macvlan {
                parent: master.index,
                mode: plan.mode,
                bc_queue_len: plan.bc_queue_len,
            },
            mac: plan.mac,
            mtu: master::mtu(&master, plan.mtu)?,
            parent: plan.side,
        };
        let ipam = Ipam::of(request.call, plan.layer3.as_ref())?;
        // Addresses must be unique on the master's wire only, because the host does not route them.
        let mut addresses = ipam.start(None, Some(&master.name), undo)?;
        let link = link.create(&site, undo)?;
        let interfaces = vec![site.sandbox.interface(&link)];
        let success = describe(plan.layer3.as_ref(), addresses.wait()?, interfaces)?;
        match &plan.layer3 {
            Some(layer3) => layer3.configure(&site, &link, &success, Routing::Connected)?,
            None => site.sandbox.netlink.set_up(link.index)?,
        }
        Ok(success)
    }

    fn del(request: &Del<'_>, errors: &mut Errors) {
        let owner = request.owner();
        let _running = host_end::announce_del(&owner);
        Ipam::del_with(request.call, errors, |errors| {
            errors.note(link::delete(request.netns.as_ref(), &owner, KIND));
        });
    }

    fn check(&self, request: &Check<'_>) -> Result<()> {
        let (plan, result) = (&self.plan, &request.prev_result);
        let site = Site::open(request)?;
        Ipam::of(request.call, plan.layer3.as_ref())?.check()?;
        let master = master::find(site.netlink(plan.side), plan.master.as_deref())?;
        let (link, mut differences) = link::verify(&site, KIND, result)?;
        if let Some(link) = link.filter(|link| link.kind.as_deref() == Some(KIND)) {
            let mode = site.sandbox.netlink.read_macvlan_mode(link.index)?;
            if mode != Some(plan.mode) {
                let (found, wanted) =
                    (mode.map_or("unknown", |mode| mode.name()), plan.mode.name());
                differences.push(format!("{} is in mode {found}, not {wanted}", link.name));
            }
            if link.peer != Some(master.index) {
                differences.push(format!("{} is not on master {:?}", link.name, master.name));
            }
        }
        differences.extend(site.sandbox.verify(site.owner.ifname(), result, Routing::Connected)?);
        no_differences(&differences)
    }

    fn gc(request: &Gc<'_>, errors: &mut Errors) {
        // The kernel deletes the link with the container's namespace.
        errors.note(Ipam::find(request.call).and_then(|ipam| ipam.gc()));
    }

    fn status(&self, request: &Status<'_>) -> Result<()> {
        // Which container's links are meant is not known yet.
        if self.plan.side == Side::Host {
            let found = master::find(&Host::open()?.netlink, self.plan.master.as_deref());
            found.map_err(|error| Error::new(Code::Unavailable, error.to_string()))?;
        }
        Ipam::of(request.call, self.plan.layer3.as_ref())?.status()
    }
}
