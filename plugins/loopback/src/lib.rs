//! `loopback`: the containers of a pod talk to each other over localhost.

use common::attach::sandbox::no_differences;
use common::cni::{Error, Interface, Ip};
use common::net::{Address, Family, Link};
use common::{Add, Call, Check, Del, Errors, Gc, Plugin, Result, Sandbox, Status, Success, Undo};

/// The kernel gives it this name in every namespace, so `CNI_IFNAME` is ignored.
const LO: &str = "lo";

/// The plugin.
#[derive(Debug)]
pub struct Loopback;

impl Plugin for Loopback {
    const NAME: &'static str = "loopback";
    const ABOUT: &'static str =
        "Raises lo in the container, so that its processes reach each other.";

    fn load(_: &Call) -> Result<Self> {
        Ok(Self)
    }

    fn add(&self, request: &Add<'_>, _: &mut Undo) -> Result<Success> {
        let sandbox = Sandbox::open(&request.netns)?;
        let lo = find(&sandbox)?;
        sandbox.netlink.set_up(lo.index)?;
        let success = describe(&sandbox, &lo)?;
        Ok(request.prev_result.clone().unwrap_or(success))
    }

    fn del(request: &Del<'_>, errors: &mut Errors) {
        let Some(Some(sandbox)) = errors.note(Sandbox::find(request.netns.as_ref())) else {
            return;
        };
        if let Some(lo) = errors.note(find(&sandbox)) {
            errors.note(sandbox.netlink.set_down(lo.index));
        }
    }

    fn check(&self, request: &Check<'_>) -> Result<()> {
        let sandbox = Sandbox::open(&request.netns)?;
        let down = (!find(&sandbox)?.is_up).then(|| "loopback interface is down".to_owned());
        no_differences(down.as_slice())
    }

    fn gc(_: &Gc<'_>, _: &mut Errors) {
        // The kernel makes and deletes lo with its namespace.
    }

    fn status(&self, _: &Status<'_>) -> Result<()> {
        Ok(())
    }
}

fn find(sandbox: &Sandbox) -> Result<Link> {
    let lo = sandbox.netlink.find_link(LO)?;
    lo.ok_or_else(|| Error::internal(format!("{} has no {LO}", sandbox.path())))
}

/// The first address of each family, which the kernel gave.
fn describe(sandbox: &Sandbox, lo: &Link) -> Result<Success> {
    let addresses = sandbox.netlink.list_addresses(lo.index)?;
    if let Some(stray) = addresses.iter().find(|found| !found.address.ip().is_loopback()) {
        return Err(Error::internal(format!(
            "loopback interface found with non-loopback address {:?}",
            stray.address.to_string()
        )));
    }
    let is_of = |found: &Address, family| Family::of(found.address.ip()) == family;
    let first = |family| addresses.iter().find(|found| is_of(found, family));
    let ips = Family::ALL.into_iter().filter_map(first);
    let ips =
        ips.map(|found| Ip { address: found.address.into(), gateway: None, interface: Some(0) });
    let mac = Some("00:00:00:00:00:00".to_owned());
    let interface = Interface { mac, ..sandbox.interface(lo) };
    Ok(Success { interfaces: vec![interface], ips: ips.collect(), ..Success::default() })
}
