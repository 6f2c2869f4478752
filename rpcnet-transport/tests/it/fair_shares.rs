//! Fair shares: long calls of one caller beside small calls of another, in virtual time.

use std::time::Duration;

use bytes::Bytes;
use futures::{StreamExt, future::join_all};
use rpcnet_transport::{
    Admission, CallContext, CallOptions, Endpoint, IdempotencyCache, MemoryNetwork, PeerIdentity,
    Priority, Receiver, Router, RpcClient, RpcServer, Status, TransportConfig,
};
use tokio::{
    task::JoinSet,
    time::{self, sleep, timeout},
};

use crate::{bind_in_memory, concurrency::Concurrency};

const PERMITS: usize = 8;

/// How long the handlers of the greedy caller work.
const LONG: Duration = Duration::from_secs(2);

/// Small calls of the other caller: how many, and how often.
const CALLS: usize = 300;
const EVERY: Duration = Duration::from_millis(10);

/// Least number of answered calls, of 300.
const ANSWERED_MIN: usize = CALLS * 9 / 10;

struct TwoCallers {
    server: RpcServer,
    greedy: RpcClient,
    modest: RpcClient,
    _nodes: [Endpoint; 2],
}

async fn callers(limited: Limited) -> TwoCallers {
    let network = MemoryNetwork::new();
    let bind = |name, config| bind_in_memory(&network, name, config);
    let (mut config, mut router) = (TransportConfig::lan(), router());
    match limited {
        Limited::Server => config = config.with_admission(Admission::fixed(PERMITS)),
        Limited::Methods => {
            for method in ["small", "once", "parts", "slowly"] {
                router = router.with_limit(method, PERMITS);
            }
        }
    }
    let server = bind("server", config).serve(router);
    let nodes = ["greedy", "modest"].map(|name| bind(name, TransportConfig::lan()));
    let connect = |node: &Endpoint| {
        let (node, addr) = (node.clone(), server.local_addr());
        async move { node.connect(addr, "server").await.unwrap() }
    };
    let (greedy, modest) = (connect(&nodes[0]).await, connect(&nodes[1]).await);
    TwoCallers {
        server,
        greedy,
        modest,
        _nodes: nodes,
    }
}

/// Where the limit applies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Limited {
    Server,
    Methods,
}

/// Methods: a small one, a medium one, a long one with keys, one that works for long once it has
/// all messages, two that stop waiting for a message, one that waits for it again, and one that
/// works on each message.
fn router() -> Router {
    Router::new()
        .raw("small", |_cx, body: Bytes| async move {
            let is_long = body.starts_with(b"long");
            sleep(if is_long { LONG } else { EVERY / 10 }).await;
            Ok(body)
        })
        .raw("sleep-10ms", |_cx, body| async move {
            sleep(EVERY).await;
            Ok(body)
        })
        .raw("once", |_cx: CallContext, body| async move {
            sleep(LONG).await;
            Ok(body)
        })
        .with_idempotency("once", IdempotencyCache::new())
        .client_streaming("parts", |_cx, mut parts: Receiver<u64>| async move {
            while parts.message().await?.is_some() {}
            sleep(LONG).await;
            Ok::<_, Status>(0u64)
        })
        .client_streaming("message", |_cx, mut parts: Receiver<u64>| async move {
            timeout(EVERY, parts.message()).await.unwrap_err();
            sleep(LONG).await;
            Ok::<_, Status>(0u64)
        })
        .client_streaming("stream", |_cx, mut parts: Receiver<u64>| async move {
            timeout(EVERY, parts.next()).await.unwrap_err();
            sleep(LONG).await;
            Ok::<_, Status>(0u64)
        })
        .client_streaming("waits-twice", |_cx, mut parts: Receiver<u64>| async move {
            timeout(20 * EVERY, parts.message()).await.unwrap_err();
            sleep(LONG).await;
            let first = parts.message().await?;
            assert_eq!(parts.message().await?, None);
            Ok::<_, Status>(first.unwrap_or(0))
        })
        .client_streaming("slowly", |_cx, mut parts: Receiver<u64>| async move {
            let mut count = 0u64;
            while parts.message().await?.is_some() {
                sleep(2 * EVERY).await;
                count += 1;
            }
            Ok::<_, Status>(count)
        })
}

impl TwoCallers {
    /// Makes small calls at a fixed rate. Returns how many are answered.
    async fn small_calls(&self) -> usize {
        let mut calls = JoinSet::new();
        for _ in 0..CALLS {
            let client = self.modest.clone();
            calls.spawn(async move { client.call("small", vec![0; 8]).await.is_ok() });
            sleep(EVERY).await;
        }
        let ends = calls.join_all().await;
        ends.into_iter().filter(|is_ok| *is_ok).count()
    }

