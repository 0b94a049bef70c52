//! A throw-away host for programs that change one: made in milliseconds, gone when dropped.
//!
//! | module | what it is |
//! |---|---|
//! | [`bed`] | [`Testbed`]: a host with its own network, mounts and processes |
//! | [`place`] | [`Place`]: somewhere to stand - the host itself or one of its [`Sandbox`]es |
//! | [`traffic`] | servers and clients, to see packets arrive instead of believing a table |
//! | [`call`] | one call of one plugin, and what came of it |
//! | [`death`] | plugins that are killed, or whose system calls fail |
//! | [`network`] | a network configuration, used as a runtime uses it |
//! | [`bus`] | a system bus, and a firewalld on it that only remembers |
//! | [`double`] | plugins that are not: scripts that fail, reply or write down how they were called |
//! | [`snapshot`] | everything a plugin could have changed, as lines |
//! | [`leases`] | which addresses are held |
//! | [`programs`] | which binaries are under test |

#![expect(
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "a broken test host ends the test: a panic with its reason is the best it can do; \
              and a host runs programs and threads"
)]

pub mod bed;
pub mod bus;
pub mod call;
pub mod death;
pub mod double;
pub mod leases;
pub mod network;
pub mod place;
pub mod programs;
pub mod snapshot;
pub mod traffic;

pub use bed::Testbed;
pub use call::{Call, CniError, Outcome};
pub use death::{Death, Fault, step};
pub use network::Network;
pub use place::{Place, Sandbox};
pub use programs::{REFERENCE, bin_dir, is_later_reference, is_reference, later_reference};
pub use snapshot::Snapshot;
