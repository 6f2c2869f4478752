//! Limits of attempts: retry budget, push-back, attempt timeout.

use rpcnet_client::{MethodPolicy, RetryBudget};

use super::*;

/// So many extra attempts and no more.
fn tokens(attempts: f64) -> RetryBudget {
    RetryBudget::new()
        .with_cap(attempts)
        .with_ratio(0.0)
        .with_reserve_per_s(0.0)
}

fn short_waits() -> BackoffRange {
    BackoffRange::constant(Duration::from_millis(1))
}

#[tokio::test(start_paused = true)]
async fn rejections_use_retry_budget_and_an_empty_one_ends_the_call() {
    let cluster = TestCluster::with(|config| {
        config
            .with_retry_budget(tokens(3.0))
            .with_backoff(short_waits())
    })
    .await;
    let (router, runs) = failing_router(Status::overloaded("too much to do"));
    let _servers = [
        cluster.worker("red", router.clone()),
        cluster.worker("blue", router),
    ];
    // Five attempts may be made, four of them extra.
    let error = cluster.call("who").await.expect_err("all reject");
    assert_eq!(
        (error.stop_reason(), error.attempts().len()),
        (StopReason::BudgetExhausted, 4)
    );
    assert!(
        error.to_string().contains("the retry budget is exhausted"),
        "{error}"
    );
    assert!(error.is_retryable(), "later");
    let error = cluster.call("who").await.expect_err("all reject");
    assert_eq!(
        (error.stop_reason(), error.attempts().len()),
        (StopReason::BudgetExhausted, 1)
    );
    assert_eq!(runs.load(SeqCst), 5);
    let stats = cluster.client.stats();
    assert_eq!((stats.calls, stats.attempts), (2, 5));
    assert_eq!((stats.retries_overloaded, stats.budget_exhausted), (3, 2));
    assert_eq!(stats.extra_attempts(), 3);
}

