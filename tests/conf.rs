//! Every example in `conf/` is added, checked, used and deleted, as its reader will.

use std::fs;

use serde_json::Value;
use testbed::{
    Sandbox, Testbed, cnitool, dhcp::Served, kernel::has_links_or_leave, programs::workspace,
    reach::seen, result::addresses,
};

use crate::differences::case;

/// What an example is good for.
#[derive(Clone, Copy, Debug)]
enum Use {
    /// Pods with these first addresses reach each other and the world.
    Pods(&'static [&'static str]),
    /// Pods reach each other with addresses that they have given themselves.
    Segment,
    /// Pods with these first addresses reach each other and the gateway of the LAN, where they are
    /// seen as themselves.
    Lan(&'static [&'static str]),
    /// One pod at a time, the first with this address, reaches a machine of the LAN.
    InTurn(&'static str, &'static str),
    /// Pods with these first addresses reach each other by the VRF of this name, and not without it.
    Vrf(&'static [&'static str], &'static str),
    /// Pods with these first addresses reach themselves by them.
    Own(&'static [&'static str]),
    /// Pods have a tap each.
    Taps,
    /// A pod reaches itself.
    Loopback,
}

const EXAMPLES: &[(&str, Use)] = &[
    ("10-pods.conflist", Use::Pods(&["10.85.0.10"])),
    ("10-pods-bandwidth.conflist", Use::Pods(&["10.95.0.2"])),
    ("10-pods-dual-stack.conflist", Use::Pods(&["10.86.0.16", "fd00:86::2"])),
    ("10-pods-firewall.conflist", Use::Pods(&["10.88.0.2"])),
    ("10-pods-ports.conflist", Use::Pods(&["10.87.0.2"])),
    ("10-pods-tuned.conflist", Use::Pods(&["10.90.0.2"])),
    ("20-layer-2.conflist", Use::Segment),
    ("30-ptp.conflist", Use::Pods(&["10.89.0.2", "fd00:89::2"])),
    ("40-macvlan.conflist", Use::Lan(&["192.168.1.200"])),
    ("40-macvlan-static.conflist", Use::InTurn("192.168.1.10", "192.168.1.1")),
    ("41-ipvlan.conflist", Use::Lan(&["192.168.2.200"])),
    ("41-second-interface.conflist", Use::Lan(&["192.168.1.150"])),
    ("42-vlan.conflist", Use::InTurn("192.168.100.2", "192.168.100.1")),
    ("42-vrf.conflist", Use::Vrf(&["10.91.0.2"], "blue")),
    ("50-dummy.conflist", Use::Own(&["10.96.0.2", "fd00:96::2"])),
    ("50-flannel.conflist", Use::Pods(&["10.5.17.2"])),
    ("50-macvlan-dhcp.conflist", Use::Lan(&["192.168.1.60"])),
    ("50-host-device.conflist", Use::InTurn("192.168.3.200", "192.168.3.1")),
    ("51-tap.conflist", Use::Taps),
    ("99-loopback.conflist", Use::Loopback),
];

const DIR: &str = "/etc/cni/net.d";

/// `cnitool` with the examples that the bed has: what it prints, which is all that it has to say.
fn cnitool(bed: &Testbed, words: &[&str]) -> String {
    let (stdout, stderr) = run(bed, words);
    assert_eq!(stderr, "", "cnitool {words:?}");
    stdout
}

fn run(bed: &Testbed, words: &[&str]) -> (String, String) {
    let output = cnitool::run(bed, &[&format!("NETCONFPATH={DIR}")], words);
    assert!(output.status.success(), "cnitool {words:?}: {output:?}");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (text(&output.stdout), text(&output.stderr))
}

fn example(file: &str) -> Vec<u8> {
    fs::read(workspace().join("conf").join(file)).unwrap()
}

/// The name of the network that a file describes.
fn install(bed: &Testbed, file: &str) -> String {
    let text = example(file);
    bed.write(&format!("{DIR}/{file}"), &text);
    let list: Value = serde_json::from_slice(&text).unwrap();
    list["name"].as_str().unwrap().to_owned()
}

fn add(bed: &Testbed, network: &str, pod: &Sandbox) -> Value {
    let result = cnitool(bed, &["add", network, pod.path()]);
    cnitool(bed, &["check", network, pod.path()]);
    serde_json::from_str(&result).unwrap()
}

