//! Tests of sharded servers: one port, several threads.

use std::{
    num::NonZeroUsize,
    sync::{Arc, Mutex, mpsc},
};

use rpcnet_testing::LogCapture;
use rpcnet_transport::{BindError, CallOptions, CloseReason, Code, ConfigError, Shards};
use tokio::sync::Semaphore;
use tracing::Level;

use super::*;

fn count(shards: usize) -> NonZeroUsize {
    NonZeroUsize::new(shards).unwrap()
}

fn bind(addr: SocketAddr, config: TransportConfig, shards: usize) -> Shards {
    let tls = identity(SERVER);
    let shards = Shards::bind(addr, config, tls, count(shards)).expect("a free port");
    shards.serve(Router::new().typed("alive", |n: u32| async move { n + 1 }));
    shards
}

async fn call(shards: &Shards) -> RpcClient {
    let client = RpcClient::connect(shards.local_addr(), SERVER, &identity(CLIENT)).await;
    let client = client.expect("a connection");
    assert_answers(&client).await;
    client
}

#[tokio::test]
async fn callers_are_spread_over_the_shards() {
    let shards = bind(loopback(), TransportConfig::lan(), 4);
    assert_eq!(shards.count(), 4);
    let mut clients = Vec::new();
    // The chance that one shard gets all of these is one in 10 to the 13th.
    for _ in 0..24 {
        clients.push(within(call(&shards)).await);
    }
    for client in &clients {
        assert_answers(client).await;
    }
    let each = shards.shard_stats();
    let busy = each.iter().filter(|stats| stats.calls_started > 0).count();
    assert!(busy > 1, "{each:?}");
    assert_eq!(shards.stats().calls_started, 48);
    assert_eq!(shards.stats().connections_accepted, 24);
    assert_eq!(shards.socket_buffers().len(), 4);
}

#[tokio::test]
async fn a_connection_stays_with_its_shard_and_shards_have_threads_of_their_own() {
    let shards = bind(loopback(), TransportConfig::lan(), 3);
    shards.serve(Router::new().typed("thread", |(): ()| async {
        std::thread::current().name().unwrap_or_default().to_owned()
    }));
    let mut names = std::collections::BTreeSet::new();
    for _ in 0..24 {
        let client = within(call(&shards)).await;
        let mut name = String::new();
        for _ in 0..5 {
            let now: String = within(client.call_typed("thread", &())).await.unwrap();
            assert!(name.is_empty() || name == now, "{name} {now}");
            name = now;
        }
        assert!(name.starts_with("rpcnet-shard-"), "{name}");
        names.insert(name);
    }
    assert!(names.len() > 1, "{names:?}");
}

#[tokio::test]
async fn callers_that_must_prove_their_address_get_through() {
    let config = TransportConfig::lan().with_handshakes_max(count(8));
    let shards = bind(loopback(), config, 2);
    let callers = (0..40).map(|_| async {
        let client = until_some("a connection", async || {
            let client = RpcClient::connect(shards.local_addr(), SERVER, &identity(CLIENT)).await;
            client
                .inspect_err(|e| assert!(e.is_retryable(), "{e}"))
                .ok()
        });
        assert_answers(&client.await).await;
    });
    futures::future::join_all(callers).await;
    let stats = shards.stats();
    assert!(stats.handshakes_retried > 0, "{stats:?}");
    assert_eq!(stats.connections_accepted, 40);
}

#[tokio::test]
async fn a_shutdown_lets_the_calls_of_all_shards_end() {
    let gate = Arc::new(Semaphore::new(0));
    let shards = bind(loopback(), no_drain_grace(), 2);
    let waiting = Arc::clone(&gate);
    shards.serve(Router::new().raw("wait", move |_cx: CallContext, body| {
        let gate = Arc::clone(&waiting);
        async move {
            let _ = gate.acquire().await;
            Ok(body)
        }
    }));
    let mut clients = Vec::new();
    for _ in 0..12 {
        clients.push(within(call(&shards)).await);
    }
    let calls: Vec<_> = clients
        .iter()
        .map(|client| {
            let client = client.clone();
            tokio::spawn(async move { client.call("wait", "a reply").await })
        })
        .collect();
    until("all calls are served", || shards.in_flight() == 12).await;
    shards.set_draining(true);
    assert!(shards.is_draining());
    let rejected = clients[0].call("alive", "").await.unwrap_err();
    assert_eq!(rejected.code(), Code::Draining);
    let shutdown = tokio::spawn({
        let shards = shards.clone();
        async move { shards.shutdown(TEST_TIMEOUT).await }
    });
    gate.add_permits(12);
    for call in calls {
        assert_eq!(within(call).await.unwrap().unwrap(), "a reply");
    }
    let report = within(shutdown).await.unwrap();
    // Some may have completed before the shutdown began.
    assert_eq!((report.completed <= 12, report.cancelled), (true, 0));
    assert!(shards.stats().calls_completed >= 12);
    within(shards.idle()).await;
    // A second time, there is nothing left to do.
    assert_eq!(within(shards.shutdown(TEST_TIMEOUT)).await.cancelled, 0);
}

