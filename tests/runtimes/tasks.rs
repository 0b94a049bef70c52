//! `ctr run --cni`: a container by hand, whose DEL never says where its namespace is.

use crate::{
    containerd::{Release, case_of},
    node::IMAGE,
};

fn leaves_nothing(release: Release) {
    case_of(release, |containerd, before| {
        let node = containerd.node;
        let run = |name: &str, script: &str| {
            let group = format!("{}/{name}", node.cgroup());
            let words =
                ["run", "--rm", "--cni", "--cgroup", &group, IMAGE, name, "sh", "-c", script];
            containerd.ctr(&words)
        };
        for name in ["second", "third"] {
            let said = run(name, "ping -c 1 -w 5 10.87.0.1 && ip route && ip addr");
            assert!(said.contains("0% packet loss"), "{said}");
            assert!(said.contains(" 10.87.0.") && said.contains(" fd00:87::"), "{said}");
            assert!(said.contains("default via 10.87.0.1 dev eth0"), "{said}");
        }
        // Without its namespace's path, and once.
        let calls = node.calls();
        let dels: Vec<_> = calls.iter().filter(|it| it.starts_with("DEL bridge")).collect();
        assert_eq!(dels, ["DEL bridge eth0 default-second -", "DEL bridge eth0 default-third -"]);
        assert!(node.leases("pods").is_empty(), "{:?}", node.leases("pods"));
        node.assert_back_to(before);
    });
}

#[test]
fn a_container_of_1_6_leaves_nothing() {
    leaves_nothing(Release::Now);
}

#[test]
fn a_container_of_2_1_leaves_nothing() {
    leaves_nothing(Release::Later);
}
