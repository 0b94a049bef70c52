//! firewalld, told over D-Bus to let addresses through: they become sources of a zone.

use common::cni::report;
use common::net::Family;
use common::{Code, Error, Result, Undo};
use std::cell::Cell;
use std::net::IpAddr;
use std::rc::Rc;
use std::time::Duration;
use tokio::time::timeout;
use zbus::address::Transport;
use zbus::address::transport::UnixSocket;
use zbus::connection::Builder;
use zbus::{Address, Connection, block_on};

const NAME: &str = "org.fedoraproject.FirewallD1";
const PATH: &str = "/org/fedoraproject/FirewallD1";
const ZONE: &str = "org.fedoraproject.FirewallD1.zone";

/// How long a call to firewalld may take: milliseconds, unless it is reloading.
const PATIENCE: Duration = Duration::from_secs(20);

/// How long the bus may take to greet: one that takes longer never does.
const GREETING: Duration = Duration::from_secs(5);

/// A firewalld that runs, for one zone.
pub(crate) struct Firewalld {
    bus: Connection,
    zone: String,
}

impl Firewalld {
    /// Finds it by its name on the system's bus (`DBUS_SYSTEM_BUS_ADDRESS`, as every client of
    /// D-Bus reads it). None if it does not run. Where there is no bus, nothing is opened.
    ///
    /// # Errors
    /// When there is a bus that does not answer.
    pub(crate) fn find(zone: &str) -> Result<Option<Self>> {
        let address = Address::system().map_err(|error| failed("find the system's bus", &error))?;
        if let Transport::Unix(socket) = address.transport()
            && let UnixSocket::File(path) = socket.path()
            && !path.exists()
        {
            return Ok(None);
        }
        block_on(async {
            let what = "connect to the system's bus";
            let bus = Builder::address(address).method_timeout(PATIENCE).build();
            let bus = timeout(GREETING, bus).await.map_err(|_| {
                Error::new(Code::TryAgain, format!("{what}: no answer within {GREETING:?}"))
            })?;
            let bus = bus.map_err(|error| failed(what, &error))?;
            let (bus_name, bus_path) = ("org.freedesktop.DBus", "/org/freedesktop/DBus");
            let owner =
                bus.call_method(Some(bus_name), bus_path, Some(bus_name), "GetNameOwner", &NAME);
            Ok(owner.await.is_ok().then(|| Self { bus, zone: zone.to_owned() }))
        })
    }

    /// Lets the address through. One that is let through already is fine.
    ///
    /// # Errors
    /// When firewalld refuses.
    pub(crate) fn create_source(&self, ip: IpAddr, undo: &mut Undo) -> Result<()> {
        let zone = self.zone.clone();
        let was_there = Rc::new(Cell::new(false));
        let stays = Rc::clone(&was_there);
        undo.push(format!("source {ip} of firewalld's zone {zone}"), move || {
            if !stays.get()
                && let Some(firewalld) = Self::find(&zone)?
            {
                firewalld.delete_source(ip);
            }
            Ok(())
        });
        match self.ask::<String>("addSource", ip) {
            Err(error) if error.to_string().contains("ZONE_ALREADY_SET") => {
                was_there.set(true);
                Ok(())
            }
            Err(error) => {
                let what = format!("add source {} to firewalld's zone {}", source(ip), self.zone);
                Err(failed(&what, &error))
            }
            Ok(_) => Ok(()),
        }
    }

    /// Takes the address out of the zone. A refusal is only reported: repeating DEL would not help.
    pub(crate) fn delete_source(&self, ip: IpAddr) {
        match self.ask::<String>("removeSource", ip) {
            Err(error) if !error.to_string().contains("UNKNOWN_SOURCE") => {
                let (source, zone) = (source(ip), &self.zone);
                report(format_args!("source {source} may still be in zone {zone}: {error}"));
            }
            _ => {}
        }
    }

    /// Whether the address is let through.
    ///
    /// # Errors
    /// When firewalld cannot be asked.
    pub(crate) fn verify_source(&self, ip: IpAddr) -> Result<Option<String>> {
        let what = format!("query source {} of firewalld's zone {}", source(ip), self.zone);
        let is_there = self.ask::<bool>("querySource", ip).map_err(|e| failed(&what, &e))?;
        let difference =
            || format!("{} is no source of firewalld's zone {}", source(ip), self.zone);
        Ok((!is_there).then(difference))
    }

    fn ask<T>(&self, method: &str, ip: IpAddr) -> zbus::Result<T>
    where
        T: serde::de::DeserializeOwned + zbus::Type,
    {
        let body = (self.zone.as_str(), source(ip));
        block_on(async {
            let answer = self.bus.call_method(Some(NAME), PATH, Some(ZONE), method, &body).await?;
            answer.body().deserialize::<T>()
        })
    }
}

/// An address as firewalld knows sources.
fn source(ip: IpAddr) -> String {
    format!("{ip}/{}", Family::of(ip).bits())
}

fn failed(what: &str, error: &zbus::Error) -> Error {
    Error::new(Code::Internal, format!("{what}: {error}"))
}
