//! DHCP on a host: the daemon, and dnsmasq as a server.

use std::{
    io::Write as _,
    os::unix::net::UnixStream,
    path::Path,
    process::{Child, Command, Output, Stdio},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::{Value, json};

use crate::{
    bed::Testbed,
    config::changed,
    place::{Place, Sandbox},
    programs::bin_dir,
    wait::{until, until_so},
};

pub use crate::dhcp_server::{DISCOVER, Manners, RELEASE, REQUEST, Said, Server};
pub use crate::dhcp6_server::{
    Manners6, REBIND, RELEASE6, RENEW, REQUEST6, SERVER6, SOLICIT, Said6, Server6,
};

/// Where the daemon listens.
pub const SOCKET: &str = "/run/cni/dhcp.sock";
/// Where it keeps its leases.
pub const LEASES: &str = "/run/cni/dhcp.leases";

/// A program of the host that runs until this is dropped.
#[derive(Debug)]
pub struct Running(Option<Child>);

impl Running {
    /// Starts it.
    #[must_use]
    pub fn start(place: &Place, command: &mut Command) -> Self {
        Self(Some(place.start(command)))
    }

    /// Sends a signal, and waits for the end.
    ///
    /// # Panics
    /// When it has ended before.
    pub fn end(mut self, signal: Signal) -> Output {
        let child = self.0.take().expect("it runs");
        let pid = Pid::from_raw(i32::try_from(child.id()).expect("a process id"));
        kill(pid, signal).expect("a signal for a process of ours");
        child.wait_with_output().expect("its end")
    }

    /// Whether it has come to its end.
    ///
    /// # Panics
    /// When that cannot be told.
    pub fn has_ended(&mut self) -> bool {
        self.0.as_mut().expect("it runs").try_wait().expect("its state").is_some()
    }

    /// Waits for an end that it comes to by itself.
    ///
    /// # Panics
    /// When it cannot be waited for.
    pub fn wait(mut self) -> Output {
        self.0.take().expect("it runs").wait_with_output().expect("its end")
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(mut child) = self.0.take() {
            child.kill().and_then(|()| child.wait()).expect("end a program");
        }
    }
}

impl Testbed {
    /// `dhcp daemon` with these flags, not waited for.
    #[must_use]
    pub fn dhcp_daemon_starts(&self, flags: &str) -> Running {
        let mut command = Command::new(bin_dir().join("dhcp"));
        command.arg("daemon").args(flags.split_whitespace()).env_clear();
        Running::start(self, &mut command)
    }

    /// `dhcp daemon`, not waited for, which another program runs: these words come before its own.
    ///
    /// # Panics
    /// When there are no words.
    #[must_use]
    pub fn dhcp_daemon_under(&self, words: &str) -> Running {
        let mut words = words.split_whitespace();
        let mut command = Command::new(words.next().expect("a program"));
        command.args(words).arg(bin_dir().join("dhcp")).arg("daemon");
        Running::start(self, &mut command)
    }

    /// `dhcp daemon` with these flags, which listens.
    #[must_use]
    pub fn dhcp_daemon(&self, flags: &str) -> Running {
        let daemon = self.dhcp_daemon_starts(flags);
        self.dhcp_answers();
        daemon
    }

    /// Waits until the daemon takes connections.
    pub fn dhcp_answers(&self) {
        until("the daemon", || UnixStream::connect(self.file(SOCKET)).ok());
    }

    /// What the daemon has written down.
    #[must_use]
    pub fn dhcp_leases(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(self.file(LEASES)).unwrap_or_else(|_| "{}".into());
        let content: Value = serde_json::from_str(&text).expect("the lease file is JSON");
        content["leases"].as_array().cloned().unwrap_or_default()
    }

    /// The daemon of these plugins, which listens, and whatever it says is lost.
    #[must_use]
    pub fn dhcp_daemon_of(&self, bin: &Path) -> Running {
        let mut command = Command::new("/bin/sh");
        // Nobody reads what it says, of which a pipe takes only so much.
        command.args(["-c", "exec \"$0\" daemon > /dev/null 2>&1"]).arg(bin.join("dhcp"));
        let daemon = Running::start(self, &mut command);
        self.dhcp_answers();
        daemon
    }

    /// dnsmasq on a link of a machine, which leases addresses as `range` says, the lowest first.
    #[must_use]
    pub fn dnsmasq(&self, at: &Sandbox, link: &str, range: &str, more: &[&str]) -> Dnsmasq<'_> {
        let more = [&["--dhcp-sequential-ip", "--log-dhcp"], more].concat();
        Dnsmasq { bed: self, _running: self.dnsmasq_runs(at, link, range, &more) }
    }

    /// The same on a machine of the host's LAN.
    #[must_use]
    pub fn dnsmasq_on_lan(&self, range: &str, more: &[&str]) -> (Sandbox, Dnsmasq<'_>) {
        let neighbour = self.neighbour();
        let server = self.dnsmasq(&neighbour, "lan", range, more);
        (neighbour, server)
    }

    /// The same with addresses in no order, so that two who ask at once are not offered the same one.
    #[must_use]
    pub fn dnsmasq_runs(&self, at: &Sandbox, link: &str, range: &str, more: &[&str]) -> Running {
        self.write(LOG, "");
        let mut command = Command::new("dnsmasq");
        command.args(["-k", "-C", "/dev/null", "-p0", "-u", "root", "--no-ping", "-i", link]);
        command.args(["--bind-interfaces", "--leasefile-ro", "--dhcp-authoritative"]);
        command
            .arg(format!("--log-facility={LOG}"))
            .arg(format!("--dhcp-range={range}"))
            .args(more);
        let running = Running::start(at, &mut command);
        until_so("dnsmasq", || self.read(LOG).contains("dnsmasq-dhcp["));
        running
    }
}

