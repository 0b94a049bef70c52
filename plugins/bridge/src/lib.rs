//! `bridge`: a veth pair between the container and a bridge of the host.

mod config;
mod gateway;
mod spoof;
mod switch;
mod uplink;
mod vlan;
mod vlan_gateway;

use common::attach::layer3::{describe, set_in_use};
use common::attach::sandbox::{Routing, interface, no_differences};
use common::attach::veth::{self, Attached};
use common::attach::{Ipam, Kept, Layer3, Site, Veth, host_end, running};
use common::filter::restore::{Expected, Filtering};
use common::filter::{Filters, Masquerade};
use common::net::{Link, Port};
use common::{
    Add, Call, Check, Del, Error, Errors, Gc, Host, Owner, Plugin, Result, Status, Success, Undo,
};
use config::{Hairpin, Plan};
use spoof::SpoofCheck;

/// The plugin.
#[derive(Debug)]
pub struct Bridge {
    plan: Plan,
}

impl Plugin for Bridge {
    const NAME: &'static str = "bridge";
    const ABOUT: &'static str =
        "Connects the container to a bridge of the host, with addresses from an IPAM plugin.";

    fn load(call: &Call) -> Result<Self> {
        Ok(Self { plan: Plan::new(call)? })
    }

    fn add(&self, request: &Add<'_>, undo: &mut Undo) -> Result<Success> {
        let plan = &self.plan;
        let site = Site::open_new(request, undo)?;
        let found = switch::find(&site.host, plan)?;
        gateway::refuse_foreign(&site.host, plan, found.as_ref())?;
        let uplink = uplink::find(&site.host, plan)?;
        let ipam = Ipam::of(request.call, plan.layer3.as_ref())?;
        let (end, segment) = (host_end::host_name(&site.owner), plan.segment());
        let mut addresses = ipam.start(Some(&end), segment.as_deref(), undo)?;
        if found.is_none() {
            // The bridge is shared and never rolled back, so it is made only after IPAM has succeeded.
            addresses.wait_before_link()?;
        }
        let bridge = switch::ensure(&site.host, plan, found)?;
        uplink::ensure(&site.host.netlink, plan, uplink.as_ref(), &bridge, undo)?;
        let pair = self.veth(&bridge).create(&site, undo)?;
        if let Some(vlans) = &plan.vlans {
            vlans.apply(&site.host.netlink, pair.host.index)?;
        }
        // Made while the container's end is down, so that no frame passes before the check.
        if let Some(mac) = pair.container.mac.filter(|_| plan.spoof_check) {
            SpoofCheck::open()?.create(mac, &site.owner, undo)?;
        }
        let answer = addresses.wait()?;
        set_in_use(&site, &pair.host, segment.as_deref(), answer.as_ref())?;
        // Read again, because the address of the bridge may have changed with the new port.
        let bridge = site.host.netlink.read_link(bridge.index)?;
        let gateway = gateway::ensure_link(&site.host, plan, &bridge)?;
        let mut interfaces = vec![interface(&bridge), interface(&pair.host)];
        interfaces.push(site.sandbox.interface(&pair.container));
        interfaces.extend((gateway.index != bridge.index).then(|| interface(&gateway)));
        let mut success = describe(plan.layer3.as_ref(), answer, interfaces)?;
        gateway::complete(plan.gateway, &mut success)?;
        match &plan.layer3 {
            Some(layer3) => {
                layer3.configure(&site, &pair.container, &success, Routing::Connected)?;
                gateway::ensure(&site.host, plan, &gateway, &success.ips)?;
            }
            None if plan.raise => site.sandbox.netlink.set_up(pair.container.index)?,
            None => {}
        }
        if let Some(scope) = &plan.masquerade {
            Masquerade::open()?.create(&success, scope, &site.owner, undo)?;
        }
        // Reading the link makes the kernel notice its carrier, after which the port forwards; without
        // this the first packets could be lost (see `read_link`).
        site.host.netlink.read_link(pair.host.index)?;
        Ok(success)
    }

