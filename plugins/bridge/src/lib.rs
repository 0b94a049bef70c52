//! `bridge`: a veth pair between the container and a bridge of the host.

mod config;
mod gateway;
mod switch;
mod vlan;
mod vlan_gateway;

use common::cni::delegate::Running;
use common::cni::{Delegate, NetworkName, Owner};
use common::kept::Kept;
use common::net::{Link, nft};
use common::restore::{Filtering, Holding};
use common::sandbox::{Ipv6Addresses, interface, no_differences};
use common::veth::{self, Pair, Port, Veth};
use common::{
    Add, Attachment, Call, Check, Del, Error, Errors, Gc, Host, Masquerade, Plugin, Reference,
    Result, Sandbox, SpoofCheck, Status, Success, Undo, in_use,
};
use config::{Echo, Layer, Layer3, Plan};

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
        if request.link.is_some() {
            let msg = "bridge hands out no addresses: \"ipam\" names it as its \"type\"";
            return Err(Error::config(msg));
        }
        let owner = request.attachment.owner(&request.call.network.name);
        let _running = veth::begin_add(&owner)?;
        let (host, sandbox) = (Host::open()?, Sandbox::open(&request.netns)?);
        let found = switch::find(&host, &self.plan)?;
        gateway::refuse_foreign(&host, &self.plan, found.as_ref())?;
        veth::refuse_existing(&host, &sandbox, &request.attachment.ifname, &owner)?;
        let segment = self.plan.segment();
        let place = (veth::host_name(&owner), segment.as_deref());
        let mut ipam = Ipam::start(self.ipam(request.call)?, place, undo)?;
        if found.is_none() {
            // The bridge stays, whatever becomes of us: what may fail by bad input comes first.
            ipam.wait()?;
        }
        let bridge = switch::ensure(&host, &self.plan, found)?;
        let pair = self.veth(request, &owner, &bridge).create(&host, &sandbox, undo)?;
        if let Some(vlans) = &self.plan.vlans {
            vlans.apply(&host.netlink, pair.host.index)?;
        }
        // While the container's end is down: not one frame gets through unchecked.
        if let Some(mac) = pair.container.mac.filter(|_| self.plan.spoof_check) {
            SpoofCheck::open()?.create(mac, &owner, undo)?;
        }
        let answer = ipam.wait()?;
        let addresses = answer.iter().flat_map(|answer| &answer.ips).map(|ip| ip.address.ip());
        in_use::mark(&host.netlink, pair.host.index, segment.as_deref(), addresses)?;
        // Ports have come meanwhile, with which its address may have changed.
        let bridge = host.netlink.read_link(bridge.index)?;
        let gateway = gateway::ensure_link(&host, &self.plan, &bridge)?;
        let success = self.describe(&sandbox, answer, [&bridge, &gateway], &pair)?;
        match &self.plan.layer {
            Layer::Two { raise: false } => {}
            Layer::Two { raise: true } => sandbox.netlink.set_up(pair.container.index)?,
            Layer::Three(layer3) => {
                let mode = ipv6_addresses(layer3);
                sandbox.configure(&pair.container, &success, mode)?;
                gateway::ensure(&host, layer3, &gateway, &success.ips)?;
                if let Some(scope) = &layer3.masquerade {
                    let whose = (&request.call.network.name, &request.attachment);
                    Masquerade::open()?.create(&success, scope, whose, undo)?;
                }
            }
        }
        // A look at the port, after which the kernel forwards through it.
        host.netlink.read_link(pair.host.index)?;
        Ok(success)
    }

    fn del(request: &Del<'_>, errors: &mut Errors) {
        let (network, result) = (&request.call.network.name, request.prev_result.as_ref());
        let owner = request.attachment.owner(network);
        let mut filters = Filters::open(errors);
        if let Some(filters) = &mut filters {
            errors.note(filters.masquerade.delete(result, &owner));
            // What the Go plugin has made for it, before the node was upgraded.
            filters.reference.delete_masquerade(network, &request.attachment, errors);
        }
        if let Some(host) = errors.note(Host::open()) {
            let netns = request.netns.as_ref();
            errors.note(veth::delete(&host, netns, network, &request.attachment));
        }
        // Not before the link is gone: somebody else may get the address at once.
        if let Some(Some(ipam)) = errors.note(request.call.tolerant_ipam()) {
            errors.note(ipam.del());
        }
        // Not before the link is gone: until then its frames are checked. The sockets are closed
        // here, after the deletion of the link, with which they then wait for the kernel.
        if let Some(mut filters) = filters {
            errors.note(filters.spoof_check.delete(result, &owner));
        }
    }

    fn check(&self, request: &Check<'_>) -> Result<()> {
        let result = &request.prev_result;
        let (host, sandbox) = (Host::open()?, Sandbox::open(&request.netns)?);
        if let Some(ipam) = self.ipam(request.call)? {
            ipam.check()?;
        }
        let Some(bridge) = switch::find(&host, &self.plan)? else {
            return Err(Error::internal(format!("Interface name {} not found", self.plan.bridge)));
        };
        let ifname = &request.attachment.ifname;
        let owner = request.attachment.owner(&request.call.network.name);
        let mut differences = switch::verify(&self.plan, &bridge, result);
        differences.extend(veth::verify(&host, &sandbox, ifname, Some(&bridge), result)?);
        if let Some(vlans) = &self.plan.vlans {
            let default = host.netlink.read_default_vlan(bridge.index)?;
            for port in host.netlink.list_ports(bridge.index)? {
                if result.interfaces.iter().any(|interface| interface.name == port.name) {
                    let found = vlans.differences(&host.netlink.list_vlans(port.index)?, default);
                    differences
                        .extend(found.iter().map(|what| format!("port {} {what}", port.name)));
                }
            }
        }
        if let Some(layer3) = self.plan.layer3() {
            differences.extend(sandbox.verify(ifname, result)?);
            differences.extend(gateway::verify(&host, &self.plan, &bridge, &result.ips)?);
            if let Some(scope) = &layer3.masquerade {
                let whose = (&request.call.network.name, &request.attachment);
                differences.extend(Masquerade::open()?.verify(result, scope, whose)?);
            }
        }
        if self.plan.spoof_check {
            differences.extend(SpoofCheck::open()?.verify(result, &owner)?);
        }
        no_differences(&differences)
    }

    fn gc(request: &Gc<'_>, errors: &mut Errors) {
        if let Some(host) = errors.note(Host::open()) {
            let kept = Kept::new(&host.netlink, &request.call.network.name, &request.valid);
            let mut filters = Filters::open(errors);
            if let Some(filters) = &mut filters {
                errors.note(filters.masquerade.sweep(&kept));
                filters.reference.sweep_masquerade(&kept, errors);
            }
            errors.note(veth::sweep(&host.netlink, &kept));
            if let Some(filters) = &mut filters {
                errors.note(filters.spoof_check.sweep(&kept));
            }
        }
        if let Some(Some(ipam)) = errors.note(request.call.tolerant_ipam()) {
            errors.note(ipam.gc());
        }
    }

    fn status(&self, request: &Status<'_>) -> Result<()> {
        self.ipam(request.call)?.map_or(Ok(()), |ipam| ipam.status())
    }
}

