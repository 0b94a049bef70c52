//! What a plugin gets: a configuration on stdin (specification, section "Deriving execution
//! configuration from plugin configuration") and the environment.

use crate::attachment::Target;
use crate::list::{ConfigList, PluginConfig};
use common::cni::{Attachment, Verb};
use serde_json::{Map, Value, json};
use std::path::PathBuf;

/// For a verb that is about an attachment: with what the plugins before it, or all of them, have
/// answered, and with the runtime's data for the capabilities that it has.
pub fn of_attachment(
    list: &ConfigList,
    plugin: &PluginConfig,
    target: &Target,
    prev_result: Option<&Value>,
) -> Value {
    let mut keys = of_any(list, plugin);
    if let Some(result) = prev_result {
        set(&mut keys, "prevResult", result.clone());
    }
    let given = plugin
        .capabilities()
        .filter_map(|name| Some((name.to_owned(), target.capability_args.get(name)?.clone())));
    let given: Map<_, _> = given.collect();
    // What is written in the configuration stays unless the runtime has something to say.
    if !given.is_empty() {
        set(&mut keys, "runtimeConfig", given.into());
    }
    Value::Object(keys)
}

/// For STATUS.
pub fn of_network(list: &ConfigList, plugin: &PluginConfig) -> Value {
    Value::Object(of_any(list, plugin))
}

/// For GC: with the attachments that are alive, under the name that the specification gives them
/// and under the one of plugins that are older than it.
pub fn of_gc(list: &ConfigList, plugin: &PluginConfig, valid: &[Attachment]) -> Value {
    let mut keys = of_any(list, plugin);
    let entry = |attachment: &Attachment| {
        let (container, ifname) = (attachment.container.as_str(), attachment.ifname.as_str());
        json!({ "containerID": container, "ifname": ifname })
    };
    let valid: Value = valid.iter().map(entry).collect();
    set(&mut keys, "cni.dev/attachments", valid.clone());
    set(&mut keys, "cni.dev/valid-attachments", valid);
    Value::Object(keys)
}

fn of_any(list: &ConfigList, plugin: &PluginConfig) -> Map<String, Value> {
    let mut keys = plugin.keys.clone();
    // Theirs is the runtime's side only.
    keys.retain(|key, _| !key.eq_ignore_ascii_case("capabilities"));
    set(&mut keys, "name", list.name.as_str().into());
    set(&mut keys, "cniVersion", list.version.as_str().into());
    keys
}

/// Also replaces the key as written in another case, which a plugin could prefer.
fn set(keys: &mut Map<String, Value>, key: &str, value: Value) {
    keys.retain(|other, _| !other.eq_ignore_ascii_case(key));
    keys.insert(key.to_owned(), value);
}

/// Every `CNI_*` variable: what does not apply is empty, lest a plugin sees what was set for us.
pub fn environment(
    verb: Verb,
    target: Option<&Target>,
    path: &[PathBuf],
) -> [(&'static str, String); 6] {
    let of_target = |value: fn(&Target) -> String| target.map(value).unwrap_or_default();
    let path: Vec<_> = path.iter().map(|directory| directory.to_string_lossy()).collect();
    let args = |target: &Target| {
        let pairs = target.args.iter().map(|(key, value)| format!("{key}={value}"));
        pairs.collect::<Vec<_>>().join(";")
    };
    [
        ("CNI_COMMAND", verb.to_string()),
        ("CNI_CONTAINERID", of_target(|target| target.attachment.container.to_string())),
        ("CNI_NETNS", of_target(|target| target.netns.clone())),
        ("CNI_IFNAME", of_target(|target| target.attachment.ifname.to_string())),
        ("CNI_ARGS", of_target(args)),
        ("CNI_PATH", path.join(":")),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testbed::{list, target};

    fn stdin(plugin: &str, prev_result: Option<&Value>) -> Value {
        let list = list("1.1.0", plugin);
        let mut target = target();
        target.capability_args = serde_json::from_str(r#"{"mac": "m", "ips": ["i"]}"#).unwrap();
        of_attachment(&list, &list.plugins[0], &target, prev_result)
    }

    #[test]
    fn capabilities_that_are_on_and_given_become_the_runtime_config() {
        let plugin = r#"{"type": "p", "k": 12345678901234567890,
            "Capabilities": {"mac": true, "ips": false, "dns": true}}"#;
        assert_eq!(
            stdin(plugin, None),
            json!({"name": "n", "cniVersion": "1.1.0", "type": "p", "k": 12345678901234567890u64,
                "runtimeConfig": {"mac": "m"}})
        );
    }

    #[test]
    fn no_runtime_config_without_a_capability_but_what_is_written() {
        assert_eq!(stdin(r#"{"type": "p"}"#, None).get("runtimeConfig"), None);
        let written = r#""runtimeConfig": {"a": 1}"#;
        assert_eq!(stdin(&format!(r#"{{"type": "p", {written}}}"#), None)["runtimeConfig"]["a"], 1);
        let both = format!(r#"{{"type": "p", {written}, "capabilities": {{"mac": true}}}}"#);
        assert_eq!(stdin(&both, None)["runtimeConfig"], json!({"mac": "m"}));
    }

    #[test]
    fn what_the_runtime_sets_replaces_what_is_written_in_any_case() {
        let plugin = r#"{"type": "p", "NAME": "x", "cniversion": "0.1.0", "prevresult": {}}"#;
        let result = json!({"ips": []});
        assert_eq!(
            stdin(plugin, Some(&result)),
            json!({"name": "n", "cniVersion": "1.1.0", "type": "p", "prevResult": {"ips": []}})
        );
    }

    #[test]
    fn gc_names_the_living_twice() {
        let list = list("1.1.0", r#"{"type": "p"}"#);
        let stdin = of_gc(&list, &list.plugins[0], &[target().attachment]);
        let valid = json!([{"containerID": "c1", "ifname": "eth0"}]);
        assert_eq!(stdin["cni.dev/valid-attachments"], valid);
        assert_eq!(stdin["cni.dev/attachments"], valid);
        let stdin = of_gc(&list, &list.plugins[0], &[]);
        assert_eq!(stdin["cni.dev/valid-attachments"], json!([]));
    }

    #[test]
    fn the_environment_is_complete_and_empty_where_nothing_applies() {
        let path = ["/a".into(), "/b".into()];
        let mut target = target();
        target.args = vec![("A".into(), "1".into()), ("B".into(), "2".into())];
        let values = environment(Verb::Add, Some(&target), &path).map(|(_, value)| value);
        assert_eq!(values, ["ADD", "c1", "/run/netns/a", "eth0", "A=1;B=2", "/a:/b"]);
        let values = environment(Verb::Gc, None, &path).map(|(_, value)| value);
        assert_eq!(values, ["GC", "", "", "", "", "/a:/b"]);
    }
}
