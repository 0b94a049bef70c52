//! `static`: the addresses that the configuration, or the runtime, says. It remembers nothing.

mod config;

use common::cni::Ip;
use common::{Add, Call, Check, Del, Error, Errors, Gc, Plugin, Result, Status, Success, Undo};
use config::Plan;

/// The plugin.
#[derive(Debug)]
pub struct Static {
    plan: Plan,
}

impl Plugin for Static {
    const NAME: &'static str = "static";
    const ABOUT: &'static str = "Gives the addresses that it is told.";

    fn load(call: &Call) -> Result<Self> {
        Ok(Self { plan: Plan::new(call)? })
    }

    fn add(&self, _: &Add<'_>, _: &mut Undo) -> Result<Success> {
        let Plan { ips, routes, dns } = self.plan.clone();
        Ok(Success { ips, routes, dns, ..Success::default() })
    }

    fn del(_: &Del<'_>, _: &mut Errors) {}

    fn check(&self, request: &Check<'_>) -> Result<()> {
        let (result, ifname) = (&request.prev_result, &request.attachment.ifname);
        let mut lost = Vec::new();
        for ip in &self.plan.ips {
            // A main plugin may have added a gateway of its own choice where none was given.
            let is_it = |found: &Ip| {
                found.address == ip.address && (ip.gateway.is_none() || found.gateway == ip.gateway)
            };
            if !result.ips.iter().any(is_it) {
                lost.push(match ip.gateway {
                    Some(gateway) => format!("{} by gateway {gateway}", ip.address),
                    None => ip.address.to_string(),
                });
            }
        }
        if lost.is_empty() {
            return Ok(());
        }
        let msg = format!("static: Failed to match addr {} on interface {ifname}", lost.join(", "));
        Err(Error::internal(msg).details("prevResult does not have what the configuration says"))
    }

    fn gc(_: &Gc<'_>, _: &mut Errors) {}

    fn status(&self, _: &Status<'_>) -> Result<()> {
        Ok(())
    }
}
