//! `reclaim: "netns"`: leases end with the network namespaces of their holders, and not before.

use std::process::{Child, Command};

use serde_json::json;
use testbed::{Network, Sandbox, Testbed, config, result::addresses};

use crate::differences::case;

/// Pods that may be reclaimed at once.
fn network<'bed>(bed: &'bed Testbed, subnet: &str) -> Network<'bed> {
    let ipam = json!({
        "type": "host-local", "subnet": subnet, "reclaim": "netns", "graceAge": 0
    });
    bed.network(config::pods_with(&json!({"ipMasq": false, "ipam": ipam})))
}

/// What a runtime does with a chain of which a plugin fails in ADD and, first of all, in DEL: it
/// never comes to our DEL.
#[test]
fn three_hundred_failing_adds_do_not_exhaust_a_range() {
    case(|bed| {
        bed.script(
            "broken",
            "#!/bin/sh\ncat > /dev/null; echo '{\"code\": 100, \"msg\": \"no\"}'; exit 1\n",
        );
        let network = network(bed, "10.1.0.0/24");
        let broken = bed.network(json!({"cniVersion": "1.0.0", "name": "pods", "type": "broken"}));
        for number in 0..300 {
            let (pod, container) = (bed.sandbox(&format!("s{number}")), format!("c{number}"));
            network.add(&pod, &container).success();
            for verb in ["ADD", "DEL"] {
                let failed = broken.call(verb, &container).netns(pod.path()).run();
                assert_eq!(failed.error_code(), 100);
            }
            pod.destroy();
        }
        // Late, and of no consequence: its address may be another one's by now.
        let leases = bed.leases("pods");
        network.call("DEL", "c0").run().silent();
        assert_eq!(bed.leases("pods"), leases);
    });
}

/// What holds a namespace whose path is gone.
#[derive(Clone, Copy, Debug)]
enum Held {
    ByProcess,
    ByDescriptor,
    ByAnotherPath,
    InAnotherMountNamespace,
}

const ALL: [Held; 4] =
    [Held::ByProcess, Held::ByDescriptor, Held::ByAnotherPath, Held::InAnotherMountNamespace];

/// A range with room for one, whose address a pod has got without a path.
struct Full<'bed> {
    bed: &'bed Testbed,
    network: Network<'bed>,
    address: String,
}

impl<'bed> Full<'bed> {
    fn new<T>(bed: &'bed Testbed, hold: impl FnOnce(&Sandbox) -> T) -> (Self, T) {
        let (network, pod) = (network(bed, "10.1.0.0/30"), bed.sandbox("held"));
        let address = addresses(&network.add(&pod, "held").result())[0].clone();
        let held = hold(&pod);
        pod.destroy();
        (Self { bed, network, address }, held)
    }

    fn assert_held(&self) {
        let next = self.bed.sandbox("next");
        let words = "1 of 1 in use, 1 of them look leaked";
        self.network.add(&next, "next").fails_with(11, words);
        next.destroy();
    }

    /// The kernel removes a namespace when it sees fit: asks until it has.
    fn assert_free_soon(&self) {
        let next = self.bed.sandbox("next");
        let added = std::iter::repeat_with(|| self.network.add(&next, "next"))
            .take(1000)
            .find(|outcome| outcome.status.success())
            .unwrap();
        assert_eq!(addresses(&added.result()), [self.address.as_str()]);
        assert!(added.stderr.contains("reclaimed 10.1.0.2 from container \"held\""));
        self.network.del(&next, "next").silent();
        next.destroy();
    }
}

/// Something that holds the namespace until its stdin is closed.
struct Holder(Child);

impl Holder {
    fn new(bed: &Testbed, pod: &Sandbox, held: Held) -> Self {
        let path = pod.path();
        let (place, hold): (&testbed::Place, _) = match held {
            Held::ByProcess => (pod, "true".to_owned()),
            Held::ByDescriptor => (bed, format!("exec 3< {path}")),
            Held::ByAnotherPath => {
                (bed, format!("touch /run/kept && mount --bind {path} /run/kept"))
            }
            // Not at the same path: removing that ends the mounts of all mount namespaces.
            Held::InAnotherMountNamespace => (
                bed,
                format!("mount -t tmpfs own /mnt && touch /mnt/n && mount --bind {path} /mnt/n"),
            ),
        };
        let script = format!("{hold} && echo ready && read -r _; umount /run/kept");
        let mut command = match held {
            Held::InAnotherMountNamespace => {
                let mut command = Command::new("unshare");
                command.args(["--mount", "--propagation", "private", "sh", "-c", &script]);
                command
            }
            _ => {
                let mut command = Command::new("sh");
                command.args(["-c", &script]);
                command
            }
        };
        let mut holder = place.start(&mut command);
        let mut answer = [0; 6];
        let stdout = holder.stdout.as_mut().unwrap();
        std::io::Read::read_exact(stdout, &mut answer).unwrap();
        assert_eq!(&answer, b"ready\n", "{held:?}");
        Self(holder)
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        drop(self.0.wait());
    }
}

#[test]
fn a_namespace_that_is_held_somehow_lives() {
    case(|bed| {
        for held in ALL {
            let (full, holder) = Full::new(bed, |pod| Holder::new(bed, pod, held));
            full.assert_held();
            drop(holder);
            full.assert_free_soon();
        }
    });
}

#[test]
fn a_namespace_that_only_a_socket_holds_lives() {
    case(|bed| {
        let (full, server) = Full::new(bed, |pod| pod.tcp_server("0.0.0.0:0"));
        full.assert_held();
        let to = format!("{}:{}", full.address, server.local_addr().unwrap().port());
        assert_eq!(bed.tcp(&to, &server).unwrap().to_canonical().to_string(), "10.1.0.1");
        drop(server);
        full.assert_free_soon();
    });
}

#[test]
fn by_default_too_a_link_that_is_gone_is_proof_at_any_age() {
    case(|bed| {
        let network = bed.network(config::pods_with(&json!({
            "ipMasq": false, "ipam": {"type": "host-local", "subnet": "10.1.0.0/30"}
        })));
        let (pod, next) = (bed.sandbox("pod"), bed.sandbox("next"));
        network.add(&pod, "c1").success();
        network.add(&next, "c2").fails_with(11, "1 of 1 in use, 0 of them look leaked");
        bed.destroy(&pod);
        let outcome = network.add(&next, "c2");
        assert_eq!(addresses(&outcome.result()), ["10.1.0.2"]);
        assert!(outcome.stderr.contains("reclaimed 10.1.0.2 from container \"c1\""), "{outcome}");
    });
}
