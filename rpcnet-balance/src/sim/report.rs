//! Report of a simulation: calls, attempts and figures computed from them.

use std::time::Duration;

use crate::Time;

/// Result of every call, and worker of every attempt, in the order in which they began.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    pub(super) calls: Vec<Call>,
    pub(super) attempts: Vec<Attempt>,
    /// The deadline of each method.
    pub(super) deadlines: Vec<Duration>,
    pub(super) ended: Time,
}

/// Call and its result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Call {
    /// The client.
    pub client: usize,
    /// The method: 0, or the number of a [method](super::FleetScenario::with_method).
    pub method: usize,
    /// The time when it began.
    pub began: Time,
    /// Time from its beginning to its end.
    pub took: Duration,
    /// The result.
    pub outcome: CallOutcome,
}

/// Result of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum CallOutcome {
    /// A worker replied.
    Answered,
    /// The last possible attempt failed or was rejected.
    Failed,
    /// The deadline was exceeded.
    DeadlineExceeded,
    /// There was no worker to pick.
    NoWorker,
}

/// Attempt of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Attempt {
    /// The index of its call in the list of calls.
    pub call: usize,
    /// The worker.
    pub worker: usize,
    /// The time when it began.
    pub began: Time,
    /// The kind of attempt.
    pub kind: AttemptKind,
}

/// Kind of an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum AttemptKind {
    /// The first attempt of a call.
    First,
    /// A retry after an attempt that did not succeed.
    Retry,
    /// A hedge, because the first attempt took long.
    Hedge,
}

impl Report {
    /// All calls.
    #[must_use]
    pub fn calls(&self) -> &[Call] {
        &self.calls
    }

    /// All attempts.
    #[must_use]
    pub fn attempts(&self) -> &[Attempt] {
        &self.attempts
    }

    /// The report of one method: its calls and their attempts.
    #[must_use]
    pub fn of_method(&self, method: usize) -> Self {
        let mut new_indices = vec![None; self.calls.len()];
        let mut calls = Vec::new();
        for (index, call) in self.calls.iter().enumerate() {
            if call.method == method {
                new_indices[index] = Some(calls.len());
                calls.push(*call);
            }
        }
        let attempts = self.attempts.iter();
        let attempts = attempts.filter_map(|attempt| {
            let call = new_indices[attempt.call]?;
            Some(Attempt { call, ..*attempt })
        });
        Self {
            attempts: attempts.collect(),
            calls,
            deadlines: self.deadlines.clone(),
            ended: self.ended,
        }
    }

    /// The time when the last call had ended.
    #[must_use]
    pub const fn ended(&self) -> Time {
        self.ended
    }

    /// The whole run.
    #[must_use]
    pub fn all(&self) -> Span<'_> {
        self.between(Duration::ZERO, Duration::MAX)
    }

    /// The calls that began at `from` or later and before `until`.
    #[must_use]
    pub fn between(&self, from: Duration, until: Duration) -> Span<'_> {
        let (from, until) = (Time::from(from), Time::from(until));
        let calls = |time| self.calls.partition_point(|call| call.began < time);
        let attempts = |time| self.attempts.partition_point(|it| it.began < time);
        let until = until.max(from);
        Span {
            report: self,
            from,
            until: until.min(self.ended.max(from)),
            calls: &self.calls[calls(from)..calls(until)],
            attempts: &self.attempts[attempts(from)..attempts(until)],
        }
    }

    /// Time from `after` until the calls are fast for good: from then on, no window of 250 ms until
    /// `until` has a quantile `q` above `bound`. `None` if the last window has.
    #[must_use]
    pub fn recovery(
        &self,
        after: Duration,
        until: Duration,
        q: f64,
        bound: Duration,
    ) -> Option<Duration> {
        let mut recovered = after;
        let mut from = after;
        while from + WINDOW <= until {
            if self.between(from, from + WINDOW).latency(q) > bound {
                recovered = from + WINDOW;
            }
            from += WINDOW;
        }
        (recovered < from).then(|| recovered - after)
    }
}

/// Calls and attempts that began in an interval.
#[derive(Debug, Clone, Copy)]
pub struct Span<'a> {
    report: &'a Report,
    from: Time,
    until: Time,
    calls: &'a [Call],
    attempts: &'a [Attempt],
}

