//! Backpressure: streams whose two ends are not equally fast.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::SeqCst},
};

use futures::FutureExt;
use rpcnet_transport::Raw;
use tokio::sync::{Notify, Semaphore};

use super::*;

#[tokio::test(start_paused = true)]
async fn a_slow_reader_bounds_what_a_handler_can_send() {
    const ITEM_BYTES: usize = 10_000;
    let sent = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&sent);
    let router =
        Router::new().server_streaming("flood", move |_cx, items: usize, mut out: Sender<Raw>| {
            let count = Arc::clone(&count);
            async move {
                for _ in 0..items {
                    out.send(Raw(vec![0; ITEM_BYTES].into())).await?;
                    count.fetch_add(1, SeqCst);
                }
                Ok(())
            }
        });
    let (_server, client) = pair_in_memory(router).await;
    let mut flood = client
        .call_server_streaming::<_, Raw>("flood", &2_000usize)
        .await
        .unwrap();
    let sent_at_rest = at_rest(&sent).await;
    // The stream window of the client, the send buffer of the server, and one item on each side.
    let bound = (1 << 20) / ITEM_BYTES + (8 << 20) / ITEM_BYTES + 2;
    assert!(
        sent_at_rest > 0 && sent_at_rest <= bound,
        "{sent_at_rest} sent, {bound} allowed"
    );
    let mut received = 0;
    while within(flood.message()).await.unwrap().is_some() {
        received += 1;
    }
    assert_eq!(received, 2_000, "a slow reader loses nothing");
}

#[tokio::test(start_paused = true)]
async fn a_slow_handler_bounds_what_a_caller_can_send() {
    const ITEM_BYTES: usize = 10_000;
    let (opened, gate) = (Arc::new(Semaphore::new(0)), 2_000);
    let wait = Arc::clone(&opened);
    let router = Router::new().client_streaming("sink", move |_cx, mut items: Receiver<Raw>| {
        let wait = Arc::clone(&wait);
        async move {
            wait.acquire()
                .await
                .expect("the semaphore stays open")
                .forget();
            let mut count = 0;
            while items.message().await?.is_some() {
                count += 1;
            }
            Ok::<usize, RpcError>(count)
        }
    });
    let (_server, client) = pair_in_memory(router).await;
    let mut upload = client
        .call_client_streaming::<Raw, usize>("sink")
        .await
        .unwrap();
    let sent = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&sent);
    let sending = tokio::spawn(async move {
        for _ in 0..gate {
            upload.send(Raw(vec![0; ITEM_BYTES].into())).await?;
            count.fetch_add(1, SeqCst);
        }
        upload.finish().await
    });
    let sent_at_rest = at_rest(&sent).await;
    let bound = (1 << 20) / ITEM_BYTES + (8 << 20) / ITEM_BYTES + 2;
    assert!(
        sent_at_rest > 0 && sent_at_rest <= bound,
        "{sent_at_rest} sent, {bound} allowed"
    );
    opened.add_permits(1);
    assert_eq!(within(sending).await.unwrap().unwrap(), 2_000);
}

#[tokio::test]
async fn streams_that_never_wait_let_others_run() {
    // Eight small messages share one of the 128 units that tokio gives a task.
    const AT_ONCE_MAX: usize = 1_100;
    const MESSAGES: usize = STEPS_MAX;
    let all_sent = Arc::new(Notify::new());
    let sent = Arc::clone(&all_sent);
    let router = Router::new().streaming(
        "both",
        move |_cx, mut input: Receiver<u8>, mut out: Sender<u8>| {
            let sent = Arc::clone(&sent);
            async move {
                for _ in 0..MESSAGES {
                    out.send(0).await?;
                }
                sent.notify_one();
                while input.message().await?.is_some() {}
                Ok(())
            }
        },
    );
    let (_server, client) = pair(router).await;
    let (mut send, mut recv) = client.call_streaming::<u8, u8>("both").await.unwrap();
    within(all_sent.notified()).await;
    // The reply was sent later, so the messages before it have arrived too.
    assert_answers(&client).await;

    let mut received = 0;
    while received < MESSAGES {
        let at_once = at_once(async || recv.message().await.unwrap().map(drop).unwrap()).await;
        assert!(at_once <= AT_ONCE_MAX, "{at_once} received in one go");
        received += at_once;
    }
    let at_once = at_once(async || send.send(0).await.unwrap()).await;
    assert!(at_once <= AT_ONCE_MAX, "{at_once} sent in one go");
}

#[tokio::test]
async fn large_messages_that_never_wait_let_others_run() {
    const BYTES: usize = 16 * 1024;
    let router = Router::new().client_streaming("sink", |_cx, items: Receiver<Raw>| async move {
        let _unread = items;
        std::future::pending::<Result<u64, Status>>().await
    });
    // Windows of 256 of them.
    let config = TransportConfig::bulk().with_drain_grace(Duration::ZERO);
    let network = MemoryNetwork::new();
    let server = bind_in_memory(&network, SERVER, config.clone()).serve(router);
    let node = bind_in_memory(&network, CLIENT, config);
    let client = node.connect(server.local_addr(), SERVER).await.unwrap();
    let upload = client.call_client_streaming::<Raw, u64>("sink");
    let mut upload = upload.await.unwrap();
    let message = bytes::Bytes::from_static(&[7; BYTES]);
    let mut send = async || upload.send(Raw(message.clone())).await.unwrap();
    // The first of a stream waits for those of other streams to be sent.
    send().await;
    let at_once = at_once(send).await;
    assert!((100..=130).contains(&at_once), "{at_once} sent in one go");
}

/// How often a step can be done, up to [`STEPS_MAX`] times, until it has to wait.
async fn at_once(mut step: impl AsyncFnMut()) -> usize {
    let mut count = 0;
    let mut steps = Box::pin(async {
        while count < STEPS_MAX {
            step().await;
            count += 1;
        }
    });
    // Whether it ends or not: only the number of steps in one poll counts.
    let _ = steps.as_mut().now_or_never();
    drop(steps);
    tokio::task::yield_now().await;
    count
}

const STEPS_MAX: usize = 4_000;

/// The value of a counter once it has not changed for a while, in virtual time.
async fn at_rest(counter: &AtomicUsize) -> usize {
    let (mut last, mut since) = (0, Instant::now());
    let begun = Instant::now();
    while last == 0 || since.elapsed() < Duration::from_millis(300) {
        assert!(begun.elapsed() < TEST_TIMEOUT, "it never rests");
        let now = counter.load(SeqCst);
        if now != last {
            (last, since) = (now, Instant::now());
        }
        sleep(Duration::from_millis(5)).await;
    }
    last
}
