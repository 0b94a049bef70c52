//! A value compared with the table: unknown keys, keys in an odd case, wrong types.

use super::schema::{Key, Kind};
use super::{Findings, Level};
use crate::list::type_of;
use common::cni::Cidr;
use serde_json::{Map, Value};
use std::net::IpAddr;

/// Compares every key of an object with `known`; `owner` is who does not know the others.
pub(super) fn object(
    keys: &Map<String, Value>,
    known: &[&[Key]],
    owner: &str,
    at: &str,
    findings: &mut Findings,
) {
    let known = || known.iter().copied().flatten();
    for (key, inner) in keys {
        let path = join(at, key);
        // The runtime's own, and what people write because JSON has no comments.
        if key.starts_with("cni.dev/") || key.starts_with("//") {
            continue;
        }
        let Some((name, kind)) = known()
            .find(|(name, _)| name == key)
            .or_else(|| known().find(|(name, _)| name.eq_ignore_ascii_case(key)))
        else {
            let hint = suggestion(key, known().map(|(name, _)| *name));
            findings.add(Level::Warning, path, format!("{owner} does not know this key{hint}"));
            continue;
        };
        if name != key {
            findings.add(Level::Note, path.clone(), format!("it is usually written `{name}`"));
        }
        value(inner, *kind, owner, &path, findings);
    }
}

/// Compares a value with what it may be. `null` is the same as absent.
fn value(given: &Value, kind: Kind, owner: &str, at: &str, findings: &mut Findings) {
    if given.is_null() {
        return;
    }
    let wrong = match (kind, given) {
        (Kind::Any, _) | (Kind::Bool, Value::Bool(_)) | (Kind::Text, Value::String(_)) => None,
        (Kind::Bool, _) => Some("must be true or false".to_owned()),
        (Kind::Text, _) => Some("must be a string".to_owned()),
        (Kind::Int(min, max), number) => integer(number, min, max),
        (Kind::Word(words), Value::String(word)) => {
            let is_known = word.is_empty() || words.contains(&word.as_str());
            let hint = suggestion(word, words.iter().copied());
            let words = words.join(", ");
            (!is_known).then(|| format!("{word:?} is none of {words}{hint}"))
        }
        (Kind::Switch(_), Value::Bool(_)) => None,
        (Kind::Switch(words), given) => {
            let is_known = given.as_str().is_some_and(|word| words.contains(&word));
            (!is_known).then(|| format!("must be true, false or one of {}", words.join(", ")))
        }
        (Kind::Word(words), _) => Some(format!("must be one of {}", words.join(", "))),
        (Kind::Ip, Value::String(text)) => {
            let is_ip = text.is_empty() || text.parse::<IpAddr>().is_ok();
            (!is_ip).then(|| format!("invalid IP address: {text}"))
        }
        (Kind::Ip, _) => Some("must be an IP address in quotes".to_owned()),
        (Kind::Cidr, Value::String(text)) => text.parse::<Cidr>().err(),
        (Kind::Cidr, _) => {
            Some("must be an address with its length, as \"10.1.0.0/24\"".to_owned())
        }
        (Kind::List(kind), Value::Array(items)) => {
            for (index, item) in items.iter().enumerate() {
                value(item, *kind, owner, &format!("{at}[{index}]"), findings);
            }
            None
        }
        (Kind::List(_), _) => Some("must be a list".to_owned()),
        (Kind::Object(known), Value::Object(keys)) => {
            object(keys, &[known], owner, at, findings);
            None
        }
        (Kind::Map(kind), Value::Object(keys)) => {
            for (key, inner) in keys {
                value(inner, *kind, owner, &join(at, key), findings);
            }
            None
        }
        (Kind::Object(_) | Kind::Map(_), _) => Some("must be an object".to_owned()),
    };
    if let Some(wrong) = wrong {
        let is_same_type = matches!(kind, Kind::Word(_) | Kind::Switch(_) | Kind::Ip | Kind::Cidr)
            && given.is_string()
            || given.is_number();
        let found = if is_same_type { String::new() } else { format!(", not {}", type_of(given)) };
        findings.add(Level::Error, at.to_owned(), format!("{wrong}{found}"));
    }
}

