//! Pods with a tap, for a virtual machine: who may open it, and whose frames it carries.

use serde_json::{Value, json};
use testbed::{
    Death, Network, Place, SYSTEM_PATH, Sandbox, Testbed, attachment::tap, config::changed,
    later_reference, reach::seen, result::addresses,
};

use crate::differences::case;

fn bare<'bed>(bed: &'bed Testbed, changes: &Value) -> (Network<'bed>, Sandbox) {
    (bed.network(tap(changes)), bed.sandbox("pod"))
}

fn data(pod: &Place) -> Value {
    pod.link("eth0")["linkinfo"].clone()
}

/// The reference's test of a device, which is added, checked and removed.
#[test]
fn lives_with_owner_group_and_addresses() {
    case(|bed| {
        let (network, pod) = bare(bed, &json!({"owner": 0, "group": 0, "cniVersion": "1.1.0"}));
        let result = network.add(&pod, "c1").result();
        let link = pod.link("eth0");
        assert_eq!(link["linkinfo"]["info_kind"], "tun");
        let own = json!({"name": "eth0", "mac": link["address"], "sandbox": pod.path()});
        assert_eq!(result["interfaces"], json!([own]));
        assert_eq!(addresses(&result), ["10.1.0.2"]);
        assert!(pod.ip("addr show dev eth0").contains("10.1.0.2/24"));
        network.status().silent();
        network.check(&pod, "c1").silent();
        network.del(&pod, "c1").silent();
        network.del(&pod, "c1").silent();
        assert!(pod.has_only_lo() && bed.leases("machines").is_empty());
    });
}

/// The reference's test of a bridge port.
#[test]
fn is_a_port_of_a_bridge_in_the_container() {
    case(|bed| {
        let (network, pod) = bare(bed, &json!({"bridge": "br1", "owner": 0, "group": 0}));
        pod.ip("link add br1 type bridge");
        network.add(&pod, "c1").success();
        assert_eq!(pod.link("eth0")["master"], "br1");
        network.check(&pod, "c1").silent();
        network.del(&pod, "c1").silent();
        network.del(&pod, "c1").silent();
        assert!(!pod.has_link("eth0") && pod.has_link("br1"));
    });
}

#[test]
fn name_service_is_in_the_answer_without_ipam_too() {
    case(|bed| {
        let dns = json!({"nameservers": ["192.0.2.53"]});
        let (network, pod) = bare(bed, &json!({"ipam": null, "dns": dns}));
        assert_eq!(network.add(&pod, "c1").result()["dns"], dns);
        network.check(&pod, "c1").silent();
        network.del(&pod, "c1").silent();
    });
}

#[test]
fn a_bridge_that_is_missing_is_named() {
    case(|bed| {
        let (network, pod) = bare(bed, &json!({"bridge": "br1"}));
        let error = network.add(&pod, "c1").error();
        assert!(error.msg.contains("failed to get bridge br1"), "{error:?}");
        assert!(pod.has_only_lo());
    });
}

#[test]
fn all_that_is_asked_for_is_kept() {
    case(|bed| {
        for (number, (changes, is)) in [
            (json!({}), json!({"type": "tap", "pi": false, "persist": true})),
            (json!({"owner": 107}), json!({"user": 107})),
            (json!({"group": 108}), json!({"group": 108})),
            (json!({"owner": 107, "group": 108}), json!({"user": 107, "group": 108})),
            (json!({"multiQueue": true}), json!({"multi_queue": true})),
        ]
        .into_iter()
        .enumerate()
        {
            let pod = bed.sandbox(&format!("p{number}"));
            let more = json!({"ipam": null, "mtu": 1300, "mac": "02:00:00:00:00:11"});
            let network = bed.network(changed(tap(&changes), &more));
            network.add(&pod, "c1").success();
            let link = pod.link("eth0");
            assert_eq!((&link["mtu"], &link["address"]), (&json!(1300), &more["mac"]));
            for (key, value) in is.as_object().unwrap() {
                assert_eq!(&data(&pod)["info_data"][key], value, "{changes}: {link}");
            }
            network.check(&pod, "c1").silent();
        }
    });
}

