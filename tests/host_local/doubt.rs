//! Files of the data directory that are not what they should be.

use std::{fs, time::SystemTime};

use serde_json::{Value, json};
use testbed::{
    Outcome, Testbed, bin_dir, config,
    ipam::{DIR, Ipam, held},
    leases::line,
    result::cidrs,
};

use crate::differences::case;

/// The header of `leases.index`, and an entry of its tables.
const HEADER: usize = 168;
const ENTRY: usize = 32;

fn index(bed: &Testbed) -> std::path::PathBuf {
    bed.file(format!("{DIR}/leases.index"))
}

/// Has it made anew, with all leases in it: those that come later are read from the lease file.
fn renew(bed: &Testbed, ipam: &Ipam<'_>) -> Vec<u8> {
    fs::remove_file(index(bed)).unwrap();
    ipam.network.check(&ipam.pod, "c1").silent();
    fs::read(index(bed)).unwrap()
}

/// Writes it without a change of the directory, and so that nothing but its content tells.
fn put(bed: &Testbed, content: &[u8]) {
    let time = fs::metadata(index(bed)).unwrap().modified().unwrap();
    fs::write(index(bed), content).unwrap();
    fs::File::options().write(true).open(index(bed)).unwrap().set_modified(time).unwrap();
}

#[test]
fn an_index_with_any_byte_flipped_is_made_anew() {
    case(|bed| {
        let ipam = Ipam::new(bed, &json!({"subnet": "10.1.2.0/24", "graceAge": 0}));
        ipam.add("c1").success();
        ipam.add("c2").success();
        let length = renew(bed, &ipam).len();
        assert_eq!(length, HEADER + 2 * ENTRY);
        for at in (0..length).step_by(3) {
            let mut content = renew(bed, &ipam);
            content[at] ^= 0x41;
            put(bed, &content);
            let outcome = ipam.add("c3");
            assert!(outcome.status.success(), "byte {at}: {outcome}");
            let ip = cidrs(&outcome.result()).remove(0);
            assert!(ip != "10.1.2.2/24" && ip != "10.1.2.3/24", "byte {at}: {outcome}");
            ipam.del("c3");
            assert_eq!(held(bed).len(), 2, "byte {at}");
        }
        assert_eq!(bed.leases("net"), bed.lease_files("net"));
    });
}

#[test]
fn an_index_with_any_entry_lost_is_made_anew() {
    case(|bed| {
        let ipam = Ipam::new(bed, &json!({"subnet": "10.1.2.0/24", "graceAge": 0}));
        ipam.add("c1").success();
        for entry in 0..2 {
            ipam.add("c2").success();
            let mut content = renew(bed, &ipam);
            content[HEADER + entry * ENTRY..][..ENTRY].fill(0);
            put(bed, &content);
            ipam.del("c2");
            assert_eq!(held(bed).len(), 1, "entry {entry}");
        }
        assert_eq!(bed.leases("net"), bed.lease_files("net"));
    });
}

/// Makes sixty thousand files of addresses that say `content`.
fn fill(bed: &Testbed, content: &str) {
    let names: Vec<String> = (2..60_002_u32)
        .map(|number| {
            let [_, _, high, low] = number.to_be_bytes();
            format!("10.1.{high}.{low}\n")
        })
        .collect();
    let script = format!(
        r#"mkdir -p {DIR} && cd {DIR} && while read -r ip; do printf '{content}' > "$ip"; done"#
    );
    let filled = bed.feed("sh", &["-c", &script], names.concat().as_bytes());
    assert!(filled.status.success(), "{filled:?}");
}

/// What takes longer than the test host grants a program, is killed.
#[test]
fn sixty_thousand_strange_files_are_taken_over_and_given_up() {
    case(|bed| {
        for content in ["", r"garbage \0 and more"] {
            let mut config =
                config::host_local("net", &json!({"subnet": "10.1.0.0/16", "graceAge": 0}));
            config["cniVersion"] = json!("1.1.0");
            let ipam = Ipam::of(bed, config);
            fill(bed, content);
            let outcome = ipam.add("c1");
            assert!(cidrs(&outcome.result())[0].starts_with("10.1.234."), "{outcome}");
            let lines = outcome.stderr.lines().count();
            assert!(lines < 20, "{lines} lines");
            assert!(outcome.stderr.contains("59990 more files"), "{}", outcome.stderr);
            ipam.del("c1");
            assert_eq!(held(bed).len(), 60_000);
            ipam.network.gc(&[]).silent();
            assert!(held(bed).is_empty());
            bed.succeed("rm", &["-r", DIR]);
            ipam.pod.destroy();
        }
    });
}

