//! The tests of all plugins, by what they can be seen to do. One binary: a file for each subject, and
//! a room for what is of one program or mechanism.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "the helpers of tests are tests"
)]

mod bandwidth;
mod bridge;
mod callers;
mod chained_master;
mod cnitool;
mod conf;
mod crash;
mod crowd;
mod dhcp;
mod differences;
mod dummy;
mod edited;
mod firewall;
mod flannel;
mod host;
mod host_device;
mod host_local;
mod ipvlan;
mod lacking;
mod limits;
mod link_ipv6;
mod link_life;
mod link_versions;
mod linked;
mod loopback;
mod lost_answers;
mod lost_links;
mod macvlan;
mod masquerade;
mod names;
mod nonsense;
mod old_kernel;
mod once;
mod overlap;
mod packet_filter;
mod policy;
mod portmap;
mod protocol;
mod ptp;
mod rollback;
mod rooms;
mod sbr;
mod static_ipam;
mod tap;
mod teardown;
mod tuning;
mod upgrade;
mod versions;
mod vlan;
mod vrf;
