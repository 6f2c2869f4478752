//! Runtimes: calls from another one, from a thread without one, and after its end. On the loopback
//! interface and in real time: the runtimes and threads must wait for each other, and a network in
//! memory carries its datagrams within one runtime.

use std::net::UdpSocket;

use rpcnet_client::{Hedging, Receiver, Sender};
use rpcnet_testing::block_on;
use tokio::runtime::{Builder, Runtime};

use super::*;

fn runtime() -> Runtime {
    let mut builder = Builder::new_multi_thread();
    builder.worker_threads(1).enable_all().build().unwrap()
}

fn options() -> WorkerCallOptions {
    WorkerCallOptions::new().with_idempotent(true)
}

/// Workers on the loopback interface.
async fn cluster(change: impl FnOnce(ClusterClientConfig) -> ClusterClientConfig) -> TestCluster {
    let (health, transport) = (HealthConfig::new(), TransportConfig::default());
    TestCluster::on(None, round_robin(), health, transport, change).await
}

/// A worker on the list at a socket that never answers.
fn silent_worker(cluster: &TestCluster, name: &str) -> UdpSocket {
    let socket = UdpSocket::bind(loopback()).expect("a free port");
    cluster.list(name, 1, socket.local_addr().expect("an address"));
    socket
}

/// Connects, pauses before it tries a worker again, and hedges: all that waits for time.
#[test]
fn a_thread_without_a_runtime_may_call_workers() {
    let ours = runtime();
    let _inside = ours.enter();
    let soon = Hedging::after(Duration::from_millis(20));
    let cluster = ours.block_on(cluster(|config| {
        let config = config.with_backoff(BackoffRange::constant(Duration::from_millis(2)));
        config.with_hedging("who", soon)
    }));
    let (router, runs) = failing_router(Status::overloaded("not now"));
    let _a = cluster.worker("a", router);
    drop(_inside);
    let call = |cluster: &TestCluster| {
        let (client, options) = (Arc::clone(&cluster.client), options());
        block_on(async move {
            client
                .call_worker_with("who", Bytes::new(), None, options)
                .await
        })
    };
    let error = call(&cluster).unwrap_err();
    assert!(matches!(error, ClusterError::Rpc { .. }), "{error:?}");
    assert!(runs.load(SeqCst) > 1, "it paused and tried again");
    let (router, _) = hanging_router();
    let (_b, _c) = {
        let _inside = ours.enter();
        (
            cluster.worker("b", router),
            cluster.worker("c", identify("c")),
        )
    };
    for _ in 0..6 {
        call(&cluster).expect("c does it");
    }
    assert!(cluster.client.stats().hedges > 0);
}

#[test]
fn all_kinds_of_calls_work_on_a_thread_without_a_runtime() {
    let ours = runtime();
    let cluster = ours.block_on(cluster(|config| config));
    let _workers = ["a", "b", "c"].map(|name| {
        let double = |_, mut numbers: Receiver<u32>, mut replies: Sender<u32>| async move {
            while let Some(n) = numbers.message().await? {
                replies.send(2 * n).await?;
            }
            Ok(())
        };
        let _inside = ours.enter();
        cluster.worker(name, identify(name).streaming("double", double))
    });
    block_on(async {
        let all = cluster.client.call_all_workers("who", "", None);
        let all = all.await.expect("workers");
        assert!(all.len() == 3 && all.iter().all(|(_, reply)| reply.is_ok()));
        let quorum = cluster.client.quorum(2).options(options()).call("who", "");
        assert_eq!(quorum.await.expect("two replies").len(), 2);
        let stream = cluster
            .client
            .call_worker_streaming::<u32, u32>("double", None, options());
        let (mut sender, mut receiver) = stream.await.expect("a stream");
        sender.send(21).await.expect("it is taken");
        assert_eq!(receiver.message().await.expect("a message"), Some(42));
    });
}

#[test]
fn calls_end_with_the_runtime_of_the_endpoint_and_blame_no_worker() {
    let (killed, theirs, ours) = (runtime(), runtime(), runtime());
    let cluster = killed.block_on(cluster(|config| config));
    let (router, runs) = hanging_router();
    let _a = theirs.block_on(async { cluster.worker("a", router) });
    let silent = silent_worker(&cluster, "b");
    let call = || {
        let client = Arc::clone(&cluster.client);
        async move {
            client
                .call_worker_with("who", Bytes::new(), None, options())
                .await
        }
    };
    ours.block_on(async {
        // One of two runs, the other waits for its connection.
        let calls: Vec<_> = (0..2).map(|_| tokio::spawn(call())).collect();
        until("one runs", || runs.load(SeqCst) == 1).await;
        let mut first = [0; 2_048];
        let heard = tokio::task::spawn_blocking(move || silent.recv(&mut first)).await;
        heard.unwrap().unwrap();
        killed.shutdown_background();
        for call in calls {
            let error = within(call).await.expect("no panic").unwrap_err();
            assert!(
                error.to_string().contains("runtime of the endpoint"),
                "{error}"
            );
            assert!(!error.is_retryable());
        }
        let error = within(call()).await.unwrap_err();
        assert!(!error.is_retryable(), "{error}");
        assert!(
            error.to_string().contains("runtime of the endpoint"),
            "{error}"
        );
        let workers = cluster.client.registry().workers(None).expect("no filter");
        assert!(
            workers.iter().all(|worker| worker.flags.is_empty()),
            "{workers:?}"
        );
    });
}
