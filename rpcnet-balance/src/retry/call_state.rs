//! State machine of one call: attempts, retries, backoff, hedges.

use std::time::Duration;

use super::{AdmissionKind, AttemptReason, RetryBackoff, RetryKind, StopReason};
use crate::{HedgeLatencies, Hedging, Time};

/// Limits of the attempts of one call.
#[derive(Debug, Clone, Copy)]
pub struct AttemptLimits<'a> {
    /// Limit of attempts, the first one and hedges included.
    pub attempts_max: usize,
    /// Deadline of the call. No retry and no hedge begins after it, and no backoff reaches beyond
    /// it.
    pub deadline: Option<Time>,
    /// Backoff before a call returns to endpoints that it was tried on.
    pub backoff: &'a RetryBackoff,
    /// Hedging, if attempts that take long are hedged.
    pub hedging: Option<Hedging>,
    /// Recent latencies of such calls, for [`Hedging::at_quantile`].
    pub latencies: Option<&'a HedgeLatencies>,
}

impl<'a> AttemptLimits<'a> {
    /// Limits without a deadline and without hedges.
    #[must_use]
    pub const fn new(attempts_max: usize, backoff: &'a RetryBackoff) -> Self {
        Self {
            attempts_max,
            deadline: None,
            backoff,
            hedging: None,
            latencies: None,
        }
    }
}

/// State machine of one call: which attempt begins next, how long to wait, why the call ends.
///
/// Without a clock and without I/O. The caller asks for the next [`step`](Self::step), does it, and
/// tells what came of it:
///
/// - [`Step::Begin`]: it picks an endpoint that is not [excluded](Self::excluded) and calls
///   [`begin`](Self::begin), or else [`on_no_endpoint`](Self::on_no_endpoint).
/// - [`Step::Wait`]: it waits for the attempts in flight, or until that time, and calls
///   [`on_failure`](Self::on_failure) for each attempt that fails.
/// - [`Step::Stop`]: it ends the call with its last failure.
///
/// A call that succeeds just ends. Attempts are in flight beside each other only with hedges; a
/// retry follows when all of them have failed.
#[derive(Debug)]
pub struct CallState<'a> {
    limits: AttemptLimits<'a>,
    phase: AttemptPhase,
    started: usize,
    hedges: usize,
    in_flight: usize,
    /// Endpoints that were tried, those of attempts in flight included.
    excluded: Vec<u64>,
    /// From when on each excluded endpoint may be tried again; `None` if it will not serve soon.
    retry_at: Vec<Option<Time>>,
    /// Time between the attempts in flight.
    hedge_delay: Option<Duration>,
    hedge_at: Option<Time>,
    backoffs: u32,
    backed_off: Duration,
    /// No endpoint is to blame for the last failure.
    may_retry_any: bool,
    /// Excluded endpoints that could not be connected to.
    unreachable: Vec<u64>,
    /// An endpoint was reached, and does not serve the call.
    is_unserved: bool,
    same_endpoint_retried: bool,
    /// Kind of a failure since the last retry began, if the next retry uses budget for it.
    budget_kind: Option<RetryKind>,
    /// Why no attempt follows those in flight.
    stop_after: Option<StopReason>,
}

#[derive(Debug, Clone, Copy)]
enum AttemptPhase {
    First,
    Retry { kind: RetryKind, endpoint: Choice },
    BackingOff { kind: RetryKind, until: Time },
    InFlight,
    Ended(StopReason),
}

/// Next step of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// An attempt begins, on an endpoint of this choice.
    Begin(Choice),
    /// Nothing happens until an attempt in flight ends, or until this time.
    Wait(Option<Time>),
    /// No further attempt is made.
    Stop(StopReason),
}

/// Choice of the endpoint of an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Choice {
    /// Any that is not excluded.
    Any,
    /// The one whose attempt failed last, excluded or not.
    Same,
    /// Any that is not excluded, for a hedge. If there is none, the call goes on without a hedge.
    Hedge,
}

