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
use crate::list::ConfigList;
use crate::living::Living;
use common::Result;
use common::cni::{Errors, Success, Version, json};
use serde_json::Value;
use std::fmt::{self, Display};

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// Pods do not have the network that they should have, or will not.
    Problem,
    /// Worth knowing.
    Note,
}

/// Something that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// How bad it is.
    pub level: Level,
    /// What it is, as a sentence.
    pub what: String,
    /// What to do.
    pub way_out: String,
}

impl Finding {
    fn problem(what: impl Into<String>, way_out: impl Into<String>) -> Self {
        Self { level: Level::Problem, what: what.into(), way_out: way_out.into() }
    }

    fn note(what: impl Into<String>, way_out: impl Into<String>) -> Self {
        Self { level: Level::Note, ..Self::problem(what, way_out) }
    }
}

impl Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let level = match self.level {
            Level::Problem => "PROBLEM",
            Level::Note => "note   ",
        };
        write!(f, "{level}  {}\n         {}", self.what, self.way_out)
    }
}

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
        let results = errors.note(self.results()).unwrap_or_default();
        findings.extend(errors.note(host::forwarding(&results)).unwrap_or_default());
        findings.extend(errors.note(host::bridges(self.lists)).unwrap_or_default());
        findings.extend(host::kernel());
        findings.extend(errors.note(filter::own(self.runtime)).unwrap_or_default());
        findings.extend(errors.note(filter::of_others()).unwrap_or_default());
        for list in self.lists {
            findings.extend(errors.note(addresses::of(list)).unwrap_or_default());
        }
        (findings, errors.into_result())
    }

    /// What ADD answered for those who live.
    fn results(&self) -> Result<Vec<Success>> {
        let living = Living::look()?;
        let living = self.runtime.cache.all()?.into_iter().filter(|cached| living.has(cached));
        let result = |cached: Cached| Success::decode(&cached.result, Version::V0_1_0).ok();
        Ok(living.filter_map(result).collect())
    }
}

/// The plugins of a type in a list: their keys.
fn of_type<'a>(list: &'a ConfigList, kind: &'static str) -> impl Iterator<Item = Keys<'a>> {
    list.plugins.iter().filter(move |plugin| plugin.kind == kind).map(|plugin| &plugin.keys)
}

type Keys<'a> = &'a serde_json::Map<String, Value>;

fn text<'a>(keys: Keys<'a>, key: &str) -> Option<&'a str> {
    json::get(keys, key).and_then(Value::as_str).filter(|text| !text.is_empty())
}
