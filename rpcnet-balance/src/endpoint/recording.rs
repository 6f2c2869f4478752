//! Record of outcomes in their endpoint: latency, backoff and silence.

use std::time::Duration;

use super::Endpoint;
use crate::{
    Outcome, OutcomeKind, SuccessBatch, Time, backoff::BACKOFF_MAX, endpoint_state::Traits,
    latency::Decay, time,
};

impl Endpoint {
    /// Records an outcome: the latency, the silence and the backoff, which starts with
    /// `failure_backoff`. Without a time there is no backoff, as it ends at some time.
    pub(crate) fn on_outcome(&self, outcome: &Outcome, decay: Decay, failure_backoff: Duration) {
        if let Some(latency) = outcome.normalized_latency {
            self.record_latency(outcome, latency, decay);
        }
        if outcome.kind == OutcomeKind::Cancelled {
            // There was no reply.
            return;
        }
        if let Some(now) = outcome.now {
            self.record_backoff(outcome, now, failure_backoff);
        }
        self.end_silence(outcome.now);
    }

    /// Records the successes of a batch, as if each were recorded by
    /// [`on_outcome`](Self::on_outcome).
    pub(crate) fn on_successes(&self, batch: &SuccessBatch, decay: Decay) {
        if batch.is_empty() {
            return;
        }
        let (cell, now) = (self.latency_cell(), time::age_reference(batch.now()));
        let normalize = |latency| batch.scale().normalize(latency);
        if let Some(first) = normalize(batch.first_latency()) {
            match normalize(batch.max_latency_after_first()).filter(|_| batch.count() > 1) {
                None => cell.record(now, first, decay),
                Some(slowest) => cell.record_all(now, first, slowest, decay),
            }
            self.on_latency_recorded();
        }
        if let Some(now) = batch.now() {
            self.end_backoff(now, batch.max_latency(), batch.count());
        }
        self.end_silence(batch.now());
    }

    /// Records that the endpoint has just replied, or failed.
    #[inline]
    fn end_silence(&self, now: Option<Time>) {
        // Written only when time has passed: several replies of one moment leave the cache line
        // alone.
        if self.silent_since.get() != now {
            self.silent_since.set(now);
            if self.state.get().long_calls() > 0 {
                self.long_since.set(now);
            }
        }
    }

    #[inline]
    fn record_latency(&self, outcome: &Outcome, latency: Duration, decay: Decay) {
        let now = time::age_reference(outcome.now);
        match outcome.kind {
            OutcomeKind::Success => self.latency_cell().record(now, latency, decay),
            // A failure is not a good latency, however quick it was.
            OutcomeKind::Failure | OutcomeKind::Cancelled => {
                self.latency_cell().record_at_least(now, latency, decay);
            }
            // How long it took to notice says nothing about replies: a connect timeout as a latency
            // would keep the endpoint from calls long after it can be reached again. A quick
            // rejection is no reason to send it more calls.
            OutcomeKind::Unreachable
            | OutcomeKind::Overloaded
            | OutcomeKind::Rejected
            | OutcomeKind::StreamStarted => return,
        }
        self.on_latency_recorded();
    }

    #[inline]
    fn on_latency_recorded(&self) {
        if self.state.get().has_any(Traits::WITHOUT_REPLY) {
            self.state.set(Traits::WITHOUT_REPLY, false);
        }
    }

    #[inline]
    fn record_backoff(&self, outcome: &Outcome, now: Time, failure_backoff: Duration) {
        match outcome.kind {
            OutcomeKind::Success | OutcomeKind::StreamStarted => {
                self.end_backoff(now, outcome.latency, 1);
            }
            OutcomeKind::Failure | OutcomeKind::Unreachable => {
                let began = earlier(now, outcome.latency);
                self.backoff.on_failure(began, now, failure_backoff);
                self.state.set(Traits::BACKOFF, true);
            }
            // The endpoint is healthy, and overloaded for the moment. Where all are overloaded, to
            // avoid each until its queue is empty would leave it idle: only consecutive rejections
            // make the backoff longer.
            OutcomeKind::Overloaded => {
                let most = outcome
                    .retry_after
                    .unwrap_or(failure_backoff)
                    .min(BACKOFF_MAX);
                let first = OVERLOAD_BACKOFF.min(failure_backoff);
                let began = earlier(now, outcome.latency);
                self.backoff.on_failure_up_to(began, now, first, most);
                self.state.set(Traits::BACKOFF, true);
                return;
            }
            OutcomeKind::Rejected | OutcomeKind::Cancelled => {}
        }
        if let Some(retry_after) = outcome.retry_after {
            self.backoff.extend(now + retry_after.min(BACKOFF_MAX));
            self.state.set(Traits::BACKOFF, true);
        }
    }

    /// Records that this number of attempts, which took up to `latency`, succeeded.
    #[inline]
    fn end_backoff(&self, now: Time, latency: Duration, count: u32) {
        // Nearly always there was none.
        if !self.state.get().has_any(Traits::BACKOFF) {
            return;
        }
        self.backoff.on_successes(earlier(now, latency), count);
        if !self.backoff.may_be_active() {
            self.state.set(Traits::BACKOFF, false);
            // A failure since then has set it before: so it is set once more.
            if self.backoff.may_be_active() {
                self.state.set(Traits::BACKOFF, true);
            }
        }
    }
}

/// The time this long before `now`.
fn earlier(now: Time, by: Duration) -> Time {
    Time::from_nanos(now.as_nanos().saturating_sub(Time::from(by).as_nanos()))
}

/// Backoff after the first rejection: about as long as calls take, and no longer.
const OVERLOAD_BACKOFF: Duration = Duration::from_millis(10);
