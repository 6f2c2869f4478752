//! Workers as a channel: errors, rejected methods, hedging, streams in flight.

use std::{
    sync::atomic::{AtomicU64, Ordering::SeqCst},
    time::Duration,
};

use futures::{StreamExt, stream};
use parking_lot::Mutex;
use rpcnet_client::{
    CallError, ClusterError, Code, Message, Method, MethodOptions, Processed, Replies, Requests,
    WorkerCallOptions,
    balance::{Balancer, Outcome, OutcomeKind, PickContext, RoundRobin, View},
};
use rpcnet_testing::{until, within};
use serde::{Deserialize, Serialize};
use tokio::time::sleep;

use super::*;

const WORKERS: Option<&str> = Some("role=worker");

/// Error of a method.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Message)]
struct Refusal {
    number: u64,
}

/// The same of a later version.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Message)]
struct LaterRefusal {
    #[serde(default)]
    reason: String,
    number: u64,
}

const DIVIDE: Method<(u64, u64), u64, Refusal> = Method::new("divide");
const LATER_DIVIDE: Method<(u64, u64), u64, LaterRefusal> = Method::new("divide");

#[tokio::test(start_paused = true)]
async fn the_error_of_a_method_reaches_callers_of_its_version_and_of_another() {
    let cluster = TestCluster::new();
    let router = Router::new().method(DIVIDE, |(a, b): (u64, u64)| async move {
        a.checked_div(b).ok_or(Refusal { number: a })
    });
    let _worker = cluster.worker("red", router);
    let client = cluster.caller("caller", round_robin()).await;
    let workers = client.workers(WORKERS);
    assert_eq!(within(DIVIDE.call(&workers, &(42, 6))).await.unwrap(), 7);
    let refused = within(DIVIDE.call(&workers, &(42, 0))).await.unwrap_err();
    assert_eq!(refused.service(), Some(&Refusal { number: 42 }));
    let refused = within(LATER_DIVIDE.call(&workers, &(42, 0))).await;
    let expected = LaterRefusal {
        reason: String::new(),
        number: 42,
    };
    assert_eq!(refused.unwrap_err().service(), Some(&expected));
}

/// Two types under one name that do not fit.
const NUMBER: Method<u64, u64> = Method::new("number");
const NUMBER_AS_TEXT: Method<String, u64> = Method::new("number");

fn counts_text() -> Router {
    Router::new().method(NUMBER_AS_TEXT, |text| async move { text.len() as u64 })
}

#[tokio::test(start_paused = true)]
async fn workers_that_are_all_incompatible_are_named_with_the_types() {
    let cluster = TestCluster::new();
    let _workers = ["a", "b"].map(|name| cluster.worker(name, counts_text()));
    // It does not hide the others.
    cluster.unreachable("gone");
    let client = cluster.caller("caller", round_robin()).await;
    let error = within(NUMBER.call(&client.workers(None), &7)).await;
    let error = error.unwrap_err();
    assert_eq!(error.code(), Code::Incompatible, "{error}");
    assert_eq!(error.processed(), Processed::No);
    assert!(
        error.message().contains("tried 3 times, last on"),
        "{error}"
    );
    assert!(error.message().contains("string"), "{error}");
    let behind = ClusterError::of(&error).expect("a cluster error");
    assert_eq!(behind.attempts().len(), 3, "{behind}");
    let verdict = behind.rpc().and_then(|error| error.incompatibility());
    assert_eq!(verdict.expect("a verdict").part(), "request");
    assert_eq!(client.stats().budget_exhausted, 0);
}

#[tokio::test(start_paused = true)]
async fn an_incompatible_worker_is_passed_over_by_later_calls_of_the_method() {
    let cluster = TestCluster::new();
    let old = cluster.worker("old", counts_text());
    let router = || Router::new().method(NUMBER, |n| async move { n + 1 });
    let _workers = ["a", "b"].map(|name| cluster.worker(name, router()));
    let client = cluster.caller("caller", round_robin()).await;
    let workers = client.workers(WORKERS);
    for n in 0..60 {
        assert_eq!(within(NUMBER.call(&workers, &n)).await.unwrap(), n + 1);
    }
    assert_eq!(client.stats().retries_transparent, 1);
    assert_eq!(old.stats().calls_completed, 0);
    // A caller of this process with the types of the old worker gets there all the same.
    let text = "twelve".to_owned();
    for _ in 0..6 {
        let counted = within(NUMBER_AS_TEXT.call(&workers, &text)).await;
        assert_eq!(counted.unwrap(), 6);
    }
    assert_eq!(within(NUMBER.call(&workers, &1)).await.unwrap(), 2);
}

