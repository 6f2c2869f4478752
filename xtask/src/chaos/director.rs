//! Director: makes calls at a fixed rate and counts their outcomes.

use std::{
    collections::BTreeMap,
    error::Error,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant},
};

use bytes::Bytes;
use parking_lot::Mutex;
use rpcnet_client::{ClusterClient, ClusterError, Node};
use tokio::{runtime::Handle, time::sleep};
use xtask_harness::Latencies;

use super::{
    call_report::{
        CallCounts, DirectorReport, Failure, FailureCount, REFUSED_MAX, Ran, is_idempotent,
    },
    node::{self, BODY_BYTES, IDEMPOTENT, Link, NOT_IDEMPOTENT},
    protocol::{Notice, Order},
};

/// Runs the director until it is told to finish.
pub(crate) async fn run_director(link: &mut Link) -> Result<(), Box<dyn Error + Send + Sync>> {
    let Some(Order::Start(setup)) = link.next_order().await else {
        return Err("the first order of the parent is no setup".into());
    };
    let node = node::start_caller(&setup).await?;
    let notices = link.notices();
    notices.send(Notice::Ready { addr: node.addr() }).await;
    let mut load = None;
    while let Some(order) = link.next_order().await {
        match order {
            Order::See { workers } => {
                wait_for_workers(&node, workers).await?;
                notices.send(Notice::Seen).await;
            }
            Order::Load { calls_per_s } => load = Some(LoadGenerator::begin(&node, calls_per_s)?),
            Order::Finish => break,
            Order::Start(_) | Order::Attack { .. } | Order::Drain | Order::Resume => {}
        }
    }
    let report = match load {
        Some(load) => load.finish().await,
        None => DirectorReport::default(),
    };
    notices.send(Notice::Finished(report)).await;
    node.shutdown(SHUTDOWN_TIMEOUT).await;
    Ok(())
}

/// Waits until there are so many workers to call.
async fn wait_for_workers(node: &Node, workers: usize) -> Result<(), Box<dyn Error + Send + Sync>> {
    while node.workers().workers(Some(WORKERS))?.len() < workers {
        sleep(POLL_INTERVAL).await;
    }
    Ok(())
}

/// Calls that begin at a fixed rate.
struct LoadGenerator {
    shared: Arc<LoadState>,
    /// Returns how many calls were due.
    pacing: thread::JoinHandle<u64>,
}

struct LoadState {
    client: Arc<ClusterClient>,
    begin: Instant,
    stop: AtomicBool,
    in_flight: AtomicU64,
    not_begun: AtomicU64,
    stats: Mutex<CallStats>,
}

#[derive(Default)]
struct CallStats {
    idempotent: CallCounts,
    others: CallCounts,
    wrong: u64,
    latencies: Latencies,
    idempotent_latencies: Latencies,
    failures: BTreeMap<Failure, (u64, String)>,
    refused: Vec<u64>,
    answered_by: BTreeMap<String, u64>,
}

