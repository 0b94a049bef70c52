//! `ipvlan`: a link on top of one of the host that shares its hardware address, and gets what is for
//! the container's IP addresses.

mod config;

use common::attach::{ContainerLink, Ipam, Site, link};
use common::net::{LinkKind, Mode};
use common::{Add, Call, Check, Del, Errors, Gc, Plugin, Result, Status, Success, Undo};
use config::Plan;

/// The plugin.
#[derive(Debug)]
pub struct Ipvlan {
    plan: Plan,
}

impl Plugin for Ipvlan {
    const NAME: &'static str = "ipvlan";
    const ABOUT: &'static str =
        "Gives the container a link that shares the hardware address of one of the host.";

    fn load(call: &Call) -> Result<Self> {
        Ok(Self { plan: Plan::new(call)? })
    }

    fn add(&self, request: &Add<'_>, undo: &mut Undo) -> Result<Success> {
        let plan = &self.plan;
        let site = Site::open_new(request, undo)?;
        let master = plan.master.find(request, &site)?;
        let link = ContainerLink {
            kind: LinkKind::Ipvlan { parent: master.index, mode: plan.mode, flag: plan.flag },
            mac: None,
            mtu: plan.mtu,
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
                let (mode, flag) = site.sandbox.netlink.read_ipvlan_mode(link.index)?;
                let (found, wanted) = (mode.map(Mode::name), plan.mode.name());
                differences.extend(link::difference(link, "mode", found, wanted));
                let (found, wanted) = (flag.map(Mode::name), plan.flag.name());
                differences.extend(link::difference(link, "flag", found, wanted));
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