/// Where dnsmasq says what it does.
const LOG: &str = "/run/test/dnsmasq.log";

/// A running dnsmasq.
#[derive(Debug)]
pub struct Dnsmasq<'bed> {
    bed: &'bed Testbed,
    _running: Running,
}

impl Dnsmasq<'_> {
    /// Its log.
    #[must_use]
    pub fn log(&self) -> String {
        self.bed.read(LOG)
    }

    /// Waits until its log says this.
    pub fn says(&self, words: &str) {
        until_so(&format!("{words:?} in the log of dnsmasq"), || self.log().contains(words));
    }
}

/// The network `lan` of a plugin `kind` with `ipam`.
#[must_use]
pub fn network(kind: &str, changes: &Value) -> Value {
    let own = json!({
        "cniVersion": "1.0.0", "name": "lan", "type": kind, "ipam": {"type": "dhcp", "graceAge": 0}
    });
    changed(own, changes)
}

/// What `dhcp` needs on the LAN of [`Testbed::lan`], until this is dropped: a server that leases from
/// 192.168.1.60 on, and the daemon.
#[derive(Debug)]
pub struct Served<'bed> {
    _server: Dnsmasq<'bed>,
    _daemon: Running,
}

impl<'bed> Served<'bed> {
    /// With the machine that is on that LAN.
    #[must_use]
    pub fn on_lan(bed: &'bed Testbed, gateway: &Sandbox) -> Self {
        let range = "192.168.1.60,192.168.1.90,255.255.255.0,5m";
        let server = bed.dnsmasq(gateway, "eth0", range, &[]);
        Self { _server: server, _daemon: bed.dhcp_daemon("") }
    }
}

/// Gives a container a link on the host's LAN, as a main plugin would.
pub fn wire(bed: &Testbed, pod: &Sandbox, ifname: &str) {
    let name = pod.path().trim_start_matches("/run/netns/");
    bed.ip(&format!("link add link lan name {ifname} netns {name} type macvlan mode bridge"));
}

/// An ADD of `dhcp` for the container `c1`, not waited for.
///
/// # Panics
/// When it does not read the configuration.
#[must_use]
pub fn begin_add(bed: &Testbed, pod: &Sandbox, config: &Value) -> Child {
    let mut command = Command::new(bin_dir().join("dhcp"));
    command.env_clear().envs([("CNI_COMMAND", "ADD"), ("CNI_CONTAINERID", "c1")]);
    command.envs([("CNI_IFNAME", "eth0"), ("CNI_NETNS", pod.path()), ("CNI_PATH", "/nowhere")]);
    let mut child = bed.start(&mut command);
    let mut stdin = child.stdin.take().expect("its input");
    stdin.write_all(config.to_string().as_bytes()).expect("give the configuration");
    child
}

/// A child that starts with a listening socket as its standard input.
#[must_use]
pub fn with_socket(bed: &Testbed, script: &str) -> Running {
    let path = bed.file(SOCKET);
    std::fs::create_dir_all(path.parent().expect("a directory")).expect("make a directory");
    let listener = std::os::unix::net::UnixListener::bind(&path).expect("listen");
    let mut command = Command::new("/bin/sh");
    command.args(["-c", script]);
    let socket = Stdio::from(std::os::fd::OwnedFd::from(listener));
    Running(Some(bed.start_with(&mut command, socket)))
}
