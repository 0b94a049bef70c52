//! Which network namespaces live.
//!
//! The kernel does not tell that a namespace is gone. What keeps one alive, and can be seen, is:
//!
//! * a thread that is in it (`/proc/<pid>/task/<tid>/ns/net`),
//! * a file descriptor (`/proc/<pid>/task/<tid>/fd/*`),
//! * a mount, in any mount namespace that has a process (`/proc/<pid>/mountinfo`).
//!
//! What is found nowhere there is gone, *if* all of it could be seen: from the first PID namespace,
//! with a /proc that hides nobody, with every file readable, and without a mount namespace that
//! itself is held by nothing but a mount or a file descriptor. If anything is in doubt, nothing is
//! proven. An open socket, a descriptor on its way through a socket, and a detached mount keep a
//! namespace alive as well, and are not seen; that is why no lease is ended by this proof alone
//! while a link of the host carries the name of its address.

use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;
use std::fs::{metadata, read_dir, read_link, read_to_string};
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

/// `PROC_PID_INIT_INO` of linux/proc_ns.h: the first PID namespace, in which all processes are.
const FIRST_PID_NAMESPACE: u64 = 0xEFFF_FFFC;

/// A process that starts another one and ends, while we are between the two, is missed by one look.
const LOOKS: usize = 2;

/// The namespaces that live.
#[derive(Debug, Default)]
pub struct Living {
    net: HashSet<u64>,
    /// Mount namespaces that something refers to.
    mnt: HashSet<u64>,
    /// Mount namespaces with a process, and whether all of their mounts were seen.
    seen: HashMap<u64, bool>,
    /// Namespaces of which the kind was told by somebody.
    of_known_kind: HashSet<u64>,
    /// Namespaces that a file descriptor refers to, whatever their kind.
    open: HashSet<u64>,
    /// The device of the files of namespaces.
    nsfs: u64,
}

/// `PROC_DYNAMIC_FIRST` of fs/proc/generic.c: the inodes of namespaces begin there, and have 32
/// bits.
const INODES: std::ops::RangeInclusive<u64> = 0xF000_0000..=0xFFFF_FFFF;

impl Living {
    /// Looks at all processes. The inodes that are asked for are of network namespaces.
    ///
    /// # Errors
    /// Why nothing is proven by what was seen.
    pub fn look(asked_for: impl Iterator<Item = u64>) -> Result<Self, String> {
        let pid = read_link("/proc/self/ns/pid").map_err(|error| format!("/proc: {error}"))?;
        if parse_link(pid.as_os_str(), "pid") != Some(FIRST_PID_NAMESPACE) {
            return Err("not all processes are visible from this PID namespace".into());
        }
        let mounts = read_to_string("/proc/self/mountinfo");
        let mounts = mounts.map_err(|error| format!("/proc/self/mountinfo: {error}"))?;
        if mounts.lines().any(hides_processes) {
            return Err("/proc is mounted with hidepid".into());
        }
        let own = metadata("/proc/self/ns/net").map_err(|error| format!("/proc: {error}"))?;
        let mut living = Self { nsfs: own.dev(), ..Self::default() };
        living.of_known_kind.extend(asked_for);
        for _ in 0..LOOKS {
            for pid in numbers(Path::new("/proc"))? {
                unless_gone(living.look_at(&Path::new("/proc").join(pid)))?;
            }
        }
        living.check()?;
        Ok(living)
    }

    /// Whether the namespace of this inode lives.
    pub fn has_netns(&self, inode: u64) -> bool {
        self.net.contains(&inode) || self.open.contains(&inode)
    }

    fn check(&self) -> Result<(), String> {
        if let Some((mnt, _)) = self.seen.iter().find(|(_, is_whole)| !**is_whole) {
            return Err(format!("the mounts of mount namespace {mnt} cannot all be seen"));
        }
        if let Some(mnt) = self.mnt.iter().find(|mnt| !self.seen.contains_key(mnt)) {
            return Err(format!("mount namespace {mnt} lives without a process"));
        }
        let is_known = |inode: &u64| self.of_known_kind.contains(inode);
        match self.open.iter().find(|inode| !is_known(inode)) {
            Some(inode) => Err(format!("namespace {inode} may be a mount namespace")),
            None => Ok(()),
        }
    }

    fn look_at(&mut self, process: &Path) -> Result<(), Obstacle> {
        for tid in numbers(&process.join("task")).map_err(Obstacle::Error)? {
            let task = process.join("task").join(tid);
            match self.look_at_task(&task) {
                Err(Obstacle::Gone) => {}
                other => other?,
            }
        }
        Ok(())
    }

    fn look_at_task(&mut self, task: &Path) -> Result<(), Obstacle> {
        let namespace = |kind: &str| -> Result<Option<u64>, Obstacle> {
            let link = see(&task.join("ns").join(kind), |path| read_link(path))?;
            Ok(parse_link(link.as_os_str(), kind))
        };
        let (net, mnt) = (namespace("net")?, namespace("mnt")?);
        self.net.extend(net);
        self.of_known_kind.extend(net.into_iter().chain(mnt));
        for entry in see(&task.join("fd"), |path| read_dir(path))? {
            let Ok(entry) = entry else { continue };
            match self.look_at_descriptor(task, &entry.file_name()) {
                // It was closed meanwhile.
                Ok(()) | Err(Obstacle::Gone) => {}
                Err(error) => return Err(error),
            }
        }
        let Some(mnt) = mnt.filter(|mnt| self.seen.get(mnt) != Some(&true)) else { return Ok(()) };
        self.seen.entry(mnt).or_insert(false);
        // A process that is confined to a part of the tree sees only the mounts below.
        let root = see(&task.join("root"), |path| read_link(path))?;
        let mounts = see(&task.join("mountinfo"), |path| read_to_string(path))?;
        let roots = mounts.lines().filter_map(|line| line.split(' ').nth(3));
        for root in roots {
            self.note(OsStr::from_bytes(root.as_bytes()));
        }
        if root == Path::new("/") {
            self.seen.insert(mnt, true);
        }
        Ok(())
    }

