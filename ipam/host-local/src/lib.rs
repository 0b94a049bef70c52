//! host-local: addresses from ranges of this node, one lease file per network.
//!
//! The plugin is `plugin.rs`, which reads like the specification. The rest is what it does that with,
//! and what `cnitool leases` shows:
//!
//! | module | what it knows |
//! |---|---|
//! | `plugin` | [`HostLocal`] |
//! | [`config`] | JSON to [`Pool`](config::Pool), which says where the leases are, and [`Plan`](config::Plan), what to hand out |
//! | [`range`] | ranges and range sets: which addresses there are, in which order |
//! | [`allocator`] | the choice of an address |
//! | [`reclaim`] | whose lease may be ended to make room |
//! | [`store`] | the leases of a network, locked: what all others ask |
//! | [`change`] | how they are written down and ended |
//! | [`record`] | the lines of a lease file, as they are written |
//! | [`log`] | what a lease file says |
//! | [`table`] | a sorted table, in which the log has it |
//! | [`file`](mod@file) | a lease file as bytes |
//! | [`index`] | the derived file that makes a call fast |
//! | [`directory`] | the Go-compatible directory |
//! | [`reconcile`] | what follows when somebody else has changed that |
//! | [`lock`] | the lock on a network's directory |
//! | [`value`] | values of a configuration that are texts with a grammar |
//! | [`resolv`] | name servers for the result |

pub mod allocator;
pub mod change;
pub mod config;
pub mod directory;
pub mod file;
pub mod index;
pub mod lock;
pub mod log;
mod plugin;
pub mod range;
pub mod reclaim;
pub mod reconcile;
pub mod record;
pub mod resolv;
pub mod store;
pub mod table;
pub mod value;

pub use plugin::HostLocal;
