//! Admission: calls above the limit are queued or rejected, and permits come back.

use std::{
    num::NonZeroU32,
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use futures::{
    StreamExt,
    future::{join_all, pending},
    stream::FuturesUnordered,
};
use rpcnet_transport::{Admission, CallOptions, Code, Priority, Processed};
use tokio::sync::Semaphore;

use super::*;
use crate::concurrency::Concurrency;

/// Queue times that are long enough for a slow machine.
fn fixed(calls: usize) -> Admission {
    Admission::fixed(calls)
        .with_queue_target(TEST_TIMEOUT / 4)
        .with_queue_interval(TEST_TIMEOUT)
}

fn limited(admission: Admission) -> TransportConfig {
    TransportConfig::default().with_admission(admission)
}

/// A method `work` that waits for a permit of the test, with the number of its handlers.
#[derive(Clone, Default)]
struct Work {
    handlers: Concurrency,
    order: Arc<Mutex<Vec<Bytes>>>,
    permits: Option<Arc<Semaphore>>,
}

impl Work {
    fn closed() -> Self {
        Self {
            permits: Some(Arc::new(Semaphore::new(0))),
            ..Self::default()
        }
    }

    fn open(&self, permits: usize) {
        if let Some(semaphore) = &self.permits {
            semaphore.add_permits(permits);
        }
    }

    fn router(&self) -> Router {
        let work = self.clone();
        Router::new().raw("work", move |_cx, body| {
            let work = work.clone();
            async move {
                let _works = work.handlers.enter();
                work.order.lock().unwrap().push(body.clone());
                match &work.permits {
                    Some(permits) => permits.acquire().await.unwrap().forget(),
                    // Work during which other calls wait for a permit.
                    None => sleep(Duration::from_millis(2)).await,
                }
                if &body[..] == b"panic" {
                    panic!("on purpose");
                }
                Ok(body)
            }
        })
    }

    fn order(&self) -> Vec<Bytes> {
        self.order.lock().unwrap().clone()
    }
}

fn waiting(server: &RpcServer) -> usize {
    let state = server.endpoint().admission();
    state.expect("a limit").waiting
}

fn running(server: &RpcServer) -> usize {
    let state = server.endpoint().admission();
    state.expect("a limit").running
}

/// Isolated or not: calls on streams and on lanes have to behave alike.
fn carriers() -> [CallOptions; 2] {
    [false, true].map(|isolated| CallOptions::new().with_isolated(isolated))
}

#[tokio::test]
async fn calls_above_the_limit_are_queued() {
    for options in carriers() {
        let work = Work::closed();
        let server = serve(work.router(), limited(fixed(3)));
        let client = connect(&server).await;
        let mut calls: FuturesUnordered<_> = (0..10)
            .map(|_| client.call_with("work", "x", options))
            .collect();
        let all = async { while calls.next().await.expect("ten").is_err() {} };
        tokio::select! {
            () = all => panic!("no call has a permit"),
            () = until("seven wait", || waiting(&server) == 7) => {}
        }
        assert_eq!(running(&server), 3);
        work.open(10);
        let replies: Vec<_> = within(calls.collect()).await;
        assert!(replies.iter().all(Result::is_ok), "{replies:?}");
        assert_eq!(work.handlers.most(), 3);
        until("all permits are free", || running(&server) == 0).await;
        counts(&server, "calls", 10, |s| s.calls_completed).await;
        let stats = server.stats();
        assert_eq!(
            (stats.calls_queued, stats.calls_rejected_overloaded),
            (7, 0)
        );
    }
}

#[tokio::test]
async fn a_lane_goes_on_while_one_of_its_calls_is_queued() {
    let work = Work::closed();
    let router = work
        .router()
        .raw("free", |_cx, body| async move { Ok(body) });
    let config = limited(fixed(1).with_queue_len(10));
    let server = serve(router.without_admission("free"), config);
    // All calls share one lane.
    let one = TransportConfig::default().with_lanes(1.try_into().unwrap());
    let client = connect_with(&server, one).await;
    let (runs, waits) = (client.call("work", "a"), client.call("work", "b"));
    let free = async {
        until("one waits", || waiting(&server) == 1).await;
        for _ in 0..10 {
            within(client.call("free", "x")).await.expect("a reply");
        }
        assert_eq!(waiting(&server), 1);
        work.open(2);
    };
    let (runs, waits, ()) = within(async { tokio::join!(runs, waits, free) }).await;
    assert!(runs.is_ok() && waits.is_ok());
}

#[tokio::test]
async fn a_full_queue_rejects_calls_by_their_header() {
    for options in carriers() {
        let work = Work::closed();
        let server = serve(work.router(), limited(fixed(1).with_queue_len(1)));
        let client = connect(&server).await;
        let (first, second) = (
            client.call_with("work", "a", options),
            client.call_with("work", "b", options),
        );
        let rejected = async {
            until("one waits", || waiting(&server) == 1).await;
            let error = within(client.call_with("work", "c", options))
                .await
                .unwrap_err();
            assert_eq!(outcome_of(&error), (Code::Overloaded, Processed::No));
            let wait = error.retry_after().expect("an estimate");
            assert!(wait > Duration::ZERO && wait <= Duration::from_secs(1));
            assert!(error.is_retryable());
            // A call whose body is never sent is rejected by its header.
            let mut caller = hostile_caller::Caller::connect(&server).await;
            let reply = within(caller.call_without_body("work", 1_000_000)).await;
            assert_eq!(
                (reply.code, reply.processed),
                (Code::Overloaded, Processed::No)
            );
            assert!(reply.load.busy);
            work.open(2);
        };
        let (first, second, ()) = within(async { tokio::join!(first, second, rejected) }).await;
        assert!(first.is_ok() && second.is_ok());
        let stats = server.stats();
        assert_eq!((stats.calls_rejected_overloaded, stats.calls_shed), (2, 0));
        assert_eq!(work.order().len(), 2);
    }
}

#[tokio::test]
async fn higher_priorities_run_first_and_shed_lower_ones() {
    for options in carriers() {
        let work = Work::closed();
        let server = serve(work.router(), limited(fixed(1).with_queue_len(2)));
        let client = connect(&server).await;
        let call = |body: &'static str, priority| {
            client.call_with("work", body, options.with_priority(priority))
        };
        let mut least = Box::pin(call("least", Priority::Sheddable));
        let (mut first, mut more) = (
            Box::pin(call("first", Priority::Sheddable)),
            Box::pin(call("more", Priority::Critical)),
        );
        let mut most = Box::pin(call("most", Priority::CriticalPlus));
        let runs = || !work.order().is_empty();
        let poll = async |what: &str,
                          call: &mut (dyn Future<Output = _> + Unpin),
                          holds: &dyn Fn() -> bool| {
            tokio::select! {
                biased;
                _ = call => panic!("{what}: it ends too soon"),
                () = until(what, holds) => {}
            }
        };
        poll("one runs", &mut first, &runs).await;
        poll("one waits", &mut least, &|| waiting(&server) == 1).await;
        poll("two wait", &mut more, &|| waiting(&server) == 2).await;
        let pushed_out = async {
            let error = within(least).await.unwrap_err();
            assert_eq!(outcome_of(&error), (Code::Overloaded, Processed::No));
            assert!(error.retry_after().is_some());
            work.open(3);
        };
        let all = async { tokio::join!(&mut most, &mut first, &mut more, pushed_out) };
        let (most, first, more, ()) = within(all).await;
        assert!(most.is_ok() && first.is_ok() && more.is_ok());
        assert_eq!(work.order(), ["first", "most", "more"]);
        assert_eq!(server.stats().calls_shed, 1);
    }
}

