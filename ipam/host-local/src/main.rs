//! host-local: addresses from ranges of this node, one lease file per network.

use common::cni::{Ip, Verb};
use common::{
    Add, Attachment, Call, Check, Code, Del, Error, Errors, Gc, Plugin, Result, Status, Success,
    Undo,
};
use host_local::allocator;
use host_local::config::{Plan, Pool};
use host_local::log::Lease;
use host_local::record::{self, Holder, Owner};
use host_local::store::{self, Store};
use std::collections::HashSet;
use std::net::IpAddr;
use std::os::unix::fs::MetadataExt as _;
use std::process::ExitCode;
use std::time::SystemTime;

struct HostLocal {
    pool: Pool,
    /// Empty where it is not needed: DEL and GC.
    plan: Plan,
}

impl Plugin for HostLocal {
    const NAME: &'static str = "host-local";
    const ABOUT: &'static str = "Hands out addresses from ranges of this node.";

    fn load(call: &Call) -> Result<Self> {
        let plan = match call.verb {
            Verb::Add => Plan::load_with_requests(call)?,
            Verb::Del | Verb::Gc => Plan::default(),
            _ => Plan::load(call)?,
        };
        Ok(Self { pool: Pool::load(&call.network)?, plan })
    }

    fn add(&self, request: &Add<'_>, undo: &mut Undo) -> Result<Success> {
        let dns = self.plan.read_dns()?;
        let holder = holder(request)?;
        let ips = self.create_lease(&request.attachment, &holder, undo)?;
        Ok(Success { ips, routes: self.plan.routes.clone(), dns, ..Success::default() })
    }

    fn del(&self, request: &Del<'_>, errors: &mut Errors) {
        let owner = Owner::from(&request.attachment);
        errors.note(delete_leases(&self.pool, |lease| lease.is_of(&owner)));
    }

    fn check(&self, request: &Check<'_>) -> Result<()> {
        let held = self.addresses_of(&request.attachment)?;
        let lost = |what: &str| {
            let container = &request.attachment.container;
            let msg = format!("host-local: Failed to find address added by container {container}");
            Err(Error::internal(msg).details(what))
        };
        if held.is_empty() {
            return lost("the network has no lease for it");
        }
        let ours = request.prev_result.ips.iter().map(|ip| ip.address.ip());
        let missing: Vec<_> = ours
            .filter(|ip| self.plan.sets.iter().any(|set| set.contains(*ip)))
            .filter(|ip| !held.contains(ip))
            .map(|ip| ip.to_string())
            .collect();
        if missing.is_empty() {
            return Ok(());
        }
        lost(&format!("{} of prevResult: not in its lease of {held:?}", missing.join(", ")))
    }

    fn gc(&self, request: &Gc<'_>, errors: &mut Errors) {
        let valid: HashSet<_> = request.valid.iter().map(Owner::from).collect();
        errors.note(delete_leases(&self.pool, |lease| !lease.is_of_any(&valid)));
    }

    fn status(&self, _: &Status<'_>) -> Result<()> {
        store::check_directory(&self.pool.directory)?;
        let Some(store) = Store::open(&self.pool)? else { return Ok(()) };
        store.check_writable()?;
        let taken = store.read()?.addresses()?;
        let mut sets = self.plan.sets.iter();
        match sets.find(|set| allocator::is_exhausted(set, &taken)) {
            Some(set) => Err(allocator::exhausted(set, &taken, Code::Unavailable)),
            None => Ok(()),
        }
    }
}

impl HostLocal {
    /// Chooses and records under one lock: nothing is handed out that is not in the file.
    fn create_lease(
        &self,
        attachment: &Attachment,
        holder: &Holder,
        undo: &mut Undo,
    ) -> Result<Vec<Ip>> {
        let owner = Owner::from(attachment);
        let store = Store::create(&self.pool)?;
        let log = store.read()?;
        if let Some(lease) = log.leases_of(&owner).next() {
            return Err(self.duplicate(attachment, &lease));
        }
        let ips = allocator::choose(&self.plan, &log.addresses()?, |set| log.last_of(set))?;
        let addresses: Vec<_> = ips.iter().map(|ip| ip.address.ip()).collect();
        let line = record::leased(&addresses, &owner, holder);
        store.append(&log, &line)?;
        let pool = self.pool.clone();
        undo.push(format!("lease of {addresses:?}"), move || {
            delete_leases(&pool, |lease| lease.is_of(&owner))
        });
        store.compact(&log, &line, &self.plan.sets);
        Ok(ips)
    }

    fn duplicate(&self, attachment: &Attachment, lease: &Lease<'_>) -> Error {
        let held = match lease.addresses() {
            Ok(held) => held,
            Err(error) => return error,
        };
        let mut sets = self.plan.sets.iter();
        let index = sets.position(|set| held.iter().any(|ip| set.contains(*ip))).unwrap_or(0);
        let held: Vec<_> = held.iter().map(ToString::to_string).collect();
        Error::internal(format!(
            "failed to allocate for range {index}: {} has been allocated to {}, duplicate \
             allocation is not allowed",
            held.join(", "),
            attachment.container
        ))
        .details(format!("{} needs a DEL before it can be added again", attachment.ifname))
    }

    fn addresses_of(&self, attachment: &Attachment) -> Result<Vec<IpAddr>> {
        let Some(store) = Store::open(&self.pool)? else { return Ok(Vec::new()) };
        let owner = Owner::from(attachment);
        let mut addresses = Vec::new();
        for lease in store.read()?.leases_of(&owner) {
            addresses.extend(lease.addresses()?);
        }
        Ok(addresses)
    }
}

/// Releases all that are meant, in one write.
fn delete_leases(pool: &Pool, is_meant: impl Fn(&Lease<'_>) -> bool) -> Result<()> {
    let Some(store) = Store::open(pool)? else { return Ok(()) };
    let log = store.read()?;
    let now = now();
    let mut lines = String::new();
    for lease in log.leases().filter(|lease| is_meant(lease)) {
        lines.push_str(&lease.released(now));
    }
    if lines.is_empty() { Ok(()) } else { store.append(&log, &lines) }
}

/// Who asks, as it will be proven later that it is no more.
fn holder(request: &Add<'_>) -> Result<Holder> {
    let args = request.call.args()?;
    let pod = args.get("K8S_POD_NAMESPACE").zip(args.get("K8S_POD_NAME"));
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id");
    let netns = request.netns.as_path();
    Ok(Holder {
        time: now(),
        boot: boot.ok().map(|boot| boot.trim_end().to_owned()),
        // A path without a namespace is for the plugin that configures it to complain about.
        inode: std::fs::metadata(netns).ok().map(|file| file.ino()),
        netns: netns.to_string_lossy().into_owned(),
        pod: pod.map(|(space, name)| (space.to_owned(), name.to_owned())),
    })
}

fn now() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

fn main() -> ExitCode {
    common::run::<HostLocal>()
}
