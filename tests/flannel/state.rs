//! What flannel keeps of each attachment, so that DEL knows who has made it: beside the Go plugin, and
//! for several interfaces of a container.

use std::{
    os::unix::fs::PermissionsExt as _,
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use testbed::{
    Sandbox, Testbed,
    config::changed,
    flannel::{SUBNET_ENV, flannel},
};

use crate::differences::case;

const DIR: &str = "/var/lib/cni/flannel";

fn state(bed: &Testbed, name: &str) -> Value {
    serde_json::from_str(&bed.read(&format!("{DIR}/{name}"))).unwrap()
}

/// The files in the directory.
fn names(bed: &Testbed) -> Vec<String> {
    let Ok(entries) = bed.file(DIR).read_dir() else { return Vec::new() };
    let mut names: Vec<_> =
        entries.map(|entry| entry.unwrap().file_name().to_str().unwrap().to_owned()).collect();
    names.sort();
    names
}

/// What the Go plugin keeps: the delegate's configuration.
fn write_as_go(bed: &Testbed, container: &str, config: &Value) {
    bed.write(&format!("{DIR}/{container}"), config.to_string());
}

/// The delegate's configuration on a node with this subnet.
fn of_delegate(kind: &str) -> Value {
    json!({
        "cniVersion": "1.1.0", "name": "cbr0", "type": kind, "ipMasq": true, "isGateway": true,
        "mtu": 1450,
        "ipam": {
            "type": "host-local", "ranges": [[{"subnet": "10.5.17.0/24"}]],
            "routes": [{"dst": "10.5.0.0/16"}]
        }
    })
}

#[test]
fn the_go_plugin_finds_what_it_needs() {
    case(|bed| {
        bed.lease_subnet();
        let (network, pod) = (bed.network(flannel(&json!({}))), bed.sandbox("pod"));
        network.add(&pod, "c1").success();
        assert_eq!(names(bed), ["c1"]);
        let mode = |path: &str| bed.file(path).metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(DIR), mode(&format!("{DIR}/c1"))), (0o700, 0o600));
        // It hands all of it to the plugin that `type` names.
        let kept = state(bed, "c1");
        let before = pod.has_only_lo();
        bed.call("DEL", "c1", &kept).netns(pod.path()).run().silent();
        assert!(!before && pod.has_only_lo() && bed.leases("cbr0").is_empty());
        let keys = json!({
            "girder/ifname": null, "ipMasqExclude": null, "isDefaultGateway": null,
            "hairpinMode": null
        });
        let mut expected = of_delegate("bridge");
        expected["ipam"]["graceAge"] = json!(0);
        assert_eq!(changed(kept, &keys), expected);
    });
}

#[test]
fn what_the_go_plugin_has_attached_is_detached() {
    case(|bed| {
        bed.lease_subnet();
        // By a delegate that nobody configures any more.
        let delegate = of_delegate("ptp");
        let add = |pod: &Sandbox, id: &str| {
            bed.call("ADD", id, &delegate).netns(pod.path()).run().success();
        };
        add(&bed.sandbox("earlier"), "earlier");
        let (pod, before) = (bed.sandbox("pod"), bed.snapshot());
        add(&pod, "c1");
        write_as_go(bed, "c1", &delegate);
        bed.network(flannel(&json!({}))).del(&pod, "c1").silent();
        bed.assert_unchanged_since(&before);
        assert!(pod.has_only_lo());
    });
}

#[test]
fn what_the_go_plugin_has_left_of_the_same_attachment_is_replaced() {
    case(|bed| {
        bed.lease_subnet();
        let (network, pod) = (bed.network(flannel(&json!({}))), bed.sandbox("pod"));
        write_as_go(bed, "c1", &of_delegate("ptp"));
        network.add(&pod, "c1").success();
        assert_eq!(
            (names(bed), state(bed, "c1")["type"].as_str()),
            (vec!["c1".into()], Some("bridge"))
        );
        network.del(&pod, "c1").silent();
        assert!(names(bed).is_empty() && pod.has_only_lo());
    });
}

