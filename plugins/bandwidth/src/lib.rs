//! `bandwidth`: how fast the container that the plugins before it have connected sends and receives.

mod config;
mod ifb;
mod limits;

use common::attach::running::{announce_chained, announce_chained_del};
use common::attach::sandbox::no_differences;
use common::attach::{Kept, Site};
use common::{Add, Call, Check, Del, Errors, Gc, Host, Plugin, Result, Status, Success, Undo};
use config::Plan;

/// The plugin.
#[derive(Debug)]
pub struct Bandwidth {
    plan: Plan,
}

impl Plugin for Bandwidth {
    const NAME: &'static str = "bandwidth";
    const ABOUT: &'static str = "Limits how fast the container sends and receives.";

    fn load(call: &Call) -> Result<Self> {
        Ok(Self { plan: Plan::new(call)? })
    }

    fn add(&self, request: &Add<'_>, undo: &mut Undo) -> Result<Success> {
        let success = request.chained("must be called as chained plugin")?;
        let mut success = success.clone();
        if !self.plan.is_idle() {
            let owner = request.owner();
            announce_chained(Self::NAME, &owner, undo)?;
            let site = Site::at(owner, &request.netns)?;
            let end = limits::find_host_end(&site, &success)?;
            success.interfaces.extend(limits::create(&self.plan, &site, &end, undo)?);
        }
        Ok(success)
    }

    fn del(request: &Del<'_>, errors: &mut Errors) {
        let owner = request.owner();
        let running = announce_chained_del(Self::NAME, &owner);
        if errors.note(running.require_alone(&owner)).is_none() {
            return;
        }
        if let Some(host) = errors.note(Host::open()) {
            limits::delete(&host, request, errors);
        }
    }

    fn check(&self, request: &Check<'_>) -> Result<()> {
        if self.plan.is_idle() {
            return Ok(());
        }
        let (site, result) = (Site::open(request)?, &request.prev_result);
        let end = limits::find_host_end(&site, result)?;
        no_differences(&limits::verify(&self.plan, &site, &end, result)?)
    }

    fn gc(request: &Gc<'_>, errors: &mut Errors) {
        let Some(host) = errors.note(Host::open()) else { return };
        let kept = Kept::new(&host.netlink, &request.call.network.name, &request.valid);
        errors.note(ifb::sweep(&host, &kept));
    }

    fn status(&self, _: &Status<'_>) -> Result<()> {
        // Whether the kernel has the disciplines cannot be asked without a link to give them to.
        Ok(())
    }
}