#[test]
fn files_that_one_owner_has_lost_are_healed_and_then_given_back() {
    case(|bed| {
        let ipam = Ipam::new(bed, &json!({"subnet": "10.1.0.0/16", "graceAge": 0}));
        fill(bed, r"one\r\neth0");
        ipam.add("c1").success();
        fill(bed, "");
        // A content alone does not change the directory.
        bed.write(&format!("{DIR}/x"), "");
        ipam.add("c2").success();
        assert_eq!(bed.read(&format!("{DIR}/10.1.200.1")), "one\r\neth0");
        ipam.del("one");
        assert_eq!(held(bed).len(), 2);
    });
}

#[test]
fn a_lease_of_the_future_or_of_no_time_is_not_young_for_ever() {
    case(|bed| {
        let mut config = config::host_local("net", &json!({"subnet": "10.1.2.0/24"}));
        config["cniVersion"] = json!("1.1.0");
        let ipam = Ipam::of(bed, config);
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
        let future = (now + 86_400).to_string();
        for (time, stays) in [(now.to_string().as_str(), true), (&future, false), ("-5", false)] {
            ipam.add("c1").success();
            let path = format!("{DIR}/leases");
            let text = bed.read(&path);
            let last = text.lines().last().unwrap().split_once(' ').unwrap().1;
            let mut words: Vec<_> = last.split(' ').collect();
            words[4] = time;
            bed.write(&path, format!("girder leases 1\n{}", line(&words.join(" "))));
            ipam.network.gc(&[]).silent();
            assert_eq!(held(bed).len(), usize::from(stays), "{time}");
            ipam.del("c1");
        }
    });
}

/// A call that may not take all memory, and that must come to its end.
fn call(bed: &Testbed, ipam: &Ipam<'_>, verb: &str, container: &str) -> (bool, String) {
    let script = format!("ulimit -v 262144; exec {}/host-local", bin_dir().display());
    let netns = format!("CNI_NETNS={}", ipam.pod.path());
    let (verb, id) = (format!("CNI_COMMAND={verb}"), format!("CNI_CONTAINERID={container}"));
    let words =
        ["-i", &verb, &id, &netns, "CNI_IFNAME=eth0", "CNI_PATH=/", "/bin/sh", "-c", &script];
    let output = bed.feed("env", &words, ipam.network.config().to_string().as_bytes());
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.code().is_some(), "{verb} {container}: {:?}: {said}", output.status);
    (output.status.success(), said)
}

const VICTIM: &str = "/var/lib/cni/victim";

const KINDS: [(&str, &str); 6] = [
    ("a pipe", "mkfifo \"$1\""),
    ("a symbolic link", "ln -s \"$2\" \"$1\""),
    ("a link to nothing", "ln -s \"$2-made\" \"$1\""),
    ("a hard link", "ln \"$2\" \"$1\""),
    ("a device without end", "ln -s /dev/zero \"$1\""),
    ("a large file", "truncate -s 3G \"$1\""),
];

