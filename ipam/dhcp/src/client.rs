//! The plugin's side of the protocol.

use crate::protocol::{LINE, Reply, Request, SILENCE};
use common::{Code, Error, Result, Success};
use std::io::ErrorKind;
use std::path::Path;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::UnixStream;
use tokio::time::{sleep, timeout};

/// How long to wait before a daemon that is asked by too many is asked again.
const PAUSE: Duration = Duration::from_millis(20);

/// Asks the daemon, and waits for its answer as long as it gives signs of life.
///
/// # Errors
/// Those of the daemon; code 11 when there is none, or none that answers.
pub(crate) fn ask(socket: &Path, request: &Request) -> Result<Option<Success>> {
    let failed = |what: &str, error: &dyn std::fmt::Display| {
        let socket = socket.display();
        Error::new(Code::TryAgain, format!("{what} DHCP daemon: {socket}: {error}"))
            .details("is `dhcp daemon` running? systemd starts it by cni-dhcp.socket")
    };
    let mut line = serde_json::to_vec(request).map_err(|error| failed("error asking", &error))?;
    line.push(b'\n');
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(|error| failed("error dialing", &error))?.block_on(async {
        let dialed = timeout(SILENCE, connect(socket)).await.map_err(|_| silence());
        let mut stream =
            dialed.and_then(|it| it).map_err(|error| failed("error dialing", &error))?;
        let reply = async {
            timeout(SILENCE, stream.write_all(&line)).await.map_err(|_| silence())??;
            read_reply(&mut stream).await
        };
        match reply.await.map_err(|error| failed("error asking", &error))? {
            Reply::Done(lease) => Ok(lease),
            Reply::Failed(error) => Err(error),
        }
    })
}

fn silence() -> std::io::Error {
    std::io::Error::new(ErrorKind::TimedOut, format!("no sign of life for {SILENCE:?}"))
}

async fn connect(socket: &Path) -> std::io::Result<UnixStream> {
    loop {
        match UnixStream::connect(socket).await {
            // Its queue is full.
            Err(error) if error.kind() == ErrorKind::WouldBlock => sleep(PAUSE).await,
            outcome => return outcome,
        }
    }
}

async fn read_reply(stream: &mut UnixStream) -> std::io::Result<Reply> {
    let mut reader = BufReader::new(stream.take(LINE));
    let mut line = String::new();
    loop {
        let read = timeout(SILENCE, reader.read_line(&mut line)).await;
        if read.map_err(|_| silence())?? == 0 {
            let reason = "it has hung up before it answered";
            return Err(std::io::Error::new(ErrorKind::UnexpectedEof, reason));
        }
        if line.trim().is_empty() {
            line.clear();
            continue;
        }
        return serde_json::from_str(&line).map_err(std::io::Error::from);
    }
}
