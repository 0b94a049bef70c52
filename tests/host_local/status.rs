//! STATUS of host-local: it takes a whole node out, so it fails only where no ADD could ever work.

use serde_json::{Value, json};
use testbed::{
    Call, Testbed, config,
    ipam::{DIR, Ipam, SMALL},
};

use crate::differences::case;

fn newest<'bed>(bed: &'bed Testbed, ipam: &Value) -> Ipam<'bed> {
    let mut config = config::host_local("net", ipam);
    config["cniVersion"] = json!("1.1.0");
    Ipam::of(bed, config)
}

fn status<'bed>(bed: &'bed Testbed, ipam: &Ipam<'_>) -> Call<'bed> {
    let mut config = ipam.network.config().clone();
    config["cniVersion"] = json!("1.1.0");
    bed.plugin("host-local").command("STATUS").config(&config)
}

#[test]
fn a_full_range_is_told_and_fails_only_where_one_says_so() {
    case(|bed| {
        let ipam = newest(
            bed,
            &json!({"ranges": [[{"subnet": "10.1.2.0/30"}], [{"subnet": "10.1.3.0/30"}]]}),
        );
        let outcome = ipam.network.status();
        outcome.silent();
        assert_eq!(outcome.stderr, "");
        ipam.add("c1").success();
        let words = "no IP addresses available in range set: 10.1.2.1-10.1.2.2: 1 of 1 in use";
        let mut config = ipam.network.config().clone();
        for (key, fails) in [(Value::Null, false), (json!("ignore"), false), (json!("fail"), true)]
        {
            config["ipam"]["statusOnFull"] = key;
            let outcome = bed.plugin("host-local").command("STATUS").config(&config).run();
            if fails {
                outcome.fails_with(50, words);
            } else {
                outcome.silent();
                let lines: Vec<_> = outcome.stderr.lines().collect();
                assert!(lines.len() == 1 && lines[0].contains(words), "{outcome}");
                assert!(lines[0].contains("10.1.3.1-10.1.3.2"), "{outcome}");
            }
        }
        config["ipam"]["statusOnFull"] = json!("perhaps");
        for verb in ["ADD", "STATUS"] {
            let call = ipam.network.call(verb, "c2").netns(ipam.pod.path()).config(&config);
            call.run().fails_with(7, "ipam.statusOnFull");
        }
        ipam.network.call("DEL", "c1").netns(ipam.pod.path()).config(&config).run().silent();
        ipam.network.status().silent();
    });
}

#[test]
fn it_fails_where_no_file_can_be_made() {
    case(|bed| {
        let ipam = Ipam::on_small_disk(bed, "size=64k");
        let fill = || drop(bed.run("dd", &["if=/dev/zero", "of=/run/test/small/fill", "bs=1k"]));
        let empty = || drop(bed.succeed("rm", &["/run/test/small/fill"]));
        let status = status(bed, &ipam);
        // Before there is a directory of the network, and after.
        for _ in 0..2 {
            status.clone().run().silent();
            fill();
            status.clone().run().fails_with(50, SMALL);
            empty();
            status.clone().run().silent();
            ipam.add("c1").success();
            ipam.del("c1");
        }
        bed.succeed("mount", &["-o", "remount,ro", SMALL]);
        status.clone().run().fails_with(50, SMALL);
        bed.succeed("umount", &[SMALL]);
        ipam.pod.destroy();
        let ipam = Ipam::on_small_disk(bed, "size=64k,nr_inodes=2");
        bed.write("/run/test/small/last", "");
        status.clone().run().fails_with(50, SMALL);
        ipam.add("c1").fails_with(5, SMALL);
        bed.succeed("mount", &["-o", "remount,nr_inodes=50", SMALL]);
        status.run().silent();
        ipam.add("c1").success();
    });
}

#[test]
fn it_fails_where_the_leases_are_none_and_not_because_somebody_is_at_work() {
    case(|bed| {
        let ipam = newest(bed, &json!({"subnet": "10.1.2.0/24", "lockTimeout": "100ms"}));
        ipam.add("c1").success();
        let status = status(bed, &ipam);
        let lock = bed.file(format!("{DIR}/lock"));
        let lock = std::fs::File::open(lock).unwrap();
        lock.lock().unwrap();
        let outcome = status.clone().run();
        outcome.silent();
        assert!(outcome.stderr.contains("gave up waiting for the lock"), "{outcome}");
        drop(lock);
        bed.succeed("rm", &[&format!("{DIR}/leases")]);
        bed.succeed("mkdir", &[&format!("{DIR}/leases")]);
        status.clone().run().fails_with(50, DIR);
        bed.succeed("rmdir", &[&format!("{DIR}/leases")]);
        status.run().silent();
    });
}

#[test]
fn validate_knows_the_words() {
    case(|bed| {
        let verdict = |word: &str| {
            let config =
                config::host_local("net", &json!({"subnet": "10.1.2.0/24", "statusOnFull": word}));
            let list = json!({"cniVersion": "1.0.0", "name": "net", "plugins": [config]});
            bed.write("/etc/cni/net.d/10-net.conflist", list.to_string());
            let outcome = bed.plugin("cnitool").argument("validate").run();
            format!("{}{}", outcome.stdout, outcome.stderr)
        };
        for word in ["ignore", "fail"] {
            assert!(!verdict(word).contains("statusOnFull"), "{}", verdict(word));
        }
        assert!(verdict("perhaps").contains("statusOnFull"), "{}", verdict("perhaps"));
    });
}