#[tokio::test]
async fn a_call_whose_deadline_passes_in_the_queue_never_runs() {
    for options in carriers() {
        let work = Work::closed();
        let server = serve(work.router(), limited(fixed(1)));
        let client = connect(&server).await;
        let late = async {
            until("one runs", || running(&server) == 1).await;
            // The server enforces the deadline of a caller that does not.
            let mut caller = hostile_caller::Caller::connect(&server).await;
            let reply = within(caller.call("work", Some(Duration::from_millis(50)))).await;
            assert_eq!(
                (reply.code, reply.processed),
                (Code::DeadlineExceeded, Processed::No)
            );
            let short = options.with_timeout(Duration::from_millis(50));
            within(client.call_with("work", "late", short))
                .await
                .unwrap_err();
            until("the queue is empty", || waiting(&server) == 0).await;
            work.open(9);
        };
        let (first, ()) =
            within(async { tokio::join!(client.call_with("work", "first", options), late) }).await;
        assert!(first.is_ok());
        assert_eq!(work.order(), ["first"]);
        let stats = server.stats();
        assert_eq!(stats.calls_timed_out, 0);
        assert!(stats.calls_expired + stats.calls_cancelled == 2 && stats.calls_expired >= 1);
        until("all permits are free", || running(&server) == 0).await;
    }
}