/// A variant that the other version does not have.
#[derive(Debug, Clone, Serialize, Deserialize, Message)]
enum Speed {
    Quick,
}

#[derive(Debug, Clone, Serialize, Deserialize, Message)]
enum LaterSpeed {
    Quick,
    Slow,
}

const RUN: Method<Speed, String> = Method::new("run");
const LATER_RUN: Method<LaterSpeed, String> = Method::new("run");

#[tokio::test(start_paused = true)]
async fn a_value_that_a_worker_does_not_know_is_about_that_call_alone() {
    let cluster = TestCluster::new();
    let old = Router::new().method(RUN, |_| async { "old".to_owned() });
    let new = Router::new().method(LATER_RUN, |_| async { "new".to_owned() });
    let _workers = [cluster.worker("old", old), cluster.worker("new", new)];
    let client = cluster.caller("caller", round_robin()).await;
    let workers = client.workers(WORKERS);
    // Each second one goes to the old worker first.
    for _ in 0..10 {
        let slow = within(LATER_RUN.call(&workers, &LaterSpeed::Slow)).await;
        assert_eq!(slow.unwrap(), "new");
    }
    assert!(client.stats().retries_transparent > 1);
    let mut served_by_old = 0;
    for _ in 0..10 {
        let quick = within(LATER_RUN.call(&workers, &LaterSpeed::Quick)).await;
        served_by_old += usize::from(quick.unwrap() == "old");
    }
    assert_eq!(served_by_old, 5);
}

/// Round robin that records the kinds of outcomes.
#[derive(Debug)]
struct RecordingRoundRobin {
    turns: RoundRobin,
    kinds: Mutex<Vec<OutcomeKind>>,
}

impl Balancer for RecordingRoundRobin {
    fn pick(&self, view: &View, cx: &PickContext<'_>) -> Option<usize> {
        self.turns.pick(view, cx)
    }

    fn on_outcome(&self, _: &View, _: usize, outcome: &Outcome) {
        self.kinds.lock().push(outcome.kind);
    }
}

/// A message that cannot be encoded.
#[derive(Debug, Clone, Deserialize, Message)]
struct Unwritable;

impl Serialize for Unwritable {
    fn serialize<S: serde::Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
        Err(serde::ser::Error::custom("not today"))
    }
}

