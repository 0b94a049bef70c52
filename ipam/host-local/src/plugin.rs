//! The plugin: what each verb does.

use crate::allocator::{self, Choice, Known};
use crate::change::Refusal;
use crate::config::{self, Plan, Pool, Reclaim, StatusOnFull, Sticky};
use crate::log::Mark;
use crate::range::{Interval, RangeSet};
use crate::reclaim::{self, PassedOver};
use crate::record::{HostLink, Lease, Lessee, Origin};
use crate::store::{self, Store};
use common::attach::in_use::{self, Lookup, Use};
use common::cni::{Ip, report};
use common::{
    Add, Attachment, Call, Check, Code, Del, Error, Errors, Gc, Plugin, Result, Status, Success,
    Undo,
};
use std::collections::HashSet;
use std::net::IpAddr;
use std::os::unix::fs::MetadataExt as _;

/// How often somebody who takes no lock may come between our look at the directory and our write.
const ATTEMPTS: usize = 5;

/// The plugin.
#[derive(Debug)]
pub struct HostLocal {
    pool: Pool,
    plan: Plan,
}

impl Plugin for HostLocal {
    const NAME: &'static str = "host-local";
    const ABOUT: &'static str = "Hands out addresses from ranges of this node.";

    fn load(call: &Call) -> Result<Self> {
        let (pool, plan) = config::load(call)?;
        Ok(Self { pool, plan })
    }

    fn add(&self, request: &Add<'_>, undo: &mut Undo) -> Result<Success> {
        let dns = self.plan.read_dns()?;
        let origin = self.origin(request)?;
        let ips = self.create_lease(request, &origin, undo)?;
        Ok(Success { ips, routes: self.plan.routes.clone(), dns, ..Success::default() })
    }

    fn del(request: &Del<'_>, errors: &mut Errors) {
        let pool = Pool::load_tolerantly(&request.call.network);
        let lessee = Lessee::from(&request.attachment);
        let undoes = request.undoes.as_deref();
        let is_meant = |lease: &Lease| undoes.is_none() || lease.origin.add.as_deref() == undoes;
        errors.note(delete_leases(&pool, &lessee, is_meant));
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
        let full = match self.find_full_sets() {
            Ok(full) => full,
            // Whoever has the lock will let go of it.
            Err(error) if error.code() == Code::TryAgain => vec![error],
            Err(error) => return Err(error.unavailable()),
        };
        let mut errors = Errors::default();
        for error in full {
            errors.note(Err::<(), _>(error));
        }
        match (errors.into_result(), self.plan.status_on_full) {
            (Err(error), StatusOnFull::Fail) if error.code() == Code::Unavailable => Err(error),
            (Err(error), _) => {
                report(error);
                Ok(())
            }
            (Ok(()), _) => Ok(()),
        }
    }
}

/// A locked store as the choice of an address asks it, and what it has learned of this host.
struct Locked {
    store: Store,
    in_use: Lookup,
    passed_over: PassedOver,
}

impl Locked {
    fn new(store: Store, in_use: Lookup) -> Self {
        Self { store, in_use, passed_over: PassedOver::default() }
    }

    /// The error of a range set that has no free address.
    fn exhausted(&mut self, set: &RangeSet, code: Code) -> Result<Error> {
        reclaim::exhausted(&mut self.store, set, code, &self.passed_over)
    }
}

impl Known for Locked {
    fn is_held(&self, address: IpAddr) -> bool {
        self.store.mark_of(address).is_some_and(Mark::is_held)
    }

    fn first_free(&self, interval: Interval) -> Option<u128> {
        self.store.first_free(interval.first, interval.last)
    }

    fn last(&self, index: usize) -> Option<IpAddr> {
        self.store.last(index)
    }

    fn find_use(&self, address: IpAddr) -> Option<Use> {
        self.in_use.find(address)
    }

    fn pass_over(&mut self, address: IpAddr, found: &Use) {
        self.passed_over.push(address, found);
    }
}

