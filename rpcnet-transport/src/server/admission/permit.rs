//! Permit of a call to run.

use std::{fmt, sync::Arc, time::Duration};

use super::caller_quota::CallerQuota;

/// The right of a call to run, until it is dropped.
pub(in crate::server) struct Permit {
    /// The caller that holds the permit; `None` once it is released.
    caller: Option<Arc<CallerQuota>>,
    /// When the measurement began, if the latency of the call is measured.
    began: Option<Duration>,
    succeeded: bool,
    state: PermitState,
    /// Number of a call that went on while it waited to reacquire its permit.
    reacquire_number: Option<u64>,
}

/// State of the permit of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum PermitState {
    Held,
    /// Another call may have the permit while this one waits for its caller.
    Yielded,
    /// The call runs without a permit. It counts to its caller and not to the limit, so that it
    /// keeps its own caller from more calls and takes nothing from others.
    OverLimit,
}

impl Permit {
    /// A permit that was acquired.
    pub(super) fn acquired(caller: Arc<CallerQuota>) -> Self {
        Self {
            caller: Some(caller),
            began: None,
            succeeded: false,
            state: PermitState::Held,
            reacquire_number: None,
        }
    }

    /// Starts the measurement: the time of the call says something about the load of the server.
    pub(super) fn measure(&mut self) {
        if let Some(caller) = &self.caller
            && caller.gate.is_adaptive()
        {
            self.began.get_or_insert_with(|| caller.gate.now());
        }
    }

    /// Records that the call was answered.
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

    /// The caller of a yielded permit, and the number by which its call reacquires it: the one that
    /// was [kept](Self::keep_reacquire_number), if there is one.
    pub(super) fn begin_reacquire(&mut self) -> Option<(Arc<CallerQuota>, u64)> {
        let is_yielded = self.is_yielded();
        let caller = self.caller.as_ref().filter(|_| is_yielded).cloned()?;
        let kept = self.reacquire_number.take();
        let number = kept.unwrap_or_else(|| caller.gate.next_reacquire_number());
        Some((caller, number))
    }

    /// Records that the call stops waiting to reacquire its permit. When it waits again, it does so
    /// by this number.
    pub(super) fn keep_reacquire_number(&mut self, number: u64) {
        if self.is_yielded() {
            self.reacquire_number = Some(
                self.reacquire_number
                    .map_or(number, |kept| kept.min(number)),
            );
        }
    }

    /// Whether other callers should have the permit before this call goes on.
    pub(super) fn should_yield(&self) -> bool {
        match (&self.caller, self.state) {
            (Some(caller), PermitState::Held) => caller.exceeds_share(),
            (Some(_), PermitState::OverLimit) => true,
            (Some(_), PermitState::Yielded) | (None, _) => false,
        }
    }

    /// Puts back a yielded permit that was [reacquired](CallerQuota::reacquire).
    pub(super) fn set_reacquired(&mut self, mut regained: Self) {
        debug_assert_eq!(self.state, PermitState::Yielded);
        self.state = regained.state;
        self.reacquire_number = None;
        regained.caller = None;
    }

    /// Resumes the call, with a permit if one is free.
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

    /// Returns a permit that was not used, without granting it to a queued call.
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
        f.debug_struct("Permit").finish_non_exhaustive()
    }
}
