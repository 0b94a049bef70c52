//! Network namespaces: opened by path, compared by identity, entered for the length of a call.

use std::cell::Cell;
use std::fs::{File, Metadata};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::sched::{CloneFlags, setns};
use nix::sys::statfs::{FsType, NSFS_MAGIC, PROC_SUPER_MAGIC, statfs};

use super::{Context, Error, Result, errno_text};

/// A network namespace that is kept open: it lives at least as long as this value does, whatever
/// happens to the path.
#[derive(Debug)]
pub struct Netns {
    file: File,
    path: PathBuf,
}

impl Netns {
    /// Opens the namespace that `path` is bound to, or `/proc/<pid>/ns/net`.
    ///
    /// # Errors
    /// `failed to Statfs "<path>": ..` if the path cannot be looked at ([`Error::is_gone`] if there
    /// is none), `unknown FS magic on "<path>": <hex>` if it is on neither nsfs nor procfs. A path
    /// whose mount is gone but whose file remains gives the second.
    pub fn open(path: &Path) -> Result<Self> {
        let unreachable = |errno: Errno| {
            let what = format!("failed to Statfs {path:?}");
            Error::with_errno(what, errno as i32, lower_case(&errno_text(errno as i32)))
        };
        let kind = statfs(path).map_err(unreachable)?.filesystem_type();
        if ![NSFS_MAGIC, PROC_SUPER_MAGIC].contains(&kind) {
            let FsType(magic) = kind;
            return Err(Error::new(format!("unknown FS magic on {path:?}"), format!("{magic:x}")));
        }
        let file = File::open(path).doing(|| format!("open network namespace {path:?}"))?;
        Ok(Self { file, path: path.to_owned() })
    }

    /// The namespace of the calling thread.
    ///
    /// # Errors
    /// Only where /proc is not mounted, or file descriptors have run out.
    pub fn current() -> Result<Self> {
        Self::open(Path::new("/proc/thread-self/ns/net"))
    }

    /// What tells the namespace that a path leads to from a later one at the same path: the number of its
    /// inode, which the kernel gives away again, and when that was made. A mount keeps the inode; behind
    /// a link, as each is below /proc, it is made anew, so that the time says nothing there. `None` if
    /// there is none.
    pub fn identity(path: &Path) -> Option<String> {
        let file = path.metadata().ok()?;
        let is_kept = !path.is_symlink();
        let since = is_kept.then(|| format!(" {}.{:09}", file.ctime(), file.ctime_nsec()));
        Some(format!("{}{}", file.ino(), since.unwrap_or_default()))
    }

    /// Whether a path leads to the namespace of this [`identity`](Self::identity), which may have been told
    /// by another path: those below /proc tell no time.
    pub(crate) fn has_identity(path: &Path, identity: &str) -> bool {
        let found = Self::identity(path);
        found.is_some_and(|found| found.split(' ').zip(identity.split(' ')).all(|(a, b)| a == b))
    }

    /// The path that it was opened by.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether another path leads to the same namespace.
    pub(crate) fn is_at(&self, path: &Path) -> bool {
        let identity = |found: Metadata| (found.dev(), found.ino());
        let own = self.file.metadata().map(identity);
        path == self.path
            || own.is_ok_and(|own| path.metadata().is_ok_and(|it| identity(it) == own))
    }

    /// Runs `work` with the calling thread in this namespace, and returns the thread to the namespace
    /// that it was in, also if `work` panics. Sockets that `work` opens stay in this namespace.
    ///
    /// # Errors
    /// If the namespace cannot be entered: EPERM without CAP_SYS_ADMIN, EINVAL for a file of procfs
    /// that is no network namespace. `work` has not run then.
    pub(crate) fn enter<T>(&self, work: impl FnOnce() -> T) -> Result<T> {
        at_home()?;
        let home = Self::current()?;
        setns(&self.file, CloneFlags::CLONE_NEWNET)
            .doing(|| format!("enter network namespace {:?}", self.path))?;
        let home = Home(home);
        let outcome = work();
        drop(home);
        at_home().map(|()| outcome)
    }
}

impl AsFd for Netns {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// The namespace that the thread returns to when this is dropped.
struct Home(Netns);

impl Drop for Home {
    fn drop(&mut self) {
        if setns(&self.0.file, CloneFlags::CLONE_NEWNET).is_err() {
            IS_ASTRAY.set(true);
        }
    }
}

thread_local! {
    /// Whether the thread could not return to its own namespace.
    static IS_ASTRAY: Cell<bool> = const { Cell::new(false) };
}

/// Fails after the thread could not return to its own namespace. Everything that followed, the rollback
/// included, would otherwise change links of a container instead of the host's.
///
/// # Errors
/// When it could not return there.
pub(crate) fn at_home() -> Result<()> {
    if IS_ASTRAY.get() {
        let reason =
            "the kernel has refused it, so nothing more is done, and nothing is rolled back";
        return Err(Error::new("return to the host's network namespace", reason));
    }
    Ok(())
}

/// Go writes the texts of errors in lower case, and users' scripts search for them.
fn lower_case(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| first.to_lowercase().chain(chars).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_path_is_gone() {
        let error = Netns::open(Path::new("/nonexistent/ns")).unwrap_err();
        assert_eq!(
            error.to_string(),
            "failed to Statfs \"/nonexistent/ns\": no such file or directory"
        );
        assert!(error.is_gone());
    }
}
