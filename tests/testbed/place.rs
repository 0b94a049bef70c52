//! Somewhere to stand: the host's network or a container's.

use std::{
    fs,
    io::Write as _,
    ops::Deref,
    os::{fd::OwnedFd, unix::fs::MetadataExt as _},
    process::{Child, Command, Output, Stdio},
    sync::{Arc, mpsc},
    thread,
    time::Duration,
};

use nix::{
    mount::{MntFlags, umount2},
    sched::{CloneFlags, setns, unshare},
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::bed::Testbed;

/// Nothing that a test starts takes this long; what does, hangs, and is killed.
const DEADLINE: Duration = Duration::from_secs(30);

/// The namespaces of a host.
#[derive(Debug)]
pub(crate) struct Namespaces {
    pub(crate) mount: OwnedFd,
    pub(crate) pid: OwnedFd,
    pub(crate) net: OwnedFd,
}

/// Which of the host's networks.
#[derive(Debug, Clone)]
pub(crate) enum Net {
    Host,
    /// By name, and opened for each visit: a handle that we kept would keep the namespace alive
    /// after the runtime destroyed it.
    Path(String),
}

/// A network on a host: where closures and commands run, and where sockets are made.
#[derive(Debug, Clone)]
pub struct Place {
    spaces: Arc<Namespaces>,
    net: Net,
}

impl Place {
    pub(crate) fn new(spaces: Arc<Namespaces>, net: Net) -> Self {
        Self { spaces, net }
    }

    /// The network of the same host at this path.
    pub(crate) fn at(&self, path: &str) -> Self {
        Self { net: Net::Path(path.to_owned()), ..self.clone() }
    }

    /// Runs `visit` here, on a thread of its own. A socket made here stays here.
    pub fn enter<T: Send>(&self, visit: impl FnOnce() -> T + Send) -> T {
        self.visit(|| {
            self.join();
            visit()
        })
    }

    /// Runs `visit` in the host's network, with our own files and processes.
    pub(crate) fn enter_network<T: Send>(&self, visit: impl FnOnce() -> T + Send) -> T {
        self.visit(|| {
            setns(&self.spaces.net, CloneFlags::CLONE_NEWNET).expect("enter the host's network");
            visit()
        })
    }

    fn visit<T: Send>(&self, visit: impl FnOnce() -> T + Send) -> T {
        thread::scope(|scope| scope.spawn(visit).join())
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }

    /// Takes the calling thread here, for good.
    fn join(&self) {
        self.join_host();
        if let Net::Path(path) = &self.net {
            let net = fs::File::open(path).unwrap_or_else(|error| panic!("{path}: {error}"));
            setns(net, CloneFlags::CLONE_NEWNET).expect("enter the sandbox");
        } else {
            setns(&self.spaces.net, CloneFlags::CLONE_NEWNET).expect("enter the host's network");
        }
    }

    fn join_host(&self) {
        // The root directory is per process until unshared, and so would be the mounts.
        unshare(CloneFlags::CLONE_FS).expect("a root directory of our own");
        setns(&self.spaces.mount, CloneFlags::CLONE_NEWNS).expect("enter the host's mounts");
    }

    /// From here on the calling thread starts processes of the host's, and no more threads.
    fn join_processes(&self) {
        setns(&self.spaces.pid, CloneFlags::CLONE_NEWPID).expect("enter the host's processes");
    }

    /// Runs a program here.
    pub fn run(&self, program: &str, arguments: &[&str]) -> Output {
        self.feed(program, arguments, b"")
    }

    /// Runs a program here with `stdin`.
    pub fn feed(&self, program: &str, arguments: &[&str], stdin: &[u8]) -> Output {
        self.execute(Command::new(program).args(arguments), stdin)
    }

    /// `ip` with the words of `command`: what it prints. Panics if it fails.
    pub fn ip(&self, command: &str) -> String {
        self.succeed("ip", &command.split_whitespace().collect::<Vec<_>>())
    }

    /// Runs a program that must succeed: what it prints.
    pub fn succeed(&self, program: &str, arguments: &[&str]) -> String {
        let output = self.run(program, arguments);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{program} {arguments:?}: {}: {stderr}", output.status);
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// `ip -j` with the words of `command`.
    pub fn ip_json(&self, command: &str) -> serde_json::Value {
        let text = self.ip(&format!("-j {command}"));
        serde_json::from_str(if text.trim().is_empty() { "[]" } else { &text })
            .unwrap_or_else(|error| panic!("ip -j {command}: {error}: {text}"))
    }

    /// Whether there is a link of that name here.
    #[must_use]
    pub fn has_link(&self, name: &str) -> bool {
        let links = self.ip_json("link show");
        links.as_array().into_iter().flatten().any(|link| link["ifname"] == name)
    }

    /// Whether no attachment has a link here.
    #[must_use]
    pub fn has_only_lo(&self) -> bool {
        self.ip_json("link show").as_array().map(Vec::len) == Some(1)
    }

    /// Whether the interface `eth0` here has this address.
    #[must_use]
    pub fn has_address(&self, address: &str) -> bool {
        self.ip("-o addr show dev eth0").contains(&format!(" {address}/"))
    }

    /// The value of `/proc/sys/<key>` here, or nothing if there is no such key.
    #[must_use]
    pub fn sysctl(&self, key: &str) -> Option<String> {
        let read = || fs::read_to_string(format!("/proc/sys/{key}")).ok();
        Some(self.enter(read)?.trim().to_owned())
    }

    /// Sets `/proc/sys/<key>` here.
    pub fn set_sysctl(&self, key: &str, value: &str) {
        let path = format!("/proc/sys/{key}");
        let written = self.enter(|| fs::write(&path, value));
        written.unwrap_or_else(|error| panic!("{path}: {error}"));
    }

    pub(crate) fn execute(&self, command: &mut Command, stdin: &[u8]) -> Output {
        let mut child = self.start(command);
        let pid = Pid::from_raw(i32::try_from(child.id()).expect("a process id"));
        let (done, waiting) = mpsc::channel::<()>();
        thread::scope(|scope| {
            scope.spawn(move || {
                if waiting.recv_timeout(DEADLINE) == Err(mpsc::RecvTimeoutError::Timeout) {
                    kill(pid, Signal::SIGKILL).expect("kill a program that hangs");
                }
            });
            // Who answers without reading closes the pipe, which is its right.
            child.stdin.take().expect("its stdin").write_all(stdin).ok();
            let output = child.wait_with_output().expect("its output");
            drop(done);
            output
        })
    }

    /// Starts a program here, with pipes, as a process of the host's. Whoever starts it must wait
    /// for it: until then the host's first process, when killed, waits too.
    pub fn start(&self, command: &mut Command) -> Child {
        self.start_with(command, Stdio::piped())
    }

    /// The same with another standard input.
    pub(crate) fn start_with(&self, command: &mut Command, stdin: Stdio) -> Child {
        let program = command.get_program().to_owned();
        command.stdin(stdin).stdout(Stdio::piped()).stderr(Stdio::piped());
        let started = self.enter(|| {
            self.join_processes();
            command.spawn()
        });
        started.unwrap_or_else(|error| panic!("start {}: {error}", program.display()))
    }
}

/// A container: a network namespace with a path, as a runtime hands it to plugins.
#[derive(Debug, Clone)]
pub struct Sandbox {
    place: Place,
    path: String,
}

impl Deref for Sandbox {
    type Target = Place;
    fn deref(&self) -> &Place {
        &self.place
    }
}

impl Sandbox {
    pub(crate) fn new(bed: &Testbed, name: &str) -> Self {
        let path = format!("/run/netns/{name}");
        let place = bed.at(&path);
        place.visit(|| {
            place.join_host();
            unshare(CloneFlags::CLONE_NEWNET).expect("a new network namespace");
            fs::File::create_new(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
            place.join_processes();
            // A process of the bed: our own thread is not in the bed's /proc.
            let mount = Command::new("mount").args(["--bind", "/proc/self/ns/net", &path]).status();
            assert!(mount.expect("run mount").success(), "bind {path}");
        });
        Self { place, path }
    }

    /// Its path, for `CNI_NETNS`.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The namespace's inode: its identity, however many paths lead to it.
    #[must_use]
    pub fn inode(&self) -> u64 {
        self.place.visit(|| {
            self.place.join_host();
            fs::metadata(&self.path).expect("the sandbox exists").ino()
        })
    }

    /// Unmounts and unlinks it, as a runtime does. The kernel removes its links when it sees fit.
    pub fn destroy(&self) {
        self.place.visit(|| {
            self.place.join_host();
            umount2(self.path.as_str(), MntFlags::MNT_DETACH).expect("unmount a sandbox");
            fs::remove_file(&self.path).expect("unlink a sandbox");
        });
    }
}
