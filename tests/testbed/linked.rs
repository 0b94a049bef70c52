//! All plugins in one executable, as an installation by links has them.

use crate::{
    bed::Testbed,
    call::Call,
    programs::{plugins, workspace},
};

/// Where that executable is to be found by the name of each plugin.
pub const LINKED: &str = "/run/test/linked";

impl Testbed {
    /// Puts the executable there.
    ///
    /// # Panics
    /// When it has not been built.
    pub fn link_plugins(&self) {
        let girder = workspace().join("bin/girder");
        assert!(girder.is_file(), "run `make girder` first");
        let girder = girder.display().to_string();
        self.succeed("mkdir", &["-p", LINKED]);
        for name in plugins().iter().map(String::as_str).chain(["cnitool", "girder"]) {
            self.succeed("ln", &["-s", &girder, &format!("{LINKED}/{name}")]);
        }
    }
}

impl Call<'_> {
    /// The same call of the same plugin in that executable.
    pub fn linked(self) -> Self {
        let name = self.program_name();
        self.program(format!("{LINKED}/{name}")).cni_path(LINKED)
    }
}
