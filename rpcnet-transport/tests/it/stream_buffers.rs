//! Write buffers of streams: small messages that share writes, in memory and in virtual time.

use std::{
    future::pending,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use bytes::Bytes;
use rpcnet_testing::within;
use rpcnet_transport::{
    CallOptions, Code, Endpoint, MemoryNetwork, Raw, Receiver, Router, RpcClient, RpcServer,
    Sender, Status, TransportConfig,
};
use tokio::time::{Instant, sleep};

use crate::bind_in_memory;

/// Bytes of small messages that a stream buffers.
const BUFFER: usize = 64 * 1024;

/// Longer than everything in these tests takes, apart from a stall.
const LONG: Duration = Duration::from_secs(5);

struct Net {
    server: RpcServer,
    client: RpcClient,
    _node: Endpoint,
}

impl Net {
    async fn new(router: Router) -> Self {
        let network = MemoryNetwork::new();
        network.set_delay(Duration::from_millis(1));
        let config = TransportConfig::lan().with_drain_grace(Duration::ZERO);
        let server = bind_in_memory(&network, "server", config.clone()).serve(router);
        let node = bind_in_memory(&network, "client", config);
        let client = node.connect(server.local_addr(), "server").await;
        Self {
            client: client.expect("a connection"),
            server,
            _node: node,
        }
    }

    async fn replies(&self, method: &str) -> Receiver<Raw> {
        let options = CallOptions::new().without_deadline();
        let call = self.client.call_server_streaming_with(method, &(), options);
        call.await.expect("a stream")
    }
}

/// The message of this number: of many sizes, and of contents of its own.
fn message(number: usize) -> Raw {
    const SIZES: [usize; 11] = [0, 1, 32, 1_000, 7, 16_383, 16_384, 3, 70_000, 16_376, 500];
    let bytes = (0..SIZES[number % SIZES.len()]).map(|at| (number + at) as u8);
    Raw(bytes.collect::<Vec<_>>().into())
}

fn small() -> Raw {
    Raw(Bytes::from_static(&[7; 32]))
}

/// Sends small messages until one fails, and returns its code.
async fn flood(out: &mut Sender<Raw>, sent: &AtomicUsize) -> Code {
    loop {
        match out.send(small()).await {
            Ok(()) => sent.fetch_add(1, SeqCst),
            Err(error) => return error.code(),
        };
    }
}

#[tokio::test(start_paused = true)]
async fn messages_of_all_sizes_keep_order_and_contents() {
    const COUNT: usize = 1_100;
    let router = Router::new().streaming(
        "echo",
        |_cx, mut input: Receiver<Raw>, mut out: Sender<Raw>| async move {
            while let Some(message) = input.message().await? {
                out.send(message).await?;
            }
            Ok(())
        },
    );
    let net = Net::new(router).await;
    let call = net.client.call_streaming::<Raw, Raw>("echo");
    let (mut send, mut recv) = call.await.expect("a stream");
    let sending = tokio::spawn(async move {
        for number in 0..COUNT {
            send.send(message(number)).await.expect("sent");
        }
        send.finish();
    });
    for number in 0..COUNT {
        let received = within(recv.message()).await.expect("a message");
        assert!(received == Some(message(number)), "message {number}");
    }
    assert_eq!(within(recv.message()).await.expect("the end"), None);
    within(sending).await.expect("no panic");
}

#[tokio::test(start_paused = true)]
async fn messages_arrive_while_their_senders_are_idle() {
    let router = Router::new().streaming(
        "idle",
        |_cx, mut input: Receiver<Raw>, mut out: Sender<Raw>| async move {
            for _ in 0..3 {
                let message = input.message().await?.expect("a message");
                out.send(message).await?;
                out.send(small()).await?;
            }
            pending::<Result<(), Status>>().await
        },
    );
    let net = Net::new(router).await;
    let options = CallOptions::new().without_deadline();
    let call = net.client.call_streaming_with::<Raw, Raw>("idle", options);
    let (mut send, mut recv) = call.await.expect("a stream");
    let began = Instant::now();
    for number in 0..3 {
        send.send(message(number)).await.expect("sent");
        let echoed = within(recv.message()).await.expect("a message");
        assert_eq!(echoed, Some(message(number)));
        let second = within(recv.message()).await.expect("a message");
        assert_eq!(second, Some(small()));
    }
    assert!(
        began.elapsed() < Duration::from_millis(20),
        "no timer: {:?}",
        began.elapsed()
    );
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_stops_bounds_small_messages() {
    let sent = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&sent);
    let router = Router::new().server_streaming("flood", move |_cx, (): (), mut out| {
        let count = Arc::clone(&count);
        async move {
            let code = flood(&mut out, &count).await;
            Err::<(), _>(Status::new(code, "flooded"))
        }
    });
    let net = Net::new(router).await;
    let mut unread = net.replies("flood").await;
    sleep(LONG).await;
    let at_rest = sent.load(SeqCst);
    sleep(LONG).await;
    assert_eq!(sent.load(SeqCst), at_rest, "it waits");
    // The stream window of the client, and the buffer.
    let bound = (512 * 1_024 + BUFFER) / (32 + 8);
    assert!(
        at_rest > bound / 2 && at_rest <= bound,
        "{at_rest} of {bound}"
    );
    for _ in 0..2 * bound {
        within(unread.message())
            .await
            .expect("a message")
            .expect("not the end");
    }
}

#[tokio::test(start_paused = true)]
async fn a_small_message_that_is_given_up_breaks_nothing() {
    let sent = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&sent);
    let router = Router::new().server_streaming("patient", move |_cx, (): (), mut out| {
        let count = Arc::clone(&count);
        async move {
            let number = |n: usize| Raw(Bytes::copy_from_slice(&n.to_le_bytes()));
            let mut given_up = 0;
            for n in 0.. {
                let send = out.send(number(n - given_up));
                match tokio::time::timeout(Duration::from_millis(10), send).await {
                    Ok(sent) => sent?,
                    Err(_) if given_up < 3 => given_up += 1,
                    Err(_) => break,
                }
                count.store(n + 1 - given_up, SeqCst);
            }
            Ok(())
        }
    });
    let net = Net::new(router).await;
    let mut replies = net.replies("patient").await;
    sleep(LONG).await;
    let count = sent.load(SeqCst);
    assert!(count > 1_000, "flow control has stopped it: {count}");
    for n in 0..count {
        let message = within(replies.message()).await.expect("a message");
        assert_eq!(message.expect("not the end").0, &n.to_le_bytes()[..]);
    }
    assert_eq!(within(replies.message()).await.expect("the end"), None);
}

