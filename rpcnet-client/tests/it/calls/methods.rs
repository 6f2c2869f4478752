//! Workers that serve methods of very different latency, in virtual time: none looks slow because
//! of the method that it serves.

use std::collections::HashMap;

use rpcnet_client::{Receiver, Sender, WorkerStream, balance::PeakEwma};

use super::*;

const NAMES: [&str; 5] = ["a", "b", "c", "d", "e"];
const LONG: Duration = Duration::from_secs(3);

/// Replies with the name of the worker, after 20 ms or 3 s.
fn two_methods(name: &str) -> Router {
    let reply_after = |took: Duration| {
        let name = name.to_owned();
        move |_: CallContext, _: Bytes| {
            let reply = Bytes::from(name.clone());
            async move {
                sleep(took).await;
                Ok(reply)
            }
        }
    };
    Router::new()
        .raw("short", reply_after(Duration::from_millis(20)))
        .raw("long", reply_after(LONG))
        .server_streaming("watch", |_, _: u32, mut events: Sender<u32>| async move {
            events.send(1).await?;
            std::future::pending::<()>().await;
            Ok(())
        })
}

/// Five workers, each with a tag that is its name.
async fn cluster() -> (TestCluster, Vec<RpcServer>) {
    let balancer = Arc::new(PeakEwma::seeded(7));
    let cluster = TestCluster::with_balancer(balancer, |config| config).await;
    let workers = NAMES.map(|name| {
        let server = cluster.worker(name, two_methods(name));
        let node = NodeInfo::new(NodeId::new(name, 1), server.local_addr());
        let node = node.with_tag("role", "worker").with_tag(name, "");
        assert!(cluster.list.insert(node));
        server
    });
    // It takes some calls until the usual latency is known.
    shares(&cluster, 100, Duration::ZERO).await;
    (cluster, workers.into())
}

/// The share of each worker of calls that are made one after the other, with this pause in between.
async fn shares(cluster: &TestCluster, calls: u32, pause: Duration) -> HashMap<String, f64> {
    let mut shares = HashMap::new();
    for _ in 0..calls {
        let worker = cluster.call("short").await.expect("a reply");
        *shares.entry(worker).or_default() += 1.0 / f64::from(calls);
        sleep(pause).await;
    }
    shares
}

fn assert_fair(shares: &HashMap<String, f64>, workers: &[&str]) {
    for worker in workers {
        let share = shares.get(*worker).copied().unwrap_or_default();
        assert!(share > 0.08, "{worker} of {shares:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_long_call_does_not_make_its_worker_look_slow() {
    let (cluster, _workers) = cluster().await;
    let worker = cluster.call("long").await.expect("a reply");
    let shares = shares(&cluster, 200, Duration::ZERO).await;
    assert_fair(&shares, &[&worker]);
}

#[tokio::test(start_paused = true)]
async fn a_broadcast_makes_no_worker_look_slow() {
    let (cluster, _workers) = cluster().await;
    let others = cluster.client.call_all_workers("long", "", Some("!a"));
    let replies = within(others).await.expect("replies");
    assert_eq!(replies.iter().filter(|(_, reply)| reply.is_ok()).count(), 4);
    let shares = shares(&cluster, 200, Duration::ZERO).await;
    assert_fair(&shares, &NAMES);
    // The one that was not called is no better than the others.
    assert!(shares["a"] < 0.4, "{shares:?}");
}

#[tokio::test(start_paused = true)]
async fn long_calls_in_flight_do_not_make_a_worker_look_silent() {
    let (cluster, _workers) = cluster().await;
    cluster.call("long").await.expect("a reply");
    let client = Arc::clone(&cluster.client);
    let all = tokio::spawn(async move { client.call_all_workers("long", "", None).await });
    until("they are in flight", || {
        NAMES.iter().all(|name| cluster.in_flight(name) == 1)
    })
    .await;
    // For nearly 3 s nothing else is in flight between these.
    let shares = shares(&cluster, 50, Duration::from_millis(35)).await;
    assert!(!all.is_finished());
    assert_fair(&shares, &NAMES);
}

#[tokio::test(start_paused = true)]
async fn idle_streams_do_not_make_a_worker_look_silent() {
    let (cluster, _workers) = cluster().await;
    let mut streams: Vec<WorkerStream<Receiver<u32>>> = Vec::new();
    for name in NAMES {
        let options = WorkerCallOptions::new();
        let client = &cluster.client;
        let stream = client.call_worker_server_streaming("watch", &1u32, Some(name), options);
        let mut stream = within(stream).await.expect("a stream");
        let first = within(stream.message()).await;
        assert_eq!(first.expect("a message"), Some(1u32));
        streams.push(stream);
    }
    let shares = shares(&cluster, 200, Duration::from_millis(80)).await;
    assert_fair(&shares, &NAMES);
}