    /// Waits until so many calls have started.
    async fn begun(&self, calls: u64) {
        let begun = async {
            while self.server.stats().calls_started < calls {
                sleep(Duration::from_millis(1)).await;
            }
        };
        timeout(LONG, begun).await.expect("they begin in time");
    }

    /// Makes more calls with keys than there are permits, again and again, and cancels each of them
    /// soon.
    fn call_with_keys(&self) -> JoinSet<()> {
        let mut calls = JoinSet::new();
        for task in 0..2 * PERMITS {
            let client = self.greedy.clone();
            calls.spawn(async move {
                for number in 0.. {
                    let key = ((task as u128) << 64) | number;
                    let options = CallOptions::new().with_idempotency_key(key);
                    let call = client.call_with("once", vec![0; 8], options);
                    let _ = timeout(5 * EVERY, call).await;
                }
            });
        }
        calls
    }

    /// Makes so many calls at a time, again and again.
    fn flood(&self, calls: usize, priority: Priority) -> JoinSet<()> {
        let mut flood = JoinSet::new();
        for _ in 0..calls {
            let client = self.greedy.clone();
            let options = CallOptions::new().with_priority(priority);
            flood.spawn(async move {
                loop {
                    if client.call_with("sleep-10ms", "", options).await.is_err() {
                        sleep(5 * EVERY).await;
                    }
                }
            });
        }
        flood
    }

    /// Sends eight bytes on each of twice as many streams as there are permits, again and again.
    fn upload(&self, method: &'static str, parts: u64) -> JoinSet<()> {
        let mut calls = JoinSet::new();
        for _ in 0..2 * PERMITS {
            let client = self.greedy.clone();
            calls.spawn(async move {
                loop {
                    let upload = client.call_client_streaming::<u64, u64>(method).await;
                    if let Ok(mut upload) = upload {
                        for part in 0..parts {
                            let _ = upload.send(u64::MAX - part).await;
                        }
                        let _ = upload.finish().await;
                    }
                    sleep(EVERY).await;
                }
            });
        }
        calls
    }
}

#[tokio::test(start_paused = true)]
async fn small_calls_are_answered_beside_long_calls_with_keys() {
    let callers = callers(Limited::Server).await;
    let _calls = callers.call_with_keys();
    callers.begun(PERMITS as u64 / 2).await;
    let answered = callers.small_calls().await;
    assert!(answered >= ANSWERED_MIN, "{answered} of {CALLS}");
    let stats = callers.server.stats();
    assert!(stats.calls_shed > 0, "there were too many: {stats:?}");
}

#[tokio::test(start_paused = true)]
async fn small_calls_are_answered_beside_streams_with_long_handlers() {
    let callers = callers(Limited::Server).await;
    let _calls = callers.upload("parts", 1);
    callers.begun(PERMITS as u64 / 2).await;
    let answered = callers.small_calls().await;
    assert!(answered >= ANSWERED_MIN, "{answered} of {CALLS}");
}

#[tokio::test(start_paused = true)]
async fn small_calls_are_answered_beside_streams_that_held_all_permits() {
    let callers = callers(Limited::Server).await;
    // The other caller was not seen for long.
    sleep(Duration::from_secs(120)).await;
    let _calls = callers.upload("slowly", 100);
    callers.begun(PERMITS as u64).await;
    let answered = callers.small_calls().await;
    assert!(answered >= ANSWERED_MIN, "{answered} of {CALLS}");
}

#[tokio::test(start_paused = true)]
async fn the_limit_of_a_method_is_shared_too() {
    let callers = callers(Limited::Methods).await;
    callers.modest.call("small", "").await.expect("it is seen");
    let mut calls = JoinSet::new();
    for _ in 0..2 * PERMITS {
        let client = callers.greedy.clone();
        calls.spawn(async move {
            loop {
                let _ = client.call("small", "long").await;
            }
        });
    }
    callers.begun(PERMITS as u64 / 2).await;
    let answered = callers.small_calls().await;
    assert!(answered >= ANSWERED_MIN, "{answered} of {CALLS}");
}

