//! The protocol between a container runtime and a plugin: CNI specification 0.1.0 to 1.1.0.
//!
//! | module | job |
//! |---|---|
//! | [`plugin`] | [`Plugin`]; `request`: what each verb gives it; `run`: the one `main` |
//! | [`args`] | what `CNI_*` and `CNI_ARGS` say |
//! | `environment` | where they say it |
//! | [`json`] | keys in any case, null as absent, as existing configurations rely on |
//! | [`config`] | the keys that every network configuration has |
//! | [`mod@examine`] | which keys of a configuration the plugins know |
//! | [`ipam`] | what IPAM plugins have in common |
//! | [`result`] | what an ADD answers, as of 1.1.0 |
//! | [`timeout`] | durations, as configurations write them |
//! | [`undo`] | rollback by default |
//! | [`version`] | the seven versions, and results converted at the edge |
//! | [`error`] | codes of the specification and sentences for people |
//! | [`delegate`] | other plugins, found in `CNI_PATH` and run |

pub mod args;
pub mod config;
pub mod delegate;
pub(crate) mod environment;
pub mod error;
pub mod examine;
pub mod ipam;
pub mod json;
pub mod plugin;
mod request;
pub mod result;
mod run;
pub mod timeout;
pub mod undo;
pub mod version;

pub use args::{Attachment, CniArgs, ContainerId, IfName, NetnsPath, NetworkName, Verb};
pub use config::Network;
pub use delegate::Delegate;
pub use error::{Code, Context, Error, Errors, Result, report};
pub use examine::{Reading, examine};
pub use plugin::Plugin;
pub use request::{Add, Call, Check, Del, Gc, Status};
pub use result::{Cidr, Dns, Interface, Ip, Route, Success};
pub use run::{Linked, Others, run, run_among, words_after};
pub use timeout::Timeout;
pub use undo::Undo;
pub use version::Version;