#[tokio::test(start_paused = true)]
async fn outcomes_of_typed_calls_blame_a_worker_only_for_its_own_failures() {
    const TAKE: Method<Unwritable, ()> = Method::new("take");
    const TAKE_ALL: Method<Requests<Unwritable>, ()> = Method::new("take all");
    let cluster = TestCluster::new();
    let router = counts_text()
        .method(RUN, |_| async { "old".to_owned() })
        .method(TAKE, |_| async {})
        .client_streaming_method(TAKE_ALL, |_, requests: Requests<_>| async move {
            requests.for_each(|_| async {}).await;
        });
    let _worker = cluster.worker("red", router);
    let told = Arc::new(RecordingRoundRobin {
        turns: RoundRobin::seeded(1),
        kinds: Mutex::default(),
    });
    let client = cluster.caller("caller", Arc::clone(&told) as Arc<dyn Balancer>);
    let client = client.await;
    let workers = client.workers(WORKERS);
    let kinds = || std::mem::take(&mut *told.kinds.lock());
    for error in [
        within(NUMBER.call(&workers, &7)).await.unwrap_err(),
        within(LATER_RUN.call(&workers, &LaterSpeed::Slow))
            .await
            .unwrap_err(),
    ] {
        assert_eq!(error.code(), Code::Incompatible);
        assert_eq!(error.processed(), Processed::No);
    }
    assert_eq!(kinds(), [OutcomeKind::Rejected; 2]);
    within(LATER_RUN.call(&workers, &LaterSpeed::Quick))
        .await
        .unwrap();
    assert_eq!(kinds(), [OutcomeKind::Success]);
    let idempotent = MethodOptions::new().with_idempotent(true);
    let unsent = within(TAKE.call_with(&workers, &Unwritable, idempotent)).await;
    assert_eq!(unsent.unwrap_err().processed(), Processed::No);
    let requests = stream::iter([Unwritable]);
    let unsent = within(TAKE_ALL.call_client_streaming(&workers, requests, idempotent)).await;
    assert!(unsent.unwrap_err().is_local());
    assert_eq!(kinds(), [], "no worker is to blame");
    assert_eq!(client.stats().extra_attempts(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_method_hedges_by_the_latencies_of_its_calls() {
    const WHO: Method<(), u64> =
        Method::new("who").with_options(MethodOptions::new().with_hedge_quantile(0.9));
    let cluster = TestCluster::new();
    let calls = Arc::new(AtomicU64::new(0));
    let router = || {
        let calls = Arc::clone(&calls);
        Router::new().method(WHO, move |()| {
            let number = calls.fetch_add(1, SeqCst);
            async move {
                // One hangs, after enough to tell what is usual.
                let took = if number == 40 { 3_600_000 } else { 10 };
                sleep(Duration::from_millis(took)).await;
                number
            }
        })
    };
    let _workers = ["a", "b"].map(|name| cluster.worker(name, router()));
    let client = cluster.caller("caller", round_robin()).await;
    let workers = client.workers(WORKERS);
    for _ in 0..40 {
        within(WHO.call(&workers, &())).await.unwrap();
    }
    assert_eq!(within(WHO.call(&workers, &())).await.unwrap(), 41);
    assert_eq!(client.stats().hedges_won, 1);
}

#[tokio::test(start_paused = true)]
async fn options_of_the_channel_are_for_all_its_calls() {
    const HANG: Method<(), ()> = Method::new("hang");
    let cluster = TestCluster::new();
    let router = Router::new().method(HANG, |()| std::future::pending::<()>());
    let _worker = cluster.worker("red", router);
    let client = cluster.caller("caller", round_robin()).await;
    let options = WorkerCallOptions::new().with_timeout(Duration::from_secs(2));
    let workers = client.workers(None).with_options(options);
    let began = tokio::time::Instant::now();
    let late = within(HANG.call(&workers, &())).await.unwrap_err();
    assert_eq!(late.code(), Code::DeadlineExceeded);
    assert_eq!(late.processed(), Processed::Maybe);
    assert_eq!(began.elapsed().as_secs(), 2);
    let sooner = MethodOptions::new().with_timeout(Duration::from_secs(1));
    let late = within(HANG.call_with(&workers, &(), sooner)).await;
    assert_eq!(late.unwrap_err().code(), Code::DeadlineExceeded);
    assert_eq!(began.elapsed().as_secs(), 3);
    let no_cooks = client.workers(Some("role=cook"));
    let error = within(HANG.call(&no_cooks, &())).await.unwrap_err();
    assert_eq!(error.code(), Code::Unavailable);
    assert!(matches!(
        ClusterError::of(&error),
        Some(ClusterError::Select(_))
    ));
}

#[tokio::test(start_paused = true)]
async fn a_typed_stream_counts_as_in_flight_until_its_replies_are_dropped() {
    const COUNT: Method<u64, Replies<u64>, Refusal> = Method::new("count");
    let cluster = TestCluster::new();
    let router = Router::new().server_streaming_method(COUNT, |_, to| async move {
        let numbers = (0..to).map(|number| match number {
            2 => Err(Refusal { number }),
            number => Ok(number),
        });
        Ok(Replies::try_new(stream::iter(numbers)))
    });
    let _worker = cluster.worker("red", router);
    let client = cluster.caller("caller", round_robin()).await;
    let workers = client.workers(WORKERS);
    let in_flight = || client.registry().workers(None).expect("no filter")[0].in_flight;
    let opened = COUNT.call_server_streaming(&workers, &5, MethodOptions::new());
    let mut replies = within(opened).await.unwrap();
    for number in [0, 1] {
        assert_eq!(within(replies.message()).await.unwrap(), Some(number));
    }
    assert_eq!(in_flight(), 1);
    let refused = CallError::from(within(replies.message()).await.unwrap_err());
    assert_eq!(refused.service(), Some(&Refusal { number: 2 }));
    drop(replies);
    until("it is over", || in_flight() == 0).await;
}

#[tokio::test(start_paused = true)]
async fn an_integer_literal_without_its_type_is_rejected_by_a_worker_of_another_one() {
    let cluster = TestCluster::new();
    let router = || Router::new().typed("double", |n: u32| async move { n * 2 });
    let workers = ["a", "b"].map(|name| cluster.worker(name, router()));
    let client = cluster.caller("caller", round_robin()).await;
    for _ in 0..2 {
        let call = client.call_worker_typed::<_, u32>("double", &21, WORKERS);
        let error = within(call).await.unwrap_err();
        let behind = error.rpc().expect("an answer of a worker");
        assert_eq!(behind.code(), Code::Incompatible);
        let text = "the request is of type i32, and the method takes u32";
        assert!(behind.message().starts_with(text), "{behind}");
        let options = WorkerCallOptions::new();
        let call = client.call_worker_typed_with("double", &21_u32, WORKERS, options);
        let doubled: u32 = within(call).await.unwrap();
        assert_eq!(doubled, 42);
    }
    let completed: u64 = workers.iter().map(|it| it.stats().calls_completed).sum();
    assert_eq!(completed, 2);
}
