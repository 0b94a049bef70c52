//! An attachment on this host: the layer that uses both the protocol ([`cni`](crate::cni)) and the
//! kernel ([`net`](crate::net)).
//!
//! | module | job |
//! |---|---|
//! | [`site`] | one attachment's place: host, container, owner |
//! | [`owner`] | the owner of an object in the kernel, as its alias or comment names it |
//! | [`ipam`] | the IPAM plugin, or none |
//! | [`layer3`] | the keys that every network with addresses has |
//! | [`sandbox`] | the two sides, and a result applied to the container's |
//! | `readdress` | what an interface in use gets when its addresses change |
//! | [`routers`] | what the container's interface takes from the routers of its segment |
//! | `settings` | the kernel settings of the container's interface |
//! | [`veth`] | a veth pair between them; [`host_end`]: the name and the alias of its end in the host |
//! | [`link`] | a link of the container that has no other end, as a macvlan |
//! | [`tap`] | a link of the container whose other end is a program |
//! | [`adopt`] | a link of the host that a container has; [`record`]: what it was on the host, [`records`]: where that is kept |
//! | [`running`] | the ADDs and DELs that are running |
//! | [`lock`] | the lock of a container's namespace, or of a directory |
//! | [`master`] | the link below such a link |
//! | [`link_keys`] | the keys about links that several plugins have |
//! | [`forwarding`] | whether the host forwards for its containers |
//! | [`kept`] | what garbage collection leaves alone |
//! | [`in_use`] | which addresses live on this host, whatever the lease file says |
//!
//! What only one plugin needs is in that plugin. `adopt`, `record` and `records` are the exception: only
//! `host-device` uses them, but they are made of what only this layer has, as the kernel's own words for
//! addresses and the running ADDs of others.

pub mod adopt;
pub mod forwarding;
pub mod host_end;
pub mod in_use;
pub mod ipam;
pub mod kept;
pub mod layer3;
pub mod link;
pub mod link_keys;
pub mod lock;
pub mod master;
pub mod owner;
mod readdress;
pub mod record;
pub mod records;
pub mod routers;
pub mod running;
pub mod sandbox;
mod settings;
pub mod site;
pub mod tap;
pub mod veth;

pub use ipam::Ipam;
pub use kept::Kept;
pub use layer3::Layer3;
pub use link::ContainerLink;
pub use master::Master;
pub use owner::Owner;
pub use records::Records;
pub use sandbox::{Host, Sandbox};
pub use site::Site;
pub use tap::ContainerTap;
pub use veth::Veth;
