//! Streams to a selected worker.

use futures::StreamExt;
use rpcnet_client::{CallContext, MethodPolicy, Receiver, Sender};

use super::*;

fn streaming() -> Router {
    Router::new()
        .server_streaming(
            "count",
            |_, upto: u32, mut replies: Sender<u32>| async move {
                for n in 0..upto {
                    replies.send(n).await?;
                }
                Ok(())
            },
        )
        .client_streaming("sum", |_, mut numbers: Receiver<u32>| async move {
            let mut sum = 0;
            while let Some(n) = numbers.message().await? {
                sum += n;
            }
            Ok::<u32, Status>(sum)
        })
        .streaming(
            "double",
            |_, mut numbers: Receiver<u32>, mut replies: Sender<u32>| async move {
                while let Some(n) = numbers.message().await? {
                    replies.send(n * 2).await?;
                }
                Ok(())
            },
        )
}

#[tokio::test(start_paused = true)]
async fn a_stream_counts_as_in_flight_until_its_ends_are_dropped() {
    let cluster = TestCluster::new().await;
    let _server = cluster.worker("red", streaming());
    let (client, options) = (&cluster.client, WorkerCallOptions::new());
    let filter = Some("role=worker");

    let numbers = client.call_worker_server_streaming("count", &3u32, filter, options);
    let mut numbers = within(numbers).await.expect("a stream");
    assert_eq!(&*numbers.worker().name, "red");
    assert_eq!(cluster.in_flight("red"), 1);
    for expected in 0..3u32 {
        let n: Option<u32> = numbers.message().await.expect("a message");
        assert_eq!(n, Some(expected));
    }
    assert!(numbers.next().await.is_none());
    assert_eq!(cluster.in_flight("red"), 1);
    drop(numbers);
    assert_eq!(cluster.in_flight("red"), 0);

    let upload = client.call_worker_client_streaming::<u32, u32>("sum", filter, options);
    let mut upload = within(upload).await.expect("a stream");
    for n in 1..=4 {
        upload.send(n).await.expect("room");
    }
    assert_eq!(cluster.in_flight("red"), 1);
    assert_eq!(upload.finish().await.expect("a reply"), 10);
    assert_eq!(cluster.in_flight("red"), 0);

    let both = client.call_worker_streaming::<u32, u32>("double", filter, options);
    let (mut send, mut receive) = within(both).await.expect("a stream");
    for n in [1, 2, 3] {
        send.send(n).await.expect("room");
        assert_eq!(receive.message().await.expect("a message"), Some(n * 2));
    }
    send.finish();
    assert_eq!(cluster.in_flight("red"), 1, "one end is left");
    assert_eq!(receive.message().await.expect("the end"), None);
    drop(receive);
    assert_eq!(cluster.in_flight("red"), 0);
}

#[tokio::test(start_paused = true)]
async fn a_stream_opens_on_a_reachable_worker() {
    let change = |config: ClusterClientConfig| config.with_connect_timeout(Duration::from_secs(2));
    let cluster = TestCluster::with(change).await;
    cluster.unreachable(&["dead"]);
    let _server = cluster.worker("red", streaming());
    for _ in 0..4 {
        let numbers = cluster.client.call_worker_server_streaming::<_, u32>(
            "count",
            &1u32,
            None,
            WorkerCallOptions::new(),
        );
        let numbers = within(numbers).await.expect("a stream");
        assert_eq!(&*numbers.worker().name, "red");
        assert_eq!(numbers.count().await, 1);
    }
    // A probe beside the calls counts until it ends.
    until("nothing is left", || cluster.in_flight("dead") == 0).await;
}

#[tokio::test(start_paused = true)]
async fn streams_have_no_deadline_unless_asked_for_one() {
    let cluster = TestCluster::with(|config| {
        let policy = MethodPolicy::new().with_timeout(Duration::from_secs(50));
        config.with_method("limited", policy)
    })
    .await;
    let left = |cx: CallContext, (): (), mut replies: Sender<Option<u64>>| async move {
        replies
            .send(cx.remaining().map(|left| left.as_secs()))
            .await?;
        Ok(())
    };
    let router = Router::new()
        .server_streaming("left", left)
        .server_streaming("limited", left);
    let _server = cluster.worker("red", router);
    let new = WorkerCallOptions::new();
    let minute = new.with_timeout(Duration::from_secs(60));
    for (method, options, seconds) in [
        ("left", new, None),
        ("left", minute, Some(60)),
        ("limited", new, Some(50)),
        ("limited", new.without_deadline(), None),
    ] {
        let stream = cluster
            .client
            .call_worker_server_streaming::<_, Option<u64>>(method, &(), None, options);
        let mut stream = within(stream).await.expect("a stream");
        let left = stream.message().await.expect("a message").expect("a time");
        assert_eq!(left, seconds, "{method}");
    }
}
