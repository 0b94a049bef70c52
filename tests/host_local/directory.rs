//! The directory as the Go plugin keeps it: true at any time, whoever writes it.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    net::IpAddr,
};

use serde_json::json;
use testbed::{
    Outcome, Testbed, config,
    ipam::{DIR, Ipam, held},
    result::cidrs,
};

use crate::differences::case;

fn simple(bed: &Testbed) -> Ipam<'_> {
    Ipam::new(bed, &json!({"subnet": "10.1.2.0/24"}))
}

fn file(name: &str) -> String {
    format!("{DIR}/{name}")
}

#[test]
fn it_is_byte_for_byte_what_the_go_plugin_writes() {
    case(|bed| {
        let listing = |name: &str| {
            let list = |path: &fs::DirEntry| {
                let content = fs::read(path.path()).unwrap();
                (path.file_name().into_string().unwrap(), content)
            };
            let entries = fs::read_dir(bed.file(format!("/var/lib/cni/networks/{name}"))).unwrap();
            let mut files: BTreeMap<_, _> = entries.map(|entry| list(&entry.unwrap())).collect();
            files.retain(|name, _| !name.starts_with("leases"));
            files
        };
        let (ours, theirs) = (
            Ipam::named(bed, "ours", &config::dual_ipam()),
            Ipam::named(bed, "go", &config::dual_ipam()),
        );
        for container in ["c1", "c2", "c3"] {
            ours.add(container).success();
            theirs.by_reference("ADD", container).success();
        }
        ours.del("c2");
        theirs.by_reference("DEL", "c2").silent();
        assert_eq!(listing("ours"), listing("go"));
        assert_eq!(listing("ours").len(), 4 + 2 + 1);
    });
}

#[test]
fn a_node_is_upgraded_under_living_pods_and_rolled_back() {
    case(|bed| {
        let ipam = Ipam::new(bed, &config::dual_ipam());
        let ips = |outcome: &Outcome| cidrs(&outcome.result());
        let old = ips(&ipam.by_reference("ADD", "go1"));
        ipam.by_reference("ADD", "go2").success();
        // As versions before 0.8 wrote them, and by hand.
        bed.write(&file("10.1.2.77"), "ancient");
        bed.write(&file("10.1.2.78"), "byhand\r\neth0\n");
        let new = ips(&ipam.add("ours1"));
        assert!(old.iter().all(|ip| !new.contains(ip)));
        for container in ["go1", "go2", "ancient", "byhand"] {
            assert!(held(bed).iter().any(|(_, owner)| owner.starts_with(container)), "{container}");
        }
        ipam.del("go1");
        ipam.del("ancient");
        assert!(!bed.file(file("10.1.2.77")).exists());
        // Back again.
        ipam.by_reference("DEL", "ours1").silent();
        ipam.by_reference("ADD", "go3").success();
        let owners: BTreeSet<_> = bed.lease_files("net").into_values().collect();
        assert_eq!(owners, ["byhand eth0", "go2 eth0", "go3 eth0"].map(str::to_owned).into());
        ipam.add("ours2").success();
        assert_eq!(bed.leases("net"), bed.lease_files("net"));
    });
}

/// The same numbers on each run (Numerical Recipes' generator).
struct Random(u32);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        usize::try_from(self.0 >> 8).unwrap() % limit
    }
}

#[test]
fn a_thousand_calls_of_both_plugins_in_turn_lose_and_double_nothing() {
    case(|bed| {
        let ranges = json!([[{"subnet": "10.9.0.0/26"}], [{"subnet": "fd09::/120"}]]);
        let ipam = Ipam::new(bed, &json!({"ranges": ranges}));
        let (mut random, mut model) = (Random(7), BTreeMap::<String, Vec<IpAddr>>::new());
        for step in 0..1000 {
            let is_ours = random.below(2) == 0;
            let del = (model.len() > 55 || random.below(2) == 0) && !model.is_empty();
            let call = |verb: &str, container: &str| match (is_ours, verb) {
                (false, _) => ipam.by_reference(verb, container),
                (true, _) => ipam.network.call(verb, container).netns(ipam.pod.path()).run(),
            };
            if del {
                let container = model.keys().nth(random.below(model.len())).unwrap().clone();
                call("DEL", &container).silent();
                model.remove(&container);
            } else {
                let container = format!("c{step}");
                let bare = |text: &String| text.split('/').next().unwrap().parse().unwrap();
                let got: Vec<IpAddr> =
                    cidrs(&call("ADD", &container).result()).iter().map(bare).collect();
                for ip in &got {
                    assert!(!model.values().flatten().any(|held| held == ip), "{step}: {ip} twice");
                }
                assert_eq!(got.len(), 2);
                model.insert(container, got);
            }
            let owned = |(container, ips): (&String, &Vec<IpAddr>)| {
                let owner = format!("{container} eth0");
                ips.iter().map(|ip| (*ip, owner.clone())).collect::<Vec<_>>()
            };
            let expected: BTreeMap<_, _> = model.iter().flat_map(owned).collect();
            assert_eq!(bed.lease_files("net"), expected, "step {step}");
            if is_ours {
                assert_eq!(bed.leases("net"), expected, "step {step}");
            }
        }
    });
}

