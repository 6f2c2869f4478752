//! Hedging: a call that takes long goes to another worker as well.

use parking_lot::Mutex;
use rpcnet_client::{
    Hedging, RetryBudget,
    balance::{Outcome, OutcomeKind, PickContext, View},
};

use super::*;

/// The time of calls to workers that hang, in virtual time.
const LONG: Duration = Duration::from_secs(3);

fn after_20_ms() -> Hedging {
    Hedging::after(Duration::from_millis(20))
}

/// To the first that is allowed; remembers what came of it.
#[derive(Debug, Default)]
pub(super) struct RecordingFirst(pub(super) Mutex<Vec<(u64, OutcomeKind, Duration)>>);

impl Balancer for RecordingFirst {
    fn pick(&self, view: &View, cx: &PickContext<'_>) -> Option<usize> {
        // By the order of their names, in which they come.
        (0..view.len()).find(|&index| cx.allows(&view[index]))
    }

    fn on_outcome(&self, view: &View, index: usize, outcome: &Outcome) {
        let told = (view[index].id(), outcome.kind, outcome.latency);
        self.0.lock().push(told);
    }
}

pub(super) async fn cluster(
    change: impl FnOnce(ClusterClientConfig) -> ClusterClientConfig,
) -> (TestCluster, Arc<RecordingFirst>) {
    let first = Arc::new(RecordingFirst::default());
    let balancer = Arc::clone(&first) as Arc<dyn Balancer>;
    let cluster = TestCluster::with_balancer(balancer, change).await;
    (cluster, first)
}

#[tokio::test(start_paused = true)]
async fn the_first_reply_wins_and_the_other_attempt_is_cancelled() {
    let (cluster, told) = cluster(|config| config.with_hedging("who", after_20_ms())).await;
    let (router, runs) = hanging_router();
    let a = cluster.worker("a", router);
    let _b = cluster.worker("b", identify("b"));
    let reply = cluster.call("who").await.expect("b does it");
    assert_eq!(reply, "b 1");
    // Not even once, if it has not come that far.
    assert!(runs.load(SeqCst) <= 1);
    assert_eq!((cluster.in_flight("a"), cluster.in_flight("b")), (0, 0));
    until("its handler is dropped", || a.in_flight() == 0).await;
    let stats = cluster.client.stats();
    assert_eq!((stats.calls, stats.attempts), (1, 2));
    assert_eq!((stats.hedges, stats.hedges_won), (1, 1));
    // The balancer hears of both: the one was good, the other would have taken longer.
    let told = told.0.lock();
    let kinds: Vec<_> = told.iter().map(|(_, kind, _)| *kind).collect();
    assert_eq!(kinds, [OutcomeKind::Success, OutcomeKind::Cancelled]);
    assert!(told[0].0 != told[1].0 && told[1].2 >= Duration::from_millis(20));
}