/// `eth0` and `eth1` of one container.
fn interfaces<'bed>(bed: &'bed Testbed, pod: &Sandbox) -> [testbed::Network<'bed>; 2] {
    ["eth0", "eth1"].map(|name| {
        let own =
            json!({"name": format!("net-{name}"), "delegate": {"bridge": format!("br-{name}")}});
        let network = bed.network(flannel(&own)).ifname(name);
        network.add(pod, "c1").success();
        network
    })
}

#[test]
fn two_interfaces_of_a_container_have_a_state_each() {
    case(|bed| {
        bed.lease_subnet();
        for order in [[0, 1], [1, 0]] {
            let pod = bed.sandbox("pod");
            let before = names(bed);
            assert!(before.is_empty());
            let networks = interfaces(bed, &pod);
            assert_eq!(names(bed), ["c1", "c1:eth1"]);
            assert_eq!(state(bed, "c1")["bridge"], "br-eth0");
            assert_eq!(state(bed, "c1:eth1")["bridge"], "br-eth1");
            for network in &networks {
                network.check(&pod, "c1").silent();
            }
            for (index, left) in order.into_iter().zip([1, 0]) {
                // A DEL that comes again takes nothing of the other interface.
                networks[index].del(&pod, "c1").silent();
                networks[index].del(&pod, "c1").silent();
                assert_eq!(names(bed).len(), left);
            }
            assert!(pod.has_only_lo());
            pod.destroy();
        }
    });
}

#[test]
fn the_state_of_a_second_interface_is_found_when_the_first_one_is_gone() {
    case(|bed| {
        bed.lease_subnet();
        let pod = bed.sandbox("pod");
        let [first, second] = interfaces(bed, &pod);
        first.del(&pod, "c1").silent();
        second.del(&pod, "c1").silent();
        second.add(&pod, "c1").success();
        assert_eq!(names(bed), ["c1"]);
        first.add(&pod, "c1").success();
        assert_eq!(names(bed), ["c1", "c1:eth0"]);
        // Another ADD of the same is refused, and takes nothing away.
        let kept = state(bed, "c1:eth0");
        assert_ne!(first.add(&pod, "c1").error_code(), 0);
        assert_eq!(state(bed, "c1:eth0"), kept);
        for network in [first, second] {
            network.check(&pod, "c1").silent();
            network.del(&pod, "c1").silent();
        }
        assert!(names(bed).is_empty() && pod.has_only_lo());
    });
}

#[test]
fn interfaces_that_come_at_once_have_a_state_each() {
    case(|bed| {
        bed.lease_subnet();
        let pod = bed.sandbox("pod");
        let call = |verb: &str, name: &str| {
            let network = bed.network(flannel(&json!({}))).ifname(name);
            network.call(verb, "c1").netns(pod.path())
        };
        // The first one has chosen its file, and has not put it there yet.
        let slow = "-e trace=rename -e inject=rename:delay_enter=1500000:when=1";
        thread::scope(|threads| {
            let add = threads.spawn(|| bed.strace(call("ADD", "eth0"), slow).0);
            let start = Instant::now();
            while names(bed).is_empty() {
                assert!(start.elapsed() < Duration::from_secs(10), "nothing is written");
            }
            call("ADD", "eth1").run().success();
            add.join().unwrap().success();
        });
        assert_eq!(names(bed), ["c1", "c1:eth1"]);
        for name in ["eth1", "eth0"] {
            call("DEL", name).run().silent();
        }
        assert!(names(bed).is_empty() && pod.has_only_lo() && bed.leases("cbr0").is_empty());
    });
}

