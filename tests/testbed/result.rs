//! What stands in the result of an ADD.

use serde_json::Value;

/// The addresses of a result in CIDR notation, whatever version it is written in.
#[must_use]
pub fn cidrs(result: &Value) -> Vec<String> {
    let listed = result["ips"].as_array().into_iter().flatten().map(|ip| &ip["address"]);
    let old = ["ip4", "ip6"].into_iter().map(|family| &result[family]["ip"]);
    listed.chain(old).filter_map(Value::as_str).map(str::to_owned).collect()
}

/// The addresses of a result without the lengths of their prefixes.
#[must_use]
pub fn addresses(result: &Value) -> Vec<String> {
    let bare = |cidr: String| cidr.split('/').next().unwrap_or_default().to_owned();
    cidrs(result).into_iter().map(bare).collect()
}