impl LoadGenerator {
    fn begin(node: &Node, calls_per_s: u32) -> std::io::Result<Self> {
        let shared = Arc::new(LoadState {
            client: Arc::clone(node.client()),
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

    /// Ends the load and waits for the last calls; their report.
    async fn finish(self) -> DirectorReport {
        self.shared.stop.store(true, Relaxed);
        let answered_in_time = self.shared.stats.lock().answered();
        let joined = tokio::task::spawn_blocking(move || self.pacing.join()).await;
        let joined = joined.ok().and_then(Result::ok);
        let due = joined.expect("pacing does not panic");
        // Each has a deadline.
        while self.shared.in_flight.load(Relaxed) > 0 {
            sleep(Duration::from_millis(1)).await;
        }
        let account = std::mem::take(&mut *self.shared.stats.lock());
        let stats = self.shared.client.stats();
        DirectorReport {
            not_begun: self.shared.not_begun.load(Relaxed),
            due,
            answered_in_time,
            extra_attempts: stats.extra_attempts(),
            granted: stats.extra_attempts() - stats.retries_transparent,
            seconds: self.shared.begin.elapsed().as_secs() + 1,
            ..account.report()
        }
    }
}

impl LoadState {
    /// Begins calls, evenly spaced, until told to stop. A thread sleeps for microseconds where a
    /// timer of the runtime knows milliseconds only, and would bunch them. Returns how many were
    /// due.
    fn issue_calls(self: Arc<Self>, calls_per_s: u32, runtime: &Handle) -> u64 {
        let mut call = 0_u64;
        while !self.stop.load(Relaxed) {
            let due = self.begin + Duration::from_secs_f64(call as f64 / f64::from(calls_per_s));
            thread::sleep(due.saturating_duration_since(Instant::now()));
            if self.in_flight.load(Relaxed) < IN_FLIGHT_MAX {
                self.in_flight.fetch_add(1, Relaxed);
                runtime.spawn(Arc::clone(&self).call(call, due));
            } else {
                self.not_begun.fetch_add(1, Relaxed);
            }
            call += 1;
        }
        call
    }

    /// Makes a call. Its latency counts from its due time.
    async fn call(self: Arc<Self>, call: u64, due: Instant) {
        let idempotent = is_idempotent(call);
        let method = if idempotent {
            IDEMPOTENT
        } else {
            NOT_IDEMPOTENT
        };
        let mut body = [0; BODY_BYTES];
        body[..8].copy_from_slice(&call.to_le_bytes());
        let body = Bytes::copy_from_slice(&body);
        let answer = self.client.call_worker(method, body, Some(WORKERS)).await;
        let latency = due.elapsed();
        let second = due.duration_since(self.begin).as_secs();
        let mut account = self.stats.lock();
        match answer {
            Ok(answer) => account.on_success(call, &answer, latency),
            Err(error) => account.on_failure(call, &error, second),
        }
        drop(account);
        self.in_flight.fetch_sub(1, Relaxed);
    }
}

impl CallStats {
    fn answered(&self) -> u64 {
        self.idempotent.ok + self.others.ok
    }

    fn counts(&mut self, call: u64) -> &mut CallCounts {
        if is_idempotent(call) {
            &mut self.idempotent
        } else {
            &mut self.others
        }
    }

    fn on_success(&mut self, call: u64, answer: &[u8], latency: Duration) {
        self.counts(call).ok += 1;
        self.latencies.record(latency);
        if is_idempotent(call) {
            self.idempotent_latencies.record(latency);
        }
        if node::call_number(answer) != Some(call) {
            self.wrong += 1;
        }
        let worker = String::from_utf8_lossy(answer.get(8..).unwrap_or_default());
        match self.answered_by.get_mut(&*worker) {
            Some(answers) => *answers += 1,
            None => drop(self.answered_by.insert(worker.into_owned(), 1)),
        }
    }

    fn on_failure(&mut self, call: u64, error: &ClusterError, second: u64) {
        self.counts(call).failed += 1;
        let failure = Failure::from_error(error, is_idempotent(call), second);
        if failure.processed == Ran::No && self.refused.len() < REFUSED_MAX {
            self.refused.push(call);
        }
        let counted = self.failures.entry(failure);
        counted.or_insert_with(|| (0, error.to_string())).0 += 1;
    }

    fn report(self) -> DirectorReport {
        let failures = self.failures.into_iter();
        DirectorReport {
            idempotent: self.idempotent,
            others: self.others,
            wrong: self.wrong,
            p50_us: self.latencies.p50_us(),
            p99_us: self.latencies.p99_us(),
            max_us: self.latencies.max_us(),
            idempotent_p99_us: self.idempotent_latencies.p99_us(),
            idempotent_max_us: self.idempotent_latencies.max_us(),
            failures: failures
                .map(|(failure, (count, example))| FailureCount {
                    failure,
                    count,
                    example: example.chars().take(EXAMPLE_CHARS_MAX).collect(),
                })
                .collect(),
            refused: self.refused,
            answered_by: self.answered_by,
            ..DirectorReport::default()
        }
    }
}

/// Filter of the workers that the director calls.
const WORKERS: &str = "role=worker";
/// More calls than begin within the deadline of a call at the usual rates.
const IN_FLIGHT_MAX: u64 = 50_000;
/// Most characters of an error text: a report with many errors has to fit into a line.
const EXAMPLE_CHARS_MAX: usize = 300;
const POLL_INTERVAL: Duration = Duration::from_millis(10);
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(3);
