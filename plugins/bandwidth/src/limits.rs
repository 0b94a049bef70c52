//! Where an attachment's limits are set: what the container receives, on the host's end of its pair; what
//! it sends, on an ifb.

use crate::config::Plan;
use crate::ifb;
use common::attach::sandbox::interface;
use common::attach::{Sandbox, Site, host_end, veth};
use common::cni::{Interface, report};
use common::net::tc::{Hook, Shaper};
use common::net::{Link, Netlink};
use common::{Del, Error, Errors, Host, Owner, Result, Success, Undo};

const WAY_OUT: &str = "if this attachment was made before, DEL it first";

/// The host's end of the container's veth pair, which the plugins before this one must have listed.
pub(crate) fn find_host_end(site: &Site, result: &Success) -> Result<Link> {
    if result.interfaces.is_empty() {
        return Err(Error::config("no interfaces provided")
            .details("put bandwidth behind the plugin that makes the interface"));
    }
    let ifname = site.owner.ifname();
    let link = site.sandbox.netlink.find_link(ifname.as_str())?;
    let link = link.filter(|link| link.kind.as_deref() == Some("veth"));
    let Some((peer, link)) = link.and_then(|link| Some((link.peer?, link))) else {
        return Err(Error::config(format!("container interface {ifname} has no veth peer"))
            .details("rates are limited at the host's end of a veth pair, as of bridge and ptp"));
    };
    let Some(end) = veth::find_other_end(&site.host, &link)? else {
        return Err(Error::internal(format!("veth peer with index {peer} is not in host ns"))
            .details(
                "the other end is in a third namespace: bandwidth limits pairs with the host only",
            ));
    };
    let is_listed = |one: &Interface| !one.is_in_sandbox() && one.name == end.name;
    if result.interfaces.iter().any(is_listed) {
        return Ok(end);
    }
    Err(Error::config("no veth peer of container interface found in host ns")
        .details(format!("prevResult does not list {}, the host's end of {ifname}", end.name)))
}

/// Sets the limits; the link that was made for it, if one was needed.
pub(crate) fn create(
    plan: &Plan,
    site: &Site,
    end: &Link,
    undo: &mut Undo,
) -> Result<Option<Interface>> {
    let netlink = &site.host.netlink;
    for (name, shaper) in [("ingress", &plan.ingress), ("egress", &plan.egress)] {
        // As the kernel measures a packet, with its header of Ethernet.
        let packet = end.mtu.saturating_add(14);
        if let Some(shaper) = shaper.as_ref().filter(|shaper| shaper.burst < packet) {
            let (burst, key) = (shaper.burst, format!("{name}Burst"));
            report(format_args!(
                "{key} is {burst} bytes: {} may drop packets, which have up to {packet}",
                end.name
            ));
        }
    }
    // What is refused is refused before anything is made.
    refuse_limited(netlink, end, plan)?;
    let made = match &plan.egress {
        Some(shaper) => {
            let ifb = ifb::create(&site.host, &site.owner, end, shaper, undo)?;
            redirect(netlink, end, &ifb, undo)?;
            Some(interface(&ifb))
        }
        None => None,
    };
    if let Some(shaper) = &plan.ingress {
        let index = end.index;
        undo.push(format!("qdisc of {}", end.name), move || {
            Ok(Host::open()?.netlink.delete_shaper(index)?)
        });
        netlink.create_shaper(index, shaper)?;
    }
    Ok(made)
}

/// Refuses a host's end that is limited already, by this attachment or by somebody else.
fn refuse_limited(netlink: &Netlink, end: &Link, plan: &Plan) -> Result<()> {
    let name = &end.name;
    if plan.ingress.is_some()
        && let Some(kind) = netlink.read_qdisc(end.index, Hook::Root)?
    {
        return Err(Error::internal(format!("{name} has a qdisc already: {kind}")).details(
            format!("{WAY_OUT}; one of somebody else's goes with `tc qdisc del dev {name} root`"),
        ));
    }
    if plan.egress.is_none() {
        return Ok(());
    }
    for to in netlink.list_redirects(end.index)? {
        match netlink.read_link(to) {
            // Where others redirect some packets to is their business.
            Ok(link) if link.name.starts_with(ifb::PREFIX) => {
                let msg = format!("packets from {name} are redirected already, to {}", link.name);
                return Err(Error::internal(msg).details(WAY_OUT));
            }
            Err(error) if !error.is_gone() => return Err(error.into()),
            _ => {}
        }
    }
    Ok(())
}