    fn look_at_descriptor(&mut self, task: &Path, number: &OsStr) -> Result<(), Obstacle> {
        const OTHERS: [&str; 4] = ["socket:", "pipe:", "anon_inode:", "/dev/"];
        let path = task.join("fd").join(number);
        let link = see(&path, |path| read_link(path))?;
        let text = link.to_string_lossy();
        if self.note(link.as_os_str()) || OTHERS.iter().any(|other| text.starts_with(other)) {
            return Ok(());
        }
        // One that was opened by a path keeps that as its name. Only where the inode fits is the
        // file itself asked: its filesystem may be of a server that does not answer.
        let info = see(&task.join("fdinfo").join(number), |path| read_to_string(path))?;
        let inode = info.lines().find_map(|line| line.strip_prefix("ino:")?.trim().parse().ok());
        if inode.is_none_or(|inode| INODES.contains(&inode)) {
            let file = see(&path, |path| metadata(path))?;
            self.open.extend((file.dev() == self.nsfs).then(|| file.ino()));
        }
        Ok(())
    }

    /// A file descriptor or a mount, if it is of a namespace: whether it is.
    fn note(&mut self, link: &OsStr) -> bool {
        const KINDS: [&str; 8] = ["net", "mnt", "pid", "user", "uts", "ipc", "cgroup", "time"];
        let inode = KINDS.iter().find_map(|kind| parse_link(link, kind));
        self.of_known_kind.extend(inode);
        self.net.extend(parse_link(link, "net"));
        self.mnt.extend(parse_link(link, "mnt"));
        inode.is_some()
    }
}

enum Obstacle {
    /// The thread has ended meanwhile.
    Gone,
    /// It cannot be seen.
    Error(String),
}

/// A thread that has ended holds nothing any more.
fn unless_gone(outcome: Result<(), Obstacle>) -> Result<(), String> {
    match outcome {
        Err(Obstacle::Error(reason)) => Err(reason),
        Ok(()) | Err(Obstacle::Gone) => Ok(()),
    }
}

fn see<T>(path: &Path, look: impl Fn(&Path) -> io::Result<T>) -> Result<T, Obstacle> {
    /// `ESRCH` and `EINVAL` of asm-generic/errno-base.h: proc(5) answers so for a thread that has
    /// ended, in some of its files.
    const ENDED: [i32; 2] = [3, 22];
    look(path).map_err(|error| {
        let is_gone = error.kind() == io::ErrorKind::NotFound
            || error.raw_os_error().is_some_and(|errno| ENDED.contains(&errno));
        if is_gone {
            Obstacle::Gone
        } else {
            Obstacle::Error(format!("{}: {error}", path.display()))
        }
    })
}

/// The entries of a directory of proc(5) that are processes or threads.
fn numbers(path: &Path) -> Result<Vec<String>, String> {
    let entries = match read_dir(path) {
        Ok(entries) => entries,
        Err(error) if path != Path::new("/proc") && error.kind() == io::ErrorKind::NotFound => {
            return Ok(Vec::new());
        }
        Err(error) => return Err(format!("{}: {error}", path.display())),
    };
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    Ok(names.filter(|name| name.bytes().all(|byte| byte.is_ascii_digit())).collect())
}

/// `net:[4026532281]`
fn parse_link(link: &OsStr, kind: &str) -> Option<u64> {
    let text = link.to_str()?.strip_prefix(kind)?.strip_prefix(":[")?;
    text.strip_suffix(']')?.parse().ok()
}

/// Whether this line of mountinfo is of a /proc that does not show everybody's processes.
fn hides_processes(line: &str) -> bool {
    let Some((mount, options)) = line.split_once(" - ") else { return false };
    let is_proc = options.starts_with("proc ") && mount.split(' ').nth(4) == Some("/proc");
    let hides = |option: &str| {
        option.strip_prefix("hidepid=").is_some_and(|value| !matches!(value, "0" | "off"))
    };
    is_proc && options.split([' ', ',']).any(hides)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_proc_says() {
        let parse = |text: &str| parse_link(OsStr::new(text), "net");
        assert_eq!(parse("net:[4026532281]"), Some(4_026_532_281));
        for other in ["mnt:[4026532281]", "net:[]", "/net:[1]", "net:[1] (deleted)", "socket:[1]"] {
            assert_eq!(parse(other), None, "{other}");
        }
        let mount = "24 1 0:22 / /proc rw,nosuid shared:5 - proc proc rw,hidepid=";
        for (value, hides) in [("invisible", true), ("2", true), ("0", false), ("off", false)] {
            assert_eq!(hides_processes(&format!("{mount}{value}")), hides, "{value}");
        }
        assert!(!hides_processes("24 1 0:22 / /proc rw - proc proc rw"));
        assert!(!hides_processes("24 1 0:22 / /mnt rw - proc proc rw,hidepid=2"));
    }

    #[test]
    fn sees_our_own_namespace_or_says_why_not() {
        let own = read_link("/proc/self/ns/net").unwrap();
        let own = parse_link(own.as_os_str(), "net").unwrap();
        match Living::look(std::iter::once(own)) {
            Ok(living) => assert!(living.has_netns(own)),
            Err(reason) => assert!(!reason.is_empty()),
        }
    }
}
