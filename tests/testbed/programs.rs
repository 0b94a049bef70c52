//! Which binaries are under test.

use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

/// The workspace that the tests belong to.
#[must_use]
pub fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the tests are in a workspace")
}

/// The plugins of the suite, by their folders: those that are under test, for a reference may come
/// without some.
///
/// # Panics
/// When the workspace is not there.
#[must_use]
pub fn plugins() -> Vec<String> {
    let mut found = Vec::new();
    for kind in ["plugins", "ipam"] {
        let entries = workspace().join(kind).read_dir().expect("the workspace has plugins");
        let folders = entries.map(|entry| entry.expect("a folder can be listed").path());
        let packages = folders.filter(|folder| folder.join("Cargo.toml").is_file());
        let name = |folder: PathBuf| folder.file_name()?.to_str().map(str::to_owned);
        found.extend(packages.filter_map(name));
    }
    found.retain(|plugin| !is_missing(plugin));
    found.sort();
    found
}

/// Whether the plugins under test are a reference that comes without this one.
#[must_use]
pub fn is_missing(plugin: &str) -> bool {
    is_reference() && !bin_dir().join(plugin).is_file()
}

/// Where distributions put the reference plugins, for tests of both on one host.
pub const REFERENCE: &str = "/usr/lib/cni";

/// Where a system has its own programs, and the Go plugins look for iptables.
pub const SYSTEM_PATH: &str = "/usr/sbin:/usr/bin:/sbin:/bin";

/// A later version of them than most distributions ship: 1.9 knows nftables, GC and STATUS.
/// `tests/prepare` fetches it where it can.
pub fn later_reference() -> Option<&'static str> {
    static DIR: OnceLock<Option<String>> = OnceLock::new();
    let dir = DIR.get_or_init(|| {
        let dir = workspace().join("target/go-plugins/usr/lib/cni");
        dir.join("portmap").exists().then(|| dir.display().to_string())
    });
    dir.as_deref()
}

/// The directory of the plugins under test: `CNI_BIN_DIR`, or `bin/`, where `make` puts ours.
pub fn bin_dir() -> &'static Path {
    static DIR: OnceLock<PathBuf> = OnceLock::new();
    DIR.get_or_init(|| {
        let given = env::var_os("CNI_BIN_DIR").map(PathBuf::from);
        let dir = given.unwrap_or_else(|| workspace().join("bin"));
        dir.canonicalize()
            .unwrap_or_else(|error| panic!("{}: {error}: run `make` first", dir.display()))
    })
}

/// Whether the plugins under test are somebody else's: ours say `girder` when asked for their
/// version.
pub fn is_reference() -> bool {
    static REFERENCE: OnceLock<bool> = OnceLock::new();
    *REFERENCE.get_or_init(|| {
        let bridge = bin_dir().join("bridge");
        let asked = Command::new(&bridge).arg("--version").env_clear().output();
        let answer = asked.unwrap_or_else(|error| {
            panic!("{}: {error}: run `make` first", bridge.display());
        });
        !String::from_utf8_lossy(&answer.stdout).contains("+girder.")
    })
}

/// Whether they are a reference that knows today's version of the protocol.
pub fn is_later_reference() -> bool {
    static LATER: OnceLock<bool> = OnceLock::new();
    *LATER.get_or_init(|| {
        let asked = Command::new(bin_dir().join("bridge")).env("CNI_COMMAND", "VERSION").output();
        is_reference()
            && asked.is_ok_and(|it| String::from_utf8_lossy(&it.stdout).contains("1.1.0"))
    })
}
