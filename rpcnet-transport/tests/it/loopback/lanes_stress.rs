//! Lanes under stress: thousands of calls with every kind of end.

use std::task::{Context, Waker};

use bytes::Bytes;
use futures::FutureExt;
use rpcnet_transport::{CallOptions, Code};
use tokio::task::yield_now;

use super::{lanes::*, *};

#[tokio::test]
async fn the_last_client_ends_the_connection_and_its_handlers() {
    let (router, dropped) = hanging();
    let (server, client) = pair(router).await;
    let mut call = Box::pin({
        let client = client.clone();
        async move { client.call("hang", "").await }
    });
    assert!(begin(&mut call).await.is_pending());
    until("it is served", || server.in_flight() == 1).await;
    drop(client);
    assert_eq!(server.in_flight(), 1, "the call has the client");
    drop(call);
    within(dropped.next()).await;
    until("nothing is served", || server.in_flight() == 0).await;
    assert_serves(&server).await;
}

#[tokio::test]
async fn a_shutdown_waits_for_the_first_call_that_its_endpoint_makes() {
    let (router, gate) = gated(Router::new());
    let server = serve(router, TransportConfig::default());
    let caller = endpoint(CLIENT, TransportConfig::default());
    let client = within(caller.connect(server.local_addr(), SERVER))
        .await
        .unwrap();
    let made = call(&client, "wait", unlimited());
    until("it is served", || server.in_flight() == 1).await;
    let mut shutdown = caller.shutdown(TEST_TIMEOUT).boxed();
    let early = timeout(Duration::from_millis(200), &mut shutdown).await;
    assert!(early.is_err(), "it waits for the call");
    gate.add_permits(1);
    within(shutdown).await;
    assert_eq!(within(made).await.unwrap().unwrap(), "x");
}

/// Pseudo-random numbers with a fixed seed (Marsaglia, "Xorshift RNGs", 2003, section 3).
struct Xorshift(u64);

impl Xorshift {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}

/// Methods of every duration and every outcome.
fn stress_methods() -> Router {
    echo(hang(Router::new()))
        .raw("yield", |_cx, body: Bytes| async move {
            for _ in 0..body.first().copied().unwrap_or_default() {
                yield_now().await;
            }
            Ok(body)
        })
        .raw("sleep", |_cx, body: Bytes| async move {
            sleep(Duration::from_millis(u64::from(body[0] % 8))).await;
            Ok(body)
        })
        .raw("grow", |_cx, body: Bytes| async move {
            let mut large = vec![0; 20_000];
            large[0] = body[0];
            Ok(large.into())
        })
        .raw("fail", |_cx, _body| async move {
            Err(Status::internal("on purpose"))
        })
}

/// A call of the stress test, as drawn from the seed.
struct StressCall {
    method: &'static str,
    timeout: Duration,
    /// Time after which the caller drops the call.
    dropped_after: Option<Duration>,
    first_byte: u8,
}

impl StressCall {
    fn draw(rng: &mut Xorshift, first_byte: u8) -> Self {
        let method = ["echo", "yield", "sleep", "grow", "fail", "hang"][rng.below(6) as usize];
        let timeout = match (method, rng.below(4)) {
            ("hang", _) => Duration::from_millis(20 + rng.below(200)),
            (_, 0) => Duration::from_millis(1 + rng.below(30)),
            _ => TEST_TIMEOUT,
        };
        let is_dropped = rng.below(4) == 0;
        Self {
            method,
            timeout,
            dropped_after: is_dropped.then(|| Duration::from_micros(rng.below(20_000))),
            first_byte,
        }
    }

    /// Makes the call, and checks that its outcome is one that it may have.
    async fn run(self, client: RpcClient) {
        let (method, limit) = (self.method, self.timeout);
        let options = CallOptions::new().with_timeout(limit);
        let call = client.call_with(method, vec![self.first_byte; 32], options);
        let outcome = match self.dropped_after {
            Some(after) => match timeout(after, call).await {
                Ok(outcome) => outcome,
                Err(_) => return,
            },
            None => call.await,
        };
        match outcome {
            Ok(reply) => assert_eq!(reply[0], self.first_byte, "{method}: another's reply"),
            Err(e) => {
                let expected = match e.code() {
                    Code::Internal => method == "fail",
                    Code::DeadlineExceeded | Code::Overloaded => limit < TEST_TIMEOUT,
                    _ => false,
                };
                assert!(expected, "{method} within {limit:?}: {e:?}");
            }
        }
    }
}

async fn stress(server_config: TransportConfig, client_config: TransportConfig, seed: u64) {
    let server = serve(stress_methods(), server_config);
    let client = connect_with(&server, client_config).await;
    let mut rng = Xorshift(seed);
    let mut calls: Vec<_> = (0..3_000)
        .map(|n| tokio::spawn(StressCall::draw(&mut rng, n as u8).run(client.clone())))
        .collect();
    // Some are aborted from outside.
    for _ in 0..200 {
        let call = rng.below(calls.len() as u64) as usize;
        calls.swap_remove(call).abort();
        yield_now().await;
    }
    for call in calls {
        within(call).await.unwrap();
    }
    until("the client is idle", || client.in_flight() == 0).await;
    until("the server is idle", || server.in_flight() == 0).await;
    for _ in 0..200 {
        assert_answers(&client).await;
    }
    let report = within(server.shutdown(TEST_TIMEOUT)).await;
    assert_eq!((report.cancelled, report.rejected), (0, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn calls_with_any_end_leave_nothing_behind() {
    let config = TransportConfig::default();
    stress(config.clone(), config, 0x9e37_79b9_7f4a_7c15).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn calls_through_few_slots_leave_nothing_behind() {
    stress(few(2, 5), TransportConfig::default(), 0xbf58_476d_1ce4_e5b9).await;
}

#[tokio::test]
async fn calls_through_few_slots_on_one_thread_leave_nothing_behind() {
    stress(few(2, 5), TransportConfig::default(), 0x94d0_49bb_1331_11eb).await;
}

#[tokio::test]
async fn unpolled_futures_hold_up_no_other_call() {
    let (router, gate) = gated(echo(Router::new()));
    let server = serve(router, few(2, 1));
    let client = connect(&server).await;
    let mut held = client.call("echo", "held").boxed();
    assert!(begin(&mut held).await.is_pending());
    counts(&server, "served calls", 1, |s| s.calls_completed).await;
    // Its reply has arrived and was not taken: the slot is in use, and the other lane serves the
    // others.
    for _ in 0..3 {
        assert_answers(&client).await;
    }
    let mut cx = Context::from_waker(Waker::noop());
    until("the reply is here", || held.poll_unpin(&mut cx).is_ready()).await;
    drop(gate);
}