fn integer(value: &Value, min: i64, max: i64) -> Option<String> {
    let Some(number) = value.as_i64() else {
        return Some(match value {
            Value::Number(number) => format!("must be a whole number, not {number}"),
            _ => "must be a number".to_owned(),
        });
    };
    let is_inside = (min..=max).contains(&number);
    (!is_inside).then(|| format!("{number} is not between {min} and {max}"))
}

/// The path of a key inside what is at `at`.
pub(super) fn join(at: &str, key: &str) -> String {
    if at.is_empty() { key.to_owned() } else { format!("{at}.{key}") }
}

/// `; did you mean ..?`, if something is close enough to be meant.
pub(super) fn suggestion(given: &str, known: impl Iterator<Item = &'static str>) -> String {
    let given = given.to_ascii_lowercase();
    let distance = |name: &str| strsim::damerau_levenshtein(&given, &name.to_ascii_lowercase());
    let closest = known.map(|name| (distance(name), name)).min();
    match closest {
        Some((distance, name)) if distance <= (name.len() / 3).max(1) => {
            format!("; did you mean `{name}`?")
        }
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::schema;
    use super::*;
    use serde_json::json;

    fn findings(keys: &Value, known: &[Key]) -> Vec<String> {
        let mut findings = Findings::default();
        object(keys.as_object().unwrap(), &[known], "p", "x", &mut findings);
        findings.0.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn unknown_keys_are_compared_with_known_ones() {
        let bridge = schema::plugin("bridge").unwrap().keys;
        let keys = json!({
            "isGatway": true, "hairpinmode": true, "somethingElse": 1, "cni.dev/x": 1, "mtu": null,
        });
        assert_eq!(
            findings(&keys, bridge),
            [
                "note: x.hairpinmode: it is usually written `hairpinMode`",
                "warning: x.isGatway: p does not know this key; did you mean `isGateway`?",
                "warning: x.somethingElse: p does not know this key",
            ]
        );
    }

    #[test]
    fn wrong_types_and_values_are_errors() {
        const KNOWN: &[Key] = &[
            ("a", Kind::Bool),
            ("b", Kind::Int(0, 9)),
            ("c", Kind::Word(&["nftables", "iptables"])),
            ("d", Kind::Cidr),
            ("e", Kind::List(&Kind::Ip)),
            ("f", Kind::Map(&Kind::Text)),
            ("g", Kind::Switch(&["v4", "v6"])),
        ];
        let good = json!({
            "a": true, "b": 9, "c": "", "d": "10.0.0.0/8", "e": ["::1", ""], "f": {"k": "v"},
            "g": "v4",
        });
        assert_eq!(findings(&good, KNOWN), [""; 0]);
        for (bad, reason) in [
            (json!({"a": "true"}), "x.a: must be true or false, not a string"),
            (json!({"g": "v5"}), "x.g: must be true, false or one of v4, v6"),
            (json!({"b": "1"}), "x.b: must be a number, not a string"),
            (json!({"b": 1.5}), "x.b: must be a whole number, not 1.5"),
            (json!({"b": 10}), "x.b: 10 is not between 0 and 9"),
            (
                json!({"c": "nftable"}),
                "x.c: \"nftable\" is none of nftables, iptables; did you mean `nftables`?",
            ),
            (json!({"e": ["1.2.3"]}), "x.e[0]: invalid IP address: 1.2.3"),
            (json!({"e": "::1"}), "x.e: must be a list, not a string"),
            (json!({"f": {"k": 1}}), "x.f.k: must be a string"),
        ] {
            assert_eq!(findings(&bad, KNOWN), [format!("error: {reason}")]);
        }
        assert!(findings(&json!({"d": "10.0.0.0"}), KNOWN)[0].contains("invalid CIDR address"));
    }
}