#[tokio::test]
async fn permits_come_back_from_panics_cancellations_and_deadlines() {
    for options in carriers() {
        let work = Work::default();
        let hang = |_cx: CallContext, _body: Bytes| pending();
        let explode = |_cx: CallContext, _body: Bytes| async { panic!("at once") };
        let router = work.router().raw("hang", hang).raw("explode", explode);
        let server = serve(router, limited(fixed(2)));
        let client = connect(&server).await;
        for _ in 0..5 {
            let storm = (0..8).map(|n| {
                let client = &client;
                async move {
                    match n % 4 {
                        0 => drop(client.call_with("work", "panic", options).await),
                        1 => drop(client.call_with("explode", "", options).await),
                        2 => {
                            let short = options.with_timeout(Duration::from_millis(20));
                            drop(client.call_with("hang", "", short).await);
                        }
                        _ => {
                            let hang = client.call_with("hang", "", options);
                            drop(timeout(Duration::from_millis(10), hang).await);
                        }
                    }
                }
            });
            within(join_all(storm)).await;
        }
        until("all permits are free", || running(&server) == 0).await;
        assert_eq!(waiting(&server), 0);
        within(client.call_with("work", "still", options))
            .await
            .expect("a reply");
        assert!(work.handlers.most() <= 2);
    }
}

#[tokio::test]
async fn calls_of_a_lost_caller_leave_the_queue() {
    let work = Work::closed();
    let server = serve(work.router(), limited(fixed(1)));
    let (stays, goes) = (connect(&server).await, connect(&server).await);
    let first = stays.call("work", "a");
    let gone = async {
        until("one runs", || running(&server) == 1).await;
        let calls = join_all((0..5).map(|_| goes.call("work", "b")));
        tokio::select! {
            _ = calls => panic!("no call has a permit"),
            () = until("five wait", || waiting(&server) == 5) => {}
        }
        goes.close("gone");
        until("the queue is empty", || waiting(&server) == 0).await;
        work.open(1);
    };
    let (first, ()) = within(async { tokio::join!(first, gone) }).await;
    assert!(first.is_ok());
    assert_eq!(work.order().len(), 1);
}

#[tokio::test]
async fn a_method_has_a_limit_of_its_own() {
    for options in carriers() {
        let work = Work::closed();
        let router = work.router().with_limit("work", 2);
        let server = serve(router, TransportConfig::default());
        let client = connect(&server).await;
        let calls = join_all((0..2).map(|_| client.call_with("work", "x", options)));
        let others = async {
            until("two run", || work.handlers.now() == 2).await;
            // The queue of a method has the default times.
            let error = within(client.call_with("work", "y", options))
                .await
                .unwrap_err();
            assert_eq!(outcome_of(&error), (Code::Overloaded, Processed::No));
            assert_answers(&client).await;
            work.open(2);
        };
        let (replies, ()) = within(async { tokio::join!(calls, others) }).await;
        assert!(replies.iter().all(Result::is_ok));
        let stats = server.stats();
        assert_eq!((stats.calls_queued, stats.calls_shed), (1, 1));
        assert_eq!(work.handlers.most(), 2);
    }
}

#[tokio::test]
async fn queued_callers_take_turns() {
    let work = Work::closed();
    let server = serve(work.router(), limited(fixed(1)));
    let greedy = connect(&server).await;
    let modest = endpoint("client-2", TransportConfig::default())
        .connect(server.local_addr(), SERVER)
        .await
        .expect("a connection");
    let many = join_all((0..20).map(|_| greedy.call("work", "greedy")));
    let one = async {
        until("the others wait", || waiting(&server) == 19).await;
        let call = modest.call("work", "modest");
        let work = async {
            until("it waits too", || waiting(&server) == 20).await;
            work.open(21);
        };
        within(async { tokio::join!(call, work) }).await.0
    };
    let (many, one) = within(async { tokio::join!(many, one) }).await;
    assert!(one.is_ok() && many.iter().all(Result::is_ok));
    let turn = work.order().iter().position(|body| &body[..] == b"modest");
    assert!(turn.is_some_and(|turn| turn <= 2), "{turn:?}");
}

