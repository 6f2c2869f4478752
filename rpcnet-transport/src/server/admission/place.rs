//! The right of a call to run.

use std::{fmt, sync::Arc, time::Duration};

use super::caller::CallerShare;

/// The right to run, until it is dropped.
pub(in crate::server) struct Place {
    /// Whose it is; `None` once it is given back.
    caller: Option<Arc<CallerShare>>,
    /// When it began, if how long it takes is of interest.
    began: Option<Duration>,
    well: bool,
    hold: Hold,
    /// The number of a call that went on while it waited to have its place back.
    return_number: Option<u64>,
}

/// What a call has of its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Hold {
    Regular,
    /// Another call may have it while this one waits for its caller.
    Lent,
    /// The call goes on without one. It counts to its caller, and not to the limit, so that it
    /// keeps its own caller from more and takes nothing from others.
    Overdrawn,
}

impl Place {
    /// A place that was taken.
    pub(super) fn of_taken(caller: Arc<CallerShare>) -> Self {
        Self {
            caller: Some(caller),
            began: None,
            well: false,
            hold: Hold::Regular,
            return_number: None,
        }
    }

    /// What it is used for takes time that says something about the server.
    pub(super) fn measure(&mut self) {
        if let Some(caller) = &self.caller
            && caller.gate.is_adaptive()
        {
            self.began.get_or_insert_with(|| caller.gate.now());
        }
    }

    /// The call was answered.
    pub(super) fn note_reply(&mut self) {
        self.well = true;
    }

    /// Lets another call run while this one waits for its caller.
    pub(super) fn pause(&mut self) {
        let Some(caller) = &self.caller else { return };
        match std::mem::replace(&mut self.hold, Hold::Lent) {
            Hold::Regular => caller.release(None),
            Hold::Lent => {}
            Hold::Overdrawn => caller.end_overdraft(),
        }
    }

    pub(super) fn is_lent(&self) -> bool {
        self.hold == Hold::Lent
    }

    /// The caller of a place that is lent, and the number by which its call has it back: the one
    /// that was [kept](Self::keep_return_number), if there is one.
    pub(super) fn begin_return(&mut self) -> Option<(Arc<CallerShare>, u64)> {
        let is_lent = self.is_lent();
        let caller = self.caller.as_ref().filter(|_| is_lent).cloned()?;
        let kept = self.return_number.take();
        let number = kept.unwrap_or_else(|| caller.gate.next_return_number());
        Some((caller, number))
    }

    /// The call stops waiting to have its place back. When it waits again, it does so by this
    /// number.
    pub(super) fn keep_return_number(&mut self, number: u64) {
        if self.is_lent() {
            self.return_number = Some(self.return_number.map_or(number, |kept| kept.min(number)));
        }
    }

    /// Whether others should have it before its call goes on.
    pub(super) fn is_owed(&self) -> bool {
        match (&self.caller, self.hold) {
            (Some(caller), Hold::Regular) => caller.owes_a_place(),
            (Some(_), Hold::Overdrawn) => true,
            (Some(_), Hold::Lent) | (None, _) => false,
        }
    }

    /// A place that was lent is [there again](CallerShare::regain).
    pub(super) fn replace_lent(&mut self, mut regained: Self) {
        debug_assert_eq!(self.hold, Hold::Lent);
        self.hold = regained.hold;
        self.return_number = None;
        regained.caller = None;
    }

    /// The call goes on, with a place if there is one.
    pub(super) fn resume(&mut self) {
        let Some(caller) = &self.caller else { return };
        if self.hold != Hold::Lent {
            return;
        }
        if caller.try_take() {
            self.hold = Hold::Regular;
            self.return_number = None;
        } else {
            caller.overdraw();
            self.hold = Hold::Overdrawn;
        }
    }

    /// Gives back a place that was not used, without a look at the calls that wait.
    pub(super) fn give_back(mut self) {
        if let Some(caller) = self.caller.take() {
            caller.give_back();
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let Some(caller) = self.caller.take() else {
            return;
        };
        match self.hold {
            Hold::Regular => caller.release(self.began.map(|began| (began, self.well))),
            Hold::Lent => {}
            Hold::Overdrawn => caller.end_overdraft(),
        }
    }
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Place").finish_non_exhaustive()
    }
}
