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

/// Number of workers that the node may call.
fn selectable(node: &Node) -> usize {
    let all = node.workers().select_all(WORKERS);
    all.map_or(0, |all| all.len())
}

#[tokio::test(start_paused = true)]
async fn a_drain_fails_no_call() {
    let cluster = TestCluster::seeded(11);
    let handlers = Arc::new(HeldHandlers::new());
    let tagged = |name: &'static str| {
        let handlers = Arc::clone(&handlers);
        move |builder: NodeBuilder| builder.tag("role", "worker").serve(handlers.router(name))
    };
    let caller = cluster.start("caller", |node| node).await.node();
    let red = cluster.start("red", tagged("red")).await.node();
    let _blue = cluster.start("blue", tagged("blue")).await;
    cluster.eventually(|| selectable(&caller) == 2).await;

    let over = Arc::new(AtomicBool::new(false));
    let call = || call_on(Arc::clone(caller.client()), Arc::clone(&over));
    let callers: Vec<_> = (0..8).map(|_| tokio::spawn(call())).collect();
    cluster.eventually(|| handlers.runs() > 50).await;
    handlers.held.send_replace(true);
    cluster
        .eventually(|| handlers.held_by_red.load(SeqCst) > 0)
        .await;
    let release = async {
        cluster.eventually(|| selectable(&caller) == 1).await;
        handlers.held.send_replace(false);
    };
    let (report, ()) = tokio::join!(red.drain(TEST_TIMEOUT), release);
    assert_eq!(report.remaining, 0, "{report:?}");
    assert!(report.completed > 0, "{report:?}");
    assert_eq!(selectable(&caller), 1, "blue");
    let report = red.shutdown(TEST_TIMEOUT).await;
    assert_eq!(report.cancelled, 0, "{report:?}");
    let so_far = handlers.runs();
    cluster.eventually(|| handlers.runs() > so_far + 50).await;
    over.store(true, SeqCst);

    let (mut calls, mut by_red) = (0, 0);
    for caller in callers {
        let (one, red) = within(caller).await.expect("no panic");
        calls += one;
        by_red += red;
    }
    assert!(by_red > 0, "the one that drained took part before");
    assert_eq!(handlers.runs(), calls, "each ran once");
}

#[tokio::test(start_paused = true)]
async fn a_drained_node_can_take_calls_again() {
    let cluster = TestCluster::seeded(12);
    let nodes = workers(&cluster, 2).await;
    let [caller, drained] = [nodes[0].node(), nodes[1].node()];
    let report = drained.drain(Duration::from_secs(5)).await;
    assert_eq!(report.remaining, 0);
    let has_worker = || caller.workers().select_all(None).is_ok();
    cluster.eventually(|| !has_worker()).await;
    let error = who(&caller).await.expect_err("no worker takes calls");
    assert!(
        matches!(
            error,
            rpcnet_client::ClusterError::Select(
                rpcnet_client::registry::SelectError::NoneReachable { .. }
            )
        ),
        "{error}"
    );
    drained.resume();
    cluster.eventually(has_worker).await;
    let reply = who(&caller).await.expect("a reply");
    assert!(reply.starts_with("w1"), "{reply}");
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_returns_by_its_deadline_while_calls_run() {
    let cluster = TestCluster::seeded(13);
    let caller = cluster.start("caller", |node| node).await.node();
    let hanging = |builder: NodeBuilder| {
        let hang = Router::new().typed("hang", |(): ()| std::future::pending::<()>());
        builder.tag("role", "worker").serve(hang)
    };
    let stuck = cluster.start("stuck", hanging).await.node();
    cluster.eventually(|| selectable(&caller) == 1).await;
    let client = Arc::clone(caller.client());
    let call = tokio::spawn(async move {
        let call = client.call_worker_typed::<_, ()>("hang", &(), WORKERS);
        call.await
    });
    cluster
        .eventually(|| stuck.endpoint().in_flight() == 1)
        .await;
    let (began, limit) = (cluster.elapsed(), Duration::from_secs(2));
    let report = stuck.shutdown(limit).await;
    let took = cluster.elapsed() - began;
    assert!(took <= limit + Duration::from_millis(2), "{took:?}");
    assert_eq!(report.cancelled, 1, "{report:?}");
    assert!(report.left, "{report:?}");
    let error = within(call).await.expect("no panic");
    let error = error.expect_err("the shutdown cut it");
    assert_eq!(error.attempts().len(), 1, "not repeated: it may have run");
    assert!(!error.is_retryable(), "{error}");
}

#[tokio::test(start_paused = true)]
async fn an_idle_node_shuts_down_at_once() {
    let cluster = TestCluster::seeded(14);
    let nodes = workers(&cluster, 2).await;
    let (node, began) = (nodes[1].node(), cluster.elapsed());
    let report = node.drain(Duration::MAX).await;
    assert_eq!(report.remaining, 0);
    let report = node.shutdown(Duration::MAX).await;
    assert!(report.left, "{report:?}");
    let took = cluster.elapsed() - began;
    assert!(took < Duration::from_secs(2), "{took:?}");
}
