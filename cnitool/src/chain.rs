//! ADD, DEL and CHECK over a list (specification, section "Lifecycle & Ordering").

use crate::attachment::{self, Target};
use crate::cache::Cache;
use crate::list::{ConfigList, PluginConfig};
use crate::request;
use common::cni::{Context as _, NetworkName, Success, Verb, Version, delegate, json, report};
use common::{Code, Error, Errors, Result};
use serde_json::Value;
use std::fmt::Display;
use std::path::{Path, PathBuf};

/// Where plugins are, and where results are kept.
#[derive(Clone, Debug)]
pub struct Runtime {
    /// `CNI_PATH`.
    pub path: Vec<PathBuf>,
    /// The results of earlier calls.
    pub cache: Cache,
}

impl Runtime {
    /// Attaches: runs the chain, each plugin with the answer of the one before it, and keeps the
    /// last answer, which it gives. If anything fails, DEL is run over the whole chain.
    ///
    /// An attachment that was there before is not deleted by an ADD that fails for that reason.
    ///
    /// # Errors
    /// That of the plugin. What DEL could not clean up is reported.
    pub fn add(&self, list: &ConfigList, target: &Target) -> Result<Value> {
        let executables = list.plugins.iter().map(|plugin| {
            delegate::find(&plugin.kind, &self.path).context(failed(plugin, Verb::Add))
        });
        // All of them, before one is run.
        let executables = executables.collect::<Result<Vec<_>>>()?;
        let known = self.cache.path(&list.name, &target.attachment);
        let was_attached = known.exists();
        let mut last = None;
        let added = self.add_each(list, target, &executables, &mut last);
        let Err(error) = added else { return last.ok_or_else(|| Error::config("no plugins")) };
        if was_attached {
            let netns = &target.netns;
            return Err(whole(&error).details(format!(
                "nothing was rolled back, because {} says that {netns} was attached as {} already; \
                 DEL removes that attachment",
                known.display(),
                target.attachment.ifname,
            )));
        }
        let prev_result = last.filter(|_| list.is_at_least(Version::V0_4_0).unwrap_or_default());
        for failure in self.del_each(list, target, prev_result.as_ref()) {
            tell(list, format!("cleaning up after an ADD that failed: {failure}"));
        }
        Err(error)
    }

    fn add_each(
        &self,
        list: &ConfigList,
        target: &Target,
        executables: &[PathBuf],
        last: &mut Option<Value>,
    ) -> Result<()> {
        for (plugin, executable) in list.plugins.iter().zip(executables) {
            let stdin = request::of_attachment(list, plugin, target, last.as_ref());
            let result = self
                .execute(executable, Verb::Add, Some(target), &stdin)
                .and_then(|stdout| answer(&stdout, list))
                .context(failed(plugin, Verb::Add))?;
            *last = Some(result);
        }
        let result = last.as_ref().ok_or_else(|| Error::config("no plugins in list"))?;
        let context = format!("failed to set network {:?} cached result", list.name.as_str());
        self.cache.write(list, target, result).context(context)
    }

    /// The attachment of an interface in a namespace for which no runtime has chosen a container
    /// ID. That depends on how the path was written when it was attached, so where there is none
    /// under the ID of this spelling, one of the same namespace is meant.
    ///
    /// # Errors
    /// Code 5 when the cache cannot be read.
    pub fn find(&self, network: &NetworkName, target: &Target) -> Result<Option<Target>> {
        let known = self.cache.path(network, &target.attachment);
        if known.symlink_metadata().is_ok() {
            return Ok(Some(target.clone()));
        }
        let netns = Path::new(&target.netns);
        let mut cached = self.cache.list(network)?.into_iter().map(|cached| cached.target);
        let found = cached.find(|other| {
            other.attachment.ifname == target.attachment.ifname
                && other.attachment.container.as_str().starts_with(attachment::PREFIX)
                && attachment::is_same_namespace(netns, Path::new(&other.netns))
        });
        Ok(found.map(|other| Target { attachment: other.attachment, ..target.clone() }))
    }

    /// Detaches: runs every plugin in reverse order, past those that fail, and forgets the result
    /// when none did. It works without one.
    ///
    /// # Errors
    /// Those of all plugins, as one.
    pub fn del(&self, list: &ConfigList, target: &Target) -> Result<()> {
        let cached = self.cache.read(&list.name, &target.attachment);
        let mut errors = Errors::default();
        let (mut prev_result, mut target) = (None, target.clone());
        match cached {
            Ok(Some(cached)) => {
                target = cached.complete(&target);
                if list.is_at_least(Version::V0_4_0)? {
                    let converted = cached.result_for(list);
                    prev_result = converted.map_err(|error| ignored(list, &error)).ok();
                }
            }
            Ok(None) => {}
            Err(error) => ignored(list, &error),
        }
        let failures = self.del_each(list, &target, prev_result.as_ref());
        if failures.is_empty() {
            errors.note(self.cache.remove(&list.name, &target.attachment));
        }
        for error in failures {
            errors.note(Err::<(), _>(error));
        }
        errors.into_result()
    }

