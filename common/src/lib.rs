//! What the plugins share.
//!
//! Three layers, and no more:
//!
//! | module | layer | knows |
//! |---|---|---|
//! | [`cni`] | the protocol | environment, stdin, stdout, results, errors, delegates; no kernel |
//! | [`net`] | the kernel | namespaces, links, addresses, routes, packet filter; no CNI |
//! | [`undo`] | | rollback by default, used by both sides of every `create_` |

pub mod cni;
pub mod net;
pub mod undo;

pub use cni::{
    Add, Attachment, Call, Check, Code, Del, Error, Errors, Gc, Network, Plugin, Result, Status,
    Success, run,
};
pub use undo::Undo;
