//! Keys that are understood, and mean nothing without another one.

use super::{Findings, Level, ipam_section, join};
use common::cni::json;
use serde_json::{Map, Value};

/// A key, and those of which it needs one.
const NEEDS: [(&str, &[&str]); 7] = [
    ("ipMasq", &["ipam"]),
    ("isGateway", &["ipam"]),
    ("isDefaultGateway", &["ipam"]),
    ("forceAddress", &["ipam"]),
    ("forceAddress", &["isGateway", "isDefaultGateway"]),
    ("ipMasqBackend", &["ipMasq"]),
    ("ipMasqExclude", &["ipMasq"]),
];

/// Looks at the keys of a plugin that knows `known`.
pub(super) fn check(keys: &Map<String, Value>, known: &[&str], at: &str, findings: &mut Findings) {
    let is_on = |key: &str| match json::get(keys, key) {
        _ if key == "ipam" => ipam_section(keys).is_some(),
        None => false,
        Some(Value::Bool(on)) => *on,
        Some(Value::String(word)) => !word.is_empty(),
        Some(_) => true,
    };
    let mut last = "";
    for (key, needed) in NEEDS {
        if key != last && known.contains(&key) && is_on(key) && !needed.iter().any(|key| is_on(key))
        {
            last = key;
            let needed = needed.first().copied().unwrap_or_default();
            let text = format!("it has no effect without `{needed}`");
            findings.add(Level::Warning, join(at, key), text);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn findings(keys: &Value) -> Vec<String> {
        let mut findings = Findings::default();
        let known = NEEDS.map(|(key, _)| key);
        check(keys.as_object().unwrap(), &known, "", &mut findings);
        findings.0.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn what_has_no_effect_is_named() {
        let ipam = json!({"type": "host-local"});
        assert_eq!(findings(&json!({"isGateway": true, "ipMasq": true, "ipam": ipam})), [""; 0]);
        for (keys, wrong) in [
            (json!({"ipMasq": true}), "warning: ipMasq: it has no effect without `ipam`"),
            (json!({"isGateway": true, "ipam": {}}), "warning: isGateway: it has no effect"),
            (json!({"forceAddress": true, "ipam": ipam}), "warning: forceAddress: it has no"),
            (
                json!({"forceAddress": true}),
                "warning: forceAddress: it has no effect without `ipam`",
            ),
            (json!({"ipMasqExclude": []}), "warning: ipMasqExclude: it has no effect"),
        ] {
            let found = findings(&keys);
            assert!(found[0].starts_with(wrong) && found.len() == 1, "{keys}: {found:?}");
        }
    }

    #[test]
    fn a_plugin_that_does_not_know_a_key_is_not_asked_about_it() {
        let mut findings = Findings::default();
        check(json!({"ipMasq": true}).as_object().unwrap(), &["mtu"], "", &mut findings);
        assert!(findings.0.is_empty());
    }
}