#[test]
fn a_network_that_was_refused_takes_nothing_of_the_one_that_is_there() {
    case(|bed| {
        bed.lease_subnet();
        let (network, pod) = (bed.network(flannel(&json!({}))), bed.sandbox("pod"));
        network.add(&pod, "c1").success();
        let (kept, other) = (names(bed), bed.network(flannel(&json!({"name": "other"}))));
        other.add(&pod, "c1").fails_with(4, "CNI_IFNAME");
        assert_eq!(names(bed), kept);
        // As runtimes do after a failure.
        other.del(&pod, "c1").silent();
        assert_eq!(names(bed), kept);
        network.check(&pod, "c1").silent();
        network.del(&pod, "c1").silent();
        assert!(names(bed).is_empty() && pod.has_only_lo());
    });
}

#[test]
fn state_of_the_go_plugin_is_not_overwritten_by_another_interface() {
    case(|bed| {
        bed.lease_subnet();
        let pod = bed.sandbox("pod");
        let theirs = changed(of_delegate("ptp"), &json!({"name": "theirs"}));
        bed.call("ADD", "c1", &theirs).netns(pod.path()).run().success();
        write_as_go(bed, "c1", &theirs);
        let own = bed.network(flannel(&json!({}))).ifname("eth1");
        own.add(&pod, "c1").success();
        assert_eq!(names(bed), ["c1", "c1:eth1"]);
        own.del(&pod, "c1").silent();
        assert_eq!(names(bed), ["c1"]);
        bed.network(flannel(&json!({"name": "theirs"}))).del(&pod, "c1").silent();
        assert!(names(bed).is_empty() && pod.has_only_lo() && bed.leases("theirs").is_empty());
    });
}

#[test]
fn torn_or_missing_state_keeps_nothing_from_being_deleted() {
    case(|bed| {
        bed.lease_subnet();
        let network = bed.network(flannel(&json!({})));
        network.add(&bed.sandbox("earlier"), "earlier").success();
        let before = bed.snapshot();
        for content in [Some(""), Some("{"), Some("[]"), Some("{}"), Some("\0\0\0"), None] {
            let pod = bed.sandbox("pod");
            network.add(&pod, "c1").success();
            match content {
                Some(content) => bed.write(&format!("{DIR}/c1"), content),
                None => std::fs::remove_file(bed.file(format!("{DIR}/c1"))).unwrap(),
            }
            network.check(&pod, "c1").silent();
            network.del(&pod, "c1").silent();
            assert!(pod.has_only_lo());
            bed.assert_unchanged_since(&before);
            pod.destroy();
        }
    });
}

#[test]
fn nothing_is_left_whatever_has_become_of_configuration_and_subnet() {
    case(|bed| {
        let network = bed.network(flannel(&json!({})));
        bed.lease_subnet();
        network.add(&bed.sandbox("earlier"), "earlier").success();
        let lease = bed.read(SUBNET_ENV);
        let before = bed.snapshot();
        for (number, changes) in [
            json!({}),
            json!({"delegate": {"type": "ptp"}}),
            json!({"delegate": 5, "ipam": "x", "runtimeConfig": []}),
            json!({"delegate": {"type": 5, "name": 7, "ipam": 9}, "ipam": {"type": 5}}),
            json!({"subnetFile": 5, "delegate": null, "ipam": null}),
        ]
        .into_iter()
        .enumerate()
        {
            for has_file in [true, false] {
                let pod = bed.sandbox(&format!("pod{number}{has_file}"));
                network.add(&pod, "c1").success();
                if !has_file {
                    std::fs::remove_file(bed.file(SUBNET_ENV)).unwrap();
                }
                bed.network(flannel(&changes)).del(&pod, "c1").silent();
                assert!(pod.has_only_lo(), "{changes}");
                bed.write(SUBNET_ENV, &lease);
                bed.assert_unchanged_since(&before);
                pod.destroy();
            }
        }
    });
}