/// Failure of an attempt, as the caller classifies it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Failure {
    /// Whether a retry may follow.
    pub decision: RetryDecision,
    /// Time for which the endpoint asked not to be called.
    pub retry_after: Duration,
    /// The failure says nothing about the endpoint, which may be picked again at once.
    pub keeps_endpoint: bool,
    /// The endpoint may have processed the attempt and would answer the same request from memory,
    /// where another endpoint would process it anew: one retry goes back there.
    pub prefers_endpoint: bool,
    /// More load does not help: no hedge joins the attempts in flight.
    pub stops_hedging: bool,
    /// The endpoint rejected the attempt without processing it. While others are in flight, one of
    /// them may still succeed: the call goes on with them, whatever the decision, without a hedge.
    pub is_rejection: bool,
    /// The endpoint could not be connected to. Once another endpoint was reached and does not serve
    /// the call ([`RetryDecision::OtherEndpoint`]), the call ends with that rather than to wait for
    /// this endpoint again.
    pub is_unreachable: bool,
}

impl Failure {
    /// A failure of which nothing but the decision is known.
    #[must_use]
    pub const fn new(decision: RetryDecision) -> Self {
        Self {
            decision,
            retry_after: Duration::ZERO,
            keeps_endpoint: false,
            prefers_endpoint: false,
            stops_hedging: false,
            is_rejection: false,
            is_unreachable: false,
        }
    }
}

/// Decision on a retry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RetryDecision {
    /// No retry: the failure is the outcome of the call.
    Stop(StopReason),
    /// Another endpoint may serve the call, but this one will not soon.
    OtherEndpoint(RetryKind),
    /// Another endpoint may serve the call, and this one after a backoff.
    AnyEndpoint(RetryKind),
}

impl<'a> CallState<'a> {
    /// A call without attempts.
    #[must_use]
    pub const fn new(limits: AttemptLimits<'a>) -> Self {
        Self {
            limits,
            phase: AttemptPhase::First,
            started: 0,
            hedges: 0,
            in_flight: 0,
            excluded: Vec::new(),
            retry_at: Vec::new(),
            hedge_delay: None,
            hedge_at: None,
            backoffs: 0,
            backed_off: Duration::ZERO,
            may_retry_any: false,
            unreachable: Vec::new(),
            is_unserved: false,
            same_endpoint_retried: false,
            budget_kind: None,
            stop_after: None,
        }
    }

    /// The next step.
    #[must_use]
    pub fn step(&self, now: Time) -> Step {
        match self.phase {
            AttemptPhase::First => Step::Begin(Choice::Any),
            AttemptPhase::BackingOff { until, .. } if now < until => Step::Wait(Some(until)),
            AttemptPhase::Retry { .. } | AttemptPhase::BackingOff { .. } if self.is_late(now) => {
                Step::Stop(StopReason::Deadline)
            }
            AttemptPhase::Retry { endpoint, .. } => Step::Begin(endpoint),
            AttemptPhase::BackingOff { .. } => Step::Begin(Choice::Any),
            AttemptPhase::InFlight => match self.hedge_at {
                Some(at) if at > now => Step::Wait(Some(at)),
                Some(_) if !self.is_late(now) => Step::Begin(Choice::Hedge),
                _ => Step::Wait(None),
            },
            AttemptPhase::Ended(reason) => Step::Stop(reason),
        }
    }

    /// Whether the deadline of the call has passed.
    fn is_late(&self, now: Time) -> bool {
        self.limits.deadline.is_some_and(|deadline| deadline <= now)
    }

    /// The ids of endpoints that must not be picked: those of attempts in flight, and those that
    /// were tried and may not be tried again yet.
    #[must_use]
    pub fn excluded(&self) -> &[u64] {
        &self.excluded
    }