/// The examples whose links this kernel can make. If it cannot make all of them, the test of this name
/// is left to the virtual machine too.
fn examples_here(test: &str) -> Vec<(&'static str, Use)> {
    let is_here = |(file, _): &(&str, Use)| {
        let list: Value = serde_json::from_slice(&example(file)).unwrap();
        let kinds = list["plugins"].as_array().unwrap().iter();
        has_links_or_leave(test, kinds.map(|plugin| plugin["type"].as_str().unwrap()))
    };
    EXAMPLES.iter().copied().filter(is_here).collect()
}

fn talk(purpose: Use, outside: &Sandbox, pods: [&Sandbox; 2], results: [&Value; 2]) {
    match purpose {
        Use::Pods(_) => {
            let [one, two] = results.map(addresses);
            for (own, other) in one.iter().zip(&two) {
                assert_eq!(&seen(pods[0], pods[1], other), own);
                assert_eq!(&seen(pods[1], pods[0], own), other);
                let (at, host) = if own.contains(':') {
                    ("2001:db8:ffff::2", "2001:db8:ffff::1")
                } else {
                    ("203.0.113.2", "203.0.113.1")
                };
                assert_eq!(seen(pods[0], outside, at), host);
            }
        }
        Use::Lan(_) => {
            let [one, two] = results.map(addresses);
            assert_eq!(seen(pods[0], pods[1], &two[0]), one[0]);
            let gateway = results[1]["ips"][0]["gateway"].as_str().unwrap();
            assert_eq!(seen(pods[1], outside, gateway), two[0]);
        }
        Use::InTurn(_, at) => assert_eq!(seen(pods[0], outside, at), addresses(results[0])[0]),
        Use::Vrf(_, vrf) => {
            let [one, two] = results.map(|result| addresses(result)[0].clone());
            for (pod, other) in [(pods[0], two), (pods[1], one)] {
                pod.succeed("ping", &["-I", vrf, "-c", "1", "-W", "5", &other]);
                assert!(!pod.run("ip", &["route", "get", &other]).status.success());
            }
        }
        Use::Own(_) => {
            for (pod, result) in pods.into_iter().zip(results) {
                pod.ip("link set lo up");
                for own in addresses(result) {
                    assert_eq!(seen(pod, pod, &own), own);
                }
            }
        }
        Use::Taps => {
            for pod in pods {
                assert_eq!(pod.link("eth0")["linkinfo"]["info_kind"], "tun");
            }
        }
        Use::Segment => {
            for (number, pod) in pods.into_iter().enumerate() {
                pod.ip(&format!("addr add 192.0.2.{number}/24 dev eth0"));
            }
            assert_eq!(seen(pods[0], pods[1], "192.0.2.1"), "192.0.2.0");
        }
        Use::Loopback => {
            for pod in pods {
                assert_eq!(seen(pod, pod, "127.0.0.1"), "127.0.0.1");
                assert_eq!(seen(pod, pod, "::1"), "::1");
            }
        }
    }
}

/// What only one pod at a time can have.
fn use_in_turn(bed: &Testbed, gateway: &Sandbox, file: &str, purpose: Use) {
    let network = install(bed, file);
    let before = bed.snapshot();
    for name in ["one", "two"] {
        let pod = bed.sandbox(name);
        let result = add(bed, &network, &pod);
        if let Use::InTurn(first, _) = purpose
            && name == "one"
        {
            assert_eq!(addresses(&result)[0], first);
        }
        talk(purpose, gateway, [&pod, &pod], [&result, &result]);
        cnitool(bed, &["status", &network]);
        cnitool(bed, &["del", &network, pod.path()]);
        assert!(pod.has_only_lo());
        bed.assert_unchanged_since(&before);
        pod.destroy();
    }
}

