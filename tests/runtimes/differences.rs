//! A test on a node of its own, and where the reference plugins behave differently.
//!
//! As in the suite: against our plugins a test just runs, against others one with a row must fail.

use std::{
    env,
    io::{self, Write as _},
    panic::{AssertUnwindSafe, catch_unwind},
    process::Command,
    sync::OnceLock,
    thread,
};

use testbed::is_reference;

use crate::node::{Node, prepared};

enum What {
    /// The test fails there.
    Differs,
    /// The test would pass by luck there.
    Skip,
}
use What::{Differs, Skip};

const UDP: &str = "What it leaves is the kernel's memory of clients by UDP: their packets go on to an \
                   address that the next pod may have.";

const LUCK: &str = "Its ADD runs on without a runtime, and a DEL that comes meanwhile fails, or finds \
                    half of it, or all.";

const BOOT: &str = "Its bridge has another hardware address after each boot.";

const PATHLESS: &str =
    "ctr never says where the namespace is, and without that its DEL leaves rules.";

const DIFFERENCES: &[(&str, What, &str)] = &[
    ("tasks::a_container_of_1_6_leaves_nothing", Differs, PATHLESS),
    ("tasks::a_container_of_2_1_leaves_nothing", Differs, PATHLESS),
    ("pods::containerd_1_6::a_host_port_leads_to_its_pod", Differs, UDP),
    ("pods::containerd_2_1::a_host_port_leads_to_its_pod", Differs, UDP),
    ("podman::a_container_of_two_networks_has_its_ports_once", Differs, UDP),
    ("podman::a_pod_is_one_attachment", Differs, UDP),
    ("podman::a_second_network_comes_and_goes", Differs, UDP),
    ("podman::containers_reach_each_other_and_have_ports", Differs, UDP),
    ("trouble::after_a_reboot_containerd_1_6_has_its_pods_again", Differs, BOOT),
    ("trouble::after_a_reboot_containerd_2_1_has_its_pods_again", Differs, BOOT),
    ("trouble::containerd_1_6_is_killed_at_the_first_plugin", Skip, LUCK),
    ("trouble::containerd_1_6_is_killed_at_the_second_plugin", Skip, LUCK),
    ("trouble::containerd_2_1_is_killed_at_the_first_plugin", Skip, LUCK),
    ("trouble::containerd_2_1_is_killed_at_the_second_plugin", Skip, LUCK),
];

/// Runs a test on a node, unless nothing can run containers here.
#[track_caller]
pub(crate) fn case(body: impl FnOnce(&Node)) {
    let name = this_test();
    if let Err(reason) = obstacle() {
        return skip(reason);
    }
    let node = Node::new();
    let row = DIFFERENCES.iter().find(|(test, ..)| *test == name);
    let Some((_, what, reason)) = row.filter(|_| is_reference()) else { return body(&node) };
    match what {
        Skip => skip(reason),
        Differs => {
            let same = catch_unwind(AssertUnwindSafe(|| body(&node))).is_ok();
            assert!(!same, "{name} passes with the reference, so it is no difference: {reason}");
        }
    }
}

/// The name of the test that this thread runs.
fn this_test() -> String {
    thread::current().name().expect("a test has a name").to_owned()
}

/// Says it where libtest cannot keep it for itself.
pub(crate) fn skip(reason: &str) {
    let line = format!("{}: SKIPPED: {reason}\n", this_test());
    io::stderr().write_all(line.as_bytes()).expect("say that a test is skipped");
}

/// Why no container runs on this machine, whatever its network.
fn obstacle() -> Result<(), &'static str> {
    static OBSTACLE: OnceLock<Option<String>> = OnceLock::new();
    let found = OBSTACLE.get_or_init(|| {
        let missing = ["now/usr/bin/catatonit", "now/bin/busybox", "image.tar"];
        if let Some(missing) = missing.into_iter().find(|path| !prepared(path).exists()) {
            return Some(format!(
                "target/runtimes/{missing} is missing: run tests/prepare runtimes"
            ));
        }
        let script = r#"
mkdir -p /run/test/probe/rootfs/bin && cd /run/test/probe
cp "$1" rootfs/bin/busybox && runc spec
sed -i 's/"terminal": true/"terminal": false/; s/"sh"/"busybox", "true"/
    s,"linux": {,&"cgroupsPath": "'"$2"'/probe"\,,' config.json
runc run probe && cd / && rm -r /run/test/probe
"#;
        let busybox = prepared("now/bin/busybox").display().to_string();
        let node = Node::new();
        let output = node.run("sh", &["-euc", script, "sh", &busybox, node.cgroup()]);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        (!output.status.success()).then(|| format!("runc cannot run a container here: {said}"))
    });
    found.as_deref().map_or(Ok(()), Err)
}

#[test]
fn every_difference_is_a_test() {
    let listed = Command::new(env::current_exe().unwrap()).arg("--list").output().unwrap();
    let listed = String::from_utf8(listed.stdout).unwrap();
    for (name, _, reason) in DIFFERENCES {
        let test = format!("{name}: test");
        assert!(listed.lines().any(|line| line == test), "no test {name} ({reason})");
    }
}
