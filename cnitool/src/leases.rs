//! The leases of host-local, for people: who has which address, and what nobody will give back.
//!
//! | file | what it does |
//! |---|---|
//! | `table.rs` | a list that fits a terminal |
//! | `stats.rs` | how full the ranges are, also for Prometheus |
//! | `repair.rs` | ends leases, on demand or because nobody can hold them |
//! | `watch.rs` | tells what happens as it happens |

mod repair;
mod stats;
mod table;
mod watch;

pub use repair::{Repair, Selector, release, repair};
pub use stats::{Stats, prometheus, stats, write_atomically};
pub use table::{count, table};
pub use watch::watch;

use crate::directory;
use crate::list::{ConfigList, PluginConfig};
use crate::plugins::{self, Role};
use crate::request;
use common::cni::{Attachment, Context as _, Network, NetworkName};
use common::{Error, Result};
use host_local::config::{Plan, Pool};
use host_local::reclaim::State;
use host_local::record::Lease;
use host_local::store::{Store, now};
use serde::Serialize;
use std::io::ErrorKind;
use std::path::Path;

/// Where host-local keeps its networks unless it is told otherwise.
const DATA_DIR: &str = "/var/lib/cni/networks";

/// A network whose addresses host-local hands out.
#[derive(Debug)]
pub struct Leased {
    /// Its name.
    pub name: NetworkName,
    /// Where its leases are.
    pub pool: Pool,
    /// Its ranges; none if there are leases, and no configuration (any more), or if they are flanneld's
    /// to give.
    pub plan: Plan,
    /// Whether a configuration has it.
    pub is_configured: bool,
}

/// The networks of a configuration directory, and those that have leases and no configuration; or
/// the one of this name. What cannot be read is told in the second list.
///
/// # Errors
/// Code 5 when a directory cannot be read, 7 when there is no network of this name.
pub fn networks(
    configurations: &Path,
    name: Option<&NetworkName>,
) -> Result<(Vec<Leased>, Vec<Error>)> {
    let (mut found, mut broken) = (Vec::<Leased>::new(), Vec::new());
    for file in directory::files(configurations)? {
        match directory::load(&file).and_then(|list| of_list(&list)) {
            Ok(Some(leased)) if !found.iter().any(|other| other.name == leased.name) => {
                found.push(leased);
            }
            Ok(_) => {}
            Err(error) => broken.push(error),
        }
    }
    for leased in without_configuration()? {
        if !found.iter().any(|other| other.pool.directory == leased.pool.directory) {
            found.push(leased);
        }
    }
    let Some(name) = name else { return Ok((found, broken)) };
    found.retain(|leased| leased.name == *name);
    if found.is_empty() {
        let msg = format!("no network {:?} with addresses of host-local", name.as_str());
        let directory = configurations.display();
        return Err(Error::config(msg)
            .details(format!("neither a configuration in {directory} nor {DATA_DIR} has it")));
    }
    Ok((found, broken))
}

/// The network, if host-local is its IPAM plugin.
///
/// # Errors
/// Code 7.
pub fn of_list(list: &ConfigList) -> Result<Option<Leased>> {
    let is_meta = |plugin: &PluginConfig| {
        plugins::find(&plugin.kind).is_some_and(|known| known.role == Role::Meta)
    };
    let uses_host_local = |plugin: &&PluginConfig| {
        plugin.ipam_kind().map_or(is_meta(plugin), |kind| kind == "host-local")
    };
    let Some(plugin) = list.plugins.iter().find(uses_host_local) else { return Ok(None) };
    let mut config = request::of_network(list, plugin);
    if is_meta(plugin) && config["ipam"].is_null() {
        config["ipam"] = serde_json::json!({});
    }
    let network = Network::parse(config.to_string().into_bytes())?;
    let version = if list.version.is_empty() { "0.1.0" } else { &list.version };
    let pool = Pool::load(&network)?;
    let plan = match is_meta(plugin) {
        true => Plan::default(),
        false => Plan::read(&network, version.parse()?)?,
    };
    Ok(Some(Leased { name: list.name.clone(), pool, plan, is_configured: true }))
}

