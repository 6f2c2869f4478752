//! Load reports of workers, and a balancer that uses them.

use std::num::NonZeroUsize;

use parking_lot::Mutex;
use rpcnet_client::balance::{Outcome, OutcomeKind, PickContext, ReportedLoad, View};

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
    let cluster = TestCluster::with_balancer(
        Arc::clone(&balancer) as Arc<_>,
        TransportConfig::default(),
        |config| config,
    );
    (cluster.await, balancer)
}

/// A method that waits for a gate, and one that ends at once.
fn gated_router(name: &str) -> (Router, Arc<tokio::sync::Semaphore>) {
    let gate = Arc::new(tokio::sync::Semaphore::new(0));
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

#[tokio::test(flavor = "multi_thread")]
async fn a_balancer_sees_the_load_that_other_clients_make() {
    let (cluster, balancer) = cluster().await;
    let ten = TransportConfig::default().with_calls_max(NonZeroUsize::new(10).unwrap());
    let (router, gate) = gated_router("red");
    let red = cluster.worker_with("red", router, ten);
    let _blue = cluster.worker("blue", identify("blue"));

    // Another client keeps red busy, which this client can only know from red.
    let other = endpoint("other", loopback()).expect("a free port");
    let other = other
        .connect(red.local_addr(), "red")
        .await
        .expect("a connection");
    let load: Vec<_> = (0..8)
        .map(|_| {
            let other = other.clone();
            tokio::spawn(async move { other.call("wait", "").await })
        })
        .collect();
    until("red is busy", || red.in_flight() == 8).await;

    // Each says something once; from then on it is blue.
    let mut by_red = 0;
    for _ in 0..20 {
        by_red += usize::from(
            cluster
                .call("who")
                .await
                .expect("a reply")
                .starts_with("red"),
        );
    }
    assert_eq!(by_red, 1);
    let busy = |(_, load): &&(OutcomeKind, Option<ReportedLoad>)| load.is_some_and(|l| l.busy);
    {
        let outcomes = balancer.outcomes.lock();
        assert_eq!(outcomes.len(), 20);
        assert!(
            outcomes.iter().all(|(_, load)| load.is_some()),
            "{outcomes:?}"
        );
        let (_, said) = outcomes.iter().find(busy).expect("red said it");
        assert!(said.expect("it is there").in_flight >= 8, "{outcomes:?}");
    }

    // It says so with refusals too.
    cluster.list.remove("blue");
    let more: Vec<_> = (0..2)
        .map(|_| {
            let other = other.clone();
            tokio::spawn(async move { other.call("wait", "").await })
        })
        .collect();
    until("red is full", || red.in_flight() == 10).await;
    let once = WorkerCallOptions::new().with_attempts_max(1);
    let error = cluster.failing_call(once).await;
    assert_eq!(error.attempts()[0].error.code(), Code::Overloaded);
    {
        let outcomes = balancer.outcomes.lock();
        let (kind, load) = outcomes.last().expect("an outcome");
        assert_eq!(*kind, OutcomeKind::Overloaded);
        assert!(load.is_some_and(|load| load.busy), "{load:?}");
    }

    gate.add_permits(10);
    for call in load.into_iter().chain(more) {
        call.await.expect("no panic").expect("a reply");
    }
    cluster.call("who").await.expect("there is room again");
    let last = balancer
        .outcomes
        .lock()
        .last()
        .copied()
        .expect("an outcome");
    assert!(!last.1.expect("a report").busy);
}

#[tokio::test(flavor = "multi_thread")]
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
