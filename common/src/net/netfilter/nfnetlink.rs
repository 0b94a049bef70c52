//! What the answers of nfnetlink have in common, whichever subsystem gives them.

use nix::libc::EINTR;

use crate::net::{Error, Result};

/// How often a list that was not of one piece is read again.
const ATTEMPTS: usize = 20;

/// How a list has ended.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ending {
    /// What `NLMSG_DONE` said: 0, or the negative number of the error that ended the list. None if
    /// it never came.
    pub(super) done: Option<i32>,
    /// What is listed changed meanwhile (`NLM_F_DUMP_INTR`), or a part of the list was lost.
    pub(super) is_torn: bool,
}

impl Ending {
    /// Whether what was listed is all there is.
    ///
    /// # Errors
    /// EINTR if it is worth another try; what the kernel says otherwise.
    pub(super) fn judge(self, what: &dyn Fn() -> String) -> Result<()> {
        match self.done {
            Some(code) if code != 0 => Err(Error::from_errno(what(), code.saturating_abs(), None)),
            Some(_) if !self.is_torn => Ok(()),
            _ => Err(Error::from_errno(what(), EINTR, None)),
        }
    }
}

/// A list of one piece; of something that is missing, an empty one.
///
/// # Errors
/// EINTR if there never is one; what the kernel refused for any other reason.
pub(super) fn whole<T>(
    what: &dyn Fn() -> String,
    mut list: impl FnMut() -> Result<Vec<T>>,
) -> Result<Vec<T>> {
    for _ in 0..ATTEMPTS {
        match list() {
            Err(error) if error.is_gone() => return Ok(Vec::new()),
            Err(error) if error.errno() == Some(EINTR) => {}
            outcome => return outcome,
        }
    }
    Err(Error::from_errno(what(), EINTR, Some("it keeps changing while it is read")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_without_an_end_is_none() {
        let what = || "list".to_owned();
        let errno = |done, is_torn| Ending { done, is_torn }.judge(&what).err()?.errno();
        assert_eq!(errno(Some(0), false), None);
        assert_eq!(errno(Some(0), true), Some(EINTR));
        assert_eq!(errno(None, false), Some(EINTR));
        assert_eq!(errno(Some(-2), true), Some(2));
    }

    #[test]
    fn a_torn_list_is_read_again_but_not_for_ever() {
        let what = || "list".to_owned();
        let torn = || Err(Error::from_errno("list", EINTR, None));
        let mut left = 3;
        let list = whole(&what, || {
            left -= 1;
            if left > 0 { torn() } else { Ok(vec![1]) }
        });
        assert_eq!(list.unwrap(), [1]);
        let error = whole::<u8>(&what, torn).unwrap_err();
        assert!(error.to_string().contains("keeps changing"), "{error}");
    }
}