impl HostLocal {
    fn create_lease(&self, request: &Add<'_>, origin: &Origin, undo: &mut Undo) -> Result<Vec<Ip>> {
        let lessee = Lessee::from(&request.attachment);
        let in_use = Lookup::within(request.segment.as_deref());
        let mut known = Locked::new(Store::create(&self.pool)?, in_use);
        for _ in 0..ATTEMPTS {
            let ips = self.choose(&mut known, &lessee, origin)?;
            let addresses: Vec<_> = ips.iter().map(|ip| ip.address.ip()).collect();
            let lease = Lease { addresses, lessee: lessee.clone(), origin: origin.clone() };
            match known.store.lease(&lease) {
                Ok(()) => {
                    let pool = self.pool.clone();
                    let what = format!("lease of {}", reclaim::list(&lease.addresses));
                    // Nothing else: a DEL and another ADD may have come before the rollback.
                    undo.push(what, move || delete_leases(&pool, &lessee, |other| *other == lease));
                    if !known.passed_over.is_empty() {
                        report(&known.passed_over);
                    }
                    return Ok(ips);
                }
                Err(Refusal::Changed) => known.store.rebuild()?,
                Err(Refusal::Failed(error)) => return Err(error),
            }
        }
        Err(Error::new(Code::TryAgain, "somebody else writes leases all along, without the lock"))
    }

    /// Addresses that are free, if need be after others have lost them.
    fn choose(&self, known: &mut Locked, lessee: &Lessee, origin: &Origin) -> Result<Vec<Ip>> {
        let mut wishes = self.end_lost(&mut known.store, lessee, origin)?;
        wishes.extend(self.wishes(&mut known.store, lessee, origin)?);
        loop {
            let index = match allocator::choose(&self.plan, known, &wishes)? {
                Choice::Ips(ips) => return Ok(ips),
                Choice::Exhausted(index) => index,
            };
            let set = self.plan.sets.get(index).ok_or_else(|| Error::internal("no such set"))?;
            let store = &mut known.store;
            if !store.give_up_kept(set)? && !reclaim::make_room(store, &self.pool, set)? {
                let error = known.exhausted(set, Code::TryAgain)?;
                return Err(error.context(format_args!("failed to allocate for range {index}")));
            }
        }
    }

    /// Ends what the attachment had before it was lost, and that it gets once more if it can: what
    /// others know it by is right then. An attachment that lives has its addresses, and gets no more.
    fn end_lost(&self, store: &mut Store, lessee: &Lessee, again: &Origin) -> Result<Vec<IpAddr>> {
        let mut leases = store.leases_of(lessee)?;
        leases.extend(store.leases_of(&lessee.without_interface())?);
        if let Some(lease) = leases.iter().find(|lease| !reclaim::is_lost(lease, again)) {
            return Err(self.duplicate(lease, lessee));
        }
        for lease in &leases {
            reclaim::end(store, lease)?;
        }
        Ok(leases.into_iter().flat_map(|lease| lease.addresses).collect())
    }

    fn duplicate(&self, lease: &Lease, lessee: &Lessee) -> Error {
        let mut sets = self.plan.sets.iter();
        let index = sets.position(|set| lease.addresses.iter().any(|ip| set.contains(*ip)));
        Error::internal(format!(
            "failed to allocate for range {}: {} has been allocated to {}, duplicate allocation is \
             not allowed",
            index.unwrap_or(0),
            reclaim::list(&lease.addresses),
            lessee.container()
        ))
        .details(format!("{} needs a DEL before it can be added again", lessee.ifname()))
    }

    /// The range sets without an address for the next ADD, as errors.
    fn find_full_sets(&self) -> Result<Vec<Error>> {
        let Some(store) = Store::open(&self.pool)? else { return Ok(Vec::new()) };
        store.check_writable()?;
        let (mut known, mut full) = (Locked::new(store, Lookup::new()), Vec::new());
        for set in &self.plan.sets {
            if allocator::is_exhausted(set, &known)
                && !known.store.is_any_kept(set)?
                && !reclaim::can_make_room(&mut known.store, &self.pool, set)?
            {
                full.push(known.exhausted(set, Code::Unavailable)?);
            }
        }
        Ok(full)
    }