#[test]
fn a_directory_that_was_changed_since_loses_nothing() {
    case(|bed| {
        bed.lease_subnet();
        let network = bed.network(flannel(&json!({})));
        network.add(&bed.sandbox("earlier"), "earlier").success();
        let (before, pod) = (bed.snapshot(), bed.sandbox("pod"));
        let other = |delegate: &str| {
            let changes = json!({"dataDir": "/run/test/other", "delegate": {"type": delegate}});
            bed.network(flannel(&changes))
        };
        network.add(&pod, "c1").success();
        other("ptp").del(&pod, "c1").silent();
        assert!(pod.has_only_lo());
        bed.assert_unchanged_since(&before);
        network.add(&pod, "c1").success();
        other("bridge").gc(&["earlier"]).silent();
        bed.assert_unchanged_since(&before);
    });
}

#[test]
fn gc_collects_state_of_what_is_gone() {
    case(|bed| {
        bed.lease_subnet();
        let network = bed.network(flannel(&json!({})));
        let other = bed.network(flannel(&json!({"name": "other"})));
        for (network, id) in [(&network, "gone"), (&network, "here"), (&other, "others")] {
            network.add(&bed.sandbox(id), id).success();
        }
        let go =
            changed(of_delegate("bridge"), &json!({"ipam": {"type": "host-local", "graceAge": 0}}));
        for container in ["go-gone", "go-here"] {
            write_as_go(bed, container, &go);
        }
        // Nobody can tell whose they are: they go when they are old.
        for container in ["torn", "torn-long-ago"] {
            bed.write(&format!("{DIR}/{container}"), "");
        }
        bed.succeed("touch", &["-d", "1 hour ago", &format!("{DIR}/torn-long-ago")]);
        bed.succeed("mkdir", &[&format!("{DIR}/folder")]);
        network.gc(&["here", "go-here"]).silent();
        assert_eq!(names(bed), ["folder", "go-here", "here", "others", "torn"]);
        let held: Vec<_> = bed.leases("cbr0").into_values().collect();
        assert_eq!(held, ["here eth0"]);
        // Without the file of flanneld, too.
        std::fs::remove_file(bed.file(SUBNET_ENV)).unwrap();
        network.gc(&[]).silent();
        assert_eq!(names(bed), ["folder", "others", "torn"]);
    });
}

#[test]
fn gc_leaves_files_of_others_alone() {
    case(|bed| {
        bed.lease_subnet();
        let network = bed.network(flannel(&json!({"dataDir": "/run/flannel"})));
        bed.write("/run/flannel/other-tool.db", "data");
        for name in ["subnet.env", "other-tool.db"] {
            bed.succeed("touch", &["-d", "1 hour ago", &format!("/run/flannel/{name}")]);
        }
        let before = bed.snapshot();
        network.gc(&[]).silent();
        bed.assert_unchanged_since(&before);
    });
}

#[test]
fn gc_spares_what_is_young() {
    case(|bed| {
        bed.lease_subnet();
        let network = bed.network(flannel(&json!({"ipam": {}})));
        let pod = bed.sandbox("pod");
        network.add(&pod, "c1").success();
        network.gc(&[]).silent();
        assert_eq!(names(bed), ["c1"]);
        network.check(&pod, "c1").silent();
        bed.succeed("touch", &["-d", "1 hour ago", &format!("{DIR}/c1")]);
        network.gc(&["c1"]).silent();
        assert_eq!(names(bed), ["c1"]);
    });
}

#[test]
fn what_is_no_plain_file_is_not_followed() {
    case(|bed| {
        bed.lease_subnet();
        let network = bed.network(flannel(&json!({})));
        bed.write("/run/test/victim", "victim");
        bed.succeed("mkdir", &["-p", DIR]);
        let path = format!("{DIR}/c1");
        for make in ["ln -s /run/test/victim", "mkfifo"] {
            let (make, pod) = (format!("{make} {path}"), bed.sandbox("pod"));
            bed.succeed("sh", &["-c", &make]);
            network.del(&pod, "c1").silent();
            bed.succeed("sh", &["-c", &make]);
            network.add(&pod, "c1").success();
            assert!(bed.file(&path).symlink_metadata().unwrap().is_file());
            network.del(&pod, "c1").silent();
            assert_eq!(bed.read("/run/test/victim"), "victim");
            pod.destroy();
        }
    });
}
