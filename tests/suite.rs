//! The tests of all plugins, by what they can be seen to do. One binary: one file per subject.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "the helpers of tests are tests"
)]

mod bridge;
mod bridge_filter;
mod bridge_links;
mod bridge_mac;
mod bridge_undo;
mod bridge_vlan;
mod cnitool;
mod conf;
mod crash;
mod crowd;
mod differences;
mod doctor;
mod edited;
mod firewall;
mod firewall_firewalld;
mod firewall_iptables;
mod firewall_owners;
mod firewall_translated;
mod host;
mod host_local;
mod lease_again;
mod lease_doubt;
mod lease_file;
mod lease_local;
mod lease_luck;
mod lease_mirror;
mod lease_netns;
mod lease_reboot;
mod lease_status;
mod lease_tool;
mod limits;
mod loopback;
mod lost_answers;
mod lost_links;
mod masquerade;
mod masquerade_iptables;
mod names;
mod nonsense;
mod old_kernel;
mod once;
mod overlap;
mod packet_filter;
mod packet_filter_gc;
mod policy;
mod pool;
mod portmap;
mod portmap_flows;
mod portmap_iptables;
mod portmap_owners;
mod protocol;
mod range_errors;
mod ranges;
mod restore;
mod rollback;
mod rooms;
mod teardown;
mod upgrade;
mod versions;
