//! What a plugin is.

use super::{Add, Call, Check, Del, Errors, Gc, Result, Status, Success, Undo};
use std::process::ExitCode;

/// A plugin: the configuration that it has loaded, and what it does for each verb.
pub trait Plugin: Sized {
    /// The name of its executable, which is its `type` in a configuration.
    const NAME: &'static str;

    /// One line for `--help`.
    const ABOUT: &'static str;

    /// Whether what ADD has made stays although its result cannot be written in the version of the
    /// configuration: 0.1.0 and 0.2.0 have no result without addresses. In the Go plugins the
    /// conversion is the last step and rolls nothing back, and the tests of `macvlan` rely on that.
    const KEEPS_UNCONVERTIBLE: bool = false;

    /// Does what its executable has been run for instead of serving a request, if that is so: a daemon
    /// is such a thing.
    fn serve_otherwise() -> Option<ExitCode> {
        None
    }

    /// Loads the configuration, for ADD, CHECK and STATUS. Changes nothing on the host.
    ///
    /// An implementation deserialises every struct before it refuses a value, because [`examine`](super::examine())
    /// takes a key that no struct was deserialised with for one that the plugin does not know.
    ///
    /// # Errors
    /// Code 7: every conflict is found here. Code 4 for `CNI_ARGS`.
    fn load(call: &Call) -> Result<Self>;

    /// Attaches. What it does is registered in `undo` *before* the next thing can fail.
    ///
    /// # Errors
    /// Then everything that was registered is rolled back.
    fn add(&self, request: &Add<'_>, undo: &mut Undo) -> Result<Success>;

    /// Detaches. A step that fails does not keep the others from being done, and what is already gone
    /// is success.
    ///
    /// There is no `self`, because the configuration may have been edited, or broken, since ADD:
    /// what ADD made is found by its owner, and the few keys that tell where to look are read with
    /// [`Network::tolerant`](super::Network::tolerant).
    fn del(request: &Del<'_>, errors: &mut Errors);

    /// Compares what is there with what ADD answered.
    ///
    /// # Errors
    /// Naming every difference.
    fn check(&self, request: &Check<'_>) -> Result<()>;

    /// Removes what belongs to no valid attachment; carries on after an error. There is no `self`
    /// for the same reason as in [`del`](Self::del).
    fn gc(request: &Gc<'_>, errors: &mut Errors);

    /// Says whether an ADD could be served now.
    ///
    /// # Errors
    /// Code 50 when it could not.
    fn status(&self, request: &Status<'_>) -> Result<()>;
}