impl<'a> Span<'a> {
    /// The calls.
    #[must_use]
    pub const fn calls(&self) -> &'a [Call] {
        self.calls
    }

    /// The attempts.
    #[must_use]
    pub const fn attempts(&self) -> &'a [Attempt] {
        self.attempts
    }

    /// The number of calls without a reply.
    #[must_use]
    pub fn failed(&self) -> usize {
        let failed = self
            .calls
            .iter()
            .filter(|call| call.outcome != CallOutcome::Answered);
        failed.count()
    }

    /// The latency that the fraction `q` of the calls, from 0 to 1, did not exceed, exactly; zero
    /// without calls. A failed call counts with the deadline, however early it failed.
    #[must_use]
    pub fn latency(&self, q: f64) -> Duration {
        let counted = |call: &Call| match call.outcome {
            CallOutcome::Answered => call.took,
            _ => self.report.deadlines[call.method].max(call.took),
        };
        quantile(self.calls.iter().map(counted).collect(), q)
    }

    /// Like [`latency`](Self::latency), for the calls with a reply only.
    #[must_use]
    pub fn answered_latency(&self, q: f64) -> Duration {
        let answered = self
            .calls
            .iter()
            .filter(|call| call.outcome == CallOutcome::Answered);
        quantile(answered.map(|call| call.took).collect(), q)
    }

    /// The fraction of the attempts that went to a worker, 0 to 1; 0 without attempts.
    #[must_use]
    pub fn share_of(&self, worker: usize) -> f64 {
        let there = self.attempts.iter().filter(|it| it.worker == worker);
        there.count() as f64 / self.attempts.len().max(1) as f64
    }

    /// Attempts for each call beyond the first, on average.
    #[must_use]
    pub fn extra_attempts(&self) -> f64 {
        let extra = self
            .attempts
            .iter()
            .filter(|it| it.kind != AttemptKind::First);
        extra.count() as f64 / self.calls.len().max(1) as f64
    }

    /// Replies a second in this interval, whenever their calls began.
    #[must_use]
    pub fn goodput_per_s(&self) -> f64 {
        let in_span = |call: &&Call| {
            let ended = call.began + call.took;
            call.outcome == CallOutcome::Answered && ended >= self.from && ended < self.until
        };
        let answered = self.report.calls.iter().filter(in_span).count();
        answered as f64 / self.until.since(self.from).as_secs_f64().max(1e-9)
    }
}

/// Quantile by nearest rank; zero without latencies.
fn quantile(mut latencies: Vec<Duration>, q: f64) -> Duration {
    if latencies.is_empty() {
        return Duration::ZERO;
    }
    let rank = (q * latencies.len() as f64).ceil() as usize;
    let index = rank.clamp(1, latencies.len()) - 1;
    *latencies.select_nth_unstable(index).1
}

/// Long enough for some calls, short enough to find the time of recovery.
const WINDOW: Duration = Duration::from_millis(250);

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    /// A call every 10 ms for 2 s that takes `took` by when it begins; `None` fails at once.
    fn report(took: impl Fn(u64) -> Option<u64>) -> Report {
        let call = |began: u64| Call {
            client: 0,
            method: 0,
            began: ms(began).into(),
            took: ms(took(began).unwrap_or(0)),
            outcome: took(began).map_or(CallOutcome::Failed, |_| CallOutcome::Answered),
        };
        let calls: Vec<_> = (0..200).map(|n| call(10 * n)).collect();
        let attempt = |(n, call): (usize, &Call)| Attempt {
            call: n,
            worker: n % 4,
            began: call.began,
            kind: if n < 20 {
                AttemptKind::Retry
            } else {
                AttemptKind::First
            },
        };
        Report {
            attempts: calls.iter().enumerate().map(attempt).collect(),
            calls,
            deadlines: vec![ms(1_000), ms(5_000)],
            ended: ms(2_000).into(),
        }
    }

    #[test]
    fn figures_are_those_of_the_calls_that_began_in_the_span() {
        let report = report(|began| Some(if began < 1_000 { 5 } else { 7 }));
        assert_eq!(report.all().calls().len(), 200);
        assert_eq!(report.all().latency(0.5), ms(5));
        assert_eq!(report.all().latency(0.51), ms(7));
        let late = report.between(ms(1_000), ms(1_500));
        assert_eq!((late.calls().len(), late.latency(0.0)), (50, ms(7)));
        assert_eq!(report.all().extra_attempts(), 0.1);
        assert_eq!(
            (late.extra_attempts(), report.all().share_of(3)),
            (0.0, 0.25)
        );
        // The last call of the first half ends in the second.
        assert_eq!(report.between(ms(0), ms(1_000)).goodput_per_s(), 100.0);
        assert_eq!(report.between(ms(500), ms(500)).latency(0.5), ms(0));
    }

    #[test]
    fn a_failed_call_counts_with_the_deadline() {
        let report = report(|began| (began != 500).then_some(5));
        assert_eq!(report.all().failed(), 1);
        assert_eq!(report.all().latency(1.0), ms(1_000));
        assert_eq!(report.all().latency(0.99), ms(5));
        assert_eq!(report.all().answered_latency(1.0), ms(5));
    }

    #[test]
    fn of_method_selects_the_calls_of_one_method() {
        let mut report = report(|began| (began != 500).then_some(5));
        report.calls[50].method = 1;
        report.calls[60].method = 1;
        let (others, of_it) = (report.of_method(0), report.of_method(1));
        assert_eq!((others.calls().len(), of_it.calls().len()), (198, 2));
        assert_eq!((others.all().failed(), of_it.all().failed()), (0, 1));
        // A failed call counts with the deadline of its method.
        assert_eq!(of_it.all().latency(1.0), ms(5_000));
        let attempts = of_it.attempts().iter();
        let pairs: Vec<_> = attempts.map(|it| (it.call, it.worker)).collect();
        assert_eq!(pairs, [(0, 50 % 4), (1, 60 % 4)]);
    }

    #[test]
    fn recovery_ends_with_the_last_slow_window() {
        let recovery = |report: &Report| report.recovery(ms(500), ms(2_000), 0.9, ms(10));
        assert_eq!(recovery(&report(|_| Some(5))), Some(ms(0)));
        let slow = |from, to| report(move |at| Some(if (from..to).contains(&at) { 50 } else { 5 }));
        assert_eq!(recovery(&slow(0, 700)), Some(ms(250)));
        assert_eq!(recovery(&slow(900, 950)), Some(ms(500)));
        assert_eq!(recovery(&slow(0, 5_000)), None);
    }
}
