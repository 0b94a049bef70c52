//! The file that leases are in: what it says, and what becomes of it when things go wrong.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    os::unix::fs::PermissionsExt as _,
    process::{Child, Command},
    time::{Duration, Instant, SystemTime},
};

use serde_json::json;
use testbed::{
    Testbed, bin_dir, config,
    ipam::{DIR, Ipam, SMALL, held},
    leases::{checksum, line},
    until_so,
};

use crate::differences::case;

const FILE: &str = "/var/lib/cni/networks/net/leases";
const HEADER: &str = "girder leases 1\n";

fn bytes(bed: &Testbed) -> Vec<u8> {
    fs::read(bed.file(FILE)).unwrap()
}

fn simple(bed: &Testbed) -> Ipam<'_> {
    Ipam::new(bed, &json!({"subnet": "10.1.2.0/24"}))
}

#[test]
fn it_can_be_read_by_people_and_checked_by_machines() {
    case(|bed| {
        let ipam = Ipam::new(bed, &config::dual_ipam());
        let args = "IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=web 0";
        ipam.call("c1").args(args).run().success();
        ipam.add("c2").success();
        ipam.del("c1");
        let text = bed.read(FILE);
        let lines: Vec<_> = text.lines().collect();
        assert_eq!((lines[0], lines.len()), (HEADER.trim_end(), 4), "{text}");
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
        let boot = bed.read("/proc/sys/kernel/random/boot_id");
        let (boot, inode, path) = (boot.trim(), ipam.pod.inode(), ipam.pod.path());
        let proof = format!("{boot} {inode} {path}");
        let expected = [
            ("leased 10.1.2.2,2001:db8:1::2 c1 eth0", format!(" {proof} shop/web%200")),
            ("leased 10.1.2.3,2001:db8:1::3 c2 eth0", format!(" {proof} -")),
            ("released 10.1.2.2,2001:db8:1::2 c1 eth0", String::new()),
        ];
        for (found, (what, proof)) in lines[1..].iter().zip(expected) {
            let (sum, fields) = found.split_once(' ').unwrap();
            assert_eq!(sum, format!("{:08x}", checksum(fields)), "{text}");
            let rest = fields.strip_prefix(what).unwrap().strip_suffix(&proof).unwrap();
            let time: u64 = rest.trim().parse().unwrap();
            assert!(time.abs_diff(now) < 60, "{text}");
        }
        let mode = |path: &str| fs::metadata(bed.file(path)).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(FILE), mode(DIR)), (0o600, 0o755));
    });
}

/// A lease file that was cut, or has a flipped bit, and what must be there afterwards: the leases of
/// `c1` and `c2`, of which their files tell.
fn assert_heals(bed: &Testbed, ipam: &Ipam<'_>, content: &[u8], what: &str) {
    fs::write(bed.file(FILE), content).unwrap();
    let outcome = ipam.add("c3");
    let ip = outcome.result()["ips"][0]["address"].as_str().unwrap().to_owned();
    assert!(ip != "10.1.2.2/24" && ip != "10.1.2.3/24", "{what}: {outcome}");
    assert_eq!(bed.leases("net"), bed.lease_files("net"), "{what}: {}", bed.read(FILE));
    for container in ["c1", "c2", "c3"] {
        ipam.network.check(&ipam.pod, container).silent();
    }
    ipam.del("c3");
    assert_eq!(bed.leases("net").len(), 4, "{what}");
}

#[test]
fn cut_anywhere_it_is_healed_from_the_directory() {
    case(|bed| {
        let ipam = Ipam::new(bed, &config::dual_ipam());
        ipam.add("c1").success();
        ipam.add("c2").success();
        let full = bytes(bed);
        for cut in 0..full.len() {
            // What a crash leaves: nothing, zeros, or the rest of a block.
            let zeros = if cut % 2 == 0 { 0 } else { full.len() - cut };
            let torn = [&full[..cut], &vec![0; zeros]].concat();
            assert_heals(bed, &ipam, &torn, &format!("cut at {cut}"));
        }
    });
}

#[test]
fn with_any_bit_flipped_it_is_healed_from_the_directory() {
    case(|bed| {
        let ipam = Ipam::new(bed, &config::dual_ipam());
        ipam.add("c1").success();
        ipam.add("c2").success();
        let full = bytes(bed);
        // Another bit of each byte: a later version is recognised by the first line.
        for at in HEADER.len()..full.len() {
            let mut flipped = full.clone();
            flipped[at] ^= 1 << (at % 8);
            assert_heals(bed, &ipam, &flipped, &format!("flipped at {at}"));
        }
    });
}

