//! The VRF itself: it is shared by its interfaces, made for the first one and deleted with the last.

use crate::config::Plan;
use common::cni::IfName;
use common::net::{Link, LinkKind, LinkSpec};
use common::{Error, Result, Sandbox, Undo};

/// The first number of a table, as in the Go plugin.
const FIRST: u32 = 1;

/// The VRF's link and the number of its table. A VRF that is not there is made, and goes again with the
/// ADD unless another interface has joined it.
pub(crate) fn ensure(sandbox: &Sandbox, plan: &Plan, undo: &mut Undo) -> Result<(Link, u32)> {
    let (netlink, name) = (&sandbox.netlink, plan.vrf.as_str());
    let (link, table) = match netlink.find_link(name)? {
        Some(link) => {
            let table = netlink.read_vrf_table(link.index)?.ok_or_else(|| {
                Error::internal(format!("link {name} already exists and is not a VRF"))
                    .details("choose another \"vrfname\"")
            })?;
            if let Some(wanted) = plan.table.filter(|wanted| *wanted != table) {
                let msg = format!(
                    "VRF {name} already exist with different routing table {table}, not {wanted}"
                );
                return Err(Error::internal(msg).details("leave \"table\" out, or tell the same"));
            }
            (link, table)
        }
        None => {
            let free = || Ok(netlink.list_free_tables(FIRST)?.next());
            let table = plan.table.map_or_else(free, |table| Ok::<_, Error>(Some(table)))?;
            let table = table.ok_or_else(|| {
                Error::internal("no routing table is free").details("name one: \"table\"")
            })?;
            let (path, own) = (sandbox.path().clone(), name.to_owned());
            undo.push(format!("VRF {name}"), move || {
                let Some(sandbox) = Sandbox::find(Some(&path))? else { return Ok(()) };
                delete_unused(&sandbox, &own)
            });
            let kind = LinkKind::Vrf { table };
            let spec = LinkSpec { name, mac: None, mtu: None, master: None, group: 0, kind };
            (netlink.create_link(&spec)?, table)
        }
    };
    // An ADD that was killed may have left it down.
    netlink.set_up(link.index)?;
    Ok((link, table))
}

/// Deletes the VRF of that name, if there is one, and no interface is left in it.
pub(crate) fn delete_unused(sandbox: &Sandbox, name: &str) -> Result<()> {
    let netlink = &sandbox.netlink;
    // The name of DEL's configuration may be none that a link can have.
    let Some(link) = name.parse::<IfName>().ok().and_then(|_| netlink.find_link(name).transpose())
    else {
        return Ok(());
    };
    let link = link?;
    if netlink.read_vrf_table(link.index)?.is_some() && netlink.list_ports(link.index)?.is_empty() {
        netlink.delete_link(link.index)?;
    }
    Ok(())
}

/// Every difference from what ADD left.
pub(crate) fn verify(sandbox: &Sandbox, plan: &Plan, ifname: &IfName) -> Result<Vec<String>> {
    let (netlink, name) = (&sandbox.netlink, &plan.vrf);
    let Some(vrf) = netlink.find_link(name.as_str())? else {
        return Ok(vec![format!("failed to find {ifname} associated to vrf {name}: no such link")]);
    };
    let mut differences = Vec::new();
    let ports = netlink.list_ports(vrf.index)?;
    if !ports.iter().any(|port| port.name == ifname.as_str()) {
        differences.push(format!("failed to find {ifname} associated to vrf {name}"));
    }
    let table = netlink.read_vrf_table(vrf.index)?;
    match (table, plan.table) {
        (None, _) => differences.push(format!("link {name} is not a VRF")),
        (Some(found), Some(wanted)) if found != wanted => {
            differences.push(format!("VRF {name} has routing table {found}, not {wanted}"));
        }
        _ => {}
    }
    if !vrf.is_up {
        differences.push(format!("VRF {name} is down"));
    }
    Ok(differences)
}
