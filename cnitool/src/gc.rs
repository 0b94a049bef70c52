//! GC over a list.

use crate::chain::{Runtime, tell};
use crate::list::{ConfigList, PluginConfig};
use crate::request;
use common::cni::{Attachment, Context as _, Verb, Version, json};
use common::{Errors, Result};
use serde_json::Value;

impl Runtime {
    /// Removes what belongs to no valid attachment: DEL for each one that the cache knows and that
    /// is not in `valid`, then GC for what only the plugins know, also of a list older than that
    /// verb where the plugins know it. Carries on after an error.
    ///
    /// # Errors
    /// All of them, as one.
    pub fn gc(&self, list: &ConfigList, valid: &[Attachment]) -> Result<()> {
        if list.disable_gc {
            tell(list, "nothing was collected: its configuration says disableGC");
            return Ok(());
        }
        let mut errors = Errors::default();
        let cached = errors.note(self.cache.list(&list.name)).unwrap_or_default();
        for stale in cached.iter().filter(|cached| !valid.contains(&cached.target.attachment)) {
            let Attachment { container, ifname } = &stale.target.attachment;
            let deleted = self.del(list, &stale.target);
            let context = format!("failed to delete stale attachment {container} {ifname}");
            errors.note(deleted.context(context));
        }
        let has_gc = list.is_at_least(Version::V1_1_0)?;
        let newer = ConfigList { version: Version::V1_1_0.as_str().to_owned(), ..list.clone() };
        let called = if has_gc { list } else { &newer };
        for plugin in &list.plugins {
            if !has_gc && let Some(reason) = self.why_no_gc(plugin) {
                tell(list, format!("plugin {} was not asked for GC: {reason}", plugin.kind));
                continue;
            }
            let stdin = request::of_gc(called, plugin, valid);
            let collected = self.run(plugin, Verb::Gc, None, &stdin);
            errors.note(collected.context(format!("failed to GC plugin {}", plugin.kind)));
        }
        errors.into_result()
    }

    /// Why a plugin, or the one that it delegates to, has no GC. One that cannot be asked has
    /// something to say when it is run.
    fn why_no_gc(&self, plugin: &PluginConfig) -> Option<String> {
        let ipam = json::get(&plugin.keys, "ipam").and_then(Value::as_object);
        let ipam = ipam.and_then(|ipam| json::get(ipam, "type")).and_then(Value::as_str);
        [Some(plugin.kind.as_str()), ipam].into_iter().flatten().find_map(|kind| {
            let versions = self.versions(kind).ok()?;
            let knows_it = versions.iter().any(|version| version == Version::V1_1_0.as_str());
            let newest = versions.last().cloned().unwrap_or_default();
            (!knows_it).then(|| {
                format!("{kind} knows the protocol up to {newest}, and GC came with 1.1.0")
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use crate::testbed::{Bed, list, target};
    use serde_json::json;

    const TWO: &str = r#"{"type": "a"}, {"type": "b"}"#;

    /// The calls that are more than a question for versions.
    fn asked(bed: &Bed) -> Vec<String> {
        bed.calls().into_iter().filter(|call| !call.ends_with("VERSION")).collect()
    }

    #[test]
    fn gc_deletes_what_is_not_valid_and_then_asks_the_plugins() {
        let bed = Bed::new(&["a", "b"]);
        let mut list = list("1.1.0", TWO);
        let target = target();
        bed.runtime.add(&list, &target).unwrap();
        bed.calls();

        list.disable_gc = true;
        bed.runtime.gc(&list, &[]).unwrap();
        assert_eq!(bed.calls(), [""; 0]);

        list.disable_gc = false;
        bed.runtime.gc(&list, std::slice::from_ref(&target.attachment)).unwrap();
        assert_eq!(bed.calls(), ["a.GC", "b.GC"]);
        let valid = json!([{"containerID": "c1", "ifname": "eth0"}]);
        assert_eq!(bed.stdin("b.GC")["cni.dev/valid-attachments"], valid);

        bed.runtime.gc(&list, &[]).unwrap();
        assert_eq!(bed.calls(), ["b.DEL", "a.DEL", "a.GC", "b.GC"]);
        assert!(bed.temp.read("a.DEL.env").contains("CNI_NETNS=/run/netns/a\n"));
        assert!(bed.temp.read("a.GC.env").contains("CNI_CONTAINERID=\n"));
        assert!(!bed.is_cached());
    }

    #[test]
    fn gc_carries_on_and_names_everything_that_failed() {
        let bed = Bed::new(&["a", "b"]);
        let list = list("1.1.0", TWO);
        bed.runtime.add(&list, &target()).unwrap();
        bed.temp.write("b.DEL.fail", r#"{"code": 1, "msg": "stuck"}"#);
        bed.temp.write("a.GC.fail", r#"{"code": 1, "msg": "busy"}"#);
        let error = bed.runtime.gc(&list, &[]).unwrap_err().to_string();
        assert_eq!(
            error,
            "failed to delete stale attachment c1 eth0: plugin type=\"b\" failed (delete): stuck; \
             failed to GC plugin a: plugin type=\"a\" failed (gc): busy"
        );
        assert_eq!(bed.calls()[2..], ["b.DEL", "a.DEL", "a.GC", "b.GC"]);
    }

    #[test]
    fn before_1_1_0_gc_is_for_plugins_that_know_it_and_status_is_silence() {
        let bed = Bed::new(&["a", "b"]);
        let list = list("1.0.0", r#"{"type": "a", "ipam": {"type": "b"}}, {"type": "b"}"#);
        bed.runtime.add(&list, &target()).unwrap();
        bed.runtime.gc(&list, &[]).unwrap();
        bed.runtime.status(&list).unwrap();
        assert_eq!(asked(&bed), ["a.ADD", "b.ADD", "b.DEL", "a.DEL", "a.GC", "b.GC"]);
        assert_eq!(bed.stdin("a.GC")["cniVersion"], "1.1.0");
        let old = r#"{"cniVersion": "1.0.0", "supportedVersions": ["1.0.0"]}"#;
        bed.temp.write("a.VERSION.out", old);
        bed.runtime.gc(&list, &[]).unwrap();
        assert_eq!(asked(&bed), ["b.GC"]);
        bed.temp.write("b.VERSION.out", old);
        bed.temp.write("a.VERSION.out", r#"{"supportedVersions": ["1.1.0"], "cniVersion": "1"}"#);
        bed.runtime.gc(&list, &[]).unwrap();
        assert_eq!(
            asked(&bed),
            [""; 0],
            "nor if it would have to ask another that does not know it"
        );
    }
}
