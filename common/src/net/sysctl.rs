//! Kernel settings below /proc/sys. Those below `net/` belong to a network namespace: the one that
//! the calling thread is in.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::{Context, Result, at_home};

/// The value of a setting such as `net/ipv4/ip_forward`, without the line's end. `None` if this
/// kernel, or this link, does not have it. The path is written with slashes, because the name of a
/// link may contain dots.
///
/// # Errors
/// If the file is there but cannot be read.
pub fn read(path: &str) -> Result<Option<String>> {
    match fs::read_to_string(file(path)) {
        Ok(text) => Ok(Some(text.trim_end().to_owned())),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).doing(|| format!("read sysctl {path}")),
    }
}

/// Sets a setting to `value`; returns whether it had another one. One that has the value already is
/// not written, so that this also succeeds where /proc is read-only. Some, as `net/ipv4/route/flush`, can
/// be written and not read.
///
/// # Errors
/// If the setting does not exist ([`super::Error::is_gone`]), or the kernel refuses the value.
pub fn set(path: &str, value: &str) -> Result<bool> {
    at_home()?;
    match read(path) {
        Ok(Some(found)) if found == value => return Ok(false),
        Err(error) if !error.is_denied() => return Err(error),
        _ => {}
    }
    // Nothing at all would not reach the kernel, which takes an empty line for an empty value.
    let text = if value.is_empty() { "\n" } else { value };
    fs::write(file(path), text).doing(|| format!("set sysctl {path} to {value}"))?;
    Ok(true)
}

fn file(path: &str) -> PathBuf {
    Path::new("/proc/sys").join(path)
}
