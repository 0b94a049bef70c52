//! The daemon: how it starts, ends, dies, and goes on.

use nix::sys::signal::Signal;
use serde_json::{Value, json};
use std::{collections::BTreeSet, os::unix::net::UnixStream, process::Command};
use testbed::{
    Death, bin_dir,
    crowd::{add_all, assert_distinct, del_all, sandboxes},
    dhcp::{
        DISCOVER, LEASES, RELEASE, REQUEST, Running, SOCKET, Server, begin_add, network, wire,
        with_socket,
    },
    result::addresses,
    step, until_so,
};

use crate::differences::case;

fn dhcp() -> Value {
    network("dhcp", &json!({}))
}

/// GC and STATUS are of 1.1.0.
fn later() -> Value {
    network("dhcp", &json!({"cniVersion": "1.1.0"}))
}

#[test]
fn it_writes_its_number_and_tidies_up() {
    case(|bed| {
        for flags in ["-pidfile /run/dhcp.pid", "--pidfile=/run/dhcp.pid"] {
            let daemon = bed.dhcp_daemon(flags);
            let number = bed.read("/run/dhcp.pid");
            assert!(number.bytes().all(|byte| byte.is_ascii_digit()), "{number:?}");
            let ended = daemon.end(Signal::SIGTERM);
            assert!(ended.status.success(), "{ended:?}");
            assert!(!bed.file("/run/dhcp.pid").exists() && !bed.file(SOCKET).exists());
        }
        let refused = bed.dhcp_daemon_starts("-pidfile run.pid").wait();
        assert_eq!(refused.status.code(), Some(1));
    });
}

#[test]
fn its_number_goes_through_no_link() {
    case(|bed| {
        bed.write("/run/victim", "mine");
        bed.succeed("ln", &["-s", "/run/victim", "/run/dhcp.pid"]);
        let _daemon = bed.dhcp_daemon("-pidfile /run/dhcp.pid");
        assert_eq!(bed.read("/run/victim"), "mine");
        assert!(bed.read("/run/dhcp.pid").parse::<u32>().is_ok());
    });
}

#[test]
fn its_leases_are_not_where_its_socket_is() {
    case(|bed| {
        for flags in ["-socketpath /run/a.leases", "-socketpath /run/a.new -leases /run/a.leases"] {
            let refused = bed.dhcp_daemon_starts(flags).wait();
            assert_eq!(refused.status.code(), Some(1));
            let said = String::from_utf8_lossy(&refused.stderr).into_owned();
            assert!(said.contains("the leases cannot be at /run/a.leases"), "{said}");
        }
    });
}

#[test]
fn leases_that_cannot_be_written_down_are_told() {
    case(|bed| {
        let server = Server::new(&bed.neighbour());
        bed.succeed("mkdir", &["/run/full"]);
        bed.succeed("mount", &["-t", "tmpfs", "-o", "size=16k", "none", "/run/full"]);
        let _daemon = bed.dhcp_daemon("-leases /run/full/leases");
        let (pod, network) = (bed.sandbox("pod"), bed.network(later()));
        wire(bed, &pod, "eth0");
        network.status().silent();
        bed.succeed("sh", &["-c", "cat /dev/zero > /run/full/fill || true"]);
        network.status().fails_with(50, "cannot write /run/full/leases");
        network.add(&pod, "c1").fails_with(5, "cannot write /run/full/leases");
        server.hears(RELEASE);
        bed.succeed("rm", &["/run/full/fill"]);
        network.status().silent();
        network.add(&pod, "c1").success();
    });
}

#[test]
fn a_flag_that_there_is_not_is_named() {
    case(|bed| {
        let refused = bed.dhcp_daemon_starts("-nosuch").wait();
        assert_eq!(refused.status.code(), Some(2));
        let said = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(said.starts_with("flag provided but not defined: -nosuch"), "{said}");
    });
}

#[test]
fn paths_of_the_host_may_have_a_prefix() {
    case(|bed| {
        let server = Server::new(&bed.neighbour());
        bed.succeed("mkdir", &["/run/host"]);
        bed.succeed("ln", &["-s", "/run", "/run/host/run"]);
        let _daemon = bed.dhcp_daemon("-hostprefix /run/host");
        let pod = bed.sandbox("pod");
        wire(bed, &pod, "eth0");
        bed.network(dhcp()).add(&pod, "c1").success();
        server.hears(REQUEST);
    });
}

#[test]
fn a_socket_that_nobody_listens_at_is_replaced() {
    case(|bed| {
        bed.dhcp_daemon("").end(Signal::SIGKILL);
        assert!(bed.file(SOCKET).exists());
        let _daemon = bed.dhcp_daemon("");
        bed.network(later()).status().silent();
    });
}

