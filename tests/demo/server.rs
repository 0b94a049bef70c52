//! The container: a process that listens in a pod's namespace until it is killed.
//!
//! It is this very program under another argument, because the demo needs nothing that a
//! machine may not have.

use std::{
    env,
    fs::File,
    io::{self, BufRead as _, BufReader, Read as _, Write as _},
    net::{IpAddr, SocketAddr, TcpListener, TcpStream},
    process::{Child, Command, Stdio},
    time::Duration,
};

use nix::sched::{CloneFlags, setns};
use testbed::Place;

/// The argument that makes a server of this program.
pub(crate) const SERVE: &str = "serve";

/// Where it listens: on every address of its pod.
pub(crate) const PORT: u16 = 8080;

/// Long enough for a lost SYN to be sent again; on one machine an answer takes microseconds.
const PATIENCE: Duration = Duration::from_secs(5);

/// More than the demo asks; a server without a client to kill it ends some day.
const CLIENTS: usize = 64;

/// A server process in a pod.
#[derive(Debug)]
pub(crate) struct Server {
    child: Child,
    /// What it said when it was ready.
    pub(crate) ready: String,
}

impl Server {
    /// Starts a server and waits until it listens.
    pub(crate) fn start(pod: &Place) -> io::Result<Self> {
        let mut command = Command::new(env::current_exe()?);
        command.arg(SERVE).env_clear().stdin(Stdio::null());
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut server = Self { child: spawn(&mut command, pod)?, ready: String::new() };
        if let Some(stdout) = server.child.stdout.as_mut() {
            BufReader::new(stdout).read_line(&mut server.ready)?;
        }
        server.ready.truncate(server.ready.trim_end().len());
        if server.ready.is_empty() { Err(server.explain()) } else { Ok(server) }
    }

    fn explain(&mut self) -> io::Error {
        let mut reason = String::new();
        let stderr = self.child.stderr.as_mut();
        match stderr.map_or(Ok(0), |stderr| stderr.read_to_string(&mut reason)) {
            Ok(_) => io::Error::other(format!("it ended: {}", reason.trim_end())),
            Err(error) => error,
        }
    }

    /// SIGKILL, as for a container that does not stop by itself.
    pub(crate) fn kill(mut self) -> io::Result<String> {
        self.child.kill()?;
        Ok(self.child.wait()?.to_string())
    }
}

impl Drop for Server {
    /// For a server that was never ready. What cannot be ended dies with the host.
    fn drop(&mut self) {
        self.child.kill().and_then(|()| self.child.wait()).ok();
    }
}

/// As a process of the host's, so that it dies with it.
fn spawn(command: &mut Command, pod: &Place) -> io::Result<Child> {
    pod.enter(|| {
        // The host's /proc has the host's first process under this number.
        setns(File::open("/proc/1/ns/pid")?, CloneFlags::CLONE_NEWPID)?;
        command.spawn()
    })
}

/// The server's side: answers with the address by which it sees who asks.
pub(crate) fn serve() -> io::Result<()> {
    let listener = TcpListener::bind(("0.0.0.0", PORT))?;
    println!("pid {}, port {PORT}", std::process::id());
    for stream in listener.incoming().take(CLIENTS) {
        let mut stream = stream?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let mut word = String::new();
        BufReader::new(&stream).read_line(&mut word)?;
        write!(stream, "{} {}", word.trim_end(), stream.peer_addr()?.ip())?;
    }
    Ok(())
}

/// The client's side: says a word and hears it again, with the address that the server saw.
///
/// # Errors
/// When nobody answers in time.
pub(crate) fn ask(from: &Place, server: IpAddr) -> io::Result<(IpAddr, String)> {
    let to = SocketAddr::new(server, PORT);
    let mut stream = from.enter(|| TcpStream::connect_timeout(&to, PATIENCE))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(b"hello\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok((stream.local_addr()?.ip(), answer))
}
