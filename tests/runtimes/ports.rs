//! Ports of the node: 8080 and others of the node lead to port 80 of their pod.

use testbed::{Place, reach::knock};

/// The port of a pod that ports of the node lead to.
const INNER: u16 = 80;

/// Asserts that from `from` a port of the node leads to the pod, by TCP and by UDP.
#[track_caller]
pub(crate) fn leads(from: &Place, at: &str, pod: &Place) {
    for answer in knock(from, at, pod, INNER, true) {
        answer.unwrap_or_else(|error| panic!("{at}: {error}"));
    }
}

/// The same by TCP alone.
#[track_caller]
pub(crate) fn leads_by_tcp(from: &Place, at: &str, pod: &Place) {
    let server = pod.tcp_server(&format!("0.0.0.0:{INNER}"));
    from.tcp(at, &server).unwrap_or_else(|error| panic!("{at}: {error}"));
}