#[test]
fn there_is_one_daemon() {
    case(|bed| {
        let _daemon = bed.dhcp_daemon("");
        for flags in ["", "-leases /run/other.leases"] {
            let second = bed.dhcp_daemon_starts(flags).wait();
            assert_eq!(second.status.code(), Some(1));
            let said = String::from_utf8_lossy(&second.stderr).into_owned();
            assert!(said.contains("another daemon"), "{said}");
        }
        bed.network(later()).status().silent();
    });
}

#[test]
fn systemd_hands_over_the_socket() {
    case(|bed| {
        let program = bin_dir().join("dhcp").display().to_string();
        let script = |count| {
            format!("exec 3<&0; export LISTEN_PID=$$ LISTEN_FDS={count}; exec {program} daemon")
        };
        let daemon = with_socket(bed, &script(1));
        bed.dhcp_answers();
        bed.network(dhcp()).del(&bed.sandbox("pod"), "c1").silent();
        assert!(daemon.end(Signal::SIGTERM).status.success());
        bed.succeed("rm", &["-f", SOCKET]);
        let refused = with_socket(bed, &script(2).replace("3<&0", "3<&0 4<&0")).wait();
        assert_eq!(refused.status.code(), Some(1));
        let said = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(said.contains("Too many (2) FDs passed through socket activation"), "{said}");
    });
}

#[test]
fn units_of_systemd_start_it() {
    case(|bed| {
        let read = |name: &str| {
            let path = testbed::programs::workspace().join("conf/systemd").join(name);
            std::fs::read_to_string(path).unwrap()
        };
        let (socket, service) = (read("cni-dhcp.socket"), read("cni-dhcp.service"));
        assert!(socket.contains(&format!("\nListenStream={SOCKET}\n")), "{socket}");
        assert!(service.contains("\nExecStart=/opt/cni/bin/dhcp daemon\n"), "{service}");
        assert!(service.contains("\nRequires=cni-dhcp.socket\n"), "{service}");
        let help = bed.dhcp_daemon_starts("-help").wait();
        assert!(help.status.success());
    });
}

#[test]
fn without_it_every_verb_says_so() {
    case(|bed| {
        let (network, pod) = (bed.network(later()), bed.sandbox("pod"));
        network.status().fails_with(50, SOCKET);
        network.add(&pod, "c1").fails_with(11, "error dialing DHCP daemon");
        network.del(&pod, "c1").fails_with(11, "error dialing DHCP daemon");
        network.gc(&[]).fails_with(11, "error dialing DHCP daemon");
    });
}

#[test]
fn one_that_hangs_is_not_waited_for_for_ever() {
    case(|bed| {
        let daemon = bed.dhcp_daemon("");
        bed.succeed("pkill", &["-STOP", "-x", "dhcp"]);
        bed.network(later()).status().fails_with(50, "no sign of life");
        drop(daemon);
    });
}

#[test]
fn nonsense_is_answered() {
    case(|bed| {
        use std::io::{Read as _, Write as _};
        let _daemon = bed.dhcp_daemon("");
        for nonsense in ["\n", "{}\n", "{\"verb\": \"add\"}\n", "GET / HTTP/1.0\r\n\r\n"] {
            let mut stream = UnixStream::connect(bed.file(SOCKET)).unwrap();
            stream.write_all(nonsense.as_bytes()).unwrap();
            let mut answer = String::new();
            // Whatever was not read by the other side resets the connection.
            stream.read_to_string(&mut answer).ok();
            assert!(answer.starts_with("{\"failed\""), "{nonsense:?}: {answer:?}");
        }
        bed.network(later()).status().silent();
    });
}

#[test]
fn a_killed_add_leaves_no_lease() {
    case(|bed| {
        let server = Server::new(&bed.neighbour());
        server.set(|manners| manners.is_silent = true);
        let _daemon = bed.dhcp_daemon("-timeout 1s");
        let pod = bed.sandbox("pod");
        wire(bed, &pod, "eth0");
        let network = bed.network(dhcp());
        let mut child = begin_add(bed, &pod, &dhcp());
        server.hears(DISCOVER);
        child.kill().and_then(|()| child.wait()).unwrap();
        network.del(&pod, "c1").silent();
        server.set(|manners| manners.is_silent = false);
        assert!(bed.dhcp_leases().is_empty());
        network.add(&pod, "c1").success();
        assert_eq!(bed.dhcp_leases().len(), 1);
    });
}

