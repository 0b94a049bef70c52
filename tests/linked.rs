//! All plugins in one executable: it is each of them by its name, a delegate in it takes no process, and
//! nothing else is different.

use serde_json::{Value, json};
use testbed::{
    Testbed, bin_dir,
    config::{self, changed},
    double::DIR as DOUBLES,
    flannel::flannel,
    is_reference,
    linked::LINKED,
    programs::plugins,
    reach::seen_by_tcp,
    result::addresses,
    step,
    warm::Warm,
};

use crate::differences::case as on_a_host;

/// On a host that has the executable. Who else is under test does not matter.
#[track_caller]
fn case(body: impl FnOnce(&Testbed)) {
    on_a_host(|bed| {
        if !is_reference() {
            bed.link_plugins();
            body(bed);
        }
    });
}

/// What a program of it says.
fn says(bed: &Testbed, name: &str, words: &[&str]) -> (Option<i32>, String) {
    let output = bed.run(&format!("{LINKED}/{name}"), words);
    let said = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8(said).unwrap())
}

#[test]
fn it_is_what_it_is_called() {
    case(|bed| {
        for plugin in plugins() {
            let separate =
                bed.succeed(&bin_dir().join(&plugin).display().to_string(), &["--version"]);
            assert_eq!(says(bed, &plugin, &["--version"]), (Some(0), separate.clone()));
            assert_eq!(says(bed, "girder", &[&plugin, "--version"]), (Some(0), separate));
        }
        bed.succeed("ln", &["-s", "girder", &format!("{LINKED}/buildkit-cni-host-local")]);
        let (_, answer) = says(bed, "buildkit-cni-host-local", &["--version"]);
        assert!(answer.starts_with("CNI host-local plugin "), "{answer}");
        assert!(says(bed, "cnitool", &["--version"]).1.starts_with("cnitool "));
        assert!(says(bed, "girder", &["cnitool", "--version"]).1.starts_with("cnitool "));
        assert!(says(bed, "girder", &["dhcp", "daemon", "--help"]).1.contains("-socketpath"));
    });
}

#[test]
fn by_its_own_name_it_says_what_it_is() {
    case(|bed| {
        let (code, help) = says(bed, "girder", &["--help"]);
        assert_eq!(code, Some(0));
        assert!(plugins().iter().all(|plugin| help.contains(plugin)), "{help}");
        assert!(says(bed, "girder", &["--version"]).1.starts_with("girder "));
        for words in [vec![], vec!["no-such"], vec!["xbridge"]] {
            assert_eq!(says(bed, "girder", &words), (Some(2), help.clone()), "{words:?}");
        }
    });
}

#[test]
fn a_delegate_in_it_takes_no_process() {
    case(|bed| {
        let warm = Warm::new(bed, config::pods());
        let (pod, before) = (bed.sandbox("pod"), bed.snapshot());
        let call = |verb: &str| warm.network.again(verb, "c1").netns(pod.path());
        let (added, processes) = bed.processes(call("ADD").linked());
        assert_eq!(processes, 1, "{added}");
        warm.assert_connected(&pod);
        let config = changed(config::pods(), &json!({"prevResult": added.result()}));
        for verb in ["CHECK", "DEL"] {
            assert_eq!(bed.processes(call(verb).config(&config).linked()).1, 1, "{verb}");
        }
        bed.assert_unchanged_since(&before);
        let config = changed(config, &json!({"cniVersion": "1.1.0", "prevResult": null}));
        assert_eq!(bed.processes(call("STATUS").config(&config).linked()).1, 1);
        let valid = json!([{"containerID": "first", "ifname": "eth0"}]);
        let config = changed(config, &json!({"cni.dev/valid-attachments": valid}));
        assert_eq!(bed.processes(call("GC").config(&config).linked()).1, 1);
        warm.assert_connected(&warm.first);
    });
}

#[test]
fn a_delegate_of_a_delegate_takes_none_either() {
    case(|bed| {
        bed.lease_subnet();
        let (pod, network) = (bed.sandbox("pod"), bed.network(flannel(&json!({}))));
        let call = |verb: &str| network.call(verb, "c1").netns(pod.path()).linked();
        let (added, processes) = bed.processes(call("ADD"));
        assert_eq!(processes, 1, "{added}");
        seen_by_tcp(&pod, bed, "10.5.17.1");
        assert_eq!(bed.processes(call("DEL")).1, 1);
        assert!(bed.leases("cbr0").is_empty());
    });
}

