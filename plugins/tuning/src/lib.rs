//! `tuning`: sysctls of the container, and attributes of the interface that the plugins before it have
//! made.

mod allowlist;
mod attributes;
mod backup;
mod config;
mod sysctls;
mod tuned;

use backup::Store;
use common::attach::running::announce_chained;
use common::attach::sandbox::no_differences;
use common::{Add, Call, Check, Del, Error, Errors, Gc, Plugin, Result, Status, Success, Undo};
use config::Plan;
use tuned::Tuned;

/// The plugin.
#[derive(Debug)]
pub struct Tuning {
    plan: Plan,
}

impl Plugin for Tuning {
    const NAME: &'static str = "tuning";
    const ABOUT: &'static str = "Sets sysctls and attributes of the container's interface.";

    fn load(call: &Call) -> Result<Self> {
        Ok(Self { plan: Plan::new(call)? })
    }

    fn add(&self, request: &Add<'_>, undo: &mut Undo) -> Result<Success> {
        let (plan, owner) = (&self.plan, request.owner());
        let mut success = request.chained("Required prevResult missing")?.clone();
        // podman and nerdctl have tuning in every network, and mostly nothing for it to do.
        if plan.is_idle() {
            return Ok(success);
        }
        allowlist::refuse_unlisted(&plan.sysctls)?;
        announce_chained(Self::NAME, &owner, undo)?;
        let tuned = Tuned::open(&request.netns, owner, &success, &plan.attributes)?;
        let settings = tuned.read(&plan.sysctls)?;
        let backup = tuned.backup(plan, &settings)?;
        Store::new(plan.data_dir.clone()).keep(&request.attachment, &backup, undo)?;
        backup.undo(&request.netns, &request.attachment.ifname, undo);
        tuned.apply(plan, &settings)?;
        if let Some(mac) = &plan.attributes.mac {
            let name = request.attachment.ifname.as_str();
            let own = success.interfaces.iter_mut();
            for entry in own.filter(|entry| entry.is_in_sandbox() && entry.name == name) {
                entry.mac = Some(mac.clone());
            }
        }
        Ok(success)
    }

    fn del(request: &Del<'_>, errors: &mut Errors) {
        Store::find(&request.call.network).restore(request, errors);
    }

    fn check(&self, request: &Check<'_>) -> Result<()> {
        let plan = &self.plan;
        if plan.is_idle() {
            return Ok(());
        }
        let (owner, result) = (request.owner(), &request.prev_result);
        let tuned = Tuned::open(&request.netns, owner, result, &plan.attributes)?;
        no_differences(&tuned.differences(plan)?)
    }

    fn gc(request: &Gc<'_>, errors: &mut Errors) {
        let network = &request.call.network;
        Store::find(network).sweep(&network.name, &request.valid, errors);
    }

    fn status(&self, _: &Status<'_>) -> Result<()> {
        allowlist::refuse_unlisted(&self.plan.sysctls).map_err(Error::unavailable)
    }
}