fn without_configuration() -> Result<Vec<Leased>> {
    let entries = match std::fs::read_dir(DATA_DIR) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.context(format_args!("cannot read {DATA_DIR}"))?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry.context(format_args!("cannot read {DATA_DIR}"))?;
        let name = entry.file_name().to_str().and_then(|name| name.parse::<NetworkName>().ok());
        let Some(name) = name.filter(|_| entry.path().is_dir()) else { continue };
        let config = serde_json::json!({"name": name.as_str(), "ipam": {}}).to_string();
        let pool = Pool::load(&Network::parse(config.into_bytes())?)?;
        found.push(Leased { name, pool, plan: Plan::default(), is_configured: false });
    }
    found.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(found)
}

/// A lease, and what can be told about its holder. As JSON it is stable: keys may be added.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Entry {
    /// The network's name.
    pub network: String,
    /// All that it holds.
    pub addresses: Vec<std::net::IpAddr>,
    /// The container's ID; empty if nobody knows it.
    pub container: String,
    /// The interface's name; empty if nobody knows it.
    pub ifname: String,
    /// Namespace and name of the pod, with a slash between.
    pub pod: Option<String>,
    /// When it was made, in seconds since 1970.
    pub since: u64,
    /// How long ago that was, in seconds.
    pub age: u64,
    /// `lives`, `unknown`, `path gone`, `namespace gone`, `link gone`, `earlier boot` or `nobody's`.
    pub state: &'static str,
    /// Path of the network namespace; empty if nobody knows it.
    pub netns: String,
    /// The link of the host that goes with the namespace.
    pub link: Option<String>,
}

impl Entry {
    fn new(network: &NetworkName, lease: &Lease, state: State) -> Self {
        let holder = &lease.origin;
        Self {
            network: network.to_string(),
            addresses: lease.addresses.clone(),
            container: lease.lessee.container(),
            ifname: lease.lessee.ifname(),
            pod: holder.pod.as_ref().map(|(space, name)| format!("{space}/{name}")),
            since: holder.time,
            age: now().saturating_sub(holder.time),
            state: name_of(state),
            netns: holder.netns.clone(),
            link: holder.link.as_ref().map(|link| link.name.clone()),
        }
    }
}

fn name_of(state: State) -> &'static str {
    match state {
        State::Lives => "lives",
        State::Unknown => "unknown",
        State::PathGone => "path gone",
        State::NetnsGone => "namespace gone",
        State::LinkGone => "link gone",
        State::EarlierBoot => "earlier boot",
        State::Nobodys => "nobody's",
    }
}

/// Every lease of a network, sorted by address. Changes nothing.
///
/// # Errors
/// Code 5, 6 and 11, as of host-local itself.
pub fn list(leased: &Leased) -> Result<Vec<Entry>> {
    let leases = states(leased)?;
    Ok(leases.iter().map(|(lease, state)| Entry::new(&leased.name, lease, *state)).collect())
}

/// The attachments that have leases and of which it is not proven that they are gone.
///
/// # Errors
/// As [`list`].
pub fn attachments(leased: &Leased) -> Result<Vec<Attachment>> {
    let is_gone = |state: State| state.is_proven_gone() || state == State::Nobodys;
    let attachment = |lease: &Lease| {
        let (container, ifname) = (lease.lessee.container(), lease.lessee.ifname());
        Some(Attachment { container: container.parse().ok()?, ifname: ifname.parse().ok()? })
    };
    let leases = states(leased)?;
    let alive = leases.iter().filter(|(_, state)| !is_gone(*state));
    Ok(alive.filter_map(|(lease, _)| attachment(lease)).collect())
}

fn states(leased: &Leased) -> Result<Vec<(Lease, State)>> {
    let Some(mut store) = Store::look(&leased.pool)? else { return Ok(Vec::new()) };
    let (mut leases, boot) = (store.leases()?, store.boot().to_owned());
    // What follows needs no lock.
    drop(store);
    leases.sort_by_key(|lease| lease.addresses.first().copied());
    let state = |lease: Lease| {
        let state = State::of(&lease, &boot);
        (lease, state)
    };
    Ok(leases.into_iter().map(state).collect())
}