    /// Begins an attempt on this endpoint: its number, from 0, and its reason. `None` if `admit`,
    /// which takes a token out of the retry budget for [kinds that use
    /// it](AdmissionKind::uses_budget), does not admit it, or if the deadline of the call has
    /// passed; the next step says how the call goes on.
    pub fn begin(
        &mut self,
        now: Time,
        endpoint: u64,
        admit: impl FnOnce(AdmissionKind) -> bool,
    ) -> Option<(usize, AttemptReason)> {
        let (kind, reason) = match self.phase {
            AttemptPhase::First => (AdmissionKind::First, AttemptReason::First),
            AttemptPhase::Retry { kind, .. } | AttemptPhase::BackingOff { kind, .. } => {
                let after = self.backed_off;
                (AdmissionKind::Retry(kind), AttemptReason::Retry { after })
            }
            AttemptPhase::InFlight => (AdmissionKind::Hedge, AttemptReason::Hedge),
            AttemptPhase::Ended(_) => return None,
        };
        let rejected = if kind != AdmissionKind::First && self.is_late(now) {
            Some(StopReason::Deadline)
        } else {
            (!admit(kind)).then_some(StopReason::BudgetExhausted)
        };
        if let Some(reason) = rejected {
            match kind {
                AdmissionKind::Hedge => self.hedge_at = None,
                _ => self.phase = AttemptPhase::Ended(reason),
            }
            return None;
        }
        let hedging = self.limits.hedging;
        if kind == AdmissionKind::Hedge {
            self.hedges += 1;
        } else {
            self.budget_kind = None;
            let latencies = self.limits.latencies;
            self.hedge_delay = hedging.and_then(|it| it.delay(latencies, now));
        }
        let hedges_max = hedging.map_or(0, |it| it.hedges_max());
        let number = self.started;
        self.started += 1;
        self.in_flight += 1;
        let may_hedge = self.hedges < hedges_max && self.started < self.limits.attempts_max;
        let delay = self.hedge_delay.filter(|_| may_hedge);
        self.hedge_at = delay.map(|delay| now + delay);
        self.backed_off = Duration::ZERO;
        self.include(endpoint);
        self.excluded.push(endpoint);
        self.retry_at.push(None);
        self.phase = AttemptPhase::InFlight;
        Some((number, reason))
    }

    /// Records that no endpoint can be picked for the attempt that is to begin. A hedge is left
    /// out; a retry backs off until the endpoints that were tried may be tried again, if they may
    /// be in time.
    pub fn on_no_endpoint(&mut self, now: Time) {
        self.phase = match self.phase {
            AttemptPhase::Retry {
                kind,
                endpoint: Choice::Same,
            } => AttemptPhase::Retry {
                kind,
                endpoint: Choice::Any,
            },
            AttemptPhase::Retry { kind, .. } | AttemptPhase::BackingOff { kind, .. } => {
                match self.back_off(now) {
                    Ok(until) => AttemptPhase::BackingOff { kind, until },
                    Err(reason) => AttemptPhase::Ended(reason),
                }
            }
            AttemptPhase::First => AttemptPhase::Ended(StopReason::NoEndpointLeft),
            AttemptPhase::InFlight | AttemptPhase::Ended(_) => self.phase,
        };
        self.hedge_at = None;
    }

    /// Records that there is no timer to wait with: a backoff ends at once, and there are no more
    /// hedges.
    pub fn on_no_timer(&mut self) {
        self.hedge_at = None;
        if let AttemptPhase::BackingOff { kind, .. } = self.phase {
            let endpoint = Choice::Any;
            self.phase = AttemptPhase::Retry { kind, endpoint };
        }
    }

    /// Ends the exclusion of an endpoint.
    fn include(&mut self, endpoint: u64) {
        if let Some(index) = self.excluded.iter().position(|id| *id == endpoint) {
            self.excluded.remove(index);
            self.retry_at.remove(index);
        }
    }