    /// The addresses that this pod had. It may come back after a reboot, when nobody has told yet
    /// that it went.
    fn wishes(&self, store: &mut Store, lessee: &Lessee, origin: &Origin) -> Result<Vec<IpAddr>> {
        let Some(key) = &origin.sticky else { return Ok(Vec::new()) };
        let Some(latest) = store.latest_of(lessee, key)? else { return Ok(Vec::new()) };
        if self.pool.reclaim != Reclaim::Never
            && reclaim::is_of_earlier_boot(&latest, store.boot())
            && store.leases_of(&latest.lessee)?.contains(&latest)
        {
            reclaim::end(store, &latest)?;
        }
        Ok(latest.addresses)
    }

    fn addresses_of(&self, attachment: &Attachment) -> Result<Vec<IpAddr>> {
        let Some(mut store) = Store::open(&self.pool)? else { return Ok(Vec::new()) };
        let leases = leases_of(&mut store, &Lessee::from(attachment))?;
        Ok(leases.into_iter().flat_map(|lease| lease.addresses).collect())
    }

    /// Who asks, as it will be proven later that it is no more.
    fn origin(&self, request: &Add<'_>) -> Result<Origin> {
        let args = request.call.args()?;
        let pod = args.get("K8S_POD_NAMESPACE").zip(args.get("K8S_POD_NAME"));
        let pod = pod.map(|(space, name)| (space.to_owned(), name.to_owned()));
        let sticky = match self.pool.sticky {
            None => None,
            Some(Sticky::Pod) => pod.as_ref().map(|(space, name)| format!("{space}/{name}")),
            Some(Sticky::Name) => args.get("K8S_POD_NAME").map(str::to_owned),
        };
        let netns = request.netns.as_path();
        Ok(Origin {
            time: store::now(),
            boot: Some(store::boot_id()).filter(|boot| !boot.is_empty()),
            // A path without a namespace is for the plugin that configures it to complain about.
            inode: std::fs::metadata(netns).ok().map(|file| file.ino()),
            netns: netns.to_string_lossy().into_owned(),
            pod,
            sticky: sticky.filter(|key| !key.is_empty()),
            link: request
                .link
                .as_ref()
                .map(|link| HostLink { name: link.to_string(), netns: reclaim::own_netns() }),
            add: request.name.clone(),
        })
    }
}

/// What the attachment holds; in files of old versions of the Go plugin it has no interface.
fn leases_of(store: &mut Store, lessee: &Lessee) -> Result<Vec<Lease>> {
    let leases = store.leases_of(lessee)?;
    if leases.is_empty() { store.leases_of(&lessee.without_interface()) } else { Ok(leases) }
}

/// Ends those of an attachment's leases.
fn delete_leases(pool: &Pool, lessee: &Lessee, which: impl Fn(&Lease) -> bool) -> Result<()> {
    let Some(mut store) = Store::open(pool)? else { return Ok(()) };
    let mut leases = leases_of(&mut store, lessee)?;
    leases.retain(which);
    store.release(&leases)
}

fn sweep_leases(pool: &Pool, valid: &[Attachment]) -> Result<()> {
    let Some(mut store) = Store::open(pool)? else { return Ok(()) };
    let valid: HashSet<_> = valid.iter().map(Lessee::from).collect();
    let containers: HashSet<_> = valid.iter().map(Lessee::without_interface).collect();
    let stale = store.leases_where(|lease| {
        let is_valid = valid.contains(&lease.lessee) || containers.contains(&lease.lessee);
        let may_live = match reclaim::link_here(lease) {
            // Whoever made it has removed it before, if nothing spares the attachment.
            Some(link) => in_use::is_attachment_alive(link),
            // The list was made before the ADD of a young one was answered.
            None => reclaim::is_young(lease, pool),
        };
        !is_valid && !may_live
    })?;
    store.release(&stale)
}