#[test]
fn of_a_later_version_it_is_refused_and_left_alone() {
    case(|bed| {
        let lease = |last: u8, id: &str| line(&format!("leased 10.1.2.{last} {id} eth0 1 - - - -"));
        for content in [
            format!("girder leases 2\n{}", lease(2, "c1")),
            "girder leases 10\n".to_owned(),
            format!("{HEADER}{}", line("swapped 10.1.2.2 c1 eth0 1")),
        ] {
            let ipam = simple(bed);
            bed.write(FILE, &content);
            ipam.add("c9").fails_with(6, "later version");
            let mut config = ipam.network.config().clone();
            config["cniVersion"] = json!("1.1.0");
            let status = bed.plugin("host-local").command("STATUS").config(&config).run();
            assert!(!status.status.success(), "{status}");
            ipam.network.call("DEL", "c1").run().fails_with(6, "later version");
            assert_eq!(bytes(bed), content.as_bytes(), "it is as it was");
            ipam.pod.destroy();
        }
    });
}

#[test]
fn what_is_damaged_is_kept_for_whoever_wants_to_know() {
    case(|bed| {
        let lease = |last: u8, id: &str| line(&format!("leased 10.1.2.{last} {id} eth0 1 - - - -"));
        let damaged = lease(3, "c2").replacen(".3 ", ".4 ", 1);
        for (content, number) in [
            ("no leases at all\n".to_owned(), 1),
            (format!("{HEADER}{}{damaged}{}", lease(2, "c1"), lease(5, "c3")), 3),
            (format!("{HEADER}{damaged}{damaged}"), 2),
        ] {
            let ipam = simple(bed);
            bed.write(FILE, &content);
            let outcome = ipam.add("c9");
            let words = format!("{FILE}: line {number} is damaged");
            assert!(outcome.success().stderr.contains(&words), "{outcome}");
            assert_eq!(fs::read(bed.file(format!("{FILE}.damaged"))).unwrap(), content.as_bytes());
            assert_eq!(held(bed).len(), 1, "only what has a file is held: {}", bed.read(FILE));
            bed.succeed("rm", &["-r", DIR]);
            ipam.pod.destroy();
        }
    });
}

#[test]
fn additions_of_later_versions_are_kept() {
    case(|bed| {
        let ipam = simple(bed);
        let note = line("x-note written by a later version");
        let lease = line("leased 10.1.2.2 c1 eth0 1 - - - - and one field more");
        bed.write(FILE, format!("{HEADER}{lease}{note}"));
        assert_eq!(ipam.ip("c2"), "10.1.2.3/24");
        ipam.del("c1");
        let text = bed.read(FILE);
        assert!(text.contains(&note) && held(bed).len() == 1, "{text}");
    });
}

#[test]
fn it_does_not_grow_for_ever() {
    case(|bed| {
        let ipam = Ipam::new(bed, &json!({"subnet": "10.1.0.0/16"}));
        let first = ["a", "b", "c"].map(|container| ipam.ip(container));
        assert_eq!(first, ["10.1.0.2/16", "10.1.0.3/16", "10.1.0.4/16"]);
        for round in 0..200 {
            let expected = format!("10.1.0.{}/16", 5 + round);
            assert_eq!(ipam.ip("d"), expected, "no address comes twice before the range ends");
            ipam.del("d");
        }
        let size = bytes(bed).len();
        assert!(size < 32 << 10, "{size} bytes for three leases");
        assert_eq!(held(bed).len(), 3);
        for container in ["a", "b", "c"] {
            ipam.network.check(&ipam.pod, container).silent();
        }
    });
}

#[test]
fn a_directory_that_cannot_be_written_is_named() {
    case(|bed| {
        let ipam = simple(bed);
        ipam.add("c1").success();
        let before = bytes(bed);
        bed.succeed("mount", &["--bind", DIR, DIR]);
        bed.succeed("mount", &["-o", "remount,bind,ro", DIR]);
        ipam.add("c2").fails_with(5, DIR);
        ipam.network.check(&ipam.pod, "c1").silent();
        let mut config = ipam.network.config().clone();
        config["cniVersion"] = json!("1.1.0");
        let status = bed.plugin("host-local").command("STATUS").config(&config);
        status.clone().run().fails_with(50, DIR);
        ipam.network.again("DEL", "c1").netns(ipam.pod.path()).run().fails_with(5, DIR);
        assert_eq!(bytes(bed), before);
        bed.succeed("umount", &[DIR]);
        status.run().silent();
        assert_eq!(ipam.ip("c2"), "10.1.2.3/24");
        ipam.del("c1");
    });
}