impl Filtering for Bridge {
    fn holdings(
        &self,
        network: &NetworkName,
        attachment: &Attachment,
        result: &Success,
    ) -> Result<Vec<Holding>> {
        let scope = self.plan.layer3().and_then(|layer3| layer3.masquerade.as_ref());
        let mut holdings = match scope {
            Some(scope) => Masquerade::holdings(result, scope, (network, attachment))?,
            None => Vec::new(),
        };
        if self.plan.spoof_check {
            holdings.push(SpoofCheck::holding(result, &attachment.owner(network))?);
        }
        Ok(holdings)
    }
}

impl Bridge {
    fn ipam(&self, call: &Call) -> Result<Option<Delegate>> {
        self.plan.layer3().map(|layer3| call.delegate(&layer3.ipam)).transpose()
    }

    fn veth<'a>(&self, request: &'a Add<'_>, owner: &'a Owner, bridge: &Link) -> Veth<'a> {
        Veth {
            ifname: &request.attachment.ifname,
            owner,
            mac: self.plan.mac,
            mtu: self.plan.mtu,
            master: Some(bridge.index),
            port: Port { hairpin: self.plan.echo == Echo::Hairpin, isolated: self.plan.isolated },
            grace_age: self.plan.grace_age,
        }
    }

    /// The answer of this ADD.
    fn describe(
        &self,
        sandbox: &Sandbox,
        ipam: Option<Success>,
        [bridge, gateway]: [&Link; 2],
        pair: &Pair,
    ) -> Result<Success> {
        let mut success = ipam.unwrap_or_default();
        success.interfaces =
            vec![interface(bridge), interface(&pair.host), sandbox.interface(&pair.container)];
        if gateway.index != bridge.index {
            success.interfaces.push(interface(gateway));
        }
        for ip in &mut success.ips {
            ip.interface = Some(2);
        }
        if let Some(layer3) = self.plan.layer3() {
            if success.ips.is_empty() {
                return Err(Error::internal("IPAM plugin returned missing IP config"));
            }
            gateway::complete(layer3.gateway, &mut success)?;
            if let Some(dns) = &layer3.dns {
                success.dns = dns.clone();
            }
        }
        Ok(success)
    }
}

/// What attachments may have in the packet filter, whatever their configuration says by now.
struct Filters {
    masquerade: Masquerade,
    spoof_check: SpoofCheck,
    reference: Reference,
}

impl Filters {
    /// None on a kernel without nftables, where nobody has anything.
    fn open(errors: &mut Errors) -> Option<Self> {
        let open = || -> Result<Option<Self>> {
            if !nft::is_available()? {
                return Ok(None);
            }
            Ok(Some(Self {
                masquerade: Masquerade::open()?,
                spoof_check: SpoofCheck::open()?,
                reference: Reference::open()?,
            }))
        };
        errors.note(open()).flatten()
    }
}

fn ipv6_addresses(layer3: &Layer3) -> Ipv6Addresses {
    if layer3.probe { Ipv6Addresses::Probed } else { Ipv6Addresses::Trusted }
}

/// The IPAM plugin's ADD, which runs while the links are made.
enum Ipam {
    /// A network without addresses.
    None,
    Running(Running),
    Answered(Success),
}

impl Ipam {
    fn start(
        ipam: Option<Delegate>,
        (link, segment): (String, Option<&str>),
        undo: &mut Undo,
    ) -> Result<Self> {
        Ok(match ipam {
            Some(ipam) => Self::Running(ipam.start_add(&link, segment, undo)?),
            None => Self::None,
        })
    }

    /// The answer, as soon as it is there.
    fn wait(&mut self) -> Result<Option<Success>> {
        *self = match std::mem::replace(self, Self::None) {
            Self::Running(running) => Self::Answered(running.finish()?),
            settled => settled,
        };
        match self {
            Self::Answered(success) => Ok(Some(success.clone())),
            Self::None | Self::Running(_) => Ok(None),
        }
    }
}
