//! Leases that outlive a boot, and pods that come back after it.

use serde_json::{Value, json};
use testbed::{
    Outcome, Testbed,
    config::changed,
    ipam::{DIR, Ipam, held},
    result::cidrs,
};

use crate::differences::case;

/// A range of five addresses.
fn five(more: &Value) -> Value {
    changed(json!({"subnet": "10.1.2.0/29", "graceAge": 0}), more)
}

/// Five containers with all addresses of a range, and then a reboot.
fn five_and_a_reboot<'bed>(bed: &'bed Testbed, more: &Value) -> Ipam<'bed> {
    let ipam = Ipam::new(bed, &five(more));
    for number in 0..5 {
        ipam.add(&format!("old{number}")).success();
    }
    bed.reboot();
    Ipam::new(bed, &five(more))
}

#[test]
fn five_more_after_a_reboot_and_late_dels_of_the_old_five() {
    case(|bed| {
        let ipam = five_and_a_reboot(bed, &json!({}));
        for number in 0..5 {
            let outcome = ipam.add(&format!("new{number}"));
            let words = format!("reclaimed 10.1.2.{} from container \"old{number}\"", number + 2);
            assert!(outcome.success().stderr.contains(&words), "{outcome}");
            assert!(outcome.stderr.contains("before the machine was started"), "{outcome}");
        }
        let now = held(bed);
        assert!(now.len() == 5 && now.iter().all(|(_, owner)| owner.starts_with("new")), "{now:?}");
        for number in 0..5 {
            ipam.del(&format!("old{number}"));
        }
        assert_eq!(held(bed), now);
        assert_eq!(bed.leases("net"), bed.lease_files("net"));
        ipam.add("new5").fails_with(11, "5 of 5 in use, 0 of them look leaked");
    });
}

#[test]
fn nothing_is_reclaimed_while_there_is_room() {
    case(|bed| {
        let ipam = Ipam::new(bed, &five(&json!({})));
        ipam.add("old").success();
        bed.reboot();
        let ipam = Ipam::new(bed, &five(&json!({})));
        assert_eq!(ipam.add("new").success().stderr, "");
        assert_eq!(held(bed).len(), 2);
    });
}

#[test]
fn never_is_never_and_the_error_says_what_to_do() {
    case(|bed| {
        let ipam = five_and_a_reboot(bed, &json!({"reclaim": "never"}));
        let before = held(bed);
        let error = ipam.add("new").error();
        assert!(error.msg.contains("5 of 5 in use, 5 of them look leaked"), "{error:?}");
        assert!(error.details.contains("`cnitool leases`"), "{error:?}");
        assert_eq!((error.code, held(bed)), (11, before));
    });
}

#[test]
fn leases_of_the_go_plugin_end_with_the_boot_after_they_were_seen() {
    case(|bed| {
        let ipam = Ipam::new(bed, &five(&json!({})));
        for number in 0..5 {
            ipam.by_reference("ADD", &format!("go{number}")).success();
        }
        ipam.add("ours").fails_with(11, "5 of 5 in use");
        bed.reboot();
        let ipam = Ipam::new(bed, &five(&json!({})));
        assert_eq!(ipam.ip("ours"), "10.1.2.2/29");
    });
}

fn pod(ipam: &Ipam<'_>, container: &str, namespace: &str, name: &str) -> Outcome {
    let args = format!("IgnoreUnknown=1;K8S_POD_NAMESPACE={namespace};K8S_POD_NAME={name}");
    ipam.call(container).args(&args).run()
}

fn address(outcome: &Outcome) -> String {
    cidrs(&outcome.result()).remove(0)
}

#[test]
fn a_pod_that_comes_back_gets_its_address_also_after_a_reboot() {
    case(|bed| {
        let sticky = json!({"subnet": "10.1.2.0/24", "sticky": "pod"});
        let ipam = Ipam::new(bed, &sticky);
        let web = address(&pod(&ipam, "w1", "shop", "web-0"));
        let db = address(&pod(&ipam, "d1", "shop", "db-0"));
        ipam.del("w1");
        ipam.del("d1");
        assert_ne!(address(&pod(&ipam, "x1", "other", "web-0")), web, "of another namespace");
        assert_ne!(ipam.ip("nobody"), db, "without a name");
        assert_eq!(address(&pod(&ipam, "d2", "shop", "db-0")), db);
        assert_eq!(address(&pod(&ipam, "w2", "shop", "web-0")), web);
        // Nobody told that it went.
        bed.reboot();
        let ipam = Ipam::new(bed, &sticky);
        assert_eq!(address(&pod(&ipam, "w3", "shop", "web-0")), web);
        assert_eq!(address(&pod(&ipam, "d3", "shop", "db-0")), db);
        ipam.del("w2");
        assert!(held(bed).iter().any(|(_, owner)| owner == "w3 eth0"));
    });
}

#[test]
fn by_its_name_alone_if_one_says_so_and_not_at_all_by_default() {
    case(|bed| {
        for (sticky, comes_back) in [(json!("name"), true), (Value::Null, false)] {
            let ipam = Ipam::new(bed, &json!({"subnet": "10.1.2.0/24", "sticky": sticky}));
            // podman gives the container's ID as the pod's namespace.
            let first = address(&pod(&ipam, "c1", "c1", "web"));
            ipam.del("c1");
            assert_eq!(address(&pod(&ipam, "c2", "c2", "web")) == first, comes_back, "{sticky}");
            bed.succeed("rm", &["-r", DIR]);
            ipam.pod.destroy();
        }
    });
}

#[test]
fn what_is_kept_goes_under_pressure_oldest_first_and_to_who_asks_for_it() {
    case(|bed| {
        let ipam = Ipam::new(bed, &five(&json!({"sticky": "pod"})));
        let kept: Vec<_> = (0..4)
            .map(|number| {
                let container = format!("c{number}");
                let ip = address(&pod(&ipam, &container, "shop", &container));
                ipam.del(&container);
                ip
            })
            .collect();
        // A request for the very address wins.
        let request = ipam.call("static").args("IgnoreUnknown=1;IP=10.1.2.4").run();
        assert_eq!(address(&request), kept[2]);
        assert_ne!(address(&pod(&ipam, "back2", "shop", "c2")), kept[2]);
        // One more is held by nobody; the next takes the place of whoever went first.
        let got: Vec<_> = (0..3).map(|number| ipam.ip(&format!("n{number}"))).collect();
        assert_eq!(got, [kept[0].as_str(), &kept[1], &kept[3]]);
        ipam.add("n3").fails_with(11, "5 of 5 in use");
    });
}
