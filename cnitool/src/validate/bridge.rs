//! What keys of the bridge plugin exclude, need or leave without effect.

use super::walk::join;
use super::{Findings, Level};
use common::cni::json;
use serde_json::{Map, Value};

/// Checks the section of a bridge.
pub(super) fn check(keys: &Map<String, Value>, at: &str, findings: &mut Findings) {
    let is_on = |key| match json::get(keys, key) {
        Some(Value::Bool(on)) => *on,
        Some(Value::String(word)) => key == "ipMasq" && !word.is_empty(),
        _ => false,
    };
    let has_ipam = super::ipam_section(keys).is_some();
    if is_on("hairpinMode") && is_on("promiscMode") {
        let text = "cannot set hairpin mode and promiscuous mode at the same time";
        findings.add(Level::Error, join(at, "promiscMode"), text);
    }
    if has_ipam && is_on("disableContainerInterface") {
        let text = "cannot use IPAM when the container's interface is disabled";
        findings.add(Level::Error, join(at, "disableContainerInterface"), text);
    }
    for key in ["ipMasq", "isGateway", "isDefaultGateway", "forceAddress"] {
        if is_on(key) && !has_ipam {
            findings.add(Level::Warning, join(at, key), "it has no effect without `ipam`");
        }
    }
    if is_on("forceAddress") && has_ipam && !is_on("isGateway") && !is_on("isDefaultGateway") {
        let text = "it has no effect without `isGateway`";
        findings.add(Level::Warning, join(at, "forceAddress"), text);
    }
    for key in ["ipMasqBackend", "ipMasqExclude"] {
        if json::get(keys, key).is_some() && !is_on("ipMasq") {
            let text = "it has no effect without `ipMasq`";
            findings.add(Level::Warning, join(at, key), text);
        }
    }
    let trunk = json::get(keys, "vlanTrunk").and_then(Value::as_array);
    for (index, entry) in trunk.into_iter().flatten().enumerate() {
        if let Some(wrong) = entry.as_object().and_then(trunk_entry) {
            findings.add(Level::Error, format!("{}[{index}]", join(at, "vlanTrunk")), wrong);
        }
    }
}

fn trunk_entry(entry: &Map<String, Value>) -> Option<&'static str> {
    let id = |key| json::get(entry, key).and_then(Value::as_i64);
    match (id("minID"), id("maxID")) {
        (None, Some(_)) => Some("`maxID` needs a `minID`"),
        (Some(_), None) => Some("`minID` needs a `maxID`"),
        (Some(min), Some(max)) if min > max => Some("`minID` is greater than `maxID`"),
        (None, None) if id("id").is_none() => Some("it needs `id`, or `minID` and `maxID`"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn findings(keys: &Value) -> Vec<String> {
        let mut findings = Findings::default();
        check(keys.as_object().unwrap(), "", &mut findings);
        findings.0.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn what_excludes_each_other_or_has_no_effect_is_named() {
        let ipam = json!({"type": "host-local"});
        assert_eq!(findings(&json!({"isGateway": true, "ipMasq": true, "ipam": ipam})), [""; 0]);
        for (keys, wrong) in [
            (json!({"hairpinMode": true, "promiscMode": true}), "error: promiscMode: cannot set"),
            (
                json!({"disableContainerInterface": true, "ipam": ipam}),
                "error: disableContainerInterface: cannot use IPAM",
            ),
            (json!({"ipMasq": true}), "warning: ipMasq: it has no effect without `ipam`"),
            (json!({"isGateway": true, "ipam": {}}), "warning: isGateway: it has no effect"),
            (json!({"forceAddress": true, "ipam": ipam}), "warning: forceAddress: it has no"),
            (json!({"vlanTrunk": [{"minID": 1}]}), "error: vlanTrunk[0]: `minID` needs a"),
            (json!({"vlanTrunk": [{"minID": 2, "maxID": 1}]}), "error: vlanTrunk[0]: `minID` is"),
            (json!({"vlanTrunk": [{}]}), "error: vlanTrunk[0]: it needs `id`"),
        ] {
            let found = findings(&keys);
            assert!(found[0].starts_with(wrong) && found.len() == 1, "{keys}: {found:?}");
        }
    }
}
