//! What the recorded attachments have in the packet filter, made anew after somebody flushed it.

use crate::attachment::Target;
use crate::cache::Cached;
use crate::chain::Runtime;
use crate::list::{ConfigList, PluginConfig};
use crate::living::Living;
use crate::plugins;
use crate::request;
use common::Owner;
use common::cni::{Attachment, Context as _, Verb, Version};
use common::filter::restore::{Expected, External, Missing};
use common::{Result, Undo};
use serde_json::Value;

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
pub fn look(runtime: &Runtime) -> Result<Found> {
    let (mut all, mut attachments, mut unclear) = (Vec::new(), 0, Vec::new());
    // A container that is gone has taken its links with it, and what leads to it must not come back.
    let living = Living::look()?;
    for cached in runtime.cache.all()?.iter().filter(|cached| living.has(cached)) {
        match of_attachment(runtime, cached) {
            Ok(expected_state) if expected_state.is_empty() => {}
            Ok(expected_state) => {
                attachments += 1;
                all.extend(expected_state);
            }
            Err(error) => {
                let Attachment { container, ifname } = &cached.target.attachment;
                unclear.push(format!("container {container}, interface {ifname}: {error}"));
            }
        }
    }
    Ok(Found { missing: Missing::look(all)?, attachments, unclear })
}

fn of_attachment(runtime: &Runtime, cached: &Cached) -> Result<Vec<Expected>> {
    let list = ConfigList::parse(cached.config.clone())?;
    let result = cached.result_for(&list)?;
    let (target, mut all) = (&cached.target, Vec::new());
    for plugin in &list.plugins {
        let Some(expected_state) =
            plugins::find(&plugin.kind).and_then(|known| known.expected_state)
        else {
            continue;
        };
        let stdin = request::of_attachment(&list, plugin, target, Some(&result));
        let (bytes, attachment) = (stdin.to_string().into_bytes(), &target.attachment);
        let (found, uses_external_backend) =
            expected_state(bytes, attachment).context(&plugin.kind)?;
        all.extend(found);
        if uses_external_backend && list.is_at_least(Version::V0_4_0)? {
            let owner = target.attachment.owner(&cached.network);
            let (runtime, plugin, target) = (runtime.clone(), plugin.clone(), target.clone());
            let program = ByProgram { runtime, plugin, owner, target, stdin };
            all.push(Expected::External(Box::new(program)));
        }
    }
    Ok(all)
}

/// What only the plugin's own program knows how to ask for.
struct ByProgram {
    runtime: Runtime,
    plugin: PluginConfig,
    owner: Owner,
    target: Target,
    stdin: Value,
}

impl ByProgram {
    fn run(&self, verb: Verb) -> Result<()> {
        self.runtime.run(&self.plugin, verb, Some(&self.target), &self.stdin)
    }
}

impl External for ByProgram {
    fn verify(&self) -> Result<Vec<String>> {
        Ok(self.run(Verb::Check).err().into_iter().map(|error| error.to_string()).collect())
    }

    fn create(&self, _: &mut Undo) -> Result<()> {
        self.run(Verb::Add)?;
        if Living::look()?.everybody(&self.runtime)?.contains(&self.owner) {
            return Ok(());
        }
        // Its own DEL came before this ADD, and found nothing.
        self.run(Verb::Del)
    }
}