/// Has what one link receives sent by another one.
fn redirect(netlink: &Netlink, from: &Link, to: &Link, undo: &mut Undo) -> Result<()> {
    let (index, target) = (from.index, to.index);
    // Of an ADD whose link was deleted without it.
    netlink.delete_redirects(index, None)?;
    let has_filters = netlink.read_qdisc(index, Hook::Filters)?.is_some();
    undo.push(format!("redirection of {}", from.name), move || {
        let netlink = Host::open()?.netlink;
        netlink.delete_redirects(index, Some(target))?;
        if !has_filters && !netlink.has_filters(index)? {
            netlink.delete_qdisc(index, Hook::Filters)?;
        }
        Ok(())
    });
    netlink.ensure_filters(index)?;
    Ok(netlink.create_redirect(index, target)?)
}

/// Deletes what [`create`] has made. The queue dies with the host's end, if that was made by another
/// plugin that does not say whose it is.
pub(crate) fn delete(host: &Host, request: &Del<'_>, errors: &mut Errors) {
    let (netlink, owner) = (&host.netlink, request.owner());
    let end = errors.note(find_end(host, request, &owner)).flatten();
    let result = request.prev_result.as_ref();
    let ifb = errors.note(ifb::find(netlink, &owner, end.as_ref(), result)).flatten();
    if let Some(end) = end {
        errors.note(netlink.delete_redirects(end.index, ifb.as_ref().map(|ifb| ifb.index)));
        if ifb::is_of(&end, &owner) {
            errors.note(netlink.delete_shaper(end.index));
        }
    }
    if let Some(ifb) = ifb {
        errors.note(netlink.delete_link(ifb.index));
    }
}

/// The host's end of the interface, whoever has made it, if there is anything left of it.
fn find_end(host: &Host, request: &Del<'_>, owner: &Owner) -> Result<Option<Link>> {
    if let Some(end) = host_end::find(&host.netlink, owner)? {
        return Ok(Some(end));
    }
    let Some(sandbox) = Sandbox::find(request.netns.as_ref())? else { return Ok(None) };
    let link = sandbox.netlink.find_link(owner.ifname().as_str())?;
    Ok(link.map(|link| veth::find_other_end(host, &link)).transpose()?.flatten())
}

/// Every difference between the limits and the kernel's.
pub(crate) fn verify(
    plan: &Plan,
    site: &Site,
    end: &Link,
    result: &Success,
) -> Result<Vec<String>> {
    let netlink = &site.host.netlink;
    let mut differences = Vec::new();
    if let Some(shaper) = &plan.ingress {
        differences.extend(netlink.verify_shaper(end, shaper)?);
    }
    if let Some(shaper) = &plan.egress {
        let Some(ifb) = ifb::find(netlink, &site.owner, Some(end), Some(result))? else {
            differences.push("get ifb device: no ifb of this attachment found".to_owned());
            return Ok(differences);
        };
        differences.extend(verify_egress(netlink, end, &ifb, shaper)?);
        if !result.interfaces.iter().any(|one| one.name == ifb.name) {
            differences.push(format!("{} is not in prevResult", ifb.name));
        }
    }
    Ok(differences)
}

fn verify_egress(
    netlink: &Netlink,
    end: &Link,
    ifb: &Link,
    shaper: &Shaper,
) -> Result<Vec<String>> {
    let mut differences = netlink.verify_shaper(ifb, shaper)?;
    if !ifb.is_up {
        differences.push(format!("{} is down", ifb.name));
    }
    if !netlink.list_redirects(end.index)?.contains(&ifb.index) {
        differences.push(format!("packets from {} are not redirected to {}", end.name, ifb.name));
    }
    Ok(differences)
}
