//! What keys of the bridge plugin leave without effect. What they refuse, it says itself.

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
    fn what_has_no_effect_is_named() {
        let ipam = json!({"type": "host-local"});
        assert_eq!(findings(&json!({"isGateway": true, "ipMasq": true, "ipam": ipam})), [""; 0]);
        for (keys, wrong) in [
            (json!({"ipMasq": true}), "warning: ipMasq: it has no effect without `ipam`"),
            (json!({"isGateway": true, "ipam": {}}), "warning: isGateway: it has no effect"),
            (json!({"forceAddress": true, "ipam": ipam}), "warning: forceAddress: it has no"),
        ] {
            let found = findings(&keys);
            assert!(found[0].starts_with(wrong) && found.len() == 1, "{keys}: {found:?}");
        }
    }
}
