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

/// Sets a setting to `value`. One that has the value already is not written, so that this also succeeds
/// where /proc is read-only. Some, as `net/ipv4/route/flush`, can be written and not read.
///
/// # Errors
/// If the setting does not exist ([`super::Error::is_gone`]), or the kernel refuses the value.
pub fn set(path: &str, value: &str) -> Result<()> {
    at_home()?;
    if read(path).is_ok_and(|found| found.as_deref() == Some(value)) {
        return Ok(());
    }
    // Nothing at all would not reach the kernel, which takes an empty line for an empty value.
    let text = if value.is_empty() { "\n" } else { value };
    fs::write(file(path), text).doing(|| format!("set sysctl {path} to {value}"))
}

/// The settings of all links by which the kernel overwrites those of each link, and of links to come
/// (`addrconf_fixup_forwarding` and its neighbours in net/ipv6/addrconf.c).
const PASSED_ON: [&str; 5] = [
    "forwarding",
    "disable_ipv6",
    "disable_policy",
    "addr_gen_mode",
    "ignore_routes_with_linkdown",
];

/// The settings that the kernel overwrites when this one is set. Of IPv4, that is `forwarding`, which has
/// a second name; and whoever forwards accepts no redirects (`inet_forward_change` in
/// net/ipv4/devinet.c).
pub fn list_overwritten(path: &str) -> Vec<String> {
    let path = if path == "net/ipv4/ip_forward" { "net/ipv4/conf/all/forwarding" } else { path };
    let (family, setting, more) = match path.split('/').collect::<Vec<_>>()[..] {
        ["net", "ipv4", "conf", "all", "forwarding"] => {
            ("ipv4", "forwarding", Some("net/ipv4/conf/all/accept_redirects"))
        }
        ["net", "ipv6", "conf", "all", setting] if PASSED_ON.contains(&setting) => {
            ("ipv6", setting, None)
        }
        _ => return Vec::new(),
    };
    let links = fs::read_dir(file(&format!("net/{family}/conf"))).into_iter().flatten();
    let names = links.filter_map(|link| link.ok()?.file_name().into_string().ok());
    let each = names.map(|link| format!("net/{family}/conf/{link}/{setting}"));
    each.chain(more.map(str::to_owned)).collect()
}

fn file(path: &str) -> PathBuf {
    Path::new("/proc/sys").join(path)
}