#[tokio::test(start_paused = true)]
async fn a_stall_of_a_full_buffer_ends_the_stream() {
    let (ended, mut codes) = tokio::sync::mpsc::channel(1);
    let router = Router::new().server_streaming("flood", move |_cx, (): (), mut out| {
        let ended = ended.clone();
        async move {
            let code = flood(&mut out, &AtomicUsize::new(0)).await;
            ended.send(code).await.expect("the test waits");
            Err::<(), _>(Status::new(code, "stalled"))
        }
    });
    let net = Net::new(router).await;
    let _unread = net.replies("flood").await;
    let code = tokio::time::timeout(10 * LONG * 2, codes.recv()).await;
    assert_eq!(code.expect("a stall timeout"), Some(Code::Cancelled));
    assert_eq!(net.server.stats().stalled_calls, 1);
}

#[tokio::test(start_paused = true)]
async fn finish_and_the_end_of_a_handler_send_what_is_buffered() {
    let router = Router::new()
        .client_streaming("count", |_cx, mut items: Receiver<Raw>| async move {
            sleep(LONG).await;
            let mut count = 0u64;
            while items.message().await?.is_some() {
                count += 1;
            }
            Ok::<_, Status>(count)
        })
        .server_streaming("some", |_cx, count: u32, mut out: Sender<Raw>| async move {
            for _ in 0..count {
                out.send(small()).await?;
            }
            Ok(())
        });
    let net = Net::new(router).await;
    // Few, and so many that flow control holds up the last ones at the finish.
    let window = (512 * 1_024) / (32 + 8);
    for count in [1, 3, window + 100] {
        let options = CallOptions::new().without_deadline();
        let call = net
            .client
            .call_client_streaming_with::<Raw, u64>("count", options);
        let mut upload = call.await.expect("a stream");
        for _ in 0..count {
            upload.send(small()).await.expect("sent");
        }
        let counted = within(upload.finish()).await.expect("a reply");
        assert_eq!(counted, count as u64);
        let count = count as u32;
        let call = net.client.call_server_streaming::<_, Raw>("some", &count);
        let mut replies = call.await.expect("a stream");
        sleep(Duration::from_secs(1)).await;
        let mut received = 0;
        while within(replies.message())
            .await
            .expect("a message")
            .is_some()
        {
            received += 1;
        }
        assert_eq!(received, count);
    }
}

