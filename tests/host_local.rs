//! Addresses of one attachment: who gets which, who keeps it, and when it is free again.

mod again;
mod directory;
mod doubt;
mod file;
mod local;
mod luck;
mod netns;
mod pool;
mod range_errors;
mod ranges;
mod reboot;
mod status;

use serde_json::json;
use testbed::{
    config,
    ipam::{DIR, Ipam, held},
    result::cidrs,
};

use crate::differences::case;

fn pair(ip: &str, owner: &str) -> (String, String) {
    (ip.to_owned(), owner.to_owned())
}

#[test]
fn addresses_are_allocated_and_released() {
    case(|bed| {
        for version in ["0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0"] {
            let mut config = config::host_local("net", &config::dual_ipam());
            config["cniVersion"] = json!(version);
            let ipam = Ipam::of(bed, config);
            assert_eq!(ipam.ips("c1"), ["10.1.2.2/24", "2001:db8:1::2/64"]);
            let expected = [pair("10.1.2.2", "c1 eth0"), pair("2001:db8:1::2", "c1 eth0")];
            assert_eq!(held(bed), expected);
            for _ in 0..2 {
                ipam.del("c1");
                assert!(held(bed).is_empty(), "{version}");
            }
            bed.succeed("rm", &["-r", DIR]);
        }
    });
}

#[test]
fn an_answer_has_gateways_routes_and_name_servers() {
    case(|bed| {
        let text = "; a comment\nnameserver 192.0.2.3\nnameserver 192.0.2.4 ignored\n\
                    domain example.com\nsearch one.example two.example\nsearch three.example\n\
                    options ndots:2\noptions timeout:1 rotate\n# nameserver 192.0.2.9\nsearch\n";
        bed.write("/run/test/resolv.conf", text);
        let mut ipam = config::dual_ipam();
        ipam["resolvConf"] = json!("/run/test/resolv.conf");
        let routes = json!([
            {"dst": "0.0.0.0/0"}, {"dst": "192.0.2.0/24", "gw": "10.1.2.77"}, {"dst": "::/0"}
        ]);
        ipam["routes"] = routes.clone();
        let result = Ipam::new(bed, &ipam).add("c1").result();
        let expected = json!({
            "cniVersion": "1.0.0",
            "ips": [
                {"address": "10.1.2.2/24", "gateway": "10.1.2.1"},
                {"address": "2001:db8:1::2/64", "gateway": "2001:db8:1::1"}
            ],
            "routes": routes,
            "dns": {
                "nameservers": ["192.0.2.3", "192.0.2.4"], "domain": "example.com",
                "search": ["one.example", "two.example", "three.example"],
                "options": ["ndots:2", "timeout:1", "rotate"]
            }
        });
        assert_eq!(result, expected);
    });
}

#[test]
fn a_missing_resolv_conf_costs_no_address() {
    case(|bed| {
        let mut ipam = config::dual_ipam();
        ipam["resolvConf"] = json!("/run/test/none");
        let error = Ipam::new(bed, &ipam).add("c1").error();
        assert!(error.msg.contains("/run/test/none"), "{error:?}");
        assert!(held(bed).is_empty());
    });
}

#[test]
fn each_interface_of_a_container_has_its_own() {
    case(|bed| {
        let ipam = json!({"subnet": "10.1.2.0/24"});
        let first = Ipam::new(bed, &ipam);
        let second = bed.network(config::host_local("net", &ipam)).ifname("net1");
        assert_eq!(first.ip("c1"), "10.1.2.2/24");
        assert_eq!(cidrs(&second.add(&first.pod, "c1").result()), ["10.1.2.3/24"]);
        first.del("c1");
        assert_eq!(held(bed), [pair("10.1.2.3", "c1 net1")]);
        second.del(&first.pod, "c1").silent();
        assert!(held(bed).is_empty());
    });
}

#[test]
fn a_second_add_is_refused_and_takes_nothing_away() {
    case(|bed| {
        let ipam = Ipam::new(bed, &json!({"subnet": "10.1.2.0/24"}));
        assert_eq!(ipam.ip("c1"), "10.1.2.2/24");
        let error = ipam.add("c1").error();
        let expected = "10.1.2.2 has been allocated to c1, duplicate allocation is not allowed";
        assert!(error.msg.contains(expected), "{error:?}");
        assert_eq!(held(bed), [pair("10.1.2.2", "c1 eth0")]);
        assert_eq!(ipam.ip("c2"), "10.1.2.3/24");
        ipam.del("c1");
        assert_eq!(ipam.ip("c1"), "10.1.2.4/24");
    });
}

