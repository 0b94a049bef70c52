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

/// Where distributions put the reference plugins, for tests of both on one host.
pub const REFERENCE: &str = "/usr/lib/cni";

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
        !answer.stdout.starts_with(b"CNI bridge plugin girder-")
    })
}
