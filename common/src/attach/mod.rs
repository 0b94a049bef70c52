//! An attachment on this host: what knows both the protocol and the kernel.
//!
//! | module | job |
//! |---|---|
//! | [`site`] | one attachment's place: host, container, owner |
//! | [`owner`] | whose an object in the kernel is, as it is written beside it |
//! | [`ipam`] | the IPAM plugin, or none |
//! | [`layer3`] | the keys that every network with addresses has |
//! | [`sandbox`] | the two sides, and a result applied to the container's |
//! | [`veth`] | a veth pair between them; [`host_end`] what its end in the host tells |
//! | [`link`] | a link of the container that has no other end |
//! | [`link_keys`] | the keys about links that several plugins have |
//! | [`forwarding`] | whether the host forwards for its containers |
//! | [`kept`] | what garbage collection leaves alone |
//! | [`in_use`] | which addresses live on this host, whatever any record says |

pub mod forwarding;
pub mod host_end;
pub mod in_use;
pub mod ipam;
pub mod kept;
pub mod layer3;
pub mod link;
pub mod link_keys;
pub mod owner;
pub mod sandbox;
pub mod site;
pub mod veth;

pub use ipam::Ipam;
pub use kept::Kept;
pub use layer3::Layer3;
pub use link::ContainerLink;
pub use owner::Owner;
pub use sandbox::{Host, Sandbox};
pub use site::Site;
pub use veth::Veth;
