//! Idempotency keys: repeated calls run once and get the first reply.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::SeqCst},
};

use bytes::Bytes;
use rpcnet_transport::{Admission, CallOptions, Code, IdempotencyCache, Processed, inherited};
use tokio::sync::Semaphore;

use super::*;

/// A method `once` that counts its runs and waits for permits of the test.
fn counted(memory: IdempotencyCache) -> (Router, Arc<AtomicUsize>, Arc<Semaphore>) {
    let (runs, permits) = (Arc::new(AtomicUsize::new(0)), Arc::new(Semaphore::new(0)));
    let (counter, gate) = (Arc::clone(&runs), Arc::clone(&permits));
    let router = Router::new().raw("once", move |_cx, body| {
        let (counter, gate) = (Arc::clone(&counter), Arc::clone(&gate));
        async move {
            let run = counter.fetch_add(1, SeqCst) + 1;
            gate.acquire().await.unwrap().forget();
            match &body[..] {
                b"not processed" => Err(Status::overloaded("no").not_processed()),
                b"fail" => Err(Status::internal(format!("run {run}"))),
                b"late" => Err(Status::new(
                    Code::DeadlineExceeded,
                    "its nested call was late",
                )),
                b"cancelled" => Err(Status::new(
                    Code::Cancelled,
                    "its nested call was cancelled",
                )),
                b"panic" => panic!("on purpose"),
                _ => Ok(Bytes::from(format!("run {run}"))),
            }
        }
    });
    (router.with_idempotency("once", memory), runs, permits)
}

fn calls_with_permits(server: &RpcServer) -> usize {
    server.endpoint().admission().expect("a limit").running
}

fn key(options: CallOptions, key: u128) -> CallOptions {
    options.with_idempotency_key(key)
}

fn carriers() -> [CallOptions; 2] {
    [false, true].map(|isolated| CallOptions::new().with_isolated(isolated))
}

#[tokio::test]
async fn a_repeat_waits_for_the_first_and_gets_its_reply() {
    for options in carriers() {
        let (router, runs, permits) = counted(IdempotencyCache::new());
        let server = serve(router, TransportConfig::default());
        let (client, other) = (connect(&server).await, connect(&server).await);
        let first = client.call_with("once", "x", key(options, 1));
        let rest = async {
            until("it runs", || runs.load(SeqCst) == 1).await;
            // Also over another connection of the same node.
            let repeat = other.call_with("once", "x", key(options, 1));
            let differs = async {
                until("it waits", || server.stats().keys_joined == 1).await;
                let error = within(client.call_with("once", "y", key(options, 1))).await;
                let error = error.unwrap_err();
                assert_eq!(outcome_of(&error), (Code::InvalidRequest, Processed::No));
                permits.add_permits(9);
            };
            let (repeat, ()) = tokio::join!(repeat, differs);
            repeat
        };
        let (first, repeat) = within(async { tokio::join!(first, rest) }).await;
        assert_eq!(first.unwrap(), "run 1");
        assert_eq!(repeat.unwrap(), "run 1");
        let later = within(client.call_with("once", "x", key(options, 1))).await;
        assert_eq!(later.unwrap(), "run 1");
        assert_eq!(server.stats().keys_answered, 1);
        // Calls with another key, of another caller, or without a key run.
        let stranger = endpoint("client-2", TransportConfig::default())
            .connect(server.local_addr(), SERVER)
            .await
            .expect("a connection");
        for (client, options, reply) in [
            (&client, key(options, 2), "run 2"),
            (&stranger, key(options, 1), "run 3"),
            (&client, options, "run 4"),
            (&client, options, "run 5"),
        ] {
            let got = within(client.call_with("once", "x", options)).await;
            assert_eq!(got.unwrap(), reply);
        }
    }
}

