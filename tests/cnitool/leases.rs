//! `cnitool leases`: what people see of the leases, and how they repair them.

use std::{
    io::{BufRead as _, BufReader},
    process::Command,
};

use serde_json::{Value, json};
use testbed::{
    Outcome, Testbed, bin_dir, config,
    ipam::{DIR, Ipam, held},
    until_so,
};

use crate::differences::case;

/// A network that is configured, so that its ranges are known.
fn ipam<'bed>(bed: &'bed Testbed, more: &Value) -> Ipam<'bed> {
    let ipam = config::changed(json!({"subnet": "10.1.2.0/24", "graceAge": 0}), more);
    let config = config::host_local("net", &ipam);
    let list = json!({"cniVersion": "1.0.0", "name": "net", "plugins": [config]});
    bed.write("/etc/cni/net.d/10-net.conflist", list.to_string());
    Ipam::of(bed, config)
}

fn tool(bed: &Testbed, arguments: &[&str]) -> Outcome {
    let all = std::iter::once("leases").chain(arguments.iter().copied());
    all.fold(bed.plugin("cnitool"), testbed::Call::argument).run()
}

fn said(bed: &Testbed, arguments: &[&str]) -> String {
    tool(bed, arguments).success().stdout.clone()
}

fn json_of(bed: &Testbed, arguments: &[&str]) -> Value {
    serde_json::from_str(&said(bed, arguments)).unwrap()
}

/// All files of the network, with their times.
fn state(bed: &Testbed) -> String {
    bed.succeed("sh", &["-c", &format!("stat -c '%n %y %s' {DIR} {DIR}/*; sha1sum {DIR}/*")])
}

#[test]
fn the_list_tells_who_where_since_when_and_whether_they_live() {
    case(|bed| {
        let first = ipam(bed, &json!({}));
        first.add("old").success();
        bed.reboot();
        let ipam = ipam(bed, &json!({}));
        let args = "IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=web-0";
        ipam.call("c0ffee").args(args).run().success();
        ipam.by_reference("ADD", "go").success();
        let lost = bed.sandbox("lost");
        ipam.network.add(&lost, "lost").success();
        lost.destroy();
        bed.write(&format!("{DIR}/10.1.2.99"), "");
        ipam.add("last").success();
        let before = state(bed);
        let list = json_of(bed, &["net", "--json"]);
        let states: Vec<_> = list
            .as_array()
            .unwrap()
            .iter()
            .map(|entry| (entry["container"].as_str().unwrap(), entry["state"].as_str().unwrap()))
            .collect();
        let expected = [
            ("old", "earlier boot"),
            ("c0ffee", "lives"),
            ("go", "unknown"),
            ("lost", "path gone"),
            ("last", "lives"),
            ("", "nobody's"),
        ];
        assert_eq!(states, expected, "{list}");
        let web = &list[1];
        assert_eq!(web["addresses"], json!(["10.1.2.3"]));
        assert_eq!((&web["pod"], &web["ifname"]), (&json!("shop/web-0"), &json!("eth0")));
        assert_eq!((&web["network"], &web["netns"]), (&json!("net"), &json!(ipam.pod.path())));
        assert!(
            web["age"].as_u64().unwrap() < 60 && web["since"].as_u64().unwrap() > 1_700_000_000
        );
        let table = said(bed, &["--columns", "60"]);
        assert!(table.contains("10.1.2.3") && table.contains("shop/web-0"), "{table}");
        assert!(table.lines().all(|line| line.chars().count() <= 60), "{table}");
        assert_eq!(table.lines().count(), 1 + 6);
        assert_eq!(state(bed), before, "looking changes nothing");
    });
}

