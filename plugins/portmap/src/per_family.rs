//! Values that a configuration gives for IPv4 and for IPv6 apart.

use common::net::Family;

/// One for each address family.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct PerFamily<T> {
    pub(crate) v4: T,
    pub(crate) v6: T,
}

impl<T> PerFamily<T> {
    pub(crate) fn of(&self, family: Family) -> &T {
        match family {
            Family::V4 => &self.v4,
            Family::V6 => &self.v6,
        }
    }
}
