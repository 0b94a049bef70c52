//! Conditions in the words of nft(8): as much of its language as makes sense for a port of the host.

use crate::hostports::Condition;
use common::net::Family;
use common::net::nft::AddressField;
use common::{Error, Result};
use ipnetwork::IpNetwork;

/// A chain of more rules would slow down every connection, and is a mistake.
const MOST: usize = 64;

/// What the words of a key mean, in a table of the family.
///
/// # Errors
/// Code 7 for what is not understood, with what would be.
pub(crate) fn parse(key: &str, words: &[String], family: Family) -> Result<Vec<Condition>> {
    let text = words.join(" ");
    let spaced = ['{', '}', ',']
        .iter()
        .fold(text.clone(), |text, sign| text.replace(*sign, &format!(" {sign} ")));
    let mut words = spaced.split_whitespace().peekable();
    let mut conditions = Vec::new();
    while words.peek().is_some() {
        let condition = one(&mut words, family);
        conditions.push(condition.ok_or_else(|| not_understood(key, &text, family))?);
    }
    let count = |condition: &Condition| match condition {
        Condition::Address { networks, is_negated: false, .. } => networks.len(),
        Condition::Input { names, is_negated: false } => names.len(),
        _ => 1,
    };
    let rules = conditions.iter().map(count).try_fold(1_usize, usize::checked_mul);
    match rules {
        Some(rules) if rules <= MOST => Ok(conditions),
        _ => Err(Error::config(format!("{key}: {text:?} would be more than {MOST} rules"))
            .details("name larger networks")),
    }
}

/// What nft(8) calls the addresses of a family.
fn protocol(family: Family) -> &'static str {
    match family {
        Family::V4 => "ip",
        Family::V6 => "ip6",
    }
}

fn not_understood(key: &str, text: &str, family: Family) -> Error {
    let ip = protocol(family);
    Error::config(format!("{key}: {text:?} is not understood")).details(format!(
        "conditions are \"{ip} saddr\", \"{ip} daddr\" or \"iifname\", perhaps \"!=\", and one value or \
         {{ several, of, them }}"
    ))
}

fn one<'a>(words: &mut impl Iterator<Item = &'a str>, family: Family) -> Option<Condition> {
    let of = match words.next()? {
        "iifname" => None,
        "meta" => (words.next()? == "iifname").then_some(None)?,
        word if word == protocol(family) => Some(match words.next()? {
            "saddr" => AddressField::Source,
            "daddr" => AddressField::Destination,
            _ => return None,
        }),
        _ => return None,
    };
    let (is_negated, first) = match words.next()? {
        "!=" => (true, words.next()?),
        "==" => (false, words.next()?),
        first => (false, first),
    };
    let values = values(first, words)?;
    let Some(of) = of else {
        let names = values.iter().map(|name| name.trim_matches('"'));
        return names.clone().all(is_name).then(|| Condition::input(names, is_negated));
    };
    let networks: Vec<IpNetwork> =
        values.iter().map(|ip| ip.parse().ok()).collect::<Option<_>>()?;
    let is_of_family = networks.iter().all(|network| Family::of(network.ip()) == family);
    is_of_family.then_some(Condition::Address { of, networks, is_negated })
}

/// One value, or those between braces.
fn values<'a>(first: &'a str, words: &mut impl Iterator<Item = &'a str>) -> Option<Vec<&'a str>> {
    if first != "{" {
        return Some(vec![first]);
    }
    let mut values = vec![words.next()?];
    loop {
        match words.next()? {
            "}" => return Some(values),
            "," => values.push(words.next()?),
            _ => return None,
        }
    }
}

/// At most fifteen bytes, and a star at the end only (`IFNAMSIZ`).
fn is_name(name: &str) -> bool {
    let plain = name.strip_suffix('*').unwrap_or(name);
    !plain.is_empty() && plain.len() < 16 && !plain.contains(['*', '/', '{', '}', ','])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(words: &[&str]) -> Result<Vec<Condition>> {
        let words: Vec<_> = words.iter().map(|word| (*word).to_owned()).collect();
        parse("conditionsV4", &words, Family::V4)
    }

    #[test]
    fn words_may_be_cut_anywhere() {
        let whole = parsed(&["ip saddr != { 10.0.0.0/8, 192.0.2.1 } iifname \"eth*\""]).unwrap();
        let words = ["ip", "saddr", "!=", "{10.0.0.0/8,", "192.0.2.1}", "meta iifname", "eth*"];
        assert_eq!(parsed(&words).unwrap(), whole);
        let Condition::Address { of, networks, is_negated } = &whole[0] else {
            panic!("{whole:?}")
        };
        assert_eq!((*of, networks.len(), *is_negated), (AddressField::Source, 2, true));
        assert_eq!(whole[1], Condition::Input { names: vec![b"eth".to_vec()], is_negated: false });
        assert!(parsed(&[]).unwrap().is_empty());
    }

    #[test]
    fn what_is_not_understood_is_an_error() {
        let many = (0..65).map(|number| format!("10.0.0.{number}")).collect::<Vec<_>>().join(",");
        for words in [
            "ip",
            "ip saddr",
            "ip saddr {",
            "ip saddr { 10.0.0.1",
            "ip saddr { }",
            "ip6 saddr ::1",
            "ip saddr ::1",
            "tcp dport 80",
            "iifname eth0/x",
            "iifname *",
            "ip saddr 10.0.0.300",
            "ip saddr 10.0.0.1 or",
            &format!("ip saddr {{ {many} }}"),
        ] {
            let error = parsed(&[words]).unwrap_err();
            assert_eq!(error.code(), common::Code::InvalidConfig, "{words}");
        }
    }
}
