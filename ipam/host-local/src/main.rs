//! host-local: addresses from ranges of this node, one lease file per network.

use common::cni::{Ip, Verb};
use common::{
    Add, Attachment, Call, Check, Code, Del, Error, Errors, Gc, Plugin, Result, Status, Success,
    Undo, in_use,
};
use host_local::allocator::{self, Choice, Known};
use host_local::block::Block;
use host_local::change::Refusal;
use host_local::config::{Plan, Pool, Reclaim, Sticky};
use host_local::reclaim;
use host_local::record::{Holder, Lease, Owner};
use host_local::store::{self, Store};
use std::collections::HashSet;
use std::net::IpAddr;
use std::os::unix::fs::MetadataExt as _;
use std::process::ExitCode;

/// How often somebody who takes no lock may come between our look at the directory and our write.
const ATTEMPTS: usize = 5;

struct HostLocal {
    pool: Pool,
    plan: Plan,
}

impl Plugin for HostLocal {
    const NAME: &'static str = "host-local";
    const ABOUT: &'static str = "Hands out addresses from ranges of this node.";

    fn load(call: &Call) -> Result<Self> {
        let plan = match call.verb {
            Verb::Add => Plan::load_with_requests(call)?,
            _ => Plan::load(call)?,
        };
        Ok(Self { pool: Pool::load(&call.network)?, plan })
    }

    fn add(&self, request: &Add<'_>, undo: &mut Undo) -> Result<Success> {
        let dns = self.plan.read_dns()?;
        let holder = self.holder(request)?;
        let ips = self.create_lease(&request.attachment, &holder, undo)?;
        Ok(Success { ips, routes: self.plan.routes.clone(), dns, ..Success::default() })
    }

    fn del(request: &Del<'_>, errors: &mut Errors) {
        let pool = Pool::load_tolerantly(&request.call.network);
        errors.note(delete_lease(&pool, &Owner::from(&request.attachment)));
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

    fn gc(request: &Gc<'_>, errors: &mut Errors) {
        let pool = Pool::load_tolerantly(&request.call.network);
        errors.note(sweep_leases(&pool, &request.valid));
    }

    fn status(&self, _: &Status<'_>) -> Result<()> {
        store::check_directory(&self.pool.directory)?;
        let Some(mut store) = Store::open(&self.pool)? else { return Ok(()) };
        store.check_writable()?;
        for set in &self.plan.sets {
            if allocator::is_exhausted(set, &Locked(&store))?
                && !store.is_any_kept(set)?
                && !reclaim::can_make_room(&mut store, &self.pool, set)?
            {
                return Err(reclaim::exhausted(&mut store, set, Code::Unavailable)?);
            }
        }
        Ok(())
    }
}

/// What the choice of an address asks a locked store.
struct Locked<'a>(&'a Store);

impl Known for Locked<'_> {
    fn block(&self, number: u128) -> Result<Block> {
        self.0.block(number)
    }

    fn last(&self, index: usize) -> Option<IpAddr> {
        self.0.last(index)
    }

    fn tenant(&self, address: IpAddr) -> Option<String> {
        in_use::tenant(address)
    }
}

impl HostLocal {
    fn create_lease(
        &self,
        attachment: &Attachment,
        holder: &Holder,
        undo: &mut Undo,
    ) -> Result<Vec<Ip>> {
        let owner = Owner::from(attachment);
        let mut store = Store::create(&self.pool)?;
        for _ in 0..ATTEMPTS {
            let (found, ips) = self.choose(store, &owner, holder)?;
            store = found;
            let addresses: Vec<_> = ips.iter().map(|ip| ip.address.ip()).collect();
            let lease = Lease { addresses, owner: owner.clone(), holder: holder.clone() };
            match store.lease(&lease) {
                Ok(()) => {
                    let pool = self.pool.clone();
                    let what = format!("lease of {}", reclaim::list(&lease.addresses));
                    undo.push(what, move || delete_lease(&pool, &owner));
                    return Ok(ips);
                }
                Err(Refusal::Changed) => store.rebuild()?,
                Err(Refusal::Failed(error)) => return Err(error),
            }
        }
        Err(Error::new(Code::TryAgain, "somebody else writes leases all along, without the lock"))
    }

    /// Addresses that are free, if need be after others have lost them.
    fn choose(&self, mut store: Store, owner: &Owner, holder: &Holder) -> Result<(Store, Vec<Ip>)> {
        loop {
            self.refuse_duplicate(&mut store, owner)?;
            let wishes = self.wishes(&mut store, owner, holder)?;
            let index = match allocator::choose(&self.plan, &Locked(&store), &wishes)? {
                Choice::Ips(ips) => return Ok((store, ips)),
                Choice::Exhausted(index) => index,
            };
            let set = self.plan.sets.get(index).ok_or_else(|| Error::internal("no such set"))?;
            if !store.give_up_kept(set)? && !reclaim::make_room(&mut store, &self.pool, set)? {
                let error = reclaim::exhausted(&mut store, set, Code::TryAgain)?;
                return Err(error.context(format_args!("failed to allocate for range {index}")));
            }
        }
    }