    fn del_each(&self, list: &ConfigList, target: &Target, prev: Option<&Value>) -> Vec<Error> {
        let one = |plugin: &PluginConfig| {
            let stdin = request::of_attachment(list, plugin, target, prev);
            self.run(plugin, Verb::Del, Some(target), &stdin).err()
        };
        list.plugins.iter().rev().filter_map(one).collect()
    }

    /// Asks the plugins, in order, whether the attachment still is as ADD left it.
    ///
    /// # Errors
    /// That of the first plugin that says no; code 1 when the list's version has no CHECK.
    pub fn check(&self, list: &ConfigList, target: &Target) -> Result<()> {
        if !list.is_at_least(Version::V0_4_0)? {
            let version = &list.version;
            let msg =
                format!("configuration version {version:?} does not support the CHECK command");
            return Err(Error::new(Code::IncompatibleVersion, msg));
        }
        if list.disable_check {
            return Ok(());
        }
        let cached = self.cache.read(&list.name, &target.attachment)?;
        let target =
            cached.as_ref().map_or_else(|| target.clone(), |cached| cached.complete(target));
        let prev_result = cached.map(|cached| cached.result_for(list)).transpose()?;
        for plugin in &list.plugins {
            let stdin = request::of_attachment(list, plugin, &target, prev_result.as_ref());
            let checked = self.run(plugin, Verb::Check, Some(&target), &stdin);
            if prev_result.is_some() {
                checked?;
                continue;
            }
            let path = self.cache.path(&list.name, &target.attachment);
            checked.map_err(|error| {
                whole(&error).details(format!("there is no result of an ADD in {}", path.display()))
            })?;
        }
        Ok(())
    }

    /// Finds and runs one plugin; its error says which plugin and which verb.
    pub(crate) fn run(
        &self,
        plugin: &PluginConfig,
        verb: Verb,
        target: Option<&Target>,
        stdin: &Value,
    ) -> Result<()> {
        delegate::find(&plugin.kind, &self.path)
            .and_then(|executable| self.execute(&executable, verb, target, stdin))
            .map(drop)
            .context(failed(plugin, verb))
    }

    fn execute(
        &self,
        executable: &Path,
        verb: Verb,
        target: Option<&Target>,
        stdin: &Value,
    ) -> Result<Vec<u8>> {
        let environment = request::environment(verb, target, &self.path);
        let environment = environment.each_ref().map(|(key, value)| (*key, value.as_str()));
        delegate::execute(executable, &environment, stdin.to_string().as_bytes())
    }
}

/// The result that a plugin has printed, as it is, but for a version where it names none.
fn answer(stdout: &[u8], list: &ConfigList) -> Result<Value> {
    let nonsense = |error: &dyn Display| {
        Error::new(Code::Decode, format!("it answered with nonsense: {error}"))
    };
    let mut result: Value = serde_json::from_slice(stdout).map_err(|error| nonsense(&error))?;
    if !result.is_object() {
        return Err(nonsense(&"a result is a JSON object"));
    }
    if result["cniVersion"].as_str().is_none_or(str::is_empty) {
        let version = if list.version.is_empty() { "0.1.0" } else { &list.version };
        result["cniVersion"] = version.into();
    }
    Success::decode(&result, Version::V0_1_0).map_err(|error| nonsense(&error))?;
    Ok(result)
}

/// With its details in the sentence, where other sentences may follow.
fn whole(error: &Error) -> Error {
    Error::new(error.code(), error.to_string())
}

fn failed(plugin: &PluginConfig, verb: Verb) -> String {
    let verb = match verb {
        Verb::Del => "delete".to_owned(),
        verb => verb.as_str().to_ascii_lowercase(),
    };
    let name = json::get(&plugin.keys, "name").and_then(Value::as_str);
    let name = name.map(|name| format!(" name={name:?}")).unwrap_or_default();
    format!("plugin type={:?}{name} failed ({verb})", plugin.kind)
}

fn ignored(list: &ConfigList, error: &Error) {
    tell(list, format!("going on without the cached result: {error}"));
}