#[tokio::test]
async fn failures_are_cached_unless_unprocessed() {
    for options in carriers() {
        let (router, runs, permits) = counted(IdempotencyCache::new());
        permits.add_permits(100);
        let server = serve(router, TransportConfig::default());
        let client = connect(&server).await;
        let table = [
            ("fail", Code::Internal, Processed::Yes, 1),
            ("panic", Code::Internal, Processed::Maybe, 1),
            ("not processed", Code::Overloaded, Processed::No, 2),
            ("late", Code::DeadlineExceeded, Processed::Maybe, 2),
            ("cancelled", Code::Cancelled, Processed::Maybe, 2),
        ];
        for (number, (body, code, processed, expected_runs)) in (0u128..).zip(table) {
            let before = runs.load(SeqCst);
            for _ in 0..2 {
                let error = within(client.call_with("once", body, key(options, number))).await;
                let error = error.unwrap_err();
                assert_eq!(outcome_of(&error), (code, processed));
            }
            assert_eq!(runs.load(SeqCst) - before, expected_runs, "{body}");
        }
        counts(&server, "panics", 1, |s| s.handler_panics).await;
        assert_answers(&client).await;
    }
}

#[tokio::test]
async fn a_run_outlives_its_caller_and_answers_the_repeat() {
    for options in carriers() {
        let (router, runs, permits) = counted(IdempotencyCache::new());
        let config = TransportConfig::default().with_admission(Admission::fixed(1));
        let server = serve(router, config);
        let running = || calls_with_permits(&server);
        let goes = connect(&server).await;
        let stays = connect(&server).await;
        tokio::select! {
            _ = goes.call_with("once", "x", key(options, 1)) => panic!("no call has a permit"),
            () = until("it runs", || runs.load(SeqCst) == 1) => {}
        }
        goes.close("gone");
        until("its caller is gone", || server.stats().calls_cancelled == 1).await;
        assert_eq!(running(), 1, "it holds its permit");
        assert_eq!(server.in_flight(), 1);
        permits.add_permits(1);
        until("its permit is free", || running() == 0).await;
        let repeat = within(stays.call_with("once", "x", key(options, 1))).await;
        assert_eq!(repeat.unwrap(), "run 1");
    }
}

#[tokio::test]
async fn a_repeat_that_waits_for_the_run_holds_no_permit() {
    for options in carriers() {
        let (router, runs, permits) = counted(IdempotencyCache::new());
        let config = TransportConfig::default().with_admission(Admission::fixed(2));
        let server = serve(router, config);
        let client = connect(&server).await;
        let first = client.call_with("once", "x", key(options, 1));
        let repeat = async {
            until("it runs", || runs.load(SeqCst) == 1).await;
            client.call_with("once", "x", key(options, 1)).await
        };
        let release = async {
            until("the repeat waits", || server.stats().keys_joined == 1).await;
            until("only the run holds a permit", || {
                calls_with_permits(&server) == 1
            })
            .await;
            permits.add_permits(1);
        };
        let (first, repeat, ()) = within(async { tokio::join!(first, repeat, release) }).await;
        assert_eq!(
            (first.unwrap(), repeat.unwrap()),
            ("run 1".into(), "run 1".into())
        );
    }
}