fn use_up(bed: &Testbed, outside: &Sandbox, file: &str, purpose: Use) {
    let network = install(bed, file);
    let [first, one, two] = ["first", "one", "two"].map(|name| bed.sandbox(name));
    let result = add(bed, &network, &first);
    if let Use::Pods(expected) | Use::Lan(expected) | Use::Own(expected) | Use::Vrf(expected, _) =
        purpose
    {
        assert_eq!(addresses(&result), expected);
    }
    let before = bed.snapshot();
    let results = [&one, &two].map(|pod| add(bed, &network, pod));
    talk(purpose, outside, [&one, &two], [&results[0], &results[1]]);
    cnitool(bed, &["status", &network]);
    cnitool(bed, &["del", &network, one.path()]);
    let (_, said) = run(bed, &["del", &network, one.path()]);
    assert!(said.contains("nothing is known to be attached"), "{said}");
    two.destroy();
    cnitool(bed, &["del", &network, two.path()]);
    bed.assert_unchanged_since(&before);
    cnitool(bed, &["check", &network, first.path()]);
    cnitool(bed, &["del", &network, first.path()]);
    first.destroy();
    one.destroy();
}

#[test]
fn examples_are_used() {
    case(|bed| {
        let (neighbour, gateway) = (bed.neighbour(), bed.lan());
        let _served = Served::on_lan(bed, &gateway);
        for (file, purpose) in examples_here("conf::examples_are_used") {
            println!("-- {file}");
            match purpose {
                Use::InTurn(..) => use_in_turn(bed, &gateway, file, purpose),
                Use::Lan(_) => use_up(bed, &gateway, file, purpose),
                _ => use_up(bed, &neighbour, file, purpose),
            }
        }
    });
}

#[test]
fn examples_live_together() {
    case(|bed| {
        let gateway = bed.lan();
        let _served = Served::on_lan(bed, &gateway);
        let examples = examples_here("conf::examples_live_together");
        let networks: Vec<_> = examples.into_iter().map(|(file, _)| install(bed, file)).collect();
        let pod = bed.sandbox("pod");
        let before = bed.snapshot();
        for (number, network) in networks.iter().enumerate() {
            cnitool(bed, &["add", network, pod.path(), "--ifname", &format!("net{number}")]);
        }
        for (number, network) in networks.iter().enumerate() {
            cnitool(bed, &["del", network, pod.path(), "--ifname", &format!("net{number}")]);
        }
        assert_eq!(pod.ip_json("link show").as_array().map(Vec::len), Some(1), "only lo");
        assert_eq!(bed.snapshot().lines("file ").count(), before.lines("file ").count());
    });
}

#[test]
fn examples_have_no_findings() {
    case(|bed| {
        let _gateway = bed.lan();
        for (file, _) in EXAMPLES {
            install(bed, file);
            let found = cnitool(bed, &["validate", &format!("{DIR}/{file}")]);
            assert!(!found.contains("warning") && !found.contains("error"), "{found}");
        }
    });
}

#[test]
fn no_example_is_forgotten() {
    let mut found: Vec<_> = fs::read_dir(workspace().join("conf"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_file())
        .map(|path| path.file_name().unwrap().to_str().unwrap().to_owned())
        .collect();
    found.sort();
    let mut known: Vec<_> = EXAMPLES.iter().map(|(file, _)| *file).collect();
    known.sort_unstable();
    assert_eq!(found, known, "a new example needs a line in EXAMPLES");
    let texts = found.iter().map(|file| fs::read_to_string(workspace().join("conf").join(file)));
    let texts: String = texts.map(Result::unwrap).collect();
    let mut bridges: Vec<_> = texts.lines().filter(|line| line.contains("\"bridge\":")).collect();
    let all = bridges.len();
    bridges.sort_unstable();
    bridges.dedup();
    assert_eq!(bridges.len(), all, "each has a bridge of its own, to live beside the others");
}

#[test]
fn units_of_systemd_start_what_there_is() {
    case(|bed| {
        let read =
            |name: &str| fs::read_to_string(workspace().join("conf/systemd").join(name)).unwrap();
        let (unit, drop_in) = (read("girder-restore.service"), read("restore-pods.conf"));
        let start = unit.lines().find_map(|line| line.strip_prefix("ExecStart=")).unwrap();
        let (program, arguments) = start.split_once(' ').unwrap();
        assert_eq!(program, "/opt/cni/bin/cnitool", "where `make install` puts it");
        let words: Vec<_> = arguments.split(' ').collect();
        assert_eq!(cnitool(bed, &words), "nothing is missing of 0 attachments\n");
        let starts = drop_in.lines().filter(|line| line.starts_with("Exec"));
        assert!(starts.clone().all(|line| line.ends_with(" girder-restore.service")), "{drop_in}");
        assert_eq!(starts.count(), 2);
    });
}
