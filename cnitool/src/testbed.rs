//! For tests: a throw-away directory, and plugins that write down what they were asked.

use crate::{Cache, ConfigList, Runtime, Target};
use serde_json::Value;
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

/// Removed when it is dropped.
pub(crate) struct Temp(PathBuf);

impl Temp {
    pub(crate) fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("cnitool-test-{}-{count}", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    pub(crate) fn write(&self, name: &str, text: &str) {
        let path = self.0.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    pub(crate) fn read(&self, name: &str) -> String {
        fs::read_to_string(self.0.join(name)).unwrap_or_default()
    }
}

impl Drop for Temp {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.0));
    }
}

/// A list named `n` of these plugins, separated by commas.
pub(crate) fn list(version: &str, plugins: &str) -> ConfigList {
    let text = format!(r#"{{"name": "n", "cniVersion": "{version}", "plugins": [{plugins}]}}"#);
    ConfigList::parse(text.into_bytes()).unwrap()
}

pub(crate) fn target() -> Target {
    Target::new(
        common::Attachment { container: "c1".parse().unwrap(), ifname: "eth0".parse().unwrap() },
        "/run/netns/a",
    )
}

/// What a plugin of the test bed does: `<name>.<VERB>.out` is its answer, `.fail` its error.
const PLUGIN: &str = r#"#!/bin/sh
dir=${0%/*} call=${0##*/}.$CNI_COMMAND
echo "$call" >> "$dir/log"
cat > "$dir/$call.stdin"
env | grep -E "^CNI_(COMMAND|CONTAINERID|NETNS|IFNAME|ARGS|PATH)=" | sort > "$dir/$call.env"
if [ -e "$dir/$call.fail" ]; then cat "$dir/$call.fail"; exit 1; fi
if [ -e "$dir/$call.out" ]; then cat "$dir/$call.out"; exit 0; fi
case $CNI_COMMAND in
ADD) echo '{"ips": [{"address": "10.1.0.2/24"}], "dns": {"domain": "'"${0##*/}"'"}}' ;;
VERSION) echo '{"cniVersion": "1.1.0", "supportedVersions": ["0.4.0", "1.0.0", "1.1.0"]}' ;;
esac
"#;

/// A directory of plugins, and a runtime that uses them.
pub(crate) struct Bed {
    pub(crate) temp: Temp,
    pub(crate) runtime: Runtime,
}

impl Bed {
    pub(crate) fn new(plugins: &[&str]) -> Self {
        // Written once: a test that starts a process while another one writes its script would
        // hand on the open file, and an open file cannot be executed.
        static SCRIPT: OnceLock<PathBuf> = OnceLock::new();
        let script = SCRIPT.get_or_init(|| {
            let path = std::env::current_exe().unwrap().with_file_name("cnitool-test-plugin");
            let new = path.with_extension(std::process::id().to_string());
            fs::write(&new, PLUGIN).unwrap();
            fs::set_permissions(&new, fs::Permissions::from_mode(0o755)).unwrap();
            fs::rename(&new, &path).unwrap();
            path
        });
        let temp = Temp::new();
        for plugin in plugins {
            symlink(script, temp.path().join(plugin)).unwrap();
        }
        let path = vec![temp.path().to_owned()];
        let cache = Cache::new(temp.path().join("cache"));
        Self { temp, runtime: Runtime { path, cache } }
    }

    /// The calls since the last time.
    pub(crate) fn calls(&self) -> Vec<String> {
        let log = self.temp.read("log");
        drop(fs::remove_file(self.temp.path().join("log")));
        log.lines().map(str::to_owned).collect()
    }

    pub(crate) fn stdin(&self, call: &str) -> Value {
        serde_json::from_str(&self.temp.read(&format!("{call}.stdin"))).unwrap()
    }

    pub(crate) fn is_cached(&self) -> bool {
        self.temp.path().join("cache/results/n-c1-eth0").exists()
    }
}
