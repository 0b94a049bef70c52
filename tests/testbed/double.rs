//! Scripts in the place of plugins, found before the real ones.

use serde_json::Value;

use crate::bed::Testbed;

/// The first directory of every `CNI_PATH`.
pub const DIR: &str = "/run/test/plugins";

impl Testbed {
    /// Puts an executable script where plugins are looked for first.
    pub fn script(&self, name: &str, text: &str) {
        // Not written by us: a thread that forks while our file is open for writing would keep
        // it busy, and it could not be executed.
        let store = r#"mkdir -p "${1%/*}" && cat > "$1" && chmod 755 "$1""#;
        let path = format!("{DIR}/{name}");
        let stored = self.feed("sh", &["-c", store, "sh", &path], text.as_bytes());
        assert!(stored.status.success(), "store {path}: {stored:?}");
    }

    /// A plugin that answers ADD with `reply` and writes down how it is called:
    /// see [`Testbed::recorded`].
    pub fn recorder(&self, name: &str, reply: &Value) {
        let text = format!(
            "#!/bin/sh\n\
             config=$(cat | tr -d '\\n')\n\
             printf '%s %s\\n' \"$CNI_COMMAND\" \"$config\" >> {DIR}/{name}.log\n\
             if [ \"$CNI_COMMAND\" = ADD ]; then printf '%s' '{reply}'; fi\n"
        );
        self.script(name, &text);
    }

    /// How the recorder `name` was called: verb and configuration, first call first.
    #[must_use]
    pub fn recorded(&self, name: &str) -> Vec<(String, Value)> {
        let log = self.file(format!("{DIR}/{name}.log"));
        let calls = std::fs::read_to_string(log).unwrap_or_default();
        let call = |line: &str| {
            let (verb, config) = line.split_once(' ').expect("a verb and a configuration");
            (verb.to_owned(), serde_json::from_str(config).expect("a configuration is JSON"))
        };
        calls.lines().map(call).collect()
    }
}
