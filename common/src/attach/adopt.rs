//! A link of the host that a container has for as long as it is attached, as a network card.
//!
//! The kernel keeps the name that the host knows it by as its alias, which is also where the Go plugin
//! looks for it. What the kernel forgets on the way (see [`Record`]) is in a file, so that the link is
//! given back as it was also when its container, or the ADD, was killed.

use super::record::Record;
use super::{Host, Kept, Owner, Records, Sandbox, Site, link, running};
use crate::cni::{Del, Error, Errors, IfName, NetnsPath, Result, Undo, report};
use crate::net::{Link, LinkChange, Mac, Netlink, Netns};
use std::time::Duration;

/// The kernel moves the links of a namespace that is gone in its own time, which is a second at most.
const PATIENCE: Duration = Duration::from_secs(2);

/// Moves a link of the host into the container under its final name, where it is down.
///
/// # Errors
/// When the kernel refuses, as it does for links that belong to their namespace, or the record cannot
/// be written.
pub fn create(
    records: &Records,
    site: &Site,
    link: &Link,
    grace_age: Duration,
    undo: &mut Undo,
) -> Result<Link> {
    let (owner, inside) = (site.owner.clone(), &site.sandbox);
    let mut record = Record::new(site, link, grace_age)?;
    let (kept, path) = (records.clone(), inside.path().clone());
    undo.push(format!("link {}", link.name), move || {
        give_back(&kept, &owner, Some(&path), Duration::ZERO)
    });
    records.write(&record)?;
    let change = LinkChange {
        netns: Some(&inside.netns),
        name: Some(site.owner.ifname().as_str()),
        alias: Some(&link.name),
        ..LinkChange::default()
    };
    site.host.netlink.change_link(link.index, &change)?;
    let ifname = site.owner.ifname();
    let moved = inside.netlink.find_link(ifname.as_str())?.ok_or_else(|| {
        Error::internal(format!("{:?} was renamed while it became {ifname}", link.name))
    })?;
    records.supersede(&record, site, &moved)?;
    record.index = Some(moved.index);
    records.write(&record)?;
    Ok(moved)
}

/// Gives back what is on the host although a record says that a container has it: the kernel has moved
/// it there when the container died, or an ADD was killed. Called before an ADD looks for its link.
///
/// # Errors
/// When `owner`'s own link, of an ADD before this one, cannot be given back.
pub fn recover(records: &Records, host: &Host, owner: &Owner) -> Result<()> {
    for record in records.list()? {
        if record.owner == owner.as_str() {
            give_back(records, owner, None, Duration::ZERO)?;
        } else if let Some(owner) = record.owner().filter(|owner| !running::is_running(owner))
            && let Some(link) = record.find_returned(&host.netlink)?
            && !record.is_in_container()?
            && let Err(error) = restore(records, &owner, &host.netlink, &record, &link)
        {
            report(format_args!("{} of {} is not as it was: {error}", record.name, record.owner));
        }
    }
    Ok(())
}

/// Gives the owner's link back to the host with its name, MTU, hardware address, addresses and state,
/// wherever it is. A link whose namespace took it along into its death is nothing to be given back.
///
/// # Errors
/// When the host has another link of that name; then the container keeps it, up and with its
/// addresses.
pub fn delete(records: &Records, request: &Del<'_>) -> Result<()> {
    let owner = request.owner();
    if records.find(&owner)?.is_none() {
        give_back_unrecorded(records, request, &owner)?;
    }
    give_back(records, &owner, request.netns.as_ref(), PATIENCE)
}

/// Gives back the links of attachments that are not left alone.
pub fn sweep(records: &Records, kept: &Kept<'_>, errors: &mut Errors) {
    for record in errors.note(records.list()).unwrap_or_default() {
        let is_due = !record.is_young() && kept.is_stale(&record.owner);
        if let Some(owner) = record.owner().filter(|_| is_due) {
            errors.note(give_back(records, &owner, None, Duration::ZERO));
        }
    }
    errors.note(records.sweep_unfinished());
}

fn give_back(
    records: &Records,
    owner: &Owner,
    netns: Option<&NetnsPath>,
    patience: Duration,
) -> Result<()> {
    let Some(record) = records.find(owner)? else {
        // It may have been killed while it was written, or somebody may have broken it.
        if let Err(error) = records.remove(owner) {
            report(error);
        }
        return Ok(());
    };
    let host = Host::open()?;
    let others = records.others(owner)?;
    let sandbox = record.find_sandbox(netns)?;
    if let Some(sandbox) = &sandbox
        && let Some(link) = record.find_in_container(sandbox, &others)?
    {
        let link = move_back(&host, sandbox, &link, &record.name, record.mac())?;
        return restore(records, owner, &host.netlink, &record, &link);
    }
    let mut link = record.find_returned(&host.netlink)?;
    if link.is_none() && sandbox.is_none() && record.is_hardware() && !patience.is_zero() {
        link = record.wait_until_returned(&host.netlink, patience)?;
    }
    if let Some(link) = link {
        return restore(records, owner, &host.netlink, &record, &link);
    }
    let is_lost = !record.is_at_home(&host.netlink)?
        && !others.iter().any(|other| other.is_same_link(&record));
    if is_lost && record.is_hardware() {
        // The kernel still has to move it. The next ADD or GC finds the record, and the link.
        return Ok(());
    }
    if let Some(sandbox) = sandbox.filter(|_| is_lost) {
        report(format_args!(
            "{:?} of {} is not given back: it is neither on the host nor in {}, so it was deleted there",
            record.name,
            record.owner,
            sandbox.path()
        ));
    }
    records.remove(owner)
}

