//! The leases of host-local: addresses from ranges of this node, one lease file per network.
//!
//! The plugin itself is `main.rs`, which reads like the specification. This library is what it
//! does that with, and what `cnitool leases` shows:
//!
//! | module | what it knows |
//! |---|---|
//! | [`config`] | JSON to [`Pool`](config::Pool), which says where the leases are, and [`Plan`](config::Plan), what to hand out |
//! | [`range`] | ranges and range sets: which addresses there are, in which order |
//! | [`allocator`] | the choice of an address |
//! | [`store`] | the lease file of a network, locked |
//! | [`log`] | what a lease file says |
//! | [`record`] | the lines of a lease file, as they are written |
//! | [`lock`] | the lock on a network's directory |
//! | [`resolv`] | name servers for the result |

pub mod allocator;
pub mod config;
pub mod lock;
pub mod log;
pub mod range;
pub mod record;
pub mod resolv;
pub mod store;
