//! Drain and shutdown of nodes under load.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};

use rpcnet_client::ClusterClient;
use tokio::sync::watch;

use super::*;

const WORKERS: Option<&str> = Some("role=worker");

/// Handlers that wait while they are held, so that calls run when a drain begins.
struct HeldHandlers {
    held: watch::Sender<bool>,
    runs: Arc<AtomicUsize>,
    held_by_red: Arc<AtomicUsize>,
}

impl HeldHandlers {
    fn new() -> Self {
        Self {
            held: watch::Sender::new(false),
            runs: Arc::default(),
            held_by_red: Arc::default(),
        }
    }

    fn router(&self, name: &'static str) -> Router {
        let (runs, held) = (Arc::clone(&self.runs), self.held.subscribe());
        let held_by_red = Arc::clone(&self.held_by_red);
        Router::new().typed("held", move |n: u32| {
            let (runs, mut held) = (Arc::clone(&runs), held.clone());
            let held_by_red = Arc::clone(&held_by_red);
            async move {
                runs.fetch_add(1, SeqCst);
                if *held.borrow() && name == "red" {
                    held_by_red.fetch_add(1, SeqCst);
                }
                let released = held.wait_for(|is_held| !is_held).await;
                released.expect("the test has the sender");
                (name.to_owned(), n)
            }
        })
    }

    fn runs(&self) -> usize {
        self.runs.load(SeqCst)
    }
}

/// Calls until it is over: the number of calls, and of those that red served. None fails.
async fn call_on(client: Arc<ClusterClient>, over: Arc<AtomicBool>) -> (usize, usize) {
    let (mut calls, mut by_red) = (0_usize, 0_usize);
    while !over.load(SeqCst) {
        let sent = calls as u32;
        let reply = client.call_worker_typed("held", &sent, WORKERS).await;
        let (name, got): (String, u32) = reply.expect("no call fails");
        assert_eq!(got, sent);
        by_red += usize::from(name == "red");
        calls += 1;
    }
    (calls, by_red)
}

fn workers(node: &Node) -> usize {
    let all = node.workers().select_all(WORKERS);
    all.map_or(0, |all| all.len())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_fails_no_call() {
    let handlers = HeldHandlers::new();
    let caller = start(builder("caller"), &[]).await;
    let tagged = |name| {
        builder(name)
            .tag("role", "worker")
            .serve(handlers.router(name))
    };
    let red = start(tagged("red"), std::slice::from_ref(&caller)).await;
    let blue = start(tagged("blue"), std::slice::from_ref(&caller)).await;
    until("both are known", || workers(&caller) == 2).await;

    let over = Arc::new(AtomicBool::new(false));
    let call = || call_on(Arc::clone(caller.client()), Arc::clone(&over));
    let callers: Vec<_> = (0..8).map(|_| tokio::spawn(call())).collect();
    until("calls flow", || handlers.runs() > 50).await;
    handlers.held.send_replace(true);
    until("calls run there", || handlers.held_by_red.load(SeqCst) > 0).await;
    let release = async {
        until("the drain is known", || workers(&caller) == 1).await;
        handlers.held.send_replace(false);
    };
    let (report, ()) = within(async { tokio::join!(red.drain(TEST_TIMEOUT), release) }).await;
    assert_eq!(report.remaining, 0, "{report:?}");
    assert!(report.completed > 0, "{report:?}");
    assert_eq!(workers(&caller), 1, "blue");
    let report = within(red.shutdown(TEST_TIMEOUT)).await;
    assert_eq!(report.cancelled, 0, "{report:?}");
    let so_far = handlers.runs();
    until("calls flow on", || handlers.runs() > so_far + 50).await;
    over.store(true, SeqCst);

    let (mut calls, mut by_red) = (0, 0);
    for caller in callers {
        let (one, red) = within(caller).await.expect("no panic");
        calls += one;
        by_red += red;
    }
    assert!(by_red > 0, "the one that drained took part before");
    assert_eq!(handlers.runs(), calls, "each ran once");
    drop(blue);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drained_node_can_take_calls_again() {
    let nodes = cluster(2).await;
    let report = within(nodes[1].drain(Duration::from_secs(5))).await;
    assert_eq!(report.remaining, 0);
    until("no worker is left", || {
        nodes[0].workers().select_all(None).is_err()
    })
    .await;
    let error = who(&nodes[0]).await.expect_err("no worker takes calls");
    assert!(
        matches!(
            error,
            rpcnet_client::ClusterError::Select(
                rpcnet_client::registry::SelectError::NoneReachable { .. }
            )
        ),
        "{error}"
    );
    nodes[1].resume();
    until("it is back", || nodes[0].workers().select_all(None).is_ok()).await;
    let reply = within(who(&nodes[0])).await.expect("a reply");
    assert!(reply.starts_with("w1"), "{reply}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shutdown_returns_by_its_deadline_while_calls_run() {
    let caller = start(builder("caller"), &[]).await;
    let stuck = builder("stuck")
        .tag("role", "worker")
        .serve(Router::new().typed("hang", |(): ()| std::future::pending::<()>()));
    let stuck = start(stuck, std::slice::from_ref(&caller)).await;
    until("it is known", || caller.workers().select_all(None).is_ok()).await;
    let client = Arc::clone(caller.client());
    let call = tokio::spawn(async move {
        client
            .call_worker_typed::<_, ()>("hang", &(), Some("role=worker"))
            .await
    });
    until("the call runs", || stuck.endpoint().in_flight() == 1).await;
    // Far less than it runs; `within` bounds it.
    let report = within(stuck.shutdown(Duration::from_secs(2))).await;
    assert_eq!(report.cancelled, 1, "{report:?}");
    assert!(report.left, "{report:?}");
    let error = within(call).await.expect("no panic");
    let error = error.expect_err("the shutdown cut it");
    assert_eq!(error.attempts().len(), 1, "not repeated: it may have run");
    assert!(!error.is_retryable(), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_node_shuts_down_at_once() {
    let nodes = cluster(2).await;
    let report = within(nodes[1].drain(Duration::MAX)).await;
    assert_eq!(report.remaining, 0);
    let report = within(nodes[1].shutdown(Duration::MAX)).await;
    assert!(report.left, "{report:?}");
}
