//! What the plugins share.
//!
//! Three layers, and no more:
//!
//! | module | layer | what it knows |
//! |---|---|---|
//! | [`cni`] | the protocol | environment, stdin, stdout, results, errors, delegates; no kernel |
//! | [`net`] | the kernel | namespaces, links, addresses, routes, packet filter; no CNI |
//! | [`sandbox`] | the joints | a CNI result applied to an interface of the container |
//! | [`veth`] | | a veth pair between host and container |
//! | [`firewall`] | | what of an attachment is forwarded, and what is kept from it |
//! | [`hostports`] | | ports of the host that lead to an attachment |
//! | [`masquerade`] | | source NAT for an attachment |
//! | [`spoof`] | | frames of an attachment have its own source address |
//! | [`mod@reference`] | | what the plugins written in Go have left there |
//! | [`restore`] | | what attachments have in the packet filter, made anew |
//! | `claims` | | elements of the packet filter that attachments own, for the others of this layer |
//! | [`in_use`] | | which addresses live on this host, whatever any record says |
//! | [`kept`] | | what garbage collection leaves alone |
//! | [`undo`] | beside [`cni`] | rollback by default |
//! | [`mod@file`] | | files in places where somebody else may have put something in their stead |

mod claims;
pub mod cni;
pub mod file;
pub mod firewall;
pub mod hostports;
pub mod in_use;
pub mod kept;
pub mod masquerade;
pub mod net;
pub mod reference;
pub mod restore;
pub mod sandbox;
pub mod spoof;
pub mod undo;
pub mod veth;

pub use cni::{
    Add, Attachment, Call, Check, Code, Del, Error, Errors, Gc, Network, Plugin, Result, Status,
    Success, run,
};
pub use firewall::Firewall;
pub use hostports::HostPorts;
pub use masquerade::Masquerade;
pub use reference::Reference;
pub use sandbox::{Host, Sandbox};
pub use spoof::SpoofCheck;
pub use undo::Undo;
