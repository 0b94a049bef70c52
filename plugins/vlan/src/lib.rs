//! `vlan`: a link of the container for one VLAN (IEEE 802.1Q) of a link of the host.

mod config;

use common::attach::{ContainerLink, Ipam, Site, link, master};
use common::net::{Link, LinkKind};
use common::{
    Add, Call, Check, Code, Del, Error, Errors, Gc, Plugin, Result, Status, Success, Undo,
};
use config::Plan;

/// The plugin.
#[derive(Debug)]
pub struct Vlan {
    plan: Plan,
}

impl Plugin for Vlan {
    const NAME: &'static str = "vlan";
    const ABOUT: &'static str = "Gives the container one VLAN of a link of the host.";

    fn load(call: &Call) -> Result<Self> {
        Ok(Self { plan: Plan::new(call)? })
    }

    fn add(&self, request: &Add<'_>, undo: &mut Undo) -> Result<Success> {
        let plan = &self.plan;
        let site = Site::open_new(request, undo)?;
        let master = plan.master.find(request, &site)?;
        refuse_down(&master)?;
        let link = ContainerLink {
            kind: LinkKind::Vlan { parent: master.index, id: plan.id },
            mac: None,
            mtu: master::mtu(&master, plan.mtu)?,
            parent: plan.master.side,
            segment: &format!("{}.{}", master.name, plan.id),
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
                let id = site.sandbox.netlink.read_tag(link.index)?;
                differences.extend(link::difference(link, "VLAN ID", id, plan.id));
                // Without the key it is the master's at the time of ADD, which may have changed.
                if plan.mtu != 0 {
                    let mtu = Some(i64::from(link.mtu));
                    differences.extend(link::difference(link, "MTU", mtu, plan.mtu));
                }
            }
            Ok(differences)
        })
    }

    fn gc(request: &Gc<'_>, errors: &mut Errors) {
        link::collect(request, errors);
    }

    fn status(&self, request: &Status<'_>) -> Result<()> {
        if let Some(master) = self.plan.master.status()? {
            refuse_down(&master).map_err(Error::unavailable)?;
        }
        Ipam::of(request.call, Some(&self.plan.layer3))?.status()
    }
}

/// The kernel raises no link of a VLAN on a master that is down, and says no more than that the
/// network is down.
fn refuse_down(master: &Link) -> Result<()> {
    if master.is_up {
        return Ok(());
    }
    let way_out = format!("raise it: ip link set {} up", master.name);
    Err(Error::new(Code::TryAgain, format!("master {:?} is down", master.name)).details(way_out))
}
