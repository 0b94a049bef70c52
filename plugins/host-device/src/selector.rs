//! Which link of the host is meant.

use common::attach::Records;
use common::attach::record::Record;
use common::net::sysfs::Device;
use common::net::{Link, Mac, Netlink};
use common::{Code, Error, Result};
use std::path::Path;

/// Drivers that hand a PCI device over to a program, without a link.
const USER_SPACE: [&str; 3] = ["vfio-pci", "uio_pci_generic", "igb_uio"];

/// How the configuration names the link. One that it names in another way may have a device of a bus
/// besides: if a driver hands that to a program, there is no link.
#[derive(Debug)]
pub(crate) enum Selector {
    Name(String, Option<BusDevice>),
    Mac(Mac, Option<BusDevice>),
    Path(String, Option<BusDevice>),
    Bus(BusDevice),
}

/// A device by its name on a bus.
#[derive(Debug)]
pub(crate) enum BusDevice {
    /// On PCI, as `0000:00:1f.6`.
    Pci(String),
    /// What the runtime names: on PCI, or on the auxiliary bus, as `mlx5_core.sf.4`.
    Runtime(String),
}

impl BusDevice {
    /// The device, and whether it is one of PCI.
    fn find(&self) -> Result<(Device, bool)> {
        let (Self::Pci(id) | Self::Runtime(id)) = self;
        if let Some(device) = Device::find("pci", id) {
            return Ok((device, true));
        }
        match self {
            Self::Pci(_) => Err(Error::config(format!("there is no PCI device {id:?}"))
                .details("pciBusID is the name of a directory in /sys/bus/pci/devices")),
            Self::Runtime(_) => {
                Device::find("auxiliary", id).map(|device| (device, false)).ok_or_else(|| {
                    let msg = format!("runtime config DeviceID {id} not found or unsupported");
                    Error::config(msg).details(
                        "it is in neither /sys/bus/pci/devices nor /sys/bus/auxiliary/devices",
                    )
                })
            }
        }
    }
}

impl Selector {
    /// Whether a driver hands the device over to a program, so that there is no link.
    pub(crate) fn is_of_user_space(&self) -> Result<bool> {
        let bus = match self {
            Self::Name(_, bus) | Self::Mac(_, bus) | Self::Path(_, bus) => bus.as_ref(),
            Self::Bus(bus) => Some(bus),
        };
        let Some((device, true)) = bus.map(BusDevice::find).transpose()? else { return Ok(false) };
        Ok(USER_SPACE.contains(&device.driver()?.as_str()))
    }

    /// The link, which must be on the host.
    pub(crate) fn find(&self, host: &Netlink, records: &Records) -> Result<Link> {
        let name = match self {
            Self::Name(name, _) => Some(name.clone()),
            Self::Mac(mac, _) => return find_by_mac(host, *mac),
            Self::Path(path, _) => {
                let device = Device::at(Path::new(path));
                let missing = || {
                    Error::config(format!("there is no device {path:?}")).details(
                        "kernelpath is the directory of a device, as /sys/devices/pci0000:00/0000:00:1f.6",
                    )
                };
                device.ok_or_else(missing)?.link()?
            }
            Self::Bus(bus) => bus.find()?.0.link()?,
        };
        let link = name.as_deref().map(|name| host.find_link(name)).transpose()?.flatten();
        link.ok_or_else(|| self.missing(name.as_deref(), records))
    }

    /// Whether a link that a container has may be the one that is meant. The host does not see the link of
    /// a device that is in another namespace.
    pub(crate) fn may_mean(&self, record: &Record) -> bool {
        match self {
            Self::Name(name, _) => record.name == *name,
            Self::Mac(mac, _) => record.mac() == Some(*mac),
            Self::Path(..) | Self::Bus(_) => record.is_hardware(),
        }
    }

    /// Why there is no such link: perhaps another container has it.
    fn missing(&self, name: Option<&str>, records: &Records) -> Error {
        let what = match self {
            Self::Name(what, _) | Self::Path(what, _) => what,
            Self::Bus(BusDevice::Pci(what) | BusDevice::Runtime(what)) => what,
            Self::Mac(..) => "",
        };
        let msg = format!("failed to find host device {what:?}: Link not found");
        let all = records.list().unwrap_or_default();
        match all.iter().find(|record| Some(record.name.as_str()) == name) {
            Some(record) => Error::new(Code::TryAgain, msg)
                .details(format!("{} has it; DEL of that one gives it back", record.owner)),
            None => Error::config(msg).details("the host has no such link, or a container has it"),
        }
    }
}

/// Links on top of hardware, as a VLAN, often have its address: the hardware is meant.
fn find_by_mac(host: &Netlink, mac: Mac) -> Result<Link> {
    let mut links = host.list_links()?;
    links.retain(|link| link.mac == Some(mac));
    links.sort_by_key(|link| (link.kind.is_some(), link.index));
    links.into_iter().next().ok_or_else(|| {
        Error::config("failed to find physical interface")
            .details(format!("no link of the host has the hardware address {mac}"))
    })
}
