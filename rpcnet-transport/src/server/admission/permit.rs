//! The right of a call to run.

use std::{fmt, sync::Arc, time::Duration};

use super::caller_quota::CallerQuota;

/// The right to run, until it is dropped.
pub(in crate::server) struct Permit {
    /// Whose it is; `None` once it is given back.
    caller: Option<Arc<CallerQuota>>,
    /// When it began, if how long it takes is of interest.
    began: Option<Duration>,
    succeeded: bool,
    state: PermitState,
    /// The number of a call that went on while it waited to have its place back.
    reacquire_number: Option<u64>,
}

/// What a call has of its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum PermitState {
    Held,
    /// Another call may have it while this one waits for its caller.
    Yielded,
    /// The call goes on without one. It counts to its caller, and not to the limit, so that it
    /// keeps its own caller from more and takes nothing from others.
    OverLimit,
}

impl Permit {
    /// A place that was taken.
    pub(super) fn acquired(caller: Arc<CallerQuota>) -> Self {
        Self {
            caller: Some(caller),
            began: None,
            succeeded: false,
            state: PermitState::Held,
            reacquire_number: None,
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
    pub(super) fn set_succeeded(&mut self) {
        self.succeeded = true;
    }

    /// Lets another call run while this one waits for its caller.
    pub(super) fn yield_to_others(&mut self) {
        let Some(caller) = &self.caller else { return };
        match std::mem::replace(&mut self.state, PermitState::Yielded) {
            PermitState::Held => caller.release(None),
            PermitState::Yielded => {}
            PermitState::OverLimit => caller.end_over_limit(),
        }
    }

    pub(super) fn is_yielded(&self) -> bool {
        self.state == PermitState::Yielded
    }

    /// The caller of a place that is lent, and the number by which its call has it back: the one
    /// that was [kept](Self::keep_reacquire_number), if there is one.
    pub(super) fn begin_reacquire(&mut self) -> Option<(Arc<CallerQuota>, u64)> {
        let is_lent = self.is_yielded();
        let caller = self.caller.as_ref().filter(|_| is_lent).cloned()?;
        let kept = self.reacquire_number.take();
        let number = kept.unwrap_or_else(|| caller.gate.next_reacquire_number());
        Some((caller, number))
    }

    /// The call stops waiting to have its place back. When it waits again, it does so by this
    /// number.
    pub(super) fn keep_reacquire_number(&mut self, number: u64) {
        if self.is_yielded() {
            self.reacquire_number = Some(
                self.reacquire_number
                    .map_or(number, |kept| kept.min(number)),
            );
        }
    }

    /// Whether others should have it before its call goes on.
    pub(super) fn should_yield(&self) -> bool {
        match (&self.caller, self.state) {
            (Some(caller), PermitState::Held) => caller.exceeds_share(),
            (Some(_), PermitState::OverLimit) => true,
            (Some(_), PermitState::Yielded) | (None, _) => false,
        }
    }

    /// A place that was lent is [there again](CallerQuota::regain).
    pub(super) fn set_reacquired(&mut self, mut regained: Self) {
        debug_assert_eq!(self.state, PermitState::Yielded);
        self.state = regained.state;
        self.reacquire_number = None;
        regained.caller = None;
    }

    /// The call goes on, with a place if there is one.
    pub(super) fn resume(&mut self) {
        let Some(caller) = &self.caller else { return };
        if self.state != PermitState::Yielded {
            return;
        }
        if caller.try_acquire() {
            self.state = PermitState::Held;
            self.reacquire_number = None;
        } else {
            caller.begin_over_limit();
            self.state = PermitState::OverLimit;
        }
    }

    /// Gives back a place that was not used, without a look at the calls that wait.
    pub(super) fn return_unused(mut self) {
        if let Some(caller) = self.caller.take() {
            caller.release_without_grant();
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let Some(caller) = self.caller.take() else {
            return;
        };
        match self.state {
            PermitState::Held => caller.release(self.began.map(|began| (began, self.succeeded))),
            PermitState::Yielded => {}
            PermitState::OverLimit => caller.end_over_limit(),
        }
    }
}

impl fmt::Debug for Permit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Place").finish_non_exhaustive()
    }
}