    /// An attachment gets its addresses once.
    fn refuse_duplicate(&self, store: &mut Store, owner: &Owner) -> Result<()> {
        let mut leases = store.leases_of(owner)?;
        leases.extend(store.leases_of(&owner.without_interface())?);
        let Some(lease) = leases.first() else { return Ok(()) };
        let mut sets = self.plan.sets.iter();
        let index = sets.position(|set| lease.addresses.iter().any(|ip| set.contains(*ip)));
        Err(Error::internal(format!(
            "failed to allocate for range {}: {} has been allocated to {}, duplicate allocation is \
             not allowed",
            index.unwrap_or(0),
            reclaim::list(&lease.addresses),
            owner.container()
        ))
        .details(format!("{} needs a DEL before it can be added again", owner.ifname())))
    }

    /// The addresses that this pod had. It may come back after a reboot, when nobody has told yet
    /// that it went.
    fn wishes(&self, store: &mut Store, owner: &Owner, holder: &Holder) -> Result<Vec<IpAddr>> {
        let Some(key) = &holder.sticky else { return Ok(Vec::new()) };
        let Some(latest) = store.latest_of(owner, key)? else { return Ok(Vec::new()) };
        if self.pool.reclaim != Reclaim::Never
            && reclaim::is_of_earlier_boot(&latest, store.boot())
            && store.leases_of(&latest.owner)?.contains(&latest)
        {
            reclaim::end(store, &latest)?;
        }
        Ok(latest.addresses)
    }

    fn addresses_of(&self, attachment: &Attachment) -> Result<Vec<IpAddr>> {
        let Some(mut store) = Store::open(&self.pool)? else { return Ok(Vec::new()) };
        let leases = leases_of(&mut store, &Owner::from(attachment))?;
        Ok(leases.into_iter().flat_map(|lease| lease.addresses).collect())
    }

    /// Who asks, as it will be proven later that it is no more.
    fn holder(&self, request: &Add<'_>) -> Result<Holder> {
        let args = request.call.args()?;
        let pod = args.get("K8S_POD_NAMESPACE").zip(args.get("K8S_POD_NAME"));
        let pod = pod.map(|(space, name)| (space.to_owned(), name.to_owned()));
        let sticky = match self.pool.sticky {
            None => None,
            Some(Sticky::Pod) => pod.as_ref().map(|(space, name)| format!("{space}/{name}")),
            Some(Sticky::Name) => args.get("K8S_POD_NAME").map(str::to_owned),
        };
        let netns = request.netns.as_path();
        Ok(Holder {
            time: store::now(),
            boot: Some(store::boot_id()).filter(|boot| !boot.is_empty()),
            // A path without a namespace is for the plugin that configures it to complain about.
            inode: std::fs::metadata(netns).ok().map(|file| file.ino()),
            netns: netns.to_string_lossy().into_owned(),
            pod,
            sticky: sticky.filter(|key| !key.is_empty()),
            link: request.link.as_ref().map(ToString::to_string),
        })
    }
}

/// What the attachment holds; in files of old versions of the Go plugin it has no interface.
fn leases_of(store: &mut Store, owner: &Owner) -> Result<Vec<Lease>> {
    let leases = store.leases_of(owner)?;
    if leases.is_empty() { store.leases_of(&owner.without_interface()) } else { Ok(leases) }
}

fn delete_lease(pool: &Pool, owner: &Owner) -> Result<()> {
    let Some(mut store) = Store::open(pool)? else { return Ok(()) };
    let leases = leases_of(&mut store, owner)?;
    store.release(&leases)
}

fn sweep_leases(pool: &Pool, valid: &[Attachment]) -> Result<()> {
    let Some(mut store) = Store::open(pool)? else { return Ok(()) };
    let valid: HashSet<_> = valid.iter().map(Owner::from).collect();
    let containers: HashSet<_> = valid.iter().map(Owner::without_interface).collect();
    let stale = store.leases_where(|lease| {
        let is_valid = valid.contains(&lease.owner) || containers.contains(&lease.owner);
        // The list was made before its ADD was answered.
        !is_valid && !reclaim::is_young(lease, pool)
    })?;
    store.release(&stale)
}

fn main() -> ExitCode {
    common::run::<HostLocal>()
}