/// Nested calls of the handler end at the deadline of the run, not at that of the caller that
/// started it.
#[tokio::test]
async fn a_run_keeps_its_own_deadline_for_later_repeats() {
    for options in carriers() {
        let (runs, gate) = (Arc::new(AtomicUsize::new(0)), Arc::new(Semaphore::new(0)));
        let (counter, opened) = (Arc::clone(&runs), Arc::clone(&gate));
        let nested = Router::new().raw("once", move |cx: CallContext, _| {
            counter.fetch_add(1, SeqCst);
            let (gate, deadline) = (Arc::clone(&opened), inherited().deadline());
            async move {
                assert_eq!(cx.deadline(), deadline);
                // As a nested call would.
                let wait =
                    tokio::time::timeout_at(deadline.expect("the run's").into(), gate.acquire());
                let permit = wait.await;
                permit
                    .map_err(|_| Status::new(Code::DeadlineExceeded, "no reply in time"))?
                    .expect("the semaphore stays open")
                    .forget();
                Ok(Bytes::from_static(b"done"))
            }
        });
        let server = serve(
            nested.with_idempotency("once", IdempotencyCache::new().with_ttl(2 * TEST_TIMEOUT)),
            TransportConfig::default(),
        );
        let client = connect(&server).await;
        let hurried = key(options, 1).with_timeout(Duration::from_millis(200));
        // On a slow machine its deadline may pass before it starts.
        while runs.load(SeqCst) == 0 {
            let error = within(client.call_with("once", "x", hurried)).await;
            assert_eq!(error.unwrap_err().code(), Code::DeadlineExceeded);
        }
        let joined = server.stats().keys_joined;
        let patient = key(options, 1).with_timeout(TEST_TIMEOUT);
        let open = async {
            until("it waits", || server.stats().keys_joined > joined).await;
            gate.add_permits(1);
        };
        let patient = client.call_with("once", "x", patient);
        let (reply, ()) = within(async { tokio::join!(patient, open) }).await;
        assert_eq!(reply.unwrap(), "done");
        assert_eq!(runs.load(SeqCst), 1);
    }
}

#[tokio::test]
async fn a_call_with_a_key_counts_once_in_flight() {
    for options in carriers() {
        let (router, runs, permits) = counted(IdempotencyCache::new());
        let four = std::num::NonZeroUsize::new(4).unwrap();
        let server = serve(router, TransportConfig::default().with_calls_max(four));
        let client = connect(&server).await;
        let mut calls = Vec::new();
        for number in 1..=4 {
            let client = client.clone();
            let options = key(options, number as u128);
            calls.push(tokio::spawn(async move {
                client.call_with("once", "x", options).await
            }));
            until("it runs", || runs.load(SeqCst) == number).await;
        }
        until("they are counted", || server.in_flight() == 4).await;
        let fifth = within(client.call_with("once", "x", key(options, 5))).await;
        assert_eq!(fifth.unwrap_err().code(), Code::Overloaded);
        // A run that goes on without its caller counts too.
        let goes = calls.swap_remove(0);
        goes.abort();
        until("its caller is gone", || server.stats().calls_cancelled == 1).await;
        assert_eq!(server.in_flight(), 4);
        permits.add_permits(4);
        for call in calls {
            assert!(within(call).await.expect("no panic").is_ok());
        }
        until("all have ended", || server.in_flight() == 0).await;
    }
}

#[tokio::test]
async fn a_shutdown_cancels_a_run_at_its_deadline() {
    let (router, runs, _permits) = counted(IdempotencyCache::new());
    let server = serve(router, TransportConfig::default());
    let client = connect(&server).await;
    let call = async {
        client
            .call_with("once", "x", key(CallOptions::new(), 1))
            .await
    };
    let stop = async {
        until("it runs", || runs.load(SeqCst) == 1).await;
        within(server.shutdown(Duration::from_secs(1))).await
    };
    let (ended, report) = within(async { tokio::join!(call, stop) }).await;
    assert_eq!(ended.unwrap_err().processed(), Processed::Maybe);
    assert_eq!(report.cancelled, 1);
    assert_eq!(server.in_flight(), 0);
}

#[tokio::test]
async fn a_do_not_retry_status_reaches_the_caller() {
    let no = || async { Err(Status::overloaded("hopeless").do_not_retry()) };
    let (_server, client) = pair(Router::new().raw("never", move |_cx, _body| no())).await;
    for options in carriers() {
        let error = within(client.call_with("never", "", options)).await;
        let error = error.unwrap_err();
        assert!(error.forbids_retry() && !error.is_retryable());
        assert_eq!(error.retry_after(), Some(Duration::MAX));
    }
}