#[test]
fn what_has_no_configuration_is_listed_too_and_a_read_only_directory_will_do() {
    case(|bed| {
        Ipam::named(bed, "forgotten", &json!({"subnet": "10.1.2.0/24"})).add("c1").success();
        bed.succeed("mount", &["--bind", "/var/lib/cni/networks", "/var/lib/cni/networks"]);
        bed.succeed("mount", &["-o", "remount,bind,ro", "/var/lib/cni/networks"]);
        let outcome = tool(bed, &[]);
        assert!(outcome.success().stdout.contains("10.1.2.2"), "{outcome}");
        assert!(outcome.stderr.contains("has network forgotten"), "{outcome}");
        assert!(!tool(bed, &["unknown"]).status.success());
        assert_eq!(said(bed, &["forgotten", "--stats"]), "", "its ranges are known to nobody");
    });
}

#[test]
fn the_figures_add_up_also_for_prometheus() {
    case(|bed| {
        let pool = json!({"subnet": "10.1.2.0/28", "sticky": "pod"});
        let ipam = ipam(bed, &pool);
        let args = "IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=web-0";
        ipam.call("web").args(args).run().success();
        ipam.add("c1").success();
        let lost = bed.sandbox("lost");
        ipam.network.add(&lost, "lost").success();
        lost.destroy();
        ipam.del("web");
        let stats = json_of(bed, &["net", "--stats", "--json"]);
        let figure = |key: &str| stats[0][key].as_u64().unwrap();
        let figures = ["size", "used", "leaked", "kept", "free", "largestFree"].map(figure);
        // .2 is kept, .3 and .4 are held, .5 to .14 are free.
        assert_eq!(figures, [13, 2, 1, 1, 11, 10], "{stats}");
        assert!(said(bed, &["--stats"]).contains("2 of 13 used (15 %), 1 of them look leaked"));
        let file = "/run/test/girder.prom";
        bed.write(file, "old");
        tool(bed, &["--prometheus", file]).silent();
        let text = bed.read(file);
        for line in [
            "# TYPE girder_leases_used gauge",
            "girder_leases_used{network=\"net\",range_set=\"0\"} 2",
            "girder_leases_leaked{network=\"net\",range_set=\"0\"} 1",
        ] {
            assert!(text.lines().any(|found| found == line), "{text}");
        }
        assert_eq!(bed.succeed("ls", &["/run/test"]).matches("prom").count(), 1);
        assert!(!tool(bed, &["--prometheus", "/nowhere/x.prom"]).status.success());
    });
}

#[test]
fn figures_are_right_to_the_last_address_of_all() {
    case(|bed| {
        let subnet = "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ff00/120";
        let ipam = ipam(bed, &json!({"subnet": subnet}));
        let largest = || {
            let stats = json_of(bed, &["net", "--stats", "--json"]);
            assert_eq!(stats[0]["size"], json!(254), "{stats}");
            stats[0]["largestFree"].as_u64().unwrap()
        };
        assert_eq!(largest(), 254);
        // The first, and the last one.
        let ip = ipam.ip("c1");
        assert_eq!(largest(), 253, "{ip}");
        let last = "IgnoreUnknown=1;IP=ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff";
        ipam.call("c2").args(last).run().success();
        assert_eq!(largest(), 252);
        assert!(said(bed, &["--stats"]).contains("2 of 254 used"));
    });
}

#[test]
fn who_may_be_alive_is_released_by_force_only() {
    case(|bed| {
        let ipam = ipam(bed, &json!({}));
        let lost = bed.sandbox("lost");
        ipam.network.add(&lost, "lost").success();
        lost.destroy();
        ipam.add("c1").success();
        let before = held(bed);
        let outcome = tool(bed, &["release", "net", "lost", "10.1.2.3"]);
        assert!(!outcome.status.success() && outcome.stderr.contains("may be alive"), "{outcome}");
        assert_eq!(held(bed), before, "all or none");
        let outcome = tool(bed, &["release", "net", "nobody"]);
        assert!(outcome.stderr.contains("no such lease"), "{outcome}");
        let text = said(bed, &["release", "net", "lost:eth0"]);
        assert!(text.contains("released 10.1.2.2 of container \"lost\""), "{text}");
        tool(bed, &["release", "net", "10.1.2.3", "--force"]).success();
        assert!(held(bed).is_empty());
        assert_eq!(bed.leases("net"), bed.lease_files("net"));
    });
}