/// A link that the Go plugin has moved has no record, so its state is unknown: it stays down. An
/// administrator may have given an alias to a link of the container's own, which kept ADD from taking
/// the name: so either the result of ADD or the configuration must tell of it as well.
fn give_back_unrecorded(records: &Records, request: &Del<'_>, owner: &Owner) -> Result<()> {
    let Some(sandbox) = Sandbox::find(request.netns.as_ref())? else { return Ok(()) };
    let Some(link) = sandbox.netlink.find_link(owner.ifname().as_str())? else { return Ok(()) };
    let Some(name) = link.alias.as_deref().and_then(|alias| alias.parse::<IfName>().ok()) else {
        return Ok(());
    };
    let host = Host::open()?;
    let device = request.call.network.tolerant::<String>(&["device"]);
    let is_missed = device.as_deref() == Some(name.as_str())
        && host.netlink.find_link(name.as_str())?.is_none();
    if !is_missed && !link::is_listed(request, &link) {
        return Ok(());
    }
    // Another attachment has the interface, and this one's ADD was refused for that, or has ended.
    let mut others = records.others(owner)?.into_iter();
    if others.any(|it| owner.is_same_interface(&it.owner) || it.is_of(&sandbox, &link)) {
        return Ok(());
    }
    let link = move_back(&host, &sandbox, &link, name.as_str(), None)?;
    let change = LinkChange { alias: Some(""), ..LinkChange::default() };
    Ok(host.netlink.change_link(link.index, &change)?)
}

/// Moves a link to the host under the name and with the hardware address that it had there. It keeps its
/// alias until all of it is as it was. By these a DEL that comes after one that was killed finds it.
fn move_back(
    host: &Host,
    sandbox: &Sandbox,
    link: &Link,
    name: &str,
    mac: Option<Mac>,
) -> Result<Link> {
    if host.netlink.find_link(name)?.is_some() {
        let msg = format!(
            "failed to give {:?} of {} back: the host has another link {name:?} by now",
            link.name,
            sandbox.path()
        );
        return Err(Error::internal(msg).details(
            "rename or delete that one and repeat DEL; until then the container keeps its own",
        ));
    }
    let own = Netns::current()?;
    let change = LinkChange {
        netns: Some(&own),
        name: Some(name),
        alias: Some(name),
        // A driver may refuse even the one that it has.
        mac: mac.filter(|mac| link.mac != Some(*mac)),
        ..LinkChange::default()
    };
    sandbox.netlink.change_link(link.index, &change)?;
    host.netlink.find_link(name)?.ok_or_else(|| {
        Error::internal(format!("{name:?} was renamed while it came back from {}", sandbox.path()))
    })
}

/// Makes a link of the host what it was before ADD, and forgets the record.
fn restore(
    records: &Records,
    owner: &Owner,
    host: &Netlink,
    record: &Record,
    link: &Link,
) -> Result<()> {
    let mut alias = record.alias.as_deref().unwrap_or_default();
    if link.name != record.name {
        if host.find_link(&record.name)?.is_some() {
            report(format_args!(
                "{:?} of {} has come back as {:?}, because the host has another {:?} by now",
                record.name, record.owner, link.name, record.name
            ));
            // Still tells who it is.
            alias = &record.name;
        } else {
            if link.is_up {
                host.set_down(link.index)?;
            }
            let name = Some(record.name.as_str());
            host.change_link(link.index, &LinkChange { name, ..LinkChange::default() })?;
        }
    }
    // A driver may refuse even the values that it has.
    let change = LinkChange {
        mac: record.mac().filter(|mac| link.mac != Some(*mac)),
        mtu: Some(record.mtu).filter(|mtu| link.mtu != *mtu),
        ..LinkChange::default()
    };
    host.change_link(link.index, &change)?;
    // First, because the kernel gives a link that is down no route to the peer of an IPv6 address.
    if record.is_up {
        host.set_up(link.index)?;
    }
    for address in &record.addresses {
        match host.restore_address(link.index, address) {
            // The link is of more use without it than not at all, which repeating DEL would not change.
            Err(error) if error.is_denied() || error.is_unsupported() => report(error),
            outcome => outcome?,
        }
    }
    host.change_link(link.index, &LinkChange { alias: Some(alias), ..LinkChange::default() })?;
    records.remove(owner)
}
