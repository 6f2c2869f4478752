//! Rolling restart: workers under load shut down and come back on their ports, one after the
//! other.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};

use rpcnet_client::{TransportConfig, WorkerCallOptions};

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

/// Suspects may take their time to say that they live: a machine that is slow for a while must not
/// look like dead nodes. And a worker that drains is heard of in time.
fn slow_tolerant_builder(name: &str) -> NodeBuilder {
    let transport = TransportConfig::lan()
        .with_drain_grace(Duration::from_secs(2))
        .with_connect_timeout(TEST_TIMEOUT);
    builder(name)
        .cluster_config(ClusterConfig::local().with_refute_time(TEST_TIMEOUT))
        .transport_config(transport)
}

fn caller(name: &str) -> NodeBuilder {
    slow_tolerant_builder(name).client_config(|config| {
        let config = config
            .with_timeout(TEST_TIMEOUT)
            .with_idempotent([IDEMPOTENT]);
        config.with_connect_timeout(TEST_TIMEOUT)
    })
}

fn worker_in_life(name: &'static str, life: usize, ledger: &Arc<CallLedger>) -> NodeBuilder {
    let work = move |n: u32| async move {
        sleep(Duration::from_millis(5)).await;
        (name.to_owned(), life, n)
    };
    let ledger = Arc::clone(ledger);
    let book = move |n: u32| {
        ledger.booked.fetch_add(1, SeqCst);
        work(n)
    };
    let methods = Router::new()
        .typed(IDEMPOTENT, work)
        .typed(NOT_IDEMPOTENT, book);
    slow_tolerant_builder(name)
        .tag("role", "worker")
        .serve(methods)
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

#[tokio::test(flavor = "multi_thread")]
async fn a_rolling_restart_fails_no_call_of_two_clients() {
    let ledger = Arc::new(CallLedger::default());
    let first = start(caller("first"), &[]).await;
    let seed = std::slice::from_ref(&first);
    let second = start(caller("second"), seed).await;
    let mut workers = Vec::new();
    for name in WORKERS {
        workers.push(start(worker_in_life(name, 1, &ledger), seed).await);
    }
    let clients = [first.clone(), second];
    until("all are known", || {
        clients.iter().all(|client| {
            let all = client.workers().select_all(Some("role=worker"));
            all.is_ok_and(|all| all.len() == WORKERS.len())
        })
    })
    .await;
    let mut calling = Vec::new();
    for (number, client) in clients.iter().enumerate() {
        for method in [IDEMPOTENT, NOT_IDEMPOTENT].repeat(CALLS_IN_FLIGHT) {
            let calls = call_until_stopped(client.clone(), number, method, Arc::clone(&ledger));
            calling.push((method, tokio::spawn(calls)));
        }
    }
    // From here on all are connected to all.
    until("all take part", || {
        (0..WORKERS.len()).all(|worker| ledger.takes_part(1, worker))
    })
    .await;
    for (index, name) in WORKERS.into_iter().enumerate() {
        let worker = workers.remove(0);
        let addr = worker.addr();
        let report = within(worker.shutdown(TEST_TIMEOUT)).await;
        assert_eq!(
            (report.rejected, report.cancelled),
            (0, 0),
            "{name}: {report:?}"
        );
        drop(worker);
        let restart = async {
            loop {
                let again = worker_in_life(name, 2, &ledger).bind(addr.to_string());
                match again.seeds([first.addr().to_string()]).start().await {
                    Ok(node) => break node,
                    Err(error) => assert!(error.is_retryable(), "{error}"),
                }
                sleep(Duration::from_millis(5)).await;
            }
        };
        workers.push(within(restart).await);
        until("it takes its part again", || ledger.takes_part(2, index)).await;
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
