//! What attachments own in the packet filter.
//!
//! | module | job |
//! |---|---|
//! | [`elements`] | elements of shared sets and maps that attachments own |
//! | [`backend`] | whether they are in our own tables, or in those of iptables |
//! | [`masquerade`] | source NAT for an attachment |
//! | [`Filters`] | all that a main plugin's attachment may have, for DEL and GC |
//! | [`restore`] | what attachments have in the packet filter, made anew |
//! | [`legacy`] | what the Go plugins, and iptables, have left there |

pub mod backend;
pub mod elements;
mod filters;
pub mod legacy;
pub mod masquerade;
pub mod restore;

pub use backend::Backend;
pub use elements::Elements;
pub use filters::Filters;
pub use legacy::Legacy;
pub use masquerade::Masquerade;
