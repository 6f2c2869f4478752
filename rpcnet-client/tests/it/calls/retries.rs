//! Retries: on another worker exactly when that does no harm.

use super::*;

#[tokio::test(start_paused = true)]
async fn no_match_and_none_reachable_are_different_errors() {
    let cluster = TestCluster::new().await;
    let error = cluster.call("who").await.expect_err("an empty list");
    assert!(
        matches!(&error, ClusterError::Select(SelectError::NoMatch { filter }) if filter == "role=worker"),
        "{error}"
    );
    assert!(error.is_retryable() && error.attempts().is_empty());
    let _server = cluster.worker("red", identify("red"));
    cluster.list.fail("red");
    let error = cluster.call("who").await.expect_err("it is dead");
    assert!(
        matches!(
            &error,
            ClusterError::Select(SelectError::NoneReachable { matching: 1, .. })
        ),
        "{error}"
    );
    let error = cluster.client.call_worker("who", "", Some("role=")).await;
    let error = error.expect_err("no filter");
    assert!(
        matches!(&error, ClusterError::Select(SelectError::InvalidFilter(_))),
        "{error}"
    );
    assert!(!error.is_retryable());
}

#[tokio::test(start_paused = true)]
async fn one_deadline_covers_all_attempts() {
    let cluster =
        TestCluster::with(|config| config.with_connect_timeout(Duration::from_millis(1_500))).await;
    cluster.unreachable(&["a", "b", "c"]);
    let begun = Instant::now();
    let options = WorkerCallOptions::new().with_timeout(Duration::from_millis(4_400));
    let error = cluster.call_with("who", options).await;
    let error = error.expect_err("no worker answers");
    assert_eq!(begun.elapsed(), Duration::from_millis(4_400));
    assert!(
        matches!(&error, ClusterError::DeadlineExceeded { attempts } if attempts.len() == 3),
        "{error:?}"
    );
    assert_eq!(error.processed(), Processed::No);
    assert!(error.to_string().contains("tried 3 times: "), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_deadline_exceeded_during_the_handler_is_maybe_processed() {
    let cluster = TestCluster::new().await;
    let (router, runs) = hanging_router();
    let _servers = [
        cluster.worker("red", router),
        cluster.worker("blue", hanging_router().0),
    ];
    cluster.list.remove("blue");
    let options = WorkerCallOptions::new().with_timeout(Duration::from_secs(3));
    let error = cluster.failing_call(options.with_idempotent(true)).await;
    assert!(
        matches!(error, ClusterError::DeadlineExceeded { .. }),
        "{error}"
    );
    assert_eq!(error.processed(), Processed::Maybe);
    assert!(!error.is_retryable());
    assert_eq!(runs.load(SeqCst), 1);
}

#[tokio::test(start_paused = true)]
async fn rejected_calls_go_to_another_worker() {
    for status in [
        Status::overloaded("too much to do"),
        Status::new(Code::Unavailable, "not now").not_processed(),
    ] {
        let cluster = TestCluster::new().await;
        let (router, rejections) = failing_router(status);
        let _servers = [
            cluster.worker("red", router),
            cluster.worker("blue", identify("blue")),
        ];
        for _ in 0..4 {
            let reply = cluster.call("who").await.expect("blue does it");
            assert!(reply.starts_with("blue"), "{reply}");
        }
        assert!(rejections.load(SeqCst) > 0, "red was asked");
    }
}

#[tokio::test(start_paused = true)]
async fn a_draining_worker_is_passed_over_until_it_resumes() {
    let minute = Duration::from_secs(60);
    let cluster = TestCluster::with_unreachable_backoff(minute, |config| config).await;
    // Calls take time, so that waits for an answer end.
    cluster.network().set_delay(Duration::from_millis(1));
    let red = cluster.worker("red", identify("red"));
    let blue = cluster.worker("blue", identify("blue"));
    let mut by_red = 0;
    for _ in 0..10 {
        by_red += usize::from(cluster.call("who").await.expect("a reply") == "red 0");
    }
    assert_eq!(by_red, 5, "in turns");

    // Only red itself says that it drains: no membership, no rejected call.
    red.set_draining(true);
    let heard = async {
        while cluster
            .call("who")
            .await
            .expect("a reply")
            .starts_with("red")
            || cluster
                .call("who")
                .await
                .expect("a reply")
                .starts_with("red")
        {}
    };
    within(heard).await;
    let rejected = red.stats().calls_rejected_draining;
    for _ in 0..10 {
        assert_eq!(cluster.call("who").await.expect("a reply"), "blue 0");
    }
    assert_eq!(red.stats().calls_rejected_draining, rejected);

    // If all workers drain, the error says so.
    blue.set_draining(true);
    let rejected_by_all = async {
        let once = WorkerCallOptions::new().with_attempts_max(1);
        loop {
            match cluster.call_with("who", once).await {
                Ok(reply) => assert!(reply.starts_with("blue"), "{reply}"),
                Err(error) => break error,
            }
            sleep(Duration::from_millis(1)).await;
        }
    };
    let error = within(rejected_by_all).await;
    assert_eq!(error.attempts()[0].error.code(), Code::Draining);
    assert!(error.is_retryable());

    red.set_draining(false);
    let back = async {
        let once = WorkerCallOptions::new().with_attempts_max(1);
        while cluster.call_with("who", once).await.ok().as_deref() != Some("red 0") {
            sleep(Duration::from_millis(1)).await;
        }
    };
    within(back).await;
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_starts_draining_costs_one_attempt() {
    let minute = Duration::from_secs(60);
    let cluster = TestCluster::with_unreachable_backoff(minute, |config| config).await;
    let red = cluster.worker("red", identify("red"));
    let _blue = cluster.worker("blue", identify("blue"));
    red.set_draining(true);
    let mut second_attempts = 0;
    for _ in 0..10 {
        let reply = cluster.call("who").await.expect("blue does it");
        second_attempts += usize::from(reply == "blue 1");
    }
    assert_eq!(second_attempts, 1);
    assert_eq!(red.stats().calls_started, 0);
}

#[tokio::test(start_paused = true)]
async fn a_method_of_newer_workers_only_is_found() {
    let cluster = TestCluster::new().await;
    let old = [
        cluster.worker("old-1", Router::new()),
        cluster.worker("old-2", Router::new()),
    ];
    let new = cluster.worker("new", identify("new"));
    let reply = cluster.call("who").await.expect("the new one does it");
    assert!(reply.starts_with("new"), "{reply}");
    // No worker has it: each is tried once, at once.
    let error = cluster.call("what").await.expect_err("no worker has it");
    assert!(
        matches!(&error, ClusterError::Rpc { error, .. } if error.code() == Code::Unimplemented),
        "{error}"
    );
    assert_eq!(error.attempts().len(), 3);
    assert_eq!(error.processed(), Processed::No);
    drop((old, new));
}

#[tokio::test(start_paused = true)]
async fn an_answer_of_the_handler_is_final() {
    for (status, processed) in [
        (Status::app(&7u32, "no luck"), Processed::Yes),
        (Status::internal("broken"), Processed::Yes),
        (Status::permission_denied("not you"), Processed::Yes),
        (Status::invalid_request("no sense"), Processed::Yes),
    ] {
        let cluster = TestCluster::new().await;
        let (router, runs) = failing_router(status.clone());
        let _servers = [
            cluster.worker("red", router.clone()),
            cluster.worker("blue", router),
        ];
        let options = WorkerCallOptions::new().with_idempotent(true);
        let error = cluster.failing_call(options).await;
        let ClusterError::Rpc { error: cause, .. } = &error else {
            panic!("{error}");
        };
        assert_eq!(
            (cause.code(), cause.processed()),
            (status.code(), processed)
        );
        assert_eq!(runs.load(SeqCst), 1, "{status}");
        assert_eq!(error.attempts().len(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn attempts_on_a_single_worker_are_limited_and_backed_off() {
    let pause = Duration::from_millis(50);
    let pauses = BackoffRange::constant(pause);
    let cluster =
        TestCluster::with(|config| config.with_attempts_max(3).with_backoff(pauses)).await;
    let (router, runs) = failing_router(Status::overloaded("too much to do"));
    let _server = cluster.worker("red", router);
    let begun = Instant::now();
    let error = cluster.call("who").await.expect_err("always rejected");
    assert_eq!(runs.load(SeqCst), 3);
    assert_eq!(error.stop_reason(), StopReason::AttemptLimit);
    let reasons: Vec<_> = error.attempts().iter().map(|one| one.reason).collect();
    let [
        AttemptReason::First,
        AttemptReason::Retry { after: first },
        AttemptReason::Retry { after: second },
    ] = reasons[..]
    else {
        panic!("{reasons:?}");
    };
    assert!(first <= pause && second <= pause, "{first:?}, {second:?}");
    let took = begun.elapsed();
    // A timer of the runtime is exact to a millisecond.
    let waited = first + second..=first + second + Duration::from_millis(2);
    assert!(waited.contains(&took), "{took:?} of {waited:?}");
    let told = error.to_string();
    assert!(
        told.contains("(retry after ") && told.contains("limit of attempts"),
        "{told}"
    );
    assert!(error.is_retryable());
}

#[tokio::test(start_paused = true)]
async fn retry_after_is_respected() {
    let cluster = TestCluster::new().await;
    let wait = Duration::from_millis(300);
    let (router, runs) = failing_router(Status::overloaded("later").with_retry_after(wait));
    let _server = cluster.worker("red", router);
    let begun = Instant::now();
    let options = WorkerCallOptions::new().with_attempts_max(2);
    let error = cluster.call_with("who", options).await;
    error.expect_err("always rejected");
    assert_eq!(begun.elapsed(), wait);
    assert_eq!(runs.load(SeqCst), 2);
    // If that is past the deadline, the call fails at once.
    let cluster = TestCluster::new().await;
    let (router, _) =
        failing_router(Status::overloaded("later").with_retry_after(2 * TEST_TIMEOUT));
    let _server = cluster.worker("red", router);
    let error = cluster.call("who").await.expect_err("always rejected");
    assert!(matches!(error, ClusterError::Rpc { .. }), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_broadcast_returns_the_reply_of_each_worker() {
    let cluster = TestCluster::new().await;
    let (router, _) = failing_router(Status::app(&7u32, "no luck"));
    let _servers = [
        cluster.worker("blue", identify("blue")),
        cluster.worker("green", router),
        cluster.worker("red", identify("red")),
    ];
    let call = cluster
        .client
        .call_all_workers("who", "", Some("role=worker"));
    let replies = within(call).await.expect("workers");
    let told: Vec<_> = replies
        .iter()
        .map(|(id, reply)| match reply {
            Ok(reply) => (&*id.name, Ok(&reply[..])),
            Err(ClusterError::Rpc { error, .. }) => (&*id.name, Err(error.app::<u32>())),
            Err(other) => panic!("{other}"),
        })
        .collect();
    assert_eq!(
        told,
        [
            ("blue", Ok(&b"blue 0"[..])),
            ("green", Err(Some(7))),
            ("red", Ok(&b"red 0"[..])),
        ]
    );
    let error = cluster
        .client
        .call_all_workers("who", "", Some("role=none"));
    let error = within(error).await;
    assert!(matches!(
        error,
        Err(ClusterError::Select(SelectError::NoMatch { .. }))
    ));
    for name in ["blue", "green", "red"] {
        assert_eq!(cluster.in_flight(name), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn an_undecodable_reply_names_its_node() {
    let cluster = TestCluster::new().await;
    let _server = cluster.worker("red", identify("red"));
    let call = cluster.client.call_worker_typed::<_, u8>("who", &(), None);
    let error = within(call).await.expect_err("another type");
    assert!(
        matches!(&error, ClusterError::Decode { node, .. } if &*node.name == "red"),
        "{error}"
    );
    assert_eq!(error.processed(), Processed::Yes);
    assert!(!error.is_retryable());
}

#[tokio::test(start_paused = true)]
async fn a_dropped_call_is_cancelled_and_no_longer_in_flight() {
    let cluster = TestCluster::new().await;
    let (router, runs) = hanging_router();
    let server = cluster.worker("red", router);
    {
        let call = cluster.client.call_worker("who", "", None);
        tokio::pin!(call);
        tokio::select! {
            reply = &mut call => panic!("{reply:?}"),
            () = until("it runs", || runs.load(SeqCst) == 1) => {}
        }
        assert_eq!(cluster.in_flight("red"), 1);
    }
    assert_eq!(cluster.in_flight("red"), 0);
    until("its handler is dropped", || server.in_flight() == 0).await;
}

/// The one that could do it was busy when it was asked; that another one cannot do it at all is not
/// the last word.
#[tokio::test(start_paused = true)]
async fn a_worker_that_lacks_the_method_does_not_end_the_wait_for_a_busy_one() {
    let cluster = TestCluster::new().await;
    let asked = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&asked);
    let busy = Router::new().raw("who", move |_, _| {
        let rejects = counted.fetch_add(1, SeqCst) < 2;
        async move {
            if rejects {
                return Err(Status::overloaded("too much to do"));
            }
            Ok(Bytes::from_static(b"new"))
        }
    });
    let old = cluster.worker("old", Router::new());
    let _new = cluster.worker("new", busy);
    // In turns: the first call asks both, whichever comes first, and the next ones wait for the new
    // one.
    for _ in 0..3 {
        asked.store(0, SeqCst);
        assert_eq!(cluster.call("who").await.expect("a reply"), "new");
        assert_eq!(asked.load(SeqCst), 3);
    }
    assert!(old.stats().unknown_methods >= 1);
}

#[tokio::test(start_paused = true)]
async fn a_hanging_worker_does_not_delay_the_rest_of_a_broadcast() {
    let two = const { std::num::NonZeroUsize::new(2).unwrap() };
    let cluster = TestCluster::with(|config| config.with_broadcast_concurrency_max(two)).await;
    let (router, _) = hanging_router();
    let names = ["a", "b", "c", "d", "e"];
    let servers = names.map(|name| match name {
        "a" => cluster.worker(name, router.clone()),
        _ => cluster.worker(name, identify(name)),
    });
    let call = cluster.client.call_all_workers("who", "", None);
    tokio::pin!(call);
    let others = until("the others are asked", || {
        servers
            .iter()
            .map(|one| one.stats().calls_completed)
            .sum::<u64>()
            == 4
    });
    tokio::select! {
        replies = &mut call => panic!("{replies:?}"),
        () = others => {}
    }
    cluster.list.fail("a");
    let replies = within(call).await.expect("workers");
    let told = replies.iter().map(|(id, reply)| (&*id.name, reply.is_ok()));
    let expected = names.map(|name| (name, name != "a"));
    assert_eq!(told.collect::<Vec<_>>(), expected);
}