    /// Records that an attempt on this endpoint has failed. If it was the last in flight, a retry
    /// is planned. Its token is taken out of the budget when it begins, which it may never do, for
    /// want of time or of an endpoint; `has_budget` only looks for one. Without an attempt in
    /// flight nothing happens.
    pub fn on_failure(
        &mut self,
        now: Time,
        endpoint: u64,
        failure: &Failure,
        has_budget: impl FnOnce() -> bool,
    ) {
        if self.in_flight == 0 || matches!(self.phase, AttemptPhase::Ended(_)) {
            return;
        }
        self.in_flight -= 1;
        self.record_reachability(endpoint, failure);
        self.may_retry_any = matches!(failure.decision, RetryDecision::AnyEndpoint(_))
            && !(failure.is_unreachable && self.is_unserved);
        if failure.keeps_endpoint {
            self.include(endpoint);
        } else if let Some(index) = self.excluded.iter().position(|id| *id == endpoint) {
            self.retry_at[index] = self.may_retry_any.then(|| now + failure.retry_after);
        }
        if failure.stops_hedging {
            self.hedge_at = None;
        }
        match failure.decision {
            RetryDecision::Stop(reason) if failure.is_rejection && self.in_flight > 0 => {
                self.stop_after = Some(reason);
                self.hedge_at = None;
            }
            RetryDecision::Stop(reason) => self.phase = AttemptPhase::Ended(reason),
            RetryDecision::OtherEndpoint(kind) | RetryDecision::AnyEndpoint(kind) => {
                if kind.uses_budget() {
                    self.budget_kind = Some(kind);
                }
                if self.in_flight == 0 {
                    let kind = self.budget_kind.unwrap_or(kind);
                    let prefers_endpoint = failure.prefers_endpoint;
                    self.phase = self.after_failures(now, kind, prefers_endpoint, has_budget);
                }
            }
        }
    }

    /// Records that an endpoint could not be connected to, or was reached and does not serve the
    /// call: then those that could not be connected to are not tried again.
    fn record_reachability(&mut self, endpoint: u64, failure: &Failure) {
        if failure.is_unreachable {
            self.unreachable.push(endpoint);
        } else if matches!(failure.decision, RetryDecision::OtherEndpoint(_)) {
            self.is_unserved = true;
            for (id, retry_at) in self.excluded.iter().zip(&mut self.retry_at) {
                if self.unreachable.contains(id) {
                    *retry_at = None;
                }
            }
        } else {
            self.unreachable.retain(|id| *id != endpoint);
        }
    }

    /// Phase of the call when all its attempts have failed.
    fn after_failures(
        &mut self,
        now: Time,
        kind: RetryKind,
        prefers_endpoint: bool,
        has_budget: impl FnOnce() -> bool,
    ) -> AttemptPhase {
        if let Some(reason) = self.stop_after {
            AttemptPhase::Ended(reason)
        } else if self.started >= self.limits.attempts_max {
            AttemptPhase::Ended(StopReason::AttemptLimit)
        } else if self.is_late(now) {
            AttemptPhase::Ended(StopReason::Deadline)
        } else if kind.uses_budget() && !has_budget() {
            AttemptPhase::Ended(StopReason::BudgetExhausted)
        } else if prefers_endpoint && !self.same_endpoint_retried {
            self.same_endpoint_retried = true;
            let endpoint = Choice::Same;
            AttemptPhase::Retry { kind, endpoint }
        } else {
            let endpoint = Choice::Any;
            AttemptPhase::Retry { kind, endpoint }
        }
    }

    /// Backs off when every endpoint was tried: until when. The endpoints that may be tried again
    /// by then are no longer excluded.
    fn back_off(&mut self, now: Time) -> Result<Time, StopReason> {
        let may_serve = self.retry_at.iter().any(Option::is_some) || self.may_retry_any;
        if !may_serve || self.backoffs as usize >= self.limits.attempts_max {
            return Err(StopReason::NoEndpointLeft);
        }
        let delay = self.limits.backoff.delay(self.backoffs);
        self.backoffs += 1;
        let first = self.retry_at.iter().flatten().min().copied();
        let end = first.map_or(now + delay, |first| first.max(now + delay));
        let deadline = self.limits.deadline;
        if end == NEVER || deadline.is_some_and(|deadline| deadline <= end) {
            return Err(StopReason::Deadline);
        }
        self.backed_off += end.since(now);
        let is_due = |at: &Option<Time>| at.is_some_and(|at| at <= end);
        let mut retry_at = self.retry_at.iter();
        self.excluded
            .retain(|_| !retry_at.next().is_some_and(is_due));
        self.retry_at.retain(|at| !is_due(at));
        Ok(end)
    }
}

/// The last moment that there is, which an overflow ends at.
const NEVER: Time = Time::from_nanos(u64::MAX);

#[cfg(test)]
mod tests;
