//! The end of connections that are busy sending, at a round trip of 4 ms.

use futures::future::pending;
use rpcnet_transport::{CallOptions, Code, Processed, Raw, Receiver, Router, RpcError, Sender};
use tokio::{sync::mpsc, time::Instant};

use super::*;

/// A network with a round trip of 4 ms.
fn far() -> MemoryNetwork {
    let network = MemoryNetwork::new();
    network.set_delay(Duration::from_millis(2));
    network
}

/// How long the end may take to be heard of: far less than the idle timeout of 15 s.
const SOON: Duration = Duration::from_secs(2);

/// Sends for as long as it may.
fn flood() -> Router {
    Router::new().server_streaming("flood", |_cx, _: u32, mut to: Sender<Raw>| async move {
        loop {
            to.send(Raw(vec![7; 200_000].into())).await?;
        }
    })
}

async fn read(mut from: Receiver<Raw>) -> RpcError {
    loop {
        match from.message().await {
            Ok(Some(_)) => {}
            Ok(None) => panic!("a clean end"),
            Err(error) => return error,
        }
    }
}

/// Callers that read from a server whose last handle is dropped after so long; what they are told.
async fn drop_server_after(ms: u64) {
    let network = far();
    let server = Carrier::bind(&network, "server", TransportConfig::lan()).serve(flood());
    let node = Carrier::bind(&network, "client", TransportConfig::lan());
    let client = node.connect(server.local_addr(), "server").await.unwrap();
    let mut readers = Vec::new();
    for _ in 0..4 {
        let options = CallOptions::new().without_deadline();
        let stream = client.call_server_streaming_with("flood", &0u32, options);
        readers.push(tokio::spawn(read(stream.await.unwrap())));
    }
    tokio::time::sleep(Duration::from_millis(ms)).await;
    let before = Instant::now();
    drop(server);
    for reader in readers {
        let error = reader.await.unwrap();
        let code = error.code();
        let is_cut = matches!(code, Code::Cancelled | Code::Unavailable | Code::Draining);
        assert!(
            is_cut && error.processed() != Processed::Yes,
            "{ms} ms: {error:?}"
        );
    }
    client.closed().await;
    assert!(
        before.elapsed() < SOON,
        "after {ms} ms it took {:?}",
        before.elapsed()
    );
}

#[tokio::test(start_paused = true)]
async fn callers_hear_of_the_end_of_a_server_that_is_busy_sending() {
    for ms in [2, 5, 9, 13, 17, 21, 25, 30, 40, 60, 100, 200] {
        drop_server_after(ms).await;
    }
}

#[tokio::test(start_paused = true)]
async fn callers_hear_of_a_shutdown_at_its_deadline() {
    for ms in [20, 50, 100, 300] {
        let network = far();
        let server = Carrier::bind(&network, "server", TransportConfig::lan()).serve(flood());
        let node = Carrier::bind(&network, "client", TransportConfig::lan());
        let client = node.connect(server.local_addr(), "server").await.unwrap();
        let options = CallOptions::new().without_deadline();
        let stream = client.call_server_streaming_with("flood", &0u32, options);
        let reader = tokio::spawn(read(stream.await.unwrap()));
        let before = Instant::now();
        let within = Duration::from_millis(ms);
        let report = server.shutdown(within).await;
        assert!(
            before.elapsed() <= within + Duration::from_millis(2),
            "{:?}",
            before.elapsed()
        );
        assert_eq!((report.completed, report.cancelled), (0, 1), "{ms} ms");
        let error = reader.await.unwrap();
        assert_eq!(error.processed(), Processed::Maybe, "{ms} ms: {error:?}");
        client.closed().await;
        assert!(
            before.elapsed() < SOON,
            "within {ms} ms it took {:?}",
            before.elapsed()
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_hears_of_the_end_of_a_client_that_is_busy_sending() {
    for ms in (1..=24).chain([40, 100, 200]) {
        let network = far();
        let (tell, mut told) = mpsc::unbounded_channel();
        let router = Router::new()
            .client_streaming("take", move |_cx, from: Receiver<Raw>| {
                let tell = tell.clone();
                async move {
                    let _ = tell.send(read(from).await);
                }
            })
            .raw("take_all", |_cx, _body| pending());
        let server = Carrier::bind(&network, "server", TransportConfig::lan()).serve(router);
        let node = Carrier::bind(&network, "client", TransportConfig::lan());
        let client = node.connect(server.local_addr(), "server").await.unwrap();
        let mut writers = Vec::new();
        for _ in 0..4 {
            let options = CallOptions::new().without_deadline();
            let upload = client.call_client_streaming_with::<Raw, ()>("take", options);
            let mut upload = upload.await.unwrap();
            writers.push(tokio::spawn(async move {
                while upload.send(Raw(vec![7; 200_000].into())).await.is_ok() {}
            }));
            let call = client.clone();
            writers.push(tokio::spawn(async move {
                let _ = call
                    .call_with("take_all", vec![7; 10_000_000], options)
                    .await;
            }));
        }
        tokio::time::sleep(Duration::from_millis(ms)).await;
        let before = Instant::now();
        // With its endpoint, or that would answer for connections that it does not know any more.
        drop((client, node));
        for writer in writers {
            writer.abort();
            let _ = writer.await;
        }
        while server.in_flight() > 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
            assert!(
                before.elapsed() < SOON,
                "after {ms} ms it takes {:?}",
                before.elapsed()
            );
        }
        drop(server);
        while told.recv().await.is_some() {}
        // Nothing goes to and fro any more: the connection is gone, and not only its calls.
        assert!(
            before.elapsed() < SOON,
            "after {ms} ms it took {:?}",
            before.elapsed()
        );
    }
}
