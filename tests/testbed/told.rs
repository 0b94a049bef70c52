//! A server that does what it is told, and tells what it hears.

use std::{
    net::{SocketAddr, UdpSocket},
    sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc},
    thread,
    time::Duration,
};

use crate::wait::PATIENCE;

/// What a client says.
pub trait Saying: Send + 'static {
    /// The type of the message.
    fn kind(&self) -> u8;
}

/// How a server answers.
pub trait Answering: Clone + Send + 'static {
    /// What it hears.
    type Said: Saying;
    /// What a packet says, if it is of a client.
    fn read(packet: &[u8], source: SocketAddr, is_unicast: bool) -> Option<Self::Said>;
    /// The answer, if there is one, and whom it goes to.
    fn answer(&mut self, said: &Self::Said) -> Option<(Vec<u8>, SocketAddr)>;
}

/// A server of these manners.
#[derive(Debug)]
pub struct Told<M: Answering> {
    manners: Arc<Mutex<M>>,
    heard: mpsc::Receiver<M::Said>,
}

impl<M: Answering> Told<M> {
    /// At these sockets, with whether they hear what is sent to the server alone.
    pub(crate) fn at(manners: M, sockets: impl IntoIterator<Item = (UdpSocket, bool)>) -> Self {
        let (tell, heard) = mpsc::channel();
        let manners = Arc::new(Mutex::new(manners));
        for (socket, is_unicast) in sockets {
            socket.set_read_timeout(Some(Duration::from_millis(50))).expect("a time limit");
            let (tell, weak) = (tell.clone(), Arc::downgrade(&manners));
            drop(thread::spawn(move || {
                let mut buffer = [0; 2000];
                loop {
                    let received = socket.recv_from(&mut buffer);
                    let Some(manners) = weak.upgrade() else { break };
                    let Ok((length, source)) = received else { continue };
                    let said = M::read(&buffer[..length], source, is_unicast);
                    let Some(said) = said else { continue };
                    if let Some((answer, to)) = lock(&manners).answer(&said) {
                        // The client may be gone by now.
                        socket.send_to(&answer, to).ok();
                    }
                    if tell.send(said).is_err() {
                        break;
                    }
                }
            }));
        }
        Self { manners, heard }
    }

    /// How it answers from now on.
    pub fn set(&self, change: impl FnOnce(&mut M)) {
        change(&mut lock(&self.manners));
    }

    /// The next thing of this kind that a client says.
    ///
    /// # Panics
    /// When none comes.
    #[track_caller]
    pub fn hears(&self, kind: u8) -> M::Said {
        loop {
            let said = self.heard.recv_timeout(PATIENCE).expect("a packet of a client");
            if said.kind() == kind {
                return said;
            }
        }
    }

    /// Forgets what was heard.
    pub fn forget(&self) {
        drop(self.heard());
    }

    /// What was heard so far.
    #[must_use]
    pub fn heard(&self) -> Vec<M::Said> {
        self.heard.try_iter().collect()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
