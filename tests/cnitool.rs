//! `cnitool` by hand: namespaces by other names, and files that are not what they seem.

mod doctor;
mod leases;
mod restore;

use serde_json::json;
use testbed::{Sandbox, Testbed, cnitool, config};

use crate::differences::case;

const LIST: &str = "/etc/cni/net.d/10-pods.conflist";
const RESULTS: &str = "/var/lib/cni/results";

fn network(bed: &Testbed) -> Sandbox {
    let list = json!({"cniVersion": "1.0.0", "name": "pods", "plugins": [config::pods()]});
    bed.write(LIST, list.to_string());
    bed.sandbox("pod")
}

fn results(bed: &Testbed) -> usize {
    bed.succeed("ls", &["-A", RESULTS]).lines().count()
}

#[test]
fn del_finds_an_attachment_by_its_namespace_however_it_is_written() {
    case(|bed| {
        let pod = network(bed);
        bed.succeed("ln", &["-s", pod.path(), "/run/test/link"]);
        for (there, back) in [
            ("/run/netns/pod", "/var/run/netns/pod"),
            ("/var/run/netns/pod", "/run/netns/pod"),
            ("/run/netns/pod", "pod"),
            ("/run/netns/pod", "/run/netns/../netns/./pod"),
            ("/run/test/link", "/run/netns/pod"),
            ("/run/netns/pod", "/run/test/link"),
        ] {
            cnitool::succeeds(bed, &[], &["add", "pods", there]);
            cnitool::succeeds(bed, &[], &["check", "pods", back]);
            let text = cnitool::succeeds(bed, &[], &["del", "pods", back]);
            assert_eq!(text, "", "{there} {back}");
            assert!(pod.has_only_lo(), "{there} {back}");
            assert_eq!((results(bed), bed.leases("pods").len()), (0, 0), "{there} {back}");
            let text = cnitool::succeeds(bed, &[], &["del", "pods", back]);
            assert!(text.contains("nothing is known to be attached as eth0"), "{text}");
        }
    });
}

#[test]
fn del_finds_it_when_the_namespace_or_its_configuration_is_gone() {
    case(|bed| {
        let pod = network(bed);
        cnitool::succeeds(bed, &[], &["add", "pods", "/var/run/netns/pod"]);
        bed.destroy(&pod);
        bed.succeed("rm", &[LIST]);
        assert_eq!(cnitool::succeeds(bed, &[], &["del", "pods", "/run/netns/pod"]), "");
        assert_eq!((results(bed), bed.leases("pods").len()), (0, 0));
    });
}

#[test]
fn del_leaves_alone_who_is_attached_elsewhere_or_by_somebody_else() {
    case(|bed| {
        let pod = network(bed);
        let other = bed.sandbox("other");
        cnitool::succeeds(bed, &[], &["add", "pods", pod.path()]);
        cnitool::succeeds(bed, &[], &["add", "pods", pod.path(), "--ifname", "eth1"]);
        let before = bed.snapshot();
        cnitool::succeeds(bed, &[], &["del", "pods", other.path()]);
        cnitool::succeeds(bed, &[], &["del", "pods", "/var/run/netns/pod", "--ifname", "eth2"]);
        bed.assert_unchanged_since(&before);
        cnitool::succeeds(bed, &[], &["del", "pods", "/var/run/netns/pod", "--ifname", "eth1"]);
        // A runtime has chosen the ID: it deletes what it has made.
        let rename = format!(
            "cd {RESULTS}; for f in *; do sed s/cnitool-[0-9a-f]*/c1/ $f >pods-c1-eth0; rm $f; done"
        );
        bed.succeed("sh", &["-c", &rename]);
        let before = bed.snapshot();
        let text = cnitool::succeeds(bed, &[], &["del", "pods", "/var/run/netns/pod"]);
        assert!(text.contains("nothing is known to be attached"), "{text}");
        bed.assert_unchanged_since(&before);
    });
}

#[test]
fn configurations_are_files_and_nobody_waits_for_anything_else() {
    case(|bed| {
        let pod = network(bed);
        let directory = "/etc/cni/net.d";
        // As Kubernetes mounts a ConfigMap.
        bed.succeed("sh", &["-c", &format!(
            "cd {directory}; mkdir ..2026; mv 10-pods.conflist ..2026; ln -s ..2026 ..data; \
             ln -s ..data/10-pods.conflist .; mkfifo 00-pipe.conflist; ln -s /dev/zero 01-zero.conf; \
             truncate -s 9G 02-large.json; ln -s gone 03-gone.conf; mkdir pods; mkfifo pods/x"
        )]);
        let text = cnitool::succeeds(bed, &[], &["add", "pods", pod.path()]);
        for words in [
            "00-pipe.conflist: it is a named pipe",
            "01-zero.conf: it is a device",
            "02-large.json: it has more than 1048576 bytes",
        ] {
            assert!(text.contains(words), "{words}: {text}");
        }
        cnitool::succeeds(bed, &[], &["del", "pods", pod.path()]);
        bed.succeed("mkfifo", &["/etc/cni/net.d/pods/10.conf"]);
        let output = cnitool::run(bed, &[], &["add", "pods", pod.path()]);
        assert!(cnitool::said(&output).contains("10.conf: it is a named pipe"), "{output:?}");
        assert!(!cnitool::run(bed, &[], &["validate"]).status.success());
        cnitool::run(bed, &[], &["doctor"]);
    });
}

#[test]
fn results_are_read_from_files_and_written_through_nothing() {
    case(|bed| {
        let pod = network(bed);
        cnitool::succeeds(bed, &[], &["add", "pods", pod.path()]);
        let own = bed.succeed("ls", &[RESULTS]).trim().to_owned();
        for plant in [
            "mkfifo $own",
            "ln -s /dev/zero $own",
            "ln ../victim $own",
            "ln -s ../victim $own",
            "mkfifo .$own.tmp",
            "ln -s ../victim .$own.tmp",
            "ln ../victim .$own.tmp",
            "mkfifo pods-c1-eth0",
            "truncate -s 9G pods-c1-eth0",
        ] {
            bed.write("/var/lib/cni/victim", "precious");
            cnitool::succeeds(bed, &[], &["del", "pods", pod.path()]);
            let script = format!("cd {RESULTS}; own={own}; rm -f $own pods-c1-eth0; {plant}");
            bed.succeed("sh", &["-c", &script]);
            for command in [&["restore", "--dry-run"][..], &["doctor"]] {
                let text = cnitool::succeeds(bed, &[], command);
                let is_told = plant.contains(".tmp") || text.contains("cnitool: passed over: ");
                assert!(is_told, "{plant}: {text}");
            }
            cnitool::succeeds(bed, &[], &["add", "pods", pod.path()]);
            assert_eq!(bed.read("/var/lib/cni/victim"), "precious", "{plant}");
            let kind = format!("cd {RESULTS}; stat -c '%F %h' {own}");
            assert_eq!(bed.succeed("sh", &["-c", &kind]).trim(), "regular file 1", "{plant}");
            cnitool::succeeds(bed, &[], &["check", "pods", pod.path()]);
        }
    });
}
