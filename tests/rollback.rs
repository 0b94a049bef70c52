//! An ADD that fails half way leaves the host as it was, whatever it failed for.

use std::process::Command;

use serde_json::{Value, json};
use testbed::{
    Fault, Outcome, SYSTEM_PATH, Testbed, bin_dir,
    config::{self, changed},
    step,
    warm::Warm,
};

use crate::differences::{case, case_each};

/// An ADD with `config` that must fail, beside an attachment that must not notice.
fn fail(warm: &Warm<'_>, config: &Value) -> Outcome {
    let pod = warm.bed.sandbox("pod");
    let before = warm.bed.snapshot();
    let outcome = warm.network.call("ADD", "c1").netns(pod.path()).config(config).run();
    assert_eq!(outcome.status.code(), Some(1), "{outcome}");
    assert_eq!(pod.ip_json("link show").as_array().map(Vec::len), Some(1), "{outcome}");
    before.assert_same(&warm.bed.snapshot());
    pod.destroy();
    warm.network.check(&warm.first, "first").silent();
    outcome
}

/// System calls that fail, one at a time, each with an error that the kernel may give.
const FAULTS: [(&str, &str); 3] =
    [("sendto", "ENOBUFS"), ("recvfrom", "ENOBUFS"), ("openat", "EMFILE")];

#[test]
fn whatever_the_kernel_refuses_a_failed_add_leaves_nothing() {
    case_each(|first| {
        first.add().success();
        first.call_del().run().silent();
        let shared = first.bed.snapshot();
        for (call, error) in FAULTS {
            Fault::each(call, error, step(5), |fault| {
                let it = first.another();
                let (inside, before) = (it.inside(), it.bed.snapshot());
                let (outcome, was_struck) = fault.strike_alone(it.bed, it.call("ADD"));
                if outcome.status.success() {
                    it.call_del().run().silent();
                }
                assert_eq!(it.inside(), inside, "{fault:?}: {outcome}");
                it.bed.assert_unchanged_since(&before);
                it.leave();
                was_struck
            });
        }
        first.bed.assert_unchanged_since(&shared);
    });
}

fn ipam(ipam: &Value) -> Value {
    config::pods_with(&json!({"ipam": ipam}))
}

fn said(outcome: &Outcome) -> String {
    let error = outcome.error();
    format!("{}; {}", error.msg, error.details)
}

/// An IPAM plugin that fails or answers in this way, and writes down its verbs.
fn double(bed: &Testbed, answer: &str, status: u8) {
    let text = format!(
        "#!/bin/sh\n\
         echo $CNI_COMMAND >> /run/test/verbs\n\
         cat > /run/test/config\n\
         [ $CNI_COMMAND = ADD ] || exit 0\n\
         printf '%s' '{answer}'\n\
         exit {status}\n"
    );
    bed.script("ipam", &text);
}

#[test]
fn no_ipam_plugin_of_that_name() {
    case(|bed| {
        let warm = Warm::new(bed, config::pods());
        let outcome = fail(&warm, &ipam(&json!({"type": "nowhere"})));
        assert!(said(&outcome).contains("nowhere"), "{outcome}");
    });
}