#[test]
fn on_a_full_disk_nothing_is_handed_out() {
    case(|bed| {
        let ipam = Ipam::on_small_disk(bed, "size=64k");
        let fill = || drop(bed.run("dd", &["if=/dev/zero", "of=/run/test/small/fill", "bs=1k"]));
        fill();
        ipam.add("c0").fails_with(5, SMALL);
        bed.succeed("rm", &["/run/test/small/fill"]);
        assert_eq!(ipam.ip("c0"), "10.1.2.2/24");
        fill();
        // The last block of the file still has room for some.
        let mut got = 1;
        let failed = loop {
            let outcome = ipam.add(&format!("c{got}"));
            if !outcome.status.success() {
                break outcome;
            }
            got += 1;
            assert!(got < 100, "the disk is not full");
        };
        failed.fails_with(5, SMALL);
        let text = bed.read("/run/test/small/net/leases");
        assert_eq!(text.matches(" leased ").count(), got, "{text}");
        assert!(text.ends_with('\n'), "half a line is left: {text}");
        bed.succeed("rm", &["/run/test/small/fill"]);
        assert_eq!(ipam.ip(&format!("c{got}")), format!("10.1.2.{}/24", 2 + got));
    });
}

#[test]
fn without_inodes_nothing_is_handed_out() {
    case(|bed| {
        let mut limit = 1;
        let outcome = loop {
            let ipam = Ipam::on_small_disk(bed, &format!("size=64k,nr_inodes={limit}"));
            let outcome = ipam.add("c1");
            if outcome.status.success() {
                break outcome;
            }
            outcome.fails_with(5, SMALL);
            bed.succeed("mount", &["-o", "remount,nr_inodes=100", SMALL]);
            assert_eq!(ipam.ip("c1"), "10.1.2.2/24", "{limit} inodes");
            bed.succeed("umount", &[SMALL]);
            ipam.pod.destroy();
            limit += 1;
            assert!(limit < 10, "too many files");
        };
        assert_eq!(outcome.result()["ips"][0]["address"], "10.1.2.2/24");
        assert!(limit > 2);
    });
}

/// Somebody who holds the lock until told to stop.
struct Holder(Child, String);

impl Holder {
    fn new(bed: &Testbed) -> Self {
        let script = format!("exec flock {DIR}/lock sh -c 'echo $PPID; exec cat'");
        let mut child = bed.start(Command::new("sh").args(["-c", &script]));
        let mut pid = String::new();
        let stdout = child.stdout.as_mut().unwrap();
        BufReader::new(stdout).read_line(&mut pid).unwrap();
        Self(child, pid.trim().to_owned())
    }

    fn release(self) {
        drop(self);
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        self.0.wait().unwrap();
    }
}

/// Returns when somebody waits for a lock.
fn await_waiter(bed: &Testbed) {
    until_so("who waits", || bed.read("/proc/locks").contains("-> FLOCK"));
}

#[test]
fn who_holds_the_lock_too_long_is_named() {
    case(|bed| {
        let ipam = Ipam::new(bed, &json!({"subnet": "10.1.2.0/24", "lockTimeout": "200ms"}));
        ipam.add("c1").success();
        let before = bytes(bed);
        let holder = Holder::new(bed);
        let start = Instant::now();
        let words = format!("process {} (flock", holder.1);
        ipam.add("c2").fails_with(11, &words);
        ipam.network.again("DEL", "c1").run().fails_with(11, &words);
        ipam.network.again("CHECK", "c1").netns(ipam.pod.path()).run().fails_with(11, &words);
        let took = start.elapsed();
        assert!(took > Duration::from_millis(600) && took < Duration::from_secs(5), "{took:?}");
        assert_eq!(bytes(bed), before);
        holder.release();
        assert_eq!(ipam.ip("c2"), "10.1.2.3/24");
    });
}

#[test]
fn who_waits_gets_the_lock_when_it_is_free() {
    case(|bed| {
        let ipam = &simple(bed);
        ipam.add("c1").success();
        let holder = Holder::new(bed);
        std::thread::scope(|scope| {
            let add = scope.spawn(|| ipam.ip("c2"));
            await_waiter(bed);
            holder.release();
            assert_eq!(add.join().unwrap(), "10.1.2.3/24");
        });
    });
}

#[test]
fn who_is_killed_while_waiting_leaves_nothing() {
    case(|bed| {
        let ipam = simple(bed);
        ipam.add("c1").success();
        let (before, holder) = (bed.snapshot(), Holder::new(bed));
        let mut waiting = Command::new(bin_dir().join("host-local"));
        waiting.env_clear().env("CNI_COMMAND", "ADD").env("CNI_CONTAINERID", "c2");
        waiting.env("CNI_NETNS", ipam.pod.path()).env("CNI_IFNAME", "eth0").env("CNI_PATH", "/");
        let mut waiting = bed.start(&mut waiting);
        let config = ipam.network.config().to_string();
        std::io::Write::write_all(&mut waiting.stdin.take().unwrap(), config.as_bytes()).unwrap();
        await_waiter(bed);
        waiting.kill().unwrap();
        assert!(!waiting.wait().unwrap().success());
        holder.release();
        bed.assert_unchanged_since(&before);
        assert_eq!(ipam.ip("c3"), "10.1.2.3/24");
    });
}
