//! STATUS over a list, and what versions its plugins speak.

use crate::chain::Runtime;
use crate::list::ConfigList;
use crate::request;
use common::cni::{Verb, Version, delegate};
use common::{Code, Error, Result};
use serde::Deserialize;

impl Runtime {
    /// Asks the plugins, in order, whether they could serve an ADD. Lists older than 1.1.0 do not
    /// know the question.
    ///
    /// # Errors
    /// That of the first plugin that could not, with its code.
    pub fn status(&self, list: &ConfigList) -> Result<()> {
        if !list.is_at_least(Version::V1_1_0)? {
            return Ok(());
        }
        list.plugins.iter().try_for_each(|plugin| {
            self.run(plugin, Verb::Status, None, &request::of_network(list, plugin))
        })
    }

    /// The versions that a plugin says it speaks.
    ///
    /// # Errors
    /// When it cannot be found or does not answer sensibly.
    pub fn versions(&self, kind: &str) -> Result<Vec<String>> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Answer {
            cni_version: String,
            #[serde(default)]
            supported_versions: Vec<String>,
        }
        let executable = delegate::find(kind, &self.path)?;
        // Plugins of the time of 0.1.0 look at these before they look at the command.
        let environment = [
            ("CNI_COMMAND", "VERSION"),
            ("CNI_CONTAINERID", ""),
            ("CNI_NETNS", "dummy"),
            ("CNI_IFNAME", "dummy"),
            ("CNI_ARGS", ""),
            ("CNI_PATH", "dummy"),
        ];
        let stdin = serde_json::json!({ "cniVersion": Version::V1_1_0.as_str() }).to_string();
        let stdout = match delegate::execute(&executable, &environment, stdin.as_bytes()) {
            Err(error) if error.to_string() == "unknown CNI_COMMAND: VERSION" => {
                return Ok(vec!["0.1.0".to_owned()]);
            }
            stdout => stdout?,
        };
        let nonsense = |reason: &dyn std::fmt::Display| {
            Error::new(Code::Decode, format!("{kind} answered VERSION with nonsense: {reason}"))
        };
        let answer: Answer = serde_json::from_slice(&stdout).map_err(|error| nonsense(&error))?;
        match answer {
            Answer { supported_versions, .. } if !supported_versions.is_empty() => {
                Ok(supported_versions)
            }
            Answer { cni_version, .. } if cni_version == "0.2.0" => {
                Ok(vec!["0.1.0".to_owned(), cni_version])
            }
            _ => Err(nonsense(&"supportedVersions is missing")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testbed::{Bed, list};

    const TWO: &str = r#"{"type": "a"}, {"type": "b"}"#;

    #[test]
    fn status_stops_at_the_first_no_and_keeps_its_code() {
        let bed = Bed::new(&["a", "b"]);
        let list = list("1.1.0", TWO);
        bed.runtime.status(&list).unwrap();
        assert_eq!(bed.calls(), ["a.STATUS", "b.STATUS"]);
        bed.temp.write("a.STATUS.fail", r#"{"code": 50, "msg": "no uplink"}"#);
        let error = bed.runtime.status(&list).unwrap_err();
        assert_eq!(error.code(), Code::Unavailable);
        assert_eq!(error.to_string(), "plugin type=\"a\" failed (status): no uplink");
        assert_eq!(bed.calls(), ["a.STATUS"]);
    }

    #[test]
    fn versions_of_old_plugins_are_guessed_from_how_they_answer() {
        let bed = Bed::new(&["p"]);
        assert_eq!(bed.runtime.versions("p").unwrap(), ["0.4.0", "1.0.0", "1.1.0"]);
        bed.temp.write("p.VERSION.out", r#"{"cniVersion": "0.2.0"}"#);
        assert_eq!(bed.runtime.versions("p").unwrap(), ["0.1.0", "0.2.0"]);
        bed.temp.write("p.VERSION.out", r#"{"cniVersion": "1.0.0"}"#);
        assert!(bed.runtime.versions("p").is_err());
        bed.temp.write("p.VERSION.fail", r#"{"code": 4, "msg": "unknown CNI_COMMAND: VERSION"}"#);
        assert_eq!(bed.runtime.versions("p").unwrap(), ["0.1.0"]);
        bed.temp.write("p.VERSION.fail", r#"{"code": 4, "msg": "other"}"#);
        assert!(bed.runtime.versions("p").is_err());
    }
}