#[test]
fn the_runtime_beats_the_arguments_beat_the_configuration() {
    case(|bed| {
        let own = json!({"mac": "02:00:00:00:00:01", "ipam": null});
        let mac = |name: &str, network: Network<'_>| {
            let pod = bed.sandbox(name);
            network.add(&pod, "c1").success();
            pod.link("eth0")["address"].clone()
        };
        assert_eq!(mac("a", bed.network(tap(&own))), "02:00:00:00:00:01");
        let args = "IgnoreUnknown=1;MAC=02:00:00:00:00:02";
        assert_eq!(mac("b", bed.network(tap(&own)).args(args)), "02:00:00:00:00:02");
        let mut told = tap(&own);
        told["RuntimeConfig"] = json!({"mac": "02:00:00:00:00:03"});
        assert_eq!(mac("c", bed.network(told).args(args)), "02:00:00:00:00:03");
        let wrong = tap(&json!({"mac": "nonsense", "ipam": null}));
        assert_ne!(bed.network(wrong).add(&bed.sandbox("d"), "c1").error_code(), 0);
    });
}

/// A program that opens the tap of a pod, as a virtual machine does, and passes its frames on.
fn machine(pod: &Sandbox, other: &str, before: &str) -> std::process::Child {
    let words = format!("{before} socat TUN,tun-name=eth0,tun-type=tap,iff-no-pi {other}");
    let mut words = words.split_whitespace();
    pod.start(std::process::Command::new(words.next().unwrap()).args(words))
}

#[test]
fn frames_of_programs_pass() {
    case(|bed| {
        let (network, one) = bare(bed, &json!({"owner": 107, "group": 107}));
        let two = bed.sandbox("two");
        let own = [(&one, "one"), (&two, "two")].map(|(pod, id)| {
            let result = network.add(pod, id).result();
            addresses(&result).remove(0)
        });
        let socket = "/run/test/wire";
        let mut first = machine(&one, &format!("UNIX-LISTEN:{socket},type=5"), "");
        while !bed.file(socket).exists() {
            assert!(first.try_wait().unwrap().is_none(), "{:?}", first.wait_with_output());
            std::thread::yield_now();
        }
        let second = machine(&two, &format!("UNIX-CONNECT:{socket},type=5"), "");
        assert_eq!(seen(&one, &two, &own[1]), own[0]);
        assert_eq!(seen(&two, &one, &own[0]), own[1]);
        for mut machine in [first, second] {
            machine.kill().unwrap();
            machine.wait().unwrap();
        }
    });
}

#[test]
fn owner_and_group_may_open_it_without_privilege() {
    case(|bed| {
        // From here on anybody may open the file; whose tap it is the kernel looks at.
        bed.succeed("mount", &["-t", "tmpfs", "-o", "dev,mode=755", "none", "/dev/net"]);
        bed.succeed("mknod", &["-m", "666", "/dev/net/tun", "c", "10", "200"]);
        for (number, (keys, user, group, may)) in [
            (json!({"owner": 107}), 107, 5, true),
            (json!({"owner": 107}), 108, 5, false),
            (json!({"group": 107}), 5, 107, true),
            (json!({"group": 107}), 107, 108, false),
            (json!({"owner": 107, "group": 107}), 107, 107, true),
            (json!({"owner": 0, "group": 0}), 107, 107, false),
        ]
        .into_iter()
        .enumerate()
        {
            let pod = bed.sandbox(&format!("p{number}"));
            bed.network(tap(&keys)).add(&pod, "c1").success();
            let before = format!(
                "setpriv --reuid {user} --regid {group} --clear-groups --inh-caps=-all --bounding-set=-all"
            );
            let outcome = machine(&pod, "STDIO", &before).wait_with_output().unwrap();
            let said = String::from_utf8_lossy(&outcome.stderr).into_owned();
            // socat would also raise the link, which takes a privilege.
            let refused = if may { "SIOCSIFFLAGS" } else { "TUNSETIFF" };
            assert!(said.contains(refused), "{keys} {user} {group}: {said}");
            bed.network(tap(&keys)).del(&pod, "c1").silent();
        }
    });
}

