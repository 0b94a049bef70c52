//! What the plugins share, in four folders, each of which uses those before it only:
//!
//! | module | what it knows |
//! |---|---|
//! | [`cni`] | the protocol: environment, stdin, stdout, results, errors, delegates; no kernel |
//! | [`net`] | the kernel: namespaces, links, addresses, routes, packet filter; no CNI |
//! | [`attach`] | an attachment on this host, which is both |
//! | [`filter`] | what attachments own in the packet filter |
//!
//! Beside them is [`mod@file`]: files in places where somebody else may have put something.

pub mod attach;
pub mod cni;
pub mod file;
pub mod filter;
pub mod net;

pub use attach::{Host, Owner, Sandbox};
pub use cni::{
    Add, Attachment, Call, Check, Code, Del, Error, Errors, Gc, Network, Plugin, Result, Status,
    Success, Undo, run,
};
