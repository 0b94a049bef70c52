//! Plugins take the place of others, while pods of both run.

use std::path::Path;

use testbed::{REFERENCE, bin_dir, is_reference, later_reference};

use crate::{
    containerd::{Containerd, Release},
    differences::{case, skip},
    pod::{Pod, Port, Wish},
    ports::leads_by_tcp,
};

fn go_plugins_and_ours_take_turns(theirs: &str, release: Release) {
    if is_reference() {
        return;
    }
    case(|node| {
        node.install(Path::new(theirs));
        let containerd = Containerd::new(node, release);
        node.configure("1.0.0");
        let make = |name: &str, port: u16| {
            Pod::new(&containerd, Wish::new(name).port(Port::Tcp(port, 80)))
        };
        let end = |pod: Pod<'_>| {
            pod.stop();
            pod.remove();
        };
        // What each of them shares among its pods, and keeps.
        end(make("first", 8000));
        node.install(bin_dir());
        end(make("first-of-ours", 8000));
        let before = node.state();

        node.install(Path::new(theirs));
        let one = make("one", 8081);
        node.install(bin_dir());
        let two = make("two", 8082);
        node.install(Path::new(theirs));
        let three = make("three", 8083);
        node.install(bin_dir());
        for (pod, port) in [(&one, 8081), (&two, 8082), (&three, 8083)] {
            leads_by_tcp(node, &format!("127.0.0.1:{port}"), &pod.place());
            leads_by_tcp(&one.place(), &format!("10.87.0.1:{port}"), &pod.place());
        }
        // Each of them keeps its own books, and reads those of the other.
        let mut leases = node.leases("pods");
        leases.extend(node.lease_files("pods"));
        assert_eq!(leases.len(), 6, "{leases:?}");
        [one, two, three].into_iter().for_each(end);
        node.assert_back_to(&before);
    });
}

#[test]
fn go_plugins_of_today_and_ours() {
    go_plugins_and_ours_take_turns(REFERENCE, Release::Now);
}

#[test]
fn later_go_plugins_and_ours() {
    match later_reference() {
        Some(theirs) => go_plugins_and_ours_take_turns(theirs, Release::Later),
        None => skip("there are no later Go plugins in target/go-plugins"),
    }
}