#[test]
fn whatever_is_planted_nobody_hangs_and_nothing_else_is_written() {
    case(|bed| {
        bed.write(VICTIM, "10.1.2.99");
        let names = [
            "leases",
            "leases.index",
            "leases.new",
            "leases.index.new",
            "leases.damaged",
            "leases.damaged.new",
            "leases.temporary",
            "lock",
            "last_reserved_ip.0",
            "10.1.2.3",
        ];
        for name in names {
            for (kind, make) in KINDS {
                let what = format!("{kind} as {name}");
                let ipam = Ipam::new(bed, &json!({"subnet": "10.1.2.0/24", "graceAge": 0}));
                ipam.add("c1").success();
                let path = format!("{DIR}/{name}");
                bed.succeed("rm", &["-f", &path]);
                bed.succeed("sh", &["-c", make, "sh", &path, VICTIM]);
                if name.starts_with("leases.damaged") {
                    let text = bed.read(&format!("{DIR}/leases"));
                    bed.write(&format!("{DIR}/leases"), text.replace("eth0", "ethX") + "x\ny\n");
                }
                for (verb, container) in
                    [("ADD", "c2"), ("ADD", "c3"), ("DEL", "c2"), ("CHECK", "c3"), ("DEL", "c1")]
                {
                    let (is_done, said) = call(bed, &ipam, verb, container);
                    let named = said.contains(&path) || verb == "CHECK";
                    assert!(is_done || named, "{what}: {verb}: {said}");
                    assert!(!said.contains("10.1.2.3/24") || name != "10.1.2.3", "{what}: {said}");
                }
                assert_eq!(bed.read(VICTIM), "10.1.2.99", "{what}");
                assert!(!bed.file(format!("{VICTIM}-made")).exists(), "{what}");
                bed.succeed("rm", &["-f", &path]);
                ipam.add("c4").success();
                ipam.network.check(&ipam.pod, "c4").silent();
                assert_eq!(bed.leases("net"), bed.lease_files("net"), "{what}");
                bed.succeed("rm", &["-r", DIR]);
                ipam.pod.destroy();
            }
        }
    });
}

fn with_servers(bed: &Testbed, path: &str) -> Outcome {
    let mut ipam = config::dual_ipam();
    ipam["resolvConf"] = json!(path);
    let ipam = Ipam::new(bed, &ipam);
    let outcome = ipam.add("c1");
    ipam.pod.destroy();
    outcome
}

#[test]
fn name_servers_come_from_files_that_end_through_links_too() {
    case(|bed| {
        bed.write("/run/test/real", "nameserver 192.0.2.3\n");
        bed.succeed("ln", &["-s", "/run/test/real", "/run/test/link"]);
        bed.succeed("ln", &["/run/test/real", "/run/test/hard"]);
        bed.succeed("mkfifo", &["/run/test/pipe"]);
        bed.succeed("truncate", &["-s", "64M", "/run/test/large"]);
        for path in ["/run/test/pipe", "/run/test/large", "/run/test"] {
            with_servers(bed, path).fails_with(5, path);
        }
        assert!(held(bed).is_empty());
        for (number, path) in ["/run/test/link", "/run/test/hard"].into_iter().enumerate() {
            let result = with_servers(bed, path).result();
            assert_eq!(result["dns"]["nameservers"], json!(["192.0.2.3"]), "{number}");
            bed.succeed("rm", &["-r", DIR]);
        }
    });
}

/// Of one that is edited to nonsense since, DEL and GC need nothing.
#[test]
fn whatever_key_is_broken_by_now_del_and_gc_free_the_lease() {
    case(|bed| {
        let mut config =
            config::host_local("net", &json!({"subnet": "10.1.2.0/24", "graceAge": 0}));
        config["cniVersion"] = json!("1.1.0");
        let ipam = Ipam::of(bed, config.clone());
        let keys = [
            "subnet",
            "ranges",
            "rangeStart",
            "rangeEnd",
            "gateway",
            "exclude",
            "routes",
            "resolvConf",
            "lockTimeout",
            "reclaim",
            "graceAge",
            "sticky",
            "statusOnFull",
            "dataDir",
        ];
        for key in keys {
            for value in [json!(-5), json!("nonsense"), json!({"a": [1]}), json!([true])] {
                // A text is a directory, and a lifetime that can be read is one.
                if key == "dataDir" && value.is_string() {
                    continue;
                }
                for verb in ["DEL", "GC"] {
                    ipam.add("c1").success();
                    let mut broken = config.clone();
                    broken["ipam"][key] = value.clone();
                    broken["cni.dev/valid-attachments"] = Value::Null;
                    let call = ipam.network.call(verb, "c1").netns(ipam.pod.path());
                    call.args("IP=nonsense;what").config(&broken).run().silent();
                    // Without a grace age, there is one: what is young stays.
                    let stays = verb == "GC" && key == "graceAge";
                    assert_eq!(held(bed).len(), usize::from(stays), "{verb} {key} {value}");
                    ipam.del("c1");
                }
            }
        }
    });
}
