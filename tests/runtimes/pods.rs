//! containerd over CRI: what a pod gets, and what it leaves.

use std::{collections::BTreeSet, thread};

use testbed::reach::{reaches, seen_by_tcp};

use crate::{
    containerd::{Release, case_of},
    pod::{Pod, Port, Wish},
    ports::{leads, leads_by_tcp},
};

/// How many pods come at once.
const CROWD: u16 = 20;

/// The gateway of the pods, which is an address of the node.
const GATEWAY: &str = "10.87.0.1";

fn two_containers_share_their_pod(release: Release) {
    case_of(release, |containerd, _| {
        containerd.network_ready().unwrap();
        containerd.node.succeed("mkdir", &["-p", "/run/test/volume"]);
        let pod = Pod::new(containerd, Wish::new("pod").volume("/run/test/volume"));
        let script = "echo mine >/volume/index.html && exec httpd -f -p 127.0.0.1:8080 -h /volume";
        let server = pod.container("server", script);
        let client = pod.container("client", "exec sleep 1000");
        let fetch =
            "for i in 1 2 3 4 5; do wget -q -O - http://localhost:8080/ && break; sleep 1; done";
        assert_eq!(client.says(fetch), "mine");
        assert_eq!(client.says("cat /volume/index.html"), "mine");
        for space in ["net", "ipc", "uts"] {
            let asks = format!("readlink /proc/self/ns/{space}");
            assert_eq!(client.says(&asks), server.says(&asks));
        }
        // The addresses that the runtime tells are those that are there.
        let said = client.says("ip -o addr show dev eth0 scope global");
        let addresses = pod.sandbox().addresses;
        assert_eq!(addresses.len(), 2, "{addresses:?}");
        assert!(addresses.iter().all(|address| said.contains(&format!(" {address}/"))), "{said}");
        assert!(client.says("ip -o addr show dev lo").contains("127.0.0.1/8"));
        // Pod to pod, and pod to node, and back.
        let other = Pod::new(containerd, Wish::new("other"));
        reaches(&other.place(), &pod.place(), &addresses);
        reaches(containerd.node, &pod.place(), &addresses);
        assert_eq!(seen_by_tcp(&pod.place(), &other.place(), &other.address()), pod.address());
        for pod in [pod, other] {
            pod.stop();
            pod.remove();
        }
    });
}

fn a_host_port_leads_to_its_pod(release: Release) {
    case_of(release, |containerd, _| {
        let ports =
            |name: &str| Wish::new(name).port(Port::Tcp(8080, 80)).port(Port::Udp(8080, 80));
        let pod = Pod::new(containerd, ports("pod"));
        let (place, address) = (pod.place(), pod.address());
        let other = Pod::new(containerd, Wish::new("other"));
        let gateway = format!("{GATEWAY}:8080");
        leads(containerd.node, "127.0.0.1:8080", &place);
        leads(containerd.node, &gateway, &place);
        leads(&other.place(), &gateway, &place);
        // From the pod to the node, and back to itself.
        leads(&place, &gateway, &place);
        let neighbour = containerd.node.neighbour();
        leads(&neighbour, "203.0.113.1:8080", &place);
        // A container that restarts changes nothing of it.
        pod.container("once", "exec sleep 1000").remove();
        let again = pod.container("again", "exec sleep 1000");
        assert!(again.says("ip -o addr show dev eth0").contains(&format!(" {address}/")));
        assert_eq!(pod.address(), address);
        leads(&other.place(), &gateway, &place);
        pod.stop();
        // The port is free again, and leads to whoever comes next.
        let next = Pod::new(containerd, ports("next"));
        leads(containerd.node, "127.0.0.1:8080", &next.place());
        leads(&other.place(), &gateway, &next.place());
        for pod in [pod, next, other] {
            pod.stop();
            pod.remove();
        }
        neighbour.destroy();
    });
}

fn a_pod_ends_however_it_ends(release: Release) {
    case_of(release, |containerd, before| {
        let node = containerd.node;
        let pod = Pod::new(containerd, Wish::new("pod").port(Port::Tcp(8080, 80)));
        let found = pod.sandbox();
        assert!(found.is_ready, "{found:?}");
        // Whoever kills the pause process does not ask the runtime.
        node.succeed("kill", &["-9", &found.pid.to_string()]);
        while pod.sandbox().is_ready {}
        pod.stop();
        node.assert_back_to(before);
        let calls = node.calls();
        let dels =
            |calls: &[String]| calls.iter().filter(|it| it.starts_with("DEL bridge")).count();
        assert_eq!(dels(&calls), 1, "{calls:?}");
        // The kubelet stops a pod again and again, and then forgets it.
        pod.stop();
        pod.stop();
        pod.remove();
        let calls = node.calls();
        assert!(dels(&calls) > 0 && calls.iter().all(|it| it.ends_with(" -")), "{calls:?}");
        // One of the same name.
        let pod = Pod::new(containerd, Wish::new("pod").port(Port::Tcp(8080, 80)));
        assert_ne!(pod.address(), found.addresses[0]);
        leads_by_tcp(node, "127.0.0.1:8080", &pod.place());
        pod.remove();
    });
}

fn a_pod_of_the_nodes_network_is_none_of_ours(release: Release) {
    case_of(release, |containerd, before| {
        let pod = Pod::new(containerd, Wish::new("pod").on_the_node());
        let inside = pod.container("one", "exec sleep 1000").says("readlink /proc/self/ns/net");
        let outside = containerd.node.succeed("readlink", &["/proc/self/ns/net"]);
        assert_eq!(inside, outside.trim());
        containerd.node.assert_back_to(before);
        pod.stop();
        pod.remove();
        assert_eq!(containerd.node.calls(), [] as [&str; 0]);
    });
}

fn many_pods_come_at_once(release: Release) {
    case_of(release, |containerd, _| {
        let make = |number: u16| {
            let wish = Wish::new(&format!("pod-{number}")).port(Port::Tcp(9000 + number, 80));
            Pod::new(containerd, wish)
        };
        let pods: Vec<_> = thread::scope(|scope| {
            let made: Vec<_> = (0..CROWD).map(|it| scope.spawn(move || make(it))).collect();
            made.into_iter().map(|it| it.join().unwrap()).collect()
        });
        let addresses: BTreeSet<_> = pods.iter().flat_map(|pod| pod.sandbox().addresses).collect();
        assert_eq!(addresses.len(), 2 * usize::from(CROWD), "{addresses:?}");
        for (pod, number) in pods.iter().zip(0..) {
            leads_by_tcp(containerd.node, &format!("127.0.0.1:{}", 9000 + number), &pod.place());
        }
        thread::scope(|scope| {
            for pod in &pods {
                scope.spawn(|| {
                    pod.stop();
                    pod.remove();
                });
            }
        });
    });
}

/// Each of these with both releases.
macro_rules! with_both {
    ($($test:ident)*) => {
        mod containerd_1_6 {
            $(#[test] fn $test() { super::$test(super::Release::Now); })*
        }
        mod containerd_2_1 {
            $(#[test] fn $test() { super::$test(super::Release::Later); })*
        }
    };
}

with_both! {
    two_containers_share_their_pod
    a_host_port_leads_to_its_pod
    a_pod_ends_however_it_ends
    a_pod_of_the_nodes_network_is_none_of_ours
    many_pods_come_at_once
}
