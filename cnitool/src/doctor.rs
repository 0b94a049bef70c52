//! What is wrong with this node, as far as pods' networks go, and what to do about it. Looks, and
//! touches nothing.
//!
//! | file | what it looks at |
//! |---|---|
//! | `host.rs` | forwarding, bridges, what the kernel can do |
//! | `filter.rs` | the packet filter: ours, and what others do to our packets |
//! | `addresses.rs` | leases |

mod addresses;
mod filter;
mod host;

use crate::cache::Cached;
use crate::chain::Runtime;
use crate::finding::Finding;
use crate::list::ConfigList;
use crate::living::Living;
use common::Result;
use common::attach::in_use::Lookup;
use common::cni::{Errors, Ip, Success, Version, json};
use common::net::Family;
use firewall::policy::Sender;
use serde_json::Value;

/// A node: its networks, and who is attached to them.
pub struct Node<'a> {
    /// The networks of the configuration directory.
    pub lists: &'a [ConfigList],
    /// Where results are kept.
    pub runtime: &'a Runtime,
}

impl Node<'_> {
    /// Looks at everything, past what cannot be looked at.
    ///
    /// # Errors
    /// What could not be looked at.
    pub fn examine(&self) -> (Vec<Finding>, Result<()>) {
        let (mut findings, mut errors) = (Vec::new(), Errors::default());
        let living = errors.note(Living::look());
        let pods = living.as_ref().map(|living| self.pods(living));
        let pods = pods.and_then(|pods| errors.note(pods)).unwrap_or_default();
        findings.extend(errors.note(host::forwarding(&pods)).unwrap_or_default());
        findings.extend(errors.note(host::bridges(self.lists)).unwrap_or_default());
        findings.extend(host::kernel());
        findings.extend(errors.note(filter::own(self.runtime)).unwrap_or_default());
        if let Some(living) = &living {
            let leftovers = filter::leftovers(self.runtime, self.lists, living);
            findings.extend(errors.note(leftovers).unwrap_or_default());
        }
        findings.extend(errors.note(filter::of_others(self.senders(pods))).unwrap_or_default());
        for list in self.lists {
            findings.extend(errors.note(addresses::of(list)).unwrap_or_default());
            if let Some(living) = &living {
                let leased = addresses::of_daemon(self.runtime, list, living);
                findings.extend(errors.note(leased).unwrap_or_default());
            }
        }
        (findings, errors.into_result())
    }

    /// Those who live and whose gateway is this host: their packets are forwarded by it.
    fn pods(&self, living: &Living) -> Result<Vec<Sender>> {
        let alive = self.runtime.cache.all()?.into_iter().filter(|cached| living.has(cached));
        let result = |cached: Cached| Success::decode(&cached.result, Version::V0_1_0).ok();
        let host = Lookup::new();
        Ok(alive.filter_map(result).flat_map(|result| senders(result, &host)).collect())
    }

    /// Where nobody is attached yet, somebody will be.
    fn senders(&self, pods: Vec<Sender>) -> Vec<Sender> {
        let forwards = |list: &ConfigList| of_type(list, "firewall").next().is_some();
        if pods.is_empty() && self.lists.iter().any(forwards) {
            return Family::ALL.map(Sender::anybody).into();
        }
        pods
    }
}

fn senders(result: Success, host: &Lookup) -> Vec<Sender> {
    let input = result.interfaces.iter().find(|interface| !interface.is_in_sandbox());
    let input = input.map(|interface| interface.name.clone());
    let sender = |ip: Ip| {
        let address = ip.address.ip();
        ip.gateway.is_some_and(|gateway| host.is_of_host(gateway)).then(|| Sender {
            family: Family::of(address),
            address: Some(address),
            input: input.clone(),
            is_marked: false,
        })
    };
    result.ips.into_iter().filter_map(sender).collect()
}

/// The plugins of a type in a list: their keys.
fn of_type<'a>(list: &'a ConfigList, kind: &'static str) -> impl Iterator<Item = Keys<'a>> {
    list.plugins.iter().filter(move |plugin| plugin.kind == kind).map(|plugin| &plugin.keys)
}

type Keys<'a> = &'a serde_json::Map<String, Value>;

fn text<'a>(keys: Keys<'a>, key: &str) -> Option<&'a str> {
    json::get(keys, key).and_then(Value::as_str).filter(|text| !text.is_empty())
}
