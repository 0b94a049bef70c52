//! A host that runtimes run on: as any testbed, with cgroups and a place for what they keep.

use std::{
    collections::BTreeSet,
    fs,
    ops::Deref,
    path::{Path, PathBuf},
    process::{self, Command},
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use testbed::{Snapshot, Testbed, bin_dir, programs::workspace};

/// The image of [`image_archive`]: busybox, and a pause process.
pub(crate) const IMAGE: &str = "docker.io/library/pod:1";

/// Where runtimes look for plugins unless they are told otherwise.
pub(crate) const PLUGINS: &str = "/opt/cni/bin";

/// What a runtime asked of plugins, where [`Node::record`] has been called.
const CALLS: &str = "/run/test/calls";

/// Nothing that a runtime does in its own time takes longer.
const PATIENCE: Duration = Duration::from_secs(15);

/// Makes a node of a testbed. The machine's cgroups are below the testbed's `/sys`.
const FURNISH: &str = r#"
umount /sys
mkdir /run/cgroup
mount --rbind /sys/fs/cgroup /run/cgroup
mount -t sysfs sysfs /sys
mount --move /run/cgroup /sys/fs/cgroup
rmdir /run/cgroup
mount --bind /run/netns /run/netns
mount --make-shared /run/netns
mkdir -p /run/test/containerd /run/test/runc /run/test/tmp /etc/cni/net.d
mkdir -p /var/lib/containerd /var/lib/containers
ln -s test/containerd /run/containerd
ln -s test/runc /run/runc
mount -t tmpfs tmpfs /var/lib/containerd
mount -t tmpfs tmpfs /var/lib/containers
mount -t tmpfs -o mode=755 tmpfs /opt
mkdir -p /opt/cni/bin
ln -s "$1"/* /opt/cni/bin
"#;

/// A file of what `tests/prepare runtimes` has unpacked or made.
pub(crate) fn prepared(path: &str) -> PathBuf {
    workspace().join("target/runtimes").join(path)
}

/// Both an OCI archive and a docker archive.
pub(crate) fn image_archive() -> String {
    prepared("image.tar").display().to_string()
}

/// A group in each hierarchy of cgroups that everything in a node is in, and that goes with it.
#[derive(Debug)]
struct Cgroups(String);

impl Cgroups {
    fn new() -> Self {
        static NODES: AtomicU32 = AtomicU32::new(0);
        let node = NODES.fetch_add(1, Ordering::Relaxed);
        Self(format!("/girder-{}-{node}", process::id()))
    }
}

impl Drop for Cgroups {
    fn drop(&mut self) {
        let script =
            r#"find /sys/fs/cgroup"$1" /sys/fs/cgroup/*"$1" -depth -type d -exec rmdir {} +"#;
        // On no machine are there both kinds of path.
        Command::new("sh").args(["-c", script, "sh", &self.0]).output().expect("run find");
    }
}

/// A node.
#[derive(Debug)]
pub(crate) struct Node {
    bed: Testbed,
    cgroups: Cgroups,
}

impl Deref for Node {
    type Target = Testbed;
    fn deref(&self) -> &Testbed {
        &self.bed
    }
}

/// Everything that a plugin could have left, or a runtime for want of one.
#[derive(Debug)]
pub(crate) struct State {
    snapshot: Snapshot,
    others: BTreeSet<String>,
}

impl Node {
    /// A node with the plugins under test, and no network yet.
    pub(crate) fn new() -> Self {
        let bed = Testbed::with_init(&prepared("now/usr/bin/catatonit"));
        let plugins = bin_dir().display().to_string();
        bed.succeed("sh", &["-euc", FURNISH, "sh", &plugins]);
        Self { bed, cgroups: Cgroups::new() }
    }

    /// The group that whoever makes containers here is told to put them into.
    pub(crate) fn cgroup(&self) -> &str {
        &self.cgroups.0
    }

    /// Gives the node a network of this version for its pods: two families, masquerading, host ports.
    pub(crate) fn configure(&self, version: &str) {
        self.write("/etc/cni/net.d/10-pods.conflist", network(version).to_string());
    }

    /// From here on calls are written down. Not where a plugin is to find its delegate in itself.
    pub(crate) fn record(&self) {
        let script = r#"
cd "$1"
mv "$1" "$1.real" && mkdir "$1"
for program in "$1.real"/*; do
    name=$(basename "$program")
    printf '#!/bin/sh\necho "$CNI_COMMAND %s $CNI_IFNAME $CNI_CONTAINERID ${CNI_NETNS:--}" >>%s\nexec %s "$@"\n' \
        "$name" "$2" "$program" >"$1/$name"
    chmod +x "$1/$name"
done
: >"$2"
"#;
        self.succeed("sh", &["-euc", script, "sh", PLUGINS, CALLS]);
    }

    /// Has `script` of the shell's run before an ADD of `plugin`.
    pub(crate) fn interpose(&self, plugin: &str, script: &str) {
        let text = format!(
            "#!/bin/sh\n[ $CNI_COMMAND != ADD ] || {{ {script}; }}\nexec {PLUGINS}.real/{plugin}\n"
        );
        self.write(&format!("{PLUGINS}/{plugin}"), text);
    }

    /// Puts other plugins in the place of those that are there, one after the other: those of this folder.
    pub(crate) fn install(&self, folder: &Path) {
        let script = r#"for program in "$1"/*; do
    cp -L "$program" "$2/.new" && mv -f "$2/.new" "$2/$(basename "$program")"
done"#;
        self.succeed("sh", &["-euc", script, "sh", &folder.display().to_string(), PLUGINS]);
    }

    /// What was called since [`Node::record`], or since it was asked before: verb, plugin, interface,
    /// container and namespace.
    pub(crate) fn calls(&self) -> Vec<String> {
        let calls = self.read(CALLS).lines().map(str::to_owned).collect();
        self.write(CALLS, "");
        calls
    }

    /// The state of this node now.
    pub(crate) fn state(&self) -> State {
        let mut others = BTreeSet::new();
        let list = |path: &str| fs::read_dir(self.file(path)).into_iter().flatten();
        others.extend(list("/run/netns").map(|it| format!("netns {:?}", it.unwrap().file_name())));
        let connections = self.succeed("sh", &["-c", "conntrack -L; conntrack -L -f ipv6"]);
        others.extend(connections.lines().filter_map(led_by_a_port));
        State { snapshot: self.snapshot(), others }
    }

    /// Panics with what is different from `before`, as soon as it has had the time to go.
    #[track_caller]
    pub(crate) fn assert_back_to(&self, before: &State) {
        let start = Instant::now();
        let mut now = self.state();
        while (now.snapshot != before.snapshot || now.others != before.others)
            && start.elapsed() < PATIENCE
        {
            now = self.state();
        }
        before.snapshot.assert_same(&now.snapshot);
        assert_eq!(now.others, before.others);
    }
}

/// A connection to a host port as the kernel tracks it: from whom to what, and who answered. One that
/// has ended waits for packets that come late, and nobody is led by it any more.
fn led_by_a_port(line: &str) -> Option<String> {
    let value =
        |key: &'static str| line.split_whitespace().filter_map(move |it| it.strip_prefix(key));
    let (to, answered) = (value("dst=").next()?, value("src=").nth(1)?);
    let has_ended = ["TIME_WAIT", "CLOSE"].iter().any(|state| line.contains(state));
    let from = value("src=").next()?;
    (to != answered && !has_ended).then(|| format!("connection {from} to {to}: {answered}"))
}

/// The network that pods have here.
fn network(version: &str) -> Value {
    let ranges = json!([[{"subnet": "10.87.0.0/16"}], [{"subnet": "fd00:87::/64"}]]);
    json!({"cniVersion": version, "name": "pods", "plugins": [
        {"type": "bridge", "bridge": "cni0", "isDefaultGateway": true, "ipMasq": true, "hairpinMode": true,
         "ipam": {"type": "host-local", "ranges": ranges}},
        {"type": "portmap", "capabilities": {"portMappings": true}, "snat": true},
    ]})
}
