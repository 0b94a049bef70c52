//! `vrf`: the container's interface gets a routing table of its own, together with others of the same
//! VRF.

mod config;
mod member;
mod table;

use common::attach::sandbox::no_differences;
use common::{Add, Call, Check, Del, Errors, Gc, Plugin, Result, Sandbox, Status, Success, Undo};
use config::Plan;
use member::Member;

/// The plugin.
#[derive(Debug)]
pub struct Vrf {
    plan: Plan,
}

impl Plugin for Vrf {
    const NAME: &'static str = "vrf";
    const ABOUT: &'static str =
        "Gives a container's interface a routing table of its own, or shared with others.";

    fn load(call: &Call) -> Result<Self> {
        Ok(Self { plan: Plan::new(call)? })
    }

    fn add(&self, request: &Add<'_>, undo: &mut Undo) -> Result<Success> {
        let success = request.chained("missing prevResult from earlier plugin")?;
        let sandbox = Sandbox::open(&request.netns)?;
        sandbox.lock()?.keep(undo);
        let member = Member::find(&sandbox, &request.attachment.ifname)?;
        let (vrf, table) = table::ensure(&sandbox, &self.plan, undo)?;
        member.join(&sandbox, &vrf, table, undo)?;
        Ok(success.clone())
    }

    fn del(request: &Del<'_>, errors: &mut Errors) {
        let Some(Some(sandbox)) = errors.note(Sandbox::find(request.netns.as_ref())) else {
            return;
        };
        let Some(_lock) = errors.note(sandbox.lock()) else { return };
        // Its VRF may have had another name when the interface joined it.
        let left = errors.note(member::leave(&sandbox, &request.attachment.ifname)).flatten();
        let told = request.call.network.tolerant::<String>(&["vrfname"]);
        for vrf in left.into_iter().chain(told) {
            errors.note(table::delete_unused(&sandbox, &vrf));
        }
    }

    fn check(&self, request: &Check<'_>) -> Result<()> {
        let sandbox = Sandbox::open(&request.netns)?;
        let ifname = &request.attachment.ifname;
        no_differences(&table::verify(&sandbox, &self.plan, ifname)?)
    }

    fn gc(_: &Gc<'_>, _: &mut Errors) {
        // A VRF is the container's namespace's, and goes with it.
    }

    fn status(&self, _: &Status<'_>) -> Result<()> {
        // Whether the kernel has VRFs is known when it has made one.
        Ok(())
    }
}
