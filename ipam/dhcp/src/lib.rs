//! `dhcp`: addresses from the DHCP server of the container's segment. A lease must be renewed as long
//! as the container lives, so there is a daemon, which this plugin asks.
//!
//! | module | job |
//! |---|---|
//! | `config` | the keys of the configuration; [`options`]: those about options of DHCP |
//! | [`protocol`] | what plugin and daemon say to each other; `client`: the plugin's side of it |
//! | [`daemon`] | the daemon: its start and its end; `flags`: its command line; `service`: its side of the protocol |
//! | `registry` | the attachments that have a lease; `store`: the file in which they are |
//! | `keeper` | one lease: renewed, rebound, lost, acquired anew |
//! | `talk` | what is said by a link; `interface`: that link |
//! | `exchange` | the packets of IPv4; `message`: what is in them; `lease`: what a server has granted; `v6`: the same of IPv6; `grant`: a lease of either |
//! | `kernel` | how an asynchronous daemon asks the kernel one thing after the other |

mod client;
mod config;
pub mod daemon;
mod exchange;
mod flags;
mod grant;
mod interface;
mod keeper;
mod kernel;
mod lease;
mod message;
pub mod options;
pub mod protocol;
mod registry;
mod service;
mod store;
mod talk;
mod v6;

use common::cni::{Attachment, Context as _, words_after};
use common::net::since_boot;
use common::{
    Add, Call, Check, Del, Error, Errors, Gc, Network, Plugin, Result, Sandbox, Status, Success,
    Undo,
};
use config::Plan;
use protocol::{Id, Order, Request};
use std::process::ExitCode;

/// The plugin.
#[derive(Debug)]
pub struct Dhcp {
    plan: Plan,
}

impl Plugin for Dhcp {
    const NAME: &'static str = "dhcp";
    const ABOUT: &'static str = "Hands out addresses of a DHCP server of the container's segment. Started as `dhcp daemon`, it\n\
         asks for them, and renews them as long as the container lives: `dhcp daemon --help`.";

    fn serve_otherwise() -> Option<ExitCode> {
        words_after("daemon").map(|words| daemon::main(&words))
    }

    fn load(call: &Call) -> Result<Self> {
        Ok(Self { plan: Plan::new(call)? })
    }

    fn add(&self, request: &Add<'_>, undo: &mut Undo) -> Result<Success> {
        // Refused by the path that the runtime gave: the daemon may know the namespace by another one.
        drop(Sandbox::open(&request.netns)?);
        let id = Id::new(&request.attachment, &request.call.network.name);
        // By this name the rollback leaves a lease alone that an earlier ADD of the same attachment has.
        let own_name = || format!("{}/{:?}", std::process::id(), since_boot());
        let add = request.name.clone().unwrap_or_else(own_name);
        let order = Order {
            id: id.clone(),
            netns: std::path::absolute(request.netns.as_path()).context("CNI_NETNS")?,
            add: add.clone(),
            options: self.plan.options.clone(),
            priority: self.plan.priority,
            ipv4: self.plan.ipv4,
            ipv6: self.plan.ipv6,
        };
        let (socket, undoes) = (self.plan.socket.clone(), Some(add));
        let answer = client::ask(&self.plan.socket, &Request::Add(order));
        let lease = answer.context("error calling DHCP.Allocate")?;
        // Before the answer there is nothing to undo: the daemon gives up when nobody waits any more.
        undo.push("lease", move || client::ask(&socket, &Request::Del { id, undoes }).map(drop));
        lease.ok_or_else(|| {
            Error::internal("the DHCP daemon answered ADD without a lease")
                .details("this is a fault of the daemon: are both of one version?")
        })
    }

    fn del(request: &Del<'_>, errors: &mut Errors) {
        let network = &request.call.network;
        let id = Id::new(&request.attachment, &network.name);
        let undoes = request.undoes.clone();
        let answer = client::ask(&config::socket(network), &Request::Del { id, undoes });
        errors.note(answer.context("error calling DHCP.Release"));
    }

    fn check(&self, request: &Check<'_>) -> Result<()> {
        let id = Id::new(&request.attachment, &request.call.network.name);
        let answer = client::ask(&self.plan.socket, &Request::Check { id: id.clone() })?;
        let Some(lease) = answer else {
            return Err(Error::internal(format!("the DHCP daemon keeps no lease for {id}"))
                .details(
                    "it was lost, or another daemon made it: the container has to be added anew",
                ));
        };
        let recorded = &request.prev_result.ips;
        for ip in &lease.ips {
            if !recorded.iter().any(|other| other.address == ip.address) {
                let address = ip.address;
                let msg =
                    format!("the lease of {id} is of {address}, which prevResult does not have");
                return Err(Error::internal(msg).details("add the container anew"));
            }
        }
        Ok(())
    }

    fn gc(request: &Gc<'_>, errors: &mut Errors) {
        let network = &request.call.network;
        let pair = |valid: &Attachment| (valid.container.to_string(), valid.ifname.to_string());
        let sweep = Request::Gc {
            network: network.name.to_string(),
            valid: request.valid.iter().map(pair).collect(),
            grace_age: config::grace_age(network),
        };
        errors.note(client::ask(&config::socket(network), &sweep));
    }

    fn status(&self, _: &Status<'_>) -> Result<()> {
        let answer = client::ask(&self.plan.socket, &Request::Status);
        answer.map(drop).map_err(Error::unavailable)
    }
}

/// Whether the daemon of a network is there and can keep leases.
///
/// # Errors
/// Code 11 without it, 5 when it cannot write them down.
pub fn verify_daemon(network: &Network) -> Result<()> {
    client::ask(&config::socket(network), &Request::Status).map(drop)
}

/// Whether the daemon keeps the leases of an attachment.
///
/// # Errors
/// Code 11 without it.
pub fn is_leased(network: &Network, attachment: &Attachment) -> Result<bool> {
    let id = Id::new(attachment, &network.name);
    Ok(client::ask(&config::socket(network), &Request::Check { id })?.is_some())
}
