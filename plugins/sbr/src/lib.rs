//! `sbr`: source based routing. What a container sends from an address of this interface leaves by this
//! interface, whatever the container's other interfaces are.

mod config;
mod source_rules;
mod tables;

use common::attach::sandbox::no_differences;
use common::cni::Ip;
use common::{
    Add, Call, Check, Del, Error, Errors, Gc, Host, Plugin, Result, Sandbox, Status, Success, Undo,
};
use config::Plan;
use source_rules::SourceRules;

/// The plugin.
#[derive(Debug)]
pub struct Sbr {
    plan: Plan,
}

impl Plugin for Sbr {
    const NAME: &'static str = "sbr";
    const ABOUT: &'static str =
        "Routes what a container sends from an address of this interface by this interface.";

    fn load(call: &Call) -> Result<Self> {
        Ok(Self { plan: Plan::new(call)? })
    }

    fn add(&self, request: &Add<'_>, undo: &mut Undo) -> Result<Success> {
        let success = request.chained("This plugin must be called as chained plugin")?;
        let sandbox = Sandbox::open(&request.netns)?;
        sandbox.lock()?.keep(undo);
        let ips = ips(success, request.attachment.ifname.as_str())?;
        let rules = SourceRules::of(&sandbox, request.owner());
        rules.refuse_existing()?;
        rules.undo_later(undo);
        match &self.plan {
            Plan::GivenTable(table) => {
                ips.iter().try_for_each(|ip| rules.create_to_given(ip.address.ip(), *table))?;
            }
            Plan::OwnTables(tables) => {
                rules.refuse_member_of_vrf()?;
                tables.create(&rules, &ips)?;
            }
        }
        Ok(success.clone())
    }

    fn del(request: &Del<'_>, errors: &mut Errors) {
        let Some(Some(sandbox)) = errors.note(Sandbox::find(request.netns.as_ref())) else {
            return;
        };
        let Some(_lock) = errors.note(sandbox.lock()) else { return };
        let rules = SourceRules::of(&sandbox, request.owner());
        rules.delete(errors);
        // The Go plugin may have made some before the node was upgraded.
        let told = request.prev_result.iter().flat_map(|result| &result.ips);
        rules.delete_legacy(told.map(|ip| ip.address.ip()), errors);
    }

    fn check(&self, request: &Check<'_>) -> Result<()> {
        let sandbox = Sandbox::open(&request.netns)?;
        let result = &request.prev_result;
        let ips = ips(result, request.attachment.ifname.as_str())?;
        let rules = SourceRules::of(&sandbox, request.owner());
        no_differences(&match &self.plan {
            Plan::GivenTable(table) => rules.verify_to_given(&ips, *table)?,
            Plan::OwnTables(tables) => tables.verify(&rules, &ips, &result.routes)?,
        })
    }

    fn gc(_: &Gc<'_>, _: &mut Errors) {
        // Rules and tables are the container's namespace's, and go with it.
    }

    fn status(&self, _: &Status<'_>) -> Result<()> {
        let rules = Host::open()?.netlink.list_rules();
        rules.map(drop).map_err(|error| {
            Error::from(error)
                .unavailable()
                .details("the kernel needs CONFIG_IP_MULTIPLE_TABLES and IPV6_MULTIPLE_TABLES")
        })
    }
}

/// The addresses that the result does not give to some other interface. An index that leads nowhere
/// counts as none, as the Go plugin's tests ask.
fn ips(success: &Success, ifname: &str) -> Result<Vec<Ip>> {
    if success.ips.is_empty() {
        let names: Vec<_> = success.interfaces.iter().map(|one| one.name.as_str()).collect();
        let msg = format!("No IP addresses supplied on interface: {}", names.join(", "));
        return Err(
            Error::config(msg).details("sbr routes by addresses: give the network \"ipam\"")
        );
    }
    let interface = |index: Option<i64>| success.interfaces.get(usize::try_from(index?).ok()?);
    let is_own = |ip: &&Ip| interface(ip.interface).is_none_or(|of| of.name == ifname);
    Ok(success.ips.iter().filter(is_own).cloned().collect())
}