#[test]
fn a_pod_behind_a_bridge_is_alive_whatever_its_path() {
    case(|bed| {
        let network = bed.network(config::pods_with(&json!({"ipMasq": false})));
        let pod = bed.sandbox("pod");
        network.add(&pod, "c1").success();
        let outcome = tool(bed, &["release", "pods", "c1"]);
        assert!(outcome.stderr.contains("may be alive"), "{outcome}");
        assert!(said(bed, &["repair", "pods"]).contains("ended 0 leases"));
        bed.destroy(&pod);
        assert_eq!(json_of(bed, &["pods", "--json"])[0]["state"], "namespace gone");
        assert!(said(bed, &["repair", "pods"]).contains("ended 1 lease"));
        assert!(bed.leases("pods").is_empty());
    });
}

#[test]
fn repair_explains_and_then_does_and_a_dry_run_does_nothing() {
    case(|bed| {
        let first = ipam(bed, &json!({}));
        first.add("old").success();
        bed.reboot();
        let ipam = ipam(bed, &json!({}));
        ipam.add("c1").success();
        let lost = bed.sandbox("lost");
        ipam.network.add(&lost, "lost").success();
        lost.destroy();
        bed.write(&format!("{DIR}/10.1.2.99"), "");
        bed.write(&format!("{DIR}/192.0.2.1"), "elsewhere\r\neth0");
        let before = state(bed);
        let text = said(bed, &["repair", "--dry-run"]);
        for words in [
            "would end 10.1.2.2 of container \"old\"",
            "would end 10.1.2.99",
            "192.0.2.1 of container \"elsewhere\", interface \"eth0\" (unknown): in no range",
            "10.1.2.4 of container \"lost\", interface \"eth0\" (path gone): left alone",
            "net: would end 2 leases",
        ] {
            assert!(text.contains(words), "{words}: {text}");
        }
        assert_eq!(state(bed), before);
        let text = said(bed, &["repair", "net"]);
        assert!(text.contains("net: ended 2 leases"), "{text}");
        let owners: Vec<_> = held(bed).into_iter().map(|(_, owner)| owner).collect();
        assert_eq!(owners, ["c1 eth0", "lost eth0", "elsewhere eth0"]);
        ipam.network.check(&ipam.pod, "c1").silent();
    });
}

#[test]
fn watch_tells_what_happens_in_order() {
    case(|bed| {
        let ipam = ipam(bed, &json!({"subnet": "10.1.0.0/16"}));
        let mut command = Command::new(bin_dir().join("cnitool"));
        command.args(["leases", "watch", "net", "--json"]);
        // The directory is not there yet; once the file is followed, the first lines come.
        let mut watch = bed.start(&mut command);
        let mut lines = BufReader::new(watch.stdout.take().unwrap()).lines();
        let mut next = || -> (String, String, Value) {
            let event: Value = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
            let text = |key: &str| event[key].as_str().unwrap().to_owned();
            (text("event"), text("container"), event["addresses"][0].clone())
        };
        let all = ["-c", "cat /proc/*/fdinfo/* 2>/dev/null || true"];
        until_so("who watches", || bed.succeed("sh", &all).contains("inotify wd"));
        // More than it takes for the file to be rewritten.
        for round in 0..200 {
            ipam.add("c1").success();
            ipam.del("c1");
            let ip = format!("10.1.0.{}", 2 + round);
            for event in ["leased", "released"] {
                assert_eq!(next(), (event.to_owned(), "c1".to_owned(), json!(ip)));
            }
        }
        watch.kill().unwrap();
        watch.wait().unwrap();
    });
}
