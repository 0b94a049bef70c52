//! The daemon: what it does when it starts, and when it is told to end.

use crate::flags::{Refused, Settings, USAGE};
use crate::kernel::Kernel;
use crate::registry::Registry;
use crate::service::serve;
use crate::store::{ANOTHER, Store};
use common::cni::{Context as _, report};
use common::net::end_requests;
use common::{Code, Error, Result, file};
use std::fs::Permissions;
use std::io::Write as _;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::os::unix::net::{UnixListener as StdListener, UnixStream as StdStream};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::rc::Rc;
use std::time::Duration;
use tokio::net::UnixListener;
use tokio::net::unix::pipe::Receiver;
use tokio::sync::mpsc;
use tokio::task::{LocalSet, spawn_local};
use tokio::time::sleep;

/// How long to wait when there are no file descriptors for another connection.
const PAUSE: Duration = Duration::from_millis(100);

/// `dhcp daemon` with these words.
pub fn main(words: &[String]) -> ExitCode {
    let settings = match Settings::parse(words) {
        Ok(settings) => settings,
        Err(Refused::Help) => {
            report(USAGE);
            return ExitCode::SUCCESS;
        }
        Err(Refused::Wrong(why)) => {
            report(format_args!("{why}\n{USAGE}"));
            return ExitCode::from(2);
        }
    };
    match run(settings) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            report(error);
            ExitCode::FAILURE
        }
    }
}

/// Files that end with the daemon.
struct Files(Vec<PathBuf>);

impl Drop for Files {
    fn drop(&mut self) {
        for path in &self.0 {
            drop(std::fs::remove_file(path));
        }
    }
}

fn run(settings: Settings) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let (runtime, tasks) = (runtime.context("cannot start a runtime")?, LocalSet::new());
    // Before anything that has to be tidied up.
    let asked_to_end = end_requests()?;
    let mut files = Files(Vec::new());
    let mut socket = settings.hostprefix.clone().into_os_string();
    socket.push(&settings.socketpath);
    let socket = PathBuf::from(socket);
    let leases = settings.leases.clone().unwrap_or_else(|| socket.with_extension("leases"));
    for path in [&socket, &leases] {
        make_parent(path)?;
    }
    let store = Store::open(leases, &socket)?;
    // Not before the lock, because it may be another daemon's; and not after there is a socket to find.
    if let Some(pidfile) = &settings.pidfile {
        write_pidfile(pidfile)?;
        files.0.push(pidfile.clone());
    }
    let listener = match inherited()? {
        Some(listener) => listener,
        None => {
            let listener = bind(&socket)?;
            files.0.push(socket);
            listener
        }
    };
    listener.set_nonblocking(true).context("cannot listen")?;
    let (kernel, mut jobs) = Kernel::new();
    let (end, mut ended) = mpsc::channel(1);
    tasks.block_on(&runtime, async {
        // tokio's own signals would cost each plugin two sockets, because a feature of a crate is that of
        // the whole workspace.
        let asked = Receiver::from_owned_fd_unchecked(asked_to_end);
        let asked = asked.context("cannot wait for signals")?;
        drop(spawn_local(async move {
            drop(asked.readable().await);
            // Nobody listens when the daemon has ended for another reason.
            end.send(()).await.ok();
        }));
        let listener = UnixListener::from_std(listener).context("cannot listen")?;
        let registry = Registry::start(kernel, settings, store)?;
        drop(spawn_local(listen(registry, listener)));
        Ok::<_, Error>(())
    })?;
    // The runtime stops for each of the jobs, and goes on after it.
    while let Some(job) = tasks.block_on(&runtime, next(&mut jobs, &mut ended)) {
        job();
    }
    Ok(())
}

/// The next job, or nothing when the end has come.
async fn next<T>(
    jobs: &mut mpsc::UnboundedReceiver<T>,
    ended: &mut mpsc::Receiver<()>,
) -> Option<T> {
    std::future::poll_fn(|context| {
        if ended.poll_recv(context).is_ready() {
            return std::task::Poll::Ready(None);
        }
        jobs.poll_recv(context)
    })
    .await
}

async fn listen(registry: Rc<Registry>, listener: UnixListener) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => drop(spawn_local(serve(Rc::clone(&registry), stream))),
            Err(error) => {
                report(format_args!("cannot take a connection: {error}"));
                sleep(PAUSE).await;
            }
        }
    }
}

fn write_pidfile(path: &Path) -> Result<()> {
    if !path.is_absolute() {
        let msg = format!("Error writing pidfile: path {path:?} not absolute");
        return Err(Error::new(Code::InvalidConfig, msg));
    }
    let mut temporary = path.to_owned().into_os_string();
    temporary.push(".new");
    let number = std::process::id().to_string();
    let written =
        file::replace(path, temporary.as_ref(), 0o644, |file| file.write_all(number.as_bytes()));
    written.map(drop).context(format_args!("Error writing pidfile: {path:?}"))
}

fn make_parent(path: &Path) -> Result<()> {
    let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) else {
        return Ok(());
    };
    file::make_directory(parent).context(format_args!("cannot make {}", parent.display()))
}

/// The socket that systemd has handed over, if it has (`sd_listen_fds(3)`).
fn inherited() -> Result<Option<StdListener>> {
    let refuse = |msg: String| Error::new(Code::BadEnvironment, msg);
    let found = sd_listen_fds::get().map_err(|error| refuse(error.to_string()))?;
    if found.len() > 1 {
        let count = found.len();
        return Err(refuse(format!("Too many ({count}) FDs passed through socket activation")));
    }
    let Some((_, socket)) = found.into_iter().next() else { return Ok(None) };
    let listener = StdListener::from(socket);
    listener.local_addr().context("what socket activation has passed is no unix socket")?;
    Ok(Some(listener))
}

/// Listens. A daemon that was killed leaves a socket behind, which nobody answers.
fn bind(path: &Path) -> Result<StdListener> {
    let is_socket = path.symlink_metadata().is_ok_and(|found| found.file_type().is_socket());
    if is_socket {
        if StdStream::connect(path).is_ok() {
            let msg = format!("{}: another daemon listens there", path.display());
            return Err(Error::new(Code::TryAgain, msg).details(ANOTHER));
        }
        std::fs::remove_file(path).context(format_args!("cannot remove {}", path.display()))?;
    }
    let listener =
        StdListener::bind(path).context(format_args!("cannot listen at {}", path.display()))?;
    // Whoever may write there may have containers lose their addresses.
    let restricted = std::fs::set_permissions(path, Permissions::from_mode(0o600));
    restricted.context(format_args!("cannot restrict {}", path.display()))?;
    Ok(listener)
}
