//! A lease of either family, as those see it who keep leases.

use crate::lease::{self, Term};
use crate::v6;
use common::Success;
use common::net::since_boot;
use serde::{Deserialize, Serialize};
use std::net::IpAddr;

/// What a server leases.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum DhcpVersion {
    V4,
    V6,
}

/// What one has leased.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Grant {
    V4(lease::Lease),
    V6(v6::lease::Lease),
}

impl Grant {
    pub(crate) fn family(&self) -> DhcpVersion {
        match self {
            Self::V4(_) => DhcpVersion::V4,
            Self::V6(_) => DhcpVersion::V6,
        }
    }

    pub(crate) fn address(&self) -> IpAddr {
        match self {
            Self::V4(lease) => lease.address.into(),
            Self::V6(lease) => lease.address.into(),
        }
    }

    pub(crate) fn term(&self) -> &Term {
        match self {
            Self::V4(lease) => &lease.term,
            Self::V6(lease) => &lease.term,
        }
    }

    /// Ends it before its time.
    pub(crate) fn end(&mut self) {
        match self {
            Self::V4(lease) => lease.term.end(),
            Self::V6(lease) => lease.term.end(),
        }
    }

    /// Whether it still stands.
    pub(crate) fn is_valid(&self) -> bool {
        self.term().expiry.is_none_or(|expiry| since_boot() < expiry)
    }

    /// As an IPAM plugin answers; `priority` is that of every route, and 0 is none.
    pub(crate) fn success(&self, priority: u32) -> Success {
        match self {
            Self::V4(lease) => lease.success(priority),
            Self::V6(lease) => lease.success(),
        }
    }
}
