//! `macvlan`: a link with an address of its own on top of one of the host, as if the container were
//! a machine on the same wire.

mod config;

use common::attach::{ContainerLink, Ipam, Site, link, master};
use common::net::{LinkKind, Mode};
use common::{Add, Call, Check, Del, Errors, Gc, Plugin, Result, Status, Success, Undo};
use config::Plan;

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
        let master = plan.master.find(request, &site)?;
        let link = ContainerLink {
            kind: LinkKind::Macvlan {
                parent: master.index,
                mode: plan.mode,
                bc_queue_len: plan.bc_queue_len,
            },
            mac: plan.mac,
            mtu: master::mtu(&master, plan.mtu)?,
            parent: plan.master.side,
            segment: &master.name,
        };
        link.attach(request, &site, &plan.layer3, undo)
    }

    fn del(request: &Del<'_>, errors: &mut Errors) {
        link::detach(request, errors, Self::NAME);
    }

    fn check(&self, request: &Check<'_>) -> Result<()> {
        let plan = &self.plan;
        link::check(request, &plan.layer3, Self::NAME, |site, link| {
            let mut differences = Vec::from_iter(plan.master.verify(site, link)?);
            if let Some(link) = link {
                let mode = site.sandbox.netlink.read_macvlan_mode(link.index)?;
                let (found, wanted) = (mode.map(Mode::name), plan.mode.name());
                differences.extend(link::difference(link, "mode", found, wanted));
            }
            Ok(differences)
        })
    }

    fn gc(request: &Gc<'_>, errors: &mut Errors) {
        link::collect(request, errors);
    }

    fn status(&self, request: &Status<'_>) -> Result<()> {
        self.plan.master.status()?;
        Ipam::of(request.call, Some(&self.plan.layer3))?.status()
    }
}
