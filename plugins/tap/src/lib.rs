//! `tap`: a link whose other end is a program, as a virtual machine that runs in the container.

mod config;

use common::attach::layer3::describe;
use common::attach::sandbox::{Routing, no_differences};
use common::attach::{ContainerTap, Ipam, Sandbox, Site, link, running, tap};
use common::net::Link;
use common::{Add, Call, Check, Del, Error, Errors, Gc, Plugin, Result, Status, Success, Undo};
use config::Plan;
use std::process::ExitCode;

/// The plugin.
#[derive(Debug)]
pub struct Tap {
    plan: Plan,
}

impl Plugin for Tap {
    const NAME: &'static str = "tap";
    const ABOUT: &'static str = "Gives the container a tap, for a virtual machine to use.";

    fn serve_otherwise() -> Option<ExitCode> {
        tap::serve()
    }

    fn load(call: &Call) -> Result<Self> {
        Ok(Self { plan: Plan::new(call)? })
    }

    fn add(&self, request: &Add<'_>, undo: &mut Undo) -> Result<Success> {
        let plan = &self.plan;
        let site = Site::open_new(request, undo)?;
        let bridge = self.find_bridge(&site.sandbox)?;
        let made = ContainerTap {
            tap: plan.tap,
            mac: plan.mac,
            mtu: plan.mtu,
            bridge: bridge.as_ref(),
            label: plan.label.as_deref(),
        };
        let ipam = Ipam::of(request.call, Some(&plan.layer3))?;
        let mut addresses = ipam.start(None, None, undo)?;
        let link = made.create(&site, undo)?;
        let interfaces = vec![site.sandbox.interface(&link)];
        let success = describe(Some(&plan.layer3), addresses.wait()?, interfaces)?;
        plan.layer3.configure(&site, &link, &success, Routing::Connected)?;
        Ok(success)
    }

    fn del(request: &Del<'_>, errors: &mut Errors) {
        let owner = request.owner();
        let _running = running::announce_del(&owner);
        Ipam::del_with(request.call, errors, |errors| {
            errors.note(tap::delete(request, &owner));
        });
    }

    fn check(&self, request: &Check<'_>) -> Result<()> {
        let (plan, result) = (&self.plan, &request.prev_result);
        let site = Site::open(request)?;
        Ipam::of(request.call, Some(&plan.layer3))?.check()?;
        let (link, mut differences) = link::verify(&site, tap::KIND, result)?;
        if let Some(link) = link.filter(|link| link.kind.as_deref() == Some(tap::KIND)) {
            differences.extend(self.differences(&site.sandbox, &link)?);
        }
        differences.extend(site.sandbox.verify(site.owner.ifname(), result, Routing::Connected)?);
        no_differences(&differences)
    }

    fn gc(request: &Gc<'_>, errors: &mut Errors) {
        link::collect(request, errors);
    }

    fn status(&self, request: &Status<'_>) -> Result<()> {
        tap::probe()?;
        Ipam::of(request.call, Some(&self.plan.layer3))?.status()
    }
}

impl Tap {
    fn find_bridge(&self, sandbox: &Sandbox) -> Result<Option<Link>> {
        let Some(name) = &self.plan.bridge else { return Ok(None) };
        let found = sandbox.netlink.find_link(name)?;
        let bridge = found.filter(|link| link.kind.as_deref() == Some("bridge"));
        bridge.map(Some).ok_or_else(|| {
            Error::config(format!("failed to get bridge {name}: Link not found"))
                .details(format!("\"bridge\" names a bridge in the container, {}", sandbox.path()))
        })
    }

    /// What the tap has that the configuration does not say.
    fn differences(&self, sandbox: &Sandbox, link: &Link) -> Result<Vec<String>> {
        let (plan, name, mut differences) = (&self.plan, &link.name, Vec::new());
        match sandbox.netlink.read_tap(link.index)? {
            None => differences.push(format!("{name} is no tap")),
            Some(found) => {
                let user = |id: Option<u32>| id.map_or("nobody".to_owned(), |id| id.to_string());
                for (what, found, wanted) in
                    [("owner", found.owner, plan.tap.owner), ("group", found.group, plan.tap.group)]
                {
                    if found != wanted {
                        let (found, wanted) = (user(found), user(wanted));
                        differences.push(format!("{what} of {name} is {found}, not {wanted}"));
                    }
                }
                if found.multi_queue != plan.tap.multi_queue {
                    let lacks = if plan.tap.multi_queue { "lacks" } else { "has" };
                    differences.push(format!("{name} {lacks} several queues"));
                }
            }
        }
        if let Some(mtu) = plan.mtu.filter(|mtu| *mtu != link.mtu) {
            differences.push(format!("the MTU of {name} is {}, not {mtu}", link.mtu));
        }
        if let Some(bridge) = self.find_bridge(sandbox)?.filter(|it| link.master != Some(it.index))
        {
            differences.push(format!("{name} is no port of {:?}", bridge.name));
        }
        Ok(differences)
    }
}