#[test]
fn an_unknown_container_is_released() {
    case(|bed| {
        let ipam = Ipam::new(bed, &json!({"subnet": "10.1.2.0/24"}));
        ipam.del("never-added");
        ipam.add("c1").success();
        ipam.del("never-added");
        // Neither the beginning of an ID nor another ID that begins alike.
        ipam.del("c");
        ipam.del("c11");
        assert_eq!(held(bed), [pair("10.1.2.2", "c1 eth0")]);
    });
}

#[test]
fn the_first_add_has_nothing_to_say() {
    case(|bed| {
        let outcome = Ipam::new(bed, &json!({"subnet": "10.1.2.0/24"})).add("c1");
        assert_eq!(outcome.success().stderr, "");
    });
}

#[test]
fn networks_do_not_know_each_other() {
    case(|bed| {
        let ipam = json!({"subnet": "10.1.2.0/24"});
        let (one, two) = (Ipam::named(bed, "one", &ipam), Ipam::named(bed, "two", &ipam));
        assert_eq!((one.ip("c1"), two.ip("c1")), ("10.1.2.2/24".into(), "10.1.2.2/24".into()));
        one.del("c1");
        assert_eq!((bed.leases("one").len(), bed.leases("two").len()), (0, 1));
    });
}

#[test]
fn leases_are_kept_where_one_says() {
    case(|bed| {
        let ipam = Ipam::new(bed, &json!({"subnet": "10.1.2.0/24", "dataDir": "/run/test/a/b"}));
        ipam.add("c1").success();
        assert!(bed.leases("net").is_empty());
        assert!(bed.succeed("grep", &["-r", "c1", "/run/test/a/b/net"]).contains("c1"));
        ipam.del("c1");
        assert_eq!(ipam.ip("c1"), "10.1.2.3/24");
    });
}

#[test]
fn del_needs_neither_namespace_nor_result_nor_the_ranges_of_then() {
    case(|bed| {
        let ipam = Ipam::new(bed, &json!({"subnet": "10.1.2.0/24"}));
        for (round, changes) in [
            json!({}),
            json!({"ipam": {"type": "host-local", "subnet": "192.0.2.0/24"}}),
            json!({"prevResult": {"cniVersion": "1.0.0", "ips": []}}),
            json!({"runtimeConfig": {"ips": ["10.1.2.9"]}, "args": {"cni": {"ips": ["10.1.2.9"]}}}),
        ]
        .into_iter()
        .enumerate()
        {
            let container = format!("c{round}");
            ipam.add(&container).success();
            let config = config::changed(ipam.network.config().clone(), &changes);
            let call = ipam.network.call("DEL", &container).config(&config);
            (if round % 2 == 0 { call } else { call.netns("") }).run().silent();
        }
        assert!(held(bed).is_empty());
    });
}

#[test]
fn del_works_when_the_ranges_are_wrong_by_now() {
    case(|bed| {
        let ipam = Ipam::new(bed, &json!({"subnet": "10.1.2.0/24"}));
        ipam.add("c1").success();
        let broken = json!({"type": "host-local", "ranges": [[{"subnet": "10.9.9.9/24"}]]});
        let mut config = ipam.network.config().clone();
        config["ipam"] = broken;
        ipam.network.call("DEL", "c1").netns(ipam.pod.path()).config(&config).run().silent();
        assert!(held(bed).is_empty());
    });
}

#[test]
fn check_wants_a_lease() {
    case(|bed| {
        let ipam = Ipam::new(bed, &json!({"subnet": "10.1.2.0/24"}));
        let lost = "Failed to find address added by container c1";
        ipam.add("c1").success();
        ipam.network.check(&ipam.pod, "c1").silent();
        let again = ipam.network.again("CHECK", "c1").netns(ipam.pod.path());
        let other = again.clone().ifname("net1").run();
        assert!(other.error().msg.contains(lost), "{other}");
        ipam.del("c1");
        let error = again.run().error();
        assert!(error.msg.contains(lost), "{error:?}");
    });
}

#[test]
fn check_wants_each_address_of_the_result() {
    case(|bed| {
        let ipam = Ipam::new(bed, &config::dual_ipam());
        ipam.add("c1").success();
        let mut config = ipam.network.config().clone();
        for (number, wrong) in ["10.1.2.3/24", "2001:db8:1::3/64"].into_iter().enumerate() {
            config["prevResult"] = ipam.network.result("c1").unwrap();
            let check = ipam.network.call("CHECK", "c1").netns(ipam.pod.path());
            check.clone().config(&config).run().silent();
            config["prevResult"]["ips"][number]["address"] = json!(wrong);
            let error = check.config(&config).run().error();
            let address = wrong.split('/').next().unwrap();
            assert!(format!("{error:?}").contains(address), "{error:?}");
        }
    });
}
