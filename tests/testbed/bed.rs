//! A host of its own: network, mounts, processes, and nothing of it outlives its [`Testbed`].

use std::{
    fs,
    ops::Deref,
    os::fd::{AsRawFd as _, OwnedFd},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    thread,
};

use nix::{
    mount::{MsFlags, mount},
    sched::{CloneFlags, unshare},
    sys::socket::{
        AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, sendto,
        socket,
    },
};

use serde_json::Value;

use crate::{
    call::Call,
    network::Network,
    place::{Namespaces, Net, Place, Sandbox},
    programs::SYSTEM_PATH,
    wait::until_so,
};

/// A directory of the bed's own, for whatever a test puts there.
pub const PRIVATE: &str = "/run/test";

/// The links of [`Testbed::lan`], and what is at their other ends.
const LAN: [(&str, &str, &str); 3] = [
    ("eth0", "02:00:00:00:01:01", "192.168.1.1"),
    ("eth1", "02:00:00:00:02:01", "192.168.2.1"),
    ("eth2", "02:00:00:00:03:01", "192.168.3.1"),
];

/// A throw-away host. Everything in it dies with it, also when the test is killed: the first
/// process of its process namespace reads from a pipe that only we hold.
#[derive(Debug)]
pub struct Testbed {
    place: Place,
    first: Child,
}

impl Default for Testbed {
    fn default() -> Self {
        Self::new()
    }
}

impl Deref for Testbed {
    type Target = Place;
    fn deref(&self) -> &Place {
        &self.place
    }
}

impl Drop for Testbed {
    fn drop(&mut self) {
        let gone = self.first.kill().and_then(|()| self.first.wait());
        if let Err(error) = gone {
            panic!("the test host's first process cannot be ended: {error}");
        }
    }
}

impl Testbed {
    /// Makes a host: only `lo`, no forwarding, empty `/run`, `/var/lib/cni` and `/etc/cni`.
    ///
    /// A thread leaves our namespaces and builds it; the first process inherits what it built.
    #[must_use]
    pub fn new() -> Self {
        Self::of(Command::new("cat"))
    }

    /// The same with an `init` that buries orphans, for hosts whose programs leave any. It ends when
    /// its only child does.
    #[must_use]
    pub fn with_init(init: &Path) -> Self {
        let mut first = Command::new(init);
        first.arg("cat");
        Self::of(first)
    }

    fn of(first: Command) -> Self {
        thread::scope(|scope| {
            let built = scope.spawn(|| build(first)).join();
            built.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// A network of this host by the path of its namespace, as a runtime says it.
    #[must_use]
    pub fn place_at(&self, path: &str) -> Place {
        self.place.at(path)
    }

    /// Makes a container: a network namespace with a name, as a runtime leaves it for its plugins
    /// (`lo` down).
    #[must_use]
    pub fn sandbox(&self, name: &str) -> Sandbox {
        Sandbox::new(self, name)
    }

    /// Destroys a container that has one interface or none, and waits until its link is gone, which
    /// the kernel removes in its own time.
    pub fn destroy(&self, sandbox: &Sandbox) {
        let links = || self.ip("-o link").lines().count();
        let (all, has_pair) = (links(), !sandbox.has_only_lo());
        sandbox.destroy();
        until_so("the end of the link", || !has_pair || links() != all);
    }

    /// A machine on the LAN: 203.0.113.2 and 2001:db8:ffff::2, where the host is .1 and ::1 on
    /// its link `lan`. It has no route to any pod, so only what is masqueraded gets an answer.
    #[must_use]
    pub fn neighbour(&self) -> Sandbox {
        let neighbour = self.sandbox("neighbour");
        self.ip("link add lan type veth peer name lan netns neighbour");
        for (place, host) in [(&**self, 1), (&*neighbour, 2)] {
            place.ip(&format!("addr add 203.0.113.{host}/24 dev lan"));
            place.ip(&format!("addr add 2001:db8:ffff::{host}/64 dev lan nodad"));
            place.ip("link set lan up");
        }
        neighbour.ip("link set lo up");
        neighbour
    }

    /// LANs that the host's links `eth0` to `eth2` lead to, without addresses of its own there, and one
    /// machine on all of them: 192.168.1.1 to 192.168.3.1, and 192.168.100.1 in the VLAN 100 of the
    /// first, where the kernel has VLANs. flanneld has leased a subnet.
    pub fn lan(&self) -> Sandbox {
        self.lease_subnet();
        let gateway = self.sandbox("gateway");
        LAN.iter().for_each(|link| self.plug(link, &gateway));
        let words = ["link", "add", "link", "eth0", "name", "vlan100", "type", "vlan", "id", "100"];
        if gateway.run("ip", &words).status.success() {
            gateway.ip("addr add 192.168.100.1/24 dev vlan100");
            gateway.ip("link set vlan100 up");
        }
        gateway
    }

    /// Gives the host the links of [`Testbed::lan`] that it has lost: those that a plugin has put into
    /// a container are gone with it, in the kernel's own time.
    pub fn replug(&self, gateway: &Sandbox) {
        for link in LAN.iter().filter(|(link, ..)| !self.has_link(link)) {
            until_so("the end of the link", || !gateway.has_link(link.0));
            self.plug(link, gateway);
        }
    }

    fn plug(&self, (link, mac, address): &(&str, &str, &str), gateway: &Sandbox) {
        self.ip(&format!("link add {link} address {mac} type veth peer name {link} netns gateway"));
        self.ip(&format!("link set {link} up"));
        gateway.ip(&format!("link set {link} up"));
        gateway.ip(&format!("addr add {address}/24 dev {link}"));
    }

    /// A wire to another host, a link `name` on both.
    pub fn connect(&self, other: &Self, name: &str) {
        let there = other.first.id().to_string();
        let words = ["link", "add", name, "type", "veth", "peer", "name", name, "netns", &there];
        // In the network of this host only: in its processes, that of the other host has no number.
        let made = self.place.enter_network(|| Command::new("ip").args(words).output());
        let made = made.expect("run ip");
        assert!(made.status.success(), "connect two hosts: {made:?}");
    }

    /// A call of the plugin `name` on this host; `CNI_PATH` is set, everything else is not.
    pub fn plugin(&self, name: &str) -> Call<'_> {
        Call::new(self, name)
    }

    /// A verb of the plugin that `config` names, for `eth0` of a container whose namespace is not set.
    pub fn call(&self, verb: &str, container: &str, config: &Value) -> Call<'_> {
        let plugin = config["type"].as_str().expect("a configuration names its plugin");
        self.plugin(plugin).command(verb).container(container).ifname("eth0").config(config)
    }

    /// A network of one plugin (and the IPAM plugin it names), used as a runtime uses it.
    #[must_use]
    pub fn network(&self, config: Value) -> Network<'_> {
        Network::new(self, config)
    }