#[tokio::test(start_paused = true)]
async fn a_dropped_sender_of_a_caller_cancels_the_call() {
    let (ended, mut ends) = tokio::sync::mpsc::channel(1);
    let router = Router::new().client_streaming("take", move |_cx, mut items: Receiver<Raw>| {
        let ended = ended.clone();
        async move {
            let end = loop {
                match items.message().await {
                    Ok(Some(_)) => {}
                    Ok(None) => break None,
                    Err(error) => break Some(error.code()),
                }
            };
            ended.send(end).await.expect("the test waits");
            Ok::<_, Status>(())
        }
    });
    let net = Net::new(router).await;
    for is_sent in [false, true] {
        let call = net.client.call_client_streaming::<Raw, ()>("take");
        let mut upload = call.await.expect("a stream");
        upload.send(small()).await.expect("sent");
        if is_sent {
            sleep(LONG).await;
        }
        drop(upload);
        // The handler has started if the message had left.
        if is_sent {
            assert_eq!(within(ends.recv()).await, Some(Some(Code::Cancelled)));
        }
    }
    assert_eq!(net.client.in_flight(), 0);
}

#[tokio::test(start_paused = true)]
async fn an_error_of_a_buffered_message_comes_with_a_later_one() {
    let router = Router::new().client_streaming("refuse", |_cx, items: Receiver<Raw>| async move {
        drop(items);
        sleep(LONG).await;
        Err::<(), _>(Status::new(Code::PermissionDenied, "no messages"))
    });
    let net = Net::new(router).await;
    let call = net.client.call_client_streaming::<Raw, ()>("refuse");
    let mut upload = call.await.expect("a stream");
    upload.send(small()).await.expect("it is buffered");
    sleep(Duration::from_secs(1)).await;
    let mut error = None;
    for _ in 0..3 {
        error = error.or(upload.send(small()).await.err());
        tokio::task::yield_now().await;
    }
    let error = error.expect("the stream was stopped");
    assert_eq!(error.code(), Code::Cancelled, "{error}");
    let error = within(upload.finish())
        .await
        .expect_err("the status of the handler");
    assert_eq!(error.code(), Code::PermissionDenied, "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_blocked_flush_ends_with_the_deadline_and_with_a_shutdown() {
    let (ended, mut codes) = tokio::sync::mpsc::channel(1);
    let router = Router::new().client_streaming("unread", |_cx, items: Receiver<Raw>| async move {
        let _unread = items;
        pending::<Result<(), Status>>().await
    });
    let router = router.server_streaming("flood", move |_cx, (): (), mut out| {
        let ended = ended.clone();
        async move {
            let code = flood(&mut out, &AtomicUsize::new(0)).await;
            ended.send(code).await.expect("the test waits");
            Err::<(), _>(Status::new(code, "ended"))
        }
    });
    let net = Net::new(router).await;
    // The deadline, of a caller.
    let options = CallOptions::new().with_timeout(LONG);
    let call = net
        .client
        .call_client_streaming_with::<Raw, ()>("unread", options);
    let mut upload = call.await.expect("a stream");
    let began = Instant::now();
    let error = loop {
        if let Err(error) = upload.send(small()).await {
            break error;
        }
    };
    assert_eq!(error.code(), Code::DeadlineExceeded, "{error}");
    assert!(began.elapsed() <= LONG + Duration::from_millis(10));
    drop(upload);
    // A shutdown, of a handler.
    let mut unread = net.replies("flood").await;
    sleep(LONG).await;
    let began = Instant::now();
    within(net.server.shutdown(Duration::from_secs(1))).await;
    assert!(began.elapsed() < LONG, "{:?}", began.elapsed());
    assert_eq!(codes.recv().await, Some(Code::Cancelled));
    let error = loop {
        match within(unread.message()).await {
            Ok(message) => assert!(message.is_some(), "no clean end"),
            Err(error) => break error,
        }
    };
    assert_eq!(error.code(), Code::Unavailable, "{error}");
}
