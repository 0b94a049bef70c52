//! The daemon's side of the protocol.

use crate::protocol::{HEARTBEAT, LINE, Reply, Request, SILENCE};
use crate::registry::Registry;
use common::cni::report;
use common::{Code, Error, Result, Success};
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;
use tokio::io::{
    AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWriteExt as _, BufReader,
};
use tokio::net::UnixStream;
use tokio::net::unix::OwnedWriteHalf;
use tokio::time::timeout;

/// Serves one connection, which has one request.
pub(crate) async fn serve(registry: Rc<Registry>, stream: UnixStream) {
    let (reader, mut writer) = stream.into_split();
    let mut reader = BufReader::new(reader.take(LINE));
    let mut line = String::new();
    // A connection that says nothing is not waited for.
    if !matches!(timeout(SILENCE, reader.read_line(&mut line)).await, Ok(Ok(1..))) {
        return;
    }
    let request: Request = match serde_json::from_str(&line) {
        Ok(request) => request,
        Err(error) => {
            let msg = format!("the DHCP daemon does not understand the plugin: {error}");
            let hint = "they must be of one version: restart the daemon";
            let error = Error::new(Code::Decode, msg).details(hint);
            drop(send(&mut writer, &Reply::Failed(error)).await);
            return;
        }
    };
    let added = match &request {
        Request::Add(order) => Some((order.id.clone(), order.add.clone())),
        _ => None,
    };
    let mut work = pin!(answer(&registry, request));
    let outcome = loop {
        // Whoever has begun an ADD and is gone does not want a lease any more.
        let gone = async {
            if added.is_none() {
                std::future::pending::<()>().await;
            }
            hung_up(&mut reader).await;
        };
        match timeout(HEARTBEAT, first(work.as_mut(), pin!(gone))).await {
            Ok(Some(outcome)) => break outcome,
            Ok(None) => return,
            Err(_) => {
                // If it cannot be heard, it is found to be gone.
                drop(timeout(SILENCE, writer.write_all(b"\n")).await);
            }
        }
    };
    let reply = outcome.map_or_else(Reply::Failed, Reply::Done);
    if let (Err(error), Some((id, add))) = (send(&mut writer, &reply).await, added) {
        report(format_args!("{id}: nobody waits for the lease: {error}"));
        if let Err(error) = registry.del(&id, Some(&add)).await {
            report(error);
        }
    }
}

async fn answer(registry: &Rc<Registry>, request: Request) -> Result<Option<Success>> {
    match request {
        Request::Add(order) => registry.add(order).await.map(Some),
        Request::Del { id, undoes } => registry.del(&id, undoes.as_deref()).await.map(|()| None),
        Request::Check { id } => Ok(registry.find(&id).and_then(|record| record.success())),
        Request::Gc { network, valid, grace_age } => {
            let grace_age = Duration::from_secs(grace_age);
            registry.gc(&network, &valid, grace_age).await.map(|()| None)
        }
        // What it writes is what is there already.
        Request::Status => registry.save().map(|()| None),
    }
}

async fn send(writer: &mut OwnedWriteHalf, reply: &Reply) -> std::io::Result<()> {
    let mut line = serde_json::to_vec(reply)?;
    line.push(b'\n');
    match timeout(SILENCE, writer.write_all(&line)).await {
        Ok(written) => written,
        Err(_) => Err(std::io::ErrorKind::TimedOut.into()),
    }
}

/// Waits for the end of a connection by which nothing more is to come.
async fn hung_up(reader: &mut (impl AsyncRead + Unpin)) {
    let mut byte = [0];
    while matches!(reader.read(&mut byte).await, Ok(1..)) {}
}

/// What comes of `work`, or nothing if `end` comes first.
async fn first<T>(
    mut work: Pin<&mut impl Future<Output = T>>,
    mut end: Pin<&mut impl Future<Output = ()>>,
) -> Option<T> {
    poll_fn(|context| {
        if let Poll::Ready(outcome) = work.as_mut().poll(context) {
            return Poll::Ready(Some(outcome));
        }
        end.as_mut().poll(context).map(|()| None)
    })
    .await
}