#[test]
fn check_finds_what_is_different() {
    case(|bed| {
        let keys = json!({"owner": 107, "mtu": 1400, "bridge": "br1", "ipam": null, "mac": "02:00:00:00:00:11"});
        let again = "tuntap add dev eth0 mode";
        for (breakage, object) in [
            ("link del eth0".to_owned(), "eth0"),
            ("link set eth0 down".to_owned(), "down"),
            ("link set eth0 mtu 1300".to_owned(), "1300"),
            ("link set eth0 nomaster".to_owned(), "br1"),
            ("link set eth0 address 02:00:00:00:00:77".to_owned(), "02:00:00:00:00:77"),
            (format!("{again} tap user 108"), "108"),
            (format!("{again} tap user 107 group 5"), "group"),
            (format!("{again} tap user 107 multi_queue"), "queues"),
            (format!("{again} tun user 107"), "no tap"),
            ("link add eth0 type bridge".to_owned(), "not of type tun"),
        ] {
            let (network, pod) = bare(bed, &keys);
            pod.ip("link add br1 type bridge");
            network.add(&pod, "c1").success();
            network.check(&pod, "c1").silent();
            if breakage.contains(" add ") {
                pod.ip("link del eth0");
            }
            pod.ip(&breakage);
            let error = network.check(&pod, "c1").error();
            assert!(error.msg.contains(object), "{breakage}: {error:?}");
            pod.destroy();
        }
    });
}

#[test]
fn an_interface_that_is_taken_stays_whose_it_is() {
    case(|bed| {
        for (number, kind) in
            ["link add eth0 type bridge", "tuntap add dev eth0 mode tap"].iter().enumerate()
        {
            let pod = bed.sandbox(&format!("p{number}"));
            let network = bed.network(tap(&json!({})));
            pod.ip(kind);
            let before = pod.link("eth0");
            network.add(&pod, "c1").fails_with(4, "eth0");
            assert_eq!(pod.link("eth0"), before);
            assert_eq!(pod.ip_json("link").as_array().unwrap().len(), 2, "{kind}");
            assert!(bed.leases("machines").is_empty());
        }
    });
}

#[test]
fn a_failed_add_leaves_nothing() {
    case(|bed| {
        let before = bed.snapshot();
        bed.recorder("empty", &json!({"cniVersion": "1.0.0"}));
        for (number, changes) in [
            json!({"ipam": {"type": "empty"}}),
            json!({"ipam": {"type": "missing"}}),
            json!({"mtu": 67}),
            json!({"mtu": 65_535}),
            json!({"owner": u32::MAX}),
            json!({"cniVersion": "0.1.0", "ipam": null}),
        ]
        .iter()
        .enumerate()
        {
            let (network, pod) = (bed.network(tap(changes)), bed.sandbox(&format!("p{number}")));
            assert_ne!(network.add(&pod, "c1").error_code(), 0);
            assert!(pod.has_only_lo(), "{changes}: {}", pod.ip("link"));
            bed.assert_unchanged_since(&before);
        }
    });
}

#[test]
fn a_killed_add_is_cleaned_up_by_one_del() {
    case(|bed| {
        let network = bed.network(tap(&json!({"owner": 107, "multiQueue": true})));
        network.add(&bed.sandbox("earlier"), "earlier").success();
        let before = bed.snapshot();
        let deaths = Death::each(|death| {
            let pod = bed.sandbox("pod");
            let call = network.call("ADD", "c1").netns(pod.path()).env("PATH", SYSTEM_PATH);
            let survived = death.spares(call);
            network.call("DEL", "c1").netns(pod.path()).run().silent();
            assert!(pod.has_only_lo(), "{death:?}: {}", pod.ip("link"));
            bed.assert_unchanged_since(&before);
            pod.destroy();
            survived
        });
        assert!(deaths > 15, "it was hardly ever killed");
    });
}