    /// Where a file of this host is, seen from outside. Not for `/proc/sys/net`, which follows
    /// whoever looks: see [`Place::sysctl`].
    #[must_use]
    pub fn file(&self, path: impl AsRef<Path>) -> PathBuf {
        let inside = path.as_ref().strip_prefix("/").unwrap_or(path.as_ref());
        Path::new("/proc").join(self.first.id().to_string()).join("root").join(inside)
    }

    /// Writes a file of this host, and the directories above it.
    pub fn write(&self, path: &str, content: impl AsRef<[u8]>) {
        let path = self.file(path);
        let above = path.parent().expect("a file is in a directory");
        fs::create_dir_all(above).and_then(|()| fs::write(&path, content)).expect("write a file");
    }

    /// Reads a file of this host.
    #[must_use]
    pub fn read(&self, path: &str) -> String {
        fs::read_to_string(self.file(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
    }
}

impl Testbed {
    /// Starts the host anew: another boot ID, and no namespace, no link and no rule of before.
    pub fn reboot(&self) {
        static BOOTS: AtomicU32 = AtomicU32::new(1);
        let boot = BOOTS.fetch_add(1, Ordering::Relaxed);
        for entry in fs::read_dir(self.file("/run/netns")).expect("read /run/netns") {
            let name = entry.expect("read /run/netns").file_name();
            let path = format!("/run/netns/{}", name.display());
            self.succeed("umount", &["-l", &path]);
            self.succeed("rm", &[&path]);
        }
        let links = self.ip_json("link show");
        for link in links.as_array().expect("links").iter().skip(1) {
            // The other end of a pair goes with the first.
            self.run("ip", &["link", "del", link["ifname"].as_str().expect("a name")]);
        }
        self.succeed("nft", &["flush", "ruleset"]);
        let file = format!("{PRIVATE}/boot_id-{boot}");
        self.write(&file, format!("00000000-0000-4000-8000-{boot:012x}\n"));
        self.succeed("mount", &["--bind", &file, "/proc/sys/kernel/random/boot_id"]);
    }
}

fn build(mut first: Command) -> Testbed {
    let own = CloneFlags::CLONE_NEWNS
        | CloneFlags::CLONE_NEWNET
        | CloneFlags::CLONE_NEWPID
        | CloneFlags::CLONE_NEWIPC
        | CloneFlags::CLONE_NEWUTS;
    unshare(own).expect("a test host needs root (CAP_SYS_ADMIN)");
    // Opened before the new /proc, in which this thread, not being of the bed, does not appear.
    let [mount, net] = ["mnt", "net"].map(open_own_namespace);
    set_mount(None, "/", "", MsFlags::MS_REC | MsFlags::MS_PRIVATE, "");
    let program = first.get_program().to_owned();
    first.stdin(Stdio::piped()).stdout(Stdio::null()).env_clear().env("PATH", SYSTEM_PATH);
    let mut first = first
        .spawn()
        .unwrap_or_else(|error| panic!("start {}, the first process: {error}", program.display()));
    let pid = fs::File::open(format!("/proc/{}/ns/pid", first.id())).expect("its namespace");
    if let Err(panic) = std::panic::catch_unwind(furnish) {
        first.kill().expect("the host's first process can be killed");
        std::panic::resume_unwind(panic);
    }
    let spaces = Namespaces { mount, pid: pid.into(), net };
    Testbed { place: Place::new(Arc::new(spaces), Net::Host), first }
}

fn open_own_namespace(kind: &str) -> OwnedFd {
    fs::File::open(format!("/proc/thread-self/ns/{kind}")).expect("our own namespace").into()
}

/// Mounts what a host has, so that nothing is written through to the machine's own.
fn furnish() {
    let none = MsFlags::empty();
    set_mount(Some("tmpfs"), "/run", "tmpfs", none, "mode=755");
    fs::create_dir_all("/run/netns").expect("mkdir /run/netns");
    fs::create_dir_all(PRIVATE).expect("mkdir for the test");
    // Directories may be missing on the machine: make them in an overlay, never in its own.
    for below in ["/etc", "/var/lib"] {
        let layer = format!("/run/.layers{below}");
        for part in ["upper", "work"] {
            fs::create_dir_all(format!("{layer}/{part}")).expect("mkdir for an overlay");
        }
        let options = format!("lowerdir={below},upperdir={layer}/upper,workdir={layer}/work");
        set_mount(Some("overlay"), below, "overlay", none, &options);
        let cni = format!("{below}/cni");
        fs::create_dir_all(&cni).expect("mkdir in an overlay");
        set_mount(Some("tmpfs"), &cni, "tmpfs", none, "mode=755");
    }
    // By a process of the bed: a /proc shows what its mounter is part of, and a thread that
    // leaves its process namespace sends only its children ahead.
    let mounted = Command::new("mount").args(["-t", "proc", "proc", "/proc"]).status();
    assert!(mounted.expect("run mount").success(), "mount /proc");
    set_mount(Some("sysfs"), "/sys", "sysfs", none, "");
    // A new network namespace inherits this from the machine.
    fs::write("/proc/sys/net/ipv4/ip_forward", "0").expect("switch forwarding off");
    raise_lo();
}

fn set_mount(source: Option<&str>, target: &str, kind: &str, flags: MsFlags, options: &str) {
    mount(source, target, Some(kind), flags, Some(options))
        .unwrap_or_else(|error| panic!("mount {kind} on {target}: {error}"));
}

/// `ip link set lo up`, for machines without `ip`: one `RTM_NEWLINK` and its acknowledgement.
fn raise_lo() {
    const LENGTH: u32 = 32;
    const RTM_NEWLINK: u16 = 16;
    const REQUEST_ACK: u16 = 1 | 4;
    const SEQUENCE: u32 = 1;
    const LO: i32 = 1;
    const IFF_UP: u32 = 1;
    let mut message = Vec::new();
    message.extend(LENGTH.to_ne_bytes());
    message.extend(RTM_NEWLINK.to_ne_bytes());
    message.extend(REQUEST_ACK.to_ne_bytes());
    message.extend(SEQUENCE.to_ne_bytes());
    message.extend([0; 4 + 4]); // from whom; family, padding, kind of link
    message.extend(LO.to_ne_bytes());
    message.extend(IFF_UP.to_ne_bytes()); // flags ..
    message.extend(IFF_UP.to_ne_bytes()); // .. and which of them are meant

    let netlink = SockProtocol::NetlinkRoute;
    let socket = socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, netlink)
        .expect("netlink socket");
    bind(socket.as_raw_fd(), &NetlinkAddr::new(0, 0)).expect("bind a netlink socket");
    sendto(socket.as_raw_fd(), &message, &NetlinkAddr::new(0, 0), MsgFlags::empty())
        .expect("ask for lo");
    let mut answer = [0; 64];
    let length = recv(socket.as_raw_fd(), &mut answer, MsgFlags::empty()).expect("an answer");
    assert!(length >= 20 && answer[16..20] == [0; 4], "lo does not come up: {answer:?}");
}
