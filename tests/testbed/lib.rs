//! A throw-away host for programs that change one: made in milliseconds, gone when dropped.
//!
//! | the host | |
//! |---|---|
//! | [`bed`] | [`Testbed`]: a host with its own network, mounts and processes |
//! | [`kernel`] | what not every kernel has, and the tests that need it |
//! | [`place`] | [`Place`]: somewhere to stand - the host itself or one of its [`Sandbox`]es |
//! | [`bus`] | a system bus, and a firewalld on it that only remembers |
//! | [`programs`], [`linked`] | which binaries are under test, and all of them as one |
//! | **calls** | |
//! | [`call`] | one call of one plugin, and what came of it |
//! | [`config`] | network configurations, and how they are changed |
//! | [`network`] | a network of one plugin, used as a runtime uses it |
//! | [`chain`] | the same of several plugins |
//! | [`trial`] | any plugin as its example uses it, for what all have in common |
//! | [`cnitool`] | `cnitool` as an administrator calls it |
//! | **settings** | |
//! | [`warm`] | a network whose shared parts are there already |
//! | [`wire`] | an interface that no plugin has made |
//! | [`node`] | a node whose pods `cnitool` has attached |
//! | [`ipam`] | a network of nothing but addresses |
//! | [`attachment`] | networks of plugins that make one link for each pod |
//! | [`flannel`] | what flanneld does on a node, and two nodes with a wire between them |
//! | [`dhcp`], [`dhcp_server`], [`dhcp6_server`] | the daemon of dhcp, dnsmasq, and servers that do what they are [`told`] |
//! | [`crowd`] | many pods at once |
//! | [`firewall`], [`portmap`], [`bandwidth`] | a bridge with one plugin chained behind it |
//! | [`tuning`] | an interface with nothing around it |
//! | **trouble** | |
//! | [`double`] | scripts in the place of plugins: they fail, reply or write down their calls |
//! | [`death`] | plugins that are killed before each of their system calls |
//! | [`fault`] | plugins whose system calls fail, or are altered or delayed |
//! | [`edits`] | configurations that somebody has edited since ADD |
//! | **what is seen** | |
//! | [`wait`] | what comes in its own time |
//! | [`result`] | what stands in the result of an ADD |
//! | [`reach`] | who reaches whom, and as whom it is seen |
//! | [`rate`] | how fast packets get through |
//! | [`traffic`] | servers and clients, to see packets arrive instead of believing a table |
//! | [`snapshot`] | everything a plugin could have changed, as lines |
//! | [`leases`] | which addresses are held |
//! | [`ruleset`], [`iptables`] | what there is in the packet filter |
//! | [`trace`] | what a plugin asks of the kernel |

#![expect(
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "a broken test host ends the test: a panic with its reason is the best it can do; \
              and a host runs programs and threads"
)]

pub mod attachment;
pub mod bandwidth;
pub mod bed;
pub mod bus;
pub mod call;
pub mod chain;
pub mod cnitool;
pub mod config;
pub mod crowd;
pub mod death;
pub mod dhcp;
pub mod dhcp6_server;
pub mod dhcp_server;
pub mod double;
pub mod edits;
pub mod fault;
pub mod firewall;
pub mod flannel;
pub mod ipam;
pub mod iptables;
pub mod kernel;
pub mod leases;
pub mod linked;
pub mod network;
pub mod node;
pub mod place;
pub mod portmap;
pub mod programs;
pub mod rate;
pub mod reach;
pub mod result;
pub mod ruleset;
pub mod snapshot;
pub mod told;
pub mod trace;
pub mod traffic;
pub mod trial;
pub mod tuning;
pub mod wait;
pub mod warm;
pub mod wire;

pub use bed::Testbed;
pub use call::{Call, CniError, Outcome};
pub use death::{Death, step};
pub use fault::Fault;
pub use network::Network;
pub use place::{Place, Sandbox};
pub use programs::{
    REFERENCE, SYSTEM_PATH, bin_dir, is_later_reference, is_reference, later_reference,
};
pub use snapshot::Snapshot;
pub use trial::Trial;
pub use wait::{until, until_so};