/// What the operator should know and what is no answer.
pub(crate) fn tell(list: &ConfigList, text: impl Display) {
    report(format!("cnitool: network {:?}: {text}", list.name.as_str()));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testbed::{Bed, list, target};
    use serde_json::json;

    const TWO: &str = r#"{"type": "a"}, {"type": "b"}"#;

    #[test]
    fn add_hands_each_answer_to_the_next_and_keeps_the_last() {
        let bed = Bed::new(&["a", "b"]);
        let list = list("1.0.0", TWO);
        let result = bed.runtime.add(&list, &target()).unwrap();
        assert_eq!(bed.calls(), ["a.ADD", "b.ADD"]);
        assert_eq!(result["dns"]["domain"], "b");
        assert_eq!(result["cniVersion"], "1.0.0");
        assert_eq!(bed.stdin("a.ADD").get("prevResult"), None);
        assert_eq!(bed.stdin("b.ADD")["prevResult"]["dns"]["domain"], "a");
        assert_eq!(bed.stdin("b.ADD")["prevResult"]["cniVersion"], "1.0.0");
        let path = bed.temp.path().display().to_string();
        assert_eq!(
            bed.temp.read("b.ADD.env"),
            format!(
                "CNI_ARGS=\nCNI_COMMAND=ADD\nCNI_CONTAINERID=c1\nCNI_IFNAME=eth0\n\
                 CNI_NETNS=/run/netns/a\nCNI_PATH={path}\n"
            )
        );
        let cached = bed.runtime.cache.read(&list.name, &target().attachment).unwrap().unwrap();
        assert_eq!((cached.result, cached.config), (result, list.bytes));
    }

    #[test]
    fn an_answer_keeps_its_own_version_and_what_we_do_not_know() {
        let bed = Bed::new(&["a"]);
        bed.temp.write("a.ADD.out", r#"{"cniVersion": "0.4.0", "ips": [], "new": 1}"#);
        let list = list("1.0.0", r#"{"type": "a"}"#);
        let result = bed.runtime.add(&list, &target()).unwrap();
        assert_eq!(result, json!({"cniVersion": "0.4.0", "ips": [], "new": 1}));
        bed.runtime.del(&list, &target()).unwrap();
        assert_eq!(bed.stdin("a.DEL")["prevResult"]["cniVersion"], "1.0.0");
    }

    #[test]
    fn an_add_that_fails_is_deleted_over_the_whole_chain() {
        let bed = Bed::new(&["a", "b", "c"]);
        bed.temp.write("b.ADD.fail", r#"{"code": 42, "msg": "no", "details": "why"}"#);
        bed.temp.write("c.DEL.fail", r#"{"code": 43, "msg": "not that either"}"#);
        let chain = format!("{TWO}, {}", r#"{"type": "c", "name": "third"}"#);
        let error = bed.runtime.add(&list("1.0.0", &chain), &target()).unwrap_err();
        assert_eq!(error.code(), Code::Other(42));
        assert_eq!(error.to_string(), "plugin type=\"b\" failed (add): no; why");
        assert_eq!(bed.calls(), ["a.ADD", "b.ADD", "c.DEL", "b.DEL", "a.DEL"]);
        assert_eq!(bed.stdin("a.DEL")["prevResult"]["dns"]["domain"], "a");
        assert!(!bed.is_cached());
    }

    #[test]
    fn an_answer_that_is_none_and_a_cache_that_cannot_be_written_fail_the_add() {
        let bed = Bed::new(&["a"]);
        let list = list("1.0.0", r#"{"type": "a"}"#);
        for answer in ["", "[]", "{", r#"{"cniVersion": "9.9.9"}"#] {
            bed.temp.write("a.ADD.out", answer);
            let error = bed.runtime.add(&list, &target()).unwrap_err().to_string();
            assert!(error.contains("it answered with nonsense: "), "{error}");
            assert_eq!(bed.calls(), ["a.ADD", "a.DEL"]);
        }
        bed.temp.write("a.ADD.out", "{}");
        bed.temp.write("cache", "no directory");
        let error = bed.runtime.add(&list, &target()).unwrap_err().to_string();
        assert!(error.starts_with("failed to set network \"n\" cached result: "), "{error}");
        assert_eq!(bed.calls(), ["a.ADD", "a.DEL"]);
    }

    #[test]
    fn a_second_add_that_fails_does_not_delete_the_first() {
        let bed = Bed::new(&["a"]);
        let list = list("1.0.0", r#"{"type": "a"}"#);
        bed.runtime.add(&list, &target()).unwrap();
        bed.temp.write("a.ADD.fail", r#"{"code": 999, "msg": "exists"}"#);
        let error = bed.runtime.add(&list, &target()).unwrap_err().to_string();
        assert!(error.contains("exists; nothing was rolled back"), "{error}");
        assert_eq!(bed.calls(), ["a.ADD", "a.ADD"]);
        assert!(bed.is_cached());
    }

    #[test]
    fn a_plugin_that_is_missing_fails_add_before_any_is_run() {
        let bed = Bed::new(&["a"]);
        let error = bed.runtime.add(&list("1.0.0", TWO), &target()).unwrap_err().to_string();
        assert!(error.starts_with("plugin type=\"b\" failed (add): failed to find plugin \"b\""));
        assert_eq!(bed.calls(), [""; 0]);
    }

    #[test]
    fn del_goes_backwards_with_the_final_result_and_forgets_it() {
        let bed = Bed::new(&["a", "b"]);
        let list = list("1.0.0", TWO);
        let mut with_args = target();
        with_args.args = vec![("K".into(), "v".into())];
        bed.runtime.add(&list, &with_args).unwrap();
        bed.calls();
        bed.runtime.del(&list, &target()).unwrap();
        assert_eq!(bed.calls(), ["b.DEL", "a.DEL"]);
        for call in ["a.DEL", "b.DEL"] {
            assert_eq!(bed.stdin(call)["prevResult"]["dns"]["domain"], "b");
        }
        assert!(bed.temp.read("a.DEL.env").contains("CNI_ARGS=K=v\n"));
        assert!(!bed.is_cached());
        bed.runtime.del(&list, &target()).unwrap();
        assert_eq!(bed.calls(), ["b.DEL", "a.DEL"]);
        assert_eq!(bed.stdin("a.DEL").get("prevResult"), None);
    }

    #[test]
    fn del_goes_past_failures_and_keeps_the_result_then() {
        let bed = Bed::new(&["a", "b"]);
        let list = list("1.0.0", &format!(r#"{TWO}, {{"type": "gone"}}"#));
        let result = json!({"cniVersion": "1.0.0"});
        bed.runtime.cache.write(&list, &target(), &result).unwrap();
        bed.temp.write("b.DEL.fail", r#"{"code": 42, "msg": "no"}"#);
        let error = bed.runtime.del(&list, &target()).unwrap_err().to_string();
        assert!(error.starts_with("plugin type=\"gone\" failed (delete): failed to find"));
        assert!(error.ends_with("; plugin type=\"b\" failed (delete): no"), "{error}");
        assert_eq!(bed.calls(), ["b.DEL", "a.DEL"]);
        assert!(bed.is_cached());
    }

    #[test]
    fn del_works_with_a_result_that_is_unreadable_or_too_new() {
        let bed = Bed::new(&["a"]);
        let list = list("1.0.0", r#"{"type": "a"}"#);
        for text in ["nonsense", r#"{"cniVersion": "9.9.9"}"#] {
            bed.temp.write("cache/results/n-c1-eth0", text);
            bed.runtime.del(&list, &target()).unwrap();
            assert_eq!(bed.stdin("a.DEL").get("prevResult"), None);
            assert!(!bed.is_cached());
        }
    }

    #[test]
    fn versions_before_0_4_0_get_no_result_and_no_check() {
        let bed = Bed::new(&["a"]);
        let list = list("0.3.1", r#"{"type": "a"}"#);
        bed.runtime.add(&list, &target()).unwrap();
        let error = bed.runtime.check(&list, &target()).unwrap_err();
        let msg = "configuration version \"0.3.1\" does not support the CHECK command";
        assert_eq!((error.code(), error.to_string()), (Code::IncompatibleVersion, msg.into()));
        bed.runtime.del(&list, &target()).unwrap();
        assert_eq!(bed.calls(), ["a.ADD", "a.DEL"]);
        assert_eq!(bed.stdin("a.DEL").get("prevResult"), None);
    }

    #[test]
    fn check_stops_at_the_first_no_and_may_be_disabled() {
        let bed = Bed::new(&["a", "b"]);
        let mut list = list("1.0.0", TWO);
        bed.runtime.add(&list, &target()).unwrap();
        bed.calls();
        bed.runtime.check(&list, &target()).unwrap();
        assert_eq!(bed.calls(), ["a.CHECK", "b.CHECK"]);
        assert_eq!(bed.stdin("a.CHECK")["prevResult"]["dns"]["domain"], "b");
        bed.temp.write("a.CHECK.fail", r#"{"code": 999, "msg": "gone"}"#);
        let error = bed.runtime.check(&list, &target()).unwrap_err().to_string();
        assert_eq!(error, "plugin type=\"a\" failed (check): gone");
        assert_eq!(bed.calls(), ["a.CHECK"]);
        bed.runtime.cache.remove(&list.name, &target().attachment).unwrap();
        let error = bed.runtime.check(&list, &target()).unwrap_err().to_string();
        assert!(error.contains("gone; there is no result of an ADD in "), "{error}");
        bed.temp.write("cache/results/n-c1-eth0", "nonsense");
        assert!(bed.runtime.check(&list, &target()).is_err());
        list.disable_check = true;
        bed.calls();
        bed.runtime.check(&list, &target()).unwrap();
        assert_eq!(bed.calls(), [""; 0]);
    }
}