#[test]
fn killed_and_started_again_it_goes_on() {
    case(|bed| {
        const COUNT: usize = 100;
        let neighbour = bed.neighbour();
        let (range, more) =
            ("203.0.113.5,203.0.113.254,255.255.255.0,10m", ["--dhcp-option=58,12"]);
        let server = bed.dnsmasq(&neighbour, "lan", range, &more);
        let daemon = bed.dhcp_daemon("");
        let network = bed.network(network("macvlan", &json!({"master": "lan"})));
        let pods = sandboxes(bed, COUNT);
        let found: Vec<_> = pods.chunks(10).flat_map(|some| add_all(&network, some)).collect();
        assert_distinct(&found, COUNT);
        let found: BTreeSet<_> = found.into_iter().collect();
        daemon.end(Signal::SIGKILL);
        let before = server.log().len();
        // What the server says of whom, since then.
        let told = |what: &str| -> BTreeSet<String> {
            let log = server.log();
            let told = log[before..].lines().filter_map(|line| line.split_once(what));
            told.filter_map(|(_, rest)| rest.split_whitespace().next().map(str::to_owned)).collect()
        };
        let _daemon = bed.dhcp_daemon("");
        until_so("all renewed", || told("DHCPACK(lan) ") == found);
        assert_eq!(told("DHCPDISCOVER(lan) "), BTreeSet::new());
        assert_eq!(bed.dhcp_leases().len(), COUNT);
        del_all(&network, &pods);
        until_so("all released", || told("DHCPRELEASE(lan) ") == found);
        assert!(bed.dhcp_leases().is_empty());
    });
}

#[test]
fn killed_during_an_add_it_leaves_nothing_that_the_next_one_minds() {
    case(|bed| {
        let _server = Server::new(&bed.neighbour());
        let network = bed.network(network("macvlan", &json!({"master": "lan"})));
        let pod = bed.sandbox("pod");
        let end = || bed.succeed("sh", &["-c", "pkill -KILL -x dhcp || true"]);
        let deaths = Death::every(step(3), |death| {
            let mut daemon = bed.dhcp_daemon_under(&death.strace());
            let is_there = || UnixStream::connect(bed.file(SOCKET)).is_ok();
            until_so("the daemon, or its end", || daemon.has_ended() || is_there());
            let added = network.add(&pod, "c1");
            let survived = added.status.success();
            end();
            daemon.wait();
            assert!(
                survived || added.error_code() == 11 && pod.has_only_lo(),
                "{death:?}: {added}"
            );
            let _next = bed.dhcp_daemon("");
            if survived {
                network.check(&pod, "c1").silent();
            }
            network.del(&pod, "c1").silent();
            assert!(pod.has_only_lo() && bed.dhcp_leases().is_empty(), "{death:?}");
            network.add(&pod, "c1").success();
            network.del(&pod, "c1").silent();
            assert!(!bed.file(LEASES).with_extension("new").exists(), "{death:?}");
            end();
            survived
        });
        assert!(deaths > 10, "it was hardly ever killed");
    });
}

#[test]
fn what_was_lost_meanwhile_is_noticed() {
    case(|bed| {
        let server = Server::new(&bed.neighbour());
        server.set(|manners| manners.times = [2, 0, 0]);
        let network = bed.network(network("macvlan", &json!({"master": "lan"})));
        let daemon = bed.dhcp_daemon("-timeout 1s");
        let [gone, late] = ["gone", "late"].map(|name| bed.sandbox(name));
        network.add(&gone, "gone").success();
        let own = addresses(&network.add(&late, "late").result());
        daemon.end(Signal::SIGKILL);
        gone.destroy();
        // The lease ends while there is nobody to renew it.
        let leases = bed.dhcp_leases();
        let ends = leases
            .iter()
            .map(|lease| lease["grants"][0]["v4"]["term"]["expiry"]["secs"].as_u64().unwrap());
        let end = ends.max().unwrap() + 1;
        let uptime = || bed.read("/proc/uptime").split('.').next()?.parse::<u64>().ok();
        until_so("the end of the lease", || uptime().is_some_and(|now| now >= end));
        server.forget();
        let _daemon = bed.dhcp_daemon("-timeout 1s");
        let said = server.hears(DISCOVER);
        assert_eq!(said.option(61), Some(&b"\0late/lan/eth0"[..]));
        until_so("the address", || network.check(&late, "late").status.success());
        assert!(late.ip("-4 -o addr show dev eth0").contains(&own[0]));
        assert_eq!(bed.dhcp_leases().len(), 1);
    });
}

#[test]
fn it_leases_from_udhcpd_too() {
    case(|bed| {
        let neighbour = bed.neighbour();
        let settings = "start 203.0.113.60\nend 203.0.113.60\ninterface lan\nlease_file /run/test/udhcpd\n\
                        pidfile /run/test/udhcpd.pid\noption subnet 255.255.255.0\noption lease 600\n";
        bed.write("/run/test/udhcpd.conf", settings);
        bed.write("/run/test/udhcpd", "");
        let mut command = Command::new("busybox");
        let _server =
            Running::start(&neighbour, command.args(["udhcpd", "-f", "/run/test/udhcpd.conf"]));
        let _daemon = bed.dhcp_daemon("");
        let network = bed.network(network("macvlan", &json!({"master": "lan"})));
        for name in ["one", "two"] {
            let pod = bed.sandbox(name);
            // The only address is free again after the first.
            let own = addresses(&network.add(&pod, name).result());
            assert_eq!(own, ["203.0.113.60"]);
            network.del(&pod, name).silent();
        }
    });
}
