//! What the recorded attachments have in the packet filter, made anew after somebody flushed it.

use crate::cache::{Cache, Cached};
use crate::list::ConfigList;
use crate::request;
use common::cni::{Attachment, Context as _, Success, Version};
use common::restore::{Holding, Missing, holdings};
use common::{Result, in_use};

/// What was found.
pub struct Found {
    /// What is not there of what should be.
    pub missing: Missing,
    /// How many attachments live and have something in the packet filter.
    pub attachments: usize,
    /// Attachments of which that cannot be told, as sentences.
    pub unclear: Vec<String>,
}

/// Compares what the attachments in the cache should have with what there is.
///
/// # Errors
/// Code 5 when the cache cannot be read; when the kernel cannot be asked.
pub fn look(cache: &Cache) -> Result<Found> {
    let (mut all, mut attachments, mut unclear) = (Vec::new(), 0, Vec::new());
    for cached in cache.all()?.iter().filter(|cached| is_living(cached)) {
        match of_attachment(cached) {
            Ok(holdings) if holdings.is_empty() => {}
            Ok(holdings) => {
                attachments += 1;
                all.extend(holdings);
            }
            Err(error) => {
                let Attachment { container, ifname } = &cached.target.attachment;
                unclear.push(format!("container {container}, interface {ifname}: {error}"));
            }
        }
    }
    Ok(Found { missing: Missing::look(all)?, attachments, unclear })
}

/// Whether the links that the host got for it are there. A container that is gone has taken its
/// own with it, and what leads to it must not come back.
pub(crate) fn is_living(cached: &Cached) -> bool {
    let Ok(result) = Success::decode(&cached.result, Version::V0_1_0) else { return true };
    let mut of_host = result.interfaces.iter().filter(|interface| !interface.is_in_sandbox());
    of_host.all(|interface| in_use::has_link(&interface.name))
}

fn of_attachment(cached: &Cached) -> Result<Vec<Holding>> {
    let list = ConfigList::parse(cached.config.clone())?;
    let result = cached.result_for(&list)?;
    let (target, mut all) = (&cached.target, Vec::new());
    for plugin in &list.plugins {
        let stdin = request::of_attachment(&list, plugin, target, Some(&result)).to_string();
        let (stdin, attachment) = (stdin.into_bytes(), &target.attachment);
        let found = match plugin.kind.as_str() {
            "bridge" => holdings::<bridge::Bridge>(stdin, attachment),
            "firewall" => holdings::<firewall::Filter>(stdin, attachment),
            "portmap" => holdings::<portmap::Portmap>(stdin, attachment),
            _ => Ok(Vec::new()),
        };
        all.extend(found.context(&plugin.kind)?);
    }
    Ok(all)
}