    fn del(request: &Del<'_>, errors: &mut Errors) {
        let result = request.prev_result.as_ref();
        let owner = request.owner();
        let _running = running::announce_del(&owner);
        let mut filters = Filters::open(errors);
        if let Some(filters) = &mut filters {
            filters.delete(result, &owner, errors);
        }
        Ipam::del_with(request.call, errors, |errors| {
            errors.note(veth::delete(request.netns.as_ref(), &owner, Attached::ToBridge));
        });
        // After the deletion of the link, because its frames are checked until then. The socket too is
        // closed after it: closing waits for an RCU grace period, which has then passed.
        if let Some(filters) = &filters {
            errors.note(SpoofCheck::new(filters.nft()).delete(result, &owner));
        }
    }

    fn check(&self, request: &Check<'_>) -> Result<()> {
        let (plan, result) = (&self.plan, &request.prev_result);
        let site = Site::open(request)?;
        Ipam::of(request.call, plan.layer3.as_ref())?.check()?;
        let Some(bridge) = switch::find(&site.host, plan)? else {
            return Err(Error::internal(format!("Interface name {} not found", plan.bridge))
                .details("the bridge was removed after ADD: the container has to be added anew"));
        };
        let mut differences = switch::verify(&site.host, plan, &bridge, result)?;
        differences.extend(veth::verify(&site, Some(&bridge), result)?.1);
        if let Some(vlans) = &plan.vlans {
            differences.extend(vlans.verify(&site.host.netlink, &bridge, result)?);
        }
        if plan.raise {
            let ifname = site.owner.ifname();
            differences.extend(site.sandbox.verify(ifname, result, Routing::Connected)?);
        }
        differences.extend(gateway::verify(&site.host, plan, &bridge, &result.ips)?);
        if let Some(scope) = &plan.masquerade {
            differences.extend(Masquerade::open()?.verify(result, scope, &site.owner)?);
        }
        if plan.spoof_check {
            differences.extend(SpoofCheck::open()?.verify(result, &site.owner)?);
        }
        no_differences(&differences)
    }

    fn gc(request: &Gc<'_>, errors: &mut Errors) {
        if let Some(host) = errors.note(Host::open()) {
            let kept = Kept::new(&host.netlink, &request.call.network.name, &request.valid);
            let mut filters = Filters::open(errors);
            if let Some(filters) = &mut filters {
                filters.sweep(&kept, errors);
            }
            errors.note(veth::sweep(&host.netlink, &kept));
            if let Some(filters) = &filters {
                errors.note(SpoofCheck::new(filters.nft()).sweep(&kept));
            }
        }
        errors.note(Ipam::find(request.call).and_then(|ipam| ipam.gc()));
    }

    fn status(&self, request: &Status<'_>) -> Result<()> {
        uplink::probe(&self.plan)?;
        Ipam::of(request.call, self.plan.layer3.as_ref())?.status()
    }
}

impl Filtering for Bridge {
    fn expected_state(&self, owner: &Owner, result: &Success) -> Result<Vec<Expected>> {
        let mut expected = match &self.plan.masquerade {
            Some(scope) => Masquerade::expected_state(result, scope, owner)?,
            None => Vec::new(),
        };
        if self.plan.spoof_check {
            expected.push(SpoofCheck::expected(result, owner)?);
        }
        Ok(expected)
    }
}

impl Bridge {
    fn veth(&self, bridge: &Link) -> Veth {
        let plan = &self.plan;
        Veth {
            mac: plan.mac,
            mtu: plan.mtu,
            master: Some(bridge.index),
            port: Port { hairpin: plan.hairpin == Hairpin::Port, isolated: plan.isolated },
            grace_age: Layer3::grace_age(plan.layer3.as_ref()),
        }
    }
}