#[test]
fn a_file_that_an_administrator_removes_ends_the_lease() {
    case(|bed| {
        let ipam = Ipam::new(bed, &json!({"subnet": "10.1.2.0/30"}));
        assert_eq!(ipam.ip("c1"), "10.1.2.2/30");
        bed.succeed("rm", &[&file("10.1.2.2")]);
        let outcome = ipam.add("c2");
        assert_eq!(cidrs(&outcome.result()), ["10.1.2.2/30"]);
        assert!(outcome.stderr.contains("1 leases ended whose files are gone"), "{outcome}");
        ipam.del("c1");
        assert_eq!(held(bed), [("10.1.2.2".to_owned(), "c2 eth0".to_owned())]);
        bed.succeed("rm", &["-r", DIR]);
        assert_eq!(ipam.ip("c3"), "10.1.2.2/30");
    });
}

#[test]
fn changes_within_one_tick_of_the_clock_are_noticed() {
    case(|bed| {
        let ipam = simple(bed);
        for round in 0..100 {
            let container = format!("c{round}");
            let ip = ipam.ip(&container);
            let path = bed.file(file(ip.split('/').next().unwrap()));
            // At once, by somebody who looks at no lock: the lease moves to another.
            fs::remove_file(&path).unwrap();
            fs::write(&path, "other\r\neth0").unwrap();
            ipam.del(&container);
            assert!(path.exists(), "{round}: it is another one's");
            ipam.del("other");
            assert!(!path.exists(), "{round}");
        }
    });
}

#[test]
fn strange_files_are_held_and_never_handed_out() {
    case(|bed| {
        let ipam = Ipam::new(bed, &json!({"subnet": "10.1.2.0/29"}));
        bed.succeed("mkdir", &["-p", DIR]);
        bed.write(&file("10.1.2.2"), "");
        bed.write(&file("10.1.2.3"), "\u{0}\u{1} garbage \n\n");
        bed.write(&file("192.0.2.9"), "elsewhere\r\neth0");
        bed.write(&file("notes.txt"), "mine");
        bed.succeed("mkdir", &[&file("10.1.2.4")]);
        bed.succeed("mkfifo", &[&file("10.1.2.5")]);
        let outcome = ipam.add("c1");
        assert_eq!(cidrs(&outcome.result()), ["10.1.2.6/29"]);
        for ip in ["10.1.2.2", "10.1.2.3"] {
            let words = format!("the file of {ip} does not tell whose it is");
            assert!(outcome.stderr.contains(&words), "{outcome}");
        }
        ipam.del("elsewhere");
        assert!(!bed.file(file("192.0.2.9")).exists());
        ipam.network.check(&ipam.pod, "c1").silent();
        ipam.del("c1");
        assert_eq!(bed.read(&file("notes.txt")), "mine");
    });
}

#[test]
fn who_owns_the_files_does_not_matter() {
    case(|bed| {
        let ipam = simple(bed);
        ipam.add("c1").success();
        bed.succeed("chown", &["-R", "65534:65534", DIR]);
        bed.succeed("chmod", &["000", &file("10.1.2.2")]);
        assert_eq!(ipam.ip("c2"), "10.1.2.3/24");
        ipam.network.check(&ipam.pod, "c1").silent();
        ipam.del("c1");
        assert_eq!(held(bed).len(), 1);
    });
}

#[test]
fn a_go_process_in_flight_and_ours_wait_for_each_other() {
    case(|bed| {
        let ipam = &Ipam::new(bed, &json!({"subnet": "10.9.0.0/16"}));
        let all: Vec<String> = std::thread::scope(|scope| {
            let add = |number: usize| {
                let container = format!("c{number}");
                let outcome = match number % 2 {
                    0 => ipam.by_reference("ADD", &container),
                    _ => ipam.add(&container),
                };
                cidrs(&outcome.result())
            };
            let running: Vec<_> = (0..60).map(|number| scope.spawn(move || add(number))).collect();
            running.into_iter().flat_map(|add| add.join().unwrap()).collect()
        });
        assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), 60, "{all:?}");
        ipam.add("last").success();
        assert_eq!(bed.leases("net"), bed.lease_files("net"));
        assert_eq!(held(bed).len(), 61);
    });
}

#[test]
fn a_lease_that_somebody_has_lost_is_not_handed_out_again() {
    case(|bed| {
        // A pod lives behind a link that says so, and an address is the host's own.
        bed.ip("link add pod type bridge");
        bed.ip("link property add dev pod altname ip-0a010202");
        bed.ip("address add 10.1.2.3/32 dev lo");
        let outcome = simple(bed).add("c1");
        assert_eq!(cidrs(&outcome.result()), ["10.1.2.4/24"]);
        let words =
            ["10.1.2.2 has no lease, but is not handed out", "10.1.2.3 is an address of this host"];
        for words in words {
            assert!(outcome.stderr.contains(words), "{outcome}");
        }
    });
}

#[test]
fn the_directory_of_a_reader_is_left_as_it_is() {
    case(|bed| {
        let ipam = simple(bed);
        ipam.add("c1").success();
        let state =
            || bed.succeed("sh", &["-c", &format!("stat -c '%n %y %s' {DIR}/*; sha1sum {DIR}/*")]);
        let before = state();
        ipam.network.check(&ipam.pod, "c1").silent();
        assert_eq!(state(), before);
    });
}
