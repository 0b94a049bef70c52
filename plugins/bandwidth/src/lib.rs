//! `bandwidth`: how fast the container that the plugins before it have connected sends and receives.

mod config;
mod ifb;
mod limits;

use common::attach::host_end::announce_chained;
use common::attach::sandbox::no_differences;
use common::attach::{Kept, Sandbox, Site};
use common::{
    Add, Call, Check, Del, Error, Errors, Gc, Host, Plugin, Result, Status, Success, Undo,
};
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
        let Some(success) = &request.prev_result else {
            return Err(Error::config("must be called as chained plugin")
                .details("put bandwidth behind the plugin that makes the interface"));
        };
        let mut success = success.clone();
        if self.has_limits() {
            let owner = request.owner();
            announce_chained(Self::NAME, &owner, undo)?;
            let (host, sandbox) = (Host::open()?, Sandbox::open(&request.netns)?);
            let site = Site { host, sandbox, owner };
            let end = limits::find_host_end(&site, &success)?;
            success.interfaces.extend(limits::create(&self.plan, &site, &end, undo)?);
        }
        Ok(success)
    }

    fn del(request: &Del<'_>, errors: &mut Errors) {
        if let Some(host) = errors.note(Host::open()) {
            limits::delete(&host, request, errors);
        }
    }

    fn check(&self, request: &Check<'_>) -> Result<()> {
        if !self.has_limits() {
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

impl Bandwidth {
    fn has_limits(&self) -> bool {
        self.plan.ingress.is_some() || self.plan.egress.is_some()
    }
}