#[test]
fn an_ipam_plugin_that_fails_is_quoted() {
    case(|bed| {
        let warm = Warm::new(bed, config::pods());
        double(bed, r#"{"cniVersion": "1.0.0", "code": 142, "msg": "out of luck"}"#, 1);
        let outcome = fail(&warm, &ipam(&json!({"type": "ipam"})));
        assert!(said(&outcome).contains("out of luck"), "{outcome}");
        assert_eq!(outcome.error_code(), 142, "{outcome}");
    });
}

#[test]
fn an_ipam_plugin_that_fails_is_asked_to_clean_up() {
    case(|bed| {
        let warm = Warm::new(bed, config::pods());
        let fine = r#"{"cniVersion": "1.0.0", "ips": [{"address": "10.1.0.9/24"}]}"#;
        for (answer, status) in [("no JSON", 0), ("", 0), ("", 1), (r#"{"code": 7}"#, 1), (fine, 1)]
        {
            double(bed, answer, status);
            let outcome = fail(&warm, &ipam(&json!({"type": "ipam"})));
            assert_eq!(bed.read("/run/test/verbs"), "ADD\nDEL\n", "{outcome}");
            bed.succeed("rm", &["/run/test/verbs"]);
        }
    });
}

#[test]
fn an_ipam_plugin_that_answers_nonsense_is_refused() {
    case(|bed| {
        let warm = Warm::new(bed, config::pods());
        let (fine, bad) = (json!({"address": "10.1.0.9/24"}), json!({"address": "10.1.0.9/77"}));
        let rows = [
            (json!([]), "IPAM plugin returned missing IP config"),
            (json!(null), "IPAM plugin returned missing IP config"),
            (json!([bad]), "10.1.0.9/77"),
            // The kernel will not have an address twice.
            (json!([fine, fine]), ""),
        ];
        for (ips, words) in rows {
            double(bed, &json!({"cniVersion": "1.0.0", "ips": ips}).to_string(), 0);
            let outcome = fail(&warm, &ipam(&json!({"type": "ipam"})));
            assert!(said(&outcome).contains(words), "{outcome}");
            let verbs = bed.read("/run/test/verbs");
            assert_eq!(verbs.lines().last(), Some("DEL"), "{ips}: {verbs}");
        }
    });
}

#[test]
fn who_is_there_already_keeps_everything() {
    case(|bed| {
        let warm = Warm::new(bed, config::pods());
        let before = bed.snapshot();
        // The same attachment again, and another container's in the same namespace.
        for container in ["first", "c2"] {
            let call = warm.network.call("ADD", container).netns(warm.first.path());
            let outcome = call.run();
            assert_eq!(outcome.status.code(), Some(1), "{outcome}");
            bed.assert_unchanged_since(&before);
            warm.assert_connected(&warm.first);
            warm.network.check(&warm.first, "first").silent();
        }
        assert!(bed.leases("pods").values().all(|owner| owner == "first eth0"));
    });
}

#[test]
fn an_interface_of_somebody_elses_is_left_alone() {
    case(|bed| {
        let warm = Warm::new(bed, config::pods());
        let pod = bed.sandbox("pod");
        pod.ip("link add eth0 type bridge");
        let (before, inside) = (bed.snapshot(), pod.ip("-o link"));
        let error = warm.network.add(&pod, "c1").error();
        assert!(error.msg.contains("eth0"), "{error:?}");
        bed.assert_unchanged_since(&before);
        assert_eq!(pod.ip("-o link"), inside);
    });
}

#[test]
fn a_link_that_is_no_bridge_is_left_alone() {
    case(|bed| {
        let warm = Warm::new(bed, config::pods());
        let outcome = fail(&warm, &config::pods_with(&json!({"bridge": "lan"})));
        assert!(said(&outcome).contains("already exists but is not a bridge"), "{outcome}");
    });
}

#[test]
fn a_gateway_in_another_subnet_is_refused() {
    case(|bed| {
        let warm = Warm::new(bed, config::pods());
        let other = json!({"type": "host-local", "subnet": "10.9.0.0/24"});
        let config = config::pods_with(&json!({"name": "other", "ipam": other}));
        let outcome = fail(&warm, &config);
        let words = "\"br0\" already has an IP address different from 10.9.0.1/24";
        assert!(said(&outcome).contains(words), "{outcome}");
        assert!(bed.leases("other").is_empty());
    });
}

#[test]
fn an_exhausted_range_leaves_nothing() {
    case(|bed| {
        let ranges = json!([[{"subnet": "10.1.0.0/24"}], [{"subnet": "fd00:1::/126"}]]);
        let warm = Warm::new(
            bed,
            config::pods_with(&json!({"ipam": {"type": "host-local", "ranges": ranges}})),
        );
        warm.network.add(&bed.sandbox("second"), "second").success();
        let outcome = fail(&warm, warm.network.config());
        assert!(said(&outcome).contains("no IP addresses available"), "{outcome}");
        assert_eq!(bed.leases("pods").len(), 4);
    });
}

#[test]
fn what_the_kernel_refuses_is_rolled_back() {
    case(|bed| {
        let warm = Warm::new(bed, config::pods());
        let with_route = |route: Value| {
            let mut config = config::pods();
            config["ipam"]["routes"] = json!([route]);
            config
        };
        let rows = [
            // A next hop that is nowhere near.
            with_route(json!({"dst": "192.0.2.0/24", "gw": "198.51.100.1"})),
            with_route(json!({"dst": "2001:db8:7::/64", "gw": "2001:db8:8::1"})),
            // An address that is no station's.
            config::pods_with(&json!({"runtimeConfig": {"mac": "01:00:5e:00:00:01"}})),
            config::pods_with(&json!({"runtimeConfig": {"mac": "no address"}})),
            // Too small for anything, and too large.
            config::pods_with(&json!({"mtu": 7})),
            config::pods_with(&json!({"mtu": 70000})),
        ];
        for config in rows {
            assert_ne!(fail(&warm, &config).error_code(), 0);
        }
    });
}

#[test]
fn a_small_mtu_cuts_nobody_off() {
    case(|bed| {
        let warm = Warm::new(bed, config::pods());
        // No IPv6 of its own, so nothing is wrong with it.
        let ipam = json!({"type": "host-local", "subnet": "10.1.0.0/24", "rangeStart": "10.1.0.9"});
        let small = config::pods_with(&json!({"name": "small", "mtu": 1000, "ipam": ipam}));
        let (network, pod) = (bed.network(small), bed.sandbox("pod"));
        let before = bed.snapshot();
        if network.add(&pod, "c1").status.success() {
            warm.assert_connected(&warm.first);
            network.del(&pod, "c1").silent();
        }
        bed.assert_unchanged_since(&before);
    });
}

#[test]
fn a_failed_add_can_be_repeated_at_once() {
    case(|bed| {
        let warm = Warm::new(bed, config::pods());
        let pod = bed.sandbox("pod");
        let mut broken = config::pods();
        broken["ipam"]["routes"] = json!([{"dst": "192.0.2.0/24", "gw": "198.51.100.1"}]);
        for _ in 0..3 {
            let add = warm.network.call("ADD", "c1").netns(pod.path()).config(&broken);
            assert_eq!(add.run().status.code(), Some(1));
        }
        warm.network.add(&pod, "c1").success();
        warm.assert_connected(&pod);
    });
}

/// An ADD whose answer nobody gets.
fn unheard(warm: &Warm<'_>, redirection: &str) {
    let bed = warm.bed;
    let bridge = bin_dir().join("bridge");
    bed.script("bridge", &format!("#!/bin/sh\nexec {} {redirection}\n", bridge.display()));
    let (before, pod) = (bed.snapshot(), bed.sandbox("pod"));
    let network = bed.network(changed(config::pods(), &json!({})));
    let outcome = network.call("ADD", "c1").netns(pod.path()).run();
    assert!(!outcome.status.success(), "{redirection}: {outcome}");
    assert_eq!(pod.ip_json("link show").as_array().map(Vec::len), Some(1), "{outcome}");
    pod.destroy();
    bed.assert_unchanged_since(&before);
}

#[test]
fn an_answer_that_cannot_be_written_is_no_answer() {
    case(|bed| unheard(&Warm::new(bed, config::pods()), ">/dev/full"));
}

#[test]
fn an_answer_that_nobody_reads_is_no_answer() {
    case(|bed| {
        bed.network(config::pods()).add(&bed.sandbox("first"), "first").success();
        let (before, pod) = (bed.snapshot(), bed.sandbox("pod"));
        let mut bridge = Command::new(bin_dir().join("bridge"));
        bridge.env_clear().env("CNI_COMMAND", "ADD").env("CNI_CONTAINERID", "c1");
        bridge.env("CNI_NETNS", pod.path()).env("CNI_IFNAME", "eth0");
        bridge.env("CNI_PATH", bin_dir()).env("PATH", SYSTEM_PATH);
        let mut bridge = bed.start(&mut bridge);
        // Nobody will read it, whenever it comes.
        drop(bridge.stdout.take());
        let config = config::pods().to_string();
        std::io::Write::write_all(&mut bridge.stdin.take().unwrap(), config.as_bytes()).unwrap();
        assert!(!bridge.wait().unwrap().success());
        pod.destroy();
        bed.assert_unchanged_since(&before);
    });
}

#[test]
fn what_is_missing_is_found_before_anything_is_made() {
    case(|bed| {
        let (network, pod) = (bed.network(config::pods()), bed.sandbox("pod"));
        let before = bed.snapshot();
        for changes in [
            json!({"ipam": {"type": "nowhere"}}),
            json!({"ipam": {"type": "host-local", "subnet": "10.1.0.7/24"}}),
            json!({"vlan": 5000}),
            json!({"hairpinMode": true, "promiscMode": true}),
            json!({"runtimeConfig": {"mac": "no address"}}),
            json!({"ipMasqBackend": "smoke signals"}),
        ] {
            let call =
                network.call("ADD", "c1").netns(pod.path()).config(&config::pods_with(&changes));
            let outcome = call.run();
            assert_eq!(outcome.status.code(), Some(1), "{outcome}");
            // Not even the bridge.
            bed.assert_unchanged_since(&before);
        }
    });
}
