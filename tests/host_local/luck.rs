//! Bad luck: calls that are killed, files that a power failure has lost, sixty thousand leases.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    thread,
};

use serde_json::json;
use testbed::{
    Death, Testbed, bin_dir, config,
    ipam::{DIR, Ipam, held},
    result::addresses,
};

use crate::differences::case;

/// Runs host-local, which is killed: whether it got to its end.
fn survives(ipam: &Ipam<'_>, verb: &str, death: Death) -> bool {
    death.spares(ipam.network.call(verb, "killed").netns(ipam.pod.path()))
}

/// What must hold whatever has happened: nobody living has lost an address, none is held twice,
/// and all views are one.
fn assert_sound(ipam: &Ipam<'_>, bed: &Testbed, what: &dyn std::fmt::Debug) {
    for container in ["c1", "c2"] {
        ipam.network.check(&ipam.pod, container).silent();
    }
    let probe = addresses(&ipam.add("probe").result());
    ipam.del("probe");
    let now = held(bed);
    assert!(!now.iter().any(|(held, _)| probe.contains(held)), "{what:?}: {now:?}");
    // The owner of a file that has lost its content is known to nobody.
    let files = bed.lease_files("net");
    assert!(bed.leases("net").keys().eq(files.keys()), "{what:?}: {now:?}, {files:?}");
    let owners = |of: &str| now.iter().filter(|(_, owner)| owner.starts_with(of)).count();
    assert_eq!((owners("c1"), owners("c2")), (2, 2), "{what:?}: {now:?}");
}

#[test]
fn killed_at_any_call_add_costs_at_most_what_its_del_gives_back() {
    case(|bed| {
        let ipam = Ipam::new(bed, &config::dual_ipam());
        ipam.add("c1").success();
        ipam.add("c2").success();
        let deaths = Death::each(|death| {
            let survived = survives(&ipam, "ADD", death);
            assert_sound(&ipam, bed, &death);
            ipam.del("killed");
            assert_eq!(held(bed).len(), 4, "{death:?}");
            survived
        });
        assert!(deaths > 10, "it was hardly ever killed");
    });
}

#[test]
fn killed_at_any_call_del_is_repeated() {
    case(|bed| {
        let ipam = Ipam::new(bed, &config::dual_ipam());
        ipam.add("c1").success();
        ipam.add("c2").success();
        let deaths = Death::each(|death| {
            ipam.add("killed").success();
            let survived = survives(&ipam, "DEL", death);
            assert_sound(&ipam, bed, &death);
            ipam.del("killed");
            assert_eq!(held(bed).len(), 4, "{death:?}");
            survived
        });
        assert!(deaths > 8, "it was hardly ever killed");
    });
}

/// The files of the network, as they are.
fn saved(bed: &Testbed) -> Vec<(PathBuf, Vec<u8>)> {
    let entries = fs::read_dir(bed.file(DIR)).unwrap().map(|entry| entry.unwrap().path());
    entries.map(|path| (path.clone(), fs::read(path).unwrap())).collect()
}

fn restore(bed: &Testbed, files: &[(PathBuf, Vec<u8>)], which: impl Fn(&Path) -> bool) {
    for (path, _) in saved(bed) {
        if which(&path) && !files.iter().any(|(old, _)| *old == path) {
            fs::remove_file(path).unwrap();
        }
    }
    for (path, content) in files.iter().filter(|(path, _)| which(path)) {
        fs::write(path, content).unwrap();
    }
}

/// What is on the disk after a power failure is older than what was written last, file by file.
#[test]
fn after_a_power_failure_every_mixture_of_old_and_new_files_is_sound() {
    case(|bed| {
        let is = |name: &'static str| {
            move |path: &Path| path.file_name().unwrap().to_string_lossy().starts_with(name)
        };
        for mixture in 1_u8..16 {
            let old_network = Ipam::new(bed, &config::dual_ipam());
            old_network.add("old1").success();
            let old = saved(bed);
            old_network.add("old2").success();
            old_network.del("old1");
            if mixture & 1 != 0 {
                restore(bed, &old, |path| is("leases")(path) && !is("leases.index")(path));
            }
            if mixture & 2 != 0 {
                restore(bed, &old, is("leases.index"));
            }
            if mixture & 4 != 0 {
                restore(bed, &old, |path| is("1")(path) || is("2")(path) || is("last")(path));
            }
            if mixture & 8 != 0 {
                // The name was written, and what is in the file was not.
                for (path, _) in saved(bed).iter().filter(|(path, _)| !is("lock")(path)) {
                    let length = fs::metadata(path).unwrap().len();
                    let zeros = vec![0; usize::try_from(length).unwrap()];
                    fs::write(path, if mixture & 1 == 0 { zeros } else { Vec::new() }).unwrap();
                }
            }
            bed.reboot();
            let ipam = Ipam::new(bed, &config::dual_ipam());
            ipam.add("c1").success();
            ipam.add("c2").success();
            assert_sound(&ipam, bed, &mixture);
            bed.succeed("rm", &["-r", DIR]);
            ipam.pod.destroy();
        }
    });
}

