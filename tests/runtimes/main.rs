//! Real runtimes, each on a throw-away node of its own: what they ask of the plugins, and what their
//! containers get.
//!
//! | file | what it is |
//! |---|---|
//! | `differences.rs` | a test on a node, and where the reference plugins differ |
//! | `node.rs` | a host that runtimes run on, and everything that plugins could leave on it |
//! | `containerd.rs` | the daemon, of either release |
//! | `message.rs`, `cri.rs` | CRI, which is protobuf over gRPC, by `curl` |
//! | `pod.rs` | a pod as the kubelet asks for it |
//! | `ports.rs` | ports of the node |
//! | **tests** | |
//! | `pods.rs` | containerd over CRI |
//! | `podman.rs` | podman with its CNI backend |
//! | `trouble.rs` | the runtime is killed, the node starts anew |
//! | `bench.rs` | what a pod costs; run by `make bench-runtimes` alone |
//! | `swapped.rs` | plugins take the place of others while pods run |
//! | `tasks.rs` | `ctr run --cni` |

#![expect(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "the helpers of tests are tests"
)]

mod bench;
mod containerd;
mod cri;
mod differences;
mod message;
mod node;
mod pod;
mod podman;
mod pods;
mod ports;
mod swapped;
mod tasks;
mod trouble;
