//! The runtime's side of CNI: what a container runtime does with network configurations and
//! plugins. The command line is one user; a runtime written in Rust can be another.
//!
//! | module | job |
//! |---|---|
//! | [`cli`] | the command line |
//! | [`list`] | a network configuration list: parsed, its version chosen |
//! | [`directory`] | the directory that holds them: one found by its network's name |
//! | [`attachment`] | who is attached: container ID, interface, namespace, arguments |
//! | [`request`] | what a plugin gets on stdin and in its environment |
//! | [`chain`] | [`Runtime`]: ADD, DEL, CHECK over a list |
//! | [`gc`] | GC over a list |
//! | [`status`] | STATUS and the VERSION probe over a list |
//! | [`cache`] | what ADD answered, kept for CHECK and DEL |
//! | [`leases`] | the leases of host-local, for people |
//! | [`living`] | who is alive, as the kernel tells |
//! | [`restore`] | what recorded attachments have in the packet filter, made anew |
//! | [`doctor`] | what is wrong with this node |
//! | [`validate`] | a configuration read by somebody who knows the plugins; touches nothing |
//! | [`finding`] | what the last two have to say |
//! | [`install`] | the executable that is all of them, in a directory of plugins |
//! | [`plugins`] | the one list of the plugins of this suite |
//! | `bin/girder.rs` | all of them and this in one executable |
//!
//! ```no_run
//! # fn main() -> common::Result<()> {
//! use cnitool::{Cache, Runtime, Target, attachment, directory};
//! let network = "mynet".parse()?;
//! let found = directory::find("/etc/cni/net.d".as_ref(), &network)?;
//! let runtime = Runtime { path: vec!["/opt/cni/bin".into()], cache: Cache::default() };
//! let target = Target::new(attachment::of_netns("/run/netns/a".as_ref(), "eth0")?, "/run/netns/a");
//! let result = runtime.add(&found.list, &target)?;
//! runtime.del(&found.list, &target)?;
//! # drop(result); Ok(()) }
//! ```

pub mod attachment;
pub mod cache;
pub mod chain;
pub mod cli;
pub mod directory;
pub mod doctor;
pub mod finding;
pub mod gc;
pub mod install;
pub mod leases;
pub mod list;
pub mod living;
pub mod plugins;
pub mod request;
pub mod restore;
pub mod status;
pub mod validate;

#[cfg(test)]
mod testbed;

pub use attachment::Target;
pub use cache::Cache;
pub use chain::Runtime;
pub use list::{ConfigList, PluginConfig};
