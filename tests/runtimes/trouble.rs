//! containerd is killed while it makes a pod, and the node starts anew: what was left is found again.

use crate::{
    containerd::{Containerd, Release, case_of},
    message::Message,
    pod::{Pod, Port, Wish},
    ports::leads_by_tcp,
};

/// Kills containerd, and lets it be gone before the plugin goes on.
const KILL: &str = "kill -9 $(cat /run/test/containerd.pid); sleep 0.3";

fn pods(containerd: &Containerd<'_>) -> Vec<String> {
    let listed = containerd.ask("ListPodSandbox", &Message::default()).fields;
    listed.inners(1).map(|pod| pod.text(1)).collect()
}

/// Has containerd die at an ADD of this plugin, start again, and remove what it knows of.
fn is_killed_at(plugin: &str, release: Release) {
    case_of(release, |containerd, before| {
        let node = containerd.node;
        node.interpose(plugin, KILL);
        let wish = || Wish::new("pod").port(Port::Tcp(8080, 80));
        let died = Pod::timed(containerd, wish()).map(|_| ());
        assert!(died.is_err(), "there is a pod");
        containerd.kill();
        node.interpose(plugin, ":");
        containerd.restart();
        for id in pods(containerd) {
            containerd.ask_of("StopPodSandbox", &id);
            containerd.ask_of("RemovePodSandbox", &id);
        }
        node.assert_back_to(before);
        // The kubelet tries again.
        let pod = Pod::new(containerd, wish());
        leads_by_tcp(node, "127.0.0.1:8080", &pod.place());
        pod.stop();
        pod.remove();
    });
}

#[test]
fn containerd_1_6_is_killed_at_the_first_plugin() {
    is_killed_at("bridge", Release::Now);
}

#[test]
fn containerd_1_6_is_killed_at_the_second_plugin() {
    is_killed_at("portmap", Release::Now);
}

#[test]
fn containerd_2_1_is_killed_at_the_first_plugin() {
    is_killed_at("bridge", Release::Later);
}

#[test]
fn containerd_2_1_is_killed_at_the_second_plugin() {
    is_killed_at("portmap", Release::Later);
}

/// Ends every process but the node's first one and what that waits for, and empties `/run`.
const DIE: &str = r#"
for process in /proc/[0-9]*; do
    name=
    read -r name <"$process/comm" || :
    case $name,${process#/proc/} in cat,* | *,1 | *,$$) ;; *) kill -9 "${process#/proc/}" || : ;; esac
done
sleep 0.2
grep -o ' /run/test/containerd/[^ ]*' /proc/self/mounts | sort -r | xargs -r umount -l
rm -rf /run/test/containerd/*
"#;

fn pods_come_back_after_a_reboot(release: Release) {
    case_of(release, |containerd, before| {
        let node = containerd.node;
        let wish = || Wish::new("pod").port(Port::Tcp(8080, 80));
        let old = Pod::new(containerd, wish()).id;
        containerd.kill();
        node.succeed("sh", &["-c", DIE]);
        node.reboot();
        containerd.restart();
        assert!(!containerd.sandbox(&old).is_ready);
        // As the kubelet does it: the old one is stopped, a new one is made, the old one is removed.
        containerd.ask_of("StopPodSandbox", &old);
        let pod = Pod::new(containerd, wish().again());
        leads_by_tcp(node, "127.0.0.1:8080", &pod.place());
        containerd.ask_of("RemovePodSandbox", &old);
        leads_by_tcp(node, "127.0.0.1:8080", &pod.place());
        let held: Vec<_> = node.leases("pods").into_values().collect();
        assert_eq!(held, [format!("{} eth0", pod.id), format!("{} eth0", pod.id)]);
        pod.stop();
        pod.remove();
        node.assert_back_to(before);
    });
}

#[test]
fn after_a_reboot_containerd_1_6_has_its_pods_again() {
    pods_come_back_after_a_reboot(Release::Now);
}

#[test]
fn after_a_reboot_containerd_2_1_has_its_pods_again() {
    pods_come_back_after_a_reboot(Release::Later);
}