#[test]
fn a_delegate_in_another_file_is_run() {
    case(|bed| {
        let reply = json!({"cniVersion": "1.0.0", "ips": [{"address": "10.1.0.9/24"}]});
        bed.recorder("host-local", &reply);
        let (pod, network) = (bed.sandbox("pod"), bed.network(config::pods()));
        let call = network.call("ADD", "c1").netns(pod.path()).linked();
        let added = call.cni_path(&format!("{DOUBLES}:{LINKED}")).run().result();
        assert_eq!(addresses(&added), ["10.1.0.9"]);
        assert_eq!(bed.recorded("host-local").len(), 1);
    });
}

#[test]
fn either_form_goes_on_where_the_other_was() {
    case(|bed| {
        let warm = Warm::new(bed, config::pods());
        let before = bed.snapshot();
        for is_linked in [true, false] {
            let pod = bed.sandbox(&format!("pod{is_linked}"));
            let call = |verb: &str, is_linked: bool| {
                let call = warm.network.again(verb, "c1").netns(pod.path());
                if is_linked { call.linked() } else { call }.run()
            };
            let added = call("ADD", is_linked).result();
            warm.assert_connected(&pod);
            // Who has it already is refused by the same words.
            let refused = [true, false].map(|is_linked| call("ADD", is_linked).error());
            assert_eq!(refused[0], refused[1]);
            assert_eq!(addresses(&added).len(), 2);
            call("DEL", !is_linked).silent();
            pod.destroy();
            bed.assert_back_to(&before);
        }
    });
}

#[test]
fn errors_are_the_same_and_leave_nothing() {
    case(|bed| {
        let warm = Warm::new(bed, config::pods());
        let (pod, before) = (bed.sandbox("pod"), bed.snapshot());
        let ipam = |keys: Value| json!({"ipam": changed(config::dual_ipam(), &keys)});
        for changes in [
            // Before, in and after the delegate, and in one that is itself.
            json!({"ipam": {"type": "no-such"}}),
            ipam(json!({"type": "host-local", "ranges": [[{"subnet": "10.1.0.0/33"}]]})),
            ipam(json!({"type": "host-local"})),
            json!({"ipam": {"type": "bridge"}}),
        ] {
            let config = config::pods_with(&changes);
            let call = || warm.network.call("ADD", "c1").netns(pod.path()).config(&config);
            let (separate, linked) = (call().run().error(), call().linked().run().error());
            assert_eq!(
                (separate.code, &separate.details),
                (linked.code, &linked.details),
                "{changes}"
            );
            bed.assert_unchanged_since(&before);
        }
    });
}

#[test]
fn a_tap_of_another_label_is_made_by_itself() {
    case(|bed| {
        // What the plugin does where there is SELinux: it runs itself, by no name.
        let run = format!("GIRDER_TAP='tap7 - - false' exec {LINKED}/girder");
        bed.succeed("sh", &["-c", &run]);
        assert!(bed.ip("link show tap7").contains("tap7"));
    });
}

/// A directory of the host that has two of the Go plugins' names.
fn directory_of_theirs(bed: &Testbed) -> &'static str {
    let dir = "/run/opt/cni/bin";
    bed.succeed("mkdir", &["-p", dir]);
    for name in ["bridge", "theirs"] {
        bed.write(&format!("{dir}/{name}"), "#!/bin/sh\necho theirs\n");
        bed.succeed("chmod", &["755", &format!("{dir}/{name}")]);
    }
    dir
}

#[test]
fn an_installation_is_each_plugin_and_ends_without_a_trace() {
    case(|bed| {
        let dir = directory_of_theirs(bed);
        let files =
            || bed.succeed("sh", &["-c", &format!("cd {dir} && find . | sort | xargs ls -ld")]);
        let before = files();
        let install = format!("{LINKED}/girder install {dir}");
        bed.succeed("sh", &["-c", &install]);
        for plugin in plugins() {
            let answer = bed.succeed(&format!("{dir}/{plugin}"), &["--version"]);
            assert!(answer.starts_with(&format!("CNI {plugin} plugin ")), "{answer}");
        }
        assert_eq!(bed.succeed(&format!("{dir}/theirs"), &[]), "theirs\n");
        let installed = files();
        bed.succeed("sh", &["-c", &install]);
        assert_eq!(files(), installed, "it is there already");
        bed.succeed(&format!("{dir}/girder"), &["uninstall", dir]);
        assert_eq!(files(), before);
        bed.succeed(&format!("{LINKED}/girder"), &["uninstall", dir]);
        assert_eq!(files(), before);
    });
}

