//! Load reports of workers, and a balancer that uses them.

use std::num::NonZeroUsize;

use parking_lot::Mutex;
use rpcnet_client::{
    RpcClient, RpcError,
    balance::{Outcome, OutcomeKind, PickContext, ReportedLoad, View},
};
use tokio::{sync::Semaphore, task::JoinHandle};

use super::*;

/// Picks a worker that is not busy, with the fewest calls in flight; records outcomes.
#[derive(Debug, Default)]
struct LeastReportedLoad {
    outcomes: Mutex<Vec<(OutcomeKind, Option<ReportedLoad>)>>,
}

impl Balancer for LeastReportedLoad {
    fn pick(&self, view: &View, cx: &PickContext<'_>) -> Option<usize> {
        (0..view.len())
            .filter(|&index| cx.allows(&view[index]))
            .min_by_key(|&index| {
                let load = view[index].reported_load();
                load.map(|load| (load.busy, load.in_flight))
            })
    }

    fn on_outcome(&self, view: &View, index: usize, outcome: &Outcome) {
        if outcome.reported_load.is_some() {
            let kept = view[index].reported_load();
            assert_eq!(kept, outcome.reported_load, "one call at a time");
        }
        self.outcomes
            .lock()
            .push((outcome.kind, outcome.reported_load));
    }
}

async fn cluster() -> (TestCluster, Arc<LeastReportedLoad>) {
    let balancer = Arc::new(LeastReportedLoad::default());
    let cluster = TestCluster::with_balancer(Arc::clone(&balancer) as Arc<_>, |config| config);
    (cluster.await, balancer)
}

/// A method that waits for a gate, and one that ends at once.
fn gated_router(name: &str) -> (Router, Arc<Semaphore>) {
    let gate = Arc::new(Semaphore::new(0));
    let opened = Arc::clone(&gate);
    let router = identify(name).raw("wait", move |_, body| {
        let opened = Arc::clone(&opened);
        async move {
            opened.acquire().await.expect("it stays").forget();
            Ok(body)
        }
    });
    (router, gate)
}

/// Calls of another client that wait at a worker.
struct OtherClient {
    connection: RpcClient,
    calls: Vec<JoinHandle<Result<Bytes, RpcError>>>,
}

impl OtherClient {
    async fn connect(cluster: &TestCluster, worker: &RpcServer, name: &str) -> Self {
        let endpoint = cluster.bind("other");
        let connected = endpoint.connect(worker.local_addr(), name).await;
        Self {
            connection: connected.expect("a connection"),
            calls: Vec::new(),
        }
    }

    /// Makes so many calls, and waits until they run.
    async fn make(&mut self, calls: usize, worker: &RpcServer) {
        for _ in 0..calls {
            let connection = self.connection.clone();
            let call = async move { connection.call("wait", "").await };
            self.calls.push(tokio::spawn(call));
        }
        let total = self.calls.len();
        until("they run", || worker.in_flight() == total).await;
    }

    /// Lets the calls end.
    async fn release(self, gate: &Semaphore) {
        gate.add_permits(self.calls.len());
        for call in self.calls {
            call.await.expect("no panic").expect("a reply");
        }
    }
}

/// A worker that takes ten calls at a time, eight of them made by another client.
async fn busy_worker(cluster: &TestCluster) -> (RpcServer, OtherClient, Arc<Semaphore>) {
    let ten = TransportConfig::default().with_calls_max(NonZeroUsize::new(10).unwrap());
    let (router, gate) = gated_router("red");
    let red = cluster.worker_with("red", router, ten);
    // This client can only know of these calls from red.
    let mut other = OtherClient::connect(cluster, &red, "red").await;
    other.make(8, &red).await;
    (red, other, gate)
}

#[tokio::test(start_paused = true)]
async fn a_balancer_sees_the_load_that_other_clients_make() {
    let (cluster, balancer) = cluster().await;
    let (_red, _other, _gate) = busy_worker(&cluster).await;
    let _blue = cluster.worker("blue", identify("blue"));
    // Each says something once; from then on it is blue.
    let mut by_red = 0;
    for _ in 0..20 {
        let reply = cluster.call("who").await.expect("a reply");
        by_red += usize::from(reply.starts_with("red"));
    }
    assert_eq!(by_red, 1);
    let busy = |(_, load): &&(OutcomeKind, Option<ReportedLoad>)| load.is_some_and(|l| l.busy);
    let outcomes = balancer.outcomes.lock();
    assert_eq!(outcomes.len(), 20);
    assert!(
        outcomes.iter().all(|(_, load)| load.is_some()),
        "{outcomes:?}"
    );
    let (_, said) = outcomes.iter().find(busy).expect("red said it");
    assert!(said.expect("it is there").in_flight >= 8, "{outcomes:?}");
}

#[tokio::test(start_paused = true)]
async fn a_rejection_reports_the_load_too() {
    let (cluster, balancer) = cluster().await;
    let (red, mut other, gate) = busy_worker(&cluster).await;
    other.make(2, &red).await;
    let once = WorkerCallOptions::new().with_attempts_max(1);
    let error = cluster.failing_call(once).await;
    assert_eq!(error.attempts()[0].error.code(), Code::Overloaded);
    let last = || balancer.outcomes.lock().last().copied();
    let (kind, load) = last().expect("an outcome");
    assert_eq!(kind, OutcomeKind::Overloaded);
    assert!(load.is_some_and(|load| load.busy), "{load:?}");

    other.release(&gate).await;
    cluster.call("who").await.expect("there is room again");
    let (_, load) = last().expect("an outcome");
    assert!(!load.expect("a report").busy);
}

#[tokio::test(start_paused = true)]
async fn an_unanswered_attempt_reports_no_load() {
    let (cluster, balancer) = cluster().await;
    let (router, _gate) = gated_router("red");
    let _red = cluster.worker("red", router);
    cluster.call("who").await.expect("a reply");
    let short = WorkerCallOptions::new().with_timeout(Duration::from_millis(50));
    cluster
        .call_with("wait", short)
        .await
        .expect_err("it hangs");
    let outcomes = balancer.outcomes.lock();
    assert!(outcomes[0].1.is_some());
    assert_eq!(outcomes[1], (OutcomeKind::Failure, None));
}