#[tokio::test(start_paused = true)]
async fn a_reply_in_time_needs_no_hedge() {
    let (cluster, _) =
        cluster(|config| config.with_hedging("who", Hedging::after(TEST_TIMEOUT))).await;
    let _servers = [
        cluster.worker("a", identify("a")),
        cluster.worker("b", identify("b")),
    ];
    for _ in 0..10 {
        assert_eq!(cluster.call("who").await.expect("a reply"), "a 0");
    }
    assert_eq!(cluster.client.stats().extra_attempts(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_hedge_never_goes_to_the_same_worker() {
    let (cluster, _) = cluster(|config| config.with_hedging("who", after_20_ms())).await;
    let (router, runs) = hanging_router();
    let _a = cluster.worker("a", router);
    let options = WorkerCallOptions::new().with_timeout(LONG);
    let error = cluster.failing_call(options).await;
    assert_eq!(error.attempts().len(), 1);
    assert_eq!((runs.load(SeqCst), cluster.client.stats().hedges), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn hedges_are_limited_per_call() {
    let (router, _) = hanging_router();
    for hedges in [1, 2] {
        let hedging = after_20_ms().with_hedges_max(hedges);
        let (cluster, _) = cluster(|config| config.with_hedging("who", hedging)).await;
        let _servers = ["a", "b", "c", "d"].map(|name| cluster.worker(name, router.clone()));
        let options = WorkerCallOptions::new().with_timeout(LONG);
        let error = cluster.failing_call(options).await;
        assert_eq!(cluster.client.stats().hedges, hedges as u64);
        // The error lists all of them, with those cancelled at the deadline.
        let reasons: Vec<_> = error.attempts().iter().map(|one| one.reason).collect();
        assert_eq!(reasons.len(), 1 + hedges, "{error}");
        let made = reasons.iter().filter(|one| **one == AttemptReason::Hedge);
        assert_eq!(made.count(), hedges, "{error}");
        assert_eq!(
            (error.stop_reason(), error.processed()),
            (StopReason::Deadline, Processed::Maybe)
        );
        for name in ["a", "b", "c", "d"] {
            assert_eq!(cluster.in_flight(name), 0);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_empty_retry_budget_allows_no_hedges() {
    let budget = RetryBudget::new()
        .with_cap(1.0)
        .with_ratio(0.0)
        .with_reserve_per_s(0.0);
    let (cluster, _) = cluster(|config| {
        config
            .with_hedging("who", after_20_ms())
            .with_retry_budget(budget)
    })
    .await;
    let _servers = [
        cluster.worker("a", hanging_router().0),
        cluster.worker("b", identify("b")),
    ];
    assert_eq!(cluster.call("who").await.expect("there is one"), "b 1");
    let options = WorkerCallOptions::new().with_timeout(LONG);
    let error = cluster.failing_call(options).await;
    assert_eq!(error.attempts().len(), 1);
    let stats = cluster.client.stats();
    assert_eq!((stats.hedges, stats.budget_exhausted), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_busy_worker_gets_no_hedge() {
    let (cluster, _) = cluster(|config| config.with_hedging("who", after_20_ms())).await;
    let one = std::num::NonZeroUsize::MIN;
    let (router, runs) = hanging_router();
    let router = router.raw("quick", |_, body| async move { Ok(body) });
    let config = TransportConfig::default().with_calls_max(one);
    let b = cluster.worker_with("b", router, config);
    // It says so with a rejection.
    let other = cluster
        .bind("other")
        .connect(b.local_addr(), "b")
        .await
        .expect("a connection");
    let load = tokio::spawn(async move { other.call("who", "").await });
    until("it is full", || runs.load(SeqCst) == 1).await;
    let once = WorkerCallOptions::new().with_attempts_max(1);
    let error = cluster
        .call_with("quick", once)
        .await
        .expect_err("it is full");
    assert_eq!(error.attempts()[0].error.code(), Code::Overloaded);

    let _a = cluster.worker("a", hanging_router().0);
    let options = WorkerCallOptions::new().with_timeout(LONG);
    let error = cluster.failing_call(options).await;
    assert_eq!(error.attempts().len(), 1, "{error}");
    assert_eq!(cluster.client.stats().hedges, 0);
    load.abort();
}

#[tokio::test(start_paused = true)]
async fn an_attempt_that_fails_beside_a_hedge_does_not_end_the_call() {
    let (cluster, _) = cluster(|config| config.with_hedging("who", after_20_ms())).await;
    let (started, release) = (
        Arc::new(AtomicUsize::new(0)),
        Arc::new(tokio::sync::Notify::new()),
    );
    let (counted, gate) = (Arc::clone(&started), Arc::clone(&release));
    // The first rejects only when the second has begun.
    let a = Router::new().raw("who", move |_, _| {
        let gate = Arc::clone(&gate);
        async move {
            gate.notified().await;
            Err::<Bytes, _>(Status::overloaded("after all"))
        }
    });
    let (gate, is_noted) = (Arc::clone(&release), Arc::new(tokio::sync::Notify::new()));
    let noted = Arc::clone(&is_noted);
    let b = Router::new().raw("who", move |_, _| {
        counted.fetch_add(1, SeqCst);
        gate.notify_one();
        let noted = Arc::clone(&noted);
        async move {
            noted.notified().await;
            Ok(Bytes::from_static(b"b"))
        }
    });
    let _servers = [cluster.worker("a", a), cluster.worker("b", b)];
    let cluster = Arc::new(cluster);
    let caller = Arc::clone(&cluster);
    let call = tokio::spawn(async move { caller.call("who").await });
    until("the second has begun", || started.load(SeqCst) == 1).await;
    // What it says of its load is noted with its failure.
    until("the first has failed", || cluster.has_reported("a")).await;
    is_noted.notify_one();
    assert_eq!(call.await.expect("no panic").expect("b does it"), "b");
    assert_eq!(started.load(SeqCst), 1);
    let stats = cluster.client.stats();
    assert_eq!((stats.attempts, stats.retries()), (2, 0));
}

#[tokio::test(start_paused = true)]
async fn a_final_answer_cancels_the_other_attempts() {
    let (cluster, _) = cluster(|config| config.with_hedging("who", after_20_ms())).await;
    let (router, _) = failing_router(Status::app(&7u32, "no luck"));
    let a = cluster.worker("a", hanging_router().0);
    let _b = cluster.worker("b", router);
    let error = cluster.call("who").await.expect_err("it fails");
    assert!(
        matches!(&error, ClusterError::Rpc { error, .. } if error.app() == Some(7u32)),
        "{error}"
    );
    let codes: Vec<_> = error
        .attempts()
        .iter()
        .map(|one| one.error.code())
        .collect();
    assert_eq!(codes, [Code::App, Code::Cancelled]);
    until("its handler is dropped", || a.in_flight() == 0).await;
}

#[tokio::test(start_paused = true)]
async fn call_options_override_the_hedging_of_the_method() {
    let (cluster, _) = cluster(|config| config.with_hedging("who", after_20_ms())).await;
    let _servers = [
        cluster.worker(
            "a",
            hanging_router()
                .0
                .raw("other", |_, _| std::future::pending()),
        ),
        cluster.worker(
            "b",
            identify("b").raw("other", |_, body| async move { Ok(body) }),
        ),
    ];
    let options = WorkerCallOptions::new().with_timeout(LONG);
    for options in [options.without_hedging(), options.with_idempotent(false)] {
        let error = cluster.failing_call(options).await;
        assert_eq!(error.attempts().len(), 1);
    }
    assert_eq!(cluster.client.stats().hedges, 0);
    let options = WorkerCallOptions::new().with_hedging(after_20_ms());
    cluster
        .call_with("other", options)
        .await
        .expect("b does it");
    assert_eq!(cluster.client.stats().hedges_won, 1);
}

/// Most calls are quick; when one is not, the delay is that of the quick ones.
#[tokio::test(start_paused = true)]
async fn the_hedge_delay_is_a_quantile_of_recent_latencies() {
    let balancer = Arc::new(RecordingFirst::default());
    let cluster = TestCluster::with_balancer(balancer, |config| {
        config.with_hedging("who", Hedging::at_quantile(0.9))
    })
    .await;
    let usual = Duration::from_millis(20);
    let hangs = Arc::new(std::sync::atomic::AtomicBool::new(true));
    let switch = Arc::clone(&hangs);
    let a = Router::new().raw("who", move |_, body| {
        let hangs = switch.load(SeqCst);
        async move {
            if hangs {
                std::future::pending::<()>().await;
            }
            sleep(usual).await;
            Ok(body)
        }
    });
    let _servers = [cluster.worker("a", a), cluster.worker("b", identify("b"))];
    // Nothing is known yet.
    let options = WorkerCallOptions::new().with_timeout(Duration::from_millis(200));
    cluster.failing_call(options).await;
    assert_eq!(cluster.client.stats().hedges, 0);
    hangs.store(false, SeqCst);
    // What is known is looked up now and then.
    for _ in 0..30 {
        cluster.call("who").await.expect("a reply");
    }
    hangs.store(true, SeqCst);
    let hedged = async {
        loop {
            let began = Instant::now();
            let options = WorkerCallOptions::new().with_timeout(Duration::from_secs(1));
            if cluster.call_with("who", options).await.is_ok() {
                return began.elapsed();
            }
        }
    };
    let took = within(hedged).await;
    assert!(took >= usual && took < 2 * usual, "{took:?}");
    assert!(cluster.client.stats().hedges_won > 0);
}

#[tokio::test(start_paused = true)]
async fn a_rejected_hedge_leaves_the_call_to_the_first_attempt() {
    let (cluster, _) = cluster(|config| config.with_hedging("who", after_20_ms())).await;
    let slow = Router::new().raw("who", |_, _| async {
        // The time that a handler takes, in virtual time.
        sleep(Duration::from_millis(200)).await;
        Ok(Bytes::from_static(b"a"))
    });
    let _a = cluster.worker("a", slow);
    let (router, runs) = failing_router(Status::overloaded("not this one").do_not_retry());
    let _b = cluster.worker("b", router);
    assert_eq!(cluster.call("who").await.expect("a reply"), "a");
    assert_eq!(runs.load(SeqCst), 1);
}

#[tokio::test(start_paused = true)]
async fn an_attempt_that_a_final_answer_outruns_is_reported() {
    let (cluster, told) = cluster(|config| config.with_hedging("who", after_20_ms())).await;
    let (router, _) = hanging_router();
    let _a = cluster.worker("a", router);
    let (router, _) = failing_router(Status::app(&7u32, "never"));
    let _b = cluster.worker("b", router);
    let error = cluster.call("who").await.expect_err("an answer");
    assert_eq!(error.app(), Some(7u32));
    let told = told.0.lock();
    let [(b, answered, _), (a, outrun, took)] = told[..] else {
        panic!("{told:?}");
    };
    assert_ne!(a, b);
    assert_eq!(
        (answered, outrun),
        (OutcomeKind::Success, OutcomeKind::Cancelled)
    );
    assert!(took >= Duration::from_millis(20));
}