#[test]
fn gc_spares_an_add_of_which_the_runtime_has_no_answer_yet() {
    case(|bed| {
        let mut config = config::host_local("net", &json!({"subnet": "10.1.2.0/24"}));
        config["cniVersion"] = json!("1.1.0");
        let ipam = Ipam::of(bed, config);
        ipam.add("young").success();
        ipam.network.gc(&[]).silent();
        assert_eq!(held(bed).len(), 1);
    });
}

#[test]
fn fifty_adds_race_gc_and_lose_no_address() {
    case(|bed| {
        let mut config = config::host_local("net", &json!({"subnet": "10.1.2.0/24"}));
        config["cniVersion"] = json!("1.1.0");
        let ipam = &Ipam::of(bed, config);
        for round in 0..100 {
            let all: Vec<String> = thread::scope(|scope| {
                // It knows of none of them: its list was made before.
                let sweep = || scope.spawn(|| ipam.network.gc(&[]).silent());
                let add = |number: usize| {
                    scope.spawn(move || {
                        addresses(&ipam.add(&format!("c{number}")).result()).remove(0)
                    })
                };
                let running: Vec<_> = (0..50)
                    .map(|number| {
                        if number % 10 == 0 {
                            sweep();
                        }
                        add(number)
                    })
                    .collect();
                running.into_iter().map(|add| add.join().unwrap()).collect()
            });
            assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), 50, "round {round}: {all:?}");
            let now = held(bed);
            assert_eq!(now.len(), 50, "round {round}: {now:?}");
            assert!(now.iter().all(|(held, _)| all.contains(held)));
            bed.succeed("rm", &["-r", DIR]);
        }
    });
}

/// Runs a call that may have so much memory and no more, and that must succeed, or fail with words.
fn within(bed: &Testbed, ipam: &Ipam<'_>, verb: &str, container: &str) -> String {
    /// Address space in KiB. What is in memory is less.
    const LIMIT: u32 = 12 << 10;
    let script = format!("ulimit -v {LIMIT}; exec {}/host-local", bin_dir().display());
    let netns = format!("CNI_NETNS={}", ipam.pod.path());
    let (verb, id) = (format!("CNI_COMMAND={verb}"), format!("CNI_CONTAINERID={container}"));
    let words =
        ["-i", &verb, &id, &netns, "CNI_IFNAME=eth0", "CNI_PATH=/", "/bin/sh", "-c", &script];
    let output = bed.feed("env", &words, ipam.network.config().to_string().as_bytes());
    let said = [output.stdout, output.stderr].concat();
    assert!(output.status.code().is_some(), "{verb}: {}", String::from_utf8_lossy(&said));
    String::from_utf8(said).unwrap()
}

#[test]
fn sixty_thousand_leases_fit_into_twelve_megabytes() {
    case(|bed| {
        let ipam = Ipam::new(bed, &json!({"subnet": "10.1.0.0/16", "graceAge": 0}));
        let names: Vec<String> = (2..60_002_u32)
            .map(|number| {
                let [_, _, high, low] = number.to_be_bytes();
                format!("10.1.{high}.{low} {}{number}\n", "c".repeat(58))
            })
            .collect();
        let fill = format!(
            r#"mkdir -p {DIR} && cd {DIR} && while read -r ip id; do printf '%s\r\neth0' "$id" > "$ip"; done"#
        );
        let filled = bed.feed("sh", &["-c", &fill], names.concat().as_bytes());
        assert!(filled.status.success(), "{filled:?}");
        // The first one takes them over, as on the day of an upgrade.
        for container in ["first", "c1", "c2"] {
            let added = within(bed, &ipam, "ADD", container);
            assert!(added.contains("10.1.234."), "{added}");
        }
        assert_eq!(within(bed, &ipam, "DEL", "c1"), "");
        assert_eq!(held(bed).len(), 60_002);
    });
}
