//! What the plugin and the daemon say to each other: one line of JSON each, on a connection of their
//! own. Empty lines before the answer say that the daemon is still at it.

use crate::options::Options;
use common::cni::{Attachment, NetworkName};
use common::{Error, Success};
use serde::{Deserialize, Serialize};
use std::fmt::{self, Display};
use std::path::PathBuf;
use std::time::Duration;

/// Where the daemon listens, unless it is told otherwise.
pub const SOCKET: &str = "/run/cni/dhcp.sock";

/// How often the daemon says that it is still at it.
pub const HEARTBEAT: Duration = Duration::from_secs(3);

/// A daemon that is silent for so long is taken for dead.
pub const SILENCE: Duration = Duration::from_secs(15);

/// No line is longer, in bytes: GC lists every container of a node.
pub const LINE: u64 = 16 << 20;

/// What the plugin wants.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "verb", rename_all = "lowercase")]
pub enum Request {
    /// A lease.
    Add(Order),
    /// The end of one.
    Del {
        /// Of which attachment.
        id: Id,
        /// Only if this ADD has made it.
        undoes: Option<String>,
    },
    /// What the lease is.
    Check {
        /// Of which attachment.
        id: Id,
    },
    /// The end of those that nobody needs.
    Gc {
        /// On which network.
        network: String,
        /// Those that stay: container and interface.
        valid: Vec<(String, String)>,
        /// In seconds: younger leases stay as well.
        grace_age: u64,
    },
    /// Whether an ADD could be served.
    Status,
}

/// The lease that an ADD wants.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Order {
    /// For which attachment.
    pub id: Id,
    /// The container's namespace, an absolute path.
    pub netns: PathBuf,
    /// The name of the ADD, which no other has: [`Add::name`](common::Add::name).
    pub add: String,
    /// What is told to the server and asked of it.
    pub options: Options,
    /// The priority of every route; 0 leaves it to the kernel.
    pub priority: u32,
    /// Whether an IPv4 address is wanted.
    pub ipv4: bool,
    /// Where an IPv6 address comes from; `None` if none is wanted.
    pub ipv6: Option<Ipv6Source>,
}

/// Where an IPv6 address comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Ipv6Source {
    /// A DHCPv6 server.
    Dhcp,
    /// The interface itself, which appends to the prefix of a router (RFC 4862).
    Slaac,
    /// The one or the other, as the router says.
    Auto,
}

/// What the daemon answers.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Reply {
    /// It is done; with the addresses, where a lease was asked for.
    Done(Option<Success>),
    /// It is not.
    Failed(Error),
}

/// An attachment.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Id {
    /// The container's ID.
    pub container: String,
    /// The network's name.
    pub network: String,
    /// The interface in the container.
    pub ifname: String,
}

impl Id {
    /// That of an attachment to a network.
    pub fn new(attachment: &Attachment, network: &NetworkName) -> Self {
        let Attachment { container, ifname } = attachment;
        Self {
            container: container.to_string(),
            network: network.to_string(),
            ifname: ifname.to_string(),
        }
    }

    /// The client identifier by which the server knows it (option 61), the same for ever: a type that
    /// says that it is no hardware address, and the text that the Go plugin has as well.
    pub fn identifier(&self) -> Vec<u8> {
        let text = self.to_string();
        [0].into_iter().chain(text.bytes().take(254)).collect()
    }
}

impl Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.container, self.network, self.ifname)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_client_identifier_is_that_of_the_go_plugin() {
        let id = |container: &str| Id {
            container: container.into(),
            network: "lan".into(),
            ifname: "eth0".into(),
        };
        assert_eq!(id("c1").identifier(), b"\0c1/lan/eth0");
        assert_eq!(id(&"c".repeat(300)).identifier().len(), 255);
    }
}
