//! The rollback of an ADD, which happens unless the ADD is committed.

use super::{Result, report};
use std::any::Any;

/// One registered part of the rollback.
struct Rollback {
    what: String,
    /// Whether it is left out when a step that was registered after it has failed.
    needs_all: bool,
    run: Box<dyn FnOnce() -> Result<()>>,
}

/// The steps that roll back what one ADD has done so far, run newest first when this is dropped.
///
/// [`run`](crate::run) commits after the result has been written; a restoration, which has no result,
/// commits when an attachment has all its elements. Every other way out (an error, a panic, a closed
/// stdout) rolls everything back. A step owns plain data and opens its own sockets, because the
/// failure of the ADD's sockets may be what it rolls back for.
#[must_use]
#[derive(Default)]
pub struct Undo {
    steps: Vec<Rollback>,
    urgent: Vec<Rollback>,
    /// Dropped after the steps have run.
    held: Vec<Box<dyn Any>>,
}

impl Undo {
    /// A rollback without steps.
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Registers how to roll back what the caller does next: before, not after, because the kernel
    /// may do it and its answer be lost. `what` completes "cannot undo: ".
    pub fn push(&mut self, what: impl Into<String>, undo: impl FnOnce() -> Result<()> + 'static) {
        self.steps.push(Rollback { what: what.into(), needs_all: false, run: Box::new(undo) });
    }

    /// As [`push`](Self::push), for a record by which DEL finds what the steps after it roll back: it
    /// stays if one of them fails.
    pub fn push_record(
        &mut self,
        what: impl Into<String>,
        undo: impl FnOnce() -> Result<()> + 'static,
    ) {
        self.steps.push(Rollback { what: what.into(), needs_all: true, run: Box::new(undo) });
    }

    /// Registers a step that runs before all that [`push`](Self::push) registers, then or later, because
    /// it needs what those remove.
    pub(crate) fn push_urgent(
        &mut self,
        what: impl Into<String>,
        undo: impl FnOnce() -> Result<()> + 'static,
    ) {
        self.urgent.push(Rollback { what: what.into(), needs_all: false, run: Box::new(undo) });
    }

    /// Keeps something, as a lock, until the ADD has ended: committed, or rolled back to the last step.
    pub(crate) fn hold(&mut self, guard: impl Any) {
        self.held.push(Box::new(guard));
    }

    /// Drops the steps without running them: what was done stays.
    pub(crate) fn commit(mut self) {
        self.steps.clear();
        self.urgent.clear();
    }
}

impl Drop for Undo {
    fn drop(&mut self) {
        let mut is_all_undone = true;
        while let Some(step) = self.urgent.pop().or_else(|| self.steps.pop()) {
            if step.needs_all && !is_all_undone {
                report(format_args!("kept, so that DEL can finish the rollback: {}", step.what));
            } else if let Err(error) = (step.run)() {
                is_all_undone = false;
                report(format_args!("cannot undo: {}: {error}", step.what));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cni::{Code, Error};
    use std::{cell::RefCell, rc::Rc};

    fn three_steps(log: &Rc<RefCell<Vec<u8>>>) -> Undo {
        let mut undo = Undo::new();
        for step in 1..=3 {
            let log = Rc::clone(log);
            undo.push(format!("step {step}"), move || {
                log.borrow_mut().push(step);
                if step == 2 { Err(Error::new(Code::Internal, "broken")) } else { Ok(()) }
            });
        }
        undo
    }

    #[test]
    fn runs_newest_first_and_past_a_failure() {
        let log = Rc::default();
        drop(three_steps(&log));
        assert_eq!(*log.borrow(), [3, 2, 1]);
    }

    #[test]
    fn a_record_of_what_could_not_be_undone_stays() {
        for (is_broken, expected) in [(false, vec!["step", "record"]), (true, vec!["step"])] {
            let log: Rc<RefCell<Vec<_>>> = Rc::default();
            let (first, second) = (Rc::clone(&log), Rc::clone(&log));
            let mut undo = Undo::new();
            undo.push_record("record", move || {
                first.borrow_mut().push("record");
                Ok(())
            });
            undo.push("step", move || {
                second.borrow_mut().push("step");
                if is_broken { Err(Error::internal("broken")) } else { Ok(()) }
            });
            drop(undo);
            assert_eq!(*log.borrow(), expected);
        }
    }

    #[test]
    fn what_is_urgent_runs_first() {
        let log = Rc::default();
        let mut undo = three_steps(&log);
        let own = Rc::clone(&log);
        undo.push_urgent("step 4", move || {
            own.borrow_mut().push(4);
            Ok(())
        });
        let own = Rc::clone(&log);
        undo.push("step 5", move || {
            own.borrow_mut().push(5);
            Ok(())
        });
        drop(undo);
        assert_eq!(*log.borrow(), [4, 5, 3, 2, 1]);
    }

    #[test]
    fn runs_on_unwinding() {
        let log = Rc::default();
        let undo = three_steps(&log);
        let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(move || {
            let _undo = undo;
            panic!("on purpose");
        }));
        assert!(panicked.is_err());
        assert_eq!(*log.borrow(), [3, 2, 1]);
    }

    #[test]
    fn commit_keeps_everything() {
        let log = Rc::default();
        three_steps(&log).commit();
        assert!(log.borrow().is_empty());
    }
}
