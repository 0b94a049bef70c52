//! Who may use a port of the host: conditions that the operator has set.
//!
//! A port with conditions has one more element, in the ACL map, which is looked up before all
//! others. It leads to a chain that all ports with the same conditions share. Packets that meet them
//! return from it to the other maps; all others are accepted there, untranslated.

use super::ruleset::CONDITIONS_PREFIX;
use common::attach::owner::digest;
use common::filter::elements::port_key;
use common::net::nft::{AddressField, Batch, Chain, Expr, Field, Table, Verdict};
use ipnetwork::IpNetwork;
use std::fmt::{self, Display};

/// What a packet has to meet. Its text, of which the chain's name is made, is much like nft(8)'s.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Condition {
    /// One of its addresses lies in one of these networks; or, if negated, in none.
    Address {
        /// Which of the two.
        of: AddressField,
        /// Of the table's family.
        networks: Vec<IpNetwork>,
        /// In none of them.
        is_negated: bool,
    },
    /// It came in by one of these interfaces, or by none.
    Input {
        /// Their names, as the kernel compares them: see [`Condition::input`].
        names: Vec<Vec<u8>>,
        /// By none of them.
        is_negated: bool,
    },
}

impl Condition {
    /// About interfaces; a last `*` stands for any characters.
    pub(crate) fn input<'a>(names: impl Iterator<Item = &'a str>, is_negated: bool) -> Self {
        let key = |name: &str| match name.strip_suffix('*') {
            Some(beginning) => beginning.as_bytes().to_vec(),
            None => port_key(name),
        };
        Self::Input { names: names.map(key).collect(), is_negated }
    }

    /// Lists of expressions, each of which suffices: a rule knows no "or".
    fn alternatives(&self) -> Vec<Vec<Expr<'_>>> {
        let (expressions, is_negated): (Vec<_>, _) = match self {
            Self::Address { of, networks, is_negated: false } => {
                (networks.iter().map(|network| Expr::Within(*of, *network)).collect(), false)
            }
            Self::Address { of, networks, is_negated: true } => {
                (networks.iter().map(|network| Expr::Outside(*of, *network)).collect(), true)
            }
            Self::Input { names, is_negated: false } => {
                (names.iter().map(|name| Expr::Is(Field::Input, name)).collect(), false)
            }
            Self::Input { names, is_negated: true } => {
                (names.iter().map(|name| Expr::IsNot(Field::Input, name)).collect(), true)
            }
        };
        if is_negated {
            return vec![expressions];
        }
        expressions.into_iter().map(|one| vec![one]).collect()
    }
}

impl Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (what, values, is_negated) = match self {
            Self::Address { of: AddressField::Source, networks, is_negated } => {
                ("saddr", networks.iter().map(ToString::to_string).collect(), is_negated)
            }
            Self::Address { of: AddressField::Destination, networks, is_negated } => {
                ("daddr", networks.iter().map(ToString::to_string).collect(), is_negated)
            }
            Self::Input { names, is_negated } => {
                let text = |name: &Vec<u8>| String::from_utf8_lossy(name).into_owned();
                ("iifname", names.iter().map(text).collect::<Vec<_>>(), is_negated)
            }
        };
        let operator = if *is_negated { "!=" } else { "==" };
        write!(f, "{what} {operator} {};", values.join(","))
    }
}

/// The name of the chain of these conditions: the same for everybody who has them.
pub(super) fn chain_name(conditions: &[Condition]) -> String {
    let text: String = conditions.iter().map(ToString::to_string).collect();
    format!("{CONDITIONS_PREFIX}{}", digest(text, 8))
}

/// Makes that chain.
pub(super) fn chain(batch: &mut Batch, table: Table<'_>, conditions: &[Condition]) {
    let name = chain_name(conditions);
    batch.empty_chain(&Chain::named(table, &name));
    // A rule for each combination of alternatives.
    let mut rules = vec![Vec::new()];
    for condition in conditions {
        let alternatives = condition.alternatives();
        let longer = rules.iter().flat_map(|rule: &Vec<Expr<'_>>| {
            alternatives.iter().map(move |more| [&rule[..], more].concat())
        });
        rules = longer.collect();
    }
    for mut rule in rules {
        rule.push(Expr::Verdict(Verdict::Return));
        batch.rule(table, &name, &rule, None);
    }
    batch.rule(table, &name, &[Expr::Verdict(Verdict::Accept)], None);
}
