//! A system bus of the host's own, and a firewalld on it that only remembers.

use std::{
    collections::BTreeSet,
    io::{BufRead as _, BufReader},
    process::{Child, Command},
    sync::{Arc, Mutex, PoisonError, mpsc},
    thread,
};

use zbus::{connection::Builder, fdo};

use crate::bed::Testbed;

/// Where a system's bus is.
pub const SOCKET: &str = "/run/dbus/system_bus_socket";

const CONFIG: &str = "/run/test/bus.conf";

/// A bus, and firewalld on it, until dropped.
#[derive(Debug)]
pub struct Firewalld {
    zones: Zones,
    daemon: Child,
}

/// Zone and source.
type Source = (String, String);

#[derive(Debug, Clone, Default)]
struct Zones {
    sources: Arc<Mutex<BTreeSet<Source>>>,
    /// A source that it does not like.
    refused: Arc<Mutex<String>>,
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn named(zone: &str, source: &str) -> Source {
    (zone.to_owned(), source.to_owned())
}

/// With the errors of the real one.
#[zbus::interface(name = "org.fedoraproject.FirewallD1.zone")]
impl Zones {
    #[zbus(name = "addSource")]
    fn add_source(&self, zone: &str, source: &str) -> fdo::Result<String> {
        if *lock(&self.refused) == source {
            return Err(fdo::Error::Failed(format!("INVALID_ADDR: {source}")));
        }
        if lock(&self.sources).insert(named(zone, source)) {
            return Ok(zone.to_owned());
        }
        Err(fdo::Error::Failed(format!("ZONE_ALREADY_SET: '{source}' already bound to a zone")))
    }

    #[zbus(name = "removeSource")]
    fn remove_source(&self, zone: &str, source: &str) -> fdo::Result<String> {
        if lock(&self.sources).remove(&named(zone, source)) {
            return Ok(zone.to_owned());
        }
        Err(fdo::Error::Failed(format!("UNKNOWN_SOURCE: '{source}' is not in any zone")))
    }

    #[zbus(name = "querySource")]
    fn query_source(&self, zone: &str, source: &str) -> bool {
        lock(&self.sources).contains(&named(zone, source))
    }
}

impl Firewalld {
    /// Starts bus and firewalld.
    #[must_use]
    pub fn start(bed: &Testbed) -> Self {
        Self::start_at(bed, SOCKET)
    }

    /// The same with another socket.
    #[must_use]
    pub fn start_at(bed: &Testbed, socket: &str) -> Self {
        let daemon = start_bus(bed, socket);
        let zones = Zones::default();
        let address = format!("unix:path={}", bed.file(socket).display());
        let (service, (done, started)) = (zones.clone(), mpsc::channel());
        thread::spawn(move || {
            zbus::block_on(async {
                let built = Builder::address(address.as_str())
                    .serve_at("/org/fedoraproject/FirewallD1", service)
                    .name("org.fedoraproject.FirewallD1")
                    .build()
                    .await;
                let bus = built.expect("a connection to the bus");
                done.send(()).expect("somebody waits for it");
                // It answers for as long as the tests run.
                std::future::pending::<()>().await;
                drop(bus);
            });
        });
        started.recv().expect("firewalld starts");
        Self { zones, daemon }
    }

    /// All sources of a zone.
    #[must_use]
    pub fn sources(&self, zone: &str) -> Vec<String> {
        let all = lock(&self.zones.sources);
        all.iter().filter(|(own, _)| own == zone).map(|(_, source)| source.clone()).collect()
    }

    /// Forgets all of them, as after a reload.
    pub fn forget(&self) {
        lock(&self.zones.sources).clear();
    }

    /// From now on it does not take this source.
    pub fn refuse(&self, source: &str) {
        source.clone_into(&mut lock(&self.zones.refused));
    }
}

impl Drop for Firewalld {
    fn drop(&mut self) {
        self.daemon.kill().and_then(|()| self.daemon.wait()).expect("the bus can be ended");
    }
}

/// A bus on which everybody may do everything.
///
/// # Panics
/// If it does not start.
fn start_bus(bed: &Testbed, socket: &str) -> Child {
    let config = format!(
        "<busconfig><type>system</type><listen>unix:path={socket}</listen><auth>EXTERNAL</auth>\
         <policy context=\"default\"><allow user=\"*\"/><allow own=\"*\"/>\
         <allow send_destination=\"*\"/><allow receive_sender=\"*\"/></policy></busconfig>"
    );
    bed.write(CONFIG, config);
    bed.write("/run/dbus/placeholder", "");
    let mut command = Command::new("dbus-daemon");
    command.args(["--config-file", CONFIG, "--nofork", "--nopidfile", "--print-address"]);
    let mut daemon = bed.start(&mut command);
    let mut line = String::new();
    let output = daemon.stdout.as_mut().expect("its stdout");
    BufReader::new(output).read_line(&mut line).expect("the bus starts");
    assert!(line.contains(socket), "the bus does not start: {line:?}");
    daemon
}

/// A bus without a firewalld, until it is killed and waited for.
#[derive(Debug)]
pub struct Bus(Child);

impl Bus {
    /// Starts it.
    #[must_use]
    pub fn start(bed: &Testbed) -> Self {
        Self(start_bus(bed, SOCKET))
    }
}

impl Drop for Bus {
    fn drop(&mut self) {
        self.0.kill().and_then(|()| self.0.wait()).expect("the bus can be ended");
    }
}
