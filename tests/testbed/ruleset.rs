//! How much there is in nftables.

use serde_json::Value;

use crate::bed::Testbed;

/// How many rules, and how many elements of sets and maps, there are.
#[must_use]
pub fn census(bed: &Testbed) -> (usize, usize) {
    let text = bed.succeed("nft", &["-j", "list", "ruleset"]);
    let ruleset: Value = serde_json::from_str(&text).expect("nft prints JSON");
    let objects = ruleset["nftables"].as_array().expect("nft prints a list of objects");
    let elements = |kind: &str| -> usize {
        let sets = objects.iter().filter_map(|object| object.get(kind));
        sets.filter_map(|set| set.get("elem")?.as_array().map(Vec::len)).sum()
    };
    let rules = objects.iter().filter(|object| object.get("rule").is_some()).count();
    (rules, elements("set") + elements("map"))
}

/// How many rules there are.
#[must_use]
pub fn rules(bed: &Testbed) -> usize {
    census(bed).0
}
