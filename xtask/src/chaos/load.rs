//! Load: calls that begin at a fixed rate, and their outcomes.

use std::{
    collections::BTreeMap,
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant},
};

use futures::future::BoxFuture;
use parking_lot::Mutex;
use rpcnet_client::ClusterClient;
use tokio::{runtime::Handle, time::sleep};
use xtask_report::Latencies;

use super::call_report::{
    CallReport, FailedCall, Failure, FailureCount, LatencyFigures, Ran, UNPROCESSED_MAX,
    is_idempotent,
};

/// Calls that a load consists of.
pub(super) trait CallSource: Send + Sync + 'static {
    /// The client that makes the calls.
    fn client(&self) -> &ClusterClient;

    /// Number of the call with this index. Even numbers are those of idempotent calls.
    fn number(&self, index: u64) -> u64;

    /// Makes the call of this number.
    fn call(&self, number: u64) -> BoxFuture<'_, Result<Answer, FailedCall>>;
}

/// Answer to a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Answer {
    /// It is the answer to this call.
    pub(super) is_right: bool,
    /// Worker that answered.
    pub(super) worker: String,
    /// Version of the worker, if the service is typed.
    pub(super) version: Option<u32>,
}

/// Calls that begin at a fixed rate until the load ends.
pub(super) struct LoadGenerator {
    shared: Arc<LoadState>,
    /// Returns how many calls were due.
    pacing: thread::JoinHandle<u64>,
}

struct LoadState {
    source: Box<dyn CallSource>,
    begin: Instant,
    stop: AtomicBool,
    in_flight: AtomicU64,
    not_begun: AtomicU64,
    stats: Mutex<CallStats>,
}

/// Outcomes of calls; latencies and failures are not yet in the report.
#[derive(Default)]
struct CallStats {
    report: CallReport,
    latencies: Latencies,
    idempotent_latencies: Latencies,
    failures: BTreeMap<Failure, (u64, String)>,
}

impl LoadGenerator {
    /// Begins to make calls.
    pub(super) fn begin(source: Box<dyn CallSource>, calls_per_s: u32) -> io::Result<Self> {
        let shared = Arc::new(LoadState {
            source,
            begin: Instant::now(),
            stop: AtomicBool::new(false),
            in_flight: AtomicU64::new(0),
            not_begun: AtomicU64::new(0),
            stats: Mutex::default(),
        });
        let (paced, runtime) = (Arc::clone(&shared), Handle::current());
        let pacing = thread::Builder::new()
            .name("pacing".into())
            .spawn(move || paced.issue_calls(calls_per_s, &runtime))?;
        Ok(Self { shared, pacing })
    }

    /// Report of the calls that ended since this was last asked for; none if there were none.
    pub(super) fn take(&self) -> Option<CallReport> {
        let report = std::mem::take(&mut *self.shared.stats.lock()).report();
        Some(report).filter(|report| report.ok() + report.failed() > 0)
    }

    /// Ends the load and waits for the last calls; their report.
    pub(super) async fn finish(self) -> CallReport {
        self.shared.stop.store(true, Relaxed);
        let answered_in_time = self.shared.stats.lock().report.ok();
        let joined = tokio::task::spawn_blocking(move || self.pacing.join()).await;
        let joined = joined.ok().and_then(Result::ok);
        let due = joined.expect("pacing does not panic");
        // Each has a deadline.
        while self.shared.in_flight.load(Relaxed) > 0 {
            sleep(Duration::from_millis(1)).await;
        }
        let outcomes = std::mem::take(&mut *self.shared.stats.lock());
        let stats = self.shared.source.client().stats();
        CallReport {
            not_begun: self.shared.not_begun.load(Relaxed),
            due,
            answered_in_time,
            extra_attempts: stats.extra_attempts(),
            granted: stats.extra_attempts() - stats.retries_transparent,
            seconds: self.shared.begin.elapsed().as_secs() + 1,
            ..outcomes.report()
        }
    }
}

impl LoadState {
    /// Begins calls, evenly spaced, until told to stop. A thread sleeps for microseconds where a
    /// timer of the runtime knows milliseconds only, and would bunch them. Returns how many were
    /// due.
    fn issue_calls(self: Arc<Self>, calls_per_s: u32, runtime: &Handle) -> u64 {
        let mut calls = 0_u64;
        while !self.stop.load(Relaxed) {
            let due = self.begin + Duration::from_secs_f64(calls as f64 / f64::from(calls_per_s));
            thread::sleep(due.saturating_duration_since(Instant::now()));
            if self.in_flight.load(Relaxed) < IN_FLIGHT_MAX {
                self.in_flight.fetch_add(1, Relaxed);
                runtime.spawn(Arc::clone(&self).call(self.source.number(calls), due));
            } else {
                self.not_begun.fetch_add(1, Relaxed);
            }
            calls += 1;
        }
        calls
    }

    /// Makes a call. Its latency counts from its due time.
    async fn call(self: Arc<Self>, call: u64, due: Instant) {
        let answer = self.source.call(call).await;
        let latency = due.elapsed();
        let second = due.duration_since(self.begin).as_secs();
        let mut stats = self.stats.lock();
        match answer {
            Ok(answer) => stats.on_success(call, answer, latency),
            Err(error) => stats.on_failure(call, &error, second),
        }
        drop(stats);
        self.in_flight.fetch_sub(1, Relaxed);
    }
}

impl CallStats {
    fn on_success(&mut self, call: u64, answer: Answer, latency: Duration) {
        self.report.counts(call).ok += 1;
        self.latencies.record(latency);
        if is_idempotent(call) {
            self.idempotent_latencies.record(latency);
        }
        self.report.wrong += u64::from(!answer.is_right);
        *self.report.answered_by.entry(answer.worker).or_default() += 1;
        if let Some(version) = answer.version {
            self.report.answered_by_version.add_one(version);
        }
    }

    fn on_failure(&mut self, call: u64, error: &FailedCall, second: u64) {
        self.report.counts(call).failed += 1;
        let failure = error.failure(is_idempotent(call), second);
        if failure.processed == Ran::No && self.report.unprocessed.len() < UNPROCESSED_MAX {
            self.report.unprocessed.push(call);
        }
        let counted = self.failures.entry(failure);
        counted.or_insert_with(|| (0, error.text.clone())).0 += 1;
    }

    fn report(self) -> CallReport {
        let failures = self.failures.into_iter();
        let failures = failures.map(|(failure, (count, example))| FailureCount {
            failure,
            count,
            example: example.chars().take(EXAMPLE_CHARS_MAX).collect(),
        });
        CallReport {
            latencies: LatencyFigures {
                p50_us: self.latencies.p50_us(),
                p99_us: self.latencies.p99_us(),
                max_us: self.latencies.max_us(),
                idempotent_p99_us: self.idempotent_latencies.p99_us(),
                idempotent_max_us: self.idempotent_latencies.max_us(),
            },
            failures: failures.collect(),
            ..self.report
        }
    }
}

/// More calls than begin within the deadline of a call at the usual rates.
const IN_FLIGHT_MAX: u64 = 50_000;
/// Most characters of an error text: a report with many errors has to fit into a line.
const EXAMPLE_CHARS_MAX: usize = 300;
