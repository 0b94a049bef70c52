//! Devices of the buses below /sys (sysfs(5)), and the links that they are behind.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::{Context, Result};

/// A device that sysfs has a directory for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device(PathBuf);

impl Device {
    /// The device of that name on a bus, as `0000:00:1f.6` on `pci`. `None` if there is none.
    pub fn find(bus: &str, id: &str) -> Option<Self> {
        let path = Path::new("/sys/bus").join(bus).join("devices").join(id);
        // The name of one directory, or it would lead to any device of any bus.
        let is_name = !id.is_empty() && !id.contains('/') && !id.starts_with('.');
        (is_name && path.exists()).then_some(Self(path))
    }

    /// The device at a path below /sys/devices. `None` for any other path, and if there is none.
    pub fn at(path: &Path) -> Option<Self> {
        let is_below = path.starts_with("/sys/devices") && !path.iter().any(|part| part == "..");
        (is_below && path.exists()).then(|| Self(path.to_owned()))
    }

    /// The name of the driver that it is bound to.
    ///
    /// # Errors
    /// When it is bound to none ([`Error::is_gone`](super::Error::is_gone)).
    pub fn driver(&self) -> Result<String> {
        let link = self.0.join("driver");
        let target =
            fs::read_link(&link).doing(|| format!("find the driver of {}", self.0.display()))?;
        Ok(target.file_name().unwrap_or_default().to_string_lossy().into_owned())
    }

    /// The name of the link that it is: the first by name, if it is several. A virtio device has its
    /// link one level below the one of PCI. `None` if its link is in another namespace, or if it is
    /// none at all.
    ///
    /// # Errors
    /// When sysfs cannot be read.
    pub fn link(&self) -> Result<Option<String>> {
        if let Some(name) = first(&self.0.join("net"), "")? {
            return Ok(Some(name));
        }
        match first(&self.0, "virtio")? {
            Some(virtio) => first(&self.0.join(virtio).join("net"), ""),
            None => Ok(None),
        }
    }
}

/// The first entry of a directory whose name begins so. One that is missing has none.
fn first(directory: &Path, begin: &str) -> Result<Option<String>> {
    let what = || format!("list {}", directory.display());
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        entries => entries.doing(what)?,
    };
    let mut names = Vec::new();
    for entry in entries {
        names.push(entry.doing(what)?.file_name().to_string_lossy().into_owned());
    }
    Ok(names.into_iter().filter(|name| name.starts_with(begin)).min())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_no_way_to_another_place() {
        for id in ["", ".", "..", "../../pci/devices/x", "/etc"] {
            assert_eq!(Device::find("..", id), None, "{id}");
        }
        for path in ["/etc", "/sys/devices/../../etc", "sys/devices", "/sys/devices-2"] {
            assert_eq!(Device::at(Path::new(path)), None, "{path}");
        }
        assert!(Device::at(Path::new("/sys/devices/virtual")).is_some());
    }
}
