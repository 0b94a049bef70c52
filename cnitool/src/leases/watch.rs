//! What happens to leases, as it happens.

use super::Leased;
use common::{Code, Error, Result};
use host_local::record::{Lease, check};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use serde::Serialize;
use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// Something that happened. As JSON it is stable: keys may be added.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Event {
    /// The network's name.
    pub network: String,
    /// `leased` or `released`.
    pub event: &'static str,
    /// Of all these addresses.
    pub addresses: Vec<std::net::IpAddr>,
    /// The container's ID; empty if nobody knows it.
    pub container: String,
    /// The interface's name; empty if nobody knows it.
    pub ifname: String,
    /// Namespace and name of the pod, with a slash between.
    pub pod: Option<String>,
    /// When, in seconds since 1970.
    pub time: u64,
}

impl Event {
    fn parse(network: &str, line: &[u8]) -> Option<Self> {
        let fields = check(line)?;
        let lease = Lease::parse(fields)?;
        let holder = &lease.origin;
        Some(Self {
            network: network.to_owned(),
            event: if fields.starts_with("leased ") { "leased" } else { "released" },
            container: lease.lessee.container(),
            ifname: lease.lessee.ifname(),
            pod: holder.pod.as_ref().map(|(space, name)| format!("{space}/{name}")),
            time: holder.time,
            addresses: lease.addresses,
        })
    }
}

/// A lease file that is followed from where it ends now.
struct Followed {
    network: String,
    path: PathBuf,
    file: Option<File>,
    /// What has no end yet.
    rest: Vec<u8>,
}

impl Followed {
    fn new(leased: &Leased) -> Self {
        let mut followed = Self {
            network: leased.name.to_string(),
            path: leased.pool.directory.join("leases"),
            file: None,
            rest: Vec::new(),
        };
        followed.reopen();
        // That has happened already.
        followed.read();
        followed
    }

    fn reopen(&mut self) {
        self.file = File::open(&self.path).ok();
        self.rest.clear();
    }

    fn read(&mut self) -> Vec<Event> {
        let Some(file) = &mut self.file else { return Vec::new() };
        // What cannot be read now is read next time.
        drop(file.read_to_end(&mut self.rest));
        let end = self.rest.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        let whole: Vec<u8> = self.rest.drain(..end).collect();
        let lines = whole.split_inclusive(|byte| *byte == b'\n');
        lines.filter_map(|line| Event::parse(&self.network, line)).collect()
    }

    /// What is new.
    fn follow(&mut self) -> Vec<Event> {
        let mut news = self.read();
        let there = self.path.metadata().ok().map(|file| (file.dev(), file.ino(), file.len()));
        let ours = self.file.as_ref().and_then(|file| file.metadata().ok());
        let read_until =
            self.file.as_mut().and_then(|file| std::io::Seek::stream_position(file).ok());
        let is_same = there.is_some_and(|(dev, ino, len)| {
            ours.is_some_and(|ours| (ours.dev(), ours.ino()) == (dev, ino))
                && read_until.is_some_and(|until| until <= len)
        });
        if !is_same && there.is_some() {
            let is_first = self.file.is_none();
            self.reopen();
            let rewritten = self.read();
            // A file that was rewritten tells old things again.
            if is_first {
                news.extend(rewritten);
            }
        }
        news
    }
}

/// Tells what happens to the leases of these networks until `tell` says that nobody listens.
///
/// # Errors
/// Code 5 when nothing can be watched.
pub fn watch(networks: &[Leased], mut tell: impl FnMut(Event) -> bool) -> Result<()> {
    let io = |errno: nix::errno::Errno| Error::new(Code::Io, format!("cannot watch: {errno}"));
    let inotify = Inotify::init(InitFlags::IN_CLOEXEC).map_err(io)?;
    let mut followed: Vec<_> = Vec::new();
    for leased in networks {
        watch_directory(&inotify, &leased.pool.directory)?;
        followed.push(Followed::new(leased));
    }
    loop {
        inotify.read_events().map_err(io)?;
        for one in &mut followed {
            // A directory that was made meanwhile is nearer than the one that was watched.
            if let Some(directory) = one.path.parent() {
                watch_directory(&inotify, directory)?;
            }
            if !one.follow().into_iter().all(&mut tell) {
                return Ok(());
            }
        }
    }
}

/// Watches a directory, or the nearest one above it that is there. Watching again changes nothing.
fn watch_directory(inotify: &Inotify, directory: &Path) -> Result<()> {
    let flags = AddWatchFlags::IN_MODIFY
        | AddWatchFlags::IN_CREATE
        | AddWatchFlags::IN_MOVED_TO
        | AddWatchFlags::IN_DELETE_SELF;
    let mut last = Error::new(Code::Io, format!("cannot watch {}", directory.display()));
    let mut nearer = None;
    for path in directory.ancestors() {
        match inotify.add_watch(path, flags) {
            // One below it that was made before it was watched is announced by nobody.
            Ok(_) if nearer.is_some_and(Path::exists) => {
                return watch_directory(inotify, directory);
            }
            Ok(_) => return Ok(()),
            Err(errno) => last = last.details(errno.to_string()),
        }
        nearer = Some(path);
    }
    Err(last)
}
