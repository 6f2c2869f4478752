//! Rolling restart: workers under load shut down and come back on their ports, one after the
//! other.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};

use rpcnet_client::WorkerCallOptions;

use super::*;

const WORKERS: [&str; 3] = ["w0", "w1", "w2"];
const CLIENTS: usize = 2;
const LIVES: usize = 2;
/// May run twice, and is tried again.
const IDEMPOTENT: &str = "look";
/// May not run twice, and has one attempt: it fails if a worker rejects it.
const NOT_IDEMPOTENT: &str = "book";
/// Calls at a time of each client and each kind.
const CALLS_IN_FLIGHT: usize = 3;
/// Calls by which a worker takes its part.
const CALLS_TO_TAKE_PART: usize = 20;

/// Counts of calls, read while calls go on.
#[derive(Default)]
struct CallLedger {
    is_stopped: AtomicBool,
    /// Handlers of calls that may not run twice.
    booked: AtomicUsize,
    /// Calls of each client that each life of each worker has answered.
    answered: [[[AtomicUsize; WORKERS.len()]; LIVES]; CLIENTS],
}

impl CallLedger {
    /// Whether every client has calls answered by a worker in this life.
    fn takes_part(&self, life: usize, worker: usize) -> bool {
        let of =
            |client: &[[AtomicUsize; WORKERS.len()]; LIVES]| client[life - 1][worker].load(SeqCst);
        self.answered
            .iter()
            .all(|client| of(client) > CALLS_TO_TAKE_PART)
    }
}

fn caller(builder: NodeBuilder) -> NodeBuilder {
    builder.client_config(|config| config.with_idempotent([IDEMPOTENT]))
}

/// Builder of a worker in each of its lives.
fn worker_of(
    name: &'static str,
    ledger: &Arc<CallLedger>,
) -> impl Fn(NodeBuilder) -> NodeBuilder + Send + Sync + 'static {
    let (ledger, lives) = (Arc::clone(ledger), AtomicUsize::new(0));
    move |builder| {
        let life = lives.fetch_add(1, SeqCst) + 1;
        let work = move |n: u32| async move {
            sleep(Duration::from_millis(5)).await;
            (name.to_owned(), life, n)
        };
        let ledger = Arc::clone(&ledger);
        let book = move |n: u32| {
            ledger.booked.fetch_add(1, SeqCst);
            work(n)
        };
        let methods = Router::new()
            .typed(IDEMPOTENT, work)
            .typed(NOT_IDEMPOTENT, book);
        builder.tag("role", "worker").serve(methods)
    }
}

/// One call after the other; how many.
async fn call_until_stopped(
    node: Node,
    client: usize,
    method: &'static str,
    ledger: Arc<CallLedger>,
) -> usize {
    let attempts = if method == IDEMPOTENT { 5 } else { 1 };
    let options = WorkerCallOptions::new().with_attempts_max(attempts);
    let mut calls = 0;
    while !ledger.is_stopped.load(SeqCst) {
        let sent = calls as u32;
        let answer = node
            .client()
            .call_worker_typed_with(method, &sent, Some("role=worker"), options)
            .await;
        let (name, life, got): (String, usize, u32) =
            answer.unwrap_or_else(|error| panic!("{method} {sent}: {error}"));
        assert_eq!(got, sent);
        let worker = WORKERS.iter().position(|one| *one == name);
        let answered = &ledger.answered[client][life - 1];
        answered[worker.expect("one of three")].fetch_add(1, SeqCst);
        calls += 1;
    }
    calls
}

#[tokio::test(start_paused = true)]
async fn a_rolling_restart_fails_no_call_of_two_clients() {
    let cluster = TestCluster::seeded(31);
    let ledger = Arc::new(CallLedger::default());
    let mut clients = Vec::new();
    for name in ["first", "second"] {
        clients.push(cluster.start(name, caller).await.node());
    }
    let mut workers = Vec::new();
    for name in WORKERS {
        workers.push(cluster.start(name, worker_of(name, &ledger)).await);
    }
    cluster.eventually(|| cluster.has_converged()).await;
    let mut calling = Vec::new();
    for (number, client) in clients.iter().enumerate() {
        for method in [IDEMPOTENT, NOT_IDEMPOTENT].repeat(CALLS_IN_FLIGHT) {
            let calls = call_until_stopped(client.clone(), number, method, Arc::clone(&ledger));
            calling.push((method, tokio::spawn(calls)));
        }
    }
    // From here on all are connected to all.
    let take_part = |life| (0..WORKERS.len()).all(|worker| ledger.takes_part(life, worker));
    cluster.eventually(|| take_part(1)).await;
    for (index, worker) in workers.iter().enumerate() {
        let report = worker.node().shutdown(TEST_TIMEOUT).await;
        let (rejected, cancelled) = (report.rejected, report.cancelled);
        assert_eq!((rejected, cancelled), (0, 0), "{index}: {report:?}");
        worker.restart().await;
        cluster.eventually(|| ledger.takes_part(2, index)).await;
    }
    ledger.is_stopped.store(true, SeqCst);
    let mut booked = 0;
    for (method, calls) in calling {
        let calls = within(calls).await.expect("no call fails");
        assert!(calls > 0);
        booked += if method == NOT_IDEMPOTENT { calls } else { 0 };
    }
    assert_eq!(ledger.booked.load(SeqCst), booked, "each ran once");
}