#[tokio::test]
async fn the_load_report_says_busy_before_calls_are_rejected() {
    let work = Work::closed();
    let server = serve(work.router(), limited(fixed(5)));
    let client = connect(&server).await;
    let mut calls = Vec::new();
    for (running_calls, busy) in [(3, false), (4, true)] {
        while calls.len() < running_calls {
            let client = client.clone();
            calls.push(tokio::spawn(async move { client.call("work", "x").await }));
        }
        until("they run", || running(&server) == running_calls).await;
        // The check itself holds a permit only while it runs.
        assert_answers(&client).await;
        let load = client.load().expect("a reply");
        assert_eq!(load.busy, busy, "{running_calls} of 5 run");
        assert!(usize::from(load.in_flight) >= running_calls);
    }
    work.open(5);
    for call in calls {
        within(call).await.unwrap().expect("a reply");
    }
}

#[tokio::test]
async fn under_twice_the_load_every_call_is_answered_and_the_limit_is_used() {
    let work = Work::default();
    let admission = Admission::fixed(4)
        .with_queue_len(8)
        .with_queue_target(Duration::from_millis(5))
        .with_queue_interval(Duration::from_millis(100));
    let server = serve(work.router(), limited(admission));
    let many = TransportConfig::default().with_lane_calls_max(NonZeroU32::new(64).unwrap());
    let client = connect_with(&server, many).await;
    let callers = (0..24).map(|_| {
        let client = &client;
        async move {
            let (mut answered, mut rejected) = (0, 0);
            for _ in 0..40 {
                match within(client.call("work", "x")).await {
                    Ok(_) => answered += 1,
                    Err(e) => {
                        assert_eq!(
                            (e.code(), e.processed()),
                            (Code::Overloaded, Processed::No),
                            "{e}"
                        );
                        rejected += 1;
                    }
                }
            }
            (answered, rejected)
        }
    });
    let ends = join_all(callers).await;
    let (answered, rejected): (Vec<u64>, Vec<u64>) = ends.into_iter().unzip();
    let (answered, rejected): (u64, u64) = (answered.iter().sum(), rejected.iter().sum());
    assert_eq!(answered + rejected, 24 * 40);
    assert!(answered > 0 && rejected > 0, "{answered} and {rejected}");
    assert_eq!(work.handlers.most(), 4, "all permits, and no more");
    counts(&server, "calls", answered, |s| s.calls_completed).await;
    assert_eq!(server.stats().calls_rejected_overloaded, rejected);
    until("all permits are free", || running(&server) == 0).await;
    assert_eq!(waiting(&server), 0);
}

#[tokio::test]
async fn an_adaptive_limit_serves_calls() {
    let work = Work::default();
    let server = serve(work.router(), limited(Admission::adaptive().with_floor(3)));
    let client = connect(&server).await;
    let calls = (0..300).map(|_| client.call("work", "x"));
    let replies = within(join_all(calls)).await;
    assert!(replies.iter().any(Result::is_ok));
    let rejected = |e: &RpcError| e.code() == Code::Overloaded;
    assert!(replies.iter().flat_map(Result::as_ref).count() > 0);
    assert!(
        replies
            .iter()
            .filter_map(|r| r.as_ref().err())
            .all(rejected)
    );
    until("all permits are free", || running(&server) == 0).await;
    let limit = server.endpoint().admission().expect("a limit").limit;
    assert!(limit >= 3);
}

#[tokio::test]
async fn streams_hold_a_permit_until_they_end() {
    let router = Router::new().server_streaming(
        "count",
        |_cx, upto: u32, mut out: Sender<u32>| async move {
            for n in 0..upto {
                out.send(n).await?;
            }
            pending::<()>().await;
            Ok(())
        },
    );
    let server = serve(router, limited(fixed(2)));
    let client = connect(&server).await;
    let mut stream = client
        .call_server_streaming::<_, u32>("count", &3u32)
        .await
        .unwrap();
    assert_eq!(within(stream.message()).await.unwrap(), Some(0));
    assert_eq!(running(&server), 1);
    drop(stream);
    until("its permit is free", || running(&server) == 0).await;
}
