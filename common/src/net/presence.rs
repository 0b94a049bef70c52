//! A name that a process holds for as long as it lives: the name of an abstract unix socket (unix(7)).
//! It belongs to the network namespace, leaves no file, and the kernel frees it when the process ends,
//! even if it is killed.

use super::{Context as _, Error, Result, at_home};
use nix::libc;
use std::io::ErrorKind;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// A name that no other process of the namespace has as long as this value lives.
#[derive(Debug)]
pub(crate) struct Presence {
    _socket: UnixDatagram,
}

impl Presence {
    /// Takes the name until the value is dropped.
    ///
    /// # Errors
    /// [`Error::is_exists`] if another process has the name.
    pub(crate) fn announce(name: &str) -> Result<Self> {
        at_home()?;
        let what = || format!("announce {name:?}");
        let address = SocketAddr::from_abstract_name(name).doing(what)?;
        match UnixDatagram::bind_addr(&address) {
            Ok(socket) => Ok(Self { _socket: socket }),
            Err(error) if error.kind() == ErrorKind::AddrInUse => {
                Err(Error::from_errno(what(), libc::EEXIST, None))
            }
            Err(error) => Err(error).doing(what),
        }
    }

    /// Whether a process has the name. Only ECONNREFUSED proves that none has; any other error counts as
    /// yes.
    pub(crate) fn is_announced(name: &str) -> bool {
        let ask = || {
            let address = SocketAddr::from_abstract_name(name)?;
            UnixDatagram::unbound()?.connect_addr(&address)
        };
        ask().map_or_else(|error| error.kind() != ErrorKind::ConnectionRefused, |()| true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_had_once_and_goes_with_its_process() {
        let name = format!("girder-test/{}", std::process::id());
        assert!(!Presence::is_announced(&name));
        let first = Presence::announce(&name).unwrap();
        assert!(Presence::is_announced(&name));
        assert!(Presence::announce(&name).unwrap_err().is_exists());
        drop(first);
        assert!(!Presence::is_announced(&name));
        Presence::announce(&name).unwrap();
    }
}
