//! Shared.
pub mod net;