#[test]
fn an_installation_that_was_killed_is_finished_and_undone() {
    case(|bed| {
        let dir = directory_of_theirs(bed);
        let files =
            || bed.succeed("sh", &["-c", &format!("cd {dir} && find . | sort | xargs ls -ld")]);
        let before = files();
        let girder = format!("{LINKED}/girder");
        for number in (1..120).step_by(step(13)) {
            let calls = "rename,link,linkat,unlink,openat,fsync,chmod";
            let killed = format!("-e trace={calls} -e inject={calls}:signal=KILL:when={number}");
            let words = format!("strace -o /dev/null {killed} {girder} install {dir}");
            bed.run("sh", &["-c", &words]);
            for plugin in plugins() {
                // Whatever has the name is whole.
                let place = format!("{dir}/{plugin}");
                let is_there = bed.run("test", &["-e", &place]).status.success();
                assert!(!is_there || bed.run(&place, &["--version"]).status.success(), "{plugin}");
            }
            bed.succeed(&girder, &["install", dir]);
            bed.succeed(&girder, &["uninstall", dir]);
            assert_eq!(files(), before, "killed before call {number}");
        }
    });
}

#[test]
fn an_installation_does_as_it_is_told() {
    case(|bed| {
        let dir = directory_of_theirs(bed);
        let run = |variable: &str, words: &[&str]| {
            bed.run("env", &[&[variable, &format!("{LINKED}/girder")], words].concat())
        };
        let says = |name: &str| bed.run(&format!("{dir}/{name}"), &["--version"]);
        run("UPDATE_CNI_BINARIES=false", &["install", dir]);
        assert_eq!(says("bridge").stdout, b"theirs\n");
        assert!(says("ptp").stdout.starts_with(b"CNI ptp plugin "));
        run("SKIP_CNI_BINARIES=bridge, tap", &["install", dir]);
        assert_eq!(says("bridge").stdout, b"theirs\n");
        run("A=b", &["install", dir]);
        assert!(says("bridge").stdout.starts_with(b"CNI bridge plugin "));
        // What somebody has put there since is theirs, and stays.
        bed.succeed(
            "cp",
            &["--remove-destination", &format!("{dir}/theirs"), &format!("{dir}/vlan")],
        );
        run("A=b", &["uninstall", dir]);
        assert_eq!(says("vlan").stdout, b"theirs\n");
        assert_eq!(says("bridge").stdout, b"theirs\n");
        let refused = run("A=b", &["install", "/run/nowhere"]);
        assert_eq!(refused.status.code(), Some(1));
        let said = String::from_utf8(refused.stderr).unwrap();
        assert!(said.contains("cannot use /run/nowhere as a directory of plugins"), "{said}");
    });
}

#[test]
fn of_installations_at_once_one_waits() {
    case(|bed| {
        let dir = directory_of_theirs(bed);
        let girder = format!("{LINKED}/girder");
        let one = format!("{girder} install {dir} || echo failed");
        let said = bed.succeed("sh", &["-c", &format!("({one}) & ({one}) & ({one}) & wait")]);
        assert_eq!(said, "");
        for name in plugins().iter().map(String::as_str).chain(["girder"]) {
            bed.succeed("cmp", &[&girder, &format!("{dir}/{name}")]);
        }
        bed.succeed(&girder, &["uninstall", dir]);
        assert_eq!(bed.succeed("ls", &["-A", dir]), "bridge\ntheirs\n");
        assert_eq!(bed.succeed(&format!("{dir}/bridge"), &[]), "theirs\n");
    });
}

#[test]
fn a_name_that_is_skipped_by_now_is_given_back() {
    case(|bed| {
        let dir = directory_of_theirs(bed);
        bed.succeed(&format!("{LINKED}/girder"), &["install", dir]);
        // A later one, so that what the names are by now is no longer known by the executable.
        let later = "/run/test/later";
        bed.succeed(
            "sh",
            &["-c", &format!("(cat {LINKED}/girder; echo) >{later}; chmod +x {later}")],
        );
        bed.succeed("env", &["SKIP_CNI_BINARIES=bridge", later, "install", dir]);
        assert_eq!(bed.succeed(&format!("{dir}/bridge"), &[]), "theirs\n");
        bed.succeed(later, &["uninstall", dir]);
        assert_eq!(bed.succeed("ls", &["-A", dir]), "bridge\ntheirs\n");
        assert_eq!(bed.succeed(&format!("{dir}/bridge"), &[]), "theirs\n");
    });
}