#[tokio::test(start_paused = true)]
async fn an_attempt_that_never_starts_uses_no_retry_budget() {
    let cluster = TestCluster::with(|config| config.with_retry_budget(tokens(1.0))).await;
    let later = Status::overloaded("later").with_retry_after(4 * TEST_TIMEOUT);
    let (router, _) = failing_router(later);
    let _red = cluster.worker("red", router);
    for _ in 0..3 {
        // It has no time for another attempt.
        let error = cluster.call("who").await.expect_err("it rejects");
        assert_eq!(error.stop_reason(), StopReason::Deadline, "{error}");
    }
    // One that is dropped while it waits does not make it either.
    let patient = WorkerCallOptions::new().without_deadline();
    let call = cluster.call_with("who", patient);
    tokio::select! {
        _ = call => panic!("it waits"),
        () = until("it was rejected", || cluster.client.stats().calls == 4 && cluster.in_flight("red") == 0) => {}
    }
    let _blue = cluster.worker("blue", identify("blue"));
    // In turns, so one of two calls begins at red.
    for _ in 0..2 {
        let reply = cluster.call("who").await.expect("there is one for it");
        assert!(reply.starts_with("blue"), "{reply}");
        if cluster.client.stats().retries_overloaded > 0 {
            break;
        }
    }
    let stats = cluster.client.stats();
    assert_eq!((stats.retries_overloaded, stats.budget_exhausted), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn successful_calls_fill_the_retry_budget() {
    let budget = tokens(1.0).with_ratio(1.0);
    let cluster = TestCluster::with(|config| config.with_retry_budget(budget)).await;
    let (router, _) = failing_router(Status::overloaded("too much to do"));
    let _servers = [
        cluster.worker("red", router),
        cluster.worker("blue", identify("blue")),
    ];
    // In turns, so sooner or later each call begins at red: it takes what the one before has
    // brought.
    let mut retried = 0;
    for _ in 0..20 {
        let reply = cluster.call("who").await.expect("there is enough for it");
        retried += usize::from(reply == "blue 1");
    }
    assert!(retried >= 10, "{retried}");
    assert_eq!(cluster.client.stats().retries_overloaded, retried as u64);
}

#[tokio::test(start_paused = true)]
async fn transparent_retries_use_no_retry_budget() {
    let cluster = TestCluster::with(|config| config.with_retry_budget(tokens(0.0))).await;
    let (router, _) = failing_router(Status::new(Code::Unavailable, "not now").not_processed());
    let _servers = [
        cluster.worker("red", router),
        cluster.worker("blue", identify("blue")),
    ];
    for _ in 0..10 {
        let reply = cluster.call("who").await.expect("blue does it");
        assert!(reply.starts_with("blue"), "{reply}");
    }
    let stats = cluster.client.stats();
    assert!(stats.retries_transparent > 0, "{stats:?}");
    assert_eq!(
        (stats.retries(), stats.budget_exhausted),
        (stats.retries_transparent, 0)
    );
}

#[tokio::test(start_paused = true)]
async fn without_a_retry_budget_only_the_attempt_limit_holds() {
    let cluster =
        TestCluster::with(|config| config.without_retry_budget().with_backoff(short_waits())).await;
    let (router, runs) = failing_router(Status::overloaded("too much to do"));
    let _server = cluster.worker("red", router);
    for _ in 0..40 {
        let error = cluster.call("who").await.expect_err("always rejected");
        assert_eq!(error.stop_reason(), StopReason::AttemptLimit);
    }
    assert_eq!(runs.load(SeqCst), 200);
}

#[tokio::test(start_paused = true)]
async fn do_not_retry_ends_the_call() {
    let cluster = TestCluster::new().await;
    let (router, runs) = failing_router(Status::overloaded("not this one").do_not_retry());
    let _servers = [
        cluster.worker("red", router.clone()),
        cluster.worker("blue", router),
    ];
    let options = WorkerCallOptions::new().with_idempotent(true);
    let error = cluster.failing_call(options).await;
    assert_eq!(
        (error.stop_reason(), runs.load(SeqCst)),
        (StopReason::DoNotRetry, 1)
    );
    assert!(!error.is_retryable());
    let ClusterError::Rpc { error, .. } = error else {
        panic!("{error}");
    };
    assert!(error.code() == Code::Overloaded && error.forbids_retry());
}

/// Each says when: the one that is free sooner is asked again, the other one is not.
#[tokio::test(start_paused = true)]
async fn the_worker_with_the_earliest_retry_after_is_tried_first() {
    let cluster = TestCluster::with(|config| config.with_attempts_max(3)).await;
    let reject = |wait| failing_router(Status::overloaded("later").with_retry_after(wait));
    let soon = Duration::from_millis(200);
    let (in_a_while, in_a_while_runs) = reject(TEST_TIMEOUT / 2);
    let (soon_free, soon_runs) = reject(soon);
    let _servers = [
        cluster.worker("red", in_a_while),
        cluster.worker("blue", soon_free),
    ];
    for _ in 0..2 {
        let begun = Instant::now();
        let error = cluster.call("who").await.expect_err("all reject");
        assert_eq!(begun.elapsed(), soon);
        assert_eq!(error.attempts().len(), 3, "{error}");
        assert_eq!(&*error.node().expect("a node").name, "blue");
    }
    assert_eq!(
        (in_a_while_runs.load(SeqCst), soon_runs.load(SeqCst)),
        (2, 4)
    );
}

#[tokio::test(start_paused = true)]
async fn an_attempt_timeout_leaves_time_for_another_worker() {
    let cluster = TestCluster::with(|config| {
        let policy = MethodPolicy::new()
            .with_idempotent(true)
            .with_attempt_timeout(Duration::from_secs(2));
        config.with_method("who", policy)
    })
    .await;
    let (router, runs) = hanging_router();
    let red = cluster.worker("red", router);
    let _blue = cluster.worker("blue", identify("blue"));
    // In turns, so one of two calls begins at red.
    for _ in 0..2 {
        let reply = cluster.call("who").await.expect("blue does it");
        assert!(reply.starts_with("blue"), "{reply}");
    }
    assert!(runs.load(SeqCst) > 0);
    assert!(cluster.client.stats().retries_maybe_processed > 0);
    until("the handler is dropped", || red.in_flight() == 0).await;

    // A call that must not be repeated has all its time for the one attempt.
    cluster.list.remove("blue");
    let options = WorkerCallOptions::new()
        .with_idempotent(false)
        .with_timeout(Duration::from_millis(900));
    let begun = Instant::now();
    let error = cluster.failing_call(options).await;
    assert_eq!(begun.elapsed(), Duration::from_millis(900));
    assert_eq!(
        (error.stop_reason(), error.attempts().len()),
        (StopReason::Deadline, 1)
    );

    // There is no other worker: it is tried again, until there were enough attempts.
    let options = WorkerCallOptions::new()
        .with_attempts_max(2)
        .with_attempt_timeout(Duration::from_secs(1));
    let error = cluster.failing_call(options).await;
    assert_eq!(
        (error.stop_reason(), error.attempts().len()),
        (StopReason::AttemptLimit, 2)
    );
    assert!(
        matches!(&error, ClusterError::Rpc { error, .. } if error.code() == Code::DeadlineExceeded),
        "{error}"
    );
    assert!(
        error
            .attempts()
            .iter()
            .all(|one| one.took == Duration::from_secs(1))
    );
    assert_eq!(error.processed(), Processed::Maybe);
}

/// A panic is no answer; whether the handler did something before it is not known.
#[tokio::test(start_paused = true)]
async fn an_idempotent_call_is_retried_after_a_handler_panic() {
    let cluster = TestCluster::with(|config| config.with_idempotent(["who"])).await;
    let broken = Router::new().raw("who", |_, _| async { panic!("on purpose") });
    let _servers = [
        cluster.worker("red", broken),
        cluster.worker("blue", identify("blue")),
    ];
    for _ in 0..4 {
        let reply = cluster.call("who").await.expect("blue does it");
        assert!(reply.starts_with("blue"), "{reply}");
    }
    let once = WorkerCallOptions::new().with_idempotent(false);
    let mut failed = Vec::new();
    for _ in 0..2 {
        failed.extend(cluster.call_with("who", once).await.err());
    }
    let [error] = &failed[..] else {
        panic!("{failed:?}");
    };
    assert_eq!(
        (error.stop_reason(), error.processed()),
        (StopReason::NotRetryable, Processed::Maybe)
    );
    assert_eq!(&*error.node().expect("a node").name, "red");
}