#[tokio::test]
async fn a_shutdown_ends_at_its_deadline_even_if_a_handler_blocks_its_thread() {
    let shards = bind(loopback(), TransportConfig::lan(), 2);
    let (release, blocked) = mpsc::sync_channel::<()>(0);
    let blocked = Arc::new(Mutex::new(blocked));
    shards.serve(Router::new().raw("block", move |_cx: CallContext, body| {
        let blocked = Arc::clone(&blocked);
        async move {
            let _ = blocked.lock().unwrap().recv();
            Ok(body)
        }
    }));
    // The thread that would send the close is blocked, and the port is closed: the caller waits for
    // its idle timeout.
    let second = Duration::from_secs(1);
    let config = TransportConfig::lan()
        .with_keep_alive(second / 4)
        .with_idle_timeout(second);
    let node = endpoint(CLIENT, config);
    let client = within(node.connect(shards.local_addr(), SERVER))
        .await
        .unwrap();
    let options = CallOptions::new().without_deadline();
    let call = tokio::spawn(async move { client.call_with("block", "", options).await });
    until("it is served", || shards.in_flight() == 1).await;
    // The handler is released only below.
    within(shards.shutdown(Duration::from_millis(300))).await;
    // Nor does dropping them inside a runtime wait for the handler: a drop that waits in vain
    // warns.
    let log = LogCapture::start(Level::WARN);
    drop(shards);
    assert_eq!(log.take().len(), 0);
    drop(log);
    drop(release);
    within(call).await.unwrap().unwrap_err();
}

#[tokio::test]
async fn dropping_the_last_handle_ends_the_threads_and_tells_callers() {
    let shards = bind(loopback(), never_idle(), 2);
    let addr = shards.local_addr();
    let mut clients = Vec::new();
    for _ in 0..2 {
        let client = endpoint(CLIENT, never_idle());
        let client = within(client.connect(addr, SERVER)).await.unwrap();
        assert_answers(&client).await;
        clients.push(client);
    }
    let other = shards.clone();
    drop(shards);
    for client in &clients {
        assert_answers(client).await;
    }
    drop(other);
    for client in &clients {
        assert_eq!(within(client.closed()).await, CloseReason::ShutDown);
    }
    until("the port is free", || {
        Endpoint::bind(addr, TransportConfig::lan(), identity(SERVER)).is_ok()
    })
    .await;
}

#[test]
fn outside_of_a_runtime_the_drop_waits_for_the_threads() {
    let shards = bind(loopback(), TransportConfig::lan(), 3);
    let addr = shards.local_addr();
    drop(shards);
    // At once, or the address would be in use.
    let again = bind(addr, TransportConfig::lan(), 3);
    assert_eq!(again.local_addr(), addr);
}

#[tokio::test]
async fn a_port_in_use_is_named() {
    let taken = endpoint(SERVER, TransportConfig::lan());
    let config = TransportConfig::lan();
    let error = Shards::bind(taken.local_addr(), config, identity(SERVER), count(2));
    assert!(
        matches!(error, Err(BindError::AddressInUse(addr)) if addr == taken.local_addr()),
        "{error:?}"
    );
    let config = TransportConfig::lan().with_message_bytes_max(0);
    let error = Shards::bind(loopback(), config, identity(SERVER), count(2));
    assert!(matches!(
        error,
        Err(BindError::Config(ConfigError::MessageLimit(0)))
    ));
}

#[tokio::test]
async fn side_datagrams_of_one_sender_arrive_on_one_shard() {
    let shards = bind(loopback(), TransportConfig::lan(), 4);
    let channels = shards.side_channels().unwrap();
    assert!(shards.side_channels().is_none(), "they are taken once");
    let sender = endpoint(CLIENT, TransportConfig::lan());
    let from = sender.side_channel().unwrap();
    let mut chosen = None;
    for n in 0..10u8 {
        from.send(shards.local_addr(), &[n]).await.unwrap();
        let received = channels.iter().enumerate().map(|(at, channel)| {
            Box::pin(async move {
                let mut buf = [0; 10];
                let (len, _) = channel.recv(&mut buf).await.unwrap();
                (at, buf[..len].to_vec())
            })
        });
        let ((at, datagram), ..) = within(futures::future::select_all(received)).await;
        assert_eq!(datagram, [n]);
        assert_eq!(at, *chosen.get_or_insert(at));
    }
    // Any of them answers from the same port.
    for channel in &channels {
        channel.send(sender.local_addr(), b"1").await.unwrap();
        let mut buf = [0; 10];
        let (_, port) = within(from.recv(&mut buf)).await.unwrap();
        assert_eq!(port, shards.local_addr());
    }
}

#[tokio::test]
async fn shards_share_a_port_of_both_families() {
    let any: SocketAddr = (std::net::Ipv6Addr::UNSPECIFIED, 0).into();
    // Machines without IPv6 have nothing to test here.
    let Ok(shards) = Shards::bind(any, TransportConfig::lan(), identity(SERVER), count(2)) else {
        return;
    };
    shards.serve(Router::new().typed("alive", |n: u32| async move { n + 1 }));
    let v4: SocketAddr = (Ipv4Addr::LOCALHOST, shards.local_addr().port()).into();
    for _ in 0..8 {
        let client = RpcClient::connect(v4, SERVER, &identity(CLIENT)).await;
        assert_answers(&client.unwrap()).await;
    }
    assert_eq!(shards.stats().calls_started, 8);
}

#[tokio::test]
async fn a_shutdown_of_shards_frees_the_port() {
    let mut shards = bind(loopback(), no_drain_grace(), 2);
    let addr = shards.local_addr();
    let mut held = Vec::new();
    for _ in 0..10 {
        let client = within(call(&shards)).await;
        let sides = shards.side_channels();
        within(shards.shutdown(TEST_TIMEOUT)).await;
        held.push((shards, client, sides));
        shards = bind(addr, no_drain_grace(), 2);
    }
    assert_answers(&within(call(&shards)).await).await;
}
