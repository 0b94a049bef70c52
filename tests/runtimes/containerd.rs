//! containerd, of the release that this machine has and of a later one.

use std::{
    process::{Child, Command},
    time::{Duration, Instant},
};

use testbed::{SYSTEM_PATH, is_later_reference, is_reference};

use crate::{
    differences::{case, skip},
    node::{IMAGE, Node, State, image_archive, prepared},
    pod::{Pod, Port, Wish},
};

/// Where it listens.
pub(crate) const SOCKET: &str = "/run/test/containerd.sock";

const CONFIG: &str = "/run/test/containerd.toml";

/// What it takes to start on a machine that builds meanwhile.
const PATIENCE: Duration = Duration::from_secs(30);

/// Which containerd.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Release {
    /// 1.6, of this machine's distribution.
    Now,
    /// 2.1, of a later one.
    Later,
}

impl Release {
    /// Whether it could be had.
    fn is_there(self) -> bool {
        prepared(self.folder()).exists()
    }

    fn folder(self) -> &'static str {
        match self {
            Self::Now => "now/usr/bin",
            Self::Later => "later/usr/bin",
        }
    }

    /// The newest version of the protocol that both it and the plugins under test speak.
    fn protocol(self) -> &'static str {
        let is_old = is_reference() && !is_later_reference();
        if self == Self::Later && !is_old { "1.1.0" } else { "1.0.0" }
    }
}

/// A daemon that runs.
#[derive(Debug)]
pub(crate) struct Containerd<'node> {
    pub(crate) node: &'node Node,
    release: Release,
    daemon: Child,
}

impl Drop for Containerd<'_> {
    fn drop(&mut self) {
        self.kill();
    }
}

impl<'node> Containerd<'node> {
    /// Starts it on a node that has a network from now on, with an image.
    pub(crate) fn new(node: &'node Node, release: Release) -> Self {
        node.configure(release.protocol());
        node.write(CONFIG, config());
        let this = Self { node, release, daemon: start(node, release) };
        this.wait();
        for namespace in ["default", "k8s.io"] {
            this.ctr(&["-n", namespace, "images", "import", &image_archive()]);
        }
        this
    }

    /// Ends it as the kernel does when memory is short: its shims go on.
    pub(crate) fn kill(&mut self) {
        self.daemon.kill().and_then(|()| self.daemon.wait()).expect("kill containerd");
    }

    /// Starts it again.
    pub(crate) fn restart(&mut self) {
        self.daemon = start(self.node, self.release);
        self.wait();
    }

    /// Its own client, which must succeed: what it prints.
    pub(crate) fn ctr(&self, words: &[&str]) -> String {
        let program = prepared(self.release.folder()).join("ctr").display().to_string();
        self.node.succeed(&program, &[&["--address", SOCKET], words].concat())
    }

    fn wait(&self) {
        let begin = Instant::now();
        let program = prepared(self.release.folder()).join("ctr").display().to_string();
        let asks = ["--address", SOCKET, "--timeout", "5s", "version"];
        while !self.node.run(&program, &asks).status.success() {
            let is_slow = begin.elapsed() > PATIENCE;
            assert!(
                !is_slow,
                "containerd does not answer: {}",
                self.node.read("/run/test/containerd.log")
            );
        }
    }
}

/// Runs a test with containerd on a node that has had a pod, and with its state since then.
#[track_caller]
pub(crate) fn case_of(release: Release, body: impl FnOnce(&mut Containerd<'_>, &State)) {
    case(|node| {
        if !release.is_there() {
            return skip(&format!(
                "there is no containerd in target/runtimes/{}",
                release.folder()
            ));
        }
        node.record();
        let mut containerd = Containerd::new(node, release);
        let first = Pod::new(&containerd, Wish::new("first").port(Port::Tcp(8000, 80)));
        first.stop();
        first.remove();
        node.calls();
        let before = node.state();
        body(&mut containerd, &before);
        node.assert_back_to(&before);
    });
}

fn start(node: &Node, release: Release) -> Child {
    let folder = prepared(release.folder());
    let mut command = Command::new("sh");
    let script = "echo $$ >/run/test/containerd.pid; exec \"$1/containerd\" --config \"$2\" >>/run/test/containerd.log 2>&1";
    command.args(["-c", script, "sh"]).arg(&folder).arg(CONFIG);
    command.env("PATH", format!("{}:{SYSTEM_PATH}", folder.display()));
    node.start(&mut command)
}

/// Both releases read this version of it. A machine may keep even root from lowering the score by which
/// the kernel chooses whom to kill.
fn config() -> String {
    format!(
        r#"version = 2
root = "/var/lib/containerd"
state = "/run/test/containerd"
disabled_plugins = ["io.containerd.internal.v1.opt", "io.containerd.nri.v1.nri"]
[grpc]
address = "{SOCKET}"
[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "{IMAGE}"
restrict_oom_score_adj = true
[plugins."io.containerd.grpc.v1.cri".containerd]
snapshotter = "overlayfs"
[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "/opt/cni/bin"
conf_dir = "/etc/cni/net.d"
max_conf_num = 1
"#
    )
}
