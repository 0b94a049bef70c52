//! A pool of addresses as a whole: who cleans it up, how full it is, and many at once.

use std::{collections::BTreeSet, thread};

use serde_json::{Value, json};
use testbed::{
    Testbed, config,
    ipam::{Ipam, held},
};

use crate::differences::case;

fn newest<'bed>(bed: &'bed Testbed, ipam: &Value) -> Ipam<'bed> {
    let mut config = config::host_local("net", ipam);
    config["cniVersion"] = json!("1.1.0");
    Ipam::of(bed, config)
}

#[test]
fn gc_keeps_what_is_valid() {
    case(|bed| {
        for key in ["cni.dev/valid-attachments", "cni.dev/attachments"] {
            let ipam = newest(bed, &config::dual_ipam());
            let other = Ipam::named(bed, "other", &config::dual_ipam());
            other.add("c1").success();
            for container in ["c1", "c2", "c3"] {
                ipam.add(container).success();
            }
            let gc = |list: Value| {
                let mut config = ipam.network.config().clone();
                config[key] = list;
                bed.plugin("host-local").command("GC").config(&config).run().silent();
                held(bed).into_iter().map(|(_, owner)| owner).collect::<BTreeSet<_>>()
            };
            let valid = |id: &str, ifname: &str| json!({"containerID": id, "ifname": ifname});
            let (c1, c3) = (valid("c1", "eth0"), valid("c3", "eth0"));
            let kept = gc(json!([c1, c3, valid("c2", "net1"), valid("c9", "eth0")]));
            assert_eq!(kept, ["c1 eth0", "c3 eth0"].map(str::to_owned).into());
            assert_eq!(gc(json!([c3])), ["c3 eth0".to_owned()].into());
            assert_eq!(held(bed).len(), 2, "both addresses are kept");
            assert!(gc(json!([])).is_empty());
            ipam.add("c4").success();
            assert!(gc(Value::Null).is_empty());
            assert_eq!(bed.leases("other").len(), 2, "another network's");
            bed.succeed("rm", &["-r", "/var/lib/cni/networks"]);
            ipam.pod.destroy();
            other.pod.destroy();
        }
    });
}

#[test]
fn gc_without_a_list_is_gc_with_an_empty_one() {
    case(|bed| {
        let ipam = newest(bed, &config::dual_ipam());
        ipam.add("c1").success();
        let config = ipam.network.config();
        bed.plugin("host-local").command("GC").config(config).run().silent();
        assert!(held(bed).is_empty());
    });
}

#[test]
fn gc_and_status_of_a_network_without_leases_make_nothing() {
    case(|bed| {
        let ipam = newest(bed, &config::dual_ipam());
        ipam.network.gc(&[]).silent();
        ipam.network.status().silent();
        ipam.del("c1");
        assert!(!bed.file("/var/lib/cni/networks").exists());
    });
}

#[test]
fn status_says_when_a_range_is_exhausted() {
    case(|bed| {
        let ipam = newest(
            bed,
            &json!({"ranges": [
                [{"subnet": "10.1.2.0/24"}], [{"subnet": "10.1.3.0/30"}]
            ], "statusOnFull": "fail"}),
        );
        ipam.network.status().silent();
        ipam.add("c1").success();
        let words = "no IP addresses available in range set: 10.1.3.1-10.1.3.2: 1 of 1 in use";
        ipam.network.status().fails_with(50, words);
        ipam.del("c1");
        ipam.network.status().silent();
    });
}

#[test]
fn an_exhausted_range_is_a_passing_condition_that_is_counted() {
    case(|bed| {
        let ipam = Ipam::new(bed, &json!({"subnet": "10.1.2.0/29"}));
        (0..5).for_each(|number| drop(ipam.ip(&format!("c{number}"))));
        let words = "no IP addresses available in range set: 10.1.2.1-10.1.2.6: 5 of 5 in use";
        ipam.add("c9").fails_with(11, words);
        assert_eq!(held(bed).len(), 5);
        ipam.del("c3");
        assert_eq!(ipam.ip("c9"), "10.1.2.5/29");
    });
}

#[test]
fn sixty_at_once_get_sixty() {
    case(|bed| {
        let ipam = &Ipam::new(bed, &config::dual_ipam());
        let all: Vec<String> = thread::scope(|scope| {
            let add = |number| scope.spawn(move || ipam.ips(&format!("c{number}")));
            let running: Vec<_> = (0..60).map(add).collect();
            running.into_iter().flat_map(|add| add.join().unwrap()).collect()
        });
        assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), 120, "{all:?}");
        assert_eq!(held(bed).len(), 120);
        thread::scope(|scope| {
            (0..60).for_each(|number| drop(scope.spawn(move || ipam.del(&format!("c{number}")))));
        });
        assert!(held(bed).is_empty());
    });
}