#[tokio::test(start_paused = true)]
async fn bursts_are_answered_beside_the_flood_of_another_caller() {
    use Priority::{Critical, CriticalPlus};
    for (calls, priority) in [(400, Critical), (1_500, Critical), (1_500, CriticalPlus)] {
        let callers = callers(Limited::Server).await;
        let _flood = callers.flood(calls, priority);
        sleep(50 * EVERY).await;
        let mut answered = 0;
        for _ in 0..10 {
            let burst = (0..12).map(|_| callers.modest.call("sleep-10ms", ""));
            let ends = join_all(burst).await;
            answered += ends.iter().filter(|end| end.is_ok()).count();
            sleep(20 * EVERY).await;
        }
        assert_eq!(answered, 120, "beside {calls} calls, {priority:?}");
        let stats = callers.server.stats();
        assert!(stats.calls_shed > 100, "there were too many: {stats:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn bursts_are_answered_beside_the_queue_of_a_caller_with_long_handlers() {
    let callers = callers(Limited::Server).await;
    callers.modest.call("small", "").await.expect("a reply");
    // Six run, which is the share of a caller, and forty are queued again and again.
    let mut flood = JoinSet::new();
    for n in 0..46 {
        let client = callers.greedy.clone();
        // The running calls end one after the other.
        let begins = if n < 6 { n * LONG / 6 } else { 2 * LONG };
        flood.spawn(async move {
            sleep(begins).await;
            loop {
                if client.call("small", "long").await.is_err() {
                    sleep(EVERY / 10).await;
                }
            }
        });
    }
    sleep(4 * LONG).await;
    let mut answered = 0;
    for _ in 0..20 {
        let burst = (0..60).map(|_| callers.modest.call("small", ""));
        let ends = join_all(burst).await;
        answered += ends.iter().filter(|end| end.is_ok()).count();
        sleep(20 * EVERY).await;
    }
    assert_eq!(answered, 20 * 60);
    let stats = callers.server.stats();
    assert!(stats.calls_shed > 100, "there were too many: {stats:?}");
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_stops_reacquiring_counts_until_it_waits_again() {
    let callers = callers(Limited::Server).await;
    let running = || {
        let state = callers.server.endpoint().admission();
        state.expect("a limit").running
    };
    let mut uploads = Vec::new();
    for _ in 0..20 {
        let upload = callers
            .greedy
            .call_client_streaming::<u64, u64>("waits-twice");
        uploads.push(upload.await.expect("a stream"));
    }
    sleep(EVERY).await;
    assert_eq!(running(), 0, "they wait for messages");
    let mut calls = JoinSet::new();
    for _ in 0..6 {
        let client = callers.greedy.clone();
        calls.spawn(async move { client.call("small", "long").await.is_ok() });
    }
    sleep(EVERY).await;
    for (number, upload) in (1..).zip(&mut uploads) {
        upload.send(number).await.expect("sent");
    }
    sleep(EVERY).await;
    assert_eq!(running(), 6, "they wait for permits");
    sleep(LONG / 2).await;
    assert_eq!(running(), 26, "they go on");
    assert!(calls.join_all().await.into_iter().all(|is_ok| is_ok));
    sleep(LONG).await;
    assert_eq!(running(), 0, "they wait for further messages");
    for (number, upload) in (1u64..).zip(uploads) {
        assert_eq!(upload.finish().await.expect("a reply"), number);
    }
}

/// A stream does not learn that its handler has stopped waiting.
#[tokio::test(start_paused = true)]
async fn a_handler_that_stops_waiting_for_a_message_counts_again() {
    let callers = callers(Limited::Server).await;
    for (method, running) in [("message", 1), ("stream", 0)] {
        let upload = callers
            .greedy
            .call_client_streaming::<u64, u64>(method)
            .await;
        let upload = upload.expect("a stream");
        sleep(LONG / 2).await;
        let state = callers.server.endpoint().admission().expect("a limit");
        assert_eq!(state.running, running, "{method}");
        let count = upload.finish().await.expect("a reply");
        assert_eq!(count, 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_single_caller_uses_every_permit_and_no_more() {
    let network = MemoryNetwork::new();
    let bind = |name, config| bind_in_memory(&network, name, config);
    let config = TransportConfig::lan()
        .with_admission(Admission::fixed(PERMITS))
        .with_authorizer(|node: &PeerIdentity<'_>| match node.peer().name() {
            "gateway" => Ok(()),
            _ => Err("unknown".to_owned()),
        });
    let running = Concurrency::default();
    let counted = running.clone();
    let router = Router::new().raw("work", move |_cx, body| {
        let running = counted.clone();
        async move {
            let _works = running.enter();
            sleep(EVERY).await;
            Ok(body)
        }
    });
    let server = bind("server", config).serve(router);
    let node = bind("gateway", TransportConfig::lan());
    let client = node.connect(server.local_addr(), "server").await.unwrap();
    // A caller that is denied does not count.
    let denied = bind("other", TransportConfig::lan());
    let connected = denied.connect(server.local_addr(), "server").await;
    connected.expect_err("it is not let in");
    let began = time::Instant::now();
    let mut calls = JoinSet::new();
    for _ in 0..5 * PERMITS {
        let client = client.clone();
        calls.spawn(async move { client.call("work", "").await.is_ok() });
    }
    assert!(calls.join_all().await.into_iter().all(|is_ok| is_ok));
    assert_eq!(running.most(), PERMITS);
    assert!(began.elapsed() < 6 * EVERY, "{:?}", began.elapsed());
}