#[test]
fn what_a_killed_add_has_left_is_nobody_elses_tap() {
    case(|bed| {
        let keys = json!({"owner": 107, "group": 107, "multiQueue": true, "ipam": null});
        let (network, pod) = bare(bed, &keys);
        let left = |pod: &Place| pod.ip("-o link").lines().count() > 1 && !pod.has_link("eth0");
        let has_left = (1..20).any(|number| {
            let strace = format!(
                "strace -o /dev/null -e trace=sendto -e inject=sendto:signal=KILL:when={number}"
            );
            let call = network.call("ADD", "c1").netns(pod.path()).env("PATH", SYSTEM_PATH);
            let died = !call.under(&strace).run().status.success();
            died && left(&pod)
        });
        assert!(has_left, "it was never killed in between");
        let other = bed.network(tap(&json!({"owner": 5, "ipam": null})));
        other.add(&pod, "c1").success();
        let data = &data(&pod)["info_data"];
        assert_eq!((&data["group"], &data["multi_queue"]), (&Value::Null, &json!(false)), "{data}");
        other.del(&pod, "c1").silent();
        assert!(pod.has_only_lo());
    });
}

#[test]
fn del_leaves_what_is_another_networks() {
    case(|bed| {
        let (network, pod) = bare(bed, &json!({}));
        network.add(&pod, "c1").success();
        let other = bed.network(tap(&json!({"name": "others"})));
        other.add(&pod, "c1").fails_with(4, "eth0");
        other.del(&pod, "c1").silent();
        network.check(&pod, "c1").silent();
    });
}

#[test]
fn del_after_a_refused_add_leaves_the_link_of_a_program() {
    case(|bed| {
        let (network, pod) = bare(bed, &json!({}));
        for mode in ["tun", "tap"] {
            for alias in ["", "vpn", "machines c2 eth0"] {
                pod.ip(&format!("tuntap add dev eth0 mode {mode}"));
                pod.succeed("ip", &["link", "set", "eth0", "alias", alias]);
                network.add(&pod, "c1").fails_with(4, "eth0");
                network.del(&pod, "c1").silent();
                assert!(pod.has_link("eth0"), "{mode} {alias:?}");
                pod.ip("link del eth0");
            }
        }
    });
}

#[test]
fn ours_deletes_what_theirs_has_made() {
    let Some(dir) = later_reference() else { return };
    case(|bed| {
        let (network, pod) = bare(bed, &json!({}));
        let add = network.call("ADD", "c1").netns(pod.path()).env("PATH", SYSTEM_PATH);
        let result = add.program(format!("{dir}/tap")).run().result();
        let config = changed(network.config().clone(), &json!({"prevResult": result}));
        network.call("DEL", "c1").netns(pod.path()).config(&config).run().silent();
        assert!(pod.has_only_lo() && bed.leases("machines").is_empty());
    });
}

#[test]
fn a_label_needs_a_host_that_has_labels() {
    case(|bed| {
        if bed.file("/sys/fs/selinux/enforce").exists() {
            return;
        }
        let label = "system_u:object_r:tap_t:s0";
        let (network, pod) = bare(bed, &json!({"selinuxContext": label}));
        network.add(&pod, "c1").fails_with(7, label);
        assert!(pod.has_only_lo());
    });
}

/// What the plugin runs with another label, where there are labels.
#[test]
fn a_process_of_its_own_makes_the_tap_it_is_told_to() {
    case(|bed| {
        let told = |words: &str| bed.plugin("tap").env("GIRDER_TAP", words).run();
        told("tap7 107 - true").silent();
        let data = bed.link("tap7")["linkinfo"]["info_data"].clone();
        assert_eq!((&data["user"], &data["group"]), (&json!(107), &Value::Null));
        assert_eq!(data["multi_queue"], true);
        bed.ip("link add other type bridge");
        let refused = told("other - - false");
        assert!(!refused.status.success());
        assert!(refused.object()["msg"].as_str().unwrap().contains("other"), "{refused}");
    });
}

#[test]
fn status_needs_the_device() {
    case(|bed| {
        let (network, _) = bare(bed, &json!({"cniVersion": "1.1.0"}));
        network.status().silent();
        bed.succeed("mount", &["-t", "tmpfs", "none", "/dev/net"]);
        let error = network.status().error();
        assert_eq!(error.code, 50, "{error:?}");
        let error = network.add(&bed.sandbox("other"), "c1").error();
        assert!(error.msg.contains("/dev/net/tun"), "{error:?}");
    });
}
